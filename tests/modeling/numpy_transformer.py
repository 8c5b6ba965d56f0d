"""The formulas of "Attention Is All You Need" in plain numpy: slow, readable, sharing nothing with the model.

Everything works on complex numbers too: with an imaginary part of h in one weight, the imaginary part of the
result divided by h is the derivative, exact to rounding (the complex-step method): nothing is subtracted.

Weights are a mapping from the model's parameter names to arrays; a linear map x W^T + b has W of (out, in).
Shapes: N batch, S and T lengths, H heads, E model width, V vocabulary.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Weights = Mapping[str, Array]


def interleaved_sinusoid(position: int, d_model: int) -> Array:
    """Section 3.5: PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos(pos / 10000^(2i/d))."""
    encoding = np.empty(d_model)
    for i in range(d_model // 2):
        angle = position / 10000 ** (2 * i / d_model)
        encoding[2 * i], encoding[2 * i + 1] = np.sin(angle), np.cos(angle)
    return encoding


def split_sinusoid(position: int, d_model: int) -> Array:
    """The same numbers, all sines first and then all cosines, as Marian stores them."""
    encoding = interleaved_sinusoid(position, d_model)
    return np.concatenate([encoding[0::2], encoding[1::2]])


def tensor2tensor_sinusoid(position: int, d_model: int) -> Array:
    """tensor2tensor's signal: d/2 timescales from 1 to 10,000, even in the logarithm; sin, then cos."""
    min_timescale, max_timescale = 1.0, 1.0e4
    num_timescales = d_model // 2
    log_timescale_increment = np.log(max_timescale / min_timescale) / (num_timescales - 1)
    inv_timescales = min_timescale * np.exp(np.arange(num_timescales) * -log_timescale_increment)
    scaled_time = position * inv_timescales
    return np.concatenate([np.sin(scaled_time), np.cos(scaled_time)])


SINUSOIDS = {
    "interleaved": interleaved_sinusoid,
    "split": split_sinusoid,
    "tensor2tensor": tensor2tensor_sinusoid,
}


def linear(x: Array, weights: Weights, name: str) -> Array:
    """x W^T, plus b where the layer has one."""
    y = x @ weights[f"{name}.weight"].T
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def layer_norm(x: Array, weights: Weights, name: str, eps: float) -> Array:
    """Ba et al. (2016), cited in section 3.1: (x - mean) / sqrt(variance + eps) * gain + bias."""
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def softmax(x: Array) -> Array:
    """exp(x) / sum exp(x) over the last axis."""
    exponentials = np.exp(x - x.real.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def scaled_dot_product_attention(query: Array, key: Array, value: Array, visible: Array) -> Array:
    """Equation 1: softmax(Q K^T / sqrt(d_k)) V, illegal connections set to minus infinity (section 3.2.3)."""
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    # A finite number in place of infinity, for rows of padding see nothing at all.
    return softmax(np.where(visible, scores, -1e30)) @ value


def multi_head_attention(
    queries: Array, memory: Array, visible: Array, weights: Weights, name: str, heads: int
) -> Array:
    """Section 3.2.2: Concat(head_1, ..., head_h) W^O, head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)."""
    query = np.split(linear(queries, weights, f"{name}.q_proj"), heads, axis=-1)
    key = np.split(linear(memory, weights, f"{name}.k_proj"), heads, axis=-1)
    value = np.split(linear(memory, weights, f"{name}.v_proj"), heads, axis=-1)
    results = [scaled_dot_product_attention(query[i], key[i], value[i], visible) for i in range(heads)]
    return linear(np.concatenate(results, axis=-1), weights, f"{name}.out_proj")


def feed_forward(x: Array, weights: Weights, name: str) -> Array:
    """Equation 2: max(0, x W_1 + b_1) W_2 + b_2."""
    inner = linear(x, weights, f"{name}.fc1")
    return linear(np.where(inner.real > 0, inner, 0), weights, f"{name}.fc2")


def label_smoothed_loss(logits: Array, labels: Array, epsilon: float, num_items: int | None = None) -> Any:
    """Section 5.4: cross-entropy against (1 - epsilon) onehot + epsilon / V, over labels that are not -100.

    The sum is divided by `num_items`, by default the number of those labels.
    """
    total: Any = 0.0
    for position in np.argwhere(labels != -100):
        log_probabilities = np.log(softmax(logits[tuple(position)]))
        target = np.full(logits.shape[-1], epsilon / logits.shape[-1])
        target[labels[tuple(position)]] += 1 - epsilon
        total -= (target * log_probabilities).sum()
    return total / ((labels != -100).sum() if num_items is None else num_items)


class NumpyTransformer:
    """Figure 1, with the model's configuration for the sizes and the choices.

    Args:
        config: anything with the configuration's fields.
        weights: parameters by name; source and target embeddings and the projection each under their own.
    """

    def __init__(self, config: Any, weights: Weights):
        self.config = config
        self.weights = weights

    def logits(self, source: Array, source_mask: Array, target: Array, target_mask: Array) -> Array:
        """(N, T) source and (N, S) target ids with masks, 1 at real tokens, as (N, S, V)."""
        memory = self.encode(source, source_mask)
        return linear(self.decode(target, target_mask, memory, source_mask), self.weights, "lm_head")

    def encode(self, source: Array, source_mask: Array) -> Array:
        """Section 3.1, encoder: self-attention and a feed-forward network in each layer."""
        stack, eps = "model.encoder", self.config.layer_norm_eps
        visible = source_mask[:, None, :].astype(bool)
        x = self.embed(stack, source, source_mask)
        for number in range(self.config.encoder_layers):
            layer, heads = f"{stack}.layers.{number}", self.config.encoder_attention_heads
            x = self.sublayer(
                x,
                f"{layer}.self_attn_layer_norm",
                lambda y, name=f"{layer}.self_attn", h=heads: multi_head_attention(
                    y, y, visible, self.weights, name, h
                ),
            )
            x = self.sublayer(
                x, f"{layer}.final_layer_norm", lambda y, name=layer: feed_forward(y, self.weights, name)
            )
        return layer_norm(x, self.weights, f"{stack}.layer_norm", eps) if self.config.has_final_norm else x

    def decode(self, target: Array, target_mask: Array, memory: Array, source_mask: Array) -> Array:
        """Section 3.1, decoder: self-attention to no later position, attention to `memory`, feed-forward."""
        stack, eps = "model.decoder", self.config.layer_norm_eps
        earlier = np.tril(np.ones((target.shape[1], target.shape[1]), dtype=bool))
        visible = earlier & target_mask[:, None, :].astype(bool)
        memory_visible = source_mask[:, None, :].astype(bool)
        x = self.embed(stack, target, target_mask)
        for number in range(self.config.decoder_layers):
            layer, heads = f"{stack}.layers.{number}", self.config.decoder_attention_heads
            x = self.sublayer(
                x,
                f"{layer}.self_attn_layer_norm",
                lambda y, name=f"{layer}.self_attn", h=heads: multi_head_attention(
                    y, y, visible, self.weights, name, h
                ),
            )
            x = self.sublayer(
                x,
                f"{layer}.encoder_attn_layer_norm",
                lambda y, name=f"{layer}.encoder_attn", h=heads: multi_head_attention(
                    y, memory, memory_visible, self.weights, name, h
                ),
            )
            x = self.sublayer(
                x, f"{layer}.final_layer_norm", lambda y, name=layer: feed_forward(y, self.weights, name)
            )
        return layer_norm(x, self.weights, f"{stack}.layer_norm", eps) if self.config.has_final_norm else x

    @property
    def pre_norm(self) -> bool:
        """Whether norms stand before the sub-layers, and one more at the end of each stack."""
        return bool(self.config.norm_position == "pre")

    def sublayer(self, x: Array, norm: str, function: Any) -> Array:
        """Section 3.1: LayerNorm(x + Sublayer(x)); in a pre-norm model x + Sublayer(LayerNorm(x))."""
        eps = self.config.layer_norm_eps
        if self.pre_norm:
            return x + function(layer_norm(x, self.weights, norm, eps))
        return layer_norm(x + function(x), self.weights, norm, eps)

    def embed(self, stack: str, ids: Array, mask: Array) -> Array:
        """Sections 3.4 and 3.5: embedding * sqrt(d_model) + positional encoding, real tokens count from 0."""
        scale = np.sqrt(self.config.d_model) if self.config.scale_embedding else 1.0
        embeddings = self.weights[f"{stack}.embed_tokens.weight"][ids] * scale
        positions = np.maximum(mask.cumsum(-1) - 1, 0)
        if self.config.position_embedding == "none":
            return embeddings
        if self.config.position_embedding == "learned":
            return embeddings + self.weights[f"{stack}.embed_positions.weight"][positions]
        sinusoid = SINUSOIDS[self.config.sinusoidal_layout]
        positions = positions + self.config.sinusoidal_offset
        rows = [[sinusoid(int(position), self.config.d_model) for position in row] for row in positions]
        return embeddings + np.array(rows)
