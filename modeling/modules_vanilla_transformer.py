"""What fast paths ask of a module, and of the machine, before they compute something in another way."""

import torch
from torch import nn
from torch.nn.modules import module as all_modules

HALF_TYPES = (torch.bfloat16, torch.float16)


def is_watched(module: nn.Module) -> bool:
    """Whether hooks see or change what goes into or out of a module.

    Those with which transformers captures outputs do nothing else, and stay on a module once it has.
    """
    hooks = (
        *(module._forward_hooks, module._forward_pre_hooks),
        *(module._backward_hooks, module._backward_pre_hooks),
        *(all_modules._global_forward_hooks, all_modules._global_forward_pre_hooks),
        *(all_modules._global_backward_hooks, all_modules._global_backward_pre_hooks),
    )
    return any(
        getattr(hook, "__module__", "") != "transformers.utils.output_capturing"
        for group in hooks
        for hook in group.values()
    )


def is_called_as_it_is(module: nn.Module) -> bool:
    """Whether calling a module computes what its class does and nothing besides: no hook, no wrapper."""
    return not is_watched(module) and "forward" not in vars(module)


def is_plain_linear(module: nn.Module) -> bool:
    """Whether a projection is its weight and bias and nothing besides: no adapter, no quantisation, no hook.

    Only then may its product be computed without calling it.
    """
    return (
        type(module) is nn.Linear
        and type(module.weight) is nn.Parameter
        and module.weight.layout is torch.strided
        and is_called_as_it_is(module)
    )


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16; true where PyTorch cannot tell."""
    if not hasattr(torch.cpu, "get_capabilities"):  # an older PyTorch
        return True
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
