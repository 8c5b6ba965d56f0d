"""Weights in half precision and arithmetic in float32: faster translation on a CPU.

On a CPU, a step of decoding takes as long as the weights take to be read. So each linear layer keeps its
matrix in float16, laid out as FBGEMM's kernels read it, and multiplies with it in float32: half as much is
read, and small batches need no other order of the same numbers first. Embeddings, biases and norms stay in
float32.

    model = AutoModelForSeq2SeqLM.from_pretrained("runs/demo", quantization_config=HalfWeightsConfig())
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.quantizers import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

METHOD = "half_weights"


def half_weights_run_here() -> bool:
    """Whether this PyTorch has the kernels: that of x86 processors has, where they know AVX2."""
    try:
        torch.ops.quantized.linear_prepack_fp16(torch.zeros(1, 1), None)
    except (AttributeError, RuntimeError):
        return False
    return True


class HalfWeightsLinear(nn.Module):
    """x W^T + b with W in float16 and all else, the sums too, in float32; it can only be run, on a CPU.

    Args:
        linear: the layer that it stands for. Of weights beyond float16's range (65,504) the range is taken.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        bias = None if linear.bias is None else linear.bias.detach().float()
        self.packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach().float(), bias)

    # Some models look whether their layers have a tensor of that name, to take its type.
    weight = None

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out), in the type of `states`."""
        product = torch.ops.quantized.linear_dynamic_fp16(states.float(), self.packed)
        return product if product.dtype == states.dtype else product.to(states.dtype)

    def extra_repr(self) -> str:
        """What `print(model)` shows of it."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


@register_quantization_config(METHOD)
class HalfWeightsConfig(QuantizationConfigMixin):
    """What to give to `from_pretrained` as `quantization_config`, for any model of transformers.

    Args:
        quant_method: its name, as the library passes it on from a dictionary.
    """

    def __init__(self, quant_method: str = METHOD):
        self.quant_method = quant_method  # type: ignore[assignment]  # it knows its own methods alone


@register_quantizer(METHOD)
class HalfWeightsQuantizer(HfQuantizer):
    """Loads a model in float32, then puts a `HalfWeightsLinear` in the place of each `nn.Linear`."""

    requires_calibration = False

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        """Raises `ValueError` where half-precision weights cannot be used."""
        device_map = kwargs.get("device_map") or {}
        places = (
            {str(place) for place in device_map.values()} if isinstance(device_map, dict) else {device_map}
        )
        if places - {"cpu"}:
            raise ValueError(
                f"`device_map` must be 'cpu' with half-precision weights, but is {device_map!r} instead."
            )
        if not half_weights_run_here():
            raise ValueError(
                "Half-precision weights need the x86 build of PyTorch, on a processor with AVX2."
            )

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The type of everything else, whatever was asked for."""
        return torch.float32

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        kept = model._keep_in_fp32_modules or ()  # T5 reads the weights of some of its layers, and names them
        for name, module in list(model.named_modules()):
            if type(module) is nn.Linear and not set(name.split(".")) & set(kept):
                model.set_submodule(name, HalfWeightsLinear(module))
        return model.requires_grad_(False)  # or a loss would have gradients, of what is not packed alone

    def is_serializable(self) -> bool:
        """No: the kernels' layout is not for files. What was loaded can be loaded again."""
        return False

    @property
    def is_trainable(self) -> bool:
        """No: a product with packed weights has no gradient."""
        return False
