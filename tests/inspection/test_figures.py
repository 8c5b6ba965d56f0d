"""Pictures of what happens inside a model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import parallel_sentences, word_tokenizer

from vanilla_transformer import InputError
from vanilla_transformer.inspection import Explanation, explain, figures
from vanilla_transformer.inspection.figures import (
    plot_alignment,
    plot_attention,
    plot_decoding,
    plot_heads,
    plot_positions,
)
from vanilla_transformer.modeling.modeling_vanilla_transformer import VanillaTransformerPositionalEncoding

from ..modeling.toy import toy_config, toy_model

PAIRS = parallel_sentences(4)
SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml"}


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    tokenizer: Any = word_tokenizer(text for pair in PAIRS for text in pair)
    source, target = PAIRS[0]
    return explain(toy_model(vocab_size=len(tokenizer)), tokenizer, source, target=target)


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_every_stage_is_drawn(explanation: Explanation, suffix: str, tmp_path: Path) -> None:
    paths = explanation.draw(tmp_path / "deep" / "figures", layer=1, head=1, suffix=suffix)
    assert [path.name[0] for path in paths] == list("12345678")
    assert set(paths) == set((tmp_path / "deep" / "figures").iterdir())
    for path in paths:
        assert path.suffix == f".{suffix}"
        assert path.read_bytes().startswith(SIGNATURES[suffix])


@pytest.mark.parametrize(("kind", "layers", "heads"), [("encoder", 2, 4), ("decoder", 3, 2), ("cross", 3, 2)])
def test_attention_shows_the_weights(explanation: Explanation, kind: str, layers: int, heads: int) -> None:
    grid = plot_attention(explanation, kind).axes
    assert len(grid) == layers * heads
    alone = plot_attention(explanation, kind, layer=1, head=-1).axes
    assert [axes.get_title() for axes in alone] == [f"layer 2, head {heads}"]
    stack = explanation.encoder if kind == "encoder" else explanation.decoder
    attention = stack[1].cross_attention if kind == "cross" else stack[1].self_attention
    assert attention is not None
    for axes in (alone[0], grid[2 * heads - 1]):
        np.testing.assert_allclose(axes.images[0].get_array(), attention.weights[-1].float())  # type: ignore[arg-type]
    labels = list(
        (explanation.source_embedding if kind == "encoder" else explanation.target_embedding).pieces
    )
    if kind == "cross":
        predicted = [step.chosen.piece for step in explanation.decoding.steps]
        labels = [f"{read} → {piece}" for read, piece in zip(labels, predicted, strict=True)]
    assert [label.get_text() for label in alone[0].get_yticklabels()] == labels


def test_chosen_heads_of_several_layers(explanation: Explanation) -> None:
    grid = plot_heads(explanation, "decoder", [(2, 1), (0, 0)]).axes
    assert [axes.get_title() for axes in grid] == ["layer 3, head 2", "layer 1, head 1"]
    for axes, weights in zip(
        grid, (explanation.decoder[k].self_attention.weights for k in (2, 0)), strict=True
    ):
        which = 1 if axes is grid[0] else 0
        np.testing.assert_allclose(axes.images[0].get_array(), weights[which].float())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there are 2 of `head`, but number 3 is asked for"):
        plot_heads(explanation, "decoder", [(0, 2)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"kind": "mixed"}, "`kind` must be one of encoder, decoder, cross"),
        ({"layer": 3}, "there are 3 of `layer`, but number 4 is asked for"),
        ({"head": 2}, "there are 2 of `head`"),
    ],
)
def test_what_is_not_there_is_refused(explanation: Explanation, words: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plot_attention(explanation, **words)


def test_lines_of_the_alignment_are_as_thick_as_the_weights(explanation: Explanation) -> None:
    lines = plot_alignment(explanation, layer=0).axes[0].lines
    cross = explanation.decoder[0].cross_attention
    assert cross is not None
    drawn = [line.get_linewidth() for line in lines]
    np.testing.assert_allclose(drawn, 4 * cross.weights.mean(0).flatten(), rtol=1e-9)


def test_positions_and_their_products() -> None:
    encode = VanillaTransformerPositionalEncoding(toy_config(d_model=16))
    left, right, _ = plot_positions(encode(torch.arange(20), torch.float64)).axes
    assert left.images[0].get_array().shape == (20, 16)  # type: ignore[union-attr]
    first, middle = right.lines[:2]
    # sin^2 + cos^2 = 1 for each of the 8 pairs.
    assert first.get_ydata()[0] == pytest.approx(8)  # type: ignore[index]
    assert middle.get_ydata()[10] == pytest.approx(8)  # type: ignore[index]
    # PE(p) . PE(q) is the sum of cos((p - q) * frequency): it knows the distance alone.
    np.testing.assert_allclose(middle.get_ydata()[10:], first.get_ydata()[:10])  # type: ignore[arg-type, index]


def test_the_bars_are_the_candidates_and_the_piece_of_the_translation(explanation: Explanation) -> None:
    steps = list(explanation.decoding.steps)
    last = steps[-1].candidates[-1]
    steps[0] = replace(steps[0], chosen=replace(last, piece="elsewhere", probability=0.001))
    decoding = replace(explanation.decoding, steps=tuple(steps))
    axes: Any = plot_decoding(replace(explanation, decoding=decoding)).axes
    for step, panel in zip(steps, axes, strict=False):
        widths = [one.probability for one in step.candidates]
        widths += [step.chosen.probability] if step.chosen not in step.candidates else []
        assert [bar.get_width() for bar in panel.patches] == widths
        (hatched,) = [bar for bar in panel.patches if bar.get_hatch()]
        assert hatched.get_width() == step.chosen.probability
    assert len(axes[0].patches) == 6


def test_norms_are_drawn_where_they_are_computed(explanation: Explanation) -> None:
    layer = explanation.decoder[0]
    titles = {
        pre_norm: [panel[0] for panel in figures._layer_panels(layer, ["x"], pre_norm=pre_norm)]
        for pre_norm in (False, True)
    }
    for name in ("self-attention", "cross-attention", "feed-forward"):
        behind, before = ([one for one in found if one.startswith(name)] for found in titles.values())
        assert behind == [*before[1:], before[0]]
        assert before[0] == f"{name}: norm" and before[-1] == f"{name}: add"
