"""The tokenizer."""

from .tokenization_vanilla_transformer import VanillaTransformerTokenizer

__all__ = ["VanillaTransformerTokenizer"]
