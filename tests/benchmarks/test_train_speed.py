"""Training speed at toy size: both models train, and the ratios are reported."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import load_benchmark

train_speed = load_benchmark("train_speed")


def run(folder: Path, *words: str) -> dict[str, Any]:
    """What a run at toy size wrote."""
    sizes = ["--shape", "toy", "--tokens-per-batch", "200", "--batches", "2", "--rounds", "1"]
    sizes += ["--threads", str(torch.get_num_threads())]
    files = ["--json", str(folder / "speed.json"), "--figure", str(folder / "speed.png")]
    assert train_speed.main([*sizes, *words, *files]) == 0
    assert (folder / "speed.png").read_bytes().startswith(b"\x89PNG")
    written: dict[str, Any] = json.loads((folder / "speed.json").read_text("utf-8"))
    return written


def test_speed_at_toy_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_speed, "product_rate", lambda *_: 1e9)
    written = run(tmp_path, "--memory-rounds", "0")
    assert written["left_out"] == {}
    assert set(written["figures"]) == {"target tokens per second"}
    row = written["figures"]["target tokens per second"]
    assert row["ours / marian"] == [pytest.approx(row["ours"] / row["marian"])] * 3
    batches = train_speed.make_batches(2, 300, 200)
    source = 6 * 16 * 16 + 2 * 16 * 32  # encoder, and keys and values of the cross-attention
    target = 6 * 16 * 16 + 2 * 16 * 32 + 16 * 300
    sources, targets = (
        sum(int((batch[side] > 0).sum()) for batch in batches) for side in ("input_ids", "labels")
    )
    assert row["limit"] == pytest.approx(1e9 * targets / (6 * (source * sources + target * targets)))
    assert f"| {row['limit']:.0f} |" in capsys.readouterr().out


def test_memory_is_left_out_where_the_system_does_not_tell_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_speed, "product_rate", lambda *_: 1e9)
    monkeypatch.setattr("side_by_side.PROCESS_STATUS", tmp_path / "status")
    written = run(tmp_path, "--memory-rounds", "1")
    assert set(written["figures"]) == {"target tokens per second"}
    assert "this system has no" in written["left_out"]["peak memory in MiB"]
    assert "left out: peak memory in MiB, as this system has no" in capsys.readouterr().err


def test_on_a_gpu_operations_stand_beside_those_of_a_large_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_speed, "product_rate", lambda *_: 8e14)
    batches = train_speed.make_batches(2, 37_000, 2000)
    arguments = Namespace(device="cuda", dtype="bfloat16", shape="big")
    speeds = {"ours": 4e5, "marian": 2e5, "ours / marian": [2.0, 1.9, 2.1]}
    results = train_speed.with_limits(speeds, batches, arguments)
    speed, operations = results["target tokens per second"], results["10^12 operations per second"]
    assert operations["limit"] == 800
    assert operations["ours"] / 800 == pytest.approx(4e5 / speed["limit"])
    assert [row[0] for row in train_speed.table_rows(results)] == list(results)


def test_entries_are_those_of_the_models_matrices() -> None:
    from side_by_side import SHAPES, build_model

    shape, vocabulary = SHAPES["tiny"], 100
    model = build_model("ours", shape, vocabulary)
    matrices = [one for name, one in model.named_parameters() if ".layers." in name and one.ndim == 2]
    entries = sum(matrix.numel() for matrix in matrices) + model.lm_head.weight.numel()
    assert shape.source_entries + shape.target_entries(vocabulary) == entries


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
