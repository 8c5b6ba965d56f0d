"""The curves of a training run as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Title of each panel, and the log's keys that it shows with their labels.
_PANELS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "loss (nats per target token or text)",
        {"loss": "training, smoothed labels", "eval_loss": "validation"},
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
    """Draw loss, learning rate and scores over the optimizer steps, and save them as a PNG.

    Args:
        log_history: `trainer.state.log_history`, or the same from `trainer_state.json`.
        path: the file to write; written beside first, then renamed.

    Returns:
        `path`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title)
    for axes, (name, keys) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        axes.set_title(name)
        axes.set_xlabel("optimizer steps")
        axes.grid(alpha=0.3)
        for key, label in keys.items():
            steps, values = curve(log_history, key)
            if steps:
                axes.plot(steps, values, label=label, marker="." if len(steps) < 30 else None)
        if axes.lines:
            axes.legend()
    beside = Path(path).with_name(f".{Path(path).name}")
    figure.savefig(beside, format="png", dpi=100)
    return beside.replace(path)
