"""What is refused before a run begins: settings, processors and models that do not go together."""

from __future__ import annotations

import copy
import logging
import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.integrations import get_reporting_integration_callbacks

from ..configuration import PRESETS, VanillaTransformerConfig
from ..errors import InputError, first_line
from ..files import is_path, read_json
from ..modeling.modules_vanilla_transformer import multiplies_bfloat16
from ..modeling.translation_vanilla_transformer import learned_positions
from . import checkpoints
from .parts import freeze, learning_rate_factors_of
from .recipe import RunRecipe
from .recipe_values import default_of
from .tasks import Task

logger = logging.getLogger(__name__)

# Fields beside the dropouts that may differ in a model to start from: its weights mean the same.
_FREE_FIELDS = frozenset({"use_cache", "max_position_embeddings"})
# What only the head of a model reads, which one of another kind gets anew.
_HEAD_FIELDS = frozenset({"pooling"})
# How a recipe leaves the shape to the model to start from.
_KEPT_BY = {"preset": "`--preset base`", "model": '`--model "{}"`'}


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
    if classes is not None and of_its_kind and main and _names_differ(classes, task.config.id2label):
        logger.warning(
            "the classes of `%s` have other names, or another order, than those of the training data.",
            task.recipe.init_from,
        )


def _names_differ(classes: dict[int, str], before: Any) -> bool:
    """Whether the model has other names of its own for its classes: transformers calls them LABEL_0, ..."""
    named = any(name != f"LABEL_{number}" for number, name in before.items())
    return named and classes != before


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
    """Refuse a kernel that is not installed here, or trains neither on `device` nor in the recipe's type.

    Raises:
        InputError: names the kernel and what it lacks.
    """
    kernel = task.recipe.attn_implementation
    if kernel in ("eager", "sdpa"):
        return
    if kernel == "flex_attention" and device.type == "cpu":
        raise InputError("`attn_implementation`: flex_attention does not train on a CPU; use sdpa.")
    if "flash" in kernel and task.recipe.precision == "fp32":
        raise InputError(f"`attn_implementation`: {kernel} needs `precision` bf16 or fp16.")
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
    except Exception:  # of whatever class: it has none that can be read, and nothing to compare
        return
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
