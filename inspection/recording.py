"""Reading every number of a real forward pass: hooks for modules, a function mode for what is between."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from ..modeling.translation_vanilla_transformer import eager_attention, evaluation_mode


class Recording(TorchFunctionMode):
    """What the modules of a model read and returned, and what was computed inside each of them.

    Filled by `record`. A module called several times leaves its last call. What other threads compute with
    the model meanwhile is not kept.

    Attributes:
        inputs: name of a module -> its first positional tensor.
        outputs: name of a module -> its result, the first one of several.
        masks: name of a module -> the `attention_mask` given to it, `None` where all was visible.
        operations: (name of a module, name of a function of torch) -> the results of that function, called in
            the module itself and not in one of its parts, in their order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inputs: dict[str, torch.Tensor] = {}
        self.outputs: dict[str, torch.Tensor] = {}
        self.masks: dict[str, torch.Tensor | None] = {}
        self.operations: dict[tuple[str, str], list[torch.Tensor]] = defaultdict(list)
        self._inside: list[str] = [""]
        self._thread = threading.get_ident()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.operations[self._inside[-1], getattr(func, "__name__", "")].append(result)
        return result

    def watch(self, name: str, module: nn.Module) -> list[Any]:
        """Hook `module` up under `name`; returns the handles that take the hooks away."""

        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if threading.get_ident() != self._thread:
                return
            self._inside.append(name)
            if args and isinstance(args[0], torch.Tensor):
                self.inputs[name] = args[0]
            self.masks[name] = kwargs.get("attention_mask")

        def leave(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
            if threading.get_ident() != self._thread:
                return
            self._inside.pop()
            first = result[0] if isinstance(result, tuple) else result
            if isinstance(first, torch.Tensor):
                self.outputs[name] = first

        return [
            module.register_forward_pre_hook(enter, with_kwargs=True),
            module.register_forward_hook(leave),
        ]


@contextmanager
def record(model: PreTrainedModel) -> Iterator[Recording]:
    """Within the context, what a call of `model` computes is kept in the recording.

    The model is in evaluation mode and attends by the plain formula (`attn_implementation="eager"`)
    meanwhile: fused kernels never hold the scores that are to be read.
    """
    recording = Recording()
    with ExitStack() as undo:
        undo.enter_context(evaluation_mode(model))
        undo.enter_context(eager_attention(model))
        for name, module in model.named_modules():
            for handle in recording.watch(name, module):
                undo.callback(handle.remove)
        with torch.no_grad(), recording:
            yield recording
