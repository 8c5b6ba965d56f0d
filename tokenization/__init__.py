"""The tokenizers."""

from .fairseq_vanilla_transformer import FairseqTokenizer, FsmtTokenizer
from .tokenization_vanilla_transformer import VanillaTransformerTokenizer

__all__ = ["FairseqTokenizer", "FsmtTokenizer", "VanillaTransformerTokenizer"]
