"""Tokenizers at toy size: all encode and decode, and the ratios are reported."""

import json
from pathlib import Path

import pytest
from helpers import load_benchmark

tokenizer_speed = load_benchmark("tokenizer_speed")


def test_speed_at_toy_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--sentences", "300", "--vocab-size", "600", "--rounds", "1", "--peers", "GPT2Tokenizer"]
    assert tokenizer_speed.main([*words, "--json", str(tmp_path / "speed.json")]) == 0
    report = json.loads((tmp_path / "speed.json").read_text("utf-8"))
    assert [row[0] for row in report["table"]["rows"]] == [
        f"{text}, {job}" for text in ("latin", "chinese") for job in ("encode", "ids alone", "decode")
    ]
    for peers in report["figures"].values():
        for row in peers["GPT2Tokenizer"].values():
            assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"])
    assert "| chinese, decode | GPT2Tokenizer |" in capsys.readouterr().out
