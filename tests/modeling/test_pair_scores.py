"""Scores of given pairs: those of the loss and of a search, whatever the batches, for any model."""

import math
from typing import Any

import pytest
import torch
from foreign_toy import mbart
from helpers import parallel_sentences

from vanilla_transformer import InputError, VanillaTransformerForConditionalGeneration, score_pairs
from vanilla_transformer.modeling import pair_scores

from .toy import toy_model

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


def test_what_cannot_be_scored(tiny_tokenizer: Any) -> None:
    learned = toy_model(
        vocab_size=len(tiny_tokenizer),
        dtype=torch.float32,
        position_embedding="learned",
        max_position_embeddings=5,
    )
    with pytest.raises(ValueError, match="`tokens_per_batch` must be positive, but is 0 instead"):
        score_pairs(learned, tiny_tokenizer, [], tokens_per_batch=0)
    with pytest.raises(InputError, match="pair 2 must have at most 5 tokens on each side, but has 7 instead"):
        list(score_pairs(learned, tiny_tokenizer, [("w1", "W1"), ("w1", "W1 W2 W3 W4 W5 W6")]))
    assert list(score_pairs(learned, tiny_tokenizer, [])) == []
