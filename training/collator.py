"""Padding a micro-batch of prepared pairs into the tensors that the model takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ..modeling.loss_vanilla_transformer import IGNORED

Ints: TypeAlias = NDArray[np.int64]
PaddingSide: TypeAlias = Literal["right", "left"]


@dataclass(frozen=True)
class TranslationCollator:
    """Makes of pairs of token ids a padded batch with teacher forcing (shifted decoder input).

    Attributes:
        tokenizer: its padding token fills `input_ids` and `decoder_input_ids`.
        decoder_start_token_id: what the decoder starts with, <s> by default.
        pad_to_multiple_of: round the padded lengths up to a multiple of this.
        padding_side: "right" or "left".

    Calling it with features (mappings with "input_ids" and, unless only the source is known, "labels"; other
    keys are ignored) or with one micro-batch of them in a list returns int64 tensors, for N pairs of at most
    T source and S target tokens:

    - `input_ids`, `attention_mask` (N, T)
    - `labels` (N, S), padded with -100, which the loss ignores
    - `decoder_input_ids` (N, S), the labels shifted right behind `decoder_start_token_id`
    - `decoder_attention_mask` (N, S), with padding on the left only: on the right the causal mask makes it
    needless

    Raises:
        ValueError: for an empty batch, a tokenizer without a padding token, or another padding side.
    """

    tokenizer: PreTrainedTokenizerBase
    decoder_start_token_id: int = 1
    pad_to_multiple_of: int | None = None
    padding_side: PaddingSide = "right"

    def __post_init__(self) -> None:
        if self.padding_side not in get_args(PaddingSide):
            raise ValueError(f"`padding_side` must be left or right, but is {self.padding_side} instead.")
        if self.pad_to_multiple_of is not None and self.pad_to_multiple_of <= 0:
            raise ValueError(
                f"`pad_to_multiple_of` must be positive, but is {self.pad_to_multiple_of} instead."
            )
        if self.tokenizer.pad_token_id is None:
            raise ValueError("`tokenizer` must have a padding token, but has none.")

    def __call__(
        self, features: Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]]]
    ) -> dict[str, torch.Tensor]:
        """Return the padded batch."""
        rows = rows_of(features)
        padding = cast(int, self.tokenizer.pad_token_id)
        source, lengths = flat([row["input_ids"] for row in rows])
        mask = self._mask(lengths)
        batch = {"input_ids": filled(source, mask, padding), "attention_mask": mask.astype(np.int64)}
        if "labels" in rows[0]:
            batch |= self._target(*flat([row["labels"] for row in rows]), padding)
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _target(self, labels: Ints, lengths: Ints, padding: int) -> dict[str, Ints]:
        mask = self._mask(lengths)
        shifted = np.roll(labels, 1)
        shifted[np.cumsum(lengths) - lengths] = self.decoder_start_token_id
        shifted[shifted == IGNORED] = padding
        target = {
            "labels": filled(labels, mask, IGNORED),
            "decoder_input_ids": filled(shifted, mask, padding),
        }
        if self.padding_side == "left":
            target["decoder_attention_mask"] = mask.astype(np.int64)
        return target

    def _mask(self, lengths: Ints) -> NDArray[np.bool_]:
        """Return where there are tokens, not padding (N, padded length)."""
        multiple = self.pad_to_multiple_of or 1
        width = -(-int(lengths.max()) // multiple) * multiple
        places = np.arange(width) if self.padding_side == "right" else np.arange(width)[::-1]
        return places < lengths[:, None]


def flat(rows: list[Any]) -> tuple[Ints, Ints]:
    """Return the ids of all rows, one row after the other, and the length of each row."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    if not lengths.all():
        raise ValueError("Every sequence of a batch must hold at least its end token, but one is empty.")
    return np.concatenate(rows).astype(np.int64), lengths


def filled(values: Ints, mask: NDArray[np.bool_], padding: int) -> Ints:
    """Return the values laid out where `mask` (N, length) is set, and padding elsewhere."""
    filled = np.full(mask.shape, padding, np.int64)
    filled[mask] = values
    return filled


def rows_of(features: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
    """Return the features, also where they are one micro-batch in a list."""
    if not features:
        raise ValueError("A batch must hold at least one sentence pair, but holds none.")
    return features if isinstance(features[0], Mapping) else rows_of(features[0])
