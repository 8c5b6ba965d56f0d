"""Training speed at toy size: both models train, and the ratios are reported."""

import json
from pathlib import Path

import pytest
import torch
from helpers import load_benchmark

train_speed = load_benchmark("train_speed")


def test_speed_at_toy_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--shape",
        "toy",
        "--tokens-per-batch",
        "200",
        "--batches",
        "2",
        "--rounds",
        "1",
        "--memory-rounds",
        "0",
    ]
    words += ["--threads", str(torch.get_num_threads())]
    files = ["--json", str(tmp_path / "speed.json"), "--figure", str(tmp_path / "speed.png")]
    assert train_speed.main([*words, *files]) == 0
    figures = json.loads((tmp_path / "speed.json").read_text("utf-8"))["figures"]
    assert set(figures) == {"target tokens per second"}
    for row in figures.values():
        assert row["ours / marian"] == [pytest.approx(row["ours"] / row["marian"])] * 3
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert "| target tokens per second |" in capsys.readouterr().out


@pytest.mark.parametrize("count, tokens", [(2, 1024), (3, 400), (8, 12_500)])
def test_batches_are_bounded_and_full(count: int, tokens: int) -> None:
    batches = train_speed.make_batches(count, 300, tokens)
    assert len(batches) == count
    for batch in batches:
        padded = max(batch["input_ids"].numel(), batch["labels"].numel())
        longest = max(batch["input_ids"].shape[1], batch["labels"].shape[1])
        assert tokens - longest < padded <= tokens
        assert torch.equal(batch["decoder_input_ids"][:, 1:] == 0, batch["labels"][:, :-1] == -100)
    assert train_speed.target_tokens(batches) == sum(int((b["labels"] > 0).sum()) for b in batches)
