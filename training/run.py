"""One training run from a recipe: data, tokenizer, model, training, and what is left in the output folder."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)
from transformers.integrations import TensorBoardCallback
from transformers.trainer_utils import has_length

from ..configuration import VanillaTransformerConfig
from ..errors import InputError, first_line
from ..modeling.generation_vanilla_transformer import set_decoding
from ..modeling.translation_vanilla_transformer import learned_positions
from ..tokenization import VanillaTransformerTokenizer
from . import checkpoints
from .arguments import VanillaTransformerTrainingArguments
from .averaging import average_checkpoints, refuse_average
from .callbacks import PrintStreamReport, StopWithoutImprovement
from .checkpoints import CURVES_FILE, DATA_FILE, RECIPE_FILE, RESULTS_FILE
from .corpus import text_digest
from .curves import plot_curves
from .parts import freeze, learning_rate_factors_of
from .recipe import RunRecipe, load_recipe
from .samples import PrintSamples
from .tasks import Task, task_of
from .trainer import VanillaTransformerTrainer
from .word_vectors import embed_word_vectors

logger = logging.getLogger(__name__)

LOG_FOLDER = "logs"
# How often a stream, which has no epochs, is validated and saved unless the recipe says otherwise.
STREAMING_INTERVAL = 1000
# While the main process prepares a large corpus, all others wait for it; by default they give up in half an
# hour.
PREPARATION_SECONDS = 24 * 60 * 60
# Fields beside the dropouts that may differ in a model to start from: its weights mean the same.
_FREE_FIELDS = frozenset({"use_cache", "max_position_embeddings"})


@dataclass(frozen=True)
class TrainResult:
    """What a run left behind.

    Attributes:
        output_dir: folder of the final model; also holds recipe, results, curves, logs and checkpoints.
        steps: optimizer steps done.
        scores: validation scores of the best single checkpoint ("best") and of the final model ("final"),
            as far as there are any: loss, perplexity; bleu, chrf (decoded as the recipe's `generation` says);
            accuracy, f1.
        checkpoints: steps of the checkpoints that the final model is made of.
        finished_before: the run was complete already, and nothing was done.
    """

    output_dir: Path
    steps: int
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    checkpoints: list[int] = field(default_factory=list)
    finished_before: bool = False


def train(recipe: RunRecipe) -> TrainResult:
    """Train as the recipe says; called again with the same recipe, continue where the run was interrupted.

    With a larger `max_steps`, `num_train_epochs` or `early_stopping_patience` than before, a finished run
    goes on as well, from where it ended. On several processes (`accelerate launch`), each one calls this;
    only the main one writes. Several machines need `output_dir` on a file system that they share.

    Raises:
        InputError: data, tokenizer or model that cannot be used, an output folder of another recipe, of other
            data or of no run at all, processes that do not train together, a full disk, or a loss that is no
            longer finite.
    """
    recipe.require_trainable()
    output_dir = Path(recipe.output_dir)
    longer = check_same_recipe(recipe, output_dir)
    if (output_dir / RESULTS_FILE).is_file() and not longer:
        result = _finished_result(output_dir)
        print(f"The run in {output_dir} is finished after {result.steps} steps; nothing to do.", flush=True)
        return result
    args = training_arguments(recipe)
    check_processes(args.world_size)
    task = task_of(recipe)
    trainer = _build_trainer(task, args)
    last = checkpoints.last_checkpoint(output_dir)
    seconds = None
    if last is None:
        # How long a run took that was interrupted, nobody knows.
        seconds = trainer.train().metrics["train_runtime"]
    elif not _has_all_steps(recipe, state := checkpoints.read_state(last), trainer.updates_per_epoch):
        if not _stopped_early(recipe, state):
            trainer.train(resume_from_checkpoint=str(last))
        elif args.should_save:
            print(
                f"Early stopping ended the run in {output_dir} after {state['global_step']} steps, so none is"
                " added: a larger `early_stopping_patience` goes on.",
                flush=True,
            )
    return _finish(task, trainer, seconds)


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


def _finished_result(output_dir: Path) -> TrainResult:
    results = checkpoints.read_json(output_dir / RESULTS_FILE)
    return TrainResult(
        output_dir=output_dir,
        steps=int(results["steps"]),
        scores=results["scores"],
        checkpoints=results["checkpoints"],
        finished_before=True,
    )


def training_arguments(recipe: RunRecipe) -> VanillaTransformerTrainingArguments:
    """The Trainer's arguments of a recipe. Intervals that depend on the data are set later."""
    validates = recipe.has_validation
    known = {item.name for item in dataclasses.fields(VanillaTransformerTrainingArguments)}
    # transformers renamed it in 5.2x and warns of the old name.
    new, old = "activation_checkpointing", "gradient_checkpointing"
    renamed: dict[str, Any] = {new if new in known else old: recipe.gradient_checkpointing}
    keep_best = recipe.average_checkpoints if recipe.effective_final_model == "average_best" else 1
    keep_last = recipe.average_checkpoints if recipe.effective_final_model == "average_last" else 1
    return VanillaTransformerTrainingArguments(
        output_dir=recipe.output_dir,
        tokens_per_update=recipe.tokens_per_update,
        tokens_per_device=recipe.tokens_per_device,
        max_steps=recipe.max_steps or -1,
        num_train_epochs=recipe.num_train_epochs or 1.0,
        warmup_steps=recipe.warmup_steps,
        learning_rate_scale=recipe.learning_rate_scale,
        learning_rate_factors=recipe.learning_rate_factors or None,
        label_smoothing_factor=recipe.label_smoothing,
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        adam_epsilon=recipe.adam_epsilon,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.precision == "bf16",
        fp16=recipe.precision == "fp16",
        torch_compile=recipe.torch_compile,
        seed=recipe.seed,
        eval_strategy="steps" if validates else "no",
        eval_steps=recipe.eval_steps or 1,
        per_device_eval_batch_size=recipe.eval_batch_size,
        metric_for_best_model=recipe.metric if validates else None,
        greater_is_better=recipe.metric != "loss" if validates else None,
        save_strategy="steps",
        save_total_limit=max(recipe.keep_checkpoints, keep_last),
        keep_best_checkpoints=keep_best,
        logging_steps=recipe.logging_steps,
        dataloader_num_workers=recipe.dataloader_workers,
        ddp_timeout=PREPARATION_SECONDS,
        # Unless told so, processes that a launcher starts on a CPU would not find each other.
        use_cpu=not torch.accelerator.is_available(),
        report_to="none",
        **renamed,
        **task_of(recipe).arguments(),
    )


def _build_trainer(task: Task[Any], args: VanillaTransformerTrainingArguments) -> VanillaTransformerTrainer:
    """Everything up to the first step; the recipe is written last, once all that went well."""
    recipe, main = task.recipe, args.should_save
    output_dir = Path(recipe.output_dir)
    _check_folders(recipe)
    _check_start(recipe)
    task.check_lengths()
    task.check_batches(args.tokens_per_batch or 0)
    _check_same_function(recipe)
    _check_parts(task)
    _check_attention(task, args.device)
    _check_precision(recipe, args.device)
    with args.main_process_first(local=False), checkpoints.readable_write_errors(output_dir):
        data = task.training_data()
        _check_labels(task)
        _check_same_data(task, data, main=main)
        tokenizer = _tokenizer(task, data, main=main)
        train_dataset, report = task.training_rows(data, tokenizer)
        if main and not task.streaming:
            print(f"Training data: {report}", flush=True)
        eval_dataset = None
        if recipe.has_validation:
            try:
                eval_dataset, eval_report = task.validation_rows(tokenizer)
            except InputError as error:
                raise InputError(f"validation data: {error}") from None
            if main:
                print(f"Validation data: {eval_report}", flush=True)
    task.finish_tokenizer(tokenizer)
    callbacks = _callbacks(recipe, main=main)
    if main and task.streaming:
        callbacks.append(PrintStreamReport(report))
    trainer = VanillaTransformerTrainer(
        model=_model(task, tokenizer, main=main),
        args=args,
        data_collator=task.collator(tokenizer),
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        compute_metrics=task.scores(tokenizer),
        callbacks=[*callbacks, *task.callbacks(tokenizer, eval_dataset)],
    )
    _set_intervals(task, trainer)
    if main:
        # Those of a run that is to be longer: they would mark it as finished.
        (output_dir / RESULTS_FILE).unlink(missing_ok=True)
        path = output_dir / RECIPE_FILE
        if not path.is_file() or load_recipe(path, (), type(recipe)) != recipe:
            write_text(path, recipe.to_yaml())  # a file of the same values keeps its comments
    trainer.accelerator.wait_for_everyone()
    return trainer


def _tokenizer(task: Task[Any], data: Any, *, main: bool) -> PreTrainedTokenizerBase:
    """The tokenizer that the recipe names, that of the model to start from, or one trained on the data."""
    recipe = task.recipe
    output_dir = Path(recipe.output_dir)
    given = recipe.tokenizer or recipe.init_from
    if given is not None:
        tokenizer = _load_tokenizer(given)
        if tokenizer.pad_token_id is None:
            raise InputError(f"tokenizer `{given}` has no padding token, which batches need.")
        return tokenizer
    resumed = all((output_dir / name).is_file() for name in (RECIPE_FILE, "tokenizer_config.json"))
    if main and not resumed:
        tokenizer = VanillaTransformerTokenizer.train_from_iterator(
            task.texts(data), vocab_size=recipe.vocab_size, lowercase=recipe.lowercase
        )
        tokenizer.save_pretrained(output_dir)
    return _load_tokenizer(str(output_dir))


def _check_folders(recipe: RunRecipe) -> None:
    """Refuse what can only be a folder and is none, instead of asking the Hub for it."""
    for key in ("tokenizer", "init_from"):
        name = getattr(recipe, key) or ""
        if checkpoints.is_path(name) and not Path(name).is_dir():
            raise InputError(f"`{key}` names the folder `{name}`, which does not exist.")


def _check_start(recipe: RunRecipe) -> None:
    """Refuse to start from adapters alone, and from a model of another architecture.

    Raises:
        InputError: names what the folder holds; or there is no such model.
    """
    if recipe.init_from is None:
        return
    folder = Path(recipe.init_from)
    whole = (checkpoints.WEIGHTS_FILE, checkpoints.WEIGHTS_INDEX_FILE)
    adapter = folder / "adapter_config.json"
    if adapter.is_file() and not any((folder / name).is_file() for name in whole):
        kind = checkpoints.read_json(adapter).get("peft_type")
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


def _check_labels(task: Task[Any]) -> None:
    """Refuse a classifier to start from that has another number of classes than the training data."""
    classes = task.config_fields().get("id2label")
    of_its_kind = task.model_class.__name__ in (task.config.architectures or [])
    if classes is not None and of_its_kind and len(classes) != task.config.num_labels:
        raise InputError(
            f"the training data have {len(classes)} labels, but `num_labels` of the model"
            f" `{task.recipe.init_from}` is {task.config.num_labels}."
        )


def _check_same_data(task: Task[Any], data: Any, *, main: bool) -> None:
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
    before = checkpoints.read_json(path)
    if before != now:
        raise InputError(
            f"the training data are not those that the run in `{output_dir}` began with ({now['rows']} rows"
            f" now, {before.get('rows')} then): give the same, or another"
            f" `output_dir`{_begin_anew_hint(output_dir)}."
        )


def _check_same_function(recipe: RunRecipe) -> None:
    """Refuse fields under which the weights of the model to start from would compute something else."""
    if recipe.init_from is None:
        return
    start = VanillaTransformerConfig.from_pretrained(recipe.init_from)
    free = _FREE_FIELDS if learned_positions(start) is None else _FREE_FIELDS - {"max_position_embeddings"}
    for key, value in recipe.model.items():
        before = getattr(start, key, None)
        if value != before and "dropout" not in key and key not in free:
            raise InputError(
                f"`model.{key}` must be that of `{recipe.init_from}`, {before!r}, but is {value!r} instead."
            )


def _check_parts(task: Task[Any]) -> None:
    """Refuse to freeze, or to train at another rate, what the model will not have."""
    recipe = task.recipe
    if recipe.freeze or recipe.learning_rate_factors:
        with torch.device("meta"):
            model = task.model_class(copy.deepcopy(task.config))
        freeze(model, recipe.freeze)
        learning_rate_factors_of(model, recipe.learning_rate_factors)


def _check_precision(recipe: RunRecipe, device: torch.device) -> None:
    """Refuse fp16 on a CPU, where Accelerate would silently compute in fp32."""
    if recipe.precision == "fp16" and device.type == "cpu":
        raise InputError("`precision`: fp16 does not train on a CPU; use bf16 or fp32.")


def _check_attention(task: Task[Any], device: torch.device) -> None:
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


def _load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"tokenizer `{name}` cannot be loaded: {first_line(error)}") from None


def _model(task: Task[Any], tokenizer: Any, *, main: bool) -> PreTrainedModel:
    recipe = task.recipe
    set_seed(recipe.seed)
    if recipe.init_from is not None:
        model = _pretrained_model(task)
        if recipe.tokenizer is not None:
            _check_same_pieces(recipe, tokenizer, model.config, main=main)
    else:
        fields = {**_tokenizer_fields(tokenizer), **task.config_fields(), **recipe.model_fields}
        config = VanillaTransformerConfig.from_preset(recipe.preset, **fields)
        config._attn_implementation = recipe.attn_implementation
        model = task.model_class(config)
    if len(tokenizer) > model.config.vocab_size:
        raise InputError(
            f"the tokenizer has {len(tokenizer)} entries, but `vocab_size` of the model is"
            f" {model.config.vocab_size}."
        )
    if task.generation:
        set_decoding(model.generation_config, **task.generation)
    if recipe.word_vectors is not None:
        report = embed_word_vectors(model, tokenizer, recipe.word_vectors)
        if main:
            print(f"Embeddings: {report}", flush=True)
    if recipe.freeze:
        freeze(model, recipe.freeze)
    return model


def _check_same_pieces(recipe: RunRecipe, tokenizer: Any, config: Any, *, main: bool) -> None:
    """Refuse special tokens that are other entries for the model to start from, and warn of other pieces."""
    for name in ("pad_token", "bos_token", "eos_token"):
        there, here = getattr(config, f"{name}_id"), getattr(tokenizer, f"{name}_id")
        if here is not None and there is not None and here != there:
            raise InputError(
                f"the {name} of `tokenizer` must be entry {there}, as for `{recipe.init_from}`, but is"
                f" entry {here} instead."
            )
    try:
        before = AutoTokenizer.from_pretrained(recipe.init_from).get_vocab()
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


def _tokenizer_fields(tokenizer: Any) -> dict[str, Any]:
    """Fields of the configuration that follow from the tokenizer.

    Without a start token, decoding begins with padding, as Marian does. A token that the tokenizer lacks is
    `None`: the default would be the id of an ordinary word.
    """
    bos = tokenizer.bos_token_id
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": bos,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id if bos is None else bos,
    }


def _pretrained_model(task: Task[Any]) -> PreTrainedModel:
    recipe = task.recipe
    name = str(recipe.init_from)
    if Path(name).is_dir():
        checkpoints.check_weights(name)
    try:
        config = VanillaTransformerConfig.from_pretrained(name, **task.config_fields(), **recipe.model)
        # A copy, as some models make of it the configuration of their own stack.
        loaded: Any = task.model_class.from_pretrained(
            name,
            config=copy.deepcopy(config),
            attn_implementation=recipe.attn_implementation,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, RuntimeError) as error:
        raise InputError(f"model `{name}` cannot be loaded: {first_line(error)}") from None
    model, report = loaded
    if task.model_class.__name__ in (config.architectures or []):
        _check_loaded(name, report)
    elif model.can_generate():
        # How a model of another kind searched says nothing of this one.
        model.generation_config = GenerationConfig.from_model_config(model.config)
    return cast(PreTrainedModel, model)


def _check_loaded(name: str, report: dict[str, Any]) -> None:
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


def _callbacks(recipe: RunRecipe, *, main: bool) -> list[TrainerCallback]:
    callbacks: list[TrainerCallback] = []
    if recipe.early_stopping_patience is not None:
        callbacks.append(StopWithoutImprovement(recipe.early_stopping_patience))
    if recipe.tensorboard and main:
        from torch.utils.tensorboard import SummaryWriter

        output_dir = Path(recipe.output_dir)
        last = checkpoints.last_checkpoint(output_dir)
        # Steps that an interrupted run logged after its last checkpoint are logged again.
        purge = None if last is None else checkpoints.checkpoint_step(last) + 1
        callbacks.append(TensorBoardCallback(SummaryWriter(str(output_dir / LOG_FOLDER), purge_step=purge)))
    return callbacks


def _set_intervals(task: Task[Any], trainer: VanillaTransformerTrainer) -> None:
    """Validate and save once per epoch where the recipe says no steps, now that its length is known."""
    recipe = task.recipe
    if task.streaming:
        interval = min(STREAMING_INTERVAL, recipe.max_steps or STREAMING_INTERVAL)
    else:
        trainer.plan_batches()
        interval = trainer.updates_per_epoch or 1
    trainer.args.eval_steps = recipe.eval_steps or interval
    trainer.args.save_steps = recipe.save_steps or trainer.args.eval_steps


def _has_all_steps(recipe: RunRecipe, state: dict[str, Any], updates_per_epoch: int | None) -> bool:
    """Whether a checkpoint is of the last step that the recipe asks for."""
    steps = recipe.max_steps or math.ceil((recipe.num_train_epochs or 0) * (updates_per_epoch or 0))
    return bool(state["global_step"] >= steps)


def _stopped_early(recipe: RunRecipe, state: dict[str, Any]) -> bool:
    """Whether a checkpoint is the last one of a run that early stopping ended."""
    if recipe.early_stopping_patience is None:
        return False
    stop = StopWithoutImprovement(recipe.early_stopping_patience)
    return stop.is_over(state["log_history"], recipe.metric, recipe.metric != "loss")


def _finish(task: Task[Any], trainer: VanillaTransformerTrainer, seconds: float | None) -> TrainResult:
    """Write the final model, its scores and the curves; the results last, as they mark a finished run."""
    recipe = task.recipe
    output_dir = Path(recipe.output_dir)
    last = checkpoints.last_checkpoint(output_dir)
    if last is None:
        raise InputError(f"`{output_dir}` holds no whole checkpoint, so there is no final model.")
    state = checkpoints.read_state(last)
    best, chosen = _chosen_checkpoints(recipe, state)
    main, wait = trainer.args.should_save, trainer.accelerator.wait_for_everyone
    if main:
        average_checkpoints(chosen, output_dir)
        plot_curves(state["log_history"], output_dir / CURVES_FILE, title=output_dir.name)
    wait()
    scores: dict[str, dict[str, float]] = {}
    if recipe.has_validation:
        # Its log ended with the training: another entry would open a second one beside it.
        trainer.remove_callback(TensorBoardCallback)
        trainer.remove_callback(PrintSamples)
        trainer.args.generation_num_beams = None  # as the saved generation defaults say
        best_scores = _scores_of(task, trainer, best)
        same = chosen == [best]
        scores = {
            "best": best_scores,
            "final": best_scores if same else _scores_of(task, trainer, output_dir),
        }
    steps = [checkpoints.checkpoint_step(path) for path in chosen]
    result = TrainResult(output_dir, int(state["global_step"]), scores, steps)
    if main:
        results = _results(task, trainer, state, result, best) | _circumstances(trainer, seconds)
        write_text(output_dir / RESULTS_FILE, json.dumps(results, indent=2))
    wait()
    return result


def _chosen_checkpoints(recipe: RunRecipe, state: dict[str, Any]) -> tuple[Path, list[Path]]:
    """The best checkpoint (the last one without validation), and those that make up the final model."""
    whole = [path for path in checkpoints.list_checkpoints(recipe.output_dir) if checkpoints.is_whole(path)]
    by_step = {checkpoints.checkpoint_step(path): path for path in whole}
    ranked = checkpoints.best_steps(
        state["log_history"], recipe.metric, greater_is_better=recipe.metric != "loss"
    )
    best = [by_step[step] for step in ranked if step in by_step] or whole[-1:]
    count = recipe.average_checkpoints
    chosen = {
        "best": best[:1],
        "average_best": sorted(best[:count], key=checkpoints.checkpoint_step),
        "average_last": whole[-count:],
        "last": whole[-1:],
    }
    return best[0], chosen[recipe.effective_final_model]


def _scores_of(task: Task[Any], trainer: VanillaTransformerTrainer, folder: Path) -> dict[str, float]:
    """Validation scores of the weights in `folder`."""
    trainer.load_weights(folder)
    metrics = trainer.evaluate(metric_key_prefix="final")
    return {name: metrics[f"final_{name}"] for name in task.score_names if f"final_{name}" in metrics}


def _results(
    task: Task[Any],
    trainer: VanillaTransformerTrainer,
    state: dict[str, Any],
    result: TrainResult,
    best: Path,
) -> dict[str, Any]:
    return {
        "final_model": task.recipe.effective_final_model,
        "checkpoints": result.checkpoints,
        "best_checkpoint": checkpoints.checkpoint_step(best),
        "steps": result.steps,
        "epochs": state["epoch"],
        "parameters": trainer.model.num_parameters(),
        "scores": result.scores,
        "signatures": getattr(trainer.compute_metrics, "signatures", {}),
        "generation": task.generation,
        "hub_dataset": _hub_dataset(task.recipe),
    }


def _hub_dataset(recipe: RunRecipe) -> str | None:
    """The data set of the recipe, unless it is a folder, as only this working directory can tell."""
    name: str | None = getattr(recipe, "dataset", None)
    return None if name is None or Path(name).exists() else name


def _circumstances(trainer: VanillaTransformerTrainer, seconds: float | None) -> dict[str, Any]:
    """What the model card tells beside the scores: data, time, hardware and software; `None` if unknown."""
    dataset, device = trainer.train_dataset, trainer.args.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    count = torch.get_num_threads()
    threads = f", {count} thread{'s' * (count > 1)}" if device.type == "cpu" else ""
    processes = trainer.args.world_size
    return {
        "training_pairs": len(dataset) if has_length(dataset) else None,
        "training_seconds": None if seconds is None else round(seconds, 1),
        "hardware": f"{processes} x {name}{threads}" if processes > 1 else f"{name}{threads}",
        "software": f"torch {torch.__version__}, transformers {transformers.__version__}",
    }


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    beside = path.with_name(f".{path.name}.incomplete")
    with checkpoints.readable_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text if text.endswith("\n") else f"{text}\n", "utf-8")
        os.replace(beside, path)
