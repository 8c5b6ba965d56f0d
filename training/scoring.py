"""BLEU and chrF of a validation, as the Trainer asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

SHOWN = ("bleu", "chrf")  # at each validation; TER takes far longer than both


class TranslationScores:
    """BLEU and chrF of generated translations, as `compute_metrics` of the Trainer.

    They ignore case where the tokenizer lower-cases, as the signatures then say.

    Args:
        tokenizer: turns the generated ids, and the labels, into text.
        language: target language (BCP-47); Chinese and Japanese need a word splitter of their own.
        references: the text that labels were made of, by their ids without the padding. Labels that are not
            among them are decoded, of which a tokenizer with <unk> gives less than the text had.

    Attributes:
        signatures: sacreBLEU's signatures of the last scores.
        any_order: the scores do not depend on the order of the sentences, so that the trainer may choose it.
    """

    any_order = True

    def __init__(
        self,
        tokenizer: Any,
        *,
        language: str | None = None,
        references: Mapping[tuple[int, ...], str] | None = None,
    ):
        from .metrics import TranslationMetric, lower_cases

        self.tokenizer = tokenizer
        self.language = language
        self.references = {self._key(ids): text for ids, text in (references or {}).items()}
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
            predictions=self._decode(prediction.predictions), references=self._texts(prediction.label_ids)
        )
        if not compute_result:
            return {}
        scores = self.metric.compute(language=self.language, lowercase=self.lowercase, metrics=SHOWN)
        self.signatures = {name: scores[f"{name}_signature"] for name in SHOWN}
        return {name: float(scores[name]) for name in self.signatures}

    def _texts(self, labels: Any) -> list[str]:
        """What labels were made of, as far as it is known."""
        if isinstance(labels, list):  # of batches (`eval_do_concat_batches=False`)
            return [text for batch in labels for text in self._texts(batch)]
        rows = (self._key(row.tolist()) for row in _as_array(labels))
        return [self.references.get(row, text) for row, text in zip(rows, self._decode(labels), strict=True)]

    def _key(self, ids: Iterable[int]) -> tuple[int, ...]:
        """Ids without padding: -100 of a batch, and that which the Trainer adds to short ones."""
        return tuple(token for token in ids if token >= 0 and token != self.tokenizer.pad_token_id)

    def _decode(self, ids: Any) -> list[str]:
        if isinstance(ids, list):
            return [text for batch in ids for text in self._decode(batch)]
        ids = _as_array(ids)
        filled = np.where(ids < 0, self.tokenizer.pad_token_id, ids)  # -100 pads what is shorter
        return self.tokenizer.batch_decode(filled, skip_special_tokens=True)


def _as_array(ids: Any) -> Any:
    ids = ids[0] if isinstance(ids, tuple) else ids
    return ids.numpy(force=True) if isinstance(ids, torch.Tensor) else ids
