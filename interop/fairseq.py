"""The `transformer` of fairseq: its checkpoints in.

Checkpoints of all its versions are read: those whose settings are `args`, an `argparse.Namespace`, and those
whose settings are `cfg`, plain dictionaries. Nothing in them is run, and fairseq is not needed.
"""

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import GenerationConfig

from ..errors import InputError
from ..modeling import VanillaTransformerForConditionalGeneration
from .fairseq_text import load_text
from .weights import (
    STACKS,
    Weights,
    build_model,
    check_fields,
    make_config,
    read_foreign_file,
    sharing_of,
    tensors_of,
    warn_of_layerdrop,
)

CHECKPOINT_NAMES = ("model.pt", "checkpoint_best.pt", "checkpoint_last.pt")
BOS, PAD, EOS = 0, 1, 2
# Fields of the same name, with fairseq's defaults; sizes are read from the weights.
FIELDS = {
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
}
ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
    "tanh": "tanh",
    "linear": "linear",
}
_OFF = (None, False)
# What the architecture cannot be; an absent setting is None.
REFUSED: dict[str, Any] = {
    "adaptive_input": _OFF,
    "adaptive_softmax_cutoff": None,
    "base_layers": (None, 0),
    "char_inputs": _OFF,
    "cross_self_attention": _OFF,
    "decoder_layers_to_keep": None,
    "encoder_layers_to_keep": None,
    "layer_wise_attention": _OFF,
    "layernorm_embedding": _OFF,
    "merge_src_tgt_embed": _OFF,
    "no_cross_attention": _OFF,
    "quant_noise_pq": (None, 0),
}
# Groups of `cfg` whose settings matter, later ones over earlier ones.
GROUPS = ("tokenizer", "bpe", "task", "model")
# Tables and counters that are not weights.
COMPUTED = (".version", ".embed_positions.weights", ".embed_positions._float_tensor")
OUTPUTS = ("decoder.output_projection.weight", "decoder.embed_out")
NUMBERED_NORMS = {
    ("encoder", "0"): "self_attn_layer_norm",
    ("encoder", "1"): "final_layer_norm",
    ("decoder", "0"): "self_attn_layer_norm",
    ("decoder", "1"): "encoder_attn_layer_norm",
    ("decoder", "2"): "final_layer_norm",
}
_NUMBERED_NORM = re.compile(r"(encoder|decoder)(\.layers\.\d+)\.layer_norms\.(\d)(\.\w+)")


class _Record:
    """Stands for an object that a checkpoint keeps beside its weights: its fields, and no code."""


SAFE_CLASSES: tuple[type | tuple[type, str], ...] = (
    argparse.Namespace,
    *((_Record, f"fairseq.meters.{name}") for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")),
)


def load_fairseq(
    path: str | Path, changes: Mapping[str, Any] | None = None, *, with_tokenizer: bool = True
) -> tuple[VanillaTransformerForConditionalGeneration, Any]:
    """Our model out of a checkpoint of fairseq, and its tokenizer (see `load_text`).

    Args:
        path: the checkpoint, or a folder with a `model.pt`, `checkpoint_best.pt` or `checkpoint_last.pt`.
        changes: settings of `TEXT_SETTINGS`, under fairseq's names, that replace the checkpoint's. `data` is
            the folder of the dictionaries and codes, by default that of the checkpoint.
        with_tokenizer: make the tokenizer too; else it is None.

    Raises:
        InputError: a file cannot be read, or the checkpoint is not of this architecture.
    """
    file = _checkpoint(Path(path))
    state = read_foreign_file(file, safe_classes=SAFE_CLASSES)
    try:
        settings = settings_of(state)
        model = from_fairseq(state)
    except InputError as error:
        raise InputError(f"`{file}`: {error}") from None
    if not with_tokenizer:
        return model, None
    sizes = [model.get_parameter(f"model.{stack}.embed_tokens.weight").shape[0] for stack in STACKS]
    return model, load_text(settings | {"data": file.parent}, changes or {}, sizes)


def _checkpoint(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in CHECKPOINT_NAMES if (path / name).is_file()]
    if not found:
        raise InputError(f"`{path}` must hold one of {', '.join(CHECKPOINT_NAMES)}, but holds none.")
    return found[0]


def settings_of(state: Any) -> dict[str, Any]:
    """The settings that a checkpoint was trained with, flat and under fairseq's names.

    Raises:
        InputError: it holds none.
    """
    if not isinstance(state, Mapping):
        raise InputError(f"a checkpoint must be a dict, but is a {type(state).__name__} instead.")
    cfg, args = state.get("cfg"), state.get("args")
    if isinstance(cfg, Mapping):
        return {name: value for group in GROUPS for name, value in _flat(group, cfg.get(group)).items()}
    if isinstance(args, argparse.Namespace):
        return vars(args)
    raise InputError("the settings of a checkpoint must be its `args` or its `cfg`, but it has neither.")


def _flat(group: str, settings: Any) -> dict[str, Any]:
    """One group of `cfg`: its name, its settings, and those of the stacks inside it under their prefix."""
    if isinstance(settings, argparse.Namespace):
        settings = vars(settings)
    if not isinstance(settings, Mapping):
        return {group: settings}
    flat = {group: settings.get("_name")}
    for name, value in settings.items():
        inner = value if isinstance(value, Mapping) else {}
        flat |= {f"{name}_{key}": one for key, one in inner.items()} or {name: value}
    return flat


def from_fairseq(state: Mapping[str, Any]) -> VanillaTransformerForConditionalGeneration:
    """Our model with the weights of a checkpoint of fairseq's `transformer`.

    It generates as fairseq does by default: a beam of 5, scores divided by the length, an end as soon as
    there are 5 translations, at most 200 tokens before `</s>`. At that limit fairseq adds the probability of
    `</s>` to a score, and transformers does not. Sinusoids are tensor2tensor's and begin at `PAD + 1`, and
    the decoder starts with `</s>`. LayerDrop is not taken over.

    Args:
        state: what the file of the checkpoint holds: `model`, and `args` or `cfg`.

    Raises:
        InputError: the architecture is another one; the message names the setting or the weights.
    """
    settings = settings_of(state)
    weights = _weights(tensors_of(state.get("model"), "`model`"))
    _check_settings(settings)
    if settings.get("share_all_embeddings") or settings.get("share_decoder_input_output_embed"):
        # Early versions stored a shared projection once.
        weights.setdefault("lm_head.weight", _matrix(weights, "model.decoder.embed_tokens.weight"))
    fields = {name: settings.get(name, default) for name, default in FIELDS.items()}
    # Its name up to fairseq 0.6.
    fields["activation_dropout"] = fields["activation_dropout"] or settings.get("relu_dropout") or 0.0
    fields |= _activation(settings) | _norms(settings, weights) | _positions(settings, weights)
    fields |= _sizes(weights)
    config = make_config(
        **fields,
        attention_bias=True,
        scale_embedding=not settings.get("no_scale_embedding"),
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        decoder_start_token_id=EOS,
    )
    return build_model(config, weights, _generation_config(settings))


def _weights(theirs: Weights) -> Weights:
    """All weights under our names, those of early versions too."""
    return {name: part for key, tensor in theirs.items() for name, part in _renamed(key, tensor)}


def _renamed(name: str, tensor: Any) -> Iterator[tuple[str, Any]]:
    """Yields our names for the weights that one tensor of fairseq holds."""
    if name.endswith(COMPUTED):
        return
    if name in OUTPUTS:
        yield "lm_head.weight", tensor
    elif ".in_proj_" in name and tensor.ndim:
        for letter, part in zip("qkv", tensor.tensor_split(3), strict=True):
            yield f"model.{name.replace('.in_proj_', f'.{letter}_proj.')}", part
    elif match := _NUMBERED_NORM.fullmatch(name):
        stack, layer, number, kind = match.groups()
        yield f"model.{stack}{layer}.{NUMBERED_NORMS.get((stack, number), number)}{kind}", tensor
    else:
        yield f"model.{name}", tensor


def _check_settings(settings: dict[str, Any]) -> None:
    """Raises `InputError` for a setting that the architecture cannot express."""
    check_fields(SimpleNamespace(**settings), REFUSED, "this architecture")
    width = settings.get("encoder_embed_dim", 512)
    for name in ("decoder_embed_dim", "decoder_input_dim", "decoder_output_dim"):
        _check_equal(settings, name, "encoder_embed_dim", (width, width))
    for what in ("normalize_before", "learned_pos"):
        _check_equal(settings, f"decoder_{what}", f"encoder_{what}", (False, False))
    drops = {f"{stack}_layerdrop": settings.get(f"{stack}_layerdrop", 0) for stack in STACKS}
    warn_of_layerdrop(SimpleNamespace(**drops))


def _check_equal(settings: dict[str, Any], name: str, other: str, defaults: tuple[Any, Any]) -> None:
    value, wanted = settings.get(name, defaults[0]), settings.get(other, defaults[1])
    if value != wanted:
        raise InputError(f"`{name}` must be `{other}` ({wanted}) for this architecture, but is {value}.")


def _activation(settings: dict[str, Any]) -> dict[str, str]:
    name = settings.get("activation_fn", "relu")
    if name not in ACTIVATIONS:
        raise InputError(f"`activation_fn` must be one of {', '.join(ACTIVATIONS)}, but is {name!r} instead.")
    return {"activation_function": ACTIVATIONS[name]}


def _norms(settings: dict[str, Any], weights: Weights) -> dict[str, Any]:
    """Where the norms stand; early versions had no final one before they counted their layout."""
    final = [f"model.{stack}.layer_norm.weight" in weights for stack in STACKS]
    if final[0] != final[1]:
        raise InputError("`no_decoder_final_norm` must be False for this architecture, but is True instead.")
    position = "pre" if settings.get("encoder_normalize_before") else "post"
    return {"norm_position": position, "final_norm": final[0]}


def _positions(settings: dict[str, Any], weights: Weights) -> dict[str, Any]:
    """How positions are made; of learned tables those rows are dropped that fairseq's numbering skips."""
    if settings.get("no_token_positional_embeddings"):
        return {"position_embedding": "none"}
    names = [f"model.{stack}.embed_positions.weight" for stack in STACKS]
    if not settings.get("encoder_learned_pos") or not set(names) <= weights.keys():
        return {"sinusoidal_layout": "tensor2tensor", "sinusoidal_offset": PAD + 1}
    for name in names:
        weights[name] = weights[name][PAD + 1 :]
    lengths = tuple(len(weights[name]) for name in names)
    if lengths[0] != lengths[1]:
        raise InputError(
            f"`max_target_positions` must be `max_source_positions` ({lengths[0]}) for learned positions, but"
            f" is {lengths[1]}."
        )
    return {"position_embedding": "learned", "max_position_embeddings": lengths[0]}


def _sizes(weights: Weights) -> dict[str, Any]:
    """Widths, numbers of layers and vocabularies, and which matrices are one."""
    sizes: dict[str, Any] = {}
    for stack, field in zip(STACKS, ("vocab_size", "decoder_vocab_size"), strict=True):
        layers = f"model.{stack}.layers."
        numbers = {name[len(layers) :].partition(".")[0] for name in weights if name.startswith(layers)}
        sizes |= {f"{stack}_layers": len(numbers)}
        sizes[field], sizes["d_model"] = _matrix(weights, f"model.{stack}.embed_tokens.weight").shape
        sizes[f"{stack}_ffn_dim"] = len(_matrix(weights, f"{layers}0.fc1.weight"))
    _matrix(weights, "lm_head.weight")
    return sizes | sharing_of(weights)


def _matrix(weights: Weights, name: str) -> torch.Tensor:
    if name not in weights or weights[name].ndim != 2:
        raise InputError(f"weights `{name}` must be a matrix, but are missing or none.")
    return weights[name]


def _generation_config(settings: dict[str, Any]) -> GenerationConfig:
    """The defaults of fairseq-generate, which counts 200 tokens before the end token."""
    return GenerationConfig(
        num_beams=5,
        length_penalty=1.0,
        early_stopping=True,
        min_new_tokens=1,
        max_new_tokens=min(200, (settings.get("max_target_positions") or 1024) - 1) + 1,
        suppress_tokens=[PAD],
        forced_eos_token_id=EOS,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        decoder_start_token_id=EOS,
    )
