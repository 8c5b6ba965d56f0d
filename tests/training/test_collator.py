"""Padding: every position of every tensor, both sides, and what the decoder is fed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers import word_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from vanilla_transformer.training.collator import TranslationCollator

TOKENIZER = word_tokenizer(["a"])
FEATURES = [{"input_ids": [7, 8, 2], "labels": [9, 2]}, {"input_ids": [6, 2], "labels": [5, 4, 3, 2]}]
IDS = st.lists(st.integers(3, 99), max_size=8).map(lambda ids: [*ids, 2])
BATCH = st.lists(st.tuples(IDS, IDS), min_size=1, max_size=9)


def as_lists(batch: dict[str, torch.Tensor]) -> dict[str, list[list[int]]]:
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    return {name: tensor.tolist() for name, tensor in batch.items()}


class TestTranslationCollator:
    def test_pads_on_the_right(self) -> None:
        assert as_lists(TranslationCollator(TOKENIZER)(FEATURES)) == {
            "input_ids": [[7, 8, 2], [6, 2, 0]],
            "attention_mask": [[1, 1, 1], [1, 1, 0]],
            "labels": [[9, 2, -100, -100], [5, 4, 3, 2]],
            "decoder_input_ids": [[1, 9, 0, 0], [1, 5, 4, 3]],
        }

    def test_pads_on_the_left(self) -> None:
        assert as_lists(TranslationCollator(TOKENIZER, padding_side="left")(FEATURES)) == {
            "input_ids": [[7, 8, 2], [0, 6, 2]],
            "attention_mask": [[1, 1, 1], [0, 1, 1]],
            "labels": [[-100, -100, 9, 2], [5, 4, 3, 2]],
            "decoder_input_ids": [[0, 0, 1, 9], [1, 5, 4, 3]],
            "decoder_attention_mask": [[0, 0, 1, 1], [1, 1, 1, 1]],
        }

    def test_pads_to_a_multiple(self) -> None:
        batch = TranslationCollator(TOKENIZER, pad_to_multiple_of=3)(FEATURES)
        assert batch["input_ids"].shape == (2, 3) and batch["labels"].shape == (2, 6)
        assert batch["labels"][1].tolist() == [5, 4, 3, 2, -100, -100]
        assert batch["decoder_input_ids"][1].tolist() == [1, 5, 4, 3, 0, 0]

    def test_other_special_tokens(self) -> None:
        tokenizer = word_tokenizer(["a"])
        tokenizer.pad_token = "<mask>"
        batch = TranslationCollator(tokenizer, decoder_start_token_id=3)(FEATURES)
        assert batch["input_ids"][1].tolist() == [6, 2, 4]
        assert batch["decoder_input_ids"][0].tolist() == [3, 9, 4, 4]

    @pytest.mark.parametrize("convert", [list, np.array, torch.tensor, lambda ids: np.array(ids, np.int32)])
    def test_takes_lists_arrays_and_tensors_and_ignores_other_keys(self, convert: Callable[..., Any]) -> None:
        features = [{name: convert(ids) for name, ids in row.items()} | {"source": "x"} for row in FEATURES]
        collate = TranslationCollator(TOKENIZER)
        assert as_lists(collate(features)) == as_lists(collate(FEATURES))

    def test_takes_a_micro_batch_in_a_list(self) -> None:
        collate = TranslationCollator(TOKENIZER)
        assert as_lists(collate([FEATURES])) == as_lists(collate(FEATURES))

    def test_without_labels_there_is_only_the_source(self) -> None:
        batch = TranslationCollator(TOKENIZER)([{"input_ids": [5, 2]}, {"input_ids": [2]}])
        assert as_lists(batch) == {"input_ids": [[5, 2], [2, 0]], "attention_mask": [[1, 1], [1, 0]]}

    def test_ignored_labels_are_padding_to_the_decoder(self) -> None:
        batch = TranslationCollator(TOKENIZER)([{"input_ids": [2], "labels": [-100, 5, 2]}])
        assert batch["labels"].tolist() == [[-100, 5, 2]]
        assert batch["decoder_input_ids"].tolist() == [[1, 0, 5]]

    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(st.tuples(IDS, IDS), min_size=1, max_size=9),
        st.sampled_from(["left", "right"]),
        st.integers(1, 4),
    )
    def test_each_row_alone_is_the_row_without_its_padding(
        self, pairs: list[tuple[list[int], list[int]]], side: Any, multiple: int
    ) -> None:
        collate = TranslationCollator(TOKENIZER, padding_side=side, pad_to_multiple_of=multiple)
        batch = collate([{"input_ids": source, "labels": target} for source, target in pairs])
        for row, (source, target) in enumerate(pairs):
            real = batch["attention_mask"][row].bool()
            assert batch["input_ids"][row][real].tolist() == source
            assert (batch["input_ids"][row][~real] == 0).all()
            taught = batch["labels"][row] != -100
            assert batch["labels"][row][taught].tolist() == target
            assert batch["decoder_input_ids"][row][taught].tolist() == [1, *target[:-1]]
            assert (batch["decoder_input_ids"][row][~taught] == 0).all()
            edge = 0 if side == "right" else -1
            assert real[edge] and taught[edge]

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="at least one sentence pair, but holds none"):
            TranslationCollator(TOKENIZER)([])
        with pytest.raises(ValueError, match="one is empty"):
            TranslationCollator(TOKENIZER)([{"input_ids": [], "labels": [2]}])
        with pytest.raises(ValueError, match="`padding_side` must be left or right, but is up instead"):
            TranslationCollator(TOKENIZER, padding_side="up")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="`pad_to_multiple_of` must be positive, but is 0 instead"):
            TranslationCollator(TOKENIZER, pad_to_multiple_of=0)
        tokenizer = word_tokenizer(["a"])
        tokenizer.pad_token = None
        with pytest.raises(ValueError, match="`tokenizer` must have a padding token"):
            TranslationCollator(tokenizer)
