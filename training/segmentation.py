"""BPE-dropout: another segmentation of the training text in each epoch, kept on disk for a resumed run."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features
from datasets.utils import tqdm

from ..errors import InputError
from ..files import read_json, replaced_when_whole, write_text
from .batching import pair_lengths
from .checkpoints import clean_leftovers, discard, written_whole
from .filtering import FEATURES, Rows, encode, encode_target, list_array, row_lengths

FOLDER = "segmentation"
ORIGIN_FILE = "origin.json"
PAIRS_FILE = "pairs.arrow"
BATCH_SIZE = 1000
# Dropout is random, so that a later epoch may need slightly more batches than the first one.
SPARE_BATCHES = 0.03
_LENGTHS = ("source_length", "target_length")
_IDS = ("input_ids", "labels")
_COLUMNS = (*_IDS, *_LENGTHS)
_SCHEMA = Features({name: FEATURES[name] for name in _COLUMNS}).arrow_schema


class EpochSegmentation:
    """The training pairs, segmented anew in each epoch with random merges left out.

    The dropout of the `tokenizers` library cannot be seeded: it is the one exception to reproducibility, and
    two runs with the same seed differ in it. What was drawn for an epoch is saved in the run's folder, so
    that a run goes on from its last checkpoint with exactly its own epoch, and all processes see the same.
    While the model learns one epoch, the next can be drawn in the background (`draw_ahead`). This needs as
    much disk as three tokenized copies of the data.

    Args:
        pairs: prepared pairs with the text columns `source` and `target` besides the tokens.
        tokenizer: has `bpe_dropout`; it is copied, so that what others encode meanwhile has no dropout.
        dropout: share of merges left out.
        run_dir: folder of the run.
        limits: most tokens that a source and a target may have; a pair of which dropout makes a side longer
            keeps its usual segmentation, and so do pairs as long as the longest, which may have been cut.
        main: whether this process writes.
        wait: blocks until all processes are here.
    """

    def __init__(
        self,
        pairs: Dataset,
        tokenizer: Any,
        *,
        dropout: float,
        run_dir: str | Path,
        limits: tuple[int, int],
        main: bool = True,
        wait: Callable[[], None] = lambda: None,
    ):
        missing = {"source", "target"} - set(pairs.column_names)
        if missing:
            raise InputError(f"`bpe_dropout` needs the text in column `{min(missing)}` of the training data.")
        if not hasattr(tokenizer, "bpe_dropout"):
            raise InputError(f"`bpe_dropout` cannot be used with a {type(tokenizer).__name__}.")
        self._pairs, self._tokenizer, self._dropout = pairs, copy.deepcopy(tokenizer), dropout
        self._folder = Path(run_dir) / FOLDER
        self._limits = limits
        lengths = np.stack(pair_lengths(pairs)).astype("<i8")  # (2, pairs)
        self._cut_at = tuple(lengths.max(-1).tolist())
        # By what other pairs, another tokenizer or another dropout is noticed.
        self._origin = {"lengths": hashlib.sha256(lengths.tobytes()).hexdigest(), "dropout": dropout}
        self._main, self._wait = main, wait
        self._ahead: futures.Future[None] | None = None
        self._stopped = threading.Event()

    def start(self, *, anew: bool) -> None:
        """Forget an earlier run's segmentations, or keep them to continue it if they are of these pairs."""
        if self._main:
            path = self._folder / ORIGIN_FILE
            if anew or (path.is_file() and read_json(path) != self._origin):
                discard(self._folder)
            clean_leftovers(self._folder)
            self._folder.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(self._origin))
        self._wait()

    def epoch(self, number: int) -> Dataset:
        """The pairs as segmented for epoch `number`: drawn once, read from disk by all processes.

        Raises:
            InputError: they cannot be written, be it now or when they were drawn ahead.
        """
        if self._ahead is not None:
            self._ahead.result()
            self._ahead = None
        self._wait()  # all processes must find the file, or none
        path = self._file(number)
        if not path.is_file():
            with written_whole(path.parent, main=self._main, wait=self._wait) as beside:
                if self._main:
                    self._draw(beside / PAIRS_FILE)
        return Dataset.from_file(str(path))

    def draw_ahead(self, number: int) -> None:
        """Begin to draw epoch `number` in a thread of the main process; `epoch` waits for it, `stop` ends it.

        An error is raised when that epoch is asked for.
        """
        self.stop()
        if self._main and not self._file(number).is_file():
            thread = futures.ThreadPoolExecutor(1)
            self._ahead = thread.submit(self._write_ahead, number)
            thread.shutdown(wait=False)  # it ends with its one job

    def stop(self) -> None:
        """Leave what is being drawn ahead, so that nothing of it stays; what is whole does."""
        if self._ahead is not None:
            self._stopped.set()
            futures.wait([self._ahead])
            self._ahead = None
            self._stopped.clear()

    def planning_lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Source and target lengths of the run's first segmentation, from which its batches are counted."""
        path = self._folder / "lengths.npy"
        if not path.is_file():
            first = self.epoch(0)
            if self._main:
                with replaced_when_whole(path) as beside:
                    np.save(beside, np.stack(pair_lengths(first)))
            self._wait()
        source, target = np.load(path)
        return source, target

    def forget_before(self, number: int) -> None:
        """Delete the segmentations of epochs that the last checkpoint does not need.

        A run that has to go on from an earlier one, as the last is damaged, draws them anew.
        """
        if not self._main or not self._folder.is_dir():
            return
        for path in self._folder.glob("epoch-*"):
            if int(path.name.removeprefix("epoch-")) < number:
                shutil.rmtree(path, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self._folder / f"epoch-{number}" / PAIRS_FILE

    def _write_ahead(self, number: int) -> None:
        with written_whole(self._file(number).parent) as beside:
            self._draw(beside / PAIRS_FILE, ahead=True)

    def _draw(self, path: Path, *, ahead: bool = False) -> None:
        """Write a segmentation of all pairs; `ahead` shows no progress, as training shows its own."""
        pairs = self._pairs.select_columns(["source", "target", *_COLUMNS]).with_format("arrow")
        bar = tqdm(total=len(pairs), desc="BPE-dropout", unit=" pairs", disable=ahead)
        with bar, self._tokenizer.bpe_dropout(self._dropout), pa.ipc.new_stream(path, _SCHEMA) as writer:
            for table in pairs.iter(BATCH_SIZE):
                if self._stopped.is_set():
                    raise futures.CancelledError
                writer.write_table(self._segment(table))
                bar.update(len(table))

    def _segment(self, table: pa.Table) -> pa.Table:
        """Draw the pairs of a table of text anew, but leave those as they are that do not fit."""
        sides = ("source", encode), ("target", encode_target)
        drawn = [encoded(self._tokenizer, table.column(name).to_pylist()) for name, encoded in sides]
        kept = np.flatnonzero(~self._fits(drawn, [table.column(name).to_numpy() for name in _LENGTHS]))
        for rows, name in zip(drawn, _IDS, strict=True):
            for row, usual in zip(kept.tolist(), table.column(name).take(kept).to_pylist(), strict=True):
                rows[row] = usual
        columns = (*map(list_array, drawn), *map(row_lengths, drawn))
        return pa.table(dict(zip(_COLUMNS, columns, strict=True)), schema=_SCHEMA)

    def _fits(self, drawn: list[Rows], usual_lengths: list[np.ndarray]) -> np.ndarray:
        """Which pairs (rows,) are short enough, now and as they usually are."""
        bounds = zip(drawn, usual_lengths, self._limits, self._cut_at, strict=True)
        sides = [(row_lengths(rows) <= limit) & (usual < cut_at) for rows, usual, limit, cut_at in bounds]
        return np.logical_and(*sides)
