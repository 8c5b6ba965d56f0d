"""Arguments of `VanillaTransformerTrainer`: transformers' own, with the paper's values as defaults."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, fields

from transformers import Seq2SeqTrainingArguments

from .batching import plan_accumulation
from .parts import check_learning_rate_factors

logger = logging.getLogger(__name__)

# Tokens of a forward pass where nobody says how many. On a CPU more of them took up to a third longer each.
CPU_TOKENS, DEVICE_TOKENS = 1024, 4096


@dataclass
class VanillaTransformerTrainingArguments(Seq2SeqTrainingArguments):
    """`Seq2SeqTrainingArguments` with batches by tokens and the optimisation of section 5 of the paper.

    Adam with beta 0.9 and 0.98 and epsilon 1e-9 (AdamW, the Trainer's default, is Adam while `weight_decay`
    is 0), label smoothing 0.1, no clipping, 4,000 warm-up steps. `gradient_accumulation_steps` follows from
    the token limits and the number of processes; it and `per_device_train_batch_size` need not be given.
    Several GPUs need several processes (`accelerate launch`): one process uses one GPU.

    Args:
        tokens_per_update: most padded source tokens, and most padded target tokens, of one optimizer step
            over all devices and accumulation; `None` batches by sentences, as the stock Trainer.
        tokens_per_device: most padded source or target tokens of one forward pass on one device; `None` is
            what computes fast: 1,024 on a CPU, where larger batches leave its caches, and 4,096 elsewhere.
        paper_schedule: the learning rate of section 5.3; else that of `learning_rate`, `lr_scheduler_type`,
            which are ignored otherwise; a warning says so where they are not the defaults.
        learning_rate_scale: factor on the paper's learning rate.
        learning_rate_factors: part of the model, as `vanilla_transformer.training.parts` names them -> factor
            on the learning rate of its parameters, whatever the schedule; 1 for all others.
        bpe_dropout: share of merges left out at random, anew in each epoch; the training data set must hold
            the text columns `source` and `target`.
        bpe_dropout_max_source_length: most tokens of a source, </s> counted, that `bpe_dropout` may make; a
            pair that would be longer keeps its usual segmentation. `None` leaves it to the tokens of a batch
            and the learned positions of the model, which limit it in any case.
        bpe_dropout_max_target_length: the same for a target.
        streaming_window: pairs that a stream holds at once, to shuffle them and sort them by length.
        keep_best_checkpoints: how many checkpoints with the best `metric_for_best_model` are kept besides the
            last `save_total_limit`.

    Raises:
        ValueError: a value outside its limits.
    """

    # What the Trainer's own arguments read from JSON, where a command line gives it.
    _VALID_DICT_FIELDS = [*Seq2SeqTrainingArguments._VALID_DICT_FIELDS, "learning_rate_factors"]

    tokens_per_update: int | None = field(
        default=25_000,
        metadata={"help": "Most padded source tokens, and most padded target tokens, of one optimizer step."},
    )
    tokens_per_device: int | None = field(
        default=None,
        metadata={"help": "Most padded source or target tokens of one forward pass on one device."},
    )
    paper_schedule: bool = field(
        default=True,
        metadata={"help": "Use the paper's learning rate instead of learning_rate and lr_scheduler_type."},
    )
    learning_rate_scale: float = field(default=1.0, metadata={"help": "Factor on the paper's learning rate."})
    learning_rate_factors: dict[str, float] | str | None = field(
        default=None,
        metadata={"help": 'Part of the model -> factor on its learning rate, as JSON: {"encoder": 0.1}.'},
    )
    bpe_dropout: float = field(
        default=0.0, metadata={"help": "Share of byte-pair merges left out at random, anew in each epoch."}
    )
    bpe_dropout_max_source_length: int | None = field(
        default=None, metadata={"help": "Most tokens of a source that bpe_dropout may make."}
    )
    bpe_dropout_max_target_length: int | None = field(
        default=None, metadata={"help": "Most tokens of a target that bpe_dropout may make."}
    )
    streaming_window: int = field(
        default=100_000, metadata={"help": "Pairs that a stream holds at once to shuffle and sort by length."}
    )
    keep_best_checkpoints: int = field(
        default=0, metadata={"help": "Best checkpoints kept besides the last save_total_limit ones."}
    )
    warmup_steps: float = field(
        default=4000,
        metadata={"help": "Steps during which the learning rate rises; below 1, a share of all steps."},
    )
    adam_beta2: float = field(default=0.98, metadata={"help": "Adam's beta_2."})
    adam_epsilon: float = field(default=1e-9, metadata={"help": "Adam's epsilon."})
    max_grad_norm: float = field(
        default=0.0, metadata={"help": "Clip gradients to this norm; 0 never clips."}
    )
    label_smoothing_factor: float = field(
        default=0.1, metadata={"help": "Probability that label smoothing spreads over the vocabulary."}
    )
    predict_with_generate: bool = field(
        default=True, metadata={"help": "Evaluate translations (BLEU, chrF) and not only the loss."}
    )
    generation_num_beams: int | None = field(
        default=1, metadata={"help": "Beams when evaluating; 1 is greedy."}
    )
    per_device_eval_batch_size: int = field(
        default=64, metadata={"help": "Sentences of an evaluation batch per device."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Look for parameters without gradients; the model has none."}
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={"help": "Leave out losses that are nan or inf; waits for the device in every step."},
    )

    def __post_init__(self) -> None:
        self._check_limits()
        super().__post_init__()
        if isinstance(self.learning_rate_factors, dict):
            check_learning_rate_factors(self.learning_rate_factors)
        self._warn_of_another_schedule()
        # The stock loaders warn of pinned memory where there is nothing to copy to.
        self.dataloader_pin_memory = self.dataloader_pin_memory and self.device.type != "cpu"
        self.tokens_per_batch: int | None = None
        self.plan_tokens()
        if self.tokens_per_update is not None:
            # DataParallel would split batches that are cut to the size of one device.
            self._n_gpu = min(self.n_gpu, 1)

    def plan_tokens(self) -> None:
        """Sets `tokens_per_batch` and `gradient_accumulation_steps` by the tokens of an update and a device.

        Each training calls it again, as a search for hyper-parameters sets the arguments one by one.
        """
        if self.tokens_per_update is None:
            return
        if self.tokens_per_device is None:
            self.tokens_per_device = CPU_TOKENS if self.device.type == "cpu" else DEVICE_TOKENS
        self.gradient_accumulation_steps, self.tokens_per_batch = plan_accumulation(
            self.tokens_per_update, self.tokens_per_device, self.world_size
        )

    def _warn_of_another_schedule(self) -> None:
        defaults = {one.name: one.default for one in fields(self)}
        names = ("learning_rate", "lr_scheduler_type")
        ignored = [name for name in names if getattr(self, name) != defaults[name]]
        if self.paper_schedule and ignored and self.should_log:
            logger.warning(
                "`paper_schedule` is on and sets the learning rate: with `paper_schedule=False`, %s would be"
                " followed.",
                " and ".join(f"`{name}`" for name in ignored),
            )

    def _check_limits(self) -> None:
        lengths = ("bpe_dropout_max_source_length", "bpe_dropout_max_target_length")
        for name in ("tokens_per_update", "tokens_per_device", "streaming_window", *lengths):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"`{name}` must be positive, but is {value} instead.")
        if not 0 <= self.bpe_dropout < 1:
            raise ValueError(
                f"`bpe_dropout` must be at least 0 and below 1, but is {self.bpe_dropout} instead."
            )
        if self.bpe_dropout and self.tokens_per_update is None:
            raise ValueError("`bpe_dropout` needs batches by tokens, but `tokens_per_update` is None.")
        for name in ("learning_rate_scale", "keep_best_checkpoints"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, but is {getattr(self, name)} instead.")
        if self.paper_schedule and self.warmup_steps <= 0:
            raise ValueError(f"`warmup_steps` must be positive, but is {self.warmup_steps} instead.")
