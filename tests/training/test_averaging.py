"""Averages of checkpoints: right numbers, nothing half-written, and clear refusals."""

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from helpers import modes, umask
from safetensors.torch import load_file, save_file

from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer.errors import InputError
from vanilla_transformer.training import averaging
from vanilla_transformer.training.averaging import average_checkpoints, find_checkpoints


def write_checkpoint(folder: Path, tensors: Mapping[str, torch.Tensor], **state: Any) -> Path:
    folder.mkdir(parents=True)
    save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"from": folder.name}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "optimizer.pt").write_bytes(b"state")
    step = int(folder.name.rpartition("-")[2])
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": [], **state}))
    return folder


def random_tensors(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "a.weight": torch.randn(3, 4, generator=generator).to(dtype),
        "b.bias": torch.randn(5, generator=generator).to(dtype),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_average_is_the_mean_in_the_same_type(tmp_path: Path, dtype: torch.dtype) -> None:
    parts = [random_tensors(seed, dtype) for seed in range(3)]
    paths = [write_checkpoint(tmp_path / f"checkpoint-{k}", part) for k, part in enumerate(parts, 1)]
    average_checkpoints(paths, tmp_path / "averaged")
    result = load_file(tmp_path / "averaged" / "model.safetensors")
    assert result.keys() == parts[0].keys()
    for name, tensor in result.items():
        expected = torch.stack([part[name].double() for part in parts]).mean(0).to(dtype)
        assert tensor.dtype == dtype
        assert torch.equal(tensor, expected)


def test_sums_are_taken_in_float64(tmp_path: Path) -> None:
    values = [1e8, 1.0, -1e8, 1.0]
    paths = [
        write_checkpoint(tmp_path / f"checkpoint-{k}", {"w": torch.tensor([value])})
        for k, value in enumerate(values)
    ]
    result = load_file(average_checkpoints(paths, tmp_path / "averaged") / "model.safetensors")
    assert result["w"].item() == 0.5


def test_whole_numbers_are_those_of_the_last(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path / f"checkpoint-{k}", {"steps": torch.tensor([k])}) for k in (10, 20)]
    result = load_file(average_checkpoints(paths, tmp_path / "averaged") / "model.safetensors")
    assert result["steps"].tolist() == [20]


def test_files_of_the_model_come_along_and_the_state_of_training_does_not(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path / f"checkpoint-{k}", random_tensors(k)) for k in (1, 2)]
    output = average_checkpoints(paths, tmp_path / "new" / "averaged")
    assert sorted(path.name for path in output.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert json.loads((output / "config.json").read_text()) == {"from": "checkpoint-2"}
    assert [path.name for path in output.parent.iterdir()] == ["averaged"]


def test_shared_matrices_stay_shared(
    tmp_path: Path, tiny_model: VanillaTransformerForConditionalGeneration
) -> None:
    paths, embeddings = [], []
    for step in (1, 2):
        with torch.no_grad():
            for parameter in tiny_model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))
        embeddings.append(tiny_model.model.shared.weight.detach().clone())
        tiny_model.save_pretrained(tmp_path / f"checkpoint-{step}")
        paths.append(tmp_path / f"checkpoint-{step}")
    average_checkpoints(paths, tmp_path / "averaged")
    model = VanillaTransformerForConditionalGeneration.from_pretrained(tmp_path / "averaged")
    expected = torch.stack(embeddings).double().mean(0).float()
    assert torch.equal(model.model.shared.weight, expected)
    assert model.lm_head.weight.data_ptr() == model.model.shared.weight.data_ptr()
    assert torch.equal(model.get_encoder().embed_tokens.weight, expected)


def test_checkpoints_in_shards(
    tmp_path: Path, tiny_model: VanillaTransformerForConditionalGeneration
) -> None:
    for step in (1, 2):
        tiny_model.save_pretrained(tmp_path / f"checkpoint-{step}", max_shard_size="8KB")
    paths = [tmp_path / "checkpoint-1", tmp_path / "checkpoint-2"]
    assert (paths[0] / "model.safetensors.index.json").is_file()
    output = average_checkpoints(paths, tmp_path / "averaged")
    assert not (output / "model.safetensors.index.json").exists()
    model = VanillaTransformerForConditionalGeneration.from_pretrained(output)
    for name, tensor in tiny_model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_an_older_model_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path / f"checkpoint-{k}", random_tensors(k)) for k in (1, 2)]
    output = tmp_path / "run"
    write_checkpoint(output / "checkpoint-9", random_tensors(9))
    (output / "model.safetensors").write_bytes(b"old")
    (output / "model-00001-of-00002.safetensors").write_bytes(b"old")
    (output / "model.safetensors.index.json").write_text("{}")
    average_checkpoints(paths, output)
    assert sorted(path.name for path in output.iterdir()) == [
        "checkpoint-9",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert load_file(output / "model.safetensors").keys() == {"a.weight", "b.bias"}


def test_who_may_read_the_average_follows_the_umask(tmp_path: Path) -> None:
    paths = [write_checkpoint(tmp_path / f"checkpoint-{k}", random_tensors(k)) for k in (1, 2)]
    with umask(0o022):
        assert modes(average_checkpoints(paths, tmp_path / "run")) == {0o644}


def test_a_full_disk_leaves_the_old_model_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write_checkpoint(tmp_path / f"checkpoint-{k}", random_tensors(k)) for k in (1, 2)]
    output = average_checkpoints(paths[:1], tmp_path / "averaged")
    before = {path.name: path.read_bytes() for path in output.iterdir()}

    def full(*args: Any, **kwargs: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(averaging, "save_file", full)
    with pytest.raises(InputError, match="averaged` cannot be written: no space left on device"):
        average_checkpoints(paths, output)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert not list(tmp_path.glob(".*"))


def test_other_names_are_refused(tmp_path: Path) -> None:
    one = write_checkpoint(tmp_path / "checkpoint-1", {"a": torch.zeros(2)})
    two = write_checkpoint(tmp_path / "checkpoint-2", {"a": torch.zeros(2), "extra": torch.zeros(2)})
    with pytest.raises(InputError, match="only one of them has extra"):
        average_checkpoints([one, two], tmp_path / "averaged")
    assert not (tmp_path / "averaged").exists()


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    one = write_checkpoint(tmp_path / "checkpoint-1", {"a": torch.zeros(2)})
    two = write_checkpoint(tmp_path / "checkpoint-2", {"a": torch.zeros(3)})
    with pytest.raises(InputError, match=r"a has shape \[2\] in .*checkpoint-1.*, but \[3\] in"):
        average_checkpoints([one, two], tmp_path / "averaged")


@pytest.mark.parametrize("size", [0, 5, 60, -4])
def test_a_checkpoint_that_is_cut_short_is_named(tmp_path: Path, size: int) -> None:
    one = write_checkpoint(tmp_path / "checkpoint-1", random_tensors(1))
    two = write_checkpoint(tmp_path / "checkpoint-2", random_tensors(2))
    whole = (two / "model.safetensors").read_bytes()
    (two / "model.safetensors").write_bytes(whole[:size])
    with pytest.raises(InputError, match=r"checkpoint-2/model.safetensors` is cut short"):
        average_checkpoints([one, two], tmp_path / "averaged")
    assert not (tmp_path / "averaged").exists()


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing/model.safetensors` is missing"):
        average_checkpoints([tmp_path / "nothing"], tmp_path / "averaged")
    with pytest.raises(InputError, match="no checkpoints to average"):
        average_checkpoints([], tmp_path / "averaged")


def test_adapters_are_refused(tmp_path: Path) -> None:
    for step in (1, 2):
        folder = write_checkpoint(tmp_path / f"checkpoint-{step}", {})
        (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    paths = find_checkpoints(tmp_path, last=2)
    with pytest.raises(InputError, match=r"checkpoint-1` holds adapters, which cannot be averaged: merge"):
        average_checkpoints(paths, tmp_path / "averaged")
    assert not (tmp_path / "averaged").exists()


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with five checkpoints, of which the fourth is the best, and one that was being written."""
    bleu = {100: 10.0, 200: 30.0, 300: 20.0, 400: 40.0, 1000: 20.0}
    history = [{"step": step, "eval_bleu": value, "eval_loss": 50 - value} for step, value in bleu.items()]
    history.insert(0, {"step": 50, "loss": 9.0})
    for step in bleu:
        seen = [entry for entry in history if entry["step"] <= step]
        write_checkpoint(tmp_path / "run" / f"checkpoint-{step}", random_tensors(step), log_history=seen)
    broken = write_checkpoint(tmp_path / "run" / "checkpoint-1100", random_tensors(1))
    (broken / "model.safetensors").write_bytes(b"half")
    (tmp_path / "run" / "checkpoint-best").mkdir()
    return tmp_path / "run"


def steps(paths: list[Path]) -> list[int]:
    return [int(path.name.removeprefix("checkpoint-")) for path in paths]


def test_the_last_checkpoints_by_number(run_dir: Path) -> None:
    assert steps(find_checkpoints(run_dir, last=2)) == [400, 1000]
    assert steps(find_checkpoints(run_dir, last=5)) == [100, 200, 300, 400, 1000]


@pytest.mark.parametrize("metric", ["bleu", "loss"])
def test_the_best_checkpoints_by_a_metric(run_dir: Path, metric: str) -> None:
    assert steps(find_checkpoints(run_dir, best=1, metric=metric)) == [400]
    assert steps(find_checkpoints(run_dir, best=3, metric=metric)) == [200, 300, 400]


def test_fewer_checkpoints_than_asked_for_is_an_error(run_dir: Path) -> None:
    with pytest.raises(InputError, match="has 5 whole checkpoints, but 6 were asked for"):
        find_checkpoints(run_dir, last=6)
    with pytest.raises(InputError, match="has 0 whole checkpoints with a validated chrf, but 1 were"):
        find_checkpoints(run_dir, best=1, metric="chrf")


def test_what_to_find_must_be_clear(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exactly one of `last` and `best`"):
        find_checkpoints(run_dir)
    with pytest.raises(InputError, match="exactly one of `last` and `best`"):
        find_checkpoints(run_dir, last=1, best=1)
    with pytest.raises(InputError, match="must be positive, but is 0"):
        find_checkpoints(run_dir, last=0)
    with pytest.raises(InputError, match="is not a folder"):
        find_checkpoints(tmp_path / "nowhere", last=1)
