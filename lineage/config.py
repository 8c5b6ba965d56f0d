"""One configuration for all models of the lineage; each reads the fields that it needs."""

from typing import Any

from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

SIZES = (
    *("vocab_size", "embedding_dim", "hidden_dim", "num_layers"),
    *("num_characters", "longest_piece", "context_size"),
)


@strict
class LineageConfig(PreTrainedConfig):
    """Sizes of a small model.

    Args:
        vocab_size (`int`, defaults to 2000): pieces of the vocabulary.
        embedding_dim (`int`, defaults to 64): width of a piece's vector.
        hidden_dim (`int`, defaults to 128): width of the hidden layer or of a recurrent state.
        num_layers (`int`, defaults to 2): recurrent layers, of ELMo alone.
        num_characters (`int`, defaults to 1): characters that pieces are spelled with, padding among them, of
            ELMo alone.
        longest_piece (`int`, defaults to 1): characters of the longest piece, of ELMo alone.
        context_size (`int`, defaults to 4): words that NNLM sees.
        cell (`str`, defaults to `"gru"`): `"gru"` or `"lstm"`.
        attention (`bool`, defaults to `True`): additive attention of the encoder-decoder.
        dropout (`float`, defaults to 0.1): on embeddings.
        pad_token_id, bos_token_id, eos_token_id (`int`, default to 0, 1, 2).

    Raises:
        ValueError: a size is not positive, or the cell is unknown.
    """

    model_type = "vanilla_transformer_lineage"

    vocab_size: int = 2000
    embedding_dim: int = 64
    hidden_dim: int = 128
    num_layers: int = 2
    num_characters: int = 1
    longest_piece: int = 1
    context_size: int = 4
    cell: str = "gru"
    attention: bool = True
    dropout: float | int = 0.1
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self, **kwargs: Any) -> None:
        for name in SIZES:
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be positive, but is {getattr(self, name)} instead.")
        if self.cell not in ("gru", "lstm"):
            raise ValueError(f"`cell` must be one of gru, lstm, but is {self.cell!r} instead.")
        super().__post_init__(**kwargs)


class LineagePreTrainedModel(PreTrainedModel):
    """Keeps the weights as PyTorch's own layers initialise them: what is loaded must have all of them."""

    config: LineageConfig
    config_class = LineageConfig

    def _init_weights(self, module: nn.Module) -> None:
        pass
