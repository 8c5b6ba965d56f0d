"""ONNX: out, as an encoder and a decoder with cache that any runtime of ONNX runs.

Shapes in trailing comments: N batch, S new target tokens, P target tokens in the cache, T source length, L
decoder layers, H its heads, K width of a head's queries and keys, V width of its values.
"""

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from ..errors import InputError, first_line, import_extra
from ..modeling import VanillaTransformerForConditionalGeneration
from ..modeling.onnx_engine import (
    DECODER,
    DECODER_INPUTS,
    DECODER_OUTPUTS,
    ENCODER,
    ENCODER_INPUTS,
    ENCODER_OUTPUTS,
)
from ..modeling.saving_vanilla_transformer import files_written_whole
from .adapters import plain_model
from .weights import copy_generation_config, hub_fields_removed, plain_tokenizer

# The first but one with a layer norm in one piece.
OPSET = 18


class ExportedEncoder(nn.Module):
    """The encoder, and the keys and values that the decoder's layers make of its output once and for all."""

    def __init__(self, model: VanillaTransformerForConditionalGeneration):
        super().__init__()
        self.encoder, self.layers = model.model.encoder, model.model.decoder.layers

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, T) tokens and mask -> (N, T, E), (N, L * H, T, K), (N, L * H, T, V)."""
        states = self.encoder(input_ids, attention_mask).last_hidden_state
        pairs = [layer.encoder_attn.project_keys_and_values(states) for layer in self.layers]
        return states, torch.cat([key for key, _ in pairs], 1), torch.cat([value for _, value in pairs], 1)


class ExportedDecoder(nn.Module):
    """The decoder and the projection: S new tokens behind the P that the cache holds."""

    def __init__(self, model: VanillaTransformerForConditionalGeneration):
        super().__init__()
        self.decoder, self.lm_head = model.model.decoder, model.lm_head

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        source_keys: torch.Tensor,
        source_values: torch.Tensor,
        past_keys: torch.Tensor,
        past_values: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (N, S, vocabulary), and the keys and values of the new tokens.

        Args:
            input_ids: (N, S).
            attention_mask: (N, T), of the source.
            source_keys, source_values: from the encoder, (N, L * H, T, K) and (N, L * H, T, V).
            past_keys, past_values: of the target so far, (N, L * H, P, K) and (N, L * H, P, V).
        """
        past, new = past_keys.shape[2], input_ids.shape[1]
        positions = torch.arange(new)[None] + past
        hidden_states = self.decoder.add_positions(self.decoder.embed(input_ids, None), positions, None)
        lowest = torch.finfo(hidden_states.dtype).min
        later = torch.arange(past + new)[None] > positions[0][:, None]  # (S, P + S)
        own_mask = later.to(hidden_states.dtype)[None, None] * lowest
        source_mask = (attention_mask == 0).to(hidden_states.dtype)[:, None, None] * lowest
        caches = (
            _cache(past_keys, past_values, self.decoder),
            _cache(source_keys, source_values, self.decoder),
        )
        cache = EncoderDecoderCache(*caches)
        for layer in self.decoder.layers:
            # The states of the source are in the cache already; what is given in their place is not read.
            hidden_states = layer(hidden_states, own_mask, hidden_states, source_mask, past_key_values=cache)
        logits = self.lm_head(self.decoder.finish(hidden_states))
        own: list[Any] = caches[0].layers
        keys, values = (
            torch.cat([getattr(layer, kind)[:, :, past:] for layer in own], 1) for kind in ("keys", "values")
        )
        return logits, keys, values


def _cache(keys: torch.Tensor, values: torch.Tensor, decoder: Any) -> DynamicCache:
    """(N, L * H, P, K) and (N, L * H, P, V) as a cache of L layers."""
    count = len(decoder.layers)
    cache = DynamicCache()
    for layer, pair in enumerate(zip(keys.chunk(count, 1), values.chunk(count, 1), strict=True)):
        cache.update(*pair, layer)
    return cache


def save_onnx(
    model: VanillaTransformerForConditionalGeneration, folder: str | Path, tokenizer: Any = None
) -> None:
    """Writes `encoder.onnx` and `decoder.onnx` in float32, the configurations, and the tokenizer.

    Batch and lengths are free. Sinusoids are computed in the graph, for any length. A tokenizer of ours is
    saved as one of transformers' own class, so that the folder serves where this package is not. Adapters of
    PEFT are merged, see `plain_model`.

    Raises:
        InputError: ONNX has no such architecture or layer, the message names the field or the layer; or the
            package onnx is not installed.
    """
    import_extra("onnx", "onnx")
    if not model.config.decoder_layers:
        raise InputError("`decoder_layers` must be positive for ONNX, but is 0 instead.")
    plain: Any = copy.deepcopy(plain_model(model)).float().cpu().eval()
    plain.set_attn_implementation("eager")
    config = plain.config
    stacked = config.decoder_layers * config.decoder_attention_heads
    tokens, mask = torch.ones(2, 3, dtype=torch.long), torch.tensor([[1, 1, 1], [1, 1, 0]])
    source, past = (
        [torch.zeros(2, stacked, length, width) for width in config.decoder_head_dims] for length in (3, 4)
    )
    inputs = (tokens[:, :2], mask, *source, *past)
    with files_written_whole(folder) as beside:
        try:
            _export(ExportedEncoder(plain), (tokens, mask), beside / ENCODER, ENCODER_INPUTS, ENCODER_OUTPUTS)
            _export(ExportedDecoder(plain), inputs, beside / DECODER, DECODER_INPUTS, DECODER_OUTPUTS)
        except torch.onnx.errors.OnnxExporterError as error:  # all else in the graphs is in every version
            raise InputError(
                f"`activation_function` {config.activation_function!r} has no place in ONNX:"
                f" {first_line(error)}"
            ) from None
        type(config)(**hub_fields_removed(config.to_dict())).save_pretrained(beside)
        copy_generation_config(model).save_pretrained(beside)
        if tokenizer is not None:
            plain_tokenizer(tokenizer).save_pretrained(beside)


def _export(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    path: Path,
    names: dict[str, dict[int, str]],
    outputs: dict[str, dict[int, str]],
) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        # The tracer warns of every shape that it meets in Python, and of its own age.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            inputs,
            str(path),
            input_names=list(names),
            output_names=list(outputs),
            dynamic_axes=names | outputs,
            opset_version=OPSET,
            # The other exporter takes thirty times as long, and gives the free dimensions no names.
            dynamo=False,
        )
