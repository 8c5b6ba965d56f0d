"""Training speed at toy size: both models train, and the ratios are reported."""

import json
from pathlib import Path

import pytest
import torch
from helpers import load_benchmark

train_speed = load_benchmark("train_speed")


def test_speed_at_toy_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(train_speed.SHAPES, "tiny", train_speed.Shape(300, 16, 32, 2, 1))
    words = ["--tokens-per-batch", "200", "--batches", "2", "--rounds", "1", "--memory-rounds", "0"]
    words += ["--threads", str(torch.get_num_threads())]
    files = ["--json", str(tmp_path / "speed.json"), "--figure", str(tmp_path / "speed.png")]
    assert train_speed.main([*words, *files]) == 0
    figures = json.loads((tmp_path / "speed.json").read_text("utf-8"))["figures"]
    assert set(figures) == {"target tokens per second"}
    for row in figures.values():
        assert row["min"] == row["ratio"] == row["max"] == pytest.approx(row["ours"] / row["marian"])
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert "| target tokens per second |" in capsys.readouterr().out


def test_batches_are_whole_and_bounded() -> None:
    shape = train_speed.Shape(300, 16, 32, 2, 1)
    batches = train_speed.make_batches(3, shape, 400)
    assert len(batches) == 3
    for batch in batches:
        assert batch["input_ids"].numel() <= 400 and batch["labels"].numel() <= 400
        assert torch.equal(batch["decoder_input_ids"][:, 1:] == 0, batch["labels"][:, :-1] == -100)
    assert train_speed.target_tokens(batches) == sum(int((b["labels"] > 0).sum()) for b in batches)
