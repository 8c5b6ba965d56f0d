"""What all conversions share: checked weights, models made of them, and files that run no code when read."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from ..configuration import VanillaTransformerConfig
from ..errors import InputError, first_line
from ..modeling import VanillaTransformerForConditionalGeneration
from ..modeling.modeling_vanilla_transformer import (
    VanillaTransformerPositionalEncoding,
    damaged_file_named,
)
from ..tokenization import VanillaTransformerTokenizer

logger = logging.get_logger(__name__)

Weights = dict[str, torch.Tensor]
STACKS = ("encoder", "decoder")
# Fields of a configuration that have one name and meaning in ours, Marian's and FSMT's.
SAME_FIELDS = (
    "d_model",
    "encoder_layers",
    "decoder_layers",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "activation_function",
    "max_position_embeddings",
    "scale_embedding",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "decoder_start_token_id",
)
# What a tokenizer has beside its tokens.
TOKENIZER_SETTINGS = (
    *("model_input_names", "model_max_length", "padding_side", "truncation_side"),
    *("split_special_tokens", "extra_special_tokens", "chat_template"),
)
# Tables of early checkpoints were computed in float32; what a table's own dtype rounds away comes on top.
SINUSOID_TOLERANCE = 1e-3


def is_sinusoids(table: torch.Tensor, config: VanillaTransformerConfig) -> bool:
    """Whether a table (positions, E) is that of the sinusoids which a model of `config` computes."""
    if table.ndim != 2 or table.shape[1] != config.d_model or not table.is_floating_point():
        return False
    ours = VanillaTransformerPositionalEncoding(config)(torch.arange(len(table)), torch.float32)
    tolerance = SINUSOID_TOLERANCE + torch.finfo(table.dtype).eps
    return bool((table.float().cpu() - ours).abs().max() <= tolerance)


def read_foreign_file(path: str | Path, *, safe_classes: Sequence[type | tuple[type, str]] = ()) -> Any:
    """What a `.safetensors` file holds, or one of `torch.save`, unpickled with `weights_only=True`.

    Args:
        path: the file.
        safe_classes: classes of plain data, besides tensors and containers, that the file may hold; with a
            name, it stands for the class that the file calls so.

    Raises:
        InputError: the file is missing, damaged, or asks for anything but plain data; nothing of it is run.
    """
    try:
        open(path, "rb").close()
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error.strerror or error}.") from None
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(safe_classes)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = _unpickling_reason(error)
        raise InputError(f"`{path}` is damaged or holds more than weights: {reason}") from None
    except Exception as error:  # what a damaged file raises is of many kinds
        raise InputError(f"`{path}` is damaged or no checkpoint: {first_line(error)}") from None


def _unpickling_reason(error: Exception) -> str:
    """What torch refused, out of a message of many lines of advice."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "Unsupported" in line or "GLOBAL" in line), first_line(error))


def tensors_of(value: Any, name: str) -> Weights:
    """`value` as tensors by name.

    Raises:
        InputError: it is something else; the message calls it `name`.
    """
    if not isinstance(value, Mapping) or not value:
        raise InputError(f"{name} must be tensors by name, but is a {type(value).__name__} instead.")
    for key, tensor in value.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            raise InputError(f"{name} must be tensors by name, but {key!r} is a {type(tensor).__name__}.")
    return dict(value)


def load_foreign_model(kind: type[PreTrainedModel], name: str | Path, absent: tuple[str, ...]) -> Any:
    """A model of another architecture of transformers, all of whose weights are there.

    Args:
        kind: its class.
        name: folder or Hub name; `.bin` files are unpickled with `weights_only=True`.
        absent: parts of the names of weights that are computed, or zero, where the checkpoint lacks them.

    Raises:
        InputError: the checkpoint cannot be loaded or is not of that class; nothing in it is run.
    """
    _check_model_type(kind, name)
    model: Any
    info: Any
    try:
        with damaged_file_named(name):
            model, info = kind.from_pretrained(  # type: ignore[misc]
                name, output_loading_info=True, weights_only=True, trust_remote_code=False
            )
    except Exception as error:  # what a damaged or hostile file raises is of many kinds
        raise InputError(f"`{name}` cannot be loaded: {_unpickling_reason(error)}") from None
    missing = [key for key in sorted(info["missing_keys"]) if not any(part in key for part in absent)]
    if missing:
        raise InputError(f"`{name}` lacks the weights `{missing[0]}`.")
    return model.eval()


def _check_model_type(kind: type[PreTrainedModel], name: str | Path) -> None:
    expected = kind.config_class.model_type  # type: ignore[union-attr]
    try:
        found = kind.config_class.get_config_dict(name)[0].get("model_type")  # type: ignore[union-attr]
    except Exception as error:
        raise InputError(f"`{name}` cannot be loaded: {first_line(error)}") from None
    if found != expected:
        raise InputError(f"`{name}` must be of model type {expected!r}, but is of {found!r} instead.")


def make_config(**fields: Any) -> VanillaTransformerConfig:
    """A configuration of fields that come from a file.

    Raises:
        InputError: a field is of the wrong type or impossible; the message names it.
    """
    try:
        return VanillaTransformerConfig(**fields)
    except StrictDataclassError as error:
        raise InputError(first_line(error.__cause__ or error)) from None  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(first_line(error)) from None


def build_model(
    config: VanillaTransformerConfig, weights: Weights, generation_config: GenerationConfig | None = None
) -> VanillaTransformerForConditionalGeneration:
    """A model in evaluation mode, in the weights' dtype, whose every parameter is in `weights`.

    Raises:
        InputError: a weight is missing, left over or of the wrong shape; the message names it.
    """
    model: Any = VanillaTransformerForConditionalGeneration(config)
    expected = model.state_dict()
    for name in sorted(expected.keys() ^ weights.keys()):
        raise InputError(f"weights `{name}` are {'missing' if name in expected else 'not known'}.")
    for name, tensor in expected.items():
        if tensor.shape != weights[name].shape:
            raise InputError(
                f"weights `{name}` must have the shape {tuple(tensor.shape)}, but have"
                f" {tuple(weights[name].shape)} instead."
            )
    dtype = weights["lm_head.weight"].dtype
    model = model.to(dtype if dtype.is_floating_point else torch.float32)
    model.load_state_dict(weights)
    if generation_config is not None:
        model.generation_config = generation_config
    built: VanillaTransformerForConditionalGeneration = model.eval()
    return built


def sharing_of(weights: Weights) -> dict[str, bool]:
    """Which of the embeddings and the projection hold the same numbers, as fields of our configuration.

    Adds the shared matrix to `weights` under its own name where there is one.
    """
    source, target = (weights[f"model.{stack}.embed_tokens.weight"] for stack in STACKS)
    shared = torch.equal(source, target)
    if shared:
        weights["model.shared.weight"] = source
    return {
        "share_encoder_decoder_embeddings": shared,
        "tie_word_embeddings": torch.equal(target, weights["lm_head.weight"]),
    }


def copy_generation_config(model: PreTrainedModel) -> GenerationConfig:
    """A copy of how a model generates."""
    config: GenerationConfig = model.generation_config
    return GenerationConfig.from_dict(config.to_dict())


def hub_fields_removed(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a configuration but those that name code beside the weights."""
    return {name: value for name, value in fields.items() if name not in ("auto_map", "custom_pipelines")}


def plain_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer itself, or one of transformers' own class where its class is ours."""
    # By its name, as the copy beside a model on the Hub is a class of its own.
    if VanillaTransformerTokenizer.__name__ not in (kind.__name__ for kind in type(tokenizer).__mro__):
        return tokenizer
    settings = {name: getattr(tokenizer, name) for name in TOKENIZER_SETTINGS}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, **settings, **tokenizer.special_tokens_map
    )


def check_fields(config: Any, allowed: Mapping[str, Any], target: str) -> None:
    """Checks that the fields of a configuration have the only values that a format can express.

    Args:
        config: the configuration.
        allowed: the value, or a tuple of values, of each field.
        target: the name of the format.

    Raises:
        InputError: a field has another value; the message names it.
    """
    for name, values in allowed.items():
        value = getattr(config, name, None)
        if value not in (values if isinstance(values, tuple) else (values,)):
            wanted = " or ".join(map(repr, values)) if isinstance(values, tuple) else repr(values)
            raise InputError(f"`{name}` must be {wanted} for {target}, but is {value!r} instead.")


def check_head_dims(config: VanillaTransformerConfig, target: str) -> None:
    """Checks that every head is d_model / heads wide.

    Raises:
        InputError: one is not; the message names the field.
    """
    for stack, dims in zip(STACKS, (config.encoder_head_dims, config.decoder_head_dims), strict=True):
        width = config.d_model / getattr(config, f"{stack}_attention_heads")
        for name, dim in zip(("head_dim", "value_head_dim"), dims, strict=True):
            if dim != width:
                raise InputError(f"`{name}` must be {width:g} for {target}, but is {dim} instead.")


def warn_of_layerdrop(config: Any) -> None:
    """Says what of a configuration of transformers has no effect on ours."""
    for stack in STACKS:
        if getattr(config, f"{stack}_layerdrop"):
            logger.warning(f"`{stack}_layerdrop` is not taken over: training on drops no layers.")


def zero_bias(weights: Weights, name: str) -> torch.Tensor:
    """The zeros that stand for the bias `name`, which our model does not have."""
    projection = weights[name.removesuffix("bias") + "weight"]
    return projection.new_zeros(len(projection))


def reorder_width(model: nn.Module, order: torch.Tensor) -> Weights:
    """The weights of the same function whose residual stream has its d_model entries in another order.

    Nothing in the model but the positional encoding tells these entries apart, so their order is free. New
    entry j is the old entry `order[j]`.

    Returns:
        The weights under their names, those of parameters that are one and the same included.
    """
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, tensor in weights.items():
        layer = name.split(".")[-2]
        writes = layer in ("out_proj", "fc2") or layer.endswith("layer_norm")
        if writes:
            weights[name] = tensor[order]
        elif tensor.ndim == 2:
            weights[name] = tensor[:, order]
    return weights
