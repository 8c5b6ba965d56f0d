"""Averages of checkpoints (section 6.1 of the paper)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError
from ..files import readable_write_errors
from ..modeling.saving_vanilla_transformer import files_written_whole
from .checkpoints import (
    ADAPTER_FILE,
    RECIPE_FILE,
    RESULTS_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    WEIGHTS_INDEX_FILE,
    best_steps,
    check_weights,
    checkpoint_step,
    greater_is_better,
    list_checkpoints,
    read_state,
)

if TYPE_CHECKING:
    from .recipe import RunRecipe

# What belongs to a model beside its weights; the Trainer's own state (optimizer, random numbers) does not.
_MODEL_FILES = ("*.json", "*.jinja", "*.model", "*.spm", "*.py", "*.txt")
_STATE_FILES = (WEIGHTS_INDEX_FILE, STATE_FILE, RESULTS_FILE)
# Begins the recipe beside an average, which is there for what it says of languages and data.
_AVERAGE_NOTE = "# The recipe of a run whose checkpoints are averaged here. No run goes on in this folder.\n"


def average_checkpoints(
    paths: Sequence[str | Path], output_dir: str | Path, *, recipe: RunRecipe | None = None
) -> Path:
    """Write the model whose every weight is the mean of that weight in several checkpoints.

    Sums are taken in float64, a tensor at a time; the result has the type of the checkpoints. A matrix that a
    model shares between layers is saved once, and so averaged once. Configuration, tokenizer and generation
    defaults are those of the last path. Whole files are written beside and then renamed; what else is in
    `output_dir` stays.

    Args:
        paths: folders that hold model.safetensors, or its shards with their index.
        output_dir: folder of the new model; it may be the folder of an earlier one.
        recipe: that of the run which the checkpoints are of, for a folder outside the run: it is noted there,
            in place of the one that an earlier average noted.

    Returns:
        output_dir.

    Raises:
        InputError: no checkpoints, one that is missing, cut short or of adapters, or checkpoints of different
            models; also if the output cannot be written; an earlier model there is then unharmed.
    """
    folders, output = [Path(path) for path in paths], Path(output_dir)
    if not folders:
        raise InputError("there are no checkpoints to average.")
    with ExitStack() as stack:
        checkpoints = [stack.enter_context(_opened(folder)) for folder in folders]
        _check_alike(checkpoints)
        average = {name: _average_tensor(name, checkpoints) for name in checkpoints[0].names}
    with readable_write_errors(output), files_written_whole(output) as beside:
        _copy_model_files(folders[-1], beside)
        if recipe is not None:
            (beside / RECIPE_FILE).write_text(_AVERAGE_NOTE + recipe.to_yaml(), "utf-8")
        save_file(average, beside / WEIGHTS_FILE, metadata={"format": "pt"})
    if recipe is None and _notes_average(output):
        (output / RECIPE_FILE).unlink()  # of other checkpoints
    return output


def check_average_output(output_dir: str | Path) -> None:
    """Refuse the folder of a run for an average that is not the run's own.

    Raises:
        InputError: the folder is a checkpoint, or holds results, which would be taken for those of the
            average, or the recipe of a run that goes on there.
    """
    output = Path(output_dir)
    if (output / RESULTS_FILE).is_file():
        raise InputError(
            f"`{output}` holds {RESULTS_FILE}, the scores of another model: give another `--output`."
        )
    if (output / STATE_FILE).is_file():
        raise InputError(f"`{output}` is a checkpoint of a run: give another `--output`.")
    if (output / RECIPE_FILE).is_file() and not _notes_average(output):
        raise InputError(f"`{output}` holds the {RECIPE_FILE} of a run: give another `--output`.")


def check_not_average(output_dir: str | Path) -> None:
    """Refuse to train in the folder of an average: its recipe is there, but no run that could go on.

    Raises:
        InputError: names the folder.
    """
    if _notes_average(Path(output_dir)):
        raise InputError(f"`{output_dir}` holds averaged checkpoints of a run: give another `output_dir`.")


def _notes_average(folder: Path) -> bool:
    path = folder / RECIPE_FILE
    return path.is_file() and path.read_text("utf-8", "replace").startswith(_AVERAGE_NOTE)


def find_checkpoints(
    run_dir: str | Path, *, last: int | None = None, best: int | None = None, metric: str = "bleu"
) -> list[Path]:
    """The last, or the best, checkpoints of a training run, oldest first.

    Args:
        run_dir: folder with checkpoint-N folders; half-written ones are passed over.
        last: how many of the latest checkpoints.
        best: how many of the best by `metric` on validation data; of equals, the earlier.
        metric: "bleu", "chrf", "accuracy", "f1" or "loss" (the lower, the better).

    Raises:
        InputError: not exactly one of `last` and `best`, no such folder, or fewer checkpoints than asked for.
    """
    wanted = best if last is None else last
    if wanted is None or (last is not None and best is not None):
        raise InputError("give exactly one of `last` and `best`.")
    if wanted < 1:
        raise InputError(f"the number of checkpoints must be positive, but is {wanted} instead.")
    if not Path(run_dir).is_dir():
        raise InputError(f"`{run_dir}` is not a folder.")
    found = _whole_checkpoints(Path(run_dir)) if best is None else _best_whole(Path(run_dir), metric)
    if len(found) < wanted:
        measured = "" if best is None else f" with a validated {metric}"
        raise InputError(
            f"`{run_dir}` has {len(found)} whole checkpoints{measured}, but {wanted} were asked for."
        )
    return sorted(found[-wanted:], key=checkpoint_step)


class _Checkpoint:
    """The tensors of one checkpoint, read one by one."""

    def __init__(self, folder: Path, files: Sequence[Any]) -> None:
        self.folder = folder
        self._file_of = {name: file for file in files for name in file.keys()}  # noqa: SIM118
        self.names = sorted(self._file_of)

    def shape(self, name: str) -> list[int]:
        return list(self._file_of[name].get_slice(name).get_shape())

    def tensor(self, name: str) -> torch.Tensor:
        return self._file_of[name].get_tensor(name)


@contextmanager
def _opened(folder: Path) -> Iterator[_Checkpoint]:
    check_weights(folder)
    _refuse_adapters(folder)
    with ExitStack() as stack:
        files = []
        for path in _weight_files(folder):
            try:
                files.append(stack.enter_context(safe_open(path, framework="pt")))
            except SafetensorError as error:
                raise InputError(f"`{path}` is cut short or damaged: {error}.") from None
        yield _Checkpoint(folder, files)


def _refuse_adapters(folder: Path) -> None:
    """Refuse what PEFT saves: the mean of two products is not the product of the means."""
    if (folder / ADAPTER_FILE).is_file():
        raise InputError(
            f"`{folder}` holds adapters, which cannot be averaged: merge them into the model first"
            " (`merge_and_unload`)."
        )


def _weight_files(folder: Path) -> list[Path]:
    index = folder / WEIGHTS_INDEX_FILE
    if not index.is_file():
        return [folder / WEIGHTS_FILE]
    shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    return [folder / name for name in sorted(shards)]


def _check_alike(checkpoints: Sequence[_Checkpoint]) -> None:
    first = checkpoints[0]
    for other in checkpoints[1:]:
        if different := sorted(set(first.names) ^ set(other.names)):
            raise InputError(
                f"checkpoints {first.folder} and {other.folder} are of different models: only one of them"
                f" has {different[0]}."
            )
        for name in first.names:
            if first.shape(name) != other.shape(name):
                raise InputError(
                    f"{name} has shape {first.shape(name)} in checkpoint {first.folder}, but"
                    f" {other.shape(name)} in {other.folder}."
                )


def _average_tensor(name: str, checkpoints: Sequence[_Checkpoint]) -> torch.Tensor:
    first = checkpoints[0].tensor(name)
    if not first.is_floating_point():
        return checkpoints[-1].tensor(name)
    total = first.to(torch.float64)
    for checkpoint in checkpoints[1:]:
        total += checkpoint.tensor(name)
    return (total / len(checkpoints)).to(first.dtype)


def _copy_model_files(source: Path, target: Path) -> None:
    for pattern in _MODEL_FILES:
        for path in sorted(source.glob(f"[!.]{pattern}")):  # what is half-written begins with a dot
            if path.name not in _STATE_FILES:
                shutil.copyfile(path, target / path.name)


def _best_whole(run_dir: Path, metric: str) -> list[Path]:
    """Whole checkpoints that were validated, best last."""
    whole = {checkpoint_step(path): path for path in _whole_checkpoints(run_dir)}
    if not whole:
        return []
    history = read_state(whole[max(whole)])["log_history"]
    steps = best_steps(history, metric, greater_is_better=greater_is_better(metric))
    return [whole[step] for step in reversed(steps) if step in whole]


def _whole_checkpoints(run_dir: Path) -> list[Path]:
    """Checkpoints whose weights are not cut short, oldest first."""
    whole = []
    for path in list_checkpoints(run_dir):
        with suppress(InputError):
            check_weights(path)
            whole.append(path)
    return whole
