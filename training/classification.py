"""Accuracy and F1 of a classifier, as a metric of the evaluate library that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import torch
from transformers import EvalPrediction

from ..errors import InputError


def classification_scores(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
    """Share of right predictions, and the mean over the classes of F1, each 0 to 1.

    F1 of a class is 2 * right / (predicted + actual). The mean is over the classes that occur in either list
    (macro average), each counting equally.

    Args:
        predictions: numbers of the predicted classes.
        references: numbers of the right ones.

    Returns:
        accuracy and f1.

    Raises:
        InputError: nothing to score, or lists of unequal length.
    """
    predicted, right = np.asarray(predictions), np.asarray(references)
    if len(predicted) != len(right) or not len(right):
        raise InputError(
            "there must be one prediction for each reference, but there are"
            f" {len(predicted)} and {len(right)}."
        )
    classes = np.union1d(predicted, right)
    hits = predicted == right
    f1 = [
        2 * np.sum(hits & (right == one)) / (np.sum(predicted == one) + np.sum(right == one))
        for one in classes
    ]
    return {"accuracy": float(hits.mean()), "f1": float(np.mean(f1))}


class ClassificationMetric(evaluate.Metric):
    """`classification_scores` as a metric: `ClassificationMetric().compute(predictions=, references=)`."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="Accuracy and macro-averaged F1 of a classifier.",
            citation="",
            inputs_description="predictions, references: lists of the numbers of classes.",
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return classification_scores(predictions, references)


class ClassificationScores:
    """`ClassificationMetric` of the class with the largest logit, as `compute_metrics` of the Trainer."""

    any_order = True  # as in `TranslationScores`

    def __init__(self) -> None:
        self.metric = ClassificationMetric(keep_in_memory=True)

    def __call__(self, prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        """The scores of all texts since the last ones; none yet where `compute_result` is false.

        Args:
            prediction: logits (N, C) and labels (N,).
            compute_result: false for a batch that others follow (`batch_eval_metrics` of the Trainer).
        """
        logits: Any = prediction.predictions
        logits = logits[0] if isinstance(logits, tuple) else logits
        predicted = torch.as_tensor(logits).argmax(-1).numpy(force=True)
        labels = torch.as_tensor(prediction.label_ids).numpy(force=True)
        self.metric.add_batch(predictions=predicted, references=labels)
        if not compute_result:
            return {}
        scores = self.metric.compute()
        return {name: float(value) for name, value in scores.items()}
