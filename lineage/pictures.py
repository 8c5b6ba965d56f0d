"""What the lineage looks like: scores, learning curves, BLEU by sentence length, two senses of a word."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..drawing import fonts_for, new_figure, save_figure
from .word_vectors import principal_components

Rows = Mapping[str, Mapping[str, Any]]
# Curves of one picture differ in these too, so that they can be told apart in black and white.
DASHES = ("-", "--", "-.", ":")
MARKERS = "os^v*D"


def plot_scores(rows: Rows, path: Path) -> Path:
    """Perplexity (on a scale of powers of ten) and BLEU of each model."""
    figure = new_figure(12, 5)
    panels = figure.subplots(1, 2)
    for axes, key in zip(panels, ("perplexity", "bleu"), strict=True):
        shown = {row["title"]: row[key] for row in rows.values() if key in row and math.isfinite(row[key])}
        axes.barh(list(shown)[::-1], list(shown.values())[::-1], color="grey")
        axes.set_title({"perplexity": "perplexity of a piece", "bleu": "BLEU"}[key])
    panels[0].set_xscale("log")
    return save_figure(figure, path)


def plot_losses(rows: Rows, path: Path) -> Path | None:
    """The training loss of each neural model over the optimizer steps; no picture without any."""
    curves = {row["title"]: row["loss_by_step"] for row in rows.values() if row.get("loss_by_step")}
    return _plot_lines(curves, path, x="optimizer steps", y="training loss (nats per piece)", number=int)


def plot_lengths(rows: Rows, sizes: Mapping[str, int], path: Path) -> Path | None:
    """BLEU of each translation model over the length of the source; no picture without any.

    Args:
        rows: where "bleu_by_length" has, by name of a range of lengths, the BLEU of its sentences.
        sizes: how many sentences each range has.
        path: the picture.
    """
    curves = {
        row["title"]: {f"{name}\n({sizes[name]})": score for name, score in row["bleu_by_length"].items()}
        for row in rows.values()
        if "bleu_by_length" in row
    }
    return _plot_lines(curves, path, x="source tokens (sentences)", y="BLEU", number=str)


def _plot_lines(
    curves: Mapping[str, Mapping[Any, float]], path: Path, *, x: str, y: str, number: type
) -> Path | None:
    if not curves:
        return None
    axes = (figure := new_figure(7, 4.5)).subplots()
    for (title, curve), dashes, marker in zip(
        curves.items(), itertools.cycle(DASHES), itertools.cycle(MARKERS), strict=False
    ):
        places = [number(place) for place in curve]
        axes.plot(places, list(curve.values()), dashes, marker=marker, markersize=4, label=title)
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    axes.legend()
    return save_figure(figure, path)


def plot_senses(layers: torch.Tensor, sentences: Sequence[tuple[str, str]], path: Path) -> Path:
    """The word's vectors in the plane of their two principal components, one panel a layer.

    Args:
        layers: (layers + 1, N, E); that of no context, which is the same in all sentences, is not drawn.
        sentences: N sentences with the sense of the word; those that have room are written at their points.
        path: the picture.
    """
    senses = sorted({sense for _, sense in sentences})
    with fonts_for([text for text, _ in sentences], required=False):
        figure = new_figure(6.5 * (len(layers) - 1), 5)
        for number, axes in enumerate(figure.subplots(1, len(layers) - 1, squeeze=False)[0], start=1):
            points = principal_components(layers[number].double().numpy())
            for sense, marker in zip(senses, MARKERS, strict=False):
                chosen = [k for k, pair in enumerate(sentences) if pair[1] == sense]
                axes.scatter(*points[chosen].T, marker=marker, s=18, label=sense)
            for k in spread_out(points):
                axes.annotate(
                    sentences[k][0], points[k], xytext=(4, 2), textcoords="offset points", fontsize=8
                )
            axes.set_title(f"layer {number}")
            axes.margins(x=0.25)
            axes.legend()
        return save_figure(figure, path)


def spread_out(points: np.ndarray, gap: float = 0.07) -> list[int]:
    """Rows of (N, 2) from the first on, without those that lie within `gap` of the height of one taken."""
    heights, taken = points[:, 1], list[int]()
    room = gap * float(np.ptp(heights))
    for k, height in enumerate(heights):
        if all(abs(height - heights[other]) > room for other in taken):
            taken.append(k)
    return taken
