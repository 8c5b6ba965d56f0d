"""From text to token ids: every pair is tokenised, then kept, cut or dropped; what happened is counted."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, cast, get_args

import datasets
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..tokenization import VanillaTransformerTokenizer
from .corpus import cache_file

LongSentences: TypeAlias = Literal["drop", "cut", "keep"]
Rows: TypeAlias = list[list[int]]

# Part of the key of the cache: count it up whenever the same pairs are prepared differently.
CACHE_VERSION = "1"

# What became of a pair; the first three are kept.
STATUSES = KEPT, CUT, LONG, EMPTY, TOO_LONG, RATIO = range(6)
LAST_KEPT = LONG
# What shows how a tokenizer encodes each side.
PROBE = "a"

_ENCODE_OPTIONS: dict[str, Any] = {
    "padding": False,
    "truncation": False,
    "return_attention_mask": False,
    "return_token_type_ids": False,
    "verbose": False,
}
_TEXT = {"source": datasets.Value("string"), "target": datasets.Value("string")}
_IDS = {name: datasets.List(datasets.Value("int32")) for name in ("input_ids", "labels")}
_LENGTHS = {name: datasets.Value("int32") for name in ("source_length", "target_length")}
FEATURES = datasets.Features(_TEXT | _IDS | _LENGTHS)
FEATURES_WITH_STATUS = datasets.Features(FEATURES | {"status": datasets.Value("int8")})


@dataclass
class FilterReport:
    """How many sentence pairs were kept, and how many were changed or dropped and why.

    Attributes:
        kept: pairs that training sees, those of `cut` and `long` among them.
        cut: kept, but one side was longer than the limit and lost its end.
        long: kept as they are, although one side is longer than the limit.
        empty: dropped, because one side has no text.
        too_long: dropped, because one side is longer than the limit.
        ratio: dropped, because one side is too many times as long as the other.
    """

    kept: int = 0
    cut: int = 0
    long: int = 0
    empty: int = 0
    too_long: int = 0
    ratio: int = 0

    @property
    def total(self) -> Self:
        """Itself, as a `StreamReport` tells what it has counted."""
        return self

    @property
    def read(self) -> int:
        """All pairs that were looked at."""
        return self.kept + self.empty + self.too_long + self.ratio

    @classmethod
    def of(cls, counts: Sequence[int]) -> Self:
        """The report of so many pairs of each status."""
        kept = sum(counts[: LAST_KEPT + 1])
        return cls(kept, counts[CUT], counts[LONG], counts[EMPTY], counts[TOO_LONG], counts[RATIO])

    def __str__(self) -> str:
        """One line: "kept 990 of 1,000 sentence pairs (3 of them cut); dropped: 4 empty, 6 too long"."""
        kept = [
            f"{n:,} of them {what}" for n, what in ((self.cut, "cut"), (self.long, "above the limit")) if n
        ]
        dropped = [
            f"{n:,} {what}"
            for n, what in (
                (self.empty, "empty"),
                (self.too_long, "too long"),
                (self.ratio, "of unlike length"),
            )
            if n
        ]
        line = f"kept {self.kept:,} of {self.read:,} sentence pairs"
        line += f" ({', '.join(kept)})" if kept else ""
        return f"{line}; dropped: {', '.join(dropped) or 'none'}"


class StreamReport:
    """The `FilterReport` of a stream, which fills while it is read, again in each pass."""

    def __init__(self) -> None:
        # Shared memory, so that a worker of a DataLoader counts for all.
        self._counts = torch.zeros(len(STATUSES), dtype=torch.int64).share_memory_()

    def add(self, status: NDArray[np.integer[Any]]) -> None:
        """Count the pairs of a batch by what became of them."""
        self._counts += torch.from_numpy(np.bincount(status, minlength=len(STATUSES)))

    @property
    def total(self) -> FilterReport:
        """What was read until now."""
        return FilterReport.of(self._counts.tolist())

    def __str__(self) -> str:
        return str(self.total)


@dataclass(frozen=True)
class Limits:
    """What `prepare_pairs` does with long pairs; lengths are counted in tokens with </s>."""

    max_source_length: int | None
    max_target_length: int | None
    long_sentences: LongSentences
    max_length_ratio: float | None

    def __post_init__(self) -> None:
        for name in ("max_source_length", "max_target_length"):
            length = getattr(self, name)
            if length is not None and length < 2:
                raise InputError(f"`{name}` must be at least 2 (a token and </s>), but is {length} instead.")
        if self.long_sentences not in get_args(LongSentences):
            choices = ", ".join(get_args(LongSentences))
            raise InputError(
                f"`long_sentences` must be one of {choices}, but is {self.long_sentences} instead."
            )
        if self.max_length_ratio is not None and self.max_length_ratio < 1:
            raise InputError(
                f"`max_length_ratio` must be at least 1, but is {self.max_length_ratio} instead."
            )

    def judge(self, source: NDArray[np.int32], target: NDArray[np.int32]) -> NDArray[np.int8]:
        """Return what becomes of pairs with these lengths, each with its </s>."""
        status = np.full(len(source), KEPT, np.int8)
        long = np.zeros(len(source), bool)
        for lengths, limit in ((source, self.max_source_length), (target, self.max_target_length)):
            if limit is not None:
                long |= lengths > limit
        status[long] = {"drop": TOO_LONG, "cut": CUT, "keep": LONG}[self.long_sentences]
        if self.max_length_ratio is not None:
            longer, shorter = np.maximum(source, target), np.minimum(source, target)
            status[(longer > self.max_length_ratio * shorter) & (status <= LAST_KEPT)] = RATIO
        status[(source < 2) | (target < 2)] = EMPTY
        return status


def prepare_pairs(
    pairs: datasets.Dataset | datasets.IterableDataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_source_length: int | None = 256,
    max_target_length: int | None = 256,
    long_sentences: LongSentences = "drop",
    max_length_ratio: float | None = None,
    batch_size: int = 1000,
    num_proc: int | None = None,
) -> tuple[Any, FilterReport | StreamReport]:
    """Tokenise sentence pairs and leave out those that training cannot use.

    Args:
        pairs: text columns "source" and "target", as `load_pairs` returns them.
        tokenizer: ends every sequence in its end token; targets are encoded as `text_target`.
        max_source_length: limit in tokens, </s> counted; `None` for none.
        max_target_length: the same for the target.
        long_sentences: what to do with a pair that has a side above its limit: "drop" it, "cut" that side
            (</s> stays at its end), or "keep" it.
        max_length_ratio: drop pairs with a side more than so many times as long as the other, in tokens
            before cutting; `None` for no such filter.
        batch_size: pairs that are tokenised at once.
        num_proc: processes that tokenise; not for streams. A fast tokenizer uses all cores without.

    Returns:
        The pairs kept, with the columns "source" and "target" (the whole text), "input_ids" and "labels"
        (lists of int32), "source_length" and "target_length"; and a report. A `Dataset` is cached by its
        content, the tokenizer and the limits. For an `IterableDataset` the report is a `StreamReport`.

    Raises:
        InputError: for limits that cannot work, a tokenizer without an end token, or if no pair is left.
    """
    limits = Limits(max_source_length, max_target_length, long_sentences, max_length_ratio)
    probe = _probe(tokenizer)
    if isinstance(pairs, datasets.IterableDataset):
        return _prepare_stream(pairs, _Preparer(tokenizer, limits, StreamReport()), batch_size)
    if not len(pairs):
        raise InputError("No sentence pair is left: there was none.")
    preparer = _Preparer(tokenizer, limits)
    prepared = _prepare_dataset(
        pairs, preparer, preparer.fingerprint(pairs._fingerprint, probe), batch_size, num_proc
    )
    status = prepared.data.column("status").to_numpy()
    report = FilterReport.of(np.bincount(status, minlength=len(STATUSES)).tolist())
    if not report.kept:
        raise InputError(f"No sentence pair is left: {report}.")
    kept = prepared.remove_columns("status")
    return (kept if report.kept == report.read else kept.select(np.flatnonzero(status <= LAST_KEPT))), report


def _probe(tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """The ids of one short text as source and as target, each checked to end in the end token."""
    ids = {"source": encode(tokenizer, [PROBE])[0], "target": encode_target(tokenizer, [PROBE])[0]}
    for name, row in ids.items():
        if tokenizer.eos_token_id is None or row[-1:] != [tokenizer.eos_token_id]:
            raise InputError(f"The tokenizer must end every {name} in its end token, but does not.")
    return ids


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], *, add_special_tokens: bool = True) -> Rows:
    """Token ids of each text, nothing padded or cut."""
    if isinstance(tokenizer, VanillaTransformerTokenizer):
        return tokenizer.encode_ids(texts, add_special_tokens=add_special_tokens)
    encoded = tokenizer(texts, add_special_tokens=add_special_tokens, **_ENCODE_OPTIONS)
    return cast(Rows, encoded["input_ids"])


def rows_digest(version: str, data: str, tokenizer: PreTrainedTokenizerBase, *settings: Any) -> str:
    """A digest of what decides tokenized rows, by which they are cached.

    Args:
        version: of how the rows are made.
        data: fingerprint of the text.
        tokenizer: encodes it.
        settings: all else.
    """
    # The tokenizer's own pickle changes while it is used, which would make every run tokenise anew.
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = backend.to_str() if backend is not None else datasets.fingerprint.Hasher.hash(tokenizer)
    parts = (version, data, state, *map(repr, settings))
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def encode_target(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Rows:
    """Token ids of each text as a target, nothing padded or cut."""
    if isinstance(tokenizer, VanillaTransformerTokenizer):
        return tokenizer.encode_ids(texts)
    return cast(Rows, tokenizer(text_target=texts, **_ENCODE_OPTIONS)["input_ids"])


def _prepare_dataset(
    pairs: datasets.Dataset, prepare: "_Preparer", fingerprint: str, batch_size: int, num_proc: int | None
) -> datasets.Dataset:
    try:
        prepared = pairs.with_format("arrow").map(
            prepare,
            batched=True,
            batch_size=batch_size,
            num_proc=num_proc,
            features=FEATURES_WITH_STATUS,
            new_fingerprint=fingerprint,
            cache_file_name=cache_file(fingerprint),
            desc="Tokenizing",
        )
    except OSError as error:
        raise InputError(f"The tokenized corpus cannot be written: {error.strerror or error}.") from None
    return prepared.with_format(None)


def _prepare_stream(
    pairs: datasets.IterableDataset, prepare: "_Preparer", batch_size: int
) -> tuple[datasets.IterableDataset, StreamReport]:
    prepared = pairs.with_format("arrow").map(prepare, batched=True, batch_size=batch_size, features=FEATURES)
    return prepared.with_format(None), cast(StreamReport, prepare.report)


@dataclass(frozen=True)
class _Preparer:
    """Makes a table of ids out of one of text; without a report it keeps every row and adds its status."""

    tokenizer: PreTrainedTokenizerBase
    limits: Limits
    report: StreamReport | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        source, target = (table.column(name).to_pylist() for name in ("source", "target"))
        ids = encode(self.tokenizer, source), encode_target(self.tokenizer, target)
        status = self._status(source, target, *ids)
        columns = {"source": table.column("source"), "target": table.column("target")}
        if self.report is None:
            return pa.table(columns | self._token_columns(*ids, status) | {"status": status})
        self.report.add(status)
        return pa.table(columns | self._token_columns(*ids, status)).filter(pa.array(status <= LAST_KEPT))

    def fingerprint(self, pairs: str, probe: dict[str, list[int]]) -> str:
        """Return a digest of what decides the result: the pairs, the tokenizer, its probe and the limits."""
        # The backend does not tell what a call sets in it, such as the target language of NLLB and mBART.
        return rows_digest(CACHE_VERSION, pairs, self.tokenizer, probe, self.limits)

    def _status(
        self, source: list[str], target: list[str], source_ids: Rows, target_ids: Rows
    ) -> NDArray[np.int8]:
        status = self.limits.judge(row_lengths(source_ids), row_lengths(target_ids))
        # A tokenizer that keeps spaces makes tokens of a line that holds nothing else.
        status[[not text.strip() for text in source]] = EMPTY
        status[[not text.strip() for text in target]] = EMPTY
        return status

    def _token_columns(self, source: Rows, target: Rows, status: NDArray[np.int8]) -> dict[str, pa.Array]:
        limits = self.limits
        input_ids = self._shortened(source, status, limits.max_source_length)
        labels = self._shortened(target, status, limits.max_target_length)
        return {
            "input_ids": list_array(input_ids),
            "labels": list_array(labels),
            "source_length": pa.array(row_lengths(input_ids)),
            "target_length": pa.array(row_lengths(labels)),
        }

    def _shortened(self, rows: Rows, status: NDArray[np.int8], limit: int | None) -> Rows:
        """Return the rows, cut if that is what becomes of long ones; a dropped row takes no room."""
        end = [cast(int, self.tokenizer.eos_token_id)]
        return [
            []
            if what > LAST_KEPT
            else row[: limit - 1] + end
            if what == CUT and limit and len(row) > limit
            else row
            for row, what in zip(rows, status.tolist(), strict=True)
        ]


def row_lengths(rows: Rows) -> NDArray[np.int32]:
    """The number of tokens of each row (rows,)."""
    return np.fromiter(map(len, rows), np.int32, len(rows))


def list_array(rows: Rows) -> pa.ListArray:
    """Rows of token ids as an Arrow array of lists of int32."""
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(row_lengths(rows), out=offsets[1:])
    values = np.fromiter(itertools.chain.from_iterable(rows), np.int32, int(offsets[-1]))
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
