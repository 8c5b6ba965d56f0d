"""Checkpoint folders that are whole or absent: written beside, renamed when complete, checked before use."""

from __future__ import annotations

import glob
import logging
import math
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import read_json, readable_write_errors
from ..modeling.saving_vanilla_transformer import ADAPTER_CONFIG_FILE, apply_umask, check_safetensors, flush

logger = logging.getLogger(__name__)

# Folders being written or deleted live here, inside the run's folder: on one file system a rename is atomic.
INCOMPLETE = ".incomplete"
# Names of the files in a run's folder or in a checkpoint.
RECIPE_FILE = "recipe.yaml"
RESULTS_FILE = "results.json"
CURVES_FILE = "training_curves.png"
DATA_FILE = "data_digest.json"
STATE_FILE = "trainer_state.json"
SCHEDULER_FILE = "scheduler.pt"
WEIGHTS_FILE = "model.safetensors"
WEIGHTS_INDEX_FILE = "model.safetensors.index.json"
# What PEFT saves of a model with adapters, in place of the whole.
ADAPTER_FILE = "adapter_model.safetensors"
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoint_step(path: str | Path) -> int:
    """The optimizer step in the name of a checkpoint folder: `runs/demo/checkpoint-300` -> 300."""
    match = _NAME.fullmatch(Path(path).name)
    if match is None:
        raise InputError(f"`{path}` is not a checkpoint: its name must be checkpoint-N.")
    return int(match[1])


def list_checkpoints(run_dir: str | Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first."""
    if not Path(run_dir).is_dir():
        return []
    found = [path for path in Path(run_dir).iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=checkpoint_step)


def last_checkpoint(run_dir: str | Path) -> Path | None:
    """The newest whole checkpoint of a run; damaged ones are passed over with a warning."""
    return next((path for path in reversed(list_checkpoints(run_dir)) if is_whole(path)), None)


def is_whole(folder: str | Path) -> bool:
    """Whether training can continue from `folder`; if not, a warning says why."""
    try:
        check_checkpoint(folder)
    except InputError as error:
        logger.warning("%s The checkpoint is not used.", error)
        return False
    return True


def check_checkpoint(folder: str | Path) -> None:
    """Check that training can continue from `folder`.

    Raises:
        InputError: a file is missing, cut short or unreadable; the message names it.
    """
    folder = Path(folder)
    check_weights(folder)
    read_state(folder)
    for path in sorted(chain(folder.glob("*.pt*"), folder.glob("*.bin"))):
        # torch.save writes a zip archive, whose table of contents comes last.
        if not zipfile.is_zipfile(path):
            raise InputError(f"`{path}` is cut short or damaged.")


def check_resumable(folder: str | Path) -> None:
    """Check that a whole checkpoint has what training goes on with: the optimizer, and the learning rate.

    Without one of them, the Trainer would begin both anew and say nothing.

    Raises:
        InputError: one of them is missing, as in a checkpoint of `save_only_model`.
    """
    folder = Path(folder)
    if any(folder.glob("global_step*")):  # DeepSpeed has them in that folder
        return
    if not any(folder.glob("*optimizer*")):
        raise InputError(f"`{folder}` has no optimizer state, without which training cannot go on.")
    if not (folder / SCHEDULER_FILE).is_file():
        raise InputError(f"`{folder}` has no {SCHEDULER_FILE}, without which training would warm up again.")


def check_weights(folder: str | Path) -> None:
    """Check that the safetensors weights in `folder` are there and complete, without reading them.

    Raises:
        InputError: weights are missing or cut short; the message names the file.
    """
    folder = Path(folder)
    index = folder / WEIGHTS_INDEX_FILE
    adapter = any((folder / name).is_file() for name in (ADAPTER_FILE, ADAPTER_CONFIG_FILE))
    names = {ADAPTER_FILE if adapter else WEIGHTS_FILE}
    if index.is_file():
        names = set((read_json(index).get("weight_map") or {}).values())
        if not names:
            raise InputError(f"`{index}` names no weights.")
    for name in sorted(names):
        if not (folder / name).is_file():
            raise InputError(f"`{folder / name}` is missing.")
        try:
            check_safetensors(folder / name)
        except ValueError as error:
            raise InputError(str(error)) from None


def read_state(folder: str | Path) -> dict[str, Any]:
    """The Trainer's state (step, log history, best metric) saved in a checkpoint.

    Raises:
        InputError: the state is missing or unreadable.
    """
    state = read_json(Path(folder) / STATE_FILE)
    if "global_step" not in state:
        raise InputError(f"`{Path(folder) / STATE_FILE}` is not the state of a training run.")
    return state


@contextmanager
def written_whole(
    final: str | Path, *, main: bool = True, wait: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """A folder to write into that becomes `final` when the block ends, and vanishes when it fails.

    Args:
        final: the folder to be; an older one of that name is replaced.
        main: whether this process removes, renames and cleans up; the others only write their own files.
        wait: blocks until all processes are here.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    final = Path(final)
    staging = final.parent / INCOMPLETE / final.name
    with readable_write_errors(final):
        if main:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        wait()
        try:
            yield staging
        except BaseException:
            if main:
                shutil.rmtree(staging, ignore_errors=True)
            raise
        wait()
        if main:
            apply_umask(staging)
            flush(staging)
            discard(final)
            staging.rename(final)
            _flush_folder(final.parent)
        wait()


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def discard(folder: str | Path) -> None:
    """Delete a folder in a way that never leaves half of it under its name."""
    folder = Path(folder)
    if not folder.exists():
        return
    doomed = folder.parent / INCOMPLETE / f"deleted-{folder.name}-{os.getpid()}"
    doomed.parent.mkdir(exist_ok=True)
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def clean_leftovers(run_dir: str | Path) -> None:
    """Remove what a killed run was writing or deleting, checkpoints and models.

    Call it before anything is written.
    """
    name = glob.escape(Path(run_dir).absolute().name)
    _remove(run_dir, INCOMPLETE)
    _remove(run_dir, f".{name}{INCOMPLETE}-*")


def clean_uploads(run_dir: str | Path) -> None:
    """Remove what a killed upload was sending. One that is still at work would fail."""
    _remove(run_dir, f"{INCOMPLETE}-*")


def _remove(run_dir: str | Path, pattern: str) -> None:
    for path in Path(run_dir).glob(pattern):
        shutil.rmtree(path, ignore_errors=True)


def greater_is_better(metric: str) -> bool:
    """Whether a larger value of a validation metric is the better one."""
    return metric.removeprefix("eval_") not in ("loss", "perplexity")


def best_steps(
    log_history: Sequence[Mapping[str, Any]],
    metric: str,
    *,
    greater_is_better: bool,
    count: int | None = None,
) -> list[int]:
    """Steps of the best evaluations, best first; the earlier one where two are equal.

    Values that are nan or infinite come last.

    Args:
        log_history: the Trainer's log.
        metric: key of the metric, with or without `eval_`.
        count: how many at most.
    """
    key = metric if metric.startswith("eval_") else f"eval_{metric}"
    values = {int(entry["step"]): float(entry[key]) for entry in log_history if key in entry}
    sign = -1 if greater_is_better else 1
    # Nan is neither above nor below a number, so that it must not be compared with one.
    finite = sorted(
        (step for step in values if math.isfinite(values[step])), key=lambda step: (sign * values[step], step)
    )
    return [*finite, *sorted(values.keys() - set(finite))][:count]


def rotate(run_dir: str | Path, *, keep_last: int | None, keep_steps: Collection[int] = ()) -> None:
    """Delete all checkpoints but the last `keep_last` (`None`: delete none) and those of `keep_steps`."""
    if keep_last is None or keep_last <= 0:
        return
    for path in list_checkpoints(run_dir)[:-keep_last]:
        if checkpoint_step(path) not in keep_steps:
            discard(path)
