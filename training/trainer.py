"""`VanillaTransformerTrainer`: `Seq2SeqTrainer` with the batches, the loss and the schedule of the paper."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel
from transformers.trainer_utils import TrainOutput, has_length

from ..errors import InputError
from ..modeling.progress import no_progress_bars
from ..modeling.translation_vanilla_transformer import learned_positions
from . import checkpoints
from .arguments import VanillaTransformerTrainingArguments
from .batching import (
    StreamingTokenBatches,
    TokenBatchSampler,
    TokenizedPairs,
    has_length_columns,
    pair_lengths,
)
from .callbacks import IntervalCounts, TrainingHooks
from .collator import TranslationCollator
from .evaluating_trainer import EvaluatingTrainer
from .parts import learning_rate_factors_of, scale_learning_rates
from .schedule import get_paper_schedule
from .scoring import TranslationScores
from .segmentation import SPARE_BATCHES, EpochSegmentation

logger = logging.getLogger(__name__)

PROGRESS_FILE = "training_progress.pt"
# What torch.compile and the recomputing of activations put into the names of the weights they wrap.
WRAPPERS = re.compile(r"_orig_mod\.|_checkpoint_wrapped_module\.")
# What helps where training diverges.
DIVERGENCE_ADVICE = "lower `learning_rate_scale`, raise `warmup_steps`, clip with `max_grad_norm`"


class VanillaTransformerTrainer(EvaluatingTrainer):
    """`Seq2SeqTrainer` that adds what training a Transformer as in the paper lacks there.

    - Batches by tokens (`tokens_per_update`, `tokens_per_device`), sorted by length, the same after a resume.
    - Label smoothing in the model's own loss, in training only; evaluation loss exact per token, perplexity.
    - The paper's learning rate, and no gradient norm computed when nothing is clipped.
    - Target tokens per second and the padding share in the log; an error when the loss is nan.
    - Checkpoints that are whole or absent, and hold all that a bitwise equal continuation needs.

    Given plain `Seq2SeqTrainingArguments`, or `tokens_per_update=None`, it batches by sentences as the stock
    trainer does.

    Args:
        model: a sequence-to-sequence model; ours takes `label_smoothing` in `forward`, for others
            transformers' `LabelSmoother` stays in use.
        args: the arguments; `VanillaTransformerTrainingArguments` by default.
        data_collator: by default a `TranslationCollator` of `processing_class`.
        train_dataset: map-style or streamed pairs with columns `input_ids` and `labels`; the columns
            `source_length` and `target_length` spare counting.
        processing_class: the tokenizer. With it, and no `compute_metrics`, evaluation gives BLEU and chrF.
        kwargs: as for `Seq2SeqTrainer`.

    Raises:
        InputError: data, checkpoints or a disk that cannot be used, or a loss that is nan or infinite.
    """

    # What the Trainer annotates as possibly absent, or only in general.
    model: Any
    optimizer: Any
    train_dataset: Any
    eval_dataset: Any

    def __init__(
        self,
        model: PreTrainedModel | None = None,
        args: Any = None,
        data_collator: Callable[[Sequence[Any]], dict[str, torch.Tensor]] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        **kwargs: Any,
    ):
        if args is None:
            args = VanillaTransformerTrainingArguments(output_dir="tmp_trainer")
        ours = isinstance(args, VanillaTransformerTrainingArguments)
        generates = getattr(args, "predict_with_generate", False)
        if processing_class is not None and generates and kwargs.get("compute_metrics") is None:
            kwargs["compute_metrics"] = TranslationScores(processing_class)
        # The Trainer switches the cache off in the configuration, and would save that with the model.
        self._use_cache = getattr(getattr(model, "config", None), "use_cache", None)
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        if processing_class is not None and data_collator is None:
            self.data_collator = _default_collator(self.model, processing_class)
        if factors := getattr(args, "learning_rate_factors", None):
            # A part that the model does not have is told now, and not when training begins.
            learning_rate_factors_of(self.accelerator.unwrap_model(self.model), factors)
        self._share_one_module(self.model)
        self._own_loss = self._model_has_own_loss()
        config = getattr(self.accelerator.unwrap_model(self.model), "config", None)
        self._decodes = bool(getattr(config, "is_encoder_decoder", True))
        if self._own_loss:
            self.label_smoother = None
        self._tokens_per_batch = args.tokens_per_batch if ours else None
        self._sampler: TokenBatchSampler | None = None
        # What the batches of the sampler were planned for, and how.
        self._planned_data: Any = None
        self._planned: tuple[Any, ...] | None = None
        self._segmentation: EpochSegmentation | None = None
        self._pairs: _Replaceable | None = None
        self._counts = IntervalCounts()
        self._staging: Path | None = None
        self._keep_last: int | None = args.save_total_limit
        self._resumed_from: Path | None = None
        self._flops_per_token: int | None = None
        self.add_callback(TrainingHooks(begin_training=self._begin_training, begin_epoch=self._begin_epoch))

    def call_model_init(self, trial: Any = None) -> Any:
        """As in the Trainer, which makes a model anew for each training."""
        model = super().call_model_init(trial)
        self._share_one_module(model)
        return model

    def _share_one_module(self, model: Any) -> None:
        """Let one module hold the matrix that encoder and decoder share, where it is split over processes.

        Otherwise three hold it, and each would be split by itself.
        """
        config = getattr(model, "config", None)
        if self.is_fsdp_enabled and getattr(config, "share_encoder_decoder_embeddings", False):
            model.set_input_embeddings(model.get_input_embeddings())

    def _model_has_own_loss(self) -> bool:
        """Whether `forward` takes `label_smoothing` and `return_logits`, as ours does."""
        model = self.accelerator.unwrap_model(self.model)
        model = model.get_base_model() if hasattr(model, "get_base_model") else model
        return getattr(model, "accepts_label_smoothing", False)

    # Batches

    @property
    def updates_per_epoch(self) -> int | None:
        """Optimizer steps of one pass over the training data; `None` for a stream."""
        if self._sampler is None:
            return None
        return math.ceil(len(self._sampler) / self.args.gradient_accumulation_steps)

    def get_train_dataloader(self) -> DataLoader:
        """The training data in batches by tokens, already this process's share."""
        if self._tokens_per_batch is None or self.train_dataset is None:
            return super().get_train_dataloader()
        self.args.plan_tokens()
        self._tokens_per_batch = self.args.tokens_per_batch
        if not has_length(self.train_dataset):
            return self._data_loader(
                self._streaming_batches(),
                batch_size=None,
                # A stream is read in one piece, so that a second worker would have nothing to do.
                num_workers=min(self.args.dataloader_num_workers, 1),
                prefetch_factor=self.args.dataloader_prefetch_factor,
            )
        workers = self.args.dataloader_num_workers
        self.plan_batches()
        return self._data_loader(
            self._pairs,
            batch_sampler=self._sampler,
            num_workers=workers,
            # Workers that outlive an epoch would not see the next segmentation, nor the collator's epoch.
            persistent_workers=workers > 0
            and self.args.dataloader_persistent_workers
            and not self._segmentation
            and not hasattr(self.data_collator, "set_epoch"),
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )

    def plan_batches(self) -> None:
        """Sort the training pairs into batches; `updates_per_epoch` is known from then on."""
        layout, dropout = self._batch_layout(), getattr(self.args, "bpe_dropout", 0.0)
        plan = (dropout, *layout.values())
        if self._planned_data is self.train_dataset and self._planned == plan:
            return
        self._segmentation = None
        if dropout:
            self._segmentation = self._new_segmentation()
            lengths: tuple[Any, Any] = self._segmentation.planning_lengths()
            spare = SPARE_BATCHES
        else:
            lengths, spare = pair_lengths(self.train_dataset), 0.0
        self._planned_data, self._planned = self.train_dataset, plan
        self._pairs = _Replaceable(_fast_rows(self.train_dataset))
        text_keys = getattr(self.data_collator, "length_keys", ())
        self._sampler = TokenBatchSampler(*lengths, spare=spare, text_keys=text_keys, **layout)

    def _streaming_batches(self) -> StreamingTokenBatches:
        if self.args.bpe_dropout:
            raise InputError("`bpe_dropout` cannot be used with streamed training data.")
        return StreamingTokenBatches(
            self.train_dataset, window=self.args.streaming_window, repeat=True, **self._batch_layout()
        )

    def _batch_layout(self) -> dict[str, Any]:
        args = self.args
        return {
            "tokens_per_batch": self._tokens_per_batch,
            "batches_per_update": args.gradient_accumulation_steps * args.world_size,
            "num_processes": args.world_size,
            "process_index": args.process_index,
            "seed": args.seed if args.data_seed is None else args.data_seed,
            "pad_to_multiple_of": getattr(self.data_collator, "pad_to_multiple_of", None),
        }

    def _new_segmentation(self) -> EpochSegmentation:
        segmentation = EpochSegmentation(
            self.train_dataset,
            self.processing_class,
            dropout=self.args.bpe_dropout,
            run_dir=self.args.output_dir,
            limits=self._dropout_limits(),
            main=self.args.should_save,
            wait=self.accelerator.wait_for_everyone,
        )
        segmentation.start(anew=not checkpoints.list_checkpoints(self.args.output_dir))
        return segmentation

    def _dropout_limits(self) -> tuple[int, int]:
        """Most tokens of a source and of a target that BPE-dropout may make: as many as can be trained on."""
        args = self.args
        multiple = getattr(self.data_collator, "pad_to_multiple_of", None) or 1
        width = self._tokens_per_batch and self._tokens_per_batch // multiple * multiple
        positions = learned_positions(getattr(self.accelerator.unwrap_model(self.model), "config", None))
        source, target = (
            min(limit for limit in (length, positions, width) if limit is not None)
            for length in (args.bpe_dropout_max_source_length, args.bpe_dropout_max_target_length)
        )
        return source, target

    def _data_loader(self, dataset: Any, **settings: Any) -> DataLoader:
        settings["pin_memory"] = self.args.dataloader_pin_memory
        collate: Any = self.data_collator
        if not isinstance(collate, TranslationCollator):  # which takes no other columns
            collate = self._get_collator_with_removed_columns(collate, description="training")
        return DataLoader(dataset, collate_fn=collate, **settings)

    def get_total_train_batch_size(self, args: Any) -> int:
        """Pairs of an optimizer step, on average when batches are made by tokens."""
        if self.updates_per_epoch is None:
            return super().get_total_train_batch_size(args)
        return max(round(len(self.train_dataset) / self.updates_per_epoch), 1)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """The micro-batches of the next update, counted and on their way to the device."""
        try:
            batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        except InputError as error:
            raise _without_traceback(error) from None
        if self._tokens_per_batch is None:
            return batches, items
        for batch in batches:
            self._counts.add(batch, decoded=self._decodes)
        return [_to_device(batch, device) for batch in batches], items

    def _begin_epoch(self, global_step: int) -> None:
        """Put the batches in the order of this epoch, also when it is resumed in its middle.

        Args:
            global_step: updates done so far.
        """
        if not has_length(self.train_dataset):
            return
        length = self.updates_per_epoch
        epoch = int(self.state.epoch or 0) if length is None else global_step // length
        if hasattr(self.data_collator, "set_epoch"):
            self.data_collator.set_epoch(epoch)
        if self._sampler is None or self._pairs is None:
            return
        self._sampler.set_epoch(epoch)
        if self._segmentation is not None:
            pairs = TokenizedPairs(self._segmentation.epoch(epoch))
            self._pairs.rows = pairs
            self._sampler.set_lengths(pairs.source_lengths, pairs.target_lengths)
            # Workers are forked, which a thread at work is not safe for.
            alone = self.args.dataloader_num_workers == 0
            if alone and length is not None and (epoch + 1) * length < self.state.max_steps:
                self._segmentation.draw_ahead(epoch + 1)

    # Loss and schedule

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The model's loss: in training with label smoothing, in evaluation the mean over the tokens."""
        if not model.training:
            num_items_in_batch = None
        elif "labels" in inputs and self.compute_loss_func is None and self.label_smoother is None:
            inputs = {**inputs, **self._loss_options(return_outputs)}
        return super().compute_loss(
            model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
        )

    def _loss_options(self, return_outputs: bool) -> dict[str, Any]:
        """What our model's loss takes beside the batch; nobody reads the logits of a training step."""
        if not self._own_loss:
            return {}
        # Sharded weights are gathered by the forward pass of their layer, which the loss alone does without.
        return_logits = return_outputs or self.is_fsdp_enabled
        # A search for hyper-parameters sets the argument for each of its trainings.
        smoothing = float(self.args.label_smoothing_factor)
        return {"label_smoothing": smoothing, "return_logits": return_logits}

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **gen_kwargs: Any,
    ) -> tuple[Any, Any, Any]:
        """As in `EvaluatingTrainer`, but our model computes no logits where nobody reads them."""
        caller: Any = model
        if "labels" in inputs and self._own_loss and not self.is_fsdp_enabled:
            if self.args.predict_with_generate and not prediction_loss_only:
                # Only the loss is asked of what is given here; `generate()` is called on `self.model`.
                caller = partial(model, return_logits=False)
            elif prediction_loss_only and self._has_own_compute_loss():
                inputs = {**inputs, "return_logits": False}
        return super().prediction_step(caller, inputs, prediction_loss_only, ignore_keys, **gen_kwargs)

    def _has_own_compute_loss(self) -> bool:
        """Whether no function and no subclass of the user computes the loss, which may read the logits."""
        inherited = type(self).compute_loss is VanillaTransformerTrainer.compute_loss
        return inherited and self.compute_loss_func is None

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The Trainer's optimizer, with groups of their own for the parts in `learning_rate_factors`."""
        factors = getattr(self.args, "learning_rate_factors", None)
        given = self.optimizer is not None
        optimizer = super().create_optimizer(model)
        if factors and not given:
            unwrapped = self.accelerator.unwrap_model(self.model if model is None else model)
            scale_learning_rates(optimizer, unwrapped, factors)
        return optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The learning rate of section 5.3, unless `paper_schedule` is off or a scheduler was given."""
        if self.lr_scheduler is None and getattr(self.args, "paper_schedule", False):
            self.lr_scheduler = get_paper_schedule(
                self.optimizer if optimizer is None else optimizer,
                d_model=_width(self.accelerator.unwrap_model(self.model).config),
                warmup=self.args.get_warmup_steps(num_training_steps),
                scale=self.args.learning_rate_scale,
            )
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """Without clipping, do not read all gradients once more for the sake of the log."""
        if grad_norm is None and self._tokens_per_batch is not None:
            return None
        return super()._get_grad_norm(model, grad_norm=grad_norm)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """As the Trainer estimates it, but with the parameters counted once and not in every step."""
        if "input_ids" not in inputs or not hasattr(self.model, "num_parameters"):
            return super().floating_point_ops(inputs)
        if self._flops_per_token is None:
            self._flops_per_token = 6 * self.model.num_parameters(exclude_embeddings=True)
        return self._flops_per_token * inputs["input_ids"].numel()

    # Log

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; a training loss gets the speed and the padding share of its interval beside it.

        Raises:
            InputError: the training loss is nan or infinite.
        """
        if self.is_in_train and "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise InputError(
                    f"the training loss is {logs['loss']} at step {self.state.global_step}:"
                    f" {DIVERGENCE_ADVICE}, or use bf16 instead of fp16."
                )
            if self._tokens_per_batch is not None:
                logs.update(self._interval_speed())
        super().log(logs, start_time)

    def _interval_speed(self) -> dict[str, float]:
        """Target tokens (no padding) per second over all devices, and the padding share of the interval."""
        rows = self._gather_rows(self._counts.state())
        self._counts = IntervalCounts()
        targets, real, positions, _ = (sum(column) for column in zip(*rows, strict=True))
        seconds = max(row[3] for row in rows)
        return {
            "target_tokens_per_second": round(targets / max(seconds, 1e-9), 1),
            "padding_share": round(1 - real / max(positions, 1), 4),
        }

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in `EvaluatingTrainer`; its time is not that of training."""
        with self._counts.paused():
            return super().evaluate(*args, **kwargs)

    # Checkpoints

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train, or continue from a checkpoint as if never interrupted.

        Args:
            resume_from_checkpoint: a checkpoint folder, or `True` for the last whole one in `output_dir`.
            trial, ignore_keys_for_eval: as in the Trainer.

        Raises:
            InputError: there is no whole checkpoint, or the given one is damaged; or the one to continue from
                has no state of the optimizer or of the learning rate.
        """
        checkpoint: Path | None = None
        if resume_from_checkpoint is True:
            checkpoint = checkpoints.last_checkpoint(self.args.output_dir)
            if checkpoint is None:
                raise InputError(f"`{self.args.output_dir}` holds no whole checkpoint to continue from.")
        elif resume_from_checkpoint:
            checkpoint = Path(resume_from_checkpoint)
            checkpoints.check_checkpoint(checkpoint)
        if checkpoint is not None:
            checkpoints.check_resumable(checkpoint)
        if self.args.should_save:
            checkpoints.clean_leftovers(self.args.output_dir)
        self._resumed_from = checkpoint
        try:
            with self._own_rotation():
                resumed = None if checkpoint is None else str(checkpoint)
                return super().train(resumed, trial, ignore_keys_for_eval)
        finally:
            if self._segmentation is not None:
                self._segmentation.stop()

    def set_initial_training_values(self, args: Any, dataloader: DataLoader) -> tuple[Any, ...]:
        """As in the Trainer, but no epoch follows the last step: the Trainer would make one step more."""
        epochs, updates, *others, max_steps = super().set_initial_training_values(args, dataloader)
        if self._resumed_from is not None:
            done = int(checkpoints.read_state(self._resumed_from)["global_step"])
            if done >= max_steps:
                epochs = done // updates
                if args.should_save:
                    logger.warning("There is nothing more to train: the %d steps of the run are done.", done)
        return epochs, updates, *others, max_steps

    @contextmanager
    def _own_rotation(self) -> Iterator[None]:
        """Hide `save_total_limit`: at 1 the Trainer would in the end delete all checkpoints but the best."""
        self._keep_last, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            yield
        finally:
            self.args.save_total_limit = self._keep_last

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model with its own `use_cache`, which the Trainer switches off while it trains."""
        config: Any = getattr(self.model, "config", None)
        training_value = getattr(config, "use_cache", None)
        if self._use_cache is not None:
            config.use_cache = self._use_cache
        try:
            with no_progress_bars():
                super().save_model(output_dir, _internal_call)
        finally:
            if self._use_cache is not None:
                config.use_cache = training_value

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Save a tied matrix once also where it was gathered from several processes, name by name."""
        if state_dict is not None:
            tied = getattr(self.model, "all_tied_weights_keys", None) or {}
            state_dict = {name: value for name, value in state_dict.items() if name not in tied}
        super()._save(output_dir, state_dict)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Tell of keys that a checkpoint lacks, but not of tied matrices, which are saved once."""
        tied = getattr(self.model, "all_tied_weights_keys", None) or {}
        missing = [name for name in load_result.missing_keys if name not in tied]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def load_weights(self, folder: str | Path) -> None:
        """Replace the model's weights by those in `folder/model.safetensors`, on every process alike."""
        weights = safetensors.torch.load_file(Path(folder) / checkpoints.WEIGHTS_FILE)
        if not self.is_fsdp_enabled:
            self.model.load_state_dict(weights, strict=False)  # tied matrices are saved once
            return
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                value = weights[WRAPPERS.sub("", name)]
                if isinstance(parameter, DTensor):
                    value = distribute_tensor(value, parameter.device_mesh, parameter.placements)
                parameter.copy_(value)

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._staging is None else str(self._staging)

    def _check_weights(self) -> None:
        """Refuse to save what is lost: the loss is looked at where it is logged, which may be much later.

        Raises:
            InputError: a weight is nan or infinite.
        """
        if self.is_fsdp_enabled:  # a process would see its own part alone
            return
        trained = (weight for weight in self.model.parameters() if weight.requires_grad)
        if not all(bool(weight.isfinite().all()) for weight in trained):
            raise InputError(
                f"after step {self.state.global_step} the weights are nan or infinite: {DIVERGENCE_ADVICE}."
            )

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write the checkpoint beside, rename it when it is whole, then delete those no longer wanted."""
        self._check_weights()
        final = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        main, wait = self.args.should_save, self.accelerator.wait_for_everyone
        with self._counts.paused(), checkpoints.written_whole(final, main=main, wait=wait) as folder:
            progress = self._progress()
            self._staging = folder.parent
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._staging = None
            self._note_best(final)
            if main:
                self.state.save_to_json(str(folder / checkpoints.STATE_FILE))
                torch.save(progress, folder / PROGRESS_FILE)
        if self.args.push_to_hub:
            self.push_checkpoint(final)
        if main:
            if self._segmentation is not None and self.updates_per_epoch:
                self._segmentation.forget_before(self.state.global_step // self.updates_per_epoch)
            checkpoints.rotate(
                final.parent,
                keep_last=self._keep_last,
                # This one too, where a run of before left checkpoints of later steps.
                keep_steps=[*self._best_saved_steps(final.parent), self.state.global_step],
            )

    def _note_best(self, final: Path) -> None:
        """Name the best checkpoint by its lasting place, and not by where it is being written."""
        best = self.state.best_global_step
        if best:
            path = final.parent / f"checkpoint-{best}"
            self.state.best_model_checkpoint = str(path) if path == final or path.is_dir() else None

    def _best_saved_steps(self, run_dir: Path) -> list[int]:
        metric = self.args.metric_for_best_model
        if metric is None:
            return []
        saved = {checkpoints.checkpoint_step(path) for path in checkpoints.list_checkpoints(run_dir)}
        return checkpoints.best_steps(
            [entry for entry in self.state.log_history if entry["step"] in saved],
            metric,
            greater_is_better=bool(self.args.greater_is_better),
            count=max(getattr(self.args, "keep_best_checkpoints", 0), 1),
        )

    def _progress(self) -> dict[str, Any]:
        """Sums that the Trainer keeps between two logs and does not save itself, for each process."""
        row = [float(self._tr_loss), float(self._globalstep_last_logged), *self._counts.state()]
        return self._batching() | {"processes": self._gather_rows(row)}

    def _batching(self) -> dict[str, int | None]:
        """What decides, beside the data and the number of processes, which sentences are in a batch."""
        tokens = getattr(self.args, "tokens_per_device", None)  # of our own arguments alone
        return {"updates_per_epoch": self.updates_per_epoch, "tokens_per_device": tokens}

    def _begin_training(self) -> None:
        """Restore the sums of an interrupted run, so that its next log is that of an uninterrupted one."""
        self._counts = IntervalCounts()
        path = None if self._resumed_from is None else self._resumed_from / PROGRESS_FILE
        if path is None or not path.is_file():
            return
        progress = torch.load(path, weights_only=True)
        rows = progress["processes"]
        now = self._batching()
        before = {name: progress.get(name, value) for name, value in now.items()}  # older ones lack some
        if len(rows) != self.args.world_size or before != now:
            logger.warning(
                "The checkpoint was written by %d processes with %s, now there are %d with %s: training"
                " continues, but not on the same batches.",
                len(rows),
                _listed(before),
                self.args.world_size,
                _listed(now),
            )
            return
        tr_loss, last_logged, *counts = rows[self.args.process_index]
        self._tr_loss += tr_loss
        # What was summed before does not belong to the mean loss of this call.
        self._total_loss_scalar -= sum(row[0] for row in rows) / len(rows)
        self._globalstep_last_logged = int(last_logged)
        self._counts = IntervalCounts.from_state(counts)


class _Replaceable(Dataset):
    """Rows that can be exchanged while a DataLoader holds on to this object."""

    def __init__(self, rows: Any):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        if hasattr(self.rows, "__getitems__"):
            return self.rows.__getitems__(indices)
        return [self.rows[index] for index in indices]


def _fast_rows(dataset: Any) -> Any:
    return TokenizedPairs(dataset) if has_length_columns(dataset) else dataset


def _width(config: Any) -> int:
    """The d_model of any model; that of the decoder where encoder and decoder have a configuration each.

    Raises:
        InputError: the configuration does not say.
    """
    for part in (config, config.get_text_config(decoder=True)):
        for name in ("d_model", "hidden_size"):
            if isinstance(width := getattr(part, name, None), int):
                return width
    raise InputError(
        f"`paper_schedule` needs the width of the model, which a {type(config).__name__} does not say: set it"
        " to False, and `learning_rate`."
    )


def _default_collator(model: Any, tokenizer: Any) -> TranslationCollator:
    """A collator whose targets begin as the model's do, or else with the tokenizer's <s>.

    Raises:
        InputError: neither says what a target begins with.
    """
    start = getattr(getattr(model, "config", None), "decoder_start_token_id", None)
    start = tokenizer.bos_token_id if start is None else start
    if start is None:
        raise InputError(
            "nothing says what a target begins with, as the tokenizer has no <s>: set"
            " `decoder_start_token_id` in the model's config, or give a `data_collator`."
        )
    return TranslationCollator(tokenizer, decoder_start_token_id=start)


def _to_device(batch: Any, device: torch.device) -> Any:
    """Start the copy without waiting for it; pinned memory makes that possible."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }


def _without_traceback(error: InputError) -> InputError:
    """An error as it was raised, without the traceback that a DataLoader's worker puts before it."""
    return InputError(str(error).rpartition(f".{InputError.__name__}: ")[2].strip())


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
