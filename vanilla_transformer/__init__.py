"""The original Transformer (Vaswani et al., 2017), at home in the Hugging Face ecosystem.

Importing this package registers its classes with transformers' Auto classes. What trains and scores models is
loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from .configuration import VanillaTransformerConfig
from .errors import InputError
from .modeling import (
    VanillaTransformerDecoderModel,
    VanillaTransformerEncoderModel,
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
    VanillaTransformerModel,
    VanillaTransformerPreTrainedModel,
)
from .tokenization import VanillaTransformerTokenizer

if TYPE_CHECKING:
    from .modeling.translation import translate
    from .training import (
        TranslationCollator,
        VanillaTransformerTrainer,
        VanillaTransformerTrainingArguments,
    )

__version__ = "0.1.0"

_LAZY = {
    "translate": ".modeling.translation",
    "TranslationCollator": ".training",
    "VanillaTransformerTrainer": ".training",
    "VanillaTransformerTrainingArguments": ".training",
}

AutoConfig.register(VanillaTransformerConfig.model_type, VanillaTransformerConfig, exist_ok=True)
AutoTokenizer.register(VanillaTransformerConfig, tokenizer_class=VanillaTransformerTokenizer, exist_ok=True)
for auto_class, model_class in {
    # Of several, the one that the checkpoint's `architectures` name.
    AutoModel: (VanillaTransformerModel, VanillaTransformerEncoderModel, VanillaTransformerDecoderModel),
    AutoModelForCausalLM: VanillaTransformerForCausalLM,
    AutoModelForMaskedLM: VanillaTransformerForMaskedLM,
    AutoModelForSeq2SeqLM: VanillaTransformerForConditionalGeneration,
    AutoModelForSequenceClassification: VanillaTransformerForSequenceClassification,
    AutoModelForTextEncoding: VanillaTransformerEncoderModel,
    AutoModelForTokenClassification: VanillaTransformerForTokenClassification,
}.items():
    auto_class.register(VanillaTransformerConfig, model_class, exist_ok=True)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])


__all__ = [
    "InputError",
    "TranslationCollator",
    "VanillaTransformerConfig",
    "VanillaTransformerDecoderModel",
    "VanillaTransformerEncoderModel",
    "VanillaTransformerForCausalLM",
    "VanillaTransformerForConditionalGeneration",
    "VanillaTransformerForMaskedLM",
    "VanillaTransformerForSequenceClassification",
    "VanillaTransformerForTokenClassification",
    "VanillaTransformerModel",
    "VanillaTransformerPreTrainedModel",
    "VanillaTransformerTokenizer",
    "VanillaTransformerTrainer",
    "VanillaTransformerTrainingArguments",
    "translate",
]
