import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from training_toy import CHILD, ProcessRunner, processes_of, quiet_environment, step_losses, write_recipe

from vanilla_transformer.errors import InputError
from vanilla_transformer.training import last_checkpoint
from vanilla_transformer.training.checkpoints import read_state
from vanilla_transformer.training.run_checks import check_processes

# One process accumulates over two batches what two processes see at once.
RECIPE: dict[str, Any] = {"metric": "bleu", "eval_batch_size": 2, "max_steps": 6}


def without_dropout(folder: Path, name: str) -> Path:
    recipe = write_recipe(folder, name=name, **RECIPE)
    text = recipe.read_text()
    assert "dropout: 0.2" in text
    recipe.write_text(text.replace("dropout: 0.2", "dropout: 0.0"))
    return recipe


def evaluations(run_dir: Path) -> list[dict[str, float]]:
    last = last_checkpoint(run_dir)
    assert last is not None
    names = ("eval_loss", "eval_bleu", "eval_chrf")
    log = read_state(last)["log_history"]
    return [{name: entry[name] for name in names} for entry in log if "eval_loss" in entry]


def assert_same_training(ours: Path, theirs: Path) -> None:
    assert [step for step, _ in step_losses(ours)] == [step for step, _ in step_losses(theirs)]
    for (_, our_loss), (_, their_loss) in zip(step_losses(ours), step_losses(theirs), strict=True):
        assert our_loss == pytest.approx(their_loss, rel=1e-5)
    weights, wanted = load_file(ours / "model.safetensors"), load_file(theirs / "model.safetensors")
    for name, value in wanted.items():
        assert (weights[name] - value).abs().max() <= 1e-4 * value.abs().max(), name


def test_two_processes_train_as_one_on_the_same_global_batches(run: ProcessRunner, tmp_path: Path) -> None:
    run(without_dropout(tmp_path, "one"))
    run(without_dropout(tmp_path, "two"), processes=2)
    assert_same_training(tmp_path / "two", tmp_path / "one")
    for ours, theirs in zip(evaluations(tmp_path / "two"), evaluations(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert json.loads((tmp_path / "two" / "results.json").read_text())["steps"] == 6


def test_two_processes_killed_and_resumed_go_on_bitwise(run: ProcessRunner, tmp_path: Path) -> None:
    run(write_recipe(tmp_path, name="whole"), processes=2)
    parts = write_recipe(tmp_path, name="parts")
    run(parts, processes=2, kill_after_step=5)
    run(parts, processes=2)
    assert step_losses(tmp_path / "parts") == step_losses(tmp_path / "whole")


def test_processes_that_would_train_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_processes(1)  # set by a cluster; no launcher has started this process
    monkeypatch.setenv("LOCAL_RANK", "0")
    check_processes(2)
    with pytest.raises(InputError, match="started 2 processes, but 1 would train together"):
        check_processes(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
        [
            "accelerate.commands.launch",
            "--multi_gpu",
            "--num_processes",
            "2",
            "--num_machines",
            "1",
            "--main_process_port",
            "0",
        ],
    ],
    ids=["torchrun", "accelerate"],
)
def test_launchers_with_two_processes_give_the_losses_of_one(
    run: ProcessRunner, tmp_path: Path, launcher: list[str]
) -> None:
    run(without_dropout(tmp_path, "one"))
    command = [sys.executable, "-m", *launcher, str(CHILD), str(without_dropout(tmp_path, "two"))]
    done = subprocess.run(
        command, env=quiet_environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert processes_of(tmp_path / "two") == 2
    assert_same_training(tmp_path / "two", tmp_path / "one")
