"""Pictures of attention, of positions and of a whole explanation, readable in black and white.

Dark is large everywhere. Each function returns a matplotlib `Figure`; `drawing.save_figure` saves it. Text
that is drawn must stand inside `drawing.fonts_for`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..drawing import FORMATS, fonts_for, new_figure, save_figure
from ..errors import InputError
from .text import pick, shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .explanation import Attention, Explanation, Layer

KINDS = ("encoder", "decoder", "cross")
COLOURS = "Greys"
# Up to so many cells a picture writes the weights into them.
CELLS_WITH_NUMBERS = 120
FROM_0_TO_1 = ("mask (dark: visible)", "softmax")


def plot_attention(
    explanation: Explanation, kind: str = "cross", *, layer: int | None = None, head: int | None = None
) -> Figure:
    """Attention weights as heat maps: queries down, keys across.

    Args:
        explanation: a sentence pair, from `explain`.
        kind: `"encoder"`, `"decoder"` (both self-attention) or `"cross"`.
        layer, head: counted from 0; `None` draws all of them as a grid, layers down and heads across.

    Raises:
        InputError: there is no such kind, layer or head.
    """
    attentions, queries, keys = attentions_of(explanation, kind)
    layers = _chosen("layer", layer, len(attentions))
    heads = _chosen("head", head, len(attentions[0].weights))
    alone = len(layers) == len(heads) == 1
    side = max(2.2, 0.45 * max(len(queries), len(keys))) if alone else 2.2
    with fonts_for([*queries, *keys]):
        figure = new_figure(1.5 + side * len(heads) * (1.3 if alone else 1), 0.8 + side * len(layers))
        grid = figure.subplots(len(layers), len(heads), squeeze=False)
        for row, number in zip(grid, layers, strict=True):
            for axes, which in zip(row, heads, strict=True):
                weights = attentions[number].weights[which]
                axes.set_title(f"layer {number + 1}, head {which + 1}", fontsize=9)
                draw_matrix(axes, weights, queries, keys, most=1.0, small=not alone)
        figure.suptitle(TITLES[kind])
    return figure


def plot_heads(explanation: Explanation, kind: str, heads: Sequence[tuple[int, int]]) -> Figure:
    """Chosen heads of several layers side by side, for those that do something one recognises.

    Args:
        explanation: a sentence pair, from `explain`.
        kind: as for `plot_attention`.
        heads: (layer, head) of each panel, counted from 0.

    Raises:
        InputError: there is no such kind, layer or head.
    """
    attentions, queries, keys = attentions_of(explanation, kind)
    side = max(2.2, 0.32 * max(len(queries), len(keys)))
    with fonts_for([*queries, *keys]):
        figure = new_figure(1.3 * side * len(heads), 0.8 + side)
        for axes, (layer, head) in zip(figure.subplots(1, len(heads), squeeze=False)[0], heads, strict=True):
            (number,) = _chosen("layer", layer, len(attentions))
            (which,) = _chosen("head", head, len(attentions[number].weights))
            axes.set_title(f"layer {number + 1}, head {which + 1}", fontsize=11)
            draw_matrix(axes, attentions[number].weights[which], queries, keys, most=1.0, small=True)
        figure.suptitle(TITLES[kind])
    return figure


TITLES = {
    "encoder": "encoder self-attention",
    "decoder": "decoder self-attention (masked)",
    "cross": "attention of each step (read → predicted) to the source",
}


def attentions_of(
    explanation: Explanation, kind: str
) -> tuple[list[Attention], tuple[str, ...], tuple[str, ...]]:
    """The attentions of one kind, layer by layer, and labels of what attends and what is attended to.

    In cross-attention a row is a step of decoding: the piece that it read, and the one that it predicted.
    """
    source, target = explanation.source_embedding.pieces, explanation.target_embedding.pieces
    if kind == "encoder":
        return [layer.self_attention for layer in explanation.encoder], source, source
    if kind == "decoder":
        return [layer.self_attention for layer in explanation.decoder], target, target
    if kind == "cross":
        found = [layer.cross_attention for layer in explanation.decoder if layer.cross_attention is not None]
        steps = explanation.decoding.steps
        return found, tuple(f"{step.read[-1]} → {step.chosen.piece}" for step in steps), source
    raise InputError(f"`kind` must be one of {', '.join(KINDS)}, but is {kind!r} instead.")


def _chosen(name: str, number: int | None, count: int) -> range:
    if number is None:
        return range(count)
    if not -count <= number < count:
        raise InputError(f"there are {count} of `{name}`, but number {number + 1} is asked for.")
    return range(count)[number:][:1]


def plot_alignment(explanation: Explanation, *, layer: int | None = None) -> Figure:
    """Source above, target below, joined by lines as dark and thick as the cross-attention.

    Each line is the weight with which the decoder looked at a source piece when it predicted a target piece,
    averaged over the heads.

    Args:
        explanation: a sentence pair, from `explain`.
        layer: counted from 0; `None` averages over the layers, too.
    """
    attentions, _, source = attentions_of(explanation, "cross")
    layers = _chosen("layer", layer, len(attentions))
    weights = torch.stack([attentions[k].weights.mean(dim=0) for k in layers]).mean(dim=0)
    predicted = [step.chosen.piece for step in explanation.decoding.steps]
    with fonts_for([*source, *predicted]):
        figure = new_figure(1 + 0.8 * max(len(source), len(predicted)), 3)
        axes = figure.subplots()
        axes.axis("off")
        axes.set_ylim(-0.15, 1.15)
        places = [_spread(len(source)), _spread(len(predicted))]
        for pieces, where, y, side in (
            (source, places[0], 1.0, "bottom"),
            (predicted, places[1], 0.0, "top"),
        ):
            for piece, x in zip(pieces, where, strict=True):
                axes.text(x, y, piece, ha="center", va=side, fontsize=12)
        for below, row in zip(places[1], weights.tolist(), strict=True):
            for above, weight in zip(places[0], row, strict=True):
                axes.plot([above, below], [0.97, 0.03], color="black", alpha=weight, linewidth=4 * weight)
    return figure


def _spread(count: int) -> list[float]:
    return [(k + 0.5) / count for k in range(count)]


def plot_positions(encodings: torch.Tensor) -> Figure:
    """Positional encodings as a matrix, and how alike two of them are by their distance.

    Args:
        encodings: (T, E), row p for position p.
    """
    encodings = encodings.detach().double().cpu()
    length, width = encodings.shape
    starts = (0, length // 2)
    products = encodings[list(starts)] @ encodings.T
    figure = new_figure(13, 4.2)
    left, right = figure.subplots(1, 2)
    image = left.imshow(encodings.numpy(), cmap=COLOURS, aspect="auto", interpolation="nearest")
    figure.colorbar(image, ax=left)
    left.set(title=f"positional encodings {shape(encodings)}", xlabel="dimension", ylabel="position")
    for start, row, style in zip(starts, products, ("-", "--"), strict=True):
        distances = torch.arange(length) - start
        right.plot(distances.numpy(), row.numpy(), style, color="black", label=f"from position {start}")
    right.axvline(0, color="grey", linewidth=0.5)
    right.set(title=f"dot products of encodings (d = {width})", xlabel="distance", ylabel="dot product")
    right.legend()
    return figure


def draw_explanation(
    explanation: Explanation, folder: str | Path, *, layer: int = 0, head: int = 0, suffix: str = "png"
) -> list[Path]:
    """One picture for each stage, see `Explanation.draw`."""
    if suffix not in FORMATS:
        raise InputError(f"`suffix` must be png or svg, but is {suffix!r} instead.")
    source, target = explanation.source_embedding.pieces, explanation.target_embedding.pieces
    encoder, decoder = pick(explanation.encoder, layer), pick(explanation.decoder, layer)
    pages: dict[str, list[Panel]] = {
        "1-encoder-input": _embedding_panels(explanation.source_embedding),
        "2-encoder-self-attention": _attention_panels(encoder.self_attention, source, source, head),
        "3-encoder-layer": _layer_panels(encoder, source, pre_norm=explanation.pre_norm),
        "4-decoder-input": _embedding_panels(explanation.target_embedding),
        "5-decoder-self-attention": _attention_panels(decoder.self_attention, target, target, head),
        "7-decoder-layer": [
            ("encoder's output", explanation.memory, source, None),
            *_layer_panels(decoder, target, pre_norm=explanation.pre_norm),
        ],
    }
    if decoder.cross_attention is not None:
        pages["6-cross-attention"] = _attention_panels(decoder.cross_attention, target, source, head)
    folder = Path(folder)
    with fonts_for([*source, *target]):
        figures = {name: _draw_panels(panels) for name, panels in sorted(pages.items())}
        figures["8-decoding"] = plot_decoding(explanation)
        folder.mkdir(parents=True, exist_ok=True)
        return [save_figure(figure, folder / f"{name}.{suffix}") for name, figure in figures.items()]


# Title, values, labels of the rows, and of the columns where they are pieces too.
Panel = tuple[str, torch.Tensor, Sequence[str], Sequence[str] | None]


def _embedding_panels(embedding: Any) -> list[Panel]:
    pieces = embedding.pieces
    title = "embedding" if embedding.factor == 1 else "embedding * sqrt(d)"
    panels: list[Panel] = [(title, embedding.scaled, pieces, None)]
    if embedding.positions is not None:
        panels.append(("positional encoding", embedding.positions, pieces, None))
        panels.append(("sum", embedding.total, pieces, None))
    return panels


def _attention_panels(
    attention: Attention, queries: Sequence[str], keys: Sequence[str], head: int
) -> list[Panel]:
    return [
        ("Q", pick(attention.query, head), queries, None),
        ("K", pick(attention.key, head), keys, None),
        ("V", pick(attention.value, head), keys, None),
        ("QK^T / sqrt(d_k)", pick(attention.scores, head), queries, keys),
        ("mask (dark: visible)", attention.visible, queries, keys),
        ("softmax", pick(attention.weights, head), queries, keys),
        ("weighted sum of V", pick(attention.heads, head), queries, None),
    ]


def _layer_panels(layer: Layer, pieces: Sequence[str], *, pre_norm: bool) -> list[Panel]:
    """Sub-layer by sub-layer, each in the order in which it is computed."""
    attentions = {"self-attention": layer.self_attention, "cross-attention": layer.cross_attention}
    inside: dict[str, dict[str, torch.Tensor]] = {
        name: {"heads side by side": attention.concatenated, "times W^O": attention.projected}
        for name, attention in attentions.items()
        if attention is not None
    }
    inside["feed-forward"] = {"inner values": layer.feed_forward.inner, "output": layer.feed_forward.output}
    panels: list[tuple[str, torch.Tensor]] = []
    for (name, values), residual in zip(inside.items(), layer.residuals, strict=True):
        steps = {**values, "add": residual.added}
        steps = {"norm": residual.normed, **steps} if pre_norm else {**steps, "norm": residual.normed}
        panels += [(f"{name}: {step}", matrix) for step, matrix in steps.items()]
    return [(title, matrix, pieces, None) for title, matrix in panels]


def _draw_panels(panels: Sequence[Panel]) -> Figure:
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    height = max(2.4, 0.8 + 0.3 * max(len(labels) for _, _, labels, _ in panels))
    figure = new_figure(4 * columns, height * rows)
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (title, values, labels, across) in zip(grid, panels, strict=False):
        axes.set_title(f"{title}  {shape(values)}", fontsize=9)
        most = 1.0 if title in FROM_0_TO_1 else None
        draw_matrix(axes, values, labels, across, most=most, bar=True, small=True)
    for axes in list(figure.axes)[len(panels) : rows * columns]:
        axes.set_visible(False)
    return figure


def draw_matrix(
    axes: Any,
    values: torch.Tensor,
    rows: Sequence[str],
    columns: Sequence[str] | None,
    *,
    most: float | None = None,
    bar: bool = False,
    small: bool = False,
) -> None:
    """A matrix as shades of grey, rows and columns labelled with pieces.

    Args:
        axes: matplotlib axes.
        values: (rows, columns).
        rows, columns: labels; without those of the columns, these are numbered.
        most: the value drawn black, white being 0; without it, the largest is black and the smallest white.
        bar: say beside it which shade is which number.
        small: write small, and no numbers into the cells.
    """
    shades = values.detach().float().cpu().numpy()
    least = None if most is None else 0.0
    image = axes.imshow(shades, cmap=COLOURS, vmin=least, vmax=most, aspect="auto", interpolation="nearest")
    size = 7 if small else 11
    axes.set_yticks(range(len(rows)), rows, fontsize=size)
    if columns is not None:
        axes.set_xticks(range(len(columns)), columns, fontsize=size, rotation=60)
    if bar:
        axes.figure.colorbar(image, ax=axes)
    if not small and values.numel() <= CELLS_WITH_NUMBERS:
        for y, row in enumerate(values.tolist()):
            for x, value in enumerate(row):
                colour = "white" if value > 0.5 else "black"
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)


def plot_decoding(explanation: Explanation) -> Figure:
    """The five best next pieces of each step as bars, and the chosen one, hatched, wherever it stands."""
    steps = explanation.decoding.steps
    shown = [[*step.candidates, *([] if step.chosen in step.candidates else [step.chosen])] for step in steps]
    with fonts_for([one.piece for bars in shown for one in bars], required=False):
        columns = min(4, len(steps))
        rows = -(-len(steps) // columns)
        figure = new_figure(3.4 * columns, 2 * rows)
        grid = figure.subplots(rows, columns, squeeze=False).flat
        for number, (axes, step, drawn) in enumerate(zip(grid, steps, shown, strict=False), start=1):
            pieces = [candidate.piece for candidate in drawn]
            heights = [one.probability for one in drawn]
            bars = axes.barh(range(len(pieces)), heights, color="0.85", edgecolor="black")
            for chosen, candidate in zip(bars, drawn, strict=True):
                chosen.set_hatch("///" if candidate == step.chosen else None)
            axes.set_yticks(range(len(pieces)), pieces)
            axes.invert_yaxis()
            axes.set_xlim(0, 1)
            axes.set_title(f"{number}. after {step.read[-1]}", fontsize=9)
        for axes in list(figure.axes)[len(steps) :]:
            axes.set_visible(False)
    return figure
