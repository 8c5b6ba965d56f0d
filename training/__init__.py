"""Training: data, batches by tokens, the Trainer, transfer, metrics, checkpoint averaging, whole runs.

Every name is imported when it is first used, so that importing the package stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .arguments import VanillaTransformerTrainingArguments
    from .averaging import average_checkpoints, find_checkpoints
    from .batching import StreamingTokenBatches, TokenBatchSampler, TokenizedPairs, plan_accumulation
    from .callbacks import StopWithoutImprovement
    from .checkpoints import last_checkpoint
    from .classification import ClassificationMetric
    from .collator import TranslationCollator
    from .corpus import load_pairs
    from .curves import plot_curves
    from .filtering import FilterReport, prepare_pairs
    from .lora import lora_config
    from .metrics import TranslationMetric
    from .parts import freeze
    from .recipe import ClassifierRecipe, LanguageModelRecipe, TrainRecipe, load_recipe
    from .run import TrainResult, train
    from .schedule import get_paper_schedule, paper_learning_rate
    from .scoring import TranslationScores
    from .text_collators import ClassifierCollator, TextCollator
    from .texts import Masking
    from .trainer import VanillaTransformerTrainer
    from .word_vectors import VectorReport, embed_word_vectors, load_word_vectors

_MODULES = {
    "ClassificationMetric": "classification",
    "ClassifierCollator": "text_collators",
    "ClassifierRecipe": "recipe",
    "FilterReport": "filtering",
    "LanguageModelRecipe": "recipe",
    "Masking": "texts",
    "StopWithoutImprovement": "callbacks",
    "StreamingTokenBatches": "batching",
    "TextCollator": "text_collators",
    "TokenBatchSampler": "batching",
    "TokenizedPairs": "batching",
    "TrainRecipe": "recipe",
    "TrainResult": "run",
    "TranslationCollator": "collator",
    "TranslationMetric": "metrics",
    "TranslationScores": "scoring",
    "VanillaTransformerTrainer": "trainer",
    "VanillaTransformerTrainingArguments": "arguments",
    "VectorReport": "word_vectors",
    "average_checkpoints": "averaging",
    "embed_word_vectors": "word_vectors",
    "find_checkpoints": "averaging",
    "freeze": "parts",
    "get_paper_schedule": "schedule",
    "last_checkpoint": "checkpoints",
    "load_pairs": "corpus",
    "load_recipe": "recipe",
    "load_word_vectors": "word_vectors",
    "lora_config": "lora",
    "paper_learning_rate": "schedule",
    "plan_accumulation": "batching",
    "plot_curves": "curves",
    "prepare_pairs": "filtering",
    "train": "run",
}

__all__ = [
    "ClassificationMetric",
    "ClassifierCollator",
    "ClassifierRecipe",
    "FilterReport",
    "LanguageModelRecipe",
    "Masking",
    "StopWithoutImprovement",
    "StreamingTokenBatches",
    "TextCollator",
    "TokenBatchSampler",
    "TokenizedPairs",
    "TrainRecipe",
    "TrainResult",
    "TranslationCollator",
    "TranslationMetric",
    "TranslationScores",
    "VanillaTransformerTrainer",
    "VanillaTransformerTrainingArguments",
    "VectorReport",
    "average_checkpoints",
    "embed_word_vectors",
    "find_checkpoints",
    "freeze",
    "get_paper_schedule",
    "last_checkpoint",
    "load_pairs",
    "load_recipe",
    "load_word_vectors",
    "lora_config",
    "paper_learning_rate",
    "plan_accumulation",
    "plot_curves",
    "prepare_pairs",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
