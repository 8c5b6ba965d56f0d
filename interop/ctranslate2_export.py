"""CTranslate2's format: out, through its own specifications (`ctranslate2.specs`).

Shapes in trailing comments: H heads, K width of a head's queries and keys, V width of its values, E model
width.
"""

from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationConfig
from transformers.utils import logging

from ..configuration import VanillaTransformerConfig
from ..errors import InputError, import_extra
from ..modeling import VanillaTransformerForConditionalGeneration
from ..modeling.ctranslate2_engine import unsupported_fields
from ..modeling.modeling_vanilla_transformer import (
    VanillaTransformerAttention,
    VanillaTransformerLayer,
    VanillaTransformerPositionalEncoding,
    VanillaTransformerStack,
)
from ..modeling.saving_vanilla_transformer import files_written_whole
from ..modeling.translation_vanilla_transformer import side_vocabulary
from .adapters import plain_model
from .weights import STACKS, copy_generation_config, hub_fields_removed, plain_tokenizer

logger = logging.get_logger(__name__)

# One of both sides, or one of each.
_VOCABULARY_FILES = tuple(f"{side}_vocabulary.json" for side in ("shared", "source", "target"))

# Names of transformers' activations in `ctranslate2.specs.Activation`.
ACTIVATIONS = {
    "relu": "RELU",
    "gelu": "GELU",
    "gelu_new": "GELUTanh",
    "gelu_pytorch_tanh": "GELUTanh",
    "quick_gelu": "GELUSigmoid",
    "silu": "SWISH",
    "swish": "SWISH",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
}
QUANTIZATIONS = (
    "float32",
    "float16",
    "bfloat16",
    "int16",
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
)
# Rows of the table of positions, where there is none of the model's own: CTranslate2 computes only one kind.
POSITIONS = 2048


def to_ctranslate2(
    model: VanillaTransformerForConditionalGeneration, tokenizer: Any = None, *, positions: int = POSITIONS
) -> Any:
    """A `ctranslate2.specs.TransformerSpec` with the weights in float32, validated.

    Absent biases stay absent. Heads with d_k unequal d_v are filled up with zeros to the wider of the two,
    which changes neither scores nor outputs. Sinusoids become a table, except those that CTranslate2 computes
    for any length: tensor2tensor's that begin at 1, as OpenNMT's do.

    Args:
        model: ours, adapted by PEFT or not, see `plain_model`.
        tokenizer: gives the tokens of the vocabulary their names; without one they are called by number.
        positions: rows of the table of positions; a longer source or translation is refused when it comes.
            Learned positions keep their own number.

    Raises:
        InputError: CTranslate2 has no such architecture or layer, the message names the field or the layer;
            or is not installed.
    """
    specs = import_extra("ctranslate2", "ctranslate2").specs
    model = plain_model(model)
    config = model.config
    _check_exportable(config, model.generation_config)
    spec = specs.TransformerSpec(
        _stack(specs, model.model.encoder, config.encoder_attention_heads, positions),
        _stack(specs, model.model.decoder, config.decoder_attention_heads, positions),
    )
    _set_linear(spec.decoder.projection, model.lm_head.weight, model.lm_head.bias)
    source = token_names(tokenizer, config.vocab_size, target=False)
    target = token_names(tokenizer, config.decoder_vocab_size or config.vocab_size, target=True)
    spec.register_source_vocabulary(source)
    spec.register_target_vocabulary(target)
    _set_config(spec.config, config, tokenizer, target)
    if _needs_table(config) and config.position_embedding != "learned":
        spec.config.add_attribute("exported_positions", positions)
    spec.validate()
    return spec


def save_ctranslate2(
    model: VanillaTransformerForConditionalGeneration,
    folder: str | Path,
    tokenizer: Any = None,
    *,
    quantization: str = "float32",
    positions: int = POSITIONS,
) -> None:
    """Writes `to_ctranslate2(model)`, how the model generates, and the tokenizer, into a folder.

    Its `config.json` is CTranslate2's and ours in one. A tokenizer of ours is saved as one of transformers'
    own class, so that the folder serves where this package is not.

    Args:
        quantization: how weights are stored, one of `QUANTIZATIONS`. Translating may use another type.

    Raises:
        InputError: as `to_ctranslate2`, or there is no such quantization.
    """
    if quantization not in QUANTIZATIONS:
        known = ", ".join(QUANTIZATIONS)
        raise InputError(f"`quantization` must be one of {known}, but is {quantization!r} instead.")
    spec = to_ctranslate2(model, tokenizer, positions=positions)
    spec.optimize(quantization)
    with files_written_whole(folder) as beside:
        spec.save(str(beside))
        _generation_config(model).save_pretrained(beside)
        if tokenizer is not None:
            plain_tokenizer(tokenizer).save_pretrained(beside)
        old = [name for name in _VOCABULARY_FILES if not (beside / name).exists()]
    for name in old:  # of a model of before, with one vocabulary or two
        Path(folder, name).unlink(missing_ok=True)


def token_names(tokenizer: Any, size: int, *, target: bool) -> list[str]:
    """A name of its own for each token of a vocabulary of `size`: the tokenizer's, or else its number."""
    texts: dict[int, str] = {}
    if tokenizer is not None:
        texts = {number: text for text, number in side_vocabulary(tokenizer, target=target).items()}
    names = [texts.get(number, f"<{number}>") for number in range(size)]
    taken: set[str] = set()
    for number in range(size):
        while names[number] in taken:
            names[number] += f"<{number}>"
        taken.add(names[number])
    return names


def _generation_config(model: VanillaTransformerForConditionalGeneration) -> GenerationConfig:
    """How a model generates, without what CTranslate2 does not have."""
    config = copy_generation_config(model)
    for name, value in unsupported_fields(config).items():
        logger.warning(
            f"`{name}` {value!r} of the generation config is not taken over: CTranslate2 has none."
        )
        setattr(config, name, None)
    return config


def _check_exportable(config: VanillaTransformerConfig, generation_config: GenerationConfig) -> None:
    """Raises `InputError` for a field that CTranslate2 cannot express."""
    if config.activation_function not in ACTIVATIONS:
        raise InputError(
            f"`activation_function` must be one of {', '.join(ACTIVATIONS)} for CTranslate2, but is"
            f" {config.activation_function!r} instead."
        )
    for stack in STACKS:
        if not getattr(config, f"{stack}_layers"):
            raise InputError(f"`{stack}_layers` must be positive for CTranslate2, but is 0 instead.")
    for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
        if not isinstance(getattr(config, name), int):
            raise InputError(
                f"`{name}` must be one token for CTranslate2, but is {getattr(config, name)!r} instead."
            )
        generated = getattr(generation_config, name)
        if generated != getattr(config, name):
            raise InputError(
                f"`{name}` of the generation config must be the model's, {getattr(config, name)}, but is"
                f" {generated!r} instead."
            )


def _stack(specs: Any, stack: VanillaTransformerStack, heads: int, positions: int) -> Any:
    """The specification of the encoder or the decoder, with its weights."""
    config = stack.config
    layer: Any = stack.layers[0]
    is_decoder = hasattr(layer, "encoder_attn")
    attention = layer.self_attn
    kind = specs.TransformerDecoderSpec if is_decoder else specs.TransformerEncoderSpec
    spec = kind(
        len(stack.layers),
        heads,
        # Decides for the specification whether there is a final norm: we have one or none in either order.
        pre_norm=config.has_final_norm,
        activation=getattr(specs.Activation, ACTIVATIONS[config.activation_function]),
        head_dim=max(attention.head_dim, attention.value_head_dim),
    )
    spec.pre_norm = config.norm_position == "pre"
    spec.scale_embeddings = config.scale_embedding
    embeddings = spec.embeddings if is_decoder else spec.embeddings[0]
    embeddings.weight = _float(stack.embed_tokens.weight)
    _set_positions(spec.position_encodings, stack, positions)
    if stack.layer_norm is not None:
        _set_norm(spec.layer_norm, stack.layer_norm)
    for one, theirs in zip(stack.layers, spec.layer, strict=True):
        _set_layer(theirs, one)
    return spec


def _set_positions(spec: Any, stack: VanillaTransformerStack, rows: int) -> None:
    config = stack.config
    if config.position_embedding == "learned":
        spec.encodings = _float(stack.get_parameter("embed_positions.weight"))
    elif config.position_embedding == "none":
        spec.encodings = torch.zeros(rows, config.d_model)
    elif _needs_table(config):
        spec.encodings = VanillaTransformerPositionalEncoding(config)(torch.arange(rows), torch.float32)


def _needs_table(config: VanillaTransformerConfig) -> bool:
    """Whether positions are not the ones that CTranslate2 computes where it is given none."""
    computed = config.sinusoidal_layout == "tensor2tensor" and config.sinusoidal_offset == 1
    return config.position_embedding != "sinusoidal" or not computed


def _set_layer(spec: Any, layer: VanillaTransformerLayer) -> None:
    modules: Any = layer
    _set_attention(spec.self_attention, modules.self_attn, is_self=True)
    _set_norm(spec.self_attention.layer_norm, modules.self_attn_layer_norm)
    if hasattr(modules, "encoder_attn"):
        _set_attention(spec.attention, modules.encoder_attn, is_self=False)
        _set_norm(spec.attention.layer_norm, modules.encoder_attn_layer_norm)
    _set_linear(spec.ffn.linear_0, layer.fc1.weight, layer.fc1.bias)
    _set_linear(spec.ffn.linear_1, layer.fc2.weight, layer.fc2.bias)
    _set_norm(spec.ffn.layer_norm, layer.final_layer_norm)


def _set_attention(spec: Any, attention: VanillaTransformerAttention, *, is_self: bool) -> None:
    """Queries, keys and values in one projection, or the queries' by itself in attention to the source."""
    width = max(attention.head_dim, attention.value_head_dim)
    query, key, value = (
        _widened(projection, attention.num_heads, width)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    fused = [[query, key, value]] if is_self else [[query], [key, value]]
    for linear, parts in zip(spec.linear, fused, strict=False):
        biases = [bias for _, bias in parts if bias is not None]
        _set_linear(linear, torch.cat([weight for weight, _ in parts]), torch.cat(biases) if biases else None)
    out = attention.out_proj
    by_head = out.weight.unflatten(1, (attention.num_heads, -1))  # (E, H, V)
    padded = F.pad(by_head, (0, width - attention.value_head_dim)).flatten(1)
    _set_linear(spec.linear[-1], padded, out.bias)
    spec.queries_scale = numpy.float32(attention.scaling)


def _widened(projection: nn.Linear, heads: int, width: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias of a projection whose heads are filled up with zeros to `width`."""
    by_head = projection.weight.unflatten(0, (heads, -1))  # (H, K, E)
    missing = width - by_head.shape[1]
    bias: torch.Tensor | None = projection.bias
    if bias is not None:
        bias = F.pad(bias.unflatten(0, (heads, -1)), (0, missing)).flatten()
    return F.pad(by_head, (0, 0, 0, missing)).flatten(0, 1), bias


def _set_linear(spec: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    spec.weight = _float(weight)
    if bias is not None:
        spec.bias = _float(bias)


def _set_norm(spec: Any, norm: nn.LayerNorm) -> None:
    spec.gamma = _float(norm.weight)
    spec.beta = _float(norm.bias)


def _float(tensor: torch.Tensor) -> torch.Tensor:
    # A copy, as CTranslate2 quantizes in place.
    return tensor.detach().to("cpu", torch.float32, copy=True)


def _set_config(theirs: Any, config: Any, tokenizer: Any, target: list[str]) -> None:
    """CTranslate2's own fields, and beside them ours, by which transformers finds the tokenizer."""
    unknown = getattr(tokenizer, "unk_token", None)
    theirs.layer_norm_epsilon = config.layer_norm_eps
    theirs.decoder_start_token = target[config.decoder_start_token_id]
    theirs.eos_token = target[config.eos_token_id]
    theirs.bos_token = theirs.decoder_start_token
    # It must be in the vocabulary, though our engine never meets it: it is given what is there.
    theirs.unk_token = unknown if unknown in target else theirs.eos_token
    for name, value in hub_fields_removed(config.to_dict()).items():
        theirs.add_attribute(name, value)
