"""The train script: its help, its refusals before anything heavy, and a run from the command line."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from helpers import write_parallel_files

from vanilla_transformer.scripts import train, translate
from vanilla_transformer.training.averaging import average_checkpoints
from vanilla_transformer.training.recipe import TrainRecipe, load_recipe
from vanilla_transformer.training.run import TrainResult

SMALL_RUN = """
    --vocab_size 400 --model.d_model 16 --model.encoder_layers 1 --model.decoder_layers 1
    --model.encoder_attention_heads 2 --model.decoder_attention_heads 2 --model.encoder_ffn_dim 16
    --model.decoder_ffn_dim 16 --tokens_per_update 400 --tokens_per_device 400 --max_steps 4
    --eval_steps 2 --warmup_steps 2 --logging_steps 2 --tensorboard false --keep_checkpoints 2
    --average_checkpoints 2 --generation.num_beams 1 --generation.max_length 8
"""
SMALL = SMALL_RUN.split()


@pytest.mark.parametrize("words", [["--help"], ["demo", "--help"], ["demo", "--seed", "3", "-h"]])
def test_help_explains_every_key(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(words) == 0
    shown = capsys.readouterr().out
    for item in dataclasses.fields(TrainRecipe):
        assert f"\n  --{item.name}\n" in shown
        assert " ".join(item.metadata["help"].split()) in " ".join(shown.split())


def test_without_a_recipe_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([]) == 2
    assert "usage: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["multi30k_en_de"], "no training data: give `train_source` and `train_target`"),
        (["multi30k_en_de", "--train_sauce", "x"], "unknown key `train_sauce`; did you mean `train_source`?"),
        (["demoo"], "no recipe is named 'demoo'; did you mean `demo`?"),
        (["nowhere.yaml"], "recipe nowhere.yaml cannot be read: No such file"),
        (["demo", "--seed", "x"], "`seed` must be a whole number, but is x instead"),
    ],
)
def test_a_mistake_is_told_before_the_trainer_is_imported(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "vanilla_transformer.training.run", None)
    assert train.main(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert message in shown
    assert shown.count("\n") == 1


def test_a_model_that_cannot_be_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = write_parallel_files(tmp_path, 20)
    words = ["--train_source", str(source), "--train_target", str(target), *SMALL]
    words += ["--model.encoder_attention_heads", "3", "--output_dir", str(tmp_path / "run")]
    assert train.main(["multi30k_en_de", *words]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert "encoder_attention_heads" in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_recipe_by_name_trains_a_model_that_translates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_parallel_files(tmp_path, 80, seed=0)
    write_parallel_files(tmp_path, 8, seed=1)
    data = (
        "--train_source text0.src --train_target text0.tgt --valid_source text1.src --valid_target text1.tgt"
    )
    command = ["multi30k_en_de", *data.split(), *SMALL, "--output_dir", "out"]
    assert train.main(command) == 0
    assert "Saved the average of checkpoints 2, 4 of 4 steps to out: loss " in capsys.readouterr().out
    results = json.loads(Path("out/results.json").read_text())
    assert results["checkpoints"] == [2, 4]
    assert translate.main(["--model", "out", "--device", "cpu", "w1 w2", ""]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    assert train.main(command) == 0
    assert "finished" in capsys.readouterr().out
    assert train.main([*command, "--seed", "2"]) == 2
    assert "these keys differ: seed" in capsys.readouterr().err
    recipe = load_recipe("out/recipe.yaml")
    average_checkpoints(["out/checkpoint-2"], "averaged", recipe=recipe)
    before = Path("averaged/model.safetensors").read_bytes()
    assert train.main([*command, "--output_dir", "averaged"]) == 2
    message = "error: `averaged` holds averaged checkpoints of a run: give another `output_dir`.\n"
    assert capsys.readouterr() == ("", message)
    assert Path("averaged/model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("steps", "scores", "line"),
    [
        ([10], {}, "Saved checkpoint 10 of 30 steps to runs/b"),
        (
            [10, 30],
            {"final": {"loss": 1.25, "bleu": 30.0}},
            "Saved the average of checkpoints 10, 30 of 30 steps to runs/b: loss 1.25, bleu 30.00",
        ),
    ],
)
def test_what_was_saved(steps: list[int], scores: dict[str, dict[str, float]], line: str) -> None:
    assert train.saved_line(TrainResult(Path("runs/b"), 30, scores, steps)) == line
