"""How a run is evaluated: the loss exact per token, translations as `translate` makes them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset
from transformers.trainer_utils import EvalLoopOutput, default_compute_objective, has_length

from ..modeling.loss_vanilla_transformer import IGNORED
from ..modeling.translation_vanilla_transformer import length_limit
from .batching import pair_lengths
from .hub_trainer import HubTrainer


class EvaluatingTrainer(HubTrainer):
    """`Seq2SeqTrainer` whose evaluation does not depend on its batches, its processes or its autocast."""

    # What the Trainer annotates as possibly absent, or only in general.
    model: Any
    eval_dataset: Any

    # Set by a subclass that makes batches by tokens: then it also sorts and limits what it evaluates.
    _tokens_per_batch: int | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._tally: EvaluationTally | None = None
        self._saved_max_length: int | None = None

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in `Seq2SeqTrainer`; the loss is exact per token, and `perplexity` is its exponential.

        What it draws at random, if only a seed for its batches, does not change the training after it.
        """
        with torch.random.fork_rng(devices=[]), self._without_autocast():
            return super().evaluate(*args, **kwargs)

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, float]] | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """As in the Trainer; `compute_objective` is the sum of the scores by default, see `sum_of_scores`."""
        return super().hyperparameter_search(hp_space, compute_objective or sum_of_scores, *args, **kwargs)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """The evaluation data, longest sentences first, so that little is padded."""
        if self._tokens_per_batch is None or self.args.dataloader_persistent_workers:
            return super().get_eval_dataloader(eval_dataset)
        if isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        elif eval_dataset is None:
            eval_dataset = self.eval_dataset
        scores = self.compute_metrics
        if scores is None or getattr(scores, "any_order", False):
            eval_dataset = _longest_first(eval_dataset)
        return super().get_eval_dataloader(eval_dataset)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As in the Trainer, but each sentence counts once on several processes, and each token equally."""
        self._wrap_for_evaluation()
        self.gather_function = self.accelerator.gather_for_metrics
        dataset = getattr(dataloader, "dataset", None)
        splits = self.accelerator.split_batches  # a batch, over the processes
        self._tally = tally = EvaluationTally(
            sentences=len(dataset) if has_length(dataset) else None,
            batch_size=self.args.eval_batch_size // (self.args.world_size if splits else 1),
            processes=self.args.world_size,
            process=self.args.process_index,
        )
        with self._evaluation_settings(), self._without_autocast():
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        loss, tokens = (
            sum(column) for column in zip(*self._gather_rows([tally.loss, tally.tokens]), strict=True)
        )
        if tokens and output.metrics is not None:
            output.metrics[f"{metric_key_prefix}_loss"] = loss / tokens
            output.metrics[f"{metric_key_prefix}_perplexity"] = math.exp(min(loss / tokens, 700.0))
        return output

    def _wrap_for_evaluation(self) -> None:
        """Let Accelerate wrap a model that was not trained yet, before its autocast is put off."""
        elsewhere = self.is_fsdp_enabled or self.is_deepspeed_enabled or self.args.n_gpu > 1
        if self.accelerator.native_amp and not (elsewhere or self.accelerator._models):
            wrapped = self.accelerator.prepare_model(self.model, evaluation_mode=True)
            if wrapped is not self.model:
                self.model_wrapped = wrapped

    @contextmanager
    def _evaluation_settings(self) -> Iterator[None]:
        """Decode with a copy of the generation config: the Trainer writes the library's defaults into it."""
        label_smoother, self.label_smoother = self.label_smoother, None
        generation_config = getattr(self.model, "generation_config", None)
        if generation_config is not None:
            self.model.generation_config = copy.deepcopy(generation_config)
            self.model.generation_config.update(num_return_sequences=1, return_dict_in_generate=False)
            self._saved_max_length = generation_config.max_length
            asked_for = getattr(self, "_gen_kwargs", {}).get("num_beams")
            if (asked_for or getattr(self.args, "generation_num_beams", None)) == 1:
                # Settings of beam search, of which greedy decoding would warn in every batch.
                self.model.generation_config.update(num_beams=1, length_penalty=1.0, early_stopping=False)
        try:
            yield
        finally:
            self.label_smoother, self._tally = label_smoother, None
            if generation_config is not None:
                self.model.generation_config = generation_config

    @contextmanager
    def _without_autocast(self) -> Iterator[None]:
        """Evaluate in the type of the weights, in which the model will be used.

        Accelerate's wrapper of `forward` would cast all weights again for each token of a translation, and
        `generate()` does not go around a wrapper by its own loop. But flash attention knows no float32: with
        it all is cast, the encoder too, which `generate()` calls by itself.
        """
        kernel = getattr(getattr(self.model, "config", None), "_attn_implementation", None)
        if "flash" in (kernel or ""):
            with self.accelerator.autocast():
                yield
            return
        wrapper = vars(self.model).get("forward") if "_original_forward" in vars(self.model) else None
        if wrapper is not None:
            del self.model.forward
        try:
            yield
        finally:
            if wrapper is not None:
                self.model.forward = wrapper

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **gen_kwargs: Any,
    ) -> tuple[Any, Any, Any]:
        """As in `Seq2SeqTrainer`; translations end where `translate` would end them."""
        if self._tally is not None:
            inputs = self._tally.without_repeats(inputs)
        gen_kwargs = {**getattr(self, "_gen_kwargs", {}), **gen_kwargs}
        config: Any = getattr(self.model, "generation_config", None)
        limited = (
            gen_kwargs.get("max_length"),
            gen_kwargs.get("max_new_tokens"),
            config and config.max_new_tokens,
        )
        if "input_ids" in inputs and not any(limited):
            # In every batch, as the Trainer writes the library's `max_length` of 20 into the config.
            if getattr(self.model, "limits_output_by_source", False):
                config.max_length = self._saved_max_length
            elif self._tokens_per_batch is not None:
                gen_kwargs |= length_limit(self.model, inputs["input_ids"].shape[1])
        loss, predictions, labels = super().prediction_step(
            model, inputs, prediction_loss_only, ignore_keys, **gen_kwargs
        )
        if self._tally is not None:
            self._tally.add(loss, inputs, shifted=self._loss_shifts_labels)
        return loss, predictions, labels

    def _gather_rows(self, row: list[float]) -> list[list[float]]:
        """The rows of all processes, in their order."""
        if self.args.world_size == 1:
            return [row]
        return self.accelerator.gather(
            torch.tensor([row], dtype=torch.float64, device=self.args.device)
        ).tolist()


def sum_of_scores(metrics: Mapping[str, float]) -> float:
    """The Trainer's objective of a search: the sum of the scores, or the loss where there are none.

    Perplexity, which is the better the lower, is not among them, nor is the time to prepare the model.

    Args:
        metrics: of an evaluation, with their prefix.
    """
    others = ("_perplexity", "_preparation_time")
    return default_compute_objective(
        {name: value for name, value in metrics.items() if not name.endswith(others)}
    )


class EvaluationTally:
    """Sum of the loss over the target tokens of an evaluation, exact whatever the batches are.

    With several processes the last batches are filled up with sentences seen before; these do not count.

    Args:
        sentences: size of the data set, `None` if unknown.
        batch_size: sentences of a batch of one process.
        processes: number of processes, which take the batches in turn.
        process: index of this one.
    """

    def __init__(self, *, sentences: int | None, batch_size: int, processes: int, process: int):
        self.loss = 0.0
        self.tokens = 0
        self._limit = sentences if processes > 1 else None
        self._stride = batch_size * processes
        self._next = batch_size * process

    def without_repeats(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The next batch of this process, with the labels of repeated sentences set to -100.

        Numbers, as of a regression, stay: no loss leaves out one of them, and repeated ones count twice.
        """
        first, self._next = self._next, self._next + self._stride
        if self._limit is None or "labels" not in inputs or inputs["labels"].is_floating_point():
            return inputs
        labels = inputs["labels"].clone()
        labels[max(self._limit - first, 0) :] = IGNORED
        return {**inputs, "labels": labels}

    def add(
        self, loss: torch.Tensor | float | None, inputs: dict[str, Any], *, shifted: bool = False
    ) -> None:
        """Add a batch with its mean loss; `shifted`: nothing predicts the first label of a row."""
        if loss is None or "labels" not in inputs:
            return
        labels = inputs["labels"][..., 1:] if shifted else inputs["labels"]
        tokens = labels.numel() if labels.is_floating_point() else int(labels.ne(IGNORED).sum())
        if tokens:
            self.loss += float(loss) * tokens
            self.tokens += tokens


def _longest_first(dataset: Any) -> Any:
    """The data set in the order of falling length; as it is, if it has no lengths to sort by."""
    sized: bool = has_length(dataset)
    if not sized or not len(dataset) or not {"input_ids", "labels"} <= set(dataset[0]):
        return dataset
    source_lengths, target_lengths = pair_lengths(dataset)
    order = sorted(range(len(dataset)), key=lambda i: (-source_lengths[i], -target_lengths[i], i))
    return dataset.select(order) if hasattr(dataset, "select") else Subset(dataset, order)
