"""Scores of given pairs: those of the loss and of a search, whatever the batches, for any model."""

import math
from typing import Any

import pytest
import torch
from foreign_toy import SHAPE, enlarged, mbart
from helpers import parallel_sentences
from transformers import (
    FSMTConfig,
    FSMTForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
)

from vanilla_transformer import VanillaTransformerForConditionalGeneration, score_pairs
from vanilla_transformer.modeling import pair_scores
from vanilla_transformer.modeling.pair_scores import PairScore

from .toy import toy_model, translating_model

PAIRS = parallel_sentences(9)


@pytest.fixture
def model(tiny_tokenizer: Any) -> VanillaTransformerForConditionalGeneration:
    return toy_model(vocab_size=len(tiny_tokenizer), dtype=torch.float32).train()


@pytest.mark.parametrize("tokens_per_batch", [1, 30, 4096])
def test_scores_are_the_losses_of_pairs_alone(
    tokens_per_batch: int, model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_scores, "WINDOW", 4)
    found = list(score_pairs(model, tiny_tokenizer, iter(PAIRS), tokens_per_batch=tokens_per_batch))
    assert model.training
    model.eval()
    for (source, target), score in zip(PAIRS, found, strict=True):
        inputs = tiny_tokenizer(source, text_target=target, return_tensors="pt")
        loss = model(**inputs, label_smoothing=0.0).loss.item()
        assert score.tokens == inputs["labels"].numel()
        assert score.log_probability == pytest.approx(-loss * score.tokens, rel=1e-5)


def test_a_foreign_model_with_languages() -> None:
    model, tokenizer = mbart()
    tokenizer.src_lang, tokenizer.tgt_lang = "fr_XX", "en_XX"
    pairs = [("a b", "b"), ("a", "b a b")]
    found = list(score_pairs(model, tokenizer, pairs))
    for (source, target), score in zip(pairs, found, strict=True):
        inputs = tokenizer(source, text_target=target, return_tensors="pt")
        assert inputs["labels"][0, 0] == tokenizer.convert_tokens_to_ids("en_XX")
        loss = model(**inputs).loss.item()
        assert score.log_probability == pytest.approx(-loss * score.tokens, rel=1e-5)
        assert math.isfinite(score.log_probability)


@pytest.mark.parametrize("kind", ["m2m100", "fsmt"])
def test_models_that_make_their_decoder_inputs_otherwise(kind: str, tiny_tokenizer: Any) -> None:
    """M2M100 leaves that to its loss, and FSMT fills up the labels that it is given, but only if asked."""
    tokens: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    shape: dict[str, Any] = SHAPE | tokens | {"decoder_start_token_id": 2, "max_position_embeddings": 64}
    size = len(tiny_tokenizer)
    model: Any
    if kind == "m2m100":
        model = M2M100ForConditionalGeneration(M2M100Config(vocab_size=size, **shape))
    else:
        vocabularies: dict[str, Any] = {"langs": ["en", "de"], "src_vocab_size": size, "tgt_vocab_size": size}
        model = FSMTForConditionalGeneration(FSMTConfig(**vocabularies, **shape))
    model = enlarged(model)
    together = list(score_pairs(model, tiny_tokenizer, PAIRS))
    for pair, score in zip(PAIRS, together, strict=True):
        inputs = tiny_tokenizer(pair[0], text_target=pair[1], return_tensors="pt")
        sources = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        target = inputs["labels"][0]
        shifted = torch.cat((torch.tensor([2]), target[:-1]))[None]
        found = model(**sources, decoder_input_ids=shifted, use_cache=False).logits[0].log_softmax(-1)
        expected = found[range(len(target)), target].sum().item()
        assert score.log_probability == pytest.approx(expected, rel=1e-4)


def test_what_cannot_be_scored(tiny_tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    learned = toy_model(
        vocab_size=len(tiny_tokenizer),
        dtype=torch.float32,
        position_embedding="learned",
        max_position_embeddings=5,
    )
    with pytest.raises(ValueError, match="`tokens_per_batch` must be positive, but is 0 instead"):
        score_pairs(learned, tiny_tokenizer, [], tokens_per_batch=0)
    assert list(score_pairs(learned, tiny_tokenizer, [])) == []
    fitting = [("w1", "W1"), ("w2 w3", "W2")]
    found = list(score_pairs(learned, tiny_tokenizer, [fitting[0], ("w1", "W1 W2 W3 W4 W5 W6"), fitting[1]]))
    assert math.isnan(found[1].log_probability) and found[1].tokens == 7
    assert [found[0], found[2]] == list(score_pairs(learned, tiny_tokenizer, fitting))
    assert "pair 2 has 7 tokens on a side, but the model takes at most 5" in caplog.text


def test_a_pair_without_tokens() -> None:
    model = translating_model(dtype=torch.float32)
    tokenizer: Any = Nothing()
    assert list(score_pairs(model, tokenizer, [("", ""), ("x", "")])) == [PairScore(0.0, 0)] * 2


class Nothing:
    """A tokenizer that gives no end token."""

    def __call__(
        self, text: Any = None, text_target: Any = None, **kwargs: Any
    ) -> dict[str, list[list[int]]]:
        return {"input_ids": [[5] * len(line) for line in text or text_target]}
