"""Weights that are read: safetensors alone, whole, and with the name of a file that is not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hub_client import hub_client
from hub_server import Repository, running_hub

from vanilla_transformer import VanillaTransformerForConditionalGeneration as Model
from vanilla_transformer import VanillaTransformerModel

from .toy import assert_same_weights, toy_model


def without_safetensors(folder: Path) -> Path:
    """Save a model with its weights pickled; return its folder."""
    model = toy_model(dtype=torch.float32)
    model.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("kind", [Model, VanillaTransformerModel])
def test_pickled_weights_are_not_loaded(kind: Any, tmp_path: Path) -> None:
    without_safetensors(tmp_path)
    with pytest.raises(OSError, match=r"no file named model\.safetensors found in directory"):
        kind.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="`use_safetensors` must not be False: pickled weights are not"):
        kind.from_pretrained(tmp_path, use_safetensors=False)


def test_pickled_weights_on_the_hub_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path.name: path.read_bytes() for path in without_safetensors(tmp_path / "here").iterdir()}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    # transformers would ask a machine of the Hub to convert them.
    monkeypatch.setenv("DISABLE_SAFETENSORS_CONVERSION", "1")
    with running_hub() as hub, hub_client(hub, monkeypatch):
        hub.repositories["me/pickled"] = Repository()
        hub.repositories["me/pickled"].commit("main", files)
        with pytest.raises(OSError) as caught:
            Model.from_pretrained("me/pickled")
    assert str(caught.value) == "`me/pickled` has no weights in safetensors, and no others are loaded."


@pytest.mark.parametrize("options", [{}, {"use_safetensors": None}, {"use_safetensors": True}])
def test_weights_in_safetensors_are_loaded(options: dict[str, Any], tmp_path: Path) -> None:
    model = toy_model(dtype=torch.float32)
    model.save_pretrained(tmp_path / "sub")
    found = Model.from_pretrained(tmp_path, subfolder="sub", **options)
    assert_same_weights(found, model)


@pytest.mark.parametrize("size", [-3, 20, 0])
def test_a_shard_that_is_cut_short_is_named(size: int, tmp_path: Path) -> None:
    toy_model(dtype=torch.float32).save_pretrained(tmp_path, max_shard_size="8KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:size])
    with pytest.raises(ValueError, match=f"^`{shard}` is cut short"):
        Model.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"^`{shard}` is cut short"):
        Model.from_pretrained(tmp_path.parent, subfolder=tmp_path.name)
