"""State dicts of modules around `torch.nn.Transformer`, with embeddings and projection: in and out."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig
from transformers.activations import ACT2FN

from ..configuration import VanillaTransformerConfig
from ..errors import InputError
from ..files import read_json
from ..modeling import VanillaTransformerForConditionalGeneration
from ..modeling.generation_vanilla_transformer import PAPER_DECODING, set_decoding
from ..modeling.saving_vanilla_transformer import files_written_whole
from .adapters import plain_model
from .weights import (
    STACKS,
    Weights,
    build_model,
    check_head_dims,
    copy_generation_config,
    is_sinusoids,
    make_config,
    read_foreign_file,
    tensors_of,
    zero_bias,
)

ATTENTIONS = {"self_attn": "self_attn", "encoder_attn": "multihead_attn"}
PLAIN = {"fc1": "linear1", "fc2": "linear2"}
NORMS = {
    "encoder": {"self_attn_layer_norm": "norm1", "final_layer_norm": "norm2"},
    "decoder": {
        "self_attn_layer_norm": "norm1",
        "encoder_attn_layer_norm": "norm2",
        "final_layer_norm": "norm3",
    },
}
SIDES = {"encoder": "source", "decoder": "target"}
OUTSIDE = (
    "source_embedding.weight",
    "target_embedding.weight",
    "projection.weight",
    "projection.bias",
    "source_positions.weight",
    "target_positions.weight",
)
_FIRST_ATTENTION = re.compile(r"((?:.*\.)?)encoder\.layers\.0\.self_attn\.in_proj_weight")


def to_torch(model: VanillaTransformerForConditionalGeneration) -> Weights:
    """The weights as a `torch.nn.Transformer` names them, behind `transformer.`, and beside it
    `source_embedding.weight`, `target_embedding.weight`, `projection.weight` and `projection.bias`, and of
    learned positions `source_positions.weight` and `target_positions.weight`.

    `torch_transformer(config)` makes the module that the first go into. Adapters of PEFT are merged, see
    `plain_model`.

    Raises:
        InputError: `torch.nn.Transformer` has no such architecture or layer; the message names the field or
            the layer.
    """
    model = plain_model(model)
    config = model.config
    check_head_dims(config, "torch.nn.Transformer")
    ours = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = {
        "source_embedding.weight": ours["model.encoder.embed_tokens.weight"],
        "target_embedding.weight": ours["model.decoder.embed_tokens.weight"],
        "projection.weight": ours["lm_head.weight"],
    }
    if config.lm_head_bias:
        weights["projection.bias"] = ours["lm_head.bias"]
    for stack, side in SIDES.items():
        if config.position_embedding == "learned":
            weights[f"{side}_positions.weight"] = ours[f"model.{stack}.embed_positions.weight"]
    for theirs, names in _places(config):
        parts = [ours[name] if name in ours else zero_bias(ours, name) for name in names]
        weights[f"transformer.{theirs}"] = torch.cat(parts)
    return weights


def save_torch(
    model: VanillaTransformerForConditionalGeneration, folder: str | Path, tokenizer: Any = None
) -> None:
    """Writes `to_torch(model)` to `model.pt`, the two configurations beside it, and the tokenizer.

    Raises:
        InputError: `torch.nn.Transformer` has no such architecture; the message names the field.
    """
    weights = to_torch(model)
    with files_written_whole(folder) as beside:
        torch.save(weights, beside / "model.pt")
        model.config.save_pretrained(beside)
        copy_generation_config(model).save_pretrained(beside)
        if tokenizer is not None:
            tokenizer.save_pretrained(beside)


def load_torch(path: str | Path, config: str | Path) -> VanillaTransformerForConditionalGeneration:
    """Our model out of a state dict saved to a file, and a JSON file of what no tensor tells.

    Args:
        path: a `.safetensors` file, or one of `torch.save`, which is unpickled with `weights_only=True`.
        config: a JSON object of `from_torch`'s `fields` and, under `names`, its `names`; or a configuration
            of ours as it was saved. A `generation_config.json` beside it says how the model generates.

    Raises:
        InputError: a file cannot be read, or the two do not fit together.
    """
    fields = read_json(Path(config))
    names = fields.pop("names", {})
    if not isinstance(names, dict):
        raise InputError(f"`names` in `{config}` must be a JSON object, but is {names!r} instead.")
    unknown = fields.keys() - {field.name for field in dataclasses.fields(VanillaTransformerConfig)}
    if unknown and fields.get("model_type") != VanillaTransformerConfig.model_type:
        raise InputError(f"`{config}` has no field {min(unknown)!r} of our configuration.")
    state = tensors_of(read_foreign_file(path), f"`{path}`")
    model = from_torch(state, names=names, **fields)
    search = Path(config).with_name("generation_config.json")
    if search.is_file():
        model.generation_config = GenerationConfig.from_dict(read_json(search))
    return model


def torch_transformer(config: VanillaTransformerConfig, **factory: Any) -> nn.Transformer:
    """A `torch.nn.Transformer` of this architecture, with its dropouts, batch first.

    Args:
        config: ours.
        factory: `device` and `dtype`.

    Raises:
        InputError: there is none; the message names the field.
    """
    check_head_dims(config, "torch.nn.Transformer")
    common: dict[str, Any] = {
        "dropout": config.dropout,
        # A function, as a decoder layer forgets an activation that is a module when it is copied.
        "activation": ACT2FN[config.activation_function].forward,
        "layer_norm_eps": config.layer_norm_eps,
        "batch_first": True,
        "norm_first": config.norm_position == "pre",
        **factory,
    }
    encoder_layer = nn.TransformerEncoderLayer(
        config.d_model, config.encoder_attention_heads, config.encoder_ffn_dim, **common
    )
    decoder_layer = nn.TransformerDecoderLayer(
        config.d_model, config.decoder_attention_heads, config.decoder_ffn_dim, **common
    )
    for layer in (encoder_layer, decoder_layer):
        layer.dropout.p = config.activation_dropout
        for module in layer.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = config.attention_dropout
    norms = [
        nn.LayerNorm(config.d_model, config.layer_norm_eps, **factory) if config.has_final_norm else None
        for _ in STACKS
    ]
    encoder = nn.TransformerEncoder(
        encoder_layer, config.encoder_layers, norms[0], enable_nested_tensor=False
    )
    return nn.Transformer(
        config.d_model,
        config.decoder_attention_heads,
        batch_first=True,
        custom_encoder=encoder,
        custom_decoder=nn.TransformerDecoder(decoder_layer, config.decoder_layers, norms[1]),
    )


def from_torch(
    state: Mapping[str, torch.Tensor], *, names: Mapping[str, str] | None = None, **fields: Any
) -> VanillaTransformerForConditionalGeneration:
    """Our model out of the state dict of a module around `torch.nn.Transformer`.

    Args:
        state: its tensors. Those of the `torch.nn.Transformer` are found by their names, behind any prefix; a
            buffer of sinusoids is compared with ours.
        names: how the state dict calls `source_embedding.weight`, `target_embedding.weight`,
            `projection.weight`, `projection.bias`, `source_positions.weight` and `target_positions.weight`;
            by default just so. An absent target embedding is the source's, an absent projection the target's.
        fields: of our configuration, what no tensor tells: `encoder_attention_heads` (and, where it differs,
            `decoder_attention_heads`), `norm_position`, `activation_function`, the token ids and how
            positions are made. The sizes are read from the tensors.

    Returns:
        The model; it generates by the paper's search (`PAPER_DECODING`).

    Raises:
        InputError: a tensor or a field is missing, left over or does not fit.
    """
    remaining = dict(state)
    outside = _take_outside(remaining, names or {})
    body = _take_body(remaining)
    config = _config_of(body, outside, fields)
    weights = _outside_weights(outside, config)
    for theirs, ours in _places(config):
        weights |= _split(body, theirs, ours, config)
    places = {theirs for theirs, _ in _places(config)}
    remaining |= {name: tensor for name, tensor in body.items() if name not in places}
    _check_remaining(remaining, config)
    model = build_model(config, weights)
    set_decoding(model.generation_config, **PAPER_DECODING)
    return model


def _take_outside(state: Weights, names: Mapping[str, str]) -> Weights:
    """Moves the tensors around the `torch.nn.Transformer` out of `state`, under our names for them."""
    for name in names.keys() - set(OUTSIDE):
        raise InputError(f"`names` must be of {', '.join(OUTSIDE)}, but has {name!r}.")
    for name in set(names.values()) - state.keys():
        raise InputError(f"the state dict has no tensor {name!r}, which `names` asks for.")
    found = {name: state[names.get(name, name)] for name in OUTSIDE if names.get(name, name) in state}
    for name in found:
        state.pop(names.get(name, name), None)
    if "source_embedding.weight" not in found:
        raise InputError("`names` must say which tensor is `source_embedding.weight`.")
    return found


def _take_body(state: Weights) -> Weights:
    """Moves what is inside the `torch.nn.Transformer` out of `state`, without its prefix."""
    prefixes = {match[1] for name in state if (match := _FIRST_ATTENTION.fullmatch(name))}
    if len(prefixes) != 1:
        raise InputError(f"the state dict must hold one `torch.nn.Transformer`, but holds {len(prefixes)}.")
    prefix = prefixes.pop()
    parts = tuple(f"{prefix}{stack}.{part}." for stack in STACKS for part in ("layers", "norm"))
    inside = [name for name in state if name.startswith(parts)]
    return {name.removeprefix(prefix): state.pop(name) for name in inside}


def _config_of(body: Weights, outside: Weights, fields: dict[str, Any]) -> VanillaTransformerConfig:
    if "encoder_attention_heads" not in fields:
        raise InputError("`encoder_attention_heads` must be given: no tensor tells it.")
    source = outside["source_embedding.weight"]
    target = outside.get("target_embedding.weight", source)
    biases = [tensor for name, tensor in body.items() if "attn." in name and name.endswith("bias")]
    read: dict[str, Any] = {
        "vocab_size": len(source),
        "decoder_vocab_size": len(target),
        "d_model": source.shape[-1],
        "final_norm": "encoder.norm.weight" in body,
        "attention_bias": any(bool(bias.any()) for bias in biases),
        "lm_head_bias": "projection.bias" in outside,
        "share_encoder_decoder_embeddings": torch.equal(source, target),
        "tie_word_embeddings": torch.equal(target, outside.get("projection.weight", target)),
    }
    for stack in STACKS:
        numbers = [int(name.split(".")[2]) for name in body if name.startswith(f"{stack}.layers.")]
        read[f"{stack}_layers"] = max(numbers, default=-1) + 1
        read[f"{stack}_ffn_dim"] = len(body.get(f"{stack}.layers.0.linear1.weight", source))
    if "source_positions.weight" in outside:
        read |= {"position_embedding": "learned"}
        read["max_position_embeddings"] = len(outside["source_positions.weight"])
    heads = {"decoder_attention_heads": fields["encoder_attention_heads"]}
    return make_config(**heads | fields | read)


def _outside_weights(outside: Weights, config: VanillaTransformerConfig) -> Weights:
    source = outside["source_embedding.weight"]
    target = outside.get("target_embedding.weight", source)
    weights = {
        "model.encoder.embed_tokens.weight": source,
        "model.decoder.embed_tokens.weight": target,
        "lm_head.weight": outside.get("projection.weight", target),
    }
    if config.share_encoder_decoder_embeddings:
        weights["model.shared.weight"] = source
    if "projection.bias" in outside:
        weights["lm_head.bias"] = outside["projection.bias"]
    for stack, side in SIDES.items():
        if f"{side}_positions.weight" in outside:
            weights[f"model.{stack}.embed_positions.weight"] = outside[f"{side}_positions.weight"]
    return weights


def _split(body: Weights, theirs: str, ours: list[str], config: VanillaTransformerConfig) -> Weights:
    """The weights that one tensor of `body` holds; an absent bias is zero."""
    tensor = body.get(theirs)
    if tensor is None and not theirs.endswith("bias"):
        raise InputError(f"the weights of the `torch.nn.Transformer` lack `{theirs}`.")
    if _is_attention(ours[0]) and theirs.endswith("bias") and not config.attention_bias:
        return {}
    if tensor is None:
        tensor = torch.zeros(len(body[theirs.removesuffix("bias") + "weight"]))
    return dict(zip(ours, tensor.chunk(len(ours)), strict=True))


def _check_remaining(remaining: Weights, config: VanillaTransformerConfig) -> None:
    """Refuses what is left over, unless it is a table of the sinusoids that the model computes."""
    for name, tensor in remaining.items():
        if config.position_embedding != "sinusoidal" or not is_sinusoids(tensor.squeeze(), config):
            raise InputError(f"weights `{name}` have no place in the model; `names` says what they are.")


def _places(config: VanillaTransformerConfig) -> Iterator[tuple[str, list[str]]]:
    """Yields each tensor of a `torch.nn.Transformer` with our names for its parts, in their order."""
    for stack in STACKS:
        attentions = {k: v for k, v in ATTENTIONS.items() if stack == "decoder" or k == "self_attn"}
        plain = {**PLAIN, **NORMS[stack]}
        for number, kind in product(range(getattr(config, f"{stack}_layers")), ("weight", "bias")):
            layer = f"{stack}.layers.{number}"
            for ours, theirs in attentions.items():
                projections = [f"model.{layer}.{ours}.{letter}_proj.{kind}" for letter in "qkv"]
                yield f"{layer}.{theirs}.in_proj_{kind}", projections
                yield f"{layer}.{theirs}.out_proj.{kind}", [f"model.{layer}.{ours}.out_proj.{kind}"]
            for ours, theirs in plain.items():
                yield f"{layer}.{theirs}.{kind}", [f"model.{layer}.{ours}.{kind}"]
        if config.has_final_norm:
            for kind in ("weight", "bias"):
                yield f"{stack}.norm.{kind}", [f"model.{stack}.layer_norm.{kind}"]


def _is_attention(name: str) -> bool:
    return "_attn." in name
