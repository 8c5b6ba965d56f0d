"""The original Transformer (Vaswani et al., 2017), at home in the Hugging Face ecosystem.

Importing this package registers its classes with transformers' Auto classes. What trains and scores models is
loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import transformers
from transformers import AutoConfig, AutoTokenizer

from . import _clone as _clone
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
from .modeling.generation_vanilla_transformer import PAPER_DECODING, set_decoding
from .modeling.saving_vanilla_transformer import auto_classes
from .tokenization import FairseqTokenizer, FsmtTokenizer, VanillaTransformerTokenizer

if TYPE_CHECKING:
    from .modeling.half_weights import HalfWeightsConfig
    from .modeling.pair_scores import score_pairs
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
    "HalfWeightsConfig": ".modeling.half_weights",
    "TranslationPipeline": ".modeling.pipeline_vanilla_transformer",
    "pipeline": ".modeling.pipelines",
    "score_pairs": ".modeling.pair_scores",
    "translate": ".modeling.translation_vanilla_transformer",
    "TranslationCollator": ".training",
    "VanillaTransformerTrainer": ".training",
    "VanillaTransformerTrainingArguments": ".training",
}

AutoConfig.register(VanillaTransformerConfig.model_type, VanillaTransformerConfig, exist_ok=True)
for converted in (FairseqTokenizer, FsmtTokenizer):
    # So that they are known by name; the tokenizer of the model type is the first.
    AutoTokenizer.register(
        VanillaTransformerConfig,
        tokenizer_class=VanillaTransformerTokenizer,
        slow_tokenizer_class=converted,
        exist_ok=True,
    )
for auto_name, model_classes in auto_classes().items():
    if auto_name.startswith("AutoModel"):
        # Of several, the one that the checkpoint's `architectures` name.
        model_class = model_classes[0] if len(model_classes) == 1 else model_classes
        getattr(transformers, auto_name).register(VanillaTransformerConfig, model_class, exist_ok=True)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])


__all__ = [
    "FairseqTokenizer",
    "FsmtTokenizer",
    "HalfWeightsConfig",
    "InputError",
    "PAPER_DECODING",
    "TranslationCollator",
    "TranslationPipeline",
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
    "pipeline",
    "score_pairs",
    "set_decoding",
    "translate",
]
