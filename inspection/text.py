"""Explanations as plain text, in columns that line up where characters are wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import torch

from ..tables import aligned, text_table

if TYPE_CHECKING:
    from .explanation import Attention, Embedding, Explanation, Layer

Item = TypeVar("Item")

# What is shown of each vector, and of each sentence.
COLUMNS = 4
ROWS = 12


def describe(explanation: Explanation, *, layer: int = 0, head: int = 0) -> str:
    """Every stage of `explanation` with its shape and a few numbers, see `Explanation.text`."""
    source, target = explanation.source_embedding.pieces, explanation.target_embedding.pieces
    encoder, decoder = pick(explanation.encoder, layer), pick(explanation.decoder, layer)
    stages = [
        f"{explanation.source} -> {explanation.translation}",
        _describe_embedding("Encoder input", explanation.source_embedding),
        *_describe_layer(_layer_title("Encoder", explanation.encoder, layer), encoder, source, source,
                         explanation, head),
        matrix("Encoder output, which becomes K and V of the decoder's cross-attention", explanation.memory,
               source),
        _describe_embedding("Decoder input", explanation.target_embedding),
        *_describe_layer(_layer_title("Decoder", explanation.decoder, layer), decoder, target, source,
                         explanation, head),
        _describe_decoding(explanation),
    ]  # fmt: skip
    return "\n\n".join(stages)


@overload
def pick(items: torch.Tensor, index: int) -> torch.Tensor: ...
@overload
def pick(items: Sequence[Item], index: int) -> Item: ...
def pick(items: Any, index: int) -> Any:
    """`items[index]`, or the last one where there are fewer (stacks and their heads may differ in number)."""
    return items[max(-len(items), min(index, len(items) - 1))]


def matrix(
    title: str, values: torch.Tensor, rows: Sequence[str], columns: Sequence[str] | None = None
) -> str:
    """A title with the shape, and the numbers of the first rows.

    Args:
        title: what it is.
        values: (rows, columns).
        rows: a label for each row.
        columns: a label for each column, all shown; without them, the first numbers of each row.
    """
    count = min(len(columns), ROWS) if columns else min(values.shape[-1], COLUMNS)
    labels = list(columns[:count]) if columns else [f"[{k}]" for k in range(count)]
    more = values.shape[-1] > count
    table = [
        [label, *(_number(number) for number in row[:count]), *(["..."] if more else [])]
        for label, row in zip(rows[:ROWS], values.tolist(), strict=False)
    ]
    lines = [f"  {line}" for line in aligned([["", *labels, *([""] if more else [])], *table])]
    rest = [f"  ... {len(rows) - ROWS} more rows"] if len(rows) > ROWS else []
    return "\n".join([f"{title}  {shape(values)}", *lines, *rest])


def _number(value: float | bool) -> str:
    if isinstance(value, bool):
        return "1" if value else "."
    return f"{value:6.2f}"


def shape(values: torch.Tensor) -> str:
    """`(7, 128)`."""
    return f"({', '.join(map(str, values.shape))})"


def _describe_embedding(name: str, embedding: Embedding) -> str:
    pieces = "  ".join(
        f"{piece} {number}" for piece, number in zip(embedding.pieces, embedding.ids.tolist(), strict=True)
    )
    title = "Embedding"
    if embedding.factor != 1:
        title += f" times sqrt({embedding.scaled.shape[-1]}) = {embedding.factor:.2f}"
    parts = [
        f"{name}: {len(embedding.pieces)} pieces and their ids\n  {pieces}",
        matrix(title, embedding.scaled, embedding.pieces),
    ]
    if embedding.positions is not None:
        parts += [
            matrix("Positional encoding", embedding.positions, embedding.pieces),
            matrix("Their sum", embedding.total, embedding.pieces),
        ]
    return "\n\n".join(parts)


def _layer_title(stack: str, layers: Sequence[Layer], index: int) -> str:
    """Names the layer that `pick` shows, counted from 1."""
    return f"{stack} layer {pick(range(len(layers)), index) + 1}"


def _describe_layer(
    title: str,
    layer: Layer,
    pieces: Sequence[str],
    memory: Sequence[str],
    explanation: Explanation,
    head: int,
) -> list[str]:
    residuals = iter(layer.residuals)
    masked = " (masked)" if layer.cross_attention is not None else ""
    parts = [
        _describe_attention(f"{title}, self-attention{masked}", layer.self_attention, pieces, pieces, head)
    ]
    norm = "LayerNorm before the sub-layer" if explanation.pre_norm else "LayerNorm of it"
    name = explanation.activation
    inner = "max(0, x W1 + b1)" if name == "relu" else f"{name}(x W1 + b1)"

    def add_and_norm() -> None:
        residual = next(residuals)
        parts.append(matrix("Add: x + Sublayer(x)", residual.added, pieces))
        parts.append(matrix(norm, residual.normed, pieces))

    add_and_norm()
    if layer.cross_attention is not None:
        cross = f"{title}, attention to the encoder's output"
        parts.append(_describe_attention(cross, layer.cross_attention, pieces, memory, head))
        add_and_norm()
    parts.append(matrix(f"{title}, feed-forward: {inner}", layer.feed_forward.inner, pieces))
    parts.append(matrix("times W2, plus b2", layer.feed_forward.output, pieces))
    add_and_norm()
    return parts


def _describe_attention(
    title: str, attention: Attention, queries: Sequence[str], keys: Sequence[str], head: int
) -> str:
    heads, _, width = attention.query.shape
    parts = [
        f"{title}: head {pick(range(heads), head) + 1} of {heads}",
        matrix("Q", pick(attention.query, head), queries),
        matrix("K", pick(attention.key, head), keys),
        matrix("V", pick(attention.value, head), keys),
        matrix(f"Scaled scores Q K^T / sqrt({width})", pick(attention.scores, head), queries, keys),
        matrix("Mask (1: visible)", attention.visible, queries, keys),
        matrix("Softmax: the weights, rows sum to 1", pick(attention.weights, head), queries, keys),
        matrix("Weighted sum of V", pick(attention.heads, head), queries),
        matrix(f"The {heads} heads side by side", attention.concatenated, queries),
        matrix("times W^O", attention.projected, queries),
    ]
    return "\n\n".join(parts)


def _describe_decoding(explanation: Explanation) -> str:
    decoding = explanation.decoding
    rows = [
        [
            str(number),
            " ".join(step.read),
            *(f"{candidate.piece} {candidate.probability:.3f}" for candidate in step.candidates),
            f"{float(forced[step.chosen.id]):.3f}",
        ]
        for number, (step, forced) in enumerate(zip(decoding.steps, decoding.forced, strict=True), start=1)
    ]
    candidates = len(decoding.steps[0].candidates)
    ranks = ["best", *(f"{rank}." for rank in range(2, candidates + 1))]
    difference = float((decoding.stepwise - decoding.forced).abs().max())
    last = decoding.steps[-1]
    return "\n".join(
        [
            f"Decoding step by step: {len(rows)} steps, each reads what the steps before chose",
            text_table(["", "read so far", *ranks, "teacher forcing"], rows),
            f"The last step chose {last.chosen.piece}.",
            "Teacher forcing: the decoder reads all positions at once behind its mask, and gives"
            f" {shape(decoding.forced)}",
            f"probabilities in one pass; the last column is that of the chosen piece. Largest difference: "
            f"{difference:.0e}.",
        ]
    )
