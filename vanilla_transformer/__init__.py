"""The original Transformer (Vaswani et al., 2017), at home in the Hugging Face ecosystem.

Importing this package registers its classes with transformers' Auto classes. What trains and scores models is
loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer

from .configuration import VanillaTransformerConfig
from .errors import InputError
from .modeling import (
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerModel,
    VanillaTransformerPreTrainedModel,
)
from .tokenization import VanillaTransformerTokenizer

if TYPE_CHECKING:
    from .modeling.pipeline_vanilla_transformer import TranslationPipeline
    from .modeling.pipelines import pipeline
    from .modeling.translation_vanilla_transformer import translate
    from .training import (
        TranslationCollator,
        VanillaTransformerTrainer,
        VanillaTransformerTrainingArguments,
    )

__version__ = "0.1.0"

_LAZY = {
    "TranslationPipeline": ".modeling.pipeline_vanilla_transformer",
    "pipeline": ".modeling.pipelines",
    "translate": ".modeling.translation_vanilla_transformer",
    "TranslationCollator": ".training",
    "VanillaTransformerTrainer": ".training",
    "VanillaTransformerTrainingArguments": ".training",
}

AutoConfig.register(VanillaTransformerConfig.model_type, VanillaTransformerConfig, exist_ok=True)
AutoTokenizer.register(VanillaTransformerConfig, tokenizer_class=VanillaTransformerTokenizer, exist_ok=True)
AutoModel.register(VanillaTransformerConfig, VanillaTransformerModel, exist_ok=True)
AutoModelForSeq2SeqLM.register(
    VanillaTransformerConfig, VanillaTransformerForConditionalGeneration, exist_ok=True
)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])


__all__ = [
    "InputError",
    "TranslationCollator",
    "TranslationPipeline",
    "VanillaTransformerConfig",
    "VanillaTransformerForConditionalGeneration",
    "VanillaTransformerModel",
    "VanillaTransformerPreTrainedModel",
    "VanillaTransformerTokenizer",
    "VanillaTransformerTrainer",
    "VanillaTransformerTrainingArguments",
    "pipeline",
    "translate",
]
