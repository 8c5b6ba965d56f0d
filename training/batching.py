"""Batches by tokens (section 5.1 of the paper): planned for a corpus in memory, or window by window in a
stream.

One optimizer step takes `batches_per_update` = accumulation steps * processes micro-batches. In each of them
the padded source and the padded target hold at most `tokens_per_batch` tokens. Micro-batches are numbered
over all processes; batch g goes to process g % num_processes, so that two processes without accumulation and
one process with two accumulation steps see the same updates.
"""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import datasets
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

from ..errors import InputError
from .corpus import readable_data_errors

Ints: TypeAlias = NDArray[np.int64]
Lengths: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]
Feature: TypeAlias = Mapping[str, Any]

READ_SIZE = 1000


def plan_accumulation(
    tokens_per_update: int, tokens_per_device: int, num_processes: int = 1
) -> tuple[int, int]:
    """Return how many forward passes each process makes for one update, and how many tokens each may hold.

    Args:
        tokens_per_update: bound of the padded source, and of the padded target tokens, of one optimizer step
            over all processes (about 25,000 in section 5.1).
        tokens_per_device: bound of the same for one forward pass of one process.
        num_processes: number of processes that train together.

    Returns:
        (accumulation steps, tokens per batch), with accumulation steps * `num_processes` * tokens per batch
        at most `tokens_per_update`, and tokens per batch at most `tokens_per_device`.

    Raises:
        InputError: if an argument is not positive, or nothing is left for each batch.
    """
    _require_positive(
        tokens_per_update=tokens_per_update, tokens_per_device=tokens_per_device, num_processes=num_processes
    )
    accumulation_steps = -(-tokens_per_update // (tokens_per_device * num_processes))
    tokens_per_batch = tokens_per_update // (accumulation_steps * num_processes)
    if not tokens_per_batch:
        raise InputError(
            f"`tokens_per_update` must suffice for {accumulation_steps} batches on each of {num_processes} "
            f"processes, but is {tokens_per_update} instead."
        )
    return accumulation_steps, tokens_per_batch


class TokenBatchSampler(Sampler[list[int]]):
    """Yields the micro-batches of one process as lists of indices, all of similar length.

    Every pair is in exactly one micro-batch of an epoch. Their number is a multiple of `batches_per_update`,
    so that every update is whole; a corpus with fewer pairs than that still gives every process equally many.
    Which pairs of equal length go together, and the order of the batches, change with `set_epoch` and depend
    on nothing but `seed`, the epoch and the lengths.

    Args:
        source_lengths: tokens of each source, with </s>.
        target_lengths: tokens of each target, with </s>.
        tokens_per_batch: bound of the padded source, and of the padded target tokens, of a micro-batch.
        batches_per_update: micro-batches in an update over all processes; a multiple of `num_processes`.
        num_processes: number of processes that train together.
        process_index: which of them this is, from 0.
        seed: the same in all processes.
        shuffle: `False` gives the batches by rising length, the same in every epoch.
        spare: share of batches planned beyond those needed, so that `set_lengths` has room.
        pad_to_multiple_of: what the collator rounds the padded length up to; counted in the bound.
        text_keys: where rows are texts and no pairs, the keys of a recipe that limit their length.

    Raises:
        InputError: if there are no pairs, fewer pairs than processes, or one pair exceeds `tokens_per_batch`.
    """

    def __init__(
        self,
        source_lengths: Lengths,
        target_lengths: Lengths,
        *,
        tokens_per_batch: int,
        batches_per_update: int,
        num_processes: int = 1,
        process_index: int = 0,
        seed: int = 0,
        shuffle: bool = True,
        spare: float = 0.0,
        pad_to_multiple_of: int | None = None,
        text_keys: Sequence[str] = (),
    ) -> None:
        _check_layout(tokens_per_batch, batches_per_update, num_processes, process_index)
        if spare < 0:
            raise InputError(f"`spare` must not be negative, but is {spare} instead.")
        self.tokens_per_batch = tokens_per_batch
        self.batches_per_update = batches_per_update
        self.num_processes = num_processes
        self.process_index = process_index
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0
        self._multiple = pad_to_multiple_of or 1
        self._text_keys = text_keys
        self._take_lengths(source_lengths, target_lengths)
        starts = self._cut()
        wanted = len(starts) + int(np.ceil(len(starts) * spare))
        room = len(self._source) // num_processes * num_processes  # no batch has less than a pair
        wanted = max(len(starts), min(wanted, room))
        self._count = whole_count(wanted, len(self._source), batches_per_update, num_processes)
        self._starts = split_largest(starts, len(self._source), self._count)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (from 0) whose batches the next iteration yields."""
        self.epoch = epoch

    def set_lengths(self, source_lengths: Lengths, target_lengths: Lengths) -> None:
        """Plan anew for the same pairs with other lengths (BPE-dropout); the number of batches stays.

        Raises:
            InputError: if that number is too small for the new lengths; a larger `spare` mends it.
        """
        pairs, given = len(self._source), len(source_lengths)
        if given != pairs:
            raise ValueError(f"`source_lengths` must hold {pairs} lengths, but holds {given} instead.")
        self._take_lengths(source_lengths, target_lengths)
        starts = self._cut()
        if len(starts) > self._count:
            raise InputError(
                f"The new lengths need {len(starts)} batches, but {self._count} were planned:"
                " raise `spare`, or lower `bpe_dropout`."
            )
        self._starts = split_largest(starts, pairs, self._count)

    def __len__(self) -> int:
        """Return the number of micro-batches of this process in an epoch, the same in every epoch."""
        return self._count // self.num_processes

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the micro-batches of this process in the current epoch."""
        order, batch_order = self._shuffled()
        bounds = np.append(self._starts, len(order))
        for batch in batch_order[self.process_index :: self.num_processes].tolist():
            yield order[bounds[batch] : bounds[batch + 1]].tolist()

    def _take_lengths(self, source_lengths: Lengths, target_lengths: Lengths) -> None:
        self._source = np.asarray(source_lengths, np.int64)
        self._target = np.asarray(target_lengths, np.int64)
        if self._source.shape != self._target.shape or self._source.ndim != 1:
            raise ValueError(
                f"`source_lengths` and `target_lengths` must be equally long, "
                f"but have shapes {self._source.shape} and {self._target.shape} instead."
            )
        if not len(self._source):
            raise InputError("There are no sentence pairs to make batches of.")
        self._keys = sort_keys(self._source, self._target)

    def _cut(self) -> Ints:
        widths = np.sort(padded_widths(self._source, self._target, self._multiple))
        if widths[-1] > self.tokens_per_batch:
            index = int(np.argmax(np.maximum(self._source, self._target)))
            lengths = (self._source[index], self._target[index])
            raise _too_long(index, *lengths, self.tokens_per_batch, self._text_keys)
        return cut_batches(widths, self.tokens_per_batch)

    def _shuffled(self) -> tuple[Ints, Ints]:
        """Return the pairs sorted by length (ties shuffled) and the batches shuffled."""
        if not self.shuffle:
            return np.argsort(self._keys, kind="stable"), np.arange(self._count)
        draw = np.random.default_rng((self.seed, self.epoch))
        return sort_with_shuffled_ties(self._keys, draw), draw.permutation(self._count)


class StreamingTokenBatches(IterableDataset[list[Feature]]):
    """Yields the micro-batches of one process from a stream of prepared pairs, each as a list of features.

    Reads `window` pairs at a time, makes batches of them as `TokenBatchSampler` does, and keeps the pairs of
    the last incomplete update, and of one more, for the next window; the end of the stream is split into
    whole updates. So the sampler's guarantees hold here too: the bounds, every pair once per epoch, equally
    many batches for every process, none empty, every update whole, and a sequence that `seed` and epoch
    determine.

    Every process reads the whole stream and takes every `num_processes`-th batch. To resume, skip the batches
    already seen: the stream is read again up to there. Give it to a DataLoader with `batch_size=None`; of
    several workers only the first works.

    Args:
        pairs: what can be iterated once per epoch and yields mappings with "input_ids" and "labels", such as
            what `prepare_pairs` returns; its `set_epoch` is called if it has one.
        tokens_per_batch: bound of the padded source, and of the padded target tokens, of a micro-batch.
        batches_per_update: micro-batches in an update over all processes; a multiple of `num_processes`.
        num_processes: number of processes that train together.
        process_index: which of them this is, from 0.
        window: pairs that are read before batches are made of them; held in memory.
        seed: the same in all processes.
        shuffle: `False` gives the batches of a window by rising length.
        repeat: go on with the next epoch for ever, instead of ending with the first.
        pad_to_multiple_of: what the collator rounds the padded length up to; counted in the bound.

    Raises:
        InputError: while iterating, if the stream is empty, one pair exceeds `tokens_per_batch`, or what is
            left at the end cannot be shared out evenly.
    """

    def __init__(
        self,
        pairs: Iterable[Feature],
        *,
        tokens_per_batch: int,
        batches_per_update: int,
        num_processes: int = 1,
        process_index: int = 0,
        window: int = 100_000,
        seed: int = 0,
        shuffle: bool = True,
        repeat: bool = False,
        pad_to_multiple_of: int | None = None,
    ) -> None:
        _check_layout(tokens_per_batch, batches_per_update, num_processes, process_index)
        _require_positive(window=window)
        self.pairs = pairs
        self.tokens_per_batch = tokens_per_batch
        self.batches_per_update = batches_per_update
        self.num_processes = num_processes
        self.process_index = process_index
        self.window = window
        self.seed = seed
        self.shuffle = shuffle
        self.repeat = repeat
        self._multiple = pad_to_multiple_of or 1
        # Shared memory, so that a worker that outlives the epoch sees the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (from 0) with which the next iteration begins."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[list[Feature]]:
        """Yield the micro-batches of this process from the current epoch on."""
        worker = get_worker_info()
        if worker is not None and worker.id != 0:
            return
        first = int(self._epoch)
        for epoch in itertools.count(first) if self.repeat else (first,):
            for batches in self._updates(epoch):
                yield from batches[self.process_index :: self.num_processes]

    def _updates(self, epoch: int) -> Iterator[list[list[Feature]]]:
        """Yield the batches of all processes, window by window, always whole updates."""
        stream = _features(self.pairs, epoch)
        held: list[Feature] = []
        for index in itertools.count():
            with readable_data_errors("The stream of sentence pairs"):
                fresh = list(itertools.islice(stream, self.window))
            last = len(fresh) < self.window
            draw = np.random.default_rng((self.seed, epoch, index))
            batches, held = self._make_batches(held + fresh, draw, last)
            yield batches
            if last:
                return

    def _make_batches(
        self, features: list[Feature], draw: np.random.Generator, last: bool
    ) -> tuple[list[list[Feature]], list[Feature]]:
        """Return batches of `features`, and the features held back for the next window."""
        source, target = self._lengths(features)
        keys = sort_keys(source, target)
        order = sort_with_shuffled_ties(keys, draw) if self.shuffle else np.argsort(keys, kind="stable")
        source, target = source[order], target[order]
        starts = cut_batches(padded_widths(source, target, self._multiple), self.tokens_per_batch)
        if last:
            count = whole_count(len(starts), len(order), self.batches_per_update, self.num_processes)
            starts = split_largest(starts, len(order), count)
        chosen, held = self._choose(np.diff(np.append(starts, len(order))), draw, last)
        rows = np.split(order, starts[1:])
        batches = [[features[row] for row in rows[batch]] for batch in chosen]
        # Copies, as the rows of a table without one keep the whole table in memory.
        kept = (features[row] for batch in held for row in rows[batch])
        return batches, [{name: np.array(ids) for name, ids in feature.items()} for feature in kept]

    def _choose(self, sizes: Ints, draw: np.random.Generator, last: bool) -> tuple[list[int], list[int]]:
        """Return the batches to yield, in their order, and those to hold back.

        Held back are the largest ones of a whole update, so that there are pairs enough to split at the end
        of the stream, and what does not fill an update.
        """
        reserved = 0 if last else self.batches_per_update
        by_size = np.argsort(-sizes, kind="stable")
        rest = draw.permutation(by_size[reserved:]) if self.shuffle else np.sort(by_size[reserved:])
        whole = len(rest) if last else len(rest) // self.batches_per_update * self.batches_per_update
        return rest[:whole].tolist(), np.sort(np.append(by_size[:reserved], rest[whole:])).tolist()

    def _lengths(self, features: list[Feature]) -> tuple[Ints, Ints]:
        if not features:
            raise InputError("There are no sentence pairs in the stream to make batches of.")
        source = np.fromiter((len(feature["input_ids"]) for feature in features), np.int64, len(features))
        target = np.fromiter((len(feature["labels"]) for feature in features), np.int64, len(features))
        widths = padded_widths(source, target, self._multiple)
        longest = int(np.argmax(widths))
        if widths[longest] > self.tokens_per_batch:
            raise _too_long(None, source[longest], target[longest], self.tokens_per_batch)
        return source, target


def pair_lengths(dataset: Any) -> tuple[Any, Any]:
    """Lengths in tokens of all sources and all targets; counted where the columns with them are missing."""
    if has_length_columns(dataset):
        return numbers_in(dataset, "source_length"), numbers_in(dataset, "target_length")
    pairs = [dataset[i] for i in range(len(dataset))]
    return [len(pair["input_ids"]) for pair in pairs], [len(pair["labels"]) for pair in pairs]


def has_length_columns(dataset: Any) -> bool:
    """Whether the lengths in tokens stand beside the pairs, as `prepare_pairs` puts them there."""
    return {"source_length", "target_length"} <= set(getattr(dataset, "column_names", None) or ())


def numbers_in(dataset: datasets.Dataset, column: str) -> NDArray[Any]:
    """A column of numbers as an array (rows,), straight from where `datasets` keeps it.

    Reading it through the data set makes Python objects of it first where rows were selected: for two million
    pairs a minute and two gigabytes.
    """
    values: NDArray[Any] = dataset.data.column(column).to_numpy()
    rows = _selected_rows(dataset)
    return values if rows is None else values[rows]


def _selected_rows(dataset: datasets.Dataset) -> Ints | None:
    """`datasets` leaves rows where they are when some are selected, and notes which."""
    selected = dataset._indices
    return None if selected is None else selected.column(0).to_numpy()


class TokenizedPairs(Dataset[Feature]):
    """The prepared pairs of `prepare_pairs` as a torch data set that fetches a whole batch at once.

    The ids stay where `datasets` keeps them (a file mapped into memory); only the lengths are copied. For
    workers that are not forked, such a file is pickled by its path.

    Attributes:
        source_lengths: tokens of each source, with </s>.
        target_lengths: tokens of each target, with </s>.
    """

    def __init__(self, prepared: datasets.Dataset) -> None:
        rows = _selected_rows(prepared)
        self._prepared = prepared.select_columns(["input_ids", "labels"])
        self._input_ids = _RaggedColumn(prepared.data.column("input_ids"), rows)
        self._labels = _RaggedColumn(prepared.data.column("labels"), rows)
        self.source_lengths: Ints = self._input_ids.lengths
        self.target_lengths: Ints = self._labels.lengths

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what the pairs were made of, and not the views of it."""
        return type(self), (self._prepared,)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.source_lengths)

    def __getitem__(self, index: int) -> Feature:
        """Return one pair: int32 arrays "input_ids" (source length,) and "labels" (target length,)."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Feature]:
        """Return several pairs, as a DataLoader asks for them."""
        pairs = zip(self._input_ids.take(indices), self._labels.take(indices), strict=True)
        return [{"input_ids": source, "labels": target} for source, target in pairs]


class _RaggedColumn:
    """A column of lists whose rows are fetched ten times as fast as through `datasets`."""

    def __init__(self, column: pa.ChunkedArray, rows: Ints | None) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        chunk_of = np.repeat(np.arange(len(chunks)), [len(chunk) for chunk in chunks])
        starts = np.concatenate([bounds[:-1] for bounds in offsets])
        ends = np.concatenate([bounds[1:] for bounds in offsets])
        rows = np.arange(len(column)) if rows is None else rows
        self._chunk_of, self._starts, self._ends = chunk_of[rows], starts[rows], ends[rows]
        self._values = [chunk.values.to_numpy() for chunk in chunks]
        self.lengths: Ints = (self._ends - self._starts).astype(np.int64)

    def take(self, indices: list[int]) -> list[NDArray[np.int32]]:
        places = (self._chunk_of[indices], self._starts[indices], self._ends[indices])
        return [
            self._values[chunk][start:end]
            for chunk, start, end in zip(*(place.tolist() for place in places), strict=True)
        ]


def padded_widths(source: Ints, target: Ints, multiple: int) -> Ints:
    """Return the longer side of each pair, rounded up to a multiple: what its batch is at least padded to."""
    return _round_up(np.maximum(source, target), multiple)


def _round_up(lengths: Ints, multiple: int) -> Ints:
    return -(-lengths // multiple) * multiple


def sort_keys(source: Ints, target: Ints) -> Ints:
    """Return numbers by which pairs are sorted for batches with little padding.

    First comes the longer side, which bounds the batch. Pairs equal in it are ordered by target minus source,
    rising and falling by turns, so that neighbours are alike on the shorter side as well: on real corpora
    this leaves about half the padding of sorting by target and source.
    """
    longer = np.maximum(source, target)
    difference = np.where(longer % 2, source - target, target - source)
    span = int(longer.max()) + 1
    return longer * (2 * span) + difference + span


def sort_with_shuffled_ties(keys: Ints, draw: np.random.Generator) -> Ints:
    """Return the order that sorts `keys`, equal ones in random order."""
    shuffled = draw.permutation(len(keys))
    return shuffled[np.argsort(keys[shuffled], kind="stable")]


def cut_batches(widths: Ints, tokens_per_batch: int) -> Ints:
    """Return where batches start in pairs sorted by width, each as large as `tokens_per_batch` allows.

    Args:
        widths: rising padded widths; one above `tokens_per_batch` makes a batch of its own.
        tokens_per_batch: the largest pairs * width of a batch.
    """
    starts, start = [], 0
    counts = np.arange(1, max(tokens_per_batch, 1) + 1)
    while start < len(widths):
        starts.append(start)
        candidates = widths[start : start + max(tokens_per_batch // int(widths[start]), 1)]
        fitting = candidates * counts[: len(candidates)] <= tokens_per_batch
        start += max(int(np.count_nonzero(fitting)), 1)
    return np.asarray(starts, np.int64)


def split_largest(starts: Ints, total: int, count: int) -> Ints:
    """Return the starts of `count` batches, made from those given by halving the one with most pairs again
    and again.

    Args:
        starts: where the batches start.
        total: the number of pairs.
        count: how many batches there shall be, at least `len(starts)` and at most `total`.
    """
    sizes = np.diff(np.append(starts, total))
    heap = [(-size, start) for size, start in zip(sizes.tolist(), starts.tolist(), strict=True)]
    heapq.heapify(heap)
    for _ in range(count - len(starts)):
        size, start = heap[0]
        half = -size // 2
        heapq.heapreplace(heap, (-half, start))
        heapq.heappush(heap, (size + half, start + half))
    return np.asarray(sorted(start for _, start in heap), np.int64)


def whole_count(needed: int, pairs: int, batches_per_update: int, num_processes: int) -> int:
    """Return how many batches to make: at least `needed`, whole updates, or else equally many for each
    process.

    Raises:
        InputError: if even the latter leaves batches empty.
    """
    for multiple in (batches_per_update, num_processes):
        count = -(-needed // multiple) * multiple
        if count <= pairs:
            return count
    raise InputError(
        f"{pairs} sentence pairs in {needed} batches cannot be shared out evenly "
        f"over {num_processes} processes: use fewer processes or more tokens per batch."
    )


def _features(pairs: Iterable[Feature], epoch: int) -> Iterator[Feature]:
    """The pairs in the order of an epoch."""
    if isinstance(pairs, datasets.IterableDataset):
        # Tables are ten times as fast as rows. What is made of a stream has epoch 0, whatever its own is.
        tables = pairs.select_columns(["input_ids", "labels"]).with_format("arrow")
        tables.set_epoch(epoch)
        for table in tables.iter(READ_SIZE):
            yield from _rows(table)
        return
    if hasattr(pairs, "set_epoch"):
        pairs.set_epoch(epoch)
    yield from pairs


def _rows(table: pa.Table) -> list[Feature]:
    """Return the rows of a table with the list columns "input_ids" and "labels", as arrays without a copy."""
    columns = [_split_lists(table.column(name)) for name in ("input_ids", "labels")]
    return [{"input_ids": source, "labels": target} for source, target in zip(*columns, strict=True)]


def _split_lists(column: pa.ChunkedArray) -> Iterator[NDArray[np.int32]]:
    for chunk in column.chunks:
        values, offsets = chunk.values.to_numpy(), chunk.offsets.to_numpy().tolist()
        yield from (values[start:end] for start, end in itertools.pairwise(offsets))


def _require_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number <= 0:
            raise InputError(f"`{name}` must be positive, but is {number} instead.")


def _check_layout(
    tokens_per_batch: int, batches_per_update: int, num_processes: int, process_index: int
) -> None:
    _require_positive(
        tokens_per_batch=tokens_per_batch, batches_per_update=batches_per_update, num_processes=num_processes
    )
    if batches_per_update % num_processes:
        raise ValueError(
            f"`batches_per_update` must be a multiple of `num_processes` ({num_processes}), "
            f"but is {batches_per_update} instead."
        )
    if not 0 <= process_index < num_processes:
        raise ValueError(f"`process_index` must be 0 to {num_processes - 1}, but is {process_index} instead.")


def _too_long(
    index: int | None, source: int, target: int, tokens_per_batch: int, text_keys: Sequence[str] = ()
) -> InputError:
    name = "A sentence pair" if index is None else f"Sentence pair {index}"
    row = f"{name} has {source} source and {target} target tokens"
    if text_keys:
        row = f"Text {index} has {source} tokens"
    keys = text_keys or ("max_source_length", "max_target_length", "long_sentences")
    return InputError(
        f"{row}, but a batch may hold {tokens_per_batch}: limit the lengths by "
        f"{' and '.join(f'`{key}`' for key in keys)}, or raise the tokens per device and per update."
    )
