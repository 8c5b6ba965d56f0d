"""What is refused before a run begins, or goes on: settings, data and models that do not go together."""

from __future__ import annotations

import copy
import errno
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout
from transformers import AutoTokenizer
from transformers.integrations import get_reporting_integration_callbacks

from ..configuration import PRESETS, VanillaTransformerConfig
from ..errors import InputError, first_line
from ..files import is_path, read_json, readable_write_errors, write_text
from ..modeling.modules_vanilla_transformer import multiplies_bfloat16
from ..modeling.translation_vanilla_transformer import learned_positions
from . import checkpoints
from .averaging import refuse_average
from .checkpoints import DATA_FILE, RECIPE_FILE, RESULTS_FILE
from .corpus import text_digest
from .parts import freeze, learning_rate_factors_of
from .recipe import RunRecipe, load_recipe
from .recipe_values import default_of
from .tasks import Task

logger = logging.getLogger(__name__)

LOCK_FILE = "training.lock"
# Fields beside the dropouts that may differ in a model to start from: its weights mean the same.
_FREE_FIELDS = frozenset({"use_cache", "max_position_embeddings"})
# What only the head of a model reads, which one of another kind gets anew.
_HEAD_FIELDS = frozenset({"pooling"})
# How a recipe leaves the shape to the model to start from.
_KEPT_BY = {"preset": "`--preset base`", "model": '`--model "{}"`'}


def check_same_recipe(recipe: RunRecipe, output_dir: Path) -> bool:
    """Refuse to continue a run with another recipe, or to write into a folder that is no run.

    Returns:
        Whether the run there is to be longer than it was meant to be.

    Raises:
        InputError: names the keys that differ, or the folder.
    """
    refuse_average(output_dir)
    path = output_dir / RECIPE_FILE
    if path.is_file():
        before = load_recipe(path, (), type(recipe))
        changed = [key for key in recipe.differences(before) if key != "output_dir"]
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
    # DeepSpeed has it in a folder of another name.
    if last is not None and not [*last.glob("optimizer*"), *last.glob("global_step*")]:
        raise InputError(f"`{last}` has lost its optimizer state, without which the run cannot go on.")
    if last is None and (output_dir / RESULTS_FILE).is_file():
        raise InputError(
            f"the finished run in `{output_dir}` has no checkpoint left to go on from: give another"
            f" `output_dir`, and `--init_from {output_dir}` to start at its weights."
        )
    return last


@contextmanager
def only_run_in(output_dir: Path, *, main: bool) -> Iterator[None]:
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


def check_processes(world_size: int) -> None:
    """Refuse processes of a launcher that would each train by itself, all in one folder.

    Raises:
        InputError: the launcher's WORLD_SIZE is another than `world_size`, that of the Trainer.
    """
    started = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1
    if started != world_size:
        raise InputError(
            f"the launcher started {started} processes, but {world_size} would train together:"
            " set ACCELERATE_USE_CPU=true to train on the CPU."
        )


def check_folders(recipe: RunRecipe) -> None:
    """Refuse what can only be a folder and is none, instead of asking the Hub for it."""
    for key in ("tokenizer", "init_from"):
        name = getattr(recipe, key) or ""
        if is_path(name) and not Path(name).is_dir():
            raise InputError(f"`{key}` names the folder `{name}`, which does not exist.")


def check_start(recipe: RunRecipe) -> None:
    """Refuse to start from adapters alone, and from a model of another architecture.

    Raises:
        InputError: names what the folder holds; or there is no such model.
    """
    if recipe.init_from is None:
        return
    folder = Path(recipe.init_from)
    whole = (checkpoints.WEIGHTS_FILE, checkpoints.WEIGHTS_INDEX_FILE)
    adapter = folder / checkpoints.ADAPTER_CONFIG_FILE
    if adapter.is_file() and not any((folder / name).is_file() for name in whole):
        kind = read_json(adapter).get("peft_type")
        raise InputError(
            f"`init_from`: `{folder}` holds an adapter ({kind}) and no model: merge it into its model first"
            " (`merge_and_unload`), and save that."
        )
    try:
        values, _ = VanillaTransformerConfig.get_config_dict(recipe.init_from)
    except OSError as error:
        raise InputError(f"model `{recipe.init_from}` cannot be loaded: {first_line(error)}") from None
    wanted, found = VanillaTransformerConfig.model_type, values.get("model_type")
    if found != wanted:
        raise InputError(
            f"`init_from` must name a model of type {wanted}, but `{recipe.init_from}` holds one of type"
            f" {found}."
        )


def check_labels(task: Task[Any], *, main: bool) -> None:
    """Refuse a classifier to start from that has another number of classes than the training data.

    Of other names, or another order, `main` warns.
    """
    classes = task.config_fields().get("id2label")
    of_its_kind = task.model_class.__name__ in (task.config.architectures or [])
    if classes is not None and of_its_kind and len(classes) != task.config.num_labels:
        raise InputError(
            f"the training data have {len(classes)} labels, but `num_labels` of the model"
            f" `{task.recipe.init_from}` is {task.config.num_labels}."
        )
    if classes is not None and of_its_kind and main and _are_others(classes, task.config.id2label):
        logger.warning(
            "the classes of `%s` have other names, or another order, than those of the training data.",
            task.recipe.init_from,
        )


def _are_others(classes: dict[int, str], before: Any) -> bool:
    """Whether classes were named before, and otherwise: transformers calls them LABEL_0, ... for itself."""
    named = any(name != f"LABEL_{number}" for number, name in before.items())
    return named and classes != before


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
    if before != now:
        raise InputError(
            f"the training data are not those that the run in `{output_dir}` began with ({now['rows']} rows"
            f" now, {before.get('rows')} then): give the same, or another"
            f" `output_dir`{_begin_anew_hint(output_dir)}."
        )


def check_same_function(task: Task[Any]) -> None:
    """Refuse fields under which the weights of the model to start from would compute something else."""
    recipe = task.recipe
    if recipe.init_from is None:
        return
    start = VanillaTransformerConfig.from_pretrained(recipe.init_from)
    free = _FREE_FIELDS if learned_positions(start) is None else _FREE_FIELDS - {"max_position_embeddings"}
    if task.model_class.__name__ not in (start.architectures or []):
        free |= _HEAD_FIELDS
    preset = PRESETS[recipe.preset].fields if recipe.preset != default_of("preset", type(recipe)) else {}
    for name, fields in (("preset", preset), ("model", recipe.model)):
        for key, value in fields.items():
            before = getattr(start, key, None)
            if value != before and "dropout" not in key and key not in free:
                raise InputError(
                    f"`{name}.{key}` must be that of `{recipe.init_from}`, {before!r}, but is {value!r}"
                    f" instead: {_KEPT_BY[name]} keeps all that is said there."
                )


def check_parts(task: Task[Any]) -> None:
    """Refuse to freeze, or to train at another rate, what the model will not have."""
    recipe = task.recipe
    if recipe.freeze or recipe.learning_rate_factors:
        with torch.device("meta"):
            model = task.model_class(copy.deepcopy(task.config))
        freeze(model, recipe.freeze)
        learning_rate_factors_of(model, recipe.learning_rate_factors)


def check_precision(recipe: RunRecipe, device: torch.device, *, main: bool) -> None:
    """Refuse fp16 on a CPU, where Accelerate would silently compute in fp32; warn of bf16 that is slow."""
    if device.type != "cpu":
        return
    if recipe.precision == "fp16":
        raise InputError("`precision`: fp16 does not train on a CPU; use bf16 or fp32.")
    if recipe.precision == "bf16" and main and not multiplies_bfloat16():
        logger.warning("`precision`: bf16 is slower than fp32 here, as this processor does not multiply it.")


def check_sharding(plugin: Any) -> None:
    """Refuse FSDP that would leave no weights to average and score.

    Args:
        plugin: Accelerate's `FullyShardedDataParallelPlugin`, or `None`.

    Raises:
        InputError: it is the first version, or saves shards instead of weights.
    """
    if plugin is None:
        return
    kind = plugin.state_dict_type
    if plugin.fsdp_version != 2 or "FULL" not in str(kind):
        raise InputError(
            "FSDP must be of version 2 and save whole weights: set `fsdp_version: 2` and"
            " `fsdp_state_dict_type: FULL_STATE_DICT` in the file of `accelerate launch`, as"
            " `vanilla-transformer recipes accelerate/fsdp` does."
        )


def check_trackers(recipe: RunRecipe) -> None:
    """Refuse a tracker that transformers does not know, or whose package is not installed.

    Raises:
        InputError: names it.
    """
    if "tensorboard" in recipe.report_to:
        raise InputError("`report_to` is for other trackers: `tensorboard` is a key of its own.")
    try:
        for kind in get_reporting_integration_callbacks(recipe.report_to):
            kind()
    except (ImportError, RuntimeError, ValueError) as error:
        raise InputError(f"`report_to`: {first_line(error)}") from None


def check_attention(task: Task[Any], device: torch.device) -> None:
    """Refuse a kernel that is not installed here, or that does not train on `device`.

    Raises:
        InputError: names the kernel and what it lacks.
    """
    kernel = task.recipe.attn_implementation
    if kernel in ("eager", "sdpa"):
        return
    if kernel == "flex_attention" and device.type == "cpu":
        raise InputError("`attn_implementation`: flex_attention does not train on a CPU; use sdpa.")
    config = copy.deepcopy(task.config)
    config._attn_implementation = kernel
    try:
        # transformers looks for the kernel when it makes a model, and here no weight takes memory.
        with torch.device("meta"):
            task.model_class(config)
    except (ImportError, ValueError) as error:
        raise InputError(f"`attn_implementation`: {kernel} cannot be used: {first_line(error)}") from None


def check_same_pieces(recipe: RunRecipe, tokenizer: Any, config: Any, *, main: bool) -> None:
    """Refuse special tokens that are other entries for the model to start from, and warn of other pieces."""
    for name in ("pad_token", "bos_token", "eos_token"):
        there, here = getattr(config, f"{name}_id"), getattr(tokenizer, f"{name}_id")
        if here is not None and there is not None and here != there:
            raise InputError(
                f"the {name} of `tokenizer` must be entry {there}, as for `{recipe.init_from}`, but is"
                f" entry {here} instead."
            )
    try:
        before = AutoTokenizer.from_pretrained(recipe.init_from, trust_remote_code=False).get_vocab()
    except (ImportError, OSError, ValueError):
        return  # it has none, and nothing to compare
    now = tokenizer.get_vocab()
    moved = sum(now.get(token) != entry for token, entry in before.items())
    if moved and main:
        logger.warning(
            "%d of the %d entries that `%s` was trained with are others in `%s`: their embeddings stand for"
            " something else.",
            moved,
            len(before),
            recipe.init_from,
            recipe.tokenizer,
        )


def check_loaded(name: str, report: dict[str, Any]) -> None:
    """Refuse weights that are more or less than a model of the same kind has.

    Of another kind they may be, and transformers lists them.
    """
    for keys, reason in (
        (report["missing_keys"], "its weights lack"),
        (report["unexpected_keys"], "its config.json has no place for"),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise InputError(f"model `{name}` cannot be loaded: {reason} `{min(keys)}`{more}.")
