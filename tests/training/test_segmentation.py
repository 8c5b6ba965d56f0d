"""BPE-dropout of a corpus: what is drawn says the same, and what does not fit stays as it was."""

import errno
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from helpers import parallel_sentences

from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.errors import InputError
from vanilla_transformer.training import segmentation
from vanilla_transformer.training.filtering import FEATURES, prepare_pairs
from vanilla_transformer.training.segmentation import EpochSegmentation

WITH_IDS = ("input_ids", "labels")


@pytest.fixture(scope="module")
def tokenizer() -> VanillaTransformerTokenizer:
    words = (text for pair in parallel_sentences(300, seed=4) for text in pair)
    return VanillaTransformerTokenizer.train_from_iterator(words, vocab_size=280)


@pytest.fixture(scope="module")
def pairs(tokenizer: Any) -> datasets.Dataset:
    rows = [{"source": source, "target": target} for source, target in parallel_sentences(300, seed=4)]
    rows[7]["source"] = " "  # so that rows are selected, as in a real corpus
    prepared, _ = prepare_pairs(datasets.Dataset.from_list(rows), tokenizer)
    assert len(prepared) == 299
    return prepared


def segmented(pairs: datasets.Dataset, tokenizer: Any, folder: Path, limits: tuple[int, int]) -> Any:
    return EpochSegmentation(pairs, tokenizer, dropout=0.5, run_dir=folder, limits=limits).epoch(0)


def test_another_segmentation_of_the_same_text(
    pairs: datasets.Dataset, tokenizer: Any, tmp_path: Path
) -> None:
    drawn = segmented(pairs, tokenizer, tmp_path, (500, 500))
    assert drawn.features == {name: FEATURES[name] for name in drawn.features}
    for name, text in zip(WITH_IDS, ("source", "target"), strict=True):
        ids = drawn[name][:]
        assert tokenizer.batch_decode(ids, skip_special_tokens=True) == pairs[text][:]
        assert drawn[f"{text}_length"][:] == [len(row) for row in ids]
        changed = [new != usual for new, usual in zip(ids, pairs[name][:], strict=True)]
        assert np.mean(changed) > 0.4


def test_a_pair_that_does_not_fit_keeps_both_its_sides(
    pairs: datasets.Dataset, tokenizer: Any, tmp_path: Path
) -> None:
    limits = tuple(int(np.median(pairs[name])) + 3 for name in ("source_length", "target_length"))
    drawn = segmented(pairs, tokenizer, tmp_path, limits)  # type: ignore[arg-type]
    usual = [pairs[name][:] for name in WITH_IDS]
    kept = [sides == before for sides, before in zip(rows_of(drawn), rows_of(pairs), strict=True)]
    assert 20 < sum(kept) < 280
    for side, limit in enumerate(limits):
        for new, before in zip(drawn[WITH_IDS[side]][:], usual[side], strict=True):
            assert len(new) <= limit or new == before
    # Those that were as long as the longest, and so may have been cut, are never drawn anew.
    longest = max(len(row) for row in usual[0])
    assert all(keeps for keeps, row in zip(kept, usual[0], strict=True) if len(row) == longest)


def rows_of(pairs: Any) -> list[tuple[list[int], list[int]]]:
    return list(zip(*(pairs[name][:] for name in WITH_IDS), strict=True))


@pytest.fixture
def ahead(pairs: datasets.Dataset, tokenizer: Any, tmp_path: Path) -> Iterator[EpochSegmentation]:
    drawing = EpochSegmentation(pairs, tokenizer, dropout=0.5, run_dir=tmp_path, limits=(500, 500))
    drawing.start(anew=True)
    yield drawing
    drawing.stop()


class Draw:
    """Takes the place of `EpochSegmentation._segment`: notes the thread, and waits until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.threads: list[threading.Thread] = []
        original = EpochSegmentation._segment

        def segment(drawing: EpochSegmentation, table: Any) -> Any:
            self.threads.append(threading.current_thread())
            self.begun.set()
            assert self.may_go_on.wait(60)
            return original(drawing, table)

        monkeypatch.setattr(EpochSegmentation, "_segment", segment)


def test_an_epoch_is_drawn_in_the_background_and_others_encode_as_usual_meanwhile(
    ahead: EpochSegmentation, pairs: datasets.Dataset, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = Draw(monkeypatch)
    ahead.draw_ahead(1)
    assert draw.begun.wait(60)
    assert tokenizer(pairs["source"][:])["input_ids"] == pairs["input_ids"][:]
    draw.may_go_on.set()
    rows = rows_of(ahead.epoch(1))
    assert len(rows) == len(pairs) and rows != rows_of(pairs)
    assert rows_of(ahead.epoch(1)) == rows
    ahead.draw_ahead(1)
    assert rows_of(ahead.epoch(1)) == rows, "what is there is kept"
    assert draw.threads and threading.main_thread() not in draw.threads


def test_an_epoch_that_cannot_be_written_is_told_when_it_is_asked_for(
    ahead: EpochSegmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    first = rows_of(ahead.epoch(0))
    with monkeypatch.context() as patch:
        patch.setattr(EpochSegmentation, "_segment", full)
        ahead.draw_ahead(1)
        with pytest.raises(InputError, match=r"epoch-1` cannot be written: no space left on device"):
            ahead.epoch(1)
    assert sorted(path.name for path in (tmp_path / "segmentation").glob("**/epoch-*")) == ["epoch-0"]
    ahead.stop()
    assert rows_of(ahead.epoch(1)) != first == rows_of(ahead.epoch(0))


def test_what_is_stopped_leaves_nothing_that_a_resumed_run_would_take(
    ahead: EpochSegmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmentation, "BATCH_SIZE", 100)
    draw = Draw(monkeypatch)
    ahead.draw_ahead(1)
    assert draw.begun.wait(60)
    threading.Timer(0.05, draw.may_go_on.set).start()
    ahead.stop()
    assert len(draw.threads) < 3
    assert not list((tmp_path / "segmentation").glob("**/epoch-*"))
    assert len(ahead.epoch(1)) == 299


def test_processes_agree_whether_an_epoch_was_drawn_ahead(
    pairs: datasets.Dataset, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one would find the file and the other not, and they would wait for each other forever."""
    meeting = threading.Barrier(2, timeout=60)
    settings: dict[str, Any] = {"dropout": 0.5, "run_dir": tmp_path, "limits": (500, 500)}
    settings["wait"] = meeting.wait
    first, second = (EpochSegmentation(pairs, tokenizer, main=main, **settings) for main in (True, False))
    draw = Draw(monkeypatch)
    first.draw_ahead(1)
    second.draw_ahead(1)
    assert draw.begun.wait(60)
    with ThreadPoolExecutor(2) as processes:
        other = processes.submit(second.epoch, 1)
        while not meeting.n_waiting:
            time.sleep(0.001)
        draw.may_go_on.set()
        one = processes.submit(first.epoch, 1)
        try:
            assert rows_of(one.result(60)) == rows_of(other.result(10))
        finally:
            meeting.abort()
    assert len(draw.threads) == 1


@pytest.mark.parametrize("change", ["nothing", "pairs", "dropout"])
def test_what_was_drawn_of_other_pairs_is_not_taken(
    change: str, pairs: datasets.Dataset, tokenizer: Any, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"dropout": 0.5, "run_dir": tmp_path, "limits": (500, 500)}
    first = EpochSegmentation(pairs, tokenizer, **settings)
    first.start(anew=True)
    drawn = rows_of(first.epoch(0))
    if change == "pairs":
        pairs = pairs.select(range(len(pairs) - 1, -1, -1))
    settings |= {"dropout": 0.4} if change == "dropout" else {}
    again = EpochSegmentation(pairs, tokenizer, **settings)
    again.start(anew=False)
    assert (rows_of(again.epoch(0)) == drawn) == (change == "nothing")
