"""Batches by tokens: bounds, nothing lost, whole updates, equal shares, an order that a seed determines."""

import itertools
import pickle
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from vanilla_transformer.errors import InputError
from vanilla_transformer.training.batching import (
    StreamingTokenBatches,
    TokenBatchSampler,
    TokenizedPairs,
    numbers_in,
    plan_accumulation,
)

LENGTH = st.integers(1, 30)
PAIRS = st.lists(st.tuples(LENGTH, LENGTH), min_size=1, max_size=150)
# Two and more of them go into a batch of 30 tokens.
SHORT_PAIRS = st.lists(st.tuples(st.integers(1, 15), st.integers(1, 15)), min_size=4, max_size=150)
LAYOUTS = st.tuples(st.integers(1, 4), st.integers(1, 4))  # processes, accumulation steps


def random_lengths(n: int, *, seed: int = 0, longest: int = 40) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    source = draw.integers(2, longest, n)
    return source, np.clip(source + draw.integers(-5, 6, n), 1, longest)


def samplers(
    lengths: Iterable[tuple[int, int]], processes: int, accumulation: int, **options: Any
) -> list[Any]:
    source, target = zip(*lengths, strict=True)
    settings = {"tokens_per_batch": 30, "batches_per_update": processes * accumulation} | options
    return [
        TokenBatchSampler(source, target, num_processes=processes, process_index=rank, **settings)
        for rank in range(processes)
    ]


def interleave(shares: list[list[Any]]) -> list[Any]:
    """The batches of all processes in the order of the updates; fails unless the shares are equally long."""
    return [batch for step in zip(*shares, strict=True) for batch in step]


def check_bounds(
    batches: Iterable[list[Any]], source: Any, target: Any, *, bound: int, multiple: int = 1
) -> None:
    for batch in batches:
        assert batch
        for lengths in (source, target):
            longest = max(int(lengths[index]) for index in batch)
            assert len(batch) * (-(-longest // multiple) * multiple) <= bound


class TestPlanAccumulation:
    @pytest.mark.parametrize(
        ("update", "device", "processes", "expected"),
        [
            (25_000, 4096, 1, (7, 3571)),
            (25_000, 25_000, 1, (1, 25_000)),
            (25_000, 100_000, 1, (1, 25_000)),
            (25_000, 4096, 8, (1, 3125)),
            (25_000, 1000, 8, (4, 781)),
            (8, 1, 8, (1, 1)),
        ],
    )
    def test_values(self, update: int, device: int, processes: int, expected: tuple[int, int]) -> None:
        assert plan_accumulation(update, device, processes) == expected

    @given(st.integers(1, 10**6), st.integers(1, 10**5), st.integers(1, 64))
    def test_stays_within_both_bounds(self, update: int, device: int, processes: int) -> None:
        assume(update >= 2 * processes and device > 1)
        steps, tokens = plan_accumulation(update, device, processes)
        assert tokens <= device and 0 < steps * tokens * processes <= update
        assert (steps - 1) * device * processes < update  # one step less would not do

    @pytest.mark.parametrize("arguments", [(0, 1, 1), (10, 0, 1), (10, 1, 0), (10, -1, 1)])
    def test_rejects_what_is_not_positive(self, arguments: tuple[int, int, int]) -> None:
        with pytest.raises(InputError, match="must be positive, but is"):
            plan_accumulation(*arguments)

    def test_rejects_fewer_tokens_than_processes(self) -> None:
        with pytest.raises(InputError, match="must suffice for 1 batches on each of 4 processes, but is 3"):
            plan_accumulation(3, 10, 4)


class TestTokenBatchSampler:
    @settings(max_examples=60, deadline=None)
    @given(PAIRS, LAYOUTS, st.integers(30, 200), st.integers(0, 5), st.integers(0, 3))
    def test_invariants(
        self,
        lengths: list[tuple[int, int]],
        layout: tuple[int, int],
        bound: int,
        seed: int,
        epoch: int,
    ) -> None:
        processes, accumulation = layout
        try:
            shares = samplers(lengths, processes, accumulation, tokens_per_batch=bound, seed=seed)
        except InputError as error:
            assert "cannot be shared out evenly" in str(
                error
            )  # only where there are hardly more pairs than batches
            assert len(lengths) < len(samplers(lengths, 1, 1, tokens_per_batch=bound)[0]) + processes
            return
        for sampler in shares:
            sampler.set_epoch(epoch)
        batches = interleave([list(sampler) for sampler in shares])
        assert sorted(itertools.chain.from_iterable(batches)) == list(range(len(lengths)))
        check_bounds(batches, *zip(*lengths, strict=True), bound=bound)
        assert all(len(list(sampler)) == len(sampler) for sampler in shares)
        if len(lengths) >= len(samplers(lengths, 1, 1, tokens_per_batch=bound)[0]) + processes * accumulation:
            assert len(batches) % (processes * accumulation) == 0

    @settings(max_examples=40, deadline=None)
    @given(SHORT_PAIRS, st.integers(0, 3))
    def test_two_processes_see_what_accumulation_sees(
        self, lengths: list[tuple[int, int]], epoch: int
    ) -> None:
        assume(len(lengths) > len(samplers(lengths, 1, 1)[0]))
        both = samplers(lengths, 2, 1)
        (alone,) = samplers(lengths, 1, 2)
        for sampler in (*both, alone):
            sampler.set_epoch(epoch)
        assert interleave([list(sampler) for sampler in both]) == list(alone)

    def test_length_is_constant_and_order_is_not(self) -> None:
        (sampler,) = samplers(zip(*random_lengths(2000), strict=True), 1, 4, tokens_per_batch=300)
        epochs = []
        for epoch in range(3):
            sampler.set_epoch(epoch)
            epochs.append(list(sampler))
            assert len(epochs[-1]) == len(sampler)
        assert epochs[0] != epochs[1] != epochs[2]
        # Not only the order of the batches changes, but also which pairs they join.
        assert {frozenset(batch) for batch in epochs[0]} != {frozenset(batch) for batch in epochs[1]}
        sampler.set_epoch(0)
        assert list(sampler) == epochs[0]

    def test_seed_decides_the_order(self) -> None:
        lengths = list(zip(*random_lengths(500), strict=True))
        same, again, other = (
            samplers(lengths, 1, 1, seed=seed, tokens_per_batch=200)[0] for seed in (1, 1, 2)
        )
        assert list(same) == list(again) != list(other)

    def test_without_shuffling_batches_grow_and_epochs_agree(self) -> None:
        source, target = random_lengths(500)
        (sampler,) = samplers(zip(source, target, strict=True), 1, 3, shuffle=False, tokens_per_batch=200)
        batches = list(sampler)
        widths = [max(max(source[i], target[i]) for i in batch) for batch in batches]
        assert widths == sorted(widths)
        sampler.set_epoch(5)
        assert list(sampler) == batches

    def test_resuming_by_skipping_gives_the_tail(self) -> None:
        lengths = list(zip(*random_lengths(800), strict=True))
        whole, resumed = (samplers(lengths, 2, 2, tokens_per_batch=200)[1] for _ in range(2))
        for sampler in (whole, resumed):
            sampler.set_epoch(3)
        assert list(itertools.islice(resumed, 5, None)) == list(whole)[5:]

    def test_too_few_pairs_for_an_update_still_give_every_process_the_same(self) -> None:
        shares = samplers([(3, 3)] * 5, 2, 8, tokens_per_batch=100)
        batches = interleave([list(sampler) for sampler in shares])
        assert sorted(itertools.chain.from_iterable(batches)) == list(range(5))
        assert len(batches) == 2

    def test_fewer_pairs_than_processes(self) -> None:
        with pytest.raises(InputError, match="3 sentence pairs in 1 batches cannot be shared out"):
            samplers([(3, 3)] * 3, 4, 1)

    def test_a_pair_longer_than_a_batch_is_named(self) -> None:
        with pytest.raises(
            InputError, match="pair 1 has 4 source and 31 target tokens, but a batch may hold 30"
        ):
            samplers([(3, 3), (4, 31), (5, 5)], 1, 1)

    def test_a_text_longer_than_a_batch_is_told_with_its_own_keys(self) -> None:
        message = (
            r"^Text 1 has 31 tokens, but a batch may hold 30: limit the lengths by `max_length` and"
            r" `long_texts`, or raise the tokens per device and per update\.$"
        )
        with pytest.raises(InputError, match=message):
            samplers([(3, 1), (31, 1)], 1, 1, text_keys=("max_length", "long_texts"))

    def test_no_pairs(self) -> None:
        with pytest.raises(InputError, match="no sentence pairs"):
            TokenBatchSampler([], [], tokens_per_batch=10, batches_per_update=1)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"tokens_per_batch": 0}, "`tokens_per_batch` must be positive, but is 0"),
            ({"batches_per_update": 3, "num_processes": 2}, r"multiple of `num_processes` \(2\), but is 3"),
            ({"process_index": 1}, "`process_index` must be 0 to 0, but is 1"),
            ({"spare": -0.1}, "`spare` must not be negative"),
        ],
    )
    def test_rejects_options_that_cannot_work(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            TokenBatchSampler([1, 2], [1, 2], **{"tokens_per_batch": 10, "batches_per_update": 1} | options)

    def test_lengths_of_unlike_number(self) -> None:
        with pytest.raises(ValueError, match="must be equally long"):
            TokenBatchSampler([1, 2], [1], tokens_per_batch=10, batches_per_update=1)

    def test_padding_to_a_multiple_is_counted_in_the_bound(self) -> None:
        source, target = random_lengths(500)
        (sampler,) = samplers(
            zip(source, target, strict=True), 1, 1, tokens_per_batch=160, pad_to_multiple_of=8
        )
        check_bounds(sampler, source, target, bound=160, multiple=8)

    def test_room_to_grow_is_given_up_where_the_corpus_has_none(self) -> None:
        shares = samplers([(100, 100)] * 7 + [(50, 50)] * 2, 2, 1, tokens_per_batch=100, spare=0.03)
        assert [len(one) for one in shares] == [4, 4]
        assert sorted(row for one in shares for batch in one for row in batch) == list(range(9))

    def test_sorting_leaves_little_padding(self) -> None:
        source, target = random_lengths(20_000)
        (sampler,) = samplers(zip(source, target, strict=True), 1, 1, tokens_per_batch=2000)
        assert padding_share(sampler, source, target) < 0.05

    def test_plans_half_a_million_pairs_without_looping_over_them(self) -> None:
        lengths = random_lengths(500_000)
        lines = 0

        def count(frame: Any, event: str, argument: Any) -> Any:
            nonlocal lines
            lines += event == "line"
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            sampler = TokenBatchSampler(*lengths, tokens_per_batch=25_000, batches_per_update=8)
        finally:
            sys.settrace(before)
        assert lines < 50_000
        assert sum(map(len, sampler)) == 500_000


class TestSetLengths:
    def test_keeps_the_number_of_batches(self) -> None:
        source, target = random_lengths(1000)
        sampler = TokenBatchSampler(source, target, tokens_per_batch=300, batches_per_update=4, spare=0.15)
        planned = len(sampler)
        longer = source + np.random.default_rng(1).integers(0, 3, 1000)
        sampler.set_lengths(longer, target)
        batches = list(sampler)
        assert len(batches) == len(sampler) == planned
        assert sorted(itertools.chain.from_iterable(batches)) == list(range(1000))
        check_bounds(batches, longer, target, bound=300)

    def test_shorter_lengths_are_split_to_the_same_number(self) -> None:
        source, target = random_lengths(1000)
        sampler = TokenBatchSampler(source, target, tokens_per_batch=300, batches_per_update=4)
        planned = len(sampler)
        sampler.set_lengths(source // 2 + 1, target // 2 + 1)
        assert len(list(sampler)) == planned

    def test_the_spare_is_at_most_a_batch_for_each_pair(self) -> None:
        lengths = np.full(20, 60)
        sampler = TokenBatchSampler(lengths, lengths, tokens_per_batch=100, batches_per_update=1, spare=0.15)
        assert [len(batch) for batch in sampler] == [1] * 20

    def test_says_when_the_spare_does_not_suffice(self) -> None:
        source, target = random_lengths(1000)
        sampler = TokenBatchSampler(source, target, tokens_per_batch=300, batches_per_update=1)
        with pytest.raises(InputError, match="need .* batches, but .* were planned: raise `spare`"):
            sampler.set_lengths(source * 2, target * 2)

    def test_rejects_another_number_of_pairs(self) -> None:
        sampler = TokenBatchSampler([1, 2], [1, 2], tokens_per_batch=10, batches_per_update=1)
        with pytest.raises(ValueError, match="must hold 2 lengths, but holds 3 instead"):
            sampler.set_lengths([1, 2, 3], [1, 2, 3])


def padding_share(batches: Iterable[list[int]], source: Any, target: Any) -> float:
    real = padded = 0
    for batch in batches:
        for lengths in (source, target):
            real += sum(int(lengths[i]) for i in batch)
            padded += max(int(lengths[i]) for i in batch) * len(batch)
    return 1 - real / padded


class Stream:
    """Features that carry their number as first id; counts how often it is read."""

    def __init__(self, lengths: Iterable[tuple[int, int]]) -> None:
        self.features = [
            {"input_ids": [number] * source, "labels": [number] * target}
            for number, (source, target) in enumerate(lengths)
        ]
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __iter__(self) -> Iterator[dict[str, list[int]]]:
        return iter(self.features)


def numbers(batches: Iterable[list[Any]]) -> list[list[int]]:
    return [[int(feature["input_ids"][0]) for feature in batch] for batch in batches]


def streams(
    lengths: Iterable[tuple[int, int]], processes: int, accumulation: int, **options: Any
) -> list[Any]:
    settings = {
        "tokens_per_batch": 30,
        "batches_per_update": processes * accumulation,
        "window": 40,
    } | options
    lengths = list(lengths)
    return [
        StreamingTokenBatches(Stream(lengths), num_processes=processes, process_index=rank, **settings)
        for rank in range(processes)
    ]


class TestStreamingTokenBatches:
    @settings(max_examples=60, deadline=None)
    @given(PAIRS, LAYOUTS, st.integers(1, 60), st.integers(0, 3), st.booleans())
    def test_invariants(
        self,
        lengths: list[tuple[int, int]],
        layout: tuple[int, int],
        window: int,
        epoch: int,
        shuffle: bool,
    ) -> None:
        processes, accumulation = layout
        bound = 90
        shares = streams(
            lengths, processes, accumulation, tokens_per_batch=bound, window=window, shuffle=shuffle
        )
        for stream in shares:
            stream.set_epoch(epoch)
        if len(lengths) < processes:
            with pytest.raises(InputError, match="cannot be shared out evenly"):
                list(shares[0])
            return
        batches = interleave([numbers(stream) for stream in shares])
        assert sorted(itertools.chain.from_iterable(batches)) == list(range(len(lengths)))
        check_bounds(batches, *zip(*lengths, strict=True), bound=bound)
        if len(lengths) >= 3 * processes * accumulation:
            assert len(batches) % (processes * accumulation) == 0

    @pytest.mark.parametrize("window", [50, 1000, 2000, 10_000])
    def test_two_processes_see_what_accumulation_sees(self, window: int) -> None:
        lengths = list(zip(*random_lengths(2000), strict=True))
        both = streams(lengths, 2, 1, tokens_per_batch=300, window=window)
        (alone,) = streams(lengths, 1, 2, tokens_per_batch=300, window=window)
        assert interleave([numbers(stream) for stream in both]) == numbers(alone)

    def test_pairs_are_taken_from_everywhere_in_a_window_and_not_from_later(self) -> None:
        lengths = list(zip(*random_lengths(3000), strict=True))
        (stream,) = streams(lengths, 1, 2, tokens_per_batch=300, window=1000)
        first = list(itertools.chain.from_iterable(numbers(itertools.islice(stream, 10))))
        assert max(first) < 1000 and min(first) < 200 and max(first) > 800

    def test_reads_no_more_than_it_needs(self) -> None:
        read = []

        def endless() -> Iterator[dict[str, list[int]]]:
            for number in itertools.count():
                read.append(number)
                yield {"input_ids": [number, 2], "labels": [number, 2]}

        stream = StreamingTokenBatches(endless(), tokens_per_batch=20, batches_per_update=2, window=100)
        next(iter(stream))
        assert len(read) == 100

    def test_epochs_differ_and_come_back(self) -> None:
        lengths = list(zip(*random_lengths(600), strict=True))
        (stream,) = streams(lengths, 1, 2, tokens_per_batch=300, window=200)
        epochs = []
        for epoch in (0, 1, 0):
            stream.set_epoch(epoch)
            epochs.append(numbers(stream))
        assert epochs[0] == epochs[2] != epochs[1]
        assert stream.pairs.epochs == [0, 1, 0]

    def test_seed_decides_the_order(self) -> None:
        lengths = list(zip(*random_lengths(600), strict=True))
        runs = [numbers(streams(lengths, 1, 1, seed=seed, tokens_per_batch=300)[0]) for seed in (1, 1, 2)]
        assert runs[0] == runs[1] != runs[2]

    def test_a_stream_of_shards_is_read_in_another_order_in_each_epoch(self) -> None:
        rows = {"input_ids": [[number] for number in range(80)], "labels": [[1]] * 80}
        pairs = datasets.Dataset.from_dict(rows).to_iterable_dataset(num_shards=4)
        stream = StreamingTokenBatches(
            pairs.shuffle(seed=0, buffer_size=10), tokens_per_batch=20, batches_per_update=1, window=20
        )
        firsts = []
        for epoch in (0, 1, 0):
            stream.set_epoch(epoch)
            read = [int(row["input_ids"][0]) for batch in stream for row in batch]
            assert sorted(read) == list(range(80))
            firsts.append(set(read[:20]))
        assert firsts[0] == firsts[2] != firsts[1]

    def test_repeating_goes_on_with_the_next_epoch(self) -> None:
        lengths = list(zip(*random_lengths(300), strict=True))
        (once,) = streams(lengths, 1, 2, tokens_per_batch=300)
        (endless,) = streams(lengths, 1, 2, tokens_per_batch=300, repeat=True)
        expected = []
        for epoch in range(3):
            once.set_epoch(epoch)
            expected += numbers(once)
        assert numbers(itertools.islice(endless, len(expected))) == expected

    def test_resuming_by_skipping_gives_the_tail(self) -> None:
        lengths = list(zip(*random_lengths(600), strict=True))
        whole, resumed = (streams(lengths, 2, 2, tokens_per_batch=300, window=150)[1] for _ in range(2))
        expected = numbers(whole)
        assert numbers(itertools.islice(resumed, 7, None)) == expected[7:]
        assert len(expected) > 14

    def test_singletons_at_the_end_of_the_stream_are_shared_out(self) -> None:
        # 160 short pairs, then 7 that fill a batch each: only pairs held back can make the last update whole.
        lengths = [(3, 3)] * 160 + [(30, 30)] * 7
        shares = streams(lengths, 4, 1, window=40)
        batches = interleave([numbers(stream) for stream in shares])
        assert sorted(itertools.chain.from_iterable(batches)) == list(range(167))

    @pytest.mark.parametrize("workers", [0, 1, 2])
    def test_in_a_data_loader(self, workers: int) -> None:
        (stream,) = streams(zip(*random_lengths(200), strict=True), 1, 2, tokens_per_batch=300)
        loader = DataLoader(stream, batch_size=None, num_workers=workers)
        assert numbers(loader) == numbers(stream)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_workers_do_not_share_out_the_files_of_a_dataset(self, workers: int) -> None:
        features = Stream(zip(*random_lengths(200), strict=True)).features
        pairs = datasets.Dataset.from_list(features).to_iterable_dataset(num_shards=4)
        stream = StreamingTokenBatches(pairs, tokens_per_batch=300, batches_per_update=2)
        loader = DataLoader(stream, batch_size=None, num_workers=workers, collate_fn=list)
        assert sorted(itertools.chain.from_iterable(numbers(loader))) == list(range(200))

    def test_a_worker_that_lives_on_sees_the_next_epoch(self) -> None:
        (stream,) = streams(zip(*random_lengths(200), strict=True), 1, 2, tokens_per_batch=300)
        loader = DataLoader(stream, batch_size=None, num_workers=1, persistent_workers=True)
        first = numbers(loader)
        stream.set_epoch(1)
        second = numbers(loader)
        assert first != second == numbers(stream)

    def test_a_long_pair(self) -> None:
        with pytest.raises(
            InputError, match="A sentence pair has 31 source and 2 target tokens, but a batch may"
        ):
            list(streams([(3, 3), (31, 2)], 1, 1)[0])

    def test_an_empty_stream(self) -> None:
        with pytest.raises(InputError, match="no sentence pairs in the stream"):
            list(streams([], 1, 1)[0])

    def test_reads_a_datasets_stream(self) -> None:
        features = Stream(zip(*random_lengths(300), strict=True)).features
        stored = datasets.Dataset.from_list(features).to_iterable_dataset()
        batches = StreamingTokenBatches(stored, tokens_per_batch=300, batches_per_update=2, window=100)
        (plain,) = streams(zip(*random_lengths(300), strict=True), 1, 2, tokens_per_batch=300, window=100)
        assert numbers(batches) == numbers(plain)

    def test_what_is_held_back_keeps_no_table_in_memory(self) -> None:
        tables = [np.arange(12) for _ in range(9)]
        features: list[Any] = [{"input_ids": one[:3], "labels": one[3:6]} for one in tables]
        stream = StreamingTokenBatches(features, tokens_per_batch=3, batches_per_update=2, window=4)
        _, held = stream._make_batches(features[:4], np.random.default_rng(0), last=False)
        assert held and all(ids.base is None for feature in held for ids in feature.values())


class TestTokenizedPairs:
    @pytest.fixture
    def rows(self) -> list[dict[str, Any]]:
        draw = np.random.default_rng(0)
        return [
            {
                "input_ids": draw.integers(3, 99, draw.integers(1, 9)).tolist(),
                "labels": draw.integers(3, 99, draw.integers(1, 9)).tolist(),
            }
            for _ in range(2500)
        ]

    def test_gives_the_rows(self, rows: list[dict[str, Any]], tmp_path: Any) -> None:
        datasets.Dataset.from_list(rows).save_to_disk(tmp_path, num_shards=3)
        pairs = TokenizedPairs(datasets.load_from_disk(tmp_path))
        assert len(pairs) == 2500
        assert pairs.source_lengths.tolist() == [len(row["input_ids"]) for row in rows]
        assert pairs.target_lengths.tolist() == [len(row["labels"]) for row in rows]
        wanted = [2499, 0, 1000, 999, 7, 7]
        got = pairs.__getitems__(wanted)
        assert [{name: ids.tolist() for name, ids in row.items()} for row in got] == [rows[i] for i in wanted]
        assert pairs[-1]["labels"].tolist() == rows[-1]["labels"]

    def test_a_mapped_file_is_pickled_by_its_path(self, rows: list[dict[str, Any]], tmp_path: Any) -> None:
        datasets.Dataset.from_list(rows).save_to_disk(tmp_path)
        chosen = [2499, 0, 1000, 7]
        pairs = TokenizedPairs(datasets.load_from_disk(tmp_path).select(chosen))
        pickled = pickle.dumps(pairs)
        assert len(pickled) < 5_000
        again = pickle.loads(pickled)
        assert again.target_lengths.tolist() == pairs.target_lengths.tolist()
        got = again.__getitems__([0, 1, 2, 3])
        assert [{name: ids.tolist() for name, ids in row.items()} for row in got] == [rows[i] for i in chosen]

    @pytest.mark.parametrize("chosen", [[5, 3, 2400, 17], list(range(100, 200))])
    def test_after_a_selection(self, rows: list[dict[str, Any]], chosen: list[int]) -> None:
        pairs = TokenizedPairs(datasets.Dataset.from_list(rows).select(chosen))
        assert len(pairs) == len(chosen)
        assert [pair["input_ids"].tolist() for pair in pairs.__getitems__(list(range(len(chosen))))] == [
            rows[i]["input_ids"] for i in chosen
        ]

    @pytest.mark.parametrize("shards", [1, 3])
    def test_numbers_of_selected_rows(self, tmp_path: Any, shards: int) -> None:
        datasets.Dataset.from_dict({"length": list(range(50))}).save_to_disk(tmp_path, num_shards=shards)
        stored = datasets.load_from_disk(tmp_path)
        assert numbers_in(stored, "length").tolist() == list(range(50))
        assert numbers_in(stored.select([49, 3, 20]), "length").tolist() == [49, 3, 20]

    def test_works_in_a_data_loader_with_workers(self, rows: list[dict[str, Any]]) -> None:
        pairs = TokenizedPairs(datasets.Dataset.from_list(rows))
        sampler = TokenBatchSampler(
            pairs.source_lengths, pairs.target_lengths, tokens_per_batch=500, batches_per_update=2
        )
        loader = DataLoader(pairs, batch_sampler=sampler, num_workers=1, collate_fn=len)
        assert list(loader) == [len(batch) for batch in sampler]
