"""A small configuration and batch for each family of classes, in the form that transformers' tests want."""

from typing import Any

import torch
from transformers.models.auto import modeling_auto

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
)

# Here transformers' tests look up what a class is for; some leave out a class that is not listed.
for task, names in {
    "MODEL": ("Model", "EncoderModel", "DecoderModel"),
    "MODEL_FOR_CAUSAL_LM": ("ForCausalLM",),
    "MODEL_FOR_MASKED_LM": ("ForMaskedLM",),
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM": ("ForConditionalGeneration",),
    "MODEL_FOR_SEQUENCE_CLASSIFICATION": ("ForSequenceClassification",),
    "MODEL_FOR_TOKEN_CLASSIFICATION": ("ForTokenClassification",),
}.items():
    classes = getattr(modeling_auto, f"{task}_MAPPING_NAMES")
    classes[VanillaTransformerConfig.model_type] = tuple(f"VanillaTransformer{name}" for name in names)

Inputs = dict[str, torch.Tensor]


class ModelTester:
    """What the families share. Transformers' tests read the attributes and call the two public methods."""

    batch_size = 3
    seq_length = 7
    vocab_size = 99
    hidden_size = 32
    num_attention_heads = 4
    num_hidden_layers = 2
    is_training = True
    # Fields of the configuration that make the family.
    changes: dict[str, Any] = {}

    def get_config(self) -> VanillaTransformerConfig:
        fields: dict[str, Any] = {
            "vocab_size": self.vocab_size,
            "d_model": self.hidden_size,
            "encoder_layers": self.num_hidden_layers,
            "decoder_layers": self.num_hidden_layers,
            "encoder_attention_heads": self.num_attention_heads,
            "decoder_attention_heads": self.num_attention_heads,
            "encoder_ffn_dim": 37,
            "decoder_ffn_dim": 37,
            "max_position_embeddings": 64,
        }
        return VanillaTransformerConfig(**(fields | self.changes))

    def prepare_config_and_inputs_for_common(
        self,
    ) -> tuple[VanillaTransformerConfig, Inputs]:
        return self.get_config(), self.sentences()

    def sentences(self, prefix: str = "") -> Inputs:
        """Sentences of one length, without special tokens, and their mask; `prefix` goes before the names."""
        ids = torch.randint(5, self.vocab_size, (self.batch_size, self.seq_length))
        return {f"{prefix}input_ids": ids, f"{prefix}attention_mask": torch.ones_like(ids)}


class EncoderDecoderTester(ModelTester):
    """Sources and targets."""

    # The class that is split over processes.
    conditional_generation_class = VanillaTransformerForConditionalGeneration

    def prepare_config_and_inputs_for_common(
        self,
    ) -> tuple[VanillaTransformerConfig, Inputs]:
        return self.get_config(), self.sentences() | self.sentences("decoder_")


class EncoderTester(ModelTester):
    """Texts of which every token sees every other."""

    changes = {"is_encoder_decoder": False}


class DecoderTester(ModelTester):
    """Texts of which every token sees the ones before it."""

    changes = {"is_encoder_decoder": False, "is_decoder": True}
    causal_lm_class = VanillaTransformerForCausalLM
