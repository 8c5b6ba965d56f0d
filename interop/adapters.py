"""Models as every format is written from them: adapters of PEFT merged, and no layer but the plain ones."""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import nn

from ..errors import InputError, first_line
from ..modeling.loading import without_peft

# By the last part of their names, the layers whose weights a format takes.
_PLAIN: dict[str, type[nn.Module]] = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "lm_head"), nn.Linear),
    **dict.fromkeys(("shared", "embed_tokens"), nn.Embedding),
}
_ADVICE = "export what `merge_and_unload()` of the adapted model returns"


def plain_model(model: Any) -> Any:
    """A model whose every weight is in a plain layer: `model` itself, or a copy with its adapters merged.

    Merged weights are float32 where they were narrower: rounded again, they would lose what a small adapter
    changes.

    Args:
        model: ours, adapted by PEFT or not; a `PeftModel` around it will do. It is left as it was found.

    Raises:
        InputError: adapters that have no merged form, or weights that are quantized; the message names the
            layer.
    """
    model = without_peft(model, "exported: no weights hold what was learned")
    if any(_adapted(model)):
        model = _merged(model)
    _check_plain(model)
    return model


def _adapted(model: nn.Module, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each layer of PEFT, around the one whose place it took, with its name; none inside another."""
    for name, child in model.named_children():
        if hasattr(child, "get_base_layer") or hasattr(child, "unload_and_optionally_merge_module"):
            yield f"{path}{name}", child
        else:
            yield from _adapted(child, f"{path}{name}.")


def _merged(model: Any) -> Any:
    """What `merge_and_unload()` returns, which only the wrapper has, of a copy."""
    _check_mergeable(model)
    plain = copy.deepcopy(model)
    if plain.dtype.itemsize < 4:
        plain = plain.float()
    try:
        for name, layer in list(_adapted(plain)):
            plain.set_submodule(name, _merged_layer(layer))
    except Exception as error:  # each kind of adapter has refusals of its own
        raise InputError(f"the adapters cannot be merged ({first_line(error)}): {_ADVICE}.") from None
    return plain


def _merged_layer(layer: Any) -> nn.Module:
    if hasattr(layer, "unload_and_optionally_merge_module"):
        merged: nn.Module = layer.unload_and_optionally_merge_module(
            merge=True, safe_merge=True, adapter_names=None
        )
        return merged
    layer.merge(safe_merge=True)
    base: nn.Module = layer.get_base_layer()
    return base


def _check_mergeable(model: nn.Module) -> None:
    """Refuses adapters that are switched off, and those of weights that other layers have, too."""
    places = _places(model)
    for name, layer in _adapted(model):
        if layer.disable_adapters:
            raise InputError(f"the adapter of `{name}` is switched off: {_ADVICE}, or the base model.")
        if any(places[key] > inside for key, inside in _places(layer).items()):
            raise InputError(
                f"the adapter of `{name}` cannot be merged, as other layers share its weights: untie them, or"
                f" {_ADVICE}, in which all of them have changed."
            )


def _places(module: nn.Module) -> Counter[int]:
    """In how many places of a module each of its parameters is."""
    return Counter(id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False))


def _check_plain(model: nn.Module) -> None:
    """Refuses layers of other classes, whose weights are packed or quantized, and tensors that are."""
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        kind = nn.LayerNorm if last.endswith("layer_norm") else _PLAIN.get(last)
        if kind is not None and type(module) is not kind:
            found = type(module).__name__
            raise InputError(
                f"`{name}` must be a plain {kind.__name__} to be exported, but is a {found}: load the model"
                " without quantization."
            )
    for name, parameter in model.named_parameters():
        if type(parameter) is not nn.Parameter:
            raise InputError(
                f"`{name}` must be a plain tensor to be exported, but is a {type(parameter).__name__}: load"
                " the model without quantization."
            )
