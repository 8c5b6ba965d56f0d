import errno
import json
import math
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from helpers import modes, umask
from safetensors.torch import save_file

from vanilla_transformer.errors import InputError
from vanilla_transformer.files import readable_write_errors
from vanilla_transformer.training import checkpoints


def make_checkpoint(run_dir: Path, step: int) -> Path:
    folder = run_dir / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"weight": torch.arange(100.0)}, folder / "model.safetensors")
    torch.save({"state": torch.arange(100.0)}, folder / "optimizer.pt")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    return folder


def test_checkpoints_are_listed_by_step_and_other_folders_left_out(tmp_path: Path) -> None:
    for step in (100, 20, 3):
        make_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-7x").mkdir()
    (tmp_path / ".incomplete" / "checkpoint-200").mkdir(parents=True)
    assert [checkpoints.checkpoint_step(path) for path in checkpoints.list_checkpoints(tmp_path)] == [
        3,
        20,
        100,
    ]
    assert checkpoints.last_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert checkpoints.last_checkpoint(tmp_path / "absent") is None


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_passed_over(tmp_path: Path, name: str, share: float) -> None:
    make_checkpoint(tmp_path, 1)
    damaged = make_checkpoint(tmp_path, 2) / name
    content = damaged.read_bytes()
    damaged.write_bytes(content[: int(share * len(content))])
    assert checkpoints.last_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    with pytest.raises(InputError, match=name):
        checkpoints.check_checkpoint(tmp_path / "checkpoint-2")


@pytest.mark.parametrize("name", ["optimizer.bin", "pytorch_model_fsdp.bin"])
def test_what_fsdp_saves_is_checked_too(tmp_path: Path, name: str) -> None:
    make_checkpoint(tmp_path, 1)
    added = make_checkpoint(tmp_path, 2) / name
    torch.save({"state": torch.arange(100.0)}, added)
    assert checkpoints.last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    added.write_bytes(added.read_bytes()[:-10])
    assert checkpoints.last_checkpoint(tmp_path) == tmp_path / "checkpoint-1"


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (["optimizer.pt", "scheduler.pt"], False),
        (["optimizer.bin", "scheduler.pt"], False),
        (["optimizer_0", "scheduler.pt"], False),
        (["global_step7"], False),
        (["scheduler.pt"], True),
        (["optimizer.pt"], True),
        ([], True),
    ],
)
def test_training_goes_on_from_an_optimizer_and_a_learning_rate(
    tmp_path: Path, names: list[str], refused: bool
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="without which training") if refused else nullcontext():
        checkpoints.check_resumable(tmp_path)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 1)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors` is missing"):
        checkpoints.check_weights(folder)


def test_every_shard_is_checked(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"a": torch.ones(1)}, tmp_path / "model-1.safetensors")
    with pytest.raises(InputError, match="model-2"):
        checkpoints.check_weights(tmp_path)


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "checkpoint-5"
    with checkpoints.written_whole(final) as folder:
        (folder / "file").write_text("content")
        assert not final.exists()
        assert checkpoints.list_checkpoints(tmp_path) == []
    assert (final / "file").read_text() == "content"
    assert list((tmp_path / checkpoints.INCOMPLETE).iterdir()) == []


def test_who_may_read_a_checkpoint_follows_the_umask(tmp_path: Path) -> None:
    with umask(0o022), checkpoints.written_whole(tmp_path / "checkpoint-5") as folder:
        save_file({"a": torch.ones(1)}, folder / "model.safetensors")
        (folder / "file").write_text("content")
    assert modes(tmp_path / "checkpoint-5") == {0o644}


def test_a_failure_leaves_the_older_folder_and_no_rubbish(tmp_path: Path) -> None:
    final = make_checkpoint(tmp_path, 5)
    with pytest.raises(KeyError), checkpoints.written_whole(final) as folder:
        (folder / "file").write_text("content")
        raise KeyError
    assert checkpoints.last_checkpoint(tmp_path) == final
    assert list((tmp_path / checkpoints.INCOMPLETE).iterdir()) == []


def test_an_older_folder_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    final = make_checkpoint(tmp_path, 5)
    with checkpoints.written_whole(final) as folder:
        (folder / "file").write_text("content")
    assert [path.name for path in final.iterdir()] == ["file"]


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"checkpoint-1` cannot be written: no space left on device\.$"),
        checkpoints.written_whole(tmp_path / "checkpoint-1"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_errors_of_another_kind_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="CUDA"), readable_write_errors(tmp_path):
        raise RuntimeError("CUDA error: out of memory")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Stands for a full disk: a library that writes more meets the failed write itself."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("write", [torch.save, save_file])
def test_a_write_that_really_fails_is_one_clear_line(tmp_path: Path, write: Callable[..., None]) -> None:
    data = {"x": torch.zeros(2**18)}
    final = tmp_path / "checkpoint-1"
    with (
        pytest.raises(InputError, match="checkpoint-1` cannot be written: ") as caught,
        largest_file(4096),
        checkpoints.written_whole(final) as folder,
    ):
        write(data, folder / "file")
    assert "\n" not in str(caught.value)
    assert not final.exists()
    assert not list((tmp_path / checkpoints.INCOMPLETE).iterdir())


def test_leftovers_of_a_killed_run_go(tmp_path: Path) -> None:
    (tmp_path / checkpoints.INCOMPLETE / "checkpoint-9").mkdir(parents=True)
    make_checkpoint(tmp_path, 3)
    for name in (f".{tmp_path.name}.incomplete-0a1b", ".incomplete-x_y"):
        (tmp_path / name).mkdir()
    checkpoints.clean_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-3", ".incomplete-x_y"}
    checkpoints.clean_uploads(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_rotation_keeps_the_last_and_the_chosen(tmp_path: Path) -> None:
    for step in range(1, 7):
        make_checkpoint(tmp_path, step)
    checkpoints.rotate(tmp_path, keep_last=None)
    assert len(checkpoints.list_checkpoints(tmp_path)) == 6
    checkpoints.rotate(tmp_path, keep_last=2, keep_steps=[1, 3])
    kept = [checkpoints.checkpoint_step(path) for path in checkpoints.list_checkpoints(tmp_path)]
    assert kept == [1, 3, 5, 6]


@pytest.mark.parametrize("place", [1, 2, 3])
@pytest.mark.parametrize("odd", [math.nan, -math.inf, math.inf])
def test_what_is_no_number_is_never_among_the_best(place: int, odd: float) -> None:
    values = [0.5, 0.4]
    values.insert(place - 1, odd)
    log = [{"step": step, "eval_loss": value} for step, value in enumerate(values, 1)]
    rising = [step for step in (1, 2, 3) if step != place]
    assert checkpoints.best_steps(log, "loss", greater_is_better=False) == [*reversed(rising), place]
    assert checkpoints.best_steps(log, "loss", greater_is_better=True) == [*rising, place]


def test_best_steps_prefer_the_earlier_of_equals() -> None:
    log = [{"step": s, "eval_bleu": b} for s, b in ((1, 5.0), (2, 9.0), (3, 9.0), (4, 1.0))] + [
        {"step": 4, "loss": 1}
    ]
    assert checkpoints.best_steps(log, "bleu", greater_is_better=True, count=2) == [2, 3]
    assert checkpoints.best_steps(log, "eval_bleu", greater_is_better=False) == [4, 1, 2, 3]


def test_a_print_that_nobody_reads_is_not_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), readable_write_errors(tmp_path):
        raise BrokenPipeError
    with pytest.raises(InputError, match="cannot be written"), readable_write_errors(tmp_path):
        raise PermissionError(13, "Permission denied")
