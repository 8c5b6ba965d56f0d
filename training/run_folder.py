"""What a run finds in its folder, and whether it may go on there: recipe, data, checkpoints, a lock."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from ..errors import InputError
from ..files import read_json, readable_write_errors, write_text
from . import checkpoints
from .averaging import check_not_average
from .checkpoints import DATA_FILE, RECIPE_FILE, RESULTS_FILE
from .corpus import text_digest
from .recipe import RunRecipe, load_recipe
from .tasks import Task

LOCK_FILE = "training.lock"
# What may differ when a run goes on: how much memory it takes, how it works and what it tells. With other
# `tokens_per_device` it goes on with other batches, of which the trainer warns.
FREE_KEYS = {
    *("tokens_per_device", "gradient_checkpointing", "eval_batch_size", "dataloader_workers"),
    *("logging_steps", "samples", "prompts", "tensorboard", "report_to"),
}


def check_same_recipe(recipe: RunRecipe, output_dir: Path) -> bool:
    """Refuse to continue a run with another recipe, or to write into a folder that is no run.

    Returns:
        Whether the run there is to be longer than it was meant to be.

    Raises:
        InputError: names the keys that differ, or the folder.
    """
    check_not_average(output_dir)
    path = output_dir / RECIPE_FILE
    if path.is_file():
        before = load_recipe(path, (), type(recipe))
        changed = [key for key in recipe.differences(before) if key not in {"output_dir", *FREE_KEYS}]
        longer = [key for key in changed if _is_longer(recipe, before, key)]
        if changed != longer:
            raise InputError(
                f"`{output_dir}` holds a run with another recipe; these keys differ: {', '.join(changed)}."
                f" Give the same values, or another `output_dir`{_begin_anew_hint(output_dir)}."
            )
        return bool(longer)
    if foreign := _foreign_files(recipe, output_dir):
        raise InputError(
            f"`{output_dir}` holds {foreign[0]} but no {RECIPE_FILE}: give another `output_dir`."
        )
    return False


def _foreign_files(recipe: RunRecipe, output_dir: Path) -> list[str]:
    """What is in a folder without a recipe that a run would write over, or take for its own."""
    names = ["config.json", checkpoints.WEIGHTS_FILE, RESULTS_FILE]
    begun = (output_dir / DATA_FILE).is_file()  # by a run that then could not make its model
    given = recipe.tokenizer is not None and Path(recipe.tokenizer).resolve() == output_dir.resolve()
    if not begun and not given:
        names += ["tokenizer.json", "tokenizer_config.json"]
    folders = checkpoints.list_checkpoints(output_dir)
    return [name for name in names if (output_dir / name).exists()] + [folder.name for folder in folders]


def _begin_anew_hint(output_dir: Path) -> str:
    """The end of a message that refuses to continue a run which has trained nothing yet."""
    if _has_trained(output_dir):
        return ""
    return f"; if no run goes on there, delete `{output_dir / RECIPE_FILE}` to begin anew"


def _is_longer(recipe: RunRecipe, before: RunRecipe, key: str) -> bool:
    """Whether a key says that a run be longer: its first part is the same whatever its length."""
    if key not in ("max_steps", "num_train_epochs", "early_stopping_patience"):
        return False
    new, old = getattr(recipe, key), getattr(before, key)
    if key == "early_stopping_patience" and new is None:
        return True
    return new is not None and old is not None and new > old


def _has_trained(output_dir: Path) -> bool:
    """Whether a run left anything that took training."""
    made = (output_dir / name for name in (RESULTS_FILE, checkpoints.WEIGHTS_FILE))
    return bool(checkpoints.list_checkpoints(output_dir)) or any(path.exists() for path in made)


def checkpoint_to_go_on_from(recipe: RunRecipe) -> Path | None:
    """The last whole checkpoint of a run; `None` where it begins.

    Raises:
        InputError: what the run needs to go on is lost.
    """
    output_dir = Path(recipe.output_dir)
    last = checkpoints.last_checkpoint(output_dir)
    if last is not None:
        checkpoints.check_resumable(last)
    if last is None and (output_dir / RESULTS_FILE).is_file():
        raise InputError(
            f"the finished run in `{output_dir}` has no checkpoint left to go on from: give another"
            f" `output_dir`, and `--init_from {output_dir}` to start at its weights."
        )
    return last


@contextmanager
def run_lock(output_dir: Path, *, main: bool) -> Iterator[None]:
    """No other start of a run trains in the folder meanwhile.

    The lock ends with the process that holds it, whatever ends that. Where the file system knows no locks,
    there is none.

    Args:
        output_dir: folder of the run, made where there is none; an empty one is removed in the end.
        main: whether this process holds the lock, as one of those that train together does; all call this.

    Raises:
        InputError: another start of a run is at work there, which all processes are told.
    """
    lock = FileLock(output_dir / LOCK_FILE, timeout=0)
    (free,) = broadcast_object_list([main and _acquired(lock, output_dir)])
    if not free:
        raise InputError(
            f"another process trains in `{output_dir}`: wait until it has ended, or give another"
            " `output_dir`."
        )
    try:
        yield
    finally:
        if main:
            with suppress(OSError):  # on Windows, an open file stays
                (output_dir / LOCK_FILE).unlink()
            lock.release()
            with suppress(OSError):
                output_dir.rmdir()


def _acquired(lock: FileLock, output_dir: Path) -> bool:
    """Whether no other process holds the lock, as this one does from now on where the file system has any."""
    with readable_write_errors(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
    return True


def check_same_data(task: Task[Any], data: Any, *, main: bool) -> None:
    """Note a digest of the data that a run begins with, or refuse to continue it with others.

    That of a stream is not known ahead. A run of an earlier version, which has no note, gets one.

    Raises:
        InputError: says how many texts there were and are.
    """
    output_dir = Path(task.recipe.output_dir)
    path = output_dir / DATA_FILE
    now: dict[str, Any] = {"rows": None, "digest": None}
    if not task.streaming:
        now = {"rows": len(data), "digest": text_digest(data)}
    if not (path.is_file() and (output_dir / RECIPE_FILE).is_file()):
        if main:
            write_text(path, json.dumps(now, indent=2))
        return
    before = read_json(path)
    if any(before.get(name) != value for name, value in now.items()):
        raise InputError(
            f"the training data are not those that the run in `{output_dir}` began with ({now['rows']} rows"
            f" now, {before.get('rows')} then): give the same, or another"
            f" `output_dir`{_begin_anew_hint(output_dir)}."
        )


def check_same_tokenizer(recipe: RunRecipe, tokenizer: Any, *, main: bool) -> None:
    """Note a digest of the tokenizer beside that of the data, or refuse to continue a run with another.

    Raises:
        InputError: it is another one than the run began with.
    """
    path = Path(recipe.output_dir, DATA_FILE)
    noted, now = read_json(path), tokenizer_digest(tokenizer)
    if noted.get("tokenizer", now) != now:
        raise InputError(
            f"the tokenizer is not the one that the run in `{recipe.output_dir}` began with: give that one,"
            f" or another `output_dir`{_begin_anew_hint(Path(recipe.output_dir))}."
        )
    if main and "tokenizer" not in noted:
        write_text(path, json.dumps(noted | {"tokenizer": now}, indent=2))


def tokenizer_digest(tokenizer: Any) -> str:
    """What tells a tokenizer from one that makes other pieces of a text, or numbers them otherwise."""
    content: list[Any] = [tokenizer.get_vocab()]
    if backend := getattr(tokenizer, "backend_tokenizer", None):
        # What stands around a text, and how special tokens are found, is set anew when a run ends.
        state = json.loads(backend.to_str())
        content += (state.get(name) for name in ("normalizer", "pre_tokenizer", "model"))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def mark_begun(recipe: RunRecipe) -> None:
    """Write the recipe into the run's folder; the results of a run that is to be longer leave it.

    They would mark it as finished.
    """
    output_dir = Path(recipe.output_dir)
    (output_dir / RESULTS_FILE).unlink(missing_ok=True)
    path = output_dir / RECIPE_FILE
    if not path.is_file() or load_recipe(path, (), type(recipe)) != recipe:
        write_text(path, recipe.to_yaml())  # a file of the same values keeps its comments
