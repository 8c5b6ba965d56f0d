"""The average-checkpoints script: which checkpoints it takes, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vanilla_transformer.scripts import average_checkpoints
from vanilla_transformer.training.recipe import ClassifierRecipe


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either checkpoint folders, or `--run`"),
        (["--run", "RUN"], "`--run` goes together with `--last` or `--best`"),
        (["RUN/checkpoint-1", "--last", "2"], "`--run` goes together with `--last` or `--best`"),
        (["RUN/checkpoint-1", "--run", "RUN", "--last", "2"], "give either checkpoint folders"),
        (["--run", "RUN", "--last", "4"], "has 3 whole checkpoints, but 4 were asked for"),
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
