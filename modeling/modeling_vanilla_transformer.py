"""The Transformer of "Attention Is All You Need" (Vaswani et al., 2017, arXiv:1706.03762) and its two halves.

Encoder and decoder together, the encoder alone and the decoder alone are made of the same layers, and each
has its heads. Their parameters bear the same names, so `from_pretrained` moves weights between them.

Shapes in trailing comments: N batch, S target length, T source length (or any key length), H heads,
K width of a head, E model width, V vocabulary (in an attention, the width of a head's values).
"""

import copy
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.generation import GenerationConfig, GenerationMixin, StoppingCriteriaList
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPast,
    BaseModelOutputWithPastAndCrossAttentions,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.processing_utils import Unpack
from transformers.utils import (
    ModelOutput,
    TransformersKwargs,
    can_return_tuple,
    is_torchdynamo_compiling,
    logging,
)
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.import_utils import is_tracing
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ..configuration.configuration_vanilla_transformer import VanillaTransformerConfig
from .dropout_vanilla_transformer import dropout
from .generation_vanilla_transformer import (
    MAX_LENGTH_BEYOND_SOURCE,
    VanillaTransformerGenerationMixin,
    set_decoding,
    without_limit_of_positions,
)
from .hub_vanilla_transformer import SharedOnHub, short_card
from .loss_vanilla_transformer import (
    IGNORED,
    cross_entropy_loss,
    infer_problem_type,
    linear_cross_entropy_loss,
    sequence_loss,
)
from .modules_vanilla_transformer import HALF_TYPES, is_plain_linear
from .projections_vanilla_transformer import forget_copies
from .saving_vanilla_transformer import architecture_of, check_safetensors, code_references

logger = logging.get_logger(__name__)


def shift_tokens_right(labels: torch.Tensor, pad_token_id: int, decoder_start_token_id: int) -> torch.Tensor:
    """Decoder inputs for teacher forcing: the labels, one place later, behind the start token.

    Args:
        labels: (N, S) token ids, -100 where no loss is taken.

    Returns:
        (N, S) token ids, `pad_token_id` in place of -100.
    """
    shifted = labels.new_full(labels.shape, decoder_start_token_id)
    shifted[:, 1:] = labels[:, :-1]
    return shifted.masked_fill_(shifted == IGNORED, pad_token_id)


def count_positions(
    attention_mask: torch.Tensor | None, length: int, past_length: int | torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Positions of the last `length` tokens, where the first real token of each row is 0.

    Args:
        attention_mask: (N, past + S), 1 at real tokens; or an (N, 1, S, T) mask, where a position is the
            number of visible tokens before it; `None` where nothing is padded.
        length: S, the number of tokens to place.
        past_length: number of tokens the cache holds already.
        device: where the positions are needed.

    Returns:
        (N, S), or (1, S) where it is the same for all rows. Padding gets a valid position that nothing reads.
    """
    if attention_mask is not None and attention_mask.ndim == 2:
        return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
    if attention_mask is not None:
        places = torch.arange(attention_mask.shape[-1], device=attention_mask.device)
        own = torch.arange(length, device=attention_mask.device)[:, None] + past_length
        before = visible(attention_mask)[:, 0] & (places <= own)  # (N, S, T)
        return (before.long().sum(-1) - 1).clamp(min=0)
    return torch.arange(length, device=device)[None] + past_length


def visible(attention_mask: torch.Tensor) -> torch.Tensor:
    """Where a 4-dimensional mask, of booleans or to be added to scores, lets a token be seen."""
    # The least of what is added to hide one; a bias is far above it.
    return attention_mask if attention_mask.dtype == torch.bool else attention_mask > -1e4


class VanillaTransformerPositionalEncoding(nn.Module):
    """Sinusoids of the position (section 3.5).

    PE(pos, 2i) = sin(pos / 10000^(2i/d)) and PE(pos, 2i+1) = cos(pos / 10000^(2i/d)).

    Nothing is stored, so any position can be encoded. The angles are computed in float64 (float32 on devices
    of which some have none): a float32 angle is already off by 3e-5 at position 512.
    """

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__()
        self.dim = config.d_model
        self.layout = config.sinusoidal_layout
        self.offset = config.sinusoidal_offset

    def forward(self, position_ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Encodes `position_ids` of any shape (...) as (..., E) in `dtype`."""
        has_float64 = position_ids.device.type in ("cpu", "cuda", "meta")
        precise = torch.float64 if has_float64 else torch.float32
        pair = torch.arange(self.dim // 2, device=position_ids.device, dtype=precise)
        # tensor2tensor's wavelengths end at 10000 * 2 pi, the paper's one step before.
        steps = self.dim // 2 - 1 if self.layout == "tensor2tensor" else self.dim / 2
        angles = (position_ids[..., None] + self.offset).to(precise) * torch.exp(
            pair * (-math.log(10000.0) / steps)
        )
        sine, cosine = angles.sin().to(dtype), angles.cos().to(dtype)
        if self.layout == "interleaved":
            return torch.stack((sine, cosine), dim=-1).flatten(-2)  # (..., E/2, 2) -> (..., E)
        return torch.cat((sine, cosine), dim=-1)


class VanillaTransformerLearnedPositionalEmbedding(nn.Embedding):
    """A learned vector for each position (Table 3, row E)."""

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config.max_position_embeddings, config.d_model)

    def forward(  # type: ignore[override]
        self, position_ids: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        """Looks up `position_ids` (...) as (..., E); a position past the table raises `ValueError`."""
        if not is_torchdynamo_compiling() and position_ids.device.type != "meta":
            longest = int(position_ids.max()) if position_ids.numel() else 0
            if longest >= self.num_embeddings:
                raise ValueError(
                    f"`position_ids` must be below `max_position_embeddings` ({self.num_embeddings}) for"
                    f" learned positions, but reach {longest}."
                )
        return super().forward(position_ids).to(dtype)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled dot-product attention (equation 1): softmax(Q K^T / sqrt(d_k)) V, and the weights beside it.

    Args:
        query, key, value: (N, H, S, K), (N, H, T, K), (N, H, T, V).
        attention_mask: added to the scores, broadcast to (N, H, S, T), or true where they count; `None` where
            all is visible.

    Returns:
        (N, S, H, V) and the weights (N, H, S, T).
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query, key.transpose(-2, -1)) * scaling  # (N, H, S, T)
    causal = getattr(module, "is_causal", False) and getattr(module.config, "is_causal", True)
    if attention_mask is None and causal and query.shape[2] > 1:
        # Another thread changed the implementation behind the mask, which `sdpa` does without.
        attention_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        attention_mask = attention_mask.tril(scores.shape[-1] - scores.shape[-2])
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = F.dropout(scores.softmax(dim=-1), p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def unpad_keys(
    key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor, query_length: int
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """The keys and values of real tokens laid end to end, as flash attention reads them without a mask.

    The library's own unpadding drops queries by the keys' mask too, which is right for self-attention alone.

    Args:
        key, value: (N, H, T, K).
        attention_mask: (N, T), 1 at real tokens.
        query_length: S, none of whose queries is dropped.

    Returns:
        Keys and values (1, H, real tokens of the batch, K), and keywords that say where each sentence begins.
    """
    real = attention_mask.bool()
    lengths = real.sum(-1, dtype=torch.int32)
    places = {
        "cu_seq_lens_q": torch.arange(len(real) + 1, dtype=torch.int32, device=key.device) * query_length,
        "cu_seq_lens_k": F.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0)),
        "max_length_q": query_length,
        "max_length_k": int(lengths.max()),
    }
    key, value = (states.transpose(1, 2)[real].transpose(0, 1)[None] for states in (key, value))
    return key, value, places


def create_source_mask(
    config: VanillaTransformerConfig,
    queries: torch.Tensor,
    attention_mask: torch.Tensor | None,
    encoder_hidden_states: torch.Tensor,
) -> Any:
    """What hides the padding of the source, in the form that the attention implementation takes.

    All queries see the same of the source. So where a mask is spread out it has one row, (N, 1, 1, T), and
    its memory grows in proportion to the source, not with the square of its length.

    Args:
        queries: (N, S, E), what attends to the source.
        attention_mask: (N, T), 1 at real tokens; or a 4-dimensional mask, which is returned as it is.
        encoder_hidden_states: (N, T, E), what is attended to.
    """
    if config._attn_implementation in ("eager", "sdpa"):
        queries = queries[:, :1]
    return create_bidirectional_mask(
        config=config,
        inputs_embeds=queries,
        attention_mask=attention_mask,
        encoder_hidden_states=encoder_hidden_states,
    )


def without_right_padding(
    config: VanillaTransformerConfig, queries: torch.Tensor, attention_mask: Any
) -> Any:
    """The mask of a decoder's tokens; `None` where padding stands on the right alone, for `sdpa`.

    No real token sees what comes after it. So nothing has to be spread out, whose memory would grow with the
    square of the length, and the kernel leaves out what is masked. The padding itself then sees other
    tokens, so that a sequence that goes on behind its padding must not use this.

    Args:
        queries: (N, S, E), all of the sequence.
        attention_mask: (N, S), 1 at real tokens; anything else is returned as it is.
    """
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.shape != queries.shape[:2]:
        return attention_mask
    looks_ahead = not getattr(config, "is_causal", True)  # what a caller may ask for
    if config._attn_implementation != "sdpa" or looks_ahead or is_tracing(attention_mask):
        return attention_mask
    real = attention_mask.bool()
    return attention_mask if (real[:, 1:] & ~real[:, :-1]).any() else None


def sdpa_in_float32(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """`sdpa` of tensors in half precision, computed in float32: what trains faster on a CPU.

    There the backward pass of PyTorch's kernel takes up to ten times as long in half precision.
    """
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    with torch.autocast(query.device.type, enabled=False):
        output, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query.float(), key.float(), value.float(), attention_mask, **kwargs
        )
    return output.to(query.dtype), None


class VanillaTransformerAttention(nn.Module):
    """Multi-head attention (section 3.2.2): h heads of d_k and d_v, concatenated and projected by W^O."""

    def __init__(
        self,
        config: VanillaTransformerConfig,
        *,
        is_decoder: bool,
        is_causal: bool = False,
        layer_idx: int,
    ):
        super().__init__()
        heads = config.decoder_attention_heads if is_decoder else config.encoder_attention_heads
        self.head_dim, self.value_head_dim = (
            config.decoder_head_dims if is_decoder else config.encoder_head_dims
        )
        self.config = config
        self.num_heads = heads
        self.is_causal = is_causal
        self.layer_idx = layer_idx
        self.scaling = self.head_dim**-0.5
        self.dropout = config.attention_dropout
        self.q_proj = nn.Linear(config.d_model, heads * self.head_dim, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.d_model, heads * self.head_dim, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.d_model, heads * self.value_head_dim, bias=config.attention_bias)
        self.out_proj = nn.Linear(heads * self.value_head_dim, config.d_model, bias=config.attention_bias)

    def forward(
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attends from `hidden_states` (N, S, E) to `key_value_states` (N, T, E), by default to itself.

        Returns:
            (N, S, E), and the weights (N, H, S, T) where the attention implementation gives them.
        """
        query = self._split_heads(self.q_proj(hidden_states), self.head_dim)
        key, value = self._keys_and_values(hidden_states, key_value_states, past_key_values)
        if (
            key_value_states is not None
            and isinstance(attention_mask, torch.Tensor)
            and attention_mask.ndim == 2
        ):
            # Only flash attention keeps a mask of two dimensions.
            key, value, places = unpad_keys(key, value, attention_mask, query.shape[2])
            attention_mask, kwargs = None, {**kwargs, **places}
        output, weights = self._attention_interface(query)(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        output = output.reshape(*hidden_states.shape[:-1], -1)  # (N, S, H, V) -> (N, S, H * V)
        return self.out_proj(output), weights

    def _split_heads(self, projected: torch.Tensor, width: int) -> torch.Tensor:
        return projected.unflatten(-1, (-1, width)).transpose(1, 2)  # (N, S, H * K) -> (N, H, S, K)

    def project_keys_and_values(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, T, E) -> the keys (N, H, T, K) and values (N, H, T, V) of all heads."""
        key = self._split_heads(self.k_proj(states), self.head_dim)
        value = self._split_heads(self.v_proj(states), self.value_head_dim)
        return key, value

    def _keys_and_values(
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None,
        past_key_values: Cache | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if past_key_values is None:
            read = hidden_states if key_value_states is None else key_value_states
            return self.project_keys_and_values(read)
        if key_value_states is None:
            if isinstance(past_key_values, EncoderDecoderCache):
                past_key_values = past_key_values.self_attention_cache
            return past_key_values.update(*self.project_keys_and_values(hidden_states), self.layer_idx)
        return self._cached_cross_keys_and_values(key_value_states, past_key_values)

    def _cached_cross_keys_and_values(
        self, key_value_states: torch.Tensor, past_key_values: Cache
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not isinstance(past_key_values, EncoderDecoderCache):
            raise ValueError(
                "`past_key_values` must be an `EncoderDecoderCache` beside an encoder, but is a"
                f" `{type(past_key_values).__name__}` instead."
            )
        cache = past_key_values.cross_attention_cache
        if past_key_values.is_updated.get(self.layer_idx):
            # The encoder's output never changes while a sentence is decoded.
            layer: Any = cache.layers[self.layer_idx]
            return layer.keys, layer.values
        key, value = cache.update(*self.project_keys_and_values(key_value_states), self.layer_idx)
        past_key_values.is_updated[self.layer_idx] = True
        return key, value

    def _attention_interface(
        self, query: torch.Tensor
    ) -> Callable[..., tuple[torch.Tensor, torch.Tensor | None]]:
        implementation = self.config._attn_implementation
        trains_in_half = query.dtype in HALF_TYPES and query.requires_grad
        if implementation == "sdpa" and trains_in_half and query.device.type == "cpu":
            return sdpa_in_float32
        if self.head_dim != self.value_head_dim and "flash" in (implementation or ""):
            raise ValueError(
                f"`{implementation}` needs `head_dim` equal to `value_head_dim`, but they are"
                f" {self.head_dim} and {self.value_head_dim}; use `sdpa`."
            )
        return ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)


class VanillaTransformerLayer(GradientCheckpointingLayer):
    """What both kinds of layer share: residuals around sub-layers, and the feed-forward network (3.3)."""

    def __init__(self, config: VanillaTransformerConfig, ffn_dim: int):
        super().__init__()
        self.pre_norm = config.norm_position == "pre"
        self.dropout = config.dropout
        self.activation_dropout = config.activation_dropout
        self.activation_fn = ACT2FN[config.activation_function]
        self.fc1 = nn.Linear(config.d_model, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)

    def sublayer_input(self, norm: nn.LayerNorm, hidden_states: torch.Tensor) -> torch.Tensor:
        """What a sub-layer reads: its input, normalised first in a pre-norm model."""
        return norm(hidden_states) if self.pre_norm else hidden_states

    def add_residual(self, norm: nn.LayerNorm, residual: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """x + Dropout(Sublayer(x)) (section 5.4), normalised in a post-norm model (3.1)."""
        hidden_states = residual + dropout(output, self.dropout, self.training)
        return hidden_states if self.pre_norm else norm(hidden_states)

    def feed_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """max(0, x W1 + b1) W2 + b2 (equation 2), with its residual."""
        inner = self.activation_fn(self.fc1(self.sublayer_input(self.final_layer_norm, hidden_states)))
        inner = dropout(inner, self.activation_dropout, self.training)
        return self.add_residual(self.final_layer_norm, hidden_states, self.fc2(inner))


class VanillaTransformerEncoderLayer(VanillaTransformerLayer):
    """Self-attention, then the feed-forward network (section 3.1)."""

    def __init__(self, config: VanillaTransformerConfig, layer_idx: int):
        super().__init__(config, config.encoder_ffn_dim)
        self.self_attn = VanillaTransformerAttention(config, is_decoder=False, layer_idx=layer_idx)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """(N, T, E) -> (N, T, E)."""
        inputs = self.sublayer_input(self.self_attn_layer_norm, hidden_states)
        attended, _ = self.self_attn(inputs, attention_mask=attention_mask, **kwargs)
        return self.feed_forward(self.add_residual(self.self_attn_layer_norm, hidden_states, attended))


class VanillaTransformerDecoderLayer(VanillaTransformerLayer):
    """Masked self-attention, attention to the encoder's output, then feed-forward (section 3.1).

    A decoder that stands alone has no attention to an encoder.
    """

    def __init__(self, config: VanillaTransformerConfig, layer_idx: int):
        super().__init__(config, config.decoder_ffn_dim)
        self.self_attn = VanillaTransformerAttention(
            config, is_decoder=True, is_causal=True, layer_idx=layer_idx
        )
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)
        if config.is_encoder_decoder:
            self.encoder_attn = VanillaTransformerAttention(config, is_decoder=True, layer_idx=layer_idx)
            self.encoder_attn_layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """(N, S, E), beside an encoder output of (N, T, E) or alone -> (N, S, E).

        `position_ids` (N, S) are for flash attention alone, which tells by them where a packed text begins.
        """
        inputs = self.sublayer_input(self.self_attn_layer_norm, hidden_states)
        attended, _ = self.self_attn(
            inputs,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
            **kwargs,
        )
        hidden_states = self.add_residual(self.self_attn_layer_norm, hidden_states, attended)
        if encoder_hidden_states is not None:
            inputs = self.sublayer_input(self.encoder_attn_layer_norm, hidden_states)
            attended, _ = self.encoder_attn(
                inputs,
                key_value_states=encoder_hidden_states,
                attention_mask=encoder_attention_mask,
                past_key_values=past_key_values,
                **kwargs,
            )
            hidden_states = self.add_residual(self.encoder_attn_layer_norm, hidden_states, attended)
        return self.feed_forward(hidden_states)


@contextmanager
def damaged_file_named(folder: str | Path) -> Iterator[None]:
    """Says which file of `folder` is cut short, where safetensors says no more than that one is.

    Raises:
        ValueError: its message begins with the path of the file.
    """
    try:
        yield
    except SafetensorError:
        for path in sorted(Path(folder).glob("*.safetensors")):
            check_safetensors(path)
        raise


class VanillaTransformerPreTrainedModel(SharedOnHub, PreTrainedModel):  # type: ignore[misc]
    """Initialisation, loading, saving, and what transformers may do with every model of the family."""

    config: VanillaTransformerConfig
    config_class = VanillaTransformerConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["VanillaTransformerEncoderLayer", "VanillaTransformerDecoderLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def __init__(self, config: VanillaTransformerConfig, *args: Any, **kwargs: Any):
        own = self._own_fields(config)
        if any(getattr(config, name) != value for name, value in own.items()):
            config = copy.deepcopy(config)
            for name, value in own.items():
                setattr(config, name, value)
        super().__init__(config, *args, **kwargs)

    @staticmethod
    def _own_fields(config: VanillaTransformerConfig) -> dict[str, Any]:
        """What this architecture sets in its own copy of the configuration; the one given stays as it is."""
        return {}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Xavier-uniform projections; embeddings of deviation d^-0.5, which scaling brings to 1."""
        super()._init_weights(module)
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=self.config.d_model**-0.5)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.Linear):
            if module is self.get_output_embeddings():
                init.normal_(module.weight, mean=0.0, std=self.config.d_model**-0.5)
            else:
                init.xavier_uniform_(module.weight)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *model_args: Any,
        use_safetensors: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Loads a model from a folder or the Hub; of weights only safetensors are read, never pickled ones.

        Those of adapters are PEFT's matter.

        See `PreTrainedModel.from_pretrained` for the arguments.

        Raises:
            ValueError: `use_safetensors` is False, or a file of weights is cut short.
            OSError: there is no such model, or it has no weights in safetensors.
        """
        if use_safetensors is False:
            raise ValueError("`use_safetensors` must not be False: pickled weights are not loaded.")
        name = pretrained_model_name_or_path
        whole: Any = super()
        try:
            with damaged_file_named(Path(name or "", kwargs.get("subfolder") or "")):
                return cast(Self, whole.from_pretrained(name, *model_args, use_safetensors=True, **kwargs))
        except OSError as error:
            if "use_safetensors" not in str(error):
                raise
            # transformers advises to leave out what nobody gave.
            raise OSError(f"`{name}` has no weights in safetensors, and no others are loaded.") from None

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Saves into a folder, whole or not at all, with the code that loads it from there beside it.

        See `PreTrainedModel.save_pretrained` for the arguments.
        """
        vars(self.config).pop("custom_pipelines", None)  # of a translator that this was taken from
        self.config.update(code_references(architecture_of(type(self))))
        super().save_pretrained(save_directory, *args, **kwargs)

    def _card(self, repo_id: str, tags: Sequence[str] = ()) -> str | None:
        return short_card(self, repo_id, tags)

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Which parameters are one and the same (target -> source), read from the configuration as it is now.

        The library's own method knows one switch; here `share_encoder_decoder_embeddings` and
        `tie_word_embeddings` are independent.
        """
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return self._tied_keys()

    def _tied_keys(self) -> dict[str, str]:
        return {}

    def init_parallel_plans(self) -> None:
        """The configuration plans for encoder and decoder together: keep what this model has of it."""
        super().init_parallel_plans()
        modules = {re.sub(r"\.\d+(?=\.|$)", ".*", name) for name, _ in self.named_modules()}
        for kind in ("_tp_plan", "_fsdp_plan"):
            plan = getattr(self, kind) or {}
            setattr(self, kind, {name: style for name, style in plan.items() if name in modules})

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Embedding:
        """Resizes the vocabulary, see `PreTrainedModel.resize_token_embeddings`.

        Raises:
            ValueError: source and target have a vocabulary each, and it is not clear which one is meant.
        """
        if new_num_tokens is None and pad_to_multiple_of is None:
            return cast(nn.Embedding, self.get_input_embeddings())
        if self.config.is_encoder_decoder and not self.config.share_encoder_decoder_embeddings:
            raise ValueError(
                "`resize_token_embeddings` needs one vocabulary, but `share_encoder_decoder_embeddings`"
                " is False."
            )
        embeddings = super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        self.config.decoder_vocab_size = self.config.vocab_size
        return embeddings

    @property
    def dummy_inputs(self) -> dict[str, torch.Tensor]:
        """A padded batch of two sentences."""
        input_ids = torch.tensor([[5, 6, 7, 2], [8, 2, 0, 0]], device=self.device)
        inputs = {"input_ids": input_ids, "attention_mask": input_ids.ne(0).long()}
        return inputs | (
            {"decoder_input_ids": input_ids.roll(1, 1)} if self.config.is_encoder_decoder else {}
        )


class VanillaTransformerStack(VanillaTransformerPreTrainedModel):
    """What encoder and decoder share: scaled embeddings plus positions (3.4, 3.5), and the final norm."""

    # An `nn.ModuleList`, of which type checkers know no more than that it holds modules.
    layers: Any

    def __init__(self, config: VanillaTransformerConfig, vocab_size: int):
        super().__init__(config)
        self.embed_scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0
        self.embed_tokens = nn.Embedding(vocab_size, config.d_model, config.pad_token_id)
        self.embed_positions: nn.Module | None = None
        if config.position_embedding == "sinusoidal":
            self.embed_positions = VanillaTransformerPositionalEncoding(config)
        elif config.position_embedding == "learned":
            self.embed_positions = VanillaTransformerLearnedPositionalEmbedding(config)
        self.layer_norm = (
            nn.LayerNorm(config.d_model, eps=config.layer_norm_eps) if config.has_final_norm else None
        )
        self.gradient_checkpointing = False

    def embed(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        """(N, S) ids, or (N, S, E) embeddings, as embeddings times sqrt(d_model)."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Exactly one of `input_ids` and `inputs_embeds` must be given to a stack.")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        return inputs_embeds * self.embed_scale

    def add_positions(
        self,
        embeddings: torch.Tensor,
        position_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        past_length: int | torch.Tensor = 0,
    ) -> torch.Tensor:
        """Adds positions to (N, S, E), counted from the mask where none are given, and applies dropout."""
        if (encode := self.embed_positions) is not None:
            embeddings = embeddings + self._positions(
                encode, embeddings, position_ids, attention_mask, past_length
            )
        return dropout(embeddings, self.config.dropout, self.training)

    def _positions(
        self,
        encode: nn.Module,
        embeddings: torch.Tensor,
        position_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        past_length: int | torch.Tensor,
    ) -> torch.Tensor:
        length, device, dtype = embeddings.shape[1], embeddings.device, embeddings.dtype
        if position_ids is not None:
            return encode(position_ids.to(device), dtype)
        position_ids = count_positions(attention_mask, length, past_length, device).to(device)
        whole = attention_mask is not None and attention_mask.ndim == 2 and attention_mask.shape[1] == length
        if not whole or self.config.position_embedding == "learned":
            return encode(position_ids, dtype)
        # A whole padded batch: compute each sinusoid once, then look it up for every row.
        return F.embedding(position_ids, encode(torch.arange(length, device=device), dtype))

    def finish(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The final norm, of a pre-norm stack for instance."""
        return hidden_states if self.layer_norm is None else self.layer_norm(hidden_states)


class VanillaTransformerEncoder(VanillaTransformerStack):
    """N layers over the source (section 3.1)."""

    _no_split_modules = ["VanillaTransformerEncoderLayer"]
    _can_record_outputs = {
        "hidden_states": VanillaTransformerEncoderLayer,
        "attentions": OutputRecorder(VanillaTransformerAttention, index=1, layer_name="self_attn"),
    }

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config, config.vocab_size)
        self.layers = nn.ModuleList(
            VanillaTransformerEncoderLayer(config, layer_idx) for layer_idx in range(config.encoder_layers)
        )
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encodes a batch of sources.

        Args:
            input_ids: (N, T) token ids, or instead `inputs_embeds` (N, T, E), which are scaled alike.
            attention_mask: (N, T), 1 at real tokens and 0 at padding on either side; or a 4-dimensional mask.
            position_ids: (N, T) positions; by default the first real token of each row is 0.

        Returns:
            `last_hidden_state` (N, T, E).
        """
        embeddings = self.embed(input_ids, inputs_embeds)
        real = None if attention_mask is None else real_tokens(attention_mask, embeddings)
        hidden_states = self.add_positions(embeddings, position_ids, real)
        mask = create_source_mask(self.config, embeddings, attention_mask, embeddings)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask, **kwargs)
        return BaseModelOutput(last_hidden_state=self.finish(hidden_states))


class VanillaTransformerDecoder(VanillaTransformerStack):
    """N layers over the target, each attending to the encoder's output too, if there is one (section 3.1)."""

    _no_split_modules = ["VanillaTransformerDecoderLayer"]
    _can_record_outputs = {
        "hidden_states": OutputRecorder(
            VanillaTransformerDecoderLayer, num_hidden_layers_key="decoder_layers"
        ),
        "attentions": OutputRecorder(VanillaTransformerAttention, index=1, layer_name="self_attn"),
        "cross_attentions": OutputRecorder(VanillaTransformerAttention, index=1, layer_name="encoder_attn"),
    }

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config, config.decoder_vocab_size or config.vocab_size)
        self.layers = nn.ModuleList(
            VanillaTransformerDecoderLayer(config, layer_idx) for layer_idx in range(config.decoder_layers)
        )
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Decodes a batch of targets, or their next tokens behind what `past_key_values` holds.

        Args:
            input_ids: (N, S) token ids, or instead `inputs_embeds` (N, S, E), which are scaled alike.
            attention_mask: (N, past + S), 1 at real tokens; or a 4-dimensional mask.
            encoder_hidden_states: (N, T, E), the encoder's output; beside an encoder only.
            encoder_attention_mask: (N, T), 1 at the source's real tokens.
            past_key_values: keys and values of earlier calls, extended in place.
            position_ids: (N, S) positions; by default the first real token of each row is 0.
            use_cache: keep keys and values for the next call (defaults to the configuration's `use_cache`).

        Returns:
            `last_hidden_state` (N, S, E), and `past_key_values` where they are kept.

        Raises:
            ValueError: `encoder_hidden_states` for a decoder that stands alone.
        """
        if encoder_hidden_states is not None and not self.config.is_encoder_decoder:
            raise ValueError("`encoder_hidden_states` must not be given to a decoder that stands alone.")
        embeddings = self.embed(input_ids, inputs_embeds)
        if use_cache and past_key_values is None:
            past_key_values = self._new_cache(encoder_hidden_states)
        self_cache = past_key_values
        if isinstance(past_key_values, EncoderDecoderCache):
            self_cache = past_key_values.self_attention_cache
        past_length = 0 if self_cache is None else self_cache.get_seq_length()
        positions_mask = attention_mask if isinstance(attention_mask, torch.Tensor) else None
        hidden_states = self.add_positions(embeddings, position_ids, positions_mask, past_length)
        # Only where no mask is given do positions that start anew mean another sequence.
        packed = position_ids if attention_mask is None else None
        causal_mask = create_causal_mask(
            config=self.config,
            inputs_embeds=embeddings,
            attention_mask=attention_mask
            if self_cache is not None
            else without_right_padding(self.config, embeddings, attention_mask),
            past_key_values=self_cache,
            position_ids=packed,
        )
        cross_mask = None
        if encoder_hidden_states is not None:
            cross_mask = create_source_mask(
                self.config, embeddings, encoder_attention_mask, encoder_hidden_states
            )
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                causal_mask,
                # By position, as gradient checkpointing follows positional arguments alone.
                encoder_hidden_states,
                encoder_attention_mask=cross_mask,
                past_key_values=past_key_values,
                position_ids=packed if self_cache is None else None,
                **kwargs,
            )
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=self.finish(hidden_states), past_key_values=past_key_values
        )

    def _new_cache(self, encoder_hidden_states: torch.Tensor | None) -> Cache:
        own = DynamicCache(config=self.config)
        return (
            own
            if encoder_hidden_states is None
            else EncoderDecoderCache(own, DynamicCache(config=self.config))
        )


class VanillaTransformerBaseModel(VanillaTransformerPreTrainedModel):
    """Encoder, decoder or both: they read one matrix where `share_encoder_decoder_embeddings` is set.

    One stack alone has that matrix too, so that its parameters bear the names that they have in the whole.
    """

    stacks: tuple[str, ...]

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        config = self.config
        if config.share_encoder_decoder_embeddings:
            self.shared = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
        for stack in self.stacks:
            kind = VanillaTransformerEncoder if stack == "encoder" else VanillaTransformerDecoder
            self.add_module(stack, kind(config))
        self.post_init()

    def _tied_keys(self) -> dict[str, str]:
        shared = self.config.share_encoder_decoder_embeddings
        return {f"{stack}.embed_tokens.weight": "shared.weight" for stack in self.stacks} if shared else {}

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings of the first stack, whose weight is that of the second too where it is shared."""
        return cast(VanillaTransformerStack, getattr(self, self.stacks[0])).embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the embeddings of the first stack, and those of the second where they are shared."""
        shared = self.config.share_encoder_decoder_embeddings
        if shared:
            self.shared = cast(nn.Embedding, value)
        for stack in self.stacks if shared else self.stacks[:1]:
            getattr(self, stack).embed_tokens = value


class VanillaTransformerModel(VanillaTransformerBaseModel):
    """Encoder and decoder (section 3.1, Figure 1), without the projection to the vocabulary."""

    _tied_weights_keys = {
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
    }
    stacks = ("encoder", "decoder")
    encoder: VanillaTransformerEncoder
    decoder: VanillaTransformerDecoder

    @staticmethod
    def _own_fields(config: VanillaTransformerConfig) -> dict[str, Any]:
        return {"is_encoder_decoder": True, "is_decoder": False}

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[torch.Tensor, ...] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput:
        """Runs the encoder, unless `encoder_outputs` are given, and the decoder.

        Args:
            input_ids: (N, T) source tokens, or instead `inputs_embeds` (N, T, E).
            attention_mask: (N, T), 1 at the source's real tokens.
            decoder_input_ids: (N, S) target tokens behind the start token, or instead `decoder_inputs_embeds`
                (N, S, E). Where neither is given, the source is shifted right, as BART does.
            decoder_attention_mask: (N, past + S), 1 at the target's real tokens.
            encoder_outputs: what the encoder returned for this source.
            past_key_values: keys and values of earlier calls, extended in place.
            position_ids, decoder_position_ids: (N, T) and (N, S); by default counted from the masks.
            use_cache: keep keys and values for the next call.

        Returns:
            `last_hidden_state` (N, S, E) of the decoder, `encoder_last_hidden_state` (N, T, E), and
            `past_key_values` where they are kept.

        Raises:
            ValueError: `inputs_embeds` without anything that the decoder could read.
        """
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if input_ids is None:
                raise ValueError(
                    "`decoder_input_ids` or `decoder_inputs_embeds` must be given beside `inputs_embeds`."
                )
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(input_ids)
        encoded: Any = encoder_outputs
        if encoder_outputs is None:
            encoded = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                position_ids=position_ids,
                return_dict=True,
                **kwargs,
            )
        elif not isinstance(encoder_outputs, BaseModelOutput):
            encoded = _encoder_output(encoder_outputs)
        decoder_outputs = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            position_ids=decoder_position_ids,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoder_outputs.last_hidden_state,
            past_key_values=decoder_outputs.past_key_values,
            decoder_hidden_states=decoder_outputs.hidden_states,
            decoder_attentions=decoder_outputs.attentions,
            cross_attentions=decoder_outputs.cross_attentions,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
        )

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """(N, S) labels as decoder inputs, see `shift_tokens_right`."""
        config = self.config
        if config.decoder_start_token_id is None:
            raise ValueError("`decoder_start_token_id` must be set to shift labels, but is None instead.")
        return shift_tokens_right(labels, config.pad_token_id or 0, config.decoder_start_token_id)


def _encoder_output(given: Any) -> BaseModelOutput:
    """What a caller has of an encoder, a tuple or an output of another kind, with its three parts by name."""
    if isinstance(given, ModelOutput):
        states, attentions = (getattr(given, name, None) for name in ("hidden_states", "attentions"))
        return BaseModelOutput(given[0], hidden_states=states, attentions=attentions)
    return BaseModelOutput(*given[:3])


class VanillaTransformerEncoderModel(VanillaTransformerBaseModel):
    """The encoder alone (section 3.1): a vector for each token, which sees all tokens."""

    _no_split_modules = ["VanillaTransformerEncoderLayer"]
    _tied_weights_keys = {"encoder.embed_tokens.weight": "shared.weight"}
    _keys_to_ignore_on_load_unexpected = [r"^(model\.)?decoder\."]
    stacks = ("encoder",)
    encoder: VanillaTransformerEncoder

    @staticmethod
    def _own_fields(config: VanillaTransformerConfig) -> dict[str, Any]:
        return config.fields_of_one_stack(is_decoder=False)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encodes a batch of texts; arguments and result are those of `VanillaTransformerEncoder`."""
        outputs: BaseModelOutput = self.encoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            position_ids=position_ids,
            return_dict=True,
            **kwargs,
        )
        return outputs


class VanillaTransformerDecoderModel(VanillaTransformerBaseModel):
    """The decoder without attention to an encoder (section 3.1): each token sees itself and earlier ones."""

    _no_split_modules = ["VanillaTransformerDecoderLayer"]
    _tied_weights_keys = {"decoder.embed_tokens.weight": "shared.weight"}
    _keys_to_ignore_on_load_unexpected = [r"^(model\.)?encoder\.", r"\.encoder_attn(_layer_norm)?\."]
    stacks = ("decoder",)
    decoder: VanillaTransformerDecoder

    @staticmethod
    def _own_fields(config: VanillaTransformerConfig) -> dict[str, Any]:
        return config.fields_of_one_stack(is_decoder=True)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Reads a batch of texts, or their next tokens behind what `past_key_values` holds.

        Args:
            input_ids, attention_mask, past_key_values, inputs_embeds, position_ids, use_cache: as in
                `VanillaTransformerDecoder`.

        Returns:
            `last_hidden_state` (N, S, E), and `past_key_values` where they are kept.
        """
        outputs: BaseModelOutputWithPastAndCrossAttentions = self.decoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            position_ids=position_ids,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        return BaseModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class VanillaTransformerHeadModel(VanillaTransformerPreTrainedModel):
    """A base model named `model`, beneath the head that a subclass adds."""

    base_class: type[VanillaTransformerBaseModel]

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.model = self.base_class(self.config)

    @classmethod
    def _own_fields(cls, config: VanillaTransformerConfig) -> dict[str, Any]:
        return cls.base_class._own_fields(config)

    def _tied_keys(self) -> dict[str, str]:
        return {f"model.{target}": f"model.{source}" for target, source in self.model._tied_keys().items()}


class VanillaTransformerLanguageModel(VanillaTransformerHeadModel):
    """A linear projection to the vocabulary, tied to the embeddings of the last stack (section 3.4).

    The encoder's bears another name than the decoder's, so that neither is ever loaded as the other.
    """

    projection = "lm_head"
    # `forward` takes `label_smoothing` and `return_logits`; the trainer asks.
    accepts_label_smoothing = True

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        rows = self.config.decoder_vocab_size or self.config.vocab_size
        projection = nn.Linear(self.config.d_model, rows, bias=self.config.lm_head_bias)
        self.add_module(self.projection, projection)

    def _tied_keys(self) -> dict[str, str]:
        tied = super()._tied_keys()
        if self.config.tie_word_embeddings:
            last = f"model.{self.base_class.stacks[-1]}.embed_tokens.weight"
            tied[f"{self.projection}.weight"] = tied.get(last, last)
        return tied

    def get_output_embeddings(self) -> nn.Module:
        """The projection to the vocabulary."""
        return cast(nn.Module, getattr(self, self.projection))

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replaces the projection to the vocabulary."""
        setattr(self, self.projection, new_embeddings)

    def predict(
        self,
        hidden_states: torch.Tensor,
        labels: torch.Tensor | None,
        *,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        label_smoothing: float = 0.0,
        return_logits: bool = True,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The loss where there are `labels`, and the logits where they are wanted.

        Args:
            hidden_states: (N, S, E).
            labels: (N, S), the tokens to predict at the same places, -100 where no loss is taken.
            logits_to_keep, num_items_in_batch, return_logits, label_smoothing: as in
                `VanillaTransformerForConditionalGeneration`.
        """
        if not isinstance(logits_to_keep, int) or logits_to_keep:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            hidden_states = hidden_states[:, kept]
            labels = None if labels is None else labels[:, kept]
        projection = self.get_output_embeddings()
        fusible = is_plain_linear(projection) and not is_torchdynamo_compiling()
        if labels is not None and not return_logits and fusible:
            linear = cast(nn.Linear, projection)
            loss = linear_cross_entropy_loss(
                hidden_states, linear.weight, labels, num_items_in_batch, label_smoothing, bias=linear.bias
            )
            return loss, None
        logits = projection(hidden_states)  # (N, S, E) -> (N, S, V)
        if labels is None:
            return None, logits
        return cross_entropy_loss(logits, labels, num_items_in_batch, label_smoothing), logits


class VanillaTransformerForConditionalGeneration(  # type: ignore[misc]
    VanillaTransformerLanguageModel, VanillaTransformerGenerationMixin
):
    """The Transformer of Figure 1: encoder, decoder and the linear projection to the vocabulary.

    `generate()` of a new model is greedy, as everywhere in transformers, with at most 50 tokens more than the
    source. `generate(**batch, **PAPER_DECODING)` translates as section 6.1 does, and so do models that our
    recipes train: their generation config says it. See `VanillaTransformerGenerationMixin`.
    """

    _tied_weights_keys = {
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "model.decoder.embed_tokens.weight": "model.shared.weight",
        "lm_head.weight": "model.shared.weight",
    }
    _tp_plan = {"lm_head": "colwise_gather_output"}
    base_class = VanillaTransformerModel
    model: VanillaTransformerModel
    lm_head: nn.Linear
    generate: Callable[..., Any]

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        set_decoding(self.generation_config, max_length_beyond_source=MAX_LENGTH_BEYOND_SOURCE)
        self.post_init()

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; training needs no copies of matrices for decoding, which are freed."""
        if mode:
            forget_copies(self)
        return super().train(mode)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        forget_copies(self)  # `.to(...)` and its like leave other matrices behind
        return super()._apply(fn, recurse)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[torch.Tensor, ...] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        return_logits: bool = True,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Predicts the target's next tokens, and the loss where `labels` are given.

        Args:
            input_ids, attention_mask, decoder_input_ids: as in `VanillaTransformerModel`, like its others;
                but the decoder's inputs default to the shifted labels (teacher forcing).
            labels: (N, S) target tokens, ending in the end token, -100 where no loss is taken.
            logits_to_keep: project only the last so many positions, or those of a 1-dimensional index, and
                take the loss there alone; 0 for all.
            num_items_in_batch: divisor of the summed loss; by default the labels of this batch that are not
                -100.
            return_logits: `False` computes the loss alone, in far less memory and about half the time of the
                projection; only beside `labels`.
            kwargs: `label_smoothing`, epsilon_ls of section 5.4 (default 0, the paper trains with 0.1), and
                what transformers' models take, `output_attentions` for instance.

        Returns:
            `loss` in nats per token where labels are given, `logits` (N, S, V), and what the model returns.

        Raises:
            ValueError: there is nothing for the decoder to read.
        """
        # Not a parameter of its own: transformers takes each whose name has "label" in it for labels.
        label_smoothing = kwargs.pop("label_smoothing", 0.0)
        if labels is not None:
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        elif decoder_input_ids is None and decoder_inputs_embeds is None:
            raise ValueError(
                "`labels` or `decoder_input_ids` must be given, but neither is. (A Trainer that smooths"
                " labels by itself takes the labels away: use a collator that adds `decoder_input_ids`.)"
            )
        outputs: Seq2SeqModelOutput = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            position_ids=position_ids,
            decoder_position_ids=decoder_position_ids,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        loss, logits = self.predict(
            cast(torch.Tensor, outputs.last_hidden_state),
            labels,
            logits_to_keep=logits_to_keep,
            num_items_in_batch=num_items_in_batch,
            label_smoothing=label_smoothing,
            return_logits=return_logits,
        )
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """(N, S) labels as decoder inputs, see `shift_tokens_right`."""
        return self.model.prepare_decoder_input_ids_from_labels(labels)


class VanillaTransformerForCausalLM(VanillaTransformerLanguageModel, GenerationMixin):
    """The decoder alone as a language model: it predicts each next token from the ones before it."""

    _no_split_modules = ["VanillaTransformerDecoderLayer"]
    _tied_weights_keys = {
        "model.decoder.embed_tokens.weight": "model.shared.weight",
        "lm_head.weight": "model.shared.weight",
    }
    _tp_plan = {"lm_head": "colwise_gather_output"}
    base_class = VanillaTransformerDecoderModel
    model: VanillaTransformerDecoderModel
    lm_head: nn.Linear
    generate: Callable[..., Any]

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        return_logits: bool = True,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Predicts the next token at each place, and the loss where `labels` are given.

        Args:
            input_ids, attention_mask, past_key_values, inputs_embeds, position_ids, use_cache: as in
                `VanillaTransformerDecoder`.
            labels: (N, S), usually the `input_ids` themselves, -100 where no loss is taken: the prediction at
                place s is compared with the label at s + 1.
            logits_to_keep, num_items_in_batch, return_logits: as in
                `VanillaTransformerForConditionalGeneration`.
            kwargs: `label_smoothing` as there; `shift_labels` (N, S), what to predict at each place, in place
                of `labels`; and what transformers' models take, `output_attentions` for instance.

        Returns:
            `loss` in nats per token where labels are given, `logits` (N, S, V), and what the model returns.
        """
        # Not parameters of their own: transformers takes each whose name has "label" in it for labels.
        label_smoothing = kwargs.pop("label_smoothing", 0.0)
        targets = kwargs.pop("shift_labels", None)
        if targets is None and labels is not None:
            targets = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
        outputs: BaseModelOutputWithPast = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            position_ids=position_ids,
            use_cache=use_cache if targets is None else False,
            return_dict=True,
            **kwargs,
        )
        loss, logits = self.predict(
            cast(torch.Tensor, outputs.last_hidden_state),
            targets,
            logits_to_keep=logits_to_keep,
            num_items_in_batch=num_items_in_batch,
            label_smoothing=label_smoothing,
            return_logits=return_logits,
        )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _prepare_generated_length(
        self, generation_config: GenerationConfig, has_default_max_length: bool, **kwargs: Any
    ) -> GenerationConfig:
        """The library's default length, but `max_position_embeddings` limits learned positions only."""
        unlimited = self.config.position_embedding != "learned"
        if unlimited and has_default_max_length and generation_config.max_new_tokens is None:
            generation_config.max_new_tokens = generation_config.max_length
        return super()._prepare_generated_length(
            generation_config=generation_config, has_default_max_length=has_default_max_length, **kwargs
        )

    def _get_stopping_criteria(self, *args: Any, **kwargs: Any) -> StoppingCriteriaList:
        """The library's, without a warning of `max_position_embeddings` where positions have no limit."""
        return without_limit_of_positions(super()._get_stopping_criteria(*args, **kwargs), self.config)


# transformers' Trainer, smoothing labels by itself, shifts them for the classes in this table alone.
MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[VanillaTransformerConfig.model_type] = (
    VanillaTransformerForCausalLM.__name__
)


class VanillaTransformerForMaskedLM(VanillaTransformerLanguageModel):
    """The encoder alone as a language model: it predicts masked tokens from the text around them."""

    _no_split_modules = ["VanillaTransformerEncoderLayer"]
    _tied_weights_keys = {
        "model.encoder.embed_tokens.weight": "model.shared.weight",
        "mlm_head.weight": "model.shared.weight",
    }
    _tp_plan = {"mlm_head": "colwise_gather_output"}
    base_class = VanillaTransformerEncoderModel
    projection = "mlm_head"
    model: VanillaTransformerEncoderModel

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        return_logits: bool = True,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Predicts the token at each place, and the loss where `labels` are given.

        Args:
            input_ids, attention_mask, inputs_embeds, position_ids: as in `VanillaTransformerEncoder`.
            labels: (N, S), the tokens behind the masks, -100 where no loss is taken.
            num_items_in_batch, return_logits, kwargs: as in `VanillaTransformerForConditionalGeneration`.

        Returns:
            `loss` in nats per token where labels are given, `logits` (N, S, V), and what the model returns.
        """
        label_smoothing = kwargs.pop("label_smoothing", 0.0)
        outputs: BaseModelOutput = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            position_ids=position_ids,
            return_dict=True,
            **kwargs,
        )
        loss, logits = self.predict(
            cast(torch.Tensor, outputs.last_hidden_state),
            labels,
            num_items_in_batch=num_items_in_batch,
            label_smoothing=label_smoothing,
            return_logits=return_logits,
        )
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def real_tokens(attention_mask: torch.Tensor | None, hidden_states: torch.Tensor) -> torch.Tensor:
    """(N, T), True at the tokens of `hidden_states` (N, T, E) that are no padding.

    Args:
        attention_mask: (N, T), 1 at real tokens; or (N, 1, S, T), where a token is real if any token sees it;
            `None` where all are.
    """
    if attention_mask is None:
        return torch.ones(hidden_states.shape[:2], dtype=torch.bool, device=hidden_states.device)
    if attention_mask.ndim == 2:
        return attention_mask.bool()
    return visible(attention_mask)[:, 0].any(-2)


class VanillaTransformerClassifier(VanillaTransformerHeadModel):
    """Residual dropout (section 5.4) and a linear map to the classes, on top of the encoder."""

    _no_split_modules = ["VanillaTransformerEncoderLayer"]
    _tied_weights_keys = {"model.encoder.embed_tokens.weight": "model.shared.weight"}
    base_class = VanillaTransformerEncoderModel
    model: VanillaTransformerEncoderModel

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.num_labels = cast(int, self.config.num_labels)
        self.classifier = nn.Linear(self.config.d_model, self.num_labels)
        self.post_init()

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """(..., E) -> (..., number of classes)."""
        return cast(torch.Tensor, self.classifier(dropout(features, self.config.dropout, self.training)))


class VanillaTransformerForSequenceClassification(VanillaTransformerClassifier):
    """Classes, or numbers, for a text as a whole: a linear map of its pooled encoding.

    `pooling` of the configuration names what is read of the real tokens: their mean, or the first.
    """

    # `forward` takes `label_smoothing` and `return_logits`; the trainer asks.
    accepts_label_smoothing = True

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Classifies a batch of texts.

        Args:
            input_ids, attention_mask, inputs_embeds, position_ids: as in `VanillaTransformerEncoder`.
            labels: (N,) classes, (N, C) zeros and ones for several classes a text, or (N,) or (N, C) numbers
                to predict, as the configuration's `problem_type` says. Where it says nothing, it is set:
                numbers if C is 1, else classes if the labels are integers.
            num_items_in_batch: divisor of the summed loss; by default the number of labels.
            kwargs: `label_smoothing`, epsilon_ls of section 5.4 (default 0; for one class a text alone);
                `return_logits`, which changes nothing, as these logits cost nothing; and what transformers'
                models take, `output_attentions` for instance.

        Returns:
            `loss` where labels are given, `logits` (N, C), and what the model returns.
        """
        label_smoothing = kwargs.pop("label_smoothing", 0.0)
        kwargs.pop("return_logits", None)
        outputs: BaseModelOutput = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            position_ids=position_ids,
            return_dict=True,
            **kwargs,
        )
        hidden_states = cast(torch.Tensor, outputs.last_hidden_state)
        logits = self.classify(self.pool(hidden_states, real_tokens(attention_mask, hidden_states)))
        loss = None
        if labels is not None:
            problem_type = self.config.problem_type or infer_problem_type(labels, self.num_labels)
            self.config.problem_type = problem_type
            loss = sequence_loss(logits, labels, problem_type, num_items_in_batch, label_smoothing)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def pool(self, hidden_states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """(N, T, E), real where `real` (N, T) is set -> (N, E)."""
        if self.config.pooling == "first":
            first = real.to(hidden_states.device).int().argmax(-1)
            return hidden_states[torch.arange(len(first), device=first.device), first]
        weights = real.to(hidden_states)[..., None]
        return (hidden_states * weights).sum(1) / weights.sum(1).clamp(min=1)


class VanillaTransformerForTokenClassification(VanillaTransformerClassifier):
    """A class for each token: a linear map of its encoding."""

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Classifies each token of a batch of texts.

        Args:
            input_ids, attention_mask, inputs_embeds, position_ids: as in `VanillaTransformerEncoder`.
            labels: (N, T) classes, -100 where no loss is taken.
            num_items_in_batch: divisor of the summed loss; by default the labels that are not -100.

        Returns:
            `loss` where labels are given, `logits` (N, T, C), and what the model returns.
        """
        outputs: BaseModelOutput = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            position_ids=position_ids,
            return_dict=True,
            **kwargs,
        )
        logits = self.classify(cast(torch.Tensor, outputs.last_hidden_state))
        loss = None if labels is None else cross_entropy_loss(logits, labels, num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


__all__ = [
    "VanillaTransformerDecoderModel",
    "VanillaTransformerEncoderModel",
    "VanillaTransformerForCausalLM",
    "VanillaTransformerForConditionalGeneration",
    "VanillaTransformerForMaskedLM",
    "VanillaTransformerForSequenceClassification",
    "VanillaTransformerForTokenClassification",
    "VanillaTransformerModel",
    "VanillaTransformerPreTrainedModel",
]
