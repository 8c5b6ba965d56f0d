"""The convert script: what it writes, and what it refuses in one line with nothing left behind."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import modes, umask
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, MarianMTModel

from vanilla_transformer.scripts import convert, translate


def test_a_model_goes_out_to_marian_and_comes_back(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, back = tmp_path / "marian", tmp_path / "back"
    with umask(0o022):
        assert convert.main(["--to", "marian", model_folder, "--output", str(out)]) == 0
    assert modes(out) == {0o644}
    assert convert.main(["--from", "marian", str(out), "--output", str(back)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"saved {model_folder} to {out}",
        f"saved {out} to {back}",
    ]
    assert isinstance(AutoModelForSeq2SeqLM.from_pretrained(out), MarianMTModel)
    translations = []
    for folder in (model_folder, str(out), str(back)):
        assert (
            translate.main(["--model", folder, "--num_beams", "1", "--max_length", "9", "w1 w2 w3", "w4"])
            == 0
        )
        translations.append(capsys.readouterr().out)
    assert translations[0] == translations[1] == translations[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "marian", "model"]


def test_a_state_dict_goes_out_and_comes_back(model_folder: str, tmp_path: Path) -> None:
    out, back = tmp_path / "torch", tmp_path / "back"
    assert convert.main(["--to", "torch", model_folder, "--output", str(out)]) == 0
    words = ["--from", "torch", str(out / "model.pt"), "--config", str(out / "config.json")]
    assert convert.main([*words, "--output", str(back)]) == 0
    models: list[Any] = [AutoModelForSeq2SeqLM.from_pretrained(folder) for folder in (model_folder, back)]
    batch = models[0].dummy_inputs
    assert torch.equal(models[0](**batch).logits, models[1](**batch).logits)
    assert AutoTokenizer.from_pretrained(back)("w1")["input_ids"][-1] == 2


def test_a_search_that_transformers_refuses_is_one_line(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, back = tmp_path / "marian", tmp_path / "back"
    assert convert.main(["--to", "marian", model_folder, "--output", str(out)]) == 0
    path = out / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_beams": 1, "length_penalty": 2.0}))
    capsys.readouterr()
    assert convert.main(["--from", "marian", str(out), "--output", str(back)]) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith(f"error: the generation config of `{out}` must be mended: ")
    assert "`length_penalty`" in shown
    assert not back.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "marian", "MODEL", "--output", "MODEL"], "exists already."),
        (["--to", "marian", "none", "--output", "OUT"], "`none` cannot be loaded"),
        (["--from", "marian", "MODEL", "--output", "OUT"], "must be of model type 'marian'"),
        (["--from", "torch", "x.pt", "--output", "OUT"], "`--config` must be given with `--from torch`."),
        (
            ["--from", "fsmt", "MODEL", "--config", "x", "--output", "OUT"],
            "`--config` goes together with `--from torch` or `--from fairseq`.",
        ),
        (
            ["--to", "onnx", "MODEL", "--quantization", "int8", "--output", "OUT"],
            "`--quantization` goes together with `--to ctranslate2`.",
        ),
        (
            ["--to", "marian", "MODEL", "--tokenizer", "x", "--output", "OUT"],
            "`--tokenizer` goes together with `--from`",
        ),
        (
            ["--to", "ctranslate2", "MODEL", "--quantization", "int4", "--output", "OUT"],
            "`quantization` must be one of float32, float16,",
        ),
        (["--from", "torch", "FIELDS", "--config", "FIELDS", "--output", "OUT"], "is damaged or"),
        (
            ["--from", "torch", "FIELDS", "--config", "WRONG", "--output", "OUT"],
            "has no field 'colour' of our",
        ),
    ],
)
def test_refusals_are_one_line(
    model_folder: str, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"FIELDS": {"encoder_attention_heads": 4}, "WRONG": {"colour": 3}}
    for name, fields in files.items():
        (tmp_path / name).write_text(json.dumps(fields))
    places = {"MODEL": model_folder, "OUT": str(tmp_path / "out")} | {
        name: str(tmp_path / name) for name in files
    }
    before = sorted(tmp_path.iterdir())
    assert convert.main([places.get(word, word) for word in words]) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith("error: ") and message in shown
    assert sorted(tmp_path.iterdir()) == before
