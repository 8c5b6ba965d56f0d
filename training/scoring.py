"""How an evaluation is added up: scores of translations, and a loss in which each token counts equally."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from ..modeling.loss_vanilla_transformer import IGNORED

SHOWN = ("bleu", "chrf")  # at each validation; TER takes far longer than both


class TranslationScores:
    """BLEU and chrF of generated translations, as `compute_metrics` of the Trainer.

    They ignore case where the tokenizer lower-cases, as the signatures then say.

    Args:
        tokenizer: turns the generated ids, and the labels, into text.
        language: target language (BCP-47); Chinese and Japanese need a word splitter of their own.

    Attributes:
        signatures: sacreBLEU's signatures of the last scores.
        any_order: the scores do not depend on the order of the sentences, so that the trainer may choose it.
    """

    any_order = True

    def __init__(self, tokenizer: Any, *, language: str | None = None):
        from .metrics import TranslationMetric, lower_cases

        self.tokenizer = tokenizer
        self.language = language
        self.lowercase = lower_cases(tokenizer)
        self.signatures: dict[str, str] = {}
        self.metric = TranslationMetric(keep_in_memory=True)

    def __call__(self, prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        """The scores of all sentences since the last ones; none yet where `compute_result` is false.

        Args:
            prediction: ids of translations and labels, (N, S), or a list of such batches.
            compute_result: false for a batch that others follow (`batch_eval_metrics` of the Trainer).
        """
        self.metric.add_batch(
            predictions=self._decode(prediction.predictions), references=self._decode(prediction.label_ids)
        )
        if not compute_result:
            return {}
        scores = self.metric.compute(language=self.language, lowercase=self.lowercase, metrics=SHOWN)
        self.signatures = {name: scores[f"{name}_signature"] for name in SHOWN}
        return {name: float(scores[name]) for name in self.signatures}

    def _decode(self, ids: Any) -> list[str]:
        if isinstance(ids, list):  # of batches (`eval_do_concat_batches=False`)
            return [text for batch in ids for text in self._decode(batch)]
        ids = ids[0] if isinstance(ids, tuple) else ids
        ids = ids.numpy(force=True) if isinstance(ids, torch.Tensor) else ids
        filled = np.where(ids < 0, self.tokenizer.pad_token_id, ids)  # -100 pads what is shorter
        return self.tokenizer.batch_decode(filled, skip_special_tokens=True)


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
