"""Padding rows of texts into the tensors that language models and classifiers take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ..modeling.loss_vanilla_transformer import IGNORED
from .collator import Ints, filled, flat, rows_of
from .texts import Masking

Features = Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class TextCollator:
    """Makes of rows of token ids a padded batch for a language model.

    Calling it with features (mappings with "input_ids" and "labels" of equal length) or with one micro-batch
    of them in a list returns int64 tensors (N, T): `input_ids`, `attention_mask`, and `labels`, padded with
    -100, which the loss ignores.

    Attributes:
        tokenizer: its padding token fills `input_ids`.
        masking: hides tokens of each row whose labels are its input ids; those of `mask_rows` stay.
        length_keys: the keys of the recipe that limit the length of a row.
    """

    length_keys: ClassVar[tuple[str, ...]] = ("max_length",)
    tokenizer: PreTrainedTokenizerBase
    masking: Masking | None = None

    def set_epoch(self, epoch: int) -> None:
        """Hide other tokens in each epoch. `VanillaTransformerTrainer` calls this, but not for a stream."""
        if self.masking is not None:
            self.masking.epoch = epoch

    def __call__(self, features: Features) -> dict[str, torch.Tensor]:
        """Return the padded batch."""
        pairs = [self._pair(row) for row in rows_of(features)]
        batch, mask = _padded_inputs([ids for ids, _ in pairs], self.tokenizer)
        batch["labels"] = filled(flat([labels for _, labels in pairs])[0], mask, IGNORED)
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _pair(self, row: Mapping[str, Any]) -> tuple[Any, Any]:
        if self.masking is None or not np.array_equal(row["input_ids"], row["labels"]):
            return row["input_ids"], row["labels"]
        return self.masking(np.asarray(row["input_ids"]))


@dataclass(frozen=True)
class ClassifierCollator:
    """Makes of rows of token ids, each with one label in its "labels", a padded batch for a classifier.

    Returns int64 tensors: `input_ids`, `attention_mask` (N, T) and `labels` (N,).

    Attributes:
        tokenizer: its padding token fills `input_ids`.
        length_keys: the keys of the recipe that limit the length of a row.
    """

    length_keys: ClassVar[tuple[str, ...]] = ("max_length", "long_texts")
    tokenizer: PreTrainedTokenizerBase

    def __call__(self, features: Features) -> dict[str, torch.Tensor]:
        """Return the padded batch."""
        rows = rows_of(features)
        batch, _ = _padded_inputs([row["input_ids"] for row in rows], self.tokenizer)
        batch["labels"] = flat([row["labels"] for row in rows])[0]
        return {name: torch.from_numpy(array) for name, array in batch.items()}


def _padded_inputs(rows: list[Any], tokenizer: PreTrainedTokenizerBase) -> tuple[dict[str, Ints], Any]:
    ids, lengths = flat(rows)
    mask = np.arange(int(lengths.max())) < lengths[:, None]
    padding = cast(int, tokenizer.pad_token_id)
    return {"input_ids": filled(ids, mask, padding), "attention_mask": mask.astype(np.int64)}, mask
