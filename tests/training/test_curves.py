import sys
from pathlib import Path

import pytest

from vanilla_transformer.training.curves import curve, plot_curves

LOG = [
    {"step": 10, "loss": 5.0, "learning_rate": 0.1},
    {"step": 10, "eval_loss": 4.5, "eval_bleu": 1.0, "eval_chrf": 9.0},
    {"step": 20, "loss": 4.0, "learning_rate": 0.2},
    {"step": 20, "loss": 3.9, "learning_rate": 0.2},
    {"step": 20, "train_runtime": 3.0},
]


def test_a_curve_takes_the_last_value_of_each_step() -> None:
    assert curve(LOG, "loss") == ([10, 20], [5.0, 3.9])
    assert curve(LOG, "eval_bleu") == ([10], [1.0])
    assert curve(LOG, "absent") == ([], [])


def test_the_picture_is_a_png_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = plot_curves(LOG, tmp_path / "curves.png", title="demo")
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert [item.name for item in tmp_path.iterdir()] == ["curves.png"]


def test_an_empty_log_gives_a_picture_too(tmp_path: Path) -> None:
    assert plot_curves([], tmp_path / "curves.png").stat().st_size > 0


def test_pyplot_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    monkeypatch.delattr(matplotlib, "pyplot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # who imports it now, fails
    assert plot_curves(LOG, tmp_path / "curves.png").stat().st_size > 0
