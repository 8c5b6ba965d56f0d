"""What happens around the steps: counting tokens, following epochs, restoring sums, stopping early."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..modeling.loss_vanilla_transformer import IGNORED
from .checkpoints import best_steps


@dataclass
class IntervalCounts:
    """What one process saw since the last log: tokens, padding and time, evaluation and saving not counted.

    All counting is on the CPU, before a batch goes to the device, so that no step waits for the device.
    """

    target_tokens: int = 0
    real_positions: int = 0
    positions: int = 0
    seconds: float = 0.0
    _started: float | None = field(default_factory=time.perf_counter)  # None while paused

    def add(self, batch: Mapping[str, torch.Tensor], *, decoded: bool = True) -> None:
        """Count the tokens of a batch: `labels` (N, S), padded with -100, and `attention_mask` (N, T).

        Args:
            batch: what a forward pass takes.
            decoded: the labels are a sequence of their own, which a decoder reads. Otherwise they lie on that
                of the mask, and -100 is no padding there, but what a masked language model need not predict.
        """
        labels, mask = batch.get("labels"), batch.get("attention_mask")
        if labels is not None:
            targets = int(labels.ne(IGNORED).sum())
            self.target_tokens += targets
            if decoded:
                self.real_positions += targets
                self.positions += labels.numel()
        if mask is not None:
            self.real_positions += int(mask.sum())
            self.positions += mask.numel()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time of this block, which may lie in another such block."""
        counted, self.seconds = self._started is not None, self.elapsed()
        self._started = None
        try:
            yield
        finally:
            self._started = time.perf_counter() if counted else None

    def elapsed(self) -> float:
        """Seconds of training since the last log."""
        return self.seconds + (0 if self._started is None else time.perf_counter() - self._started)

    def state(self) -> list[float]:
        """The counts as numbers, for a checkpoint or for adding up over processes."""
        return [self.target_tokens, self.real_positions, self.positions, self.elapsed()]

    @classmethod
    def from_state(cls, state: list[float]) -> IntervalCounts:
        """The counts that `state` gave."""
        targets, real, positions, seconds = state
        return cls(int(targets), int(real), int(positions), seconds)


class TrainingHooks(TrainerCallback):
    """Calls the trainer at the beginning of training and of each epoch.

    Args:
        begin_training: called when the Trainer has set its sums to zero.
        begin_epoch: called with the number of steps done, before the epoch's first batch is drawn.
    """

    def __init__(self, *, begin_training: Callable[[], None], begin_epoch: Callable[[int], None]):
        self._begin_training = begin_training
        self._begin_epoch = begin_epoch

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # A resumed run goes on at the intervals that are asked for now, not at those of before.
        state.compute_steps(args, state.max_steps)
        self._begin_training()

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._begin_epoch(state.global_step)


class StopWithoutImprovement(TrainerCallback):
    """Early stopping that saves a last checkpoint and needs no state of its own: it reads the log.

    transformers' `EarlyStoppingCallback` forgets its count when a run is resumed, unless told otherwise.

    Args:
        patience: evaluations without a better `metric_for_best_model` after which training stops.
    """

    def __init__(self, patience: int):
        if patience <= 0:
            raise ValueError(f"`patience` must be positive, but is {patience} instead.")
        self.patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.is_over(state.log_history, args.metric_for_best_model, bool(args.greater_is_better)):
            control.should_training_stop = True
            control.should_save = True

    def is_over(self, log_history: list[dict[str, Any]], metric: str | None, greater_is_better: bool) -> bool:
        """Whether the last `patience` evaluations brought nothing better."""
        ranked = best_steps(log_history, metric or "loss", greater_is_better=greater_is_better)
        return bool(ranked) and len(ranked) - 1 - sorted(ranked).index(ranked[0]) >= self.patience


class PrintStreamReport(TrainerCallback):
    """Prints in the end what became of the pairs of a stream, in all passes together."""

    def __init__(self, report: object) -> None:
        self.report = report

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Print the line; what a window has read and no step has used is counted too."""
        print(f"Training data, all that was read: {self.report}", flush=True)
