"""The average-checkpoints script: which checkpoints it takes, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vanilla_transformer.scripts import average_checkpoints
from vanilla_transformer.training.model_card import render_model_card
from vanilla_transformer.training.recipe import ClassifierRecipe, TrainRecipe, saved_recipe


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Checkpoints 1, 2 and 3 whose weight is their number; validated BLEU 30, 10, 20."""
    history = [{"step": step, "eval_bleu": bleu} for step, bleu in ((1, 30.0), (2, 10.0), (3, 20.0))]
    for step in (1, 2, 3):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        save_file({"w": torch.full((2,), float(step))}, folder / "model.safetensors")
        state = {"global_step": step, "log_history": history[:step]}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    return tmp_path / "run"


@pytest.mark.parametrize(("words", "mean"), [(["--last", "2"], 2.5), (["--best", "2"], 2.0)])
def test_checkpoints_of_a_run(
    run_dir: Path, tmp_path: Path, words: list[str], mean: float, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "averaged"
    assert average_checkpoints.main(["--run", str(run_dir), *words, "--output", str(output)]) == 0
    assert load_file(output / "model.safetensors")["w"].tolist() == [mean, mean]
    assert capsys.readouterr().out.startswith(f"averaged 2 checkpoints into {output}: checkpoint-")


def test_the_recipe_says_what_is_best(run_dir: Path, tmp_path: Path) -> None:
    for path in run_dir.glob("*/trainer_state.json"):
        path.write_text(path.read_text().replace("eval_bleu", "eval_f1"))
    recipe = ClassifierRecipe(train_file="labels.csv", output_dir=str(run_dir), metric="f1")
    (run_dir / "recipe.yaml").write_text(recipe.to_yaml())
    words = ["--run", str(run_dir), "--best", "2", "--output", str(tmp_path / "averaged")]
    assert average_checkpoints.main(words) == 0
    assert load_file(tmp_path / "averaged" / "model.safetensors")["w"].tolist() == [2.0, 2.0]
    assert average_checkpoints.main([*words, "--metric", "bleu"]) == 2


def test_checkpoints_by_name(run_dir: Path, tmp_path: Path) -> None:
    names = [str(run_dir / "checkpoint-1"), str(run_dir / "checkpoint-2")]
    assert average_checkpoints.main([*names, "--output", str(tmp_path / "averaged")]) == 0
    assert load_file(tmp_path / "averaged" / "model.safetensors")["w"].tolist() == [1.5, 1.5]


@pytest.mark.parametrize("by_name", [False, True])
def test_the_recipe_of_the_run_comes_along(
    by_name: bool, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = TrainRecipe(train_source="a", train_target="b", target_lang="zh", output_dir=str(run_dir))
    (run_dir / "recipe.yaml").write_text(recipe.to_yaml())
    (run_dir / "results.json").write_text("{}")
    monkeypatch.chdir(run_dir)
    words = ["checkpoint-1", "checkpoint-3"] if by_name else ["--run", ".", "--last", "2"]
    output = tmp_path / "averaged"
    for _ in range(2):  # an average may be made anew
        assert average_checkpoints.main([*words, "--output", str(output)]) == 0
        assert sorted(path.name for path in output.iterdir()) == ["model.safetensors", "recipe.yaml"]
        assert saved_recipe(output / "recipe.yaml") == recipe


def test_the_card_has_the_languages_and_no_scores(model_folder: str, tmp_path: Path) -> None:
    run, output = tmp_path / "run", tmp_path / "averaged"
    for step in (10, 20):
        shutil.copytree(model_folder, run / f"checkpoint-{step}")
    (run / "recipe.yaml").write_text("source_lang: en\ntarget_lang: zh\n")
    (run / "results.json").write_text(json.dumps({"steps": 20, "scores": {"final": {"bleu": 30.0}}}))
    assert average_checkpoints.main(["--run", str(run), "--last", "2", "--output", str(output)]) == 0
    of_run, of_average = (str(render_model_card(model, "me/model")) for model in (_with_model(run), output))
    assert "English → Chinese" in of_average
    assert "BLEU" in of_run and "BLEU" not in of_average


def _with_model(run: Path) -> Path:
    shutil.copyfile(run / "checkpoint-20" / "config.json", run / "config.json")
    return run


def test_no_recipe_of_other_checkpoints_stays(run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "recipe.yaml").write_text("target_lang: zh\n")
    (run_dir / "checkpoint-3").rename(tmp_path / "checkpoint-3")
    output = tmp_path / "averaged"
    assert average_checkpoints.main(["--run", str(run_dir), "--last", "1", "--output", str(output)]) == 0
    assert (output / "recipe.yaml").is_file()
    names = [str(run_dir / "checkpoint-1"), str(tmp_path / "checkpoint-3")]
    assert average_checkpoints.main([*names, "--output", str(output)]) == 0
    assert [path.name for path in output.iterdir()] == ["model.safetensors"]


def test_a_checkpoint_of_a_run_is_not_replaced(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = sorted(run_dir.glob("checkpoint-*"))[-1]
    before = (last / "model.safetensors").read_bytes()
    assert average_checkpoints.main(["--run", str(run_dir), "--last", "2", "--output", str(last)]) == 2
    assert capsys.readouterr().err.startswith(f"error: `{last}` is a checkpoint of a run: give another")
    assert (last / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ("results.json", "holds results.json, the scores of another model"),
        ("recipe.yaml", "holds the recipe.yaml of a run"),
    ],
)
def test_the_folder_of_a_run_is_refused(
    left: str,
    message: str,
    run_dir: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vanilla_transformer.training.averaging.find_checkpoints", None)
    (run_dir / left).write_text("{}")
    (run_dir / "model.safetensors").write_bytes(b"the run's own")
    assert average_checkpoints.main(["--run", str(run_dir), "--last", "2", "--output", str(run_dir)]) == 2
    assert capsys.readouterr() == ("", f"error: `{run_dir}` {message}: give another `--output`.\n")
    assert (run_dir / "model.safetensors").read_bytes() == b"the run's own"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either checkpoint folders, or `--run`"),
        (["--run", "RUN"], "`--run` goes together with `--last` or `--best`"),
        (["RUN/checkpoint-1", "--last", "2"], "`--run` goes together with `--last` or `--best`"),
        (["RUN/checkpoint-1", "--run", "RUN", "--last", "2"], "give either checkpoint folders"),
        (["--run", "RUN", "--last", "4"], "has 3 whole checkpoints, but 4 were asked for"),
        (["--run", "RUN", "--last", "2", "--metric", "loss"], "`--metric` goes together with `--best`"),
        (["RUN/checkpoint-1", "--metric", "loss"], "`--metric` goes together with `--best`"),
        (["RUN/checkpoint-9"], "checkpoint-9/model.safetensors` is missing"),
    ],
)
def test_refusals_are_one_line(
    run_dir: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("RUN", str(run_dir)) for word in words]
    assert average_checkpoints.main([*words, "--output", str(tmp_path / "averaged")]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "averaged").exists()
