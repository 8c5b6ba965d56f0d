"""Int8 weights at toy size: both models are measured, and torchao's where it is installed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import load_benchmark, write_parallel_files
from transformers import PreTrainedTokenizerFast

from ..modeling.toy import translating_model

quantization = load_benchmark("quantization")


@pytest.fixture
def saved(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path / "model"
    model = translating_model(dtype=torch.float32, vocab_size=len(tiny_tokenizer), d_model=64)
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def run(folder: Path, saved: Path) -> dict[str, Any]:
    """The figures of a run on a few sentences."""
    source, references = write_parallel_files(folder, 8)
    words = ["--model", str(saved), "--source", str(source), "--references", str(references)]
    assert quantization.main([*words, "--sentences", "3", "--json", str(folder / "int8.json")]) == 0
    figures: dict[str, Any] = json.loads((folder / "int8.json").read_text("utf-8"))["figures"]
    return figures


def test_from_models_to_a_table(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one in bfloat16 stands for that of int8, which needs torchao."""

    def load(folder: Path, kind: str) -> Any:
        return quantization.load_model(str(folder), dtype="bfloat16" if kind == "int8" else "float32")

    monkeypatch.setattr(quantization, "load", load)
    figures = run(tmp_path, saved)
    assert list(figures) == ["as saved", "int8"]
    for row in figures.values():
        assert list(row) == list(quantization.COLUMNS)
    assert figures["int8"]["MB in memory"] == figures["as saved"]["MB in memory"] / 2
    assert figures["int8"]["MB on disk"] < figures["as saved"]["MB on disk"]
    assert "| Weights | MB on disk | MB in memory | seconds | BLEU | chrF |" in capsys.readouterr().out


def test_with_torchao(tmp_path: Path, saved: Path) -> None:
    pytest.importorskip("torchao.quantization", reason="torchao is not installed: pip install '.[quant]'")
    figures = run(tmp_path, saved)
    for column in ("MB on disk", "MB in memory"):
        assert figures["int8"][column] < figures["as saved"][column]
