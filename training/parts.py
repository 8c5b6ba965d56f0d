"""Parts of a model by plain names: those that stay as they are, and those that learn at their own rate.

A part is `embeddings`, every matrix of token embeddings, or a module by its path in the model, with or
without a leading `model.`: `encoder`, `decoder.layers.0`, `encoder.layers.0.self_attn`, `lm_head`. A range
names several layers at once: `encoder.layers.0-2` are layers 0, 1 and 2.

One matrix may serve several modules (section 3.4: both embeddings and the pre-softmax projection). Who names
it, as `embeddings` or as one of its uses such as `lm_head`, means it in all its uses. A larger part, such as
`decoder`, leaves out a matrix that something outside of that part uses as well.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import nn

from ..errors import InputError

EMBEDDINGS = "embeddings"
_TOKEN_EMBEDDINGS = ("shared", "embed_tokens")
_RANGE = re.compile(r"(.+)\.(\d+)-(\d+)")


def freeze(model: nn.Module, names: Iterable[str]) -> int:
    """Keep parts of a model as they are: they get no gradient, and the Trainer gives them no optimizer state.

    Args:
        model: a model of transformers.
        names: parts as the module describes them.

    Returns:
        How many of the model's parameters are frozen now, each counted once.

    Raises:
        InputError: the model has no such part, or nothing is left to train.
    """
    for name in names:
        for parameter in chain.from_iterable(_parameters_by_module(model, name, key="freeze").values()):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("`freeze` must leave something to train, but names the whole model.")
    return sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)


def check_learning_rate_factors(factors: Mapping[str, Any]) -> None:
    """Refuse a factor that is not a positive number.

    Raises:
        InputError: names the part.
    """
    for name, factor in factors.items():
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
            raise InputError(
                f"`learning_rate_factors.{name}` must be a positive number, but is {factor!r} instead"
                " (`freeze` keeps a part as it is)."
            )


def scale_learning_rates(
    optimizer: torch.optim.Optimizer, model: nn.Module, factors: Mapping[str, float]
) -> None:
    """Split the groups of a new optimizer so that parts of the model learn at a multiple of its rate.

    A schedule made afterwards multiplies the rate of each group. Groups of factor 1 come first, as the first
    group's rate is the one in the log.

    Args:
        optimizer: has made no step yet.
        model: whose parameters it holds.
        factors: part of the model (as the module describes them) -> factor on the learning rate. The smallest
            part that holds a parameter decides, and 1 where none does.

    Raises:
        InputError: the model has no such part, or a factor is not positive.
    """
    factor_of = learning_rate_factors_of(model, factors)
    groups = []
    for group in optimizer.param_groups:
        split = defaultdict(list)
        for parameter in group["params"]:
            split[factor_of.get(parameter, 1.0)].append(parameter)
        for factor, parameters in split.items():
            groups.append(
                {**group, "params": parameters, "lr": group["lr"] * factor, "learning_rate_factor": factor}
            )
    optimizer.param_groups[:] = sorted(groups, key=lambda group: group["learning_rate_factor"] != 1.0)


def learning_rate_factors_of(model: nn.Module, factors: Mapping[str, float]) -> dict[nn.Parameter, float]:
    """The factor of each parameter that belongs to a part in `factors`; see `scale_learning_rates`."""
    check_learning_rate_factors(factors)
    chosen: dict[nn.Parameter, tuple[int, float]] = {}
    for name, factor in factors.items():
        parts = _parameters_by_module(model, name, key="learning_rate_factors")
        for path, parameters in parts.items():
            depth = path.count(".")
            for parameter in parameters:
                if depth >= chosen.get(parameter, (-1, 1.0))[0]:
                    chosen[parameter] = (depth, float(factor))
    return {parameter: factor for parameter, (_, factor) in chosen.items()}


def _parameters_by_module(model: nn.Module, name: str, *, key: str) -> dict[str, list[nn.Parameter]]:
    """Path of each module that `name` means -> the parameters that belong to it."""
    modules = _modules(model)
    paths = _paths(name.removeprefix("model."), modules)
    if not paths or not all(path in modules for path in paths):
        raise InputError(
            f"`{key}` names `{name}`, but the parts of the model are {', '.join(_choices(modules))}, and the"
            " modules inside them."
        )
    users: dict[nn.Parameter, list[str]] = defaultdict(list)
    for path, module in modules.items():
        for parameter in module.parameters(recurse=False):
            users[parameter].append(path)
    return {
        path: [
            parameter
            for parameter in modules[path].parameters()
            if path in users[parameter] or all(user.startswith(f"{path}.") for user in users[parameter])
        ]
        for path in paths
    }


def _modules(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its path without the leading `model.`; of a model with adapters, those inside it."""
    adapted: Any = model
    inner: nn.Module = adapted.get_base_model() if hasattr(model, "get_base_model") else model
    named = inner.named_modules(remove_duplicate=False)
    return {path.removeprefix("model."): module for path, module in named if path not in ("", "model")}


def _paths(name: str, modules: Mapping[str, nn.Module]) -> list[str]:
    if name == EMBEDDINGS:
        return [path for path in modules if path.rpartition(".")[2] in _TOKEN_EMBEDDINGS]
    if match := _RANGE.fullmatch(name):
        return [f"{match[1]}.{number}" for number in range(int(match[2]), int(match[3]) + 1)]
    return [name]


def _choices(modules: Mapping[str, nn.Module]) -> list[str]:
    """What to name, large parts only: `embeddings`, `encoder`, `encoder.layers.0-5`, ..."""
    choices = [EMBEDDINGS]
    for path, module in modules.items():
        if "." not in path:
            choices.append(path)
        elif isinstance(module, nn.ModuleList) and len(module):
            choices.append(f"{path}.0-{len(module) - 1}")
    return choices
