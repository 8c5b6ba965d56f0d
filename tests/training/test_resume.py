import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file
from training_toy import ProcessRunner, step_losses, write_recipe

from vanilla_transformer.training import last_checkpoint, load_recipe
from vanilla_transformer.training.checkpoints import INCOMPLETE, read_state


@pytest.fixture(scope="module")
def uninterrupted(run: ProcessRunner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = write_recipe(tmp_path_factory.mktemp("uninterrupted"))
    run(recipe)
    return Path(load_recipe(recipe).output_dir)


def assert_same_run(ours: Path, theirs: Path) -> None:
    """Step by step the same losses and in the end the same weights, to the last bit."""
    assert [step for step, _ in step_losses(ours)] == list(range(1, 10))
    assert step_losses(ours) == step_losses(theirs)
    for file in ("model.safetensors", "checkpoint-9/model.safetensors"):
        weights, wanted = load_file(ours / file), load_file(theirs / file)
        assert weights.keys() == wanted.keys()
        assert all(weights[name].equal(wanted[name]) for name in weights)


def test_the_run_has_dropout_and_two_epochs(uninterrupted: Path) -> None:
    assert 1 < read_state(uninterrupted / "checkpoint-6")["epoch"] < 2
    assert load_recipe(uninterrupted / "recipe.yaml").model["dropout"] > 0


def test_killed_between_checkpoints(run: ProcessRunner, uninterrupted: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    assert run(recipe, kill_after_step=4) == [-signal.SIGKILL]
    assert last_checkpoint(tmp_path / "run") == tmp_path / "run" / "checkpoint-3"
    run(recipe)
    assert_same_run(tmp_path / "run", uninterrupted)


def test_killed_while_a_checkpoint_is_written(
    run: ProcessRunner, uninterrupted: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path)
    assert run(recipe, kill_while_saving=6) == [-signal.SIGKILL]
    half = tmp_path / "run" / INCOMPLETE / "checkpoint-6"
    assert (half / "model.safetensors").is_file()
    assert last_checkpoint(tmp_path / "run") == tmp_path / "run" / "checkpoint-3"
    run(recipe)
    assert_same_run(tmp_path / "run", uninterrupted)
    assert not half.exists()


def test_killed_in_the_second_epoch(run: ProcessRunner, uninterrupted: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    assert run(recipe, kill_after_step=8) == [-signal.SIGKILL]
    last = last_checkpoint(tmp_path / "run")
    assert last is not None
    assert read_state(last)["epoch"] > 1
    run(recipe)
    assert_same_run(tmp_path / "run", uninterrupted)


def test_killed_before_the_first_checkpoint_and_while_it_is_written(
    run: ProcessRunner, uninterrupted: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path)
    assert run(recipe, kill_after_step=2) == [-signal.SIGKILL]
    assert run(recipe, kill_while_saving=3) == [-signal.SIGKILL]
    assert last_checkpoint(tmp_path / "run") is None
    run(recipe)
    assert_same_run(tmp_path / "run", uninterrupted)


def test_the_same_command_on_a_finished_run_does_nothing_and_succeeds(
    run: ProcessRunner, uninterrupted: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")}
    assert run(uninterrupted.parent / "run.yaml") == [0]
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*")} == before
    log = max(uninterrupted.parent.glob("run.*.log"), key=lambda path: path.stat().st_mtime_ns)
    assert "is finished after 9 steps; nothing to do" in log.read_text()
