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
from typing import Any, NamedTuple, cast

import torch
import transformers
from accelerate import FullyShardedDataParallelPlugin
from accelerate.utils import parse_flag_from_env
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)
from transformers.integrations import TensorBoardCallback, get_reporting_integration_callbacks
from transformers.trainer_utils import has_length

from ..configuration import VanillaTransformerConfig
from ..errors import InputError, first_line
from ..files import read_json, readable_write_errors, write_text
from ..modeling.generation_vanilla_transformer import set_decoding
from ..modeling.loading import check_vocabulary
from ..tokenization import VanillaTransformerTokenizer
from . import checkpoints
from .arguments import VanillaTransformerTrainingArguments
from .averaging import average_checkpoints
from .callbacks import PrintStreamReport, StopWithoutImprovement
from .checkpoints import CURVES_FILE, RECIPE_FILE, RESULTS_FILE
from .curves import plot_curves
from .parts import freeze
from .recipe import RunRecipe
from .recipe_values import one_line_errors
from .run_checks import (
    check_attention,
    check_folders,
    check_labels,
    check_loaded,
    check_parts,
    check_precision,
    check_processes,
    check_same_function,
    check_same_pieces,
    check_sharding,
    check_start,
    check_trackers,
)
from .run_folder import (
    check_same_data,
    check_same_recipe,
    check_same_tokenizer,
    checkpoint_to_go_on_from,
    mark_begun,
    run_lock,
)
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
    if result := _finished_result(recipe):
        return result
    args = training_arguments(recipe)
    check_processes(args.world_size)
    task = task_of(recipe)
    _check(task, args)
    with run_lock(Path(recipe.output_dir), main=args.should_save):
        # Another start may have ended it meanwhile.
        return _finished_result(recipe) or _train(task, args)


def _train(task: Task[Any], args: VanillaTransformerTrainingArguments) -> TrainResult:
    """Train from the last checkpoint, or from the beginning, and finish the run."""
    recipe = task.recipe
    if args.should_save:
        checkpoints.clean_leftovers(recipe.output_dir)
        checkpoints.clean_uploads(recipe.output_dir)
    last = checkpoint_to_go_on_from(recipe)
    trainer = _build_trainer(task, args)
    if args.should_save:
        mark_begun(recipe)  # once all went well
    trainer.accelerator.wait_for_everyone()
    seconds = None
    if last is None:
        # How long a run took that was interrupted, nobody knows.
        seconds = trainer.train().metrics["train_runtime"]
    elif not _has_all_steps(recipe, state := checkpoints.read_state(last), trainer.updates_per_epoch):
        if not _stopped_early(recipe, state):
            trainer.train(resume_from_checkpoint=str(last))
        elif args.should_save:
            print(
                f"Early stopping ended the run in {recipe.output_dir} after {state['global_step']} steps, so"
                " none is added: a larger `early_stopping_patience` goes on.",
                flush=True,
            )
    return _finish(task, trainer, seconds)


def _finished_result(recipe: RunRecipe) -> TrainResult | None:
    """The result of a run that is complete, of which a line is printed; `None` if there is more to train."""
    output_dir = Path(recipe.output_dir)
    longer = check_same_recipe(recipe, output_dir)
    if longer or not (output_dir / RESULTS_FILE).is_file():
        return None
    results = read_json(output_dir / RESULTS_FILE)
    if missing := {"steps", "scores", "checkpoints"} - results.keys():
        raise InputError(
            f"`{output_dir / RESULTS_FILE}` lacks {', '.join(sorted(missing))}: delete it to have the run"
            " finished again."
        )
    steps = int(results["steps"])
    if os.environ.get("RANK", "0") == "0":  # processes have not found each other yet
        print(f"The run in {output_dir} is finished after {steps} steps; nothing to do.", flush=True)
    return TrainResult(
        output_dir=output_dir,
        steps=steps,
        scores=results["scores"],
        checkpoints=results["checkpoints"],
        finished_before=True,
    )


def training_arguments(recipe: RunRecipe) -> VanillaTransformerTrainingArguments:
    """The Trainer's arguments of a recipe. Intervals that depend on the data are set later."""
    validates = recipe.has_validation
    known = {item.name for item in dataclasses.fields(VanillaTransformerTrainingArguments)}
    # A newer transformers has another name for it, and warns of the old one.
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
        greater_is_better=checkpoints.greater_is_better(recipe.metric) if validates else None,
        save_strategy="steps",
        save_total_limit=max(recipe.keep_checkpoints, keep_last),
        keep_best_checkpoints=keep_best,
        logging_steps=recipe.logging_steps,
        dataloader_num_workers=recipe.dataloader_workers,
        ddp_timeout=PREPARATION_SECONDS,
        # Unless told so, processes that a launcher starts on a CPU would not find each other.
        # transformers would let Accelerate alone take the CPU, and put the model on the GPU.
        use_cpu=not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU"),
        report_to=recipe.report_to or "none",
        **renamed,
        **task_of(recipe).arguments(),
    )


def _build_trainer(task: Task[Any], args: VanillaTransformerTrainingArguments) -> VanillaTransformerTrainer:
    """The trainer of a run with its data prepared, ready for the first step."""
    recipe, main = task.recipe, args.should_save
    data = _prepare_data(task, args)
    task.finish_tokenizer(data.tokenizer)
    callbacks = _callbacks(recipe, main=main)
    if main and task.streaming:
        callbacks.append(PrintStreamReport(data.report))
    trainer = VanillaTransformerTrainer(
        model=_model(task, data.tokenizer, main=main),
        args=args,
        data_collator=task.collator(data.tokenizer),
        train_dataset=data.train,
        eval_dataset=data.validation,
        processing_class=data.tokenizer,
        compute_metrics=task.scores(data.tokenizer, data.validation),
        callbacks=[*callbacks, *task.callbacks(data.tokenizer, data.validation)],
    )
    _set_intervals(task, trainer)
    return trainer


def check_ahead(recipe: RunRecipe) -> None:
    """Refuse what `train` would refuse before it reads data.

    Raises:
        InputError: as `train`.
    """
    recipe.require_trainable()
    check_same_recipe(recipe, Path(recipe.output_dir))
    _check(task_of(recipe), training_arguments(recipe))


def _check(task: Task[Any], args: VanillaTransformerTrainingArguments) -> None:
    """Whatever can be refused before data are read."""
    recipe = task.recipe
    check_folders(recipe)
    check_start(recipe)
    task.check_lengths()
    task.check_batches(args.tokens_per_batch or 0)
    check_same_function(task)
    check_parts(task)
    check_attention(task, args.device)
    check_precision(recipe, args.device, main=args.should_save)
    check_trackers(recipe)
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    # As Accelerate makes it of what its launcher says.
    check_sharding(FullyShardedDataParallelPlugin() if sharded else None)


class _Prepared(NamedTuple):
    tokenizer: PreTrainedTokenizerBase
    train: Any
    report: Any
    validation: Any


def _prepare_data(task: Task[Any], args: VanillaTransformerTrainingArguments) -> _Prepared:
    """Tokenizer and rows, made by the main process first; it says what was read."""
    main, output_dir = args.should_save, Path(task.recipe.output_dir)
    with args.main_process_first(local=False), readable_write_errors(output_dir):
        data = task.training_data()
        check_labels(task, main=main)
        check_same_data(task, data, main=main)
        tokenizer = _tokenizer(task, data, main=main)
        check_same_tokenizer(task.recipe, tokenizer, main=main)
        train, report = task.training_rows(data, tokenizer)
        if main and not task.streaming:
            print(f"Training data: {report}", flush=True)
            if first := task.first_row(train, tokenizer):
                print(f"The first of them: {first}", flush=True)
        validation = None
        if task.recipe.has_validation:
            try:
                validation, validation_report = task.validation_rows(tokenizer)
            except InputError as error:
                raise InputError(f"validation data: {error}") from None
            if main:
                print(f"Validation data: {validation_report}", flush=True)
    return _Prepared(tokenizer, train, report, validation)


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
        try:
            tokenizer = VanillaTransformerTokenizer.train_from_iterator(
                task.texts(data), vocab_size=recipe.vocab_size, lowercase=recipe.lowercase
            )
        except ValueError as error:
            raise InputError(f"no tokenizer can be trained: {first_line(error)}") from error
        tokenizer.save_pretrained(output_dir)
    return _load_tokenizer(str(output_dir))


def _load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # `tokenizers` has no class of its own for a damaged file
        raise InputError(f"tokenizer `{name}` cannot be loaded: {first_line(error)}") from None


def _model(task: Task[Any], tokenizer: Any, *, main: bool) -> PreTrainedModel:
    recipe = task.recipe
    set_seed(recipe.seed)
    if recipe.init_from is not None:
        model = _pretrained_model(task)
        if recipe.tokenizer is not None:
            check_same_pieces(recipe, tokenizer, model.config, main=main)
    else:
        fields = {**_tokenizer_fields(tokenizer), **task.config_fields(), **recipe.model_fields}
        config = VanillaTransformerConfig.from_preset(recipe.preset, **fields)
        config._attn_implementation = recipe.attn_implementation
        model = task.model_class(config)
    check_vocabulary(tokenizer, model.config)
    if task.generation:
        set_decoding(model.generation_config, **task.generation)
        with one_line_errors():
            model.generation_config.validate(strict=True)  # as when it is saved
    if recipe.word_vectors is not None:
        report = embed_word_vectors(model, tokenizer, recipe.word_vectors)
        if main:
            print(f"Embeddings: {report}", flush=True)
    if recipe.freeze:
        freeze(model, recipe.freeze)
    return model


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
        check_loaded(name, report)
    elif model.can_generate():
        # How a model of another kind searched says nothing of this one.
        model.generation_config = GenerationConfig.from_model_config(model.config)
    return cast(PreTrainedModel, model)


def _callbacks(recipe: RunRecipe, *, main: bool) -> list[TrainerCallback]:
    callbacks: list[TrainerCallback] = []
    if recipe.early_stopping_patience is not None:
        callbacks.append(StopWithoutImprovement(recipe.early_stopping_patience))
    if recipe.tensorboard and main:
        from torch.utils.tensorboard import SummaryWriter

        output_dir = Path(recipe.output_dir)
        last = checkpoints.last_checkpoint(output_dir)
        # Steps that an interrupted run logged after its last checkpoint are logged again.
        purge = 0 if last is None else checkpoints.checkpoint_step(last) + 1
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
    return stop.is_over(state["log_history"], recipe.metric, checkpoints.greater_is_better(recipe.metric))


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
    scores = _final_scores(task, trainer, best, chosen) if recipe.has_validation else {}
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
        state["log_history"], recipe.metric, greater_is_better=checkpoints.greater_is_better(recipe.metric)
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


def _final_scores(
    task: Task[Any], trainer: VanillaTransformerTrainer, best: Path, chosen: list[Path]
) -> dict[str, dict[str, float]]:
    """Validation scores of the best checkpoint and of the final model, decoded as the final model will."""
    # Their logs ended with the training: another entry would open a second one beside it.
    loggers = get_reporting_integration_callbacks(task.recipe.report_to)
    for kind in (TensorBoardCallback, PrintSamples, *loggers):
        trainer.remove_callback(kind)
    trainer.args.generation_num_beams = None  # as the saved generation defaults say
    of_best = _scores_of(task, trainer, best)
    if chosen == [best]:
        return {"best": of_best, "final": of_best}
    return {"best": of_best, "final": _scores_of(task, trainer, Path(task.recipe.output_dir))}


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
        # The Trainer takes all steps of a stream for one epoch.
        "epochs": None if task.streaming else state["epoch"],
        "parameters": trainer.model.num_parameters(),
        "scores": result.scores,
        "signatures": getattr(trainer.compute_metrics, "signatures", {}),
        "generation": task.generation,
        "hub_dataset": _hub_dataset(task.recipe),
    }


def _hub_dataset(recipe: RunRecipe) -> str | None:
    """The data set that was trained on, unless it is a folder, as only this working directory can tell."""
    name: str | None = getattr(recipe, "dataset", None)
    files = (getattr(recipe, key, None) for key in ("train_source", "train_file"))
    return None if name is None or any(files) or Path(name).exists() else name


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
