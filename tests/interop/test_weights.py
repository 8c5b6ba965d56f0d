"""Foreign files: what is damaged or hostile ends in one line, and nothing in it is run."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vanilla_transformer import InputError
from vanilla_transformer.interop import load_fsmt, load_marian
from vanilla_transformer.interop.weights import read_foreign_file, tensors_of

from .foreign import marian_model


class Hostile:
    """Touches a file when it is unpickled by anything that trusts it."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def hostile_file(path: Path, kind: str) -> Path:
    """Write a file that would create `path.parent / "mark"`; return that name."""
    mark = path.parent / "mark"
    value = {"model": {"w": torch.ones(2)}, "extra": Hostile(mark)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(value))
    else:
        torch.save(value, path, _use_new_zipfile_serialization=kind == "zip")
    return mark


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_hostile_file_runs_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.pt"
    mark = hostile_file(path, kind)
    with pytest.raises(InputError) as caught:
        read_foreign_file(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not mark.exists()
    # The same file does harm where it is trusted: the test can fail.
    torch.load(path, weights_only=False) if kind != "pickle" else pickle.loads(path.read_bytes())
    assert mark.exists()


@pytest.mark.parametrize("size", [0, 1, 100, -100, -1])
def test_a_file_cut_short_is_named(tmp_path: Path, size: int) -> None:
    for name, save in (("a.pt", torch.save), ("a.safetensors", save_file)):
        path = tmp_path / name
        save({"w": torch.ones(300)}, path)
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(InputError, match=name) as caught:
            read_foreign_file(path)
        assert "\n" not in str(caught.value)


def test_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.pt` cannot be read: No such file or directory"):
        read_foreign_file(tmp_path / "none.pt")
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        archive.writestr("readme", "no weights")
    for text, name in (("# text\n", "a.pt"), ("", "b.pt")):
        if text:
            (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=f"{name}` is damaged"):
            read_foreign_file(tmp_path / name)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "weights must be tensors by name, but is a list instead."),
        ({}, "weights must be tensors by name, but is a dict instead."),
        ({"w": 3}, "weights must be tensors by name, but 'w' is a int."),
    ],
)
def test_what_is_no_tensor_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        tensors_of(value, "weights")
    assert str(caught.value) == message


def test_a_folder_of_transformers_is_checked(tmp_path: Path) -> None:
    marian: Any = marian_model(37)
    marian.config.save_pretrained(tmp_path)
    path = tmp_path / "pytorch_model.bin"
    mark = hostile_file(path, "zip")
    refused(tmp_path, "cannot be loaded")
    assert not mark.exists()
    path.write_bytes(path.read_bytes()[:-20])
    refused(tmp_path, "cannot be loaded")
    state = marian.state_dict()
    del state["model.decoder.layers.1.fc1.weight"]
    torch.save(state, path)
    refused(tmp_path, r"lacks the weights `model\.decoder\.layers\.1\.fc1\.weight`")
    path.unlink()
    marian.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])
    refused(tmp_path, f"cannot be loaded: `{weights}` is cut short")
    with pytest.raises(InputError, match="must be of model type 'fsmt', but is of 'marian' instead"):
        load_fsmt(tmp_path)
    refused(tmp_path / "none", "cannot be loaded|is not a folder")


def refused(folder: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_marian(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
