"""FSMT: logits, translations and files, side by side with transformers' own class."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, FSMTTokenizer

from vanilla_transformer import FsmtTokenizer, pipeline
from vanilla_transformer.interop import from_fsmt, load_fsmt, pair_tokenizer
from vanilla_transformer.training import prepare_pairs

from ..modeling.toy import assert_parity
from .foreign import SENTENCES, fsmt_model, fsmt_tokenizer


def assert_same(ours: Any, theirs: Any, inputs: dict[str, torch.Tensor]) -> None:
    """Logits to 1e-5 on a padded batch; greedy and beam translations token by token."""
    target = torch.randint(4, 30, (len(inputs["input_ids"]), 5), generator=torch.Generator().manual_seed(1))
    target[:, 0] = theirs.config.decoder_start_token_id
    with torch.no_grad():
        # With a cache FSMT lets the first tokens see the later ones.
        expected = theirs(**inputs, decoder_input_ids=target, use_cache=False).logits
        assert_parity(ours(**inputs, decoder_input_ids=target).logits, expected)
    # FSMT gives a pad that it generates no position, as no trained model does generate one.
    banned = {"suppress_tokens": [theirs.config.pad_token_id]}
    for settings in ({}, {"num_beams": 1}, {"num_beams": 3, "early_stopping": True, "length_penalty": 0.6}):
        found = [model.generate(**inputs, **settings, **banned) for model in (ours, theirs)]
        assert torch.equal(*found)


def random_batch(pad: int = 1) -> dict[str, torch.Tensor]:
    source = torch.randint(4, 30, (3, 8), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(source)
    for row, length in ((1, 5), (2, 2)):
        source[row, length:], mask[row, length:] = pad, 0
    return {"input_ids": source, "attention_mask": mask}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="separate"),
        pytest.param({"scale_embedding": False, "activation_function": "gelu"}, id="unscaled"),
        pytest.param({"pad_token_id": 3, "eos_token_id": 1, "decoder_start_token_id": 1}, id="other-pad"),
    ],
)
def test_an_fsmt_becomes_ours(changes: dict[str, Any]) -> None:
    fsmt = fsmt_model(31, 37, **changes)
    ours = from_fsmt(fsmt)
    assert_same(ours, fsmt, random_batch(fsmt.config.pad_token_id or 0))
    assert not ours.config.share_encoder_decoder_embeddings and not ours.config.tie_word_embeddings


def test_equal_matrices_become_one() -> None:
    fsmt: Any = fsmt_model(31, 31)
    matrix = fsmt.model.decoder.embed_tokens.weight.data
    fsmt.model.encoder.embed_tokens.weight.data = matrix.clone()
    fsmt.model.decoder.output_projection.weight.data = matrix.clone()
    ours = from_fsmt(fsmt)
    assert ours.config.share_encoder_decoder_embeddings and ours.config.tie_word_embeddings
    assert_same(ours, fsmt, random_batch())


def test_targets_are_encoded_by_their_own_vocabulary(tmp_path: Path) -> None:
    theirs: Any = fsmt_tokenizer(tmp_path)
    ours = pair_tokenizer(theirs)
    ours.save_pretrained(tmp_path / "ours")
    again: Any = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert type(again) is FsmtTokenizer
    for words in (ours, again):
        encoded = words(SENTENCES, text_target=SENTENCES)
        assert encoded["input_ids"] == theirs(SENTENCES)["input_ids"]
        assert encoded["labels"] != encoded["input_ids"]
        assert words.batch_decode(encoded["labels"], skip_special_tokens=True) == SENTENCES
        assert words(SENTENCES)["input_ids"] == encoded["input_ids"]


def test_files_come_in_with_their_tokenizer(tmp_path: Path) -> None:
    tokenizer: Any = fsmt_tokenizer(tmp_path)
    fsmt: Any = fsmt_model(tokenizer.src_vocab_size, tokenizer.tgt_vocab_size)
    fsmt.save_pretrained(tmp_path)
    load_fsmt(tmp_path).save_pretrained(tmp_path / "ours")
    tokenizer.save_pretrained(tmp_path / "ours")
    ours: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours")
    words: Any = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert isinstance(words, FSMTTokenizer)
    inputs = words(SENTENCES, return_tensors="pt", padding=True)
    assert_same(ours, fsmt, inputs)
    tokens = ours.generate(**inputs, suppress_tokens=[words.pad_token_id])
    assert words.batch_decode(tokens) == tokenizer.batch_decode(tokens)


def test_a_model_of_two_languages_is_forced_to_none(tmp_path: Path) -> None:
    """FSMT's tokenizer bears the names of its languages and has no tokens for them."""
    tokenizer = fsmt_tokenizer(tmp_path)
    model = fsmt_model(tokenizer.src_vocab_size, tokenizer.tgt_vocab_size)
    text = "tabake keli"
    expected = pipeline("translation", model, tokenizer, device="cpu")(text)
    assert pipeline("translation_en_to_de", model, tokenizer, device="cpu")(text) == expected
    assert pipeline("translation", model, tokenizer, device="cpu")(text, tgt_lang="de") == expected
    with pytest.raises(ValueError, match="FSMTTokenizer does not know 'k'"):
        pipeline("translation", model, tokenizer, device="cpu")(text, tgt_lang="k")


def test_a_converted_tokenizer_prepares_pairs_and_keeps_what_was_added(tmp_path: Path) -> None:
    theirs: Any = fsmt_tokenizer(tmp_path)
    theirs.add_tokens(["<2de>"])
    ours = pair_tokenizer(theirs)
    assert ours.eos_token_id == ours.sep_token_id == theirs.sep_token_id
    ours.save_pretrained(tmp_path / "ours")
    for words in (ours, AutoTokenizer.from_pretrained(tmp_path / "ours")):
        assert words("<2de> " + SENTENCES[0])["input_ids"] == theirs("<2de> " + SENTENCES[0])["input_ids"]
        pairs = Dataset.from_dict({"source": SENTENCES, "target": SENTENCES})
        rows, _ = prepare_pairs(pairs, words)
        assert rows["input_ids"][:] == theirs(SENTENCES)["input_ids"]
