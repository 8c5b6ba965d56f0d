"""Dropout, twice as fast on a CPU, where drawing the random numbers is what costs."""

from typing import Any

import torch
from torch.nn import functional as F
from transformers.utils import is_torchdynamo_compiling

# Four decisions are read from each random number of 64 bits.
LEVELS = 2**16


def dropout(inputs: torch.Tensor, probability: float, training: bool) -> torch.Tensor:
    """Zeroes elements with `probability` in training and scales the others so that the expectation stays.

    On a CPU the probability is the nearest multiple of 2^-16, and elements are scaled by that one's exact
    inverse.

    Args:
        inputs: any shape.
        probability: share of elements to drop, at least 0 and below 1.
        training: `False` returns the inputs as they are.
    """
    if not training or probability == 0:
        return inputs
    dropped = round(probability * LEVELS)
    if inputs.device.type != "cpu" or _is_transformed() or not 0 < dropped < LEVELS:
        return F.dropout(inputs, p=probability)
    result: torch.Tensor = _CpuDropout.apply(inputs, dropped)
    return result


def _is_transformed() -> bool:
    """Whether torch.compile or torch.func runs this, which cannot see into an autograd function of ours."""
    if is_torchdynamo_compiling():
        return True
    # Private in PyTorch; where it is gone nobody can tell, and its own dropout is right in either case.
    peek = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", None)
    return peek is None or peek() is not None


class _CpuDropout(torch.autograd.Function):
    """Keeps an element where a random number of 16 bits is at least `dropped`."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, dropped: int) -> torch.Tensor:
        numbers = torch.empty(-(-inputs.numel() // 4), dtype=torch.int64, device=inputs.device)
        numbers.random_(-(2**63), None)
        kept = numbers.view(torch.int16)[: inputs.numel()].view(inputs.shape) >= dropped - LEVELS // 2
        ctx.save_for_backward(kept)
        ctx.scale = LEVELS / (LEVELS - dropped)
        return (inputs * ctx.scale).mul_(kept)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (gradients[0] * ctx.scale).mul_(kept), None
