"""Marian of transformers, the architecture of the OPUS-MT models: in and out."""

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, MarianConfig, MarianMTModel, PreTrainedModel
from transformers.utils import logging

from ..configuration import VanillaTransformerConfig
from ..errors import InputError
from ..modeling import VanillaTransformerForConditionalGeneration
from ..modeling.generation_vanilla_transformer import LIBRARY_MAX_LENGTH, OWN_FIELDS
from ..modeling.saving_vanilla_transformer import files_written_whole
from .adapters import plain_model
from .weights import (
    SAME_FIELDS,
    STACKS,
    build_model,
    check_fields,
    check_head_dims,
    copy_generation_config,
    is_sinusoids,
    load_foreign_model,
    make_config,
    plain_tokenizer,
    reorder_width,
    warn_of_layerdrop,
    zero_bias,
)

logger = logging.get_logger(__name__)

SHARED_FIELDS = (
    *SAME_FIELDS,
    "vocab_size",
    "decoder_vocab_size",
    "share_encoder_decoder_embeddings",
    "tie_word_embeddings",
)
COMPUTED = ("embed_positions", "final_logits_bias")


def marian_config(config: VanillaTransformerConfig, **changes: Any) -> MarianConfig:
    """Marian's configuration of the same shape; the caller checks that it computes the same.

    Args:
        changes: fields that replace the copied ones.
    """
    fields = {name: getattr(config, name) for name in SHARED_FIELDS}
    return MarianConfig(**{**fields, "forced_eos_token_id": None, **changes})


def load_marian(name: str | Path) -> VanillaTransformerForConditionalGeneration:
    """Our model out of a Marian checkpoint, a folder or a Hub name.

    Raises:
        InputError: it cannot be loaded, is of another architecture, or has positions that ours cannot make.
    """
    return from_marian(load_foreign_model(MarianMTModel, name, absent=COMPUTED))


def from_marian(marian: PreTrainedModel) -> VanillaTransformerForConditionalGeneration:
    """Our model with the weights and the generation config of a `MarianMTModel`.

    `final_logits_bias` becomes the bias of `lm_head`, which trains on with the rest; where it is zero there
    is none. LayerDrop is not taken over.

    Raises:
        InputError: the positions are not the sinusoids that Marian computes.
    """
    config = marian.config
    weights = {
        name: tensor
        for name, tensor in marian.state_dict().items()
        if not any(part in name for part in COMPUTED)
    }
    warn_of_layerdrop(config)
    bias = marian.get_buffer("final_logits_bias").flatten()
    fields = {name: getattr(config, name) for name in SHARED_FIELDS}
    fields["share_encoder_decoder_embeddings"] = _is_shared(weights)
    if config.share_encoder_decoder_embeddings:
        fields["decoder_vocab_size"] = config.vocab_size
    if not fields["share_encoder_decoder_embeddings"]:
        weights.pop("model.shared.weight", None)
    if has_bias := bool(bias.any()):
        weights["lm_head.bias"] = bias
    ours = make_config(**fields, sinusoidal_layout="split", attention_bias=True, lm_head_bias=has_bias)
    _check_positions(marian, ours)
    generation_config = copy_generation_config(marian)
    return build_model(ours, weights, generation_config)


def save_marian(
    model: VanillaTransformerForConditionalGeneration, folder: str | Path, tokenizer: Any = None
) -> None:
    """Writes `to_marian(model)` and the tokenizer, which transformers then loads without this package.

    Raises:
        InputError: Marian has no such architecture; the message names the field.
    """
    marian = to_marian(model)
    with files_written_whole(folder) as beside:
        marian.save_pretrained(beside)
        if tokenizer is not None:
            tokenizer = copy.deepcopy(plain_tokenizer(tokenizer))
            # Marian has a table of positions, where ours are computed, and counts padding among them.
            tokenizer.padding_side = "right"
            longest = marian.config.max_position_embeddings
            tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
            tokenizer.save_pretrained(beside)


def _is_shared(weights: dict[str, torch.Tensor]) -> bool:
    """Whether source and target use one matrix: of untied weights Marian shares none, whatever it says."""
    source, target = (weights[f"model.{stack}.embed_tokens.weight"] for stack in STACKS)
    return "model.shared.weight" in weights and torch.equal(source, target)


def _check_positions(marian: PreTrainedModel, config: VanillaTransformerConfig) -> None:
    for stack in STACKS:
        if not is_sinusoids(marian.get_parameter(f"model.{stack}.embed_positions.weight"), config):
            raise InputError(f"`model.{stack}.embed_positions.weight` must be sinusoids, but is not.")


def to_marian(model: VanillaTransformerForConditionalGeneration) -> MarianMTModel:
    """A `MarianMTModel` that computes the same function.

    Interleaved sinusoids, the paper's, become Marian's split ones: the entries of the residual stream are
    brought into another order, which nothing else can see. Absent biases become zeros. Adapters of PEFT are
    merged, see `plain_model`.

    Raises:
        InputError: Marian has no such architecture or layer; the message names the field or the layer.
    """
    model = plain_model(model)
    config = model.config
    _check_exportable(config)
    order = torch.arange(config.d_model)
    if config.sinusoidal_layout == "interleaved":
        order = torch.cat((order[0::2], order[1::2]))
    weights = reorder_width(model, order)
    marian: Any = MarianMTModel(marian_config(config))
    marian = marian.to(model.dtype)
    for name in marian.state_dict():
        if name.endswith("_proj.bias") and name not in weights:
            weights[name] = zero_bias(weights, name)
    bias = weights.pop("lm_head.bias", None)
    if bias is not None:
        weights["final_logits_bias"] = bias[None]
    if config.share_encoder_decoder_embeddings is False:
        weights.pop("model.shared.weight", None)
    missing, unexpected = marian.load_state_dict(weights, strict=False)
    assert not unexpected and all(any(part in name for part in COMPUTED) for name in missing)
    marian.generation_config = _plain_generation_config(model)
    translator: MarianMTModel = marian.eval()
    return translator


def _plain_generation_config(model: VanillaTransformerForConditionalGeneration) -> GenerationConfig:
    """How a model generates, without the fields that transformers' own models do not read.

    Where nothing else bounds the length, their positions do, not the library's 20 tokens.
    """
    config = copy_generation_config(model)
    by_source = getattr(config, "max_length_beyond_source", None) is not None
    if by_source and config.max_length == LIBRARY_MAX_LENGTH:
        config.max_length = None  # nobody's limit, see `LIBRARY_MAX_LENGTH`
    if config.max_length is None and config.max_new_tokens is None:
        config.max_length = model.config.max_position_embeddings
    for name, default in OWN_FIELDS.items():
        value = config.__dict__.pop(name, default)
        if value != default:
            logger.warning(f"`{name}` {value!r} of the generation config is not taken over: Marian has none.")
    return config


def _check_exportable(config: VanillaTransformerConfig) -> None:
    """Raises `InputError` for a field that Marian cannot express."""
    same = {
        "norm_position": "post",
        "final_norm": (None, False),
        "position_embedding": "sinusoidal",
        "sinusoidal_layout": ("interleaved", "split"),
        "sinusoidal_offset": 0,
        "layer_norm_eps": 1e-5,
    }
    check_fields(config, same, "Marian")
    check_head_dims(config, "Marian")
    for name in ("decoder_start_token_id", "pad_token_id"):
        if getattr(config, name) is None:
            raise InputError(f"`{name}` must be set for Marian, but is None instead.")
