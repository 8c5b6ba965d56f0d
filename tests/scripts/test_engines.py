"""Engines on the command line: convert, translate and evaluate, and what they refuse in one line."""

import sys
from pathlib import Path

import pytest

from vanilla_transformer.modeling.engines import ENGINES
from vanilla_transformer.scripts import convert, evaluate_model, translate
from vanilla_transformer.scripts.support import models
from vanilla_transformer.scripts.support.models import BACKENDS

SENTENCES = ["w1 w2 w3", "", "w4 n1 w7 w8 w9"]
OPTIONS = ["--num_beams", "1", "--max_length", "9"]


@pytest.fixture
def exported(model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Folders by the engine's name, and the model's own as "model"."""
    folders = {"model": model_folder} | {name: str(tmp_path / name) for name in BACKENDS}
    for name in BACKENDS:
        assert convert.main(["--to", name, model_folder, "--output", folders[name]]) == 0
    capsys.readouterr()
    return folders


@pytest.mark.parametrize(
    ("backend", "nvidia", "device"),
    [("ctranslate2", True, "cuda"), ("ctranslate2", False, "cpu"), ("onnx", True, "cpu")],
)
def test_where_an_engine_computes_unless_told(
    backend: str, nvidia: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where PyTorch would: CTranslate2 does not know the devices of Apple and Intel."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: nvidia)
    assert models._engine_device(backend) == device


def test_the_exported_model_translates_like_the_original(
    exported: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert set(BACKENDS) == set(ENGINES)
    assert translate.main(["--model", exported["model"], "--device", "cpu", *OPTIONS, *SENTENCES]) == 0
    expected = capsys.readouterr().out
    assert len(set(expected.splitlines())) == 3
    for name, more in (("ctranslate2", ["--compute_type", "float32"]), ("onnx", ["--device", "auto"])):
        words = ["--backend", name, "--model", exported[name], *OPTIONS, *more]
        assert translate.main([*words, *SENTENCES]) == 0
        assert capsys.readouterr().out == expected
    (tmp_path / "source").write_text("w1 w2 w3\n")
    (tmp_path / "reference").write_text(expected.splitlines()[0] + "\n")
    files = ["--source", str(tmp_path / "source"), "--references", str(tmp_path / "reference")]
    words = ["--backend", "ctranslate2", "--model", exported["ctranslate2"], *OPTIONS, *files]
    assert evaluate_model.main([*words, "--tokenize", "none"]) == 0
    assert "BLEU" in capsys.readouterr().out
    # Longer than the exported table of positions.
    assert translate.main([*words[:4], *OPTIONS, "w1 " * 2100]) == 0
    assert "sentence 1 has 2101 tokens; it is cut to 2048" in caplog.text


REFUSED: list[tuple[str, list[str], str]] = [
    ("ctranslate2", ["--backend", "onnx"], "was not exported to ONNX: it has no encoder.onnx."),
    ("model", ["--backend", "ctranslate2"], "was not exported to CTranslate2: it has no model.bin."),
    ("none", ["--backend", "ctranslate2"], "`none` was not exported to CTranslate2"),
    ("onnx", ["--backend", "onnx", "--compute_type", "int8"], "goes together with `--backend ctranslate2`."),
    ("model", ["--compute_type", "int8"], "`--compute_type` goes together with `--backend ctranslate2`."),
    ("onnx", ["--backend", "onnx", "--dtype", "float16"], "is not available with `--backend onnx`."),
    (
        "ctranslate2",
        ["--backend", "ctranslate2", "--dtype", "float16"],
        "`--dtype` is not available with `--backend ctranslate2`; use `--compute_type`.",
    ),
    (
        "ctranslate2",
        ["--backend", "ctranslate2", "--compute_type", "int4"],
        "`compute_type` must be one of default, auto,",
    ),
]


def test_what_cannot_be_is_one_line(
    exported: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Options that an engine lacks, folders of another kind, and libraries that are not installed."""
    for model, words, message in REFUSED:
        assert translate.main(["--model", exported.get(model, model), *words, "w1"]) == 2
        shown = capsys.readouterr().err.splitlines()
        assert len(shown) == 1 and shown[0].startswith("error: ") and message in shown[0]
    for module in ("ctranslate2", "onnxruntime", "onnx"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in BACKENDS:
        for words in (
            ["--backend", name, "--model", exported[name], "w1"],
            ["--to", name, exported["model"], "--output", str(tmp_path / "new")],
        ):
            assert (convert if words[0] == "--to" else translate).main(words) == 2
            assert f"pip install '.[{name}]'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
