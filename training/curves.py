"""The curves of a training run as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..drawing import fonts_for, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Title of each panel, and the log's keys that it shows with their labels.
_PANELS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "loss (nats per target token or text)",
        {"loss": "training", "eval_loss": "validation"},
    ),
    ("learning rate", {"learning_rate": "learning rate"}),
    (
        "score on validation data",
        {"eval_bleu": "BLEU", "eval_chrf": "chrF", "eval_accuracy": "accuracy", "eval_f1": "F1 (macro)"},
    ),
)


def curve(log_history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """Steps and values of one key of the Trainer's log; of a step logged twice the last value counts."""
    values = {
        int(entry["step"]): float(entry[key]) for entry in log_history if key in entry and "step" in entry
    }
    return sorted(values), [values[step] for step in sorted(values)]


def plot_curves(log_history: Sequence[Mapping[str, Any]], path: str | Path, *, title: str = "") -> Path:
    """Draw loss, learning rate and scores over the optimizer steps, and save them.

    Curves of one panel differ in their dashes, so that they can be told apart in black and white.

    Args:
        log_history: `trainer.state.log_history`, or the same from `trainer_state.json`.
        path: the .png or .svg to write; written beside first, then renamed.
        title: a line above the panels.

    Returns:
        `path`.

    Raises:
        InputError: the file is neither.
    """
    with fonts_for([title], required=False):  # a finished training must not fail for its title
        return save_figure(_draw(log_history, title), path)


def _draw(log_history: Sequence[Mapping[str, Any]], title: str) -> Figure:
    figure = new_figure(15, 4)
    if title:
        figure.suptitle(title)
    for axes, (name, keys) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        axes.set_title(name)
        axes.set_xlabel("optimizer steps")
        axes.grid(alpha=0.3)
        for (key, label), dashes in zip(keys.items(), ("-", "--", "-.", ":"), strict=False):
            steps, values = curve(log_history, key)
            if steps:
                axes.plot(steps, values, dashes, label=label, marker="." if len(steps) < 30 else None)
        if axes.lines:
            axes.legend()
    return figure
