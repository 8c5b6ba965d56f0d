"""Engines at toy size: the export translates as our model does, and what is left out is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import load_benchmark, write_parallel_files
from transformers import PreTrainedTokenizerFast

from ..modeling.toy import translating_model

engine_quality = load_benchmark("engine_quality")


def test_from_a_model_to_a_table(
    tmp_path: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_quality, "find_spec", lambda library: library != "onnxruntime")
    translating_model(dtype=torch.float32, vocab_size=len(tiny_tokenizer)).save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    source, references = write_parallel_files(tmp_path, 12)
    words = ["--model", str(tmp_path / "model"), "--source", str(source), "--references", str(references)]
    words += ["--sentences", "6", "--systems", "ctranslate2 float32", "onnx float32"]
    words += ["--threads", str(torch.get_num_threads()), "--json", str(tmp_path / "quality.json")]
    assert engine_quality.main(words) == 0
    written: dict[str, Any] = json.loads((tmp_path / "quality.json").read_text("utf-8"))
    assert written["left_out"] == {"onnx float32": "onnxruntime is not installed"}
    assert list(written["figures"]) == list(engine_quality.searches())
    for search, systems in written["figures"].items():
        assert list(systems) == ["ours", "ctranslate2 float32"]
        assert systems["ours"]["same %"] == 100
        if search != "beam 4, the paper's":
            exported = systems["ctranslate2 float32"]
            assert exported["same %"] == 100 and exported["BLEU"] == systems["ours"]["BLEU"]
        assert all(figures["MB on disk"] > 0 for figures in systems.values())
    printed = capsys.readouterr()
    assert "| greedy | ctranslate2 float32 | 100.00 |" in printed.out
    assert "left out: onnx float32, as onnxruntime is not installed" in printed.err
