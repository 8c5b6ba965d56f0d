"""Small models of other architectures, as tests of several folders need them."""

from typing import Any

import torch
from transformers import MBart50Tokenizer, MBartConfig, MBartForConditionalGeneration

SHAPE: dict[str, Any] = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
}  # fmt: skip


def enlarged(model: Any, seed: int = 0) -> Any:
    """Weights so large that different sentences are translated differently."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        # Marian's sinusoids are parameters that are not saved.
        if parameter.dim() > 1 and "embed_positions" not in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
    return model.eval()


def mbart() -> tuple[Any, MBart50Tokenizer]:
    """A model and its tokenizer, which takes languages and is set to en_XX."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("▁b", -1.0)]
    tokenizer = MBart50Tokenizer(vocab=[*pieces, ("en_XX", 0.0), ("fr_XX", 0.0), ("<mask>", 0.0)])
    config = MBartConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **SHAPE)
    return enlarged(MBartForConditionalGeneration(config)), tokenizer
