"""Checkpoints of other frameworks, in and out."""

from .ctranslate2_export import save_ctranslate2, to_ctranslate2
from .fairseq import from_fairseq, load_fairseq
from .fsmt import from_fsmt, load_fsmt, pair_tokenizer
from .marian import from_marian, load_marian, save_marian, to_marian
from .onnx_export import save_onnx
from .torch_transformer import from_torch, load_torch, save_torch, to_torch, torch_transformer

__all__ = [
    "from_fairseq",
    "from_fsmt",
    "from_marian",
    "from_torch",
    "load_fairseq",
    "load_fsmt",
    "load_marian",
    "load_torch",
    "pair_tokenizer",
    "save_ctranslate2",
    "save_marian",
    "save_onnx",
    "save_torch",
    "to_ctranslate2",
    "to_marian",
    "to_torch",
    "torch_transformer",
]
