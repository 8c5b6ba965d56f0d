"""Small models with weights large enough for errors of attention to show, padded batches, and parity."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerDecoderModel,
    VanillaTransformerEncoderModel,
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
    VanillaTransformerModel,
    VanillaTransformerPreTrainedModel,
)
from vanilla_transformer.modeling.generation_vanilla_transformer import PAPER_DECODING, set_decoding

AnyModel = TypeVar("AnyModel", bound=VanillaTransformerPreTrainedModel)

ENCODERS: list[Any] = [
    VanillaTransformerEncoderModel,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
]
DECODERS: list[Any] = [VanillaTransformerDecoderModel, VanillaTransformerForCausalLM]
WHOLE: list[Any] = [VanillaTransformerModel, VanillaTransformerForConditionalGeneration]

VOCABULARY = 23
SIDES = ("left", "right")

# Encoder and decoder differ wherever they can, so that a field read for the wrong stack shows.
FIELDS: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 12,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 20,
    "decoder_ffn_dim": 28,
    "dropout": 0.0,
    "max_position_embeddings": 64,
}

SOURCES = [[5, 9, 14, 7, 20, 11, 2], [8, 21, 6, 2], [17, 2]]
# Beginnings of targets, for a decoder that is to go on from them.
PROMPTS = [[1, 13, 6], [1], [1, 22]]
TARGETS = [[1, 13, 6, 19, 8], [1, 22, 10, 5, 16, 12, 7], [1, 18, 9]]


def toy_config(**changes: Any) -> VanillaTransformerConfig:
    """The configuration of `FIELDS`, changed as asked."""
    return VanillaTransformerConfig(**(FIELDS | changes))


def toy_head(
    kind: type[AnyModel],
    *,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    attention: str = "sdpa",
    **changes: Any,
) -> AnyModel:
    """A model in eval mode whose every parameter is drawn with deviation 0.3 (norm weights around 1)."""
    model = kind._from_config(toy_config(**changes), attn_implementation=attention)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        drawn = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = drawn + 1 if name.endswith("norm.weight") else drawn
    return model.to(dtype).eval()


def toy_model(**settings: Any) -> VanillaTransformerForConditionalGeneration:
    """The encoder-decoder of `toy_head`, which decodes as the paper does."""
    model = toy_head(VanillaTransformerForConditionalGeneration, **settings)
    set_decoding(model.generation_config, **PAPER_DECODING)
    return model


def translating_model(**changes: Any) -> VanillaTransformerForConditionalGeneration:
    """A toy model that listens to the source: it translates different sentences differently."""
    model = toy_model(**{"seed": 4, "tie_word_embeddings": False} | changes)
    for layer in model.model.decoder.layers:
        for parameter in layer.encoder_attn.parameters():
            parameter.data *= 2
    return model


def pad(
    rows: Sequence[Sequence[int]], side: str = "right", *, filler: int = 0, extra: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask (N, T) of sentences filled up on one side to the longest, and by `extra` columns more."""
    width = max(map(len, rows)) + extra
    ids = torch.full((len(rows), width), filler)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        where = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[number, where] = torch.tensor(row)
        mask[number, where] = 1
    return ids, mask


def padded_batch(
    source_side: str = "right", target_side: str = "right", **kwargs: int
) -> dict[str, torch.Tensor]:
    """`SOURCES` and `TARGETS` as the model takes them, with masks of both."""
    input_ids, attention_mask = pad(SOURCES, source_side, **kwargs)
    decoder_input_ids, decoder_attention_mask = pad(TARGETS, target_side, **kwargs)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "decoder_input_ids": decoder_input_ids,
        "decoder_attention_mask": decoder_attention_mask,
    }


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    """Bit for bit: outputs may differ in their last bits, by where in memory the weights lie."""
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def assert_parity(ours: torch.Tensor, reference: torch.Tensor, name: str = "") -> None:
    """Float64 agrees at rtol 1e-9, float32 within 1e-5 of the largest value of the tensor."""
    if ours.dtype == torch.float64:
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=0, msg=lambda text: f"{name}: {text}")
        return
    reference = reference.to(ours.dtype)
    difference, largest = (ours - reference).abs().max().item(), reference.abs().max().item()
    assert ours.shape == reference.shape
    assert difference <= 1e-5 * largest, f"{name}: {difference} is more than 1e-5 * {largest}"


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the gradients of all parameters, none of which may lack one."""
    found = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        found[name] = parameter.grad.clone()
    return found


def assert_gradients_equal(ours: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> None:
    """Parity of each tensor; a key bias shifts all scores of a row alike, so its gradient is zero in both."""
    assert ours.keys() == reference.keys()
    for name, gradient in ours.items():
        if name.endswith("k_proj.bias"):
            rounding = 1e-14 if gradient.dtype == torch.float64 else 1e-6
            assert max(gradient.abs().max(), reference[name].abs().max()) < rounding, name
        else:
            assert_parity(gradient, reference[name], name)


def saved_float32_model(folder: Path) -> Path:
    """Save a toy model in float32 whose embeddings are all one matrix; return its folder."""
    toy_model(dtype=torch.float32, d_model=64).save_pretrained(folder)
    return folder


def assert_fast_is_plain(model: Any, rows: int, beams: int) -> None:
    """Assert that the fast loop finds what transformers' own one finds, with the same scores."""
    batch = padded_batch()
    sources = {name: batch[name][:rows] for name in ("input_ids", "attention_mask")}
    settings: dict[str, Any] = {"num_beams": beams, "min_new_tokens": 3, "max_new_tokens": 6}
    details = {"return_dict_in_generate": True, "output_scores": True}
    plain = model.generate(**sources, **settings, **details, fast=False)
    fast = model.generate(**sources, **settings, **details)
    assert torch.equal(fast.sequences, plain.sequences)
    for ours, theirs in zip(fast.scores, plain.scores, strict=True):
        finite = theirs.isfinite()
        assert torch.equal(ours.isfinite(), finite)
        assert_parity(ours[finite], theirs[finite])
