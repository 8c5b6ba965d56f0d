"""Code beside the weights, and folders that are whole or as they were."""

import ast
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import modes, umask
from safetensors.torch import load_file

from vanilla_transformer import (
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerModel,
    VanillaTransformerTokenizer,
    pipeline,
)
from vanilla_transformer.modeling import saving_vanilla_transformer as saving

from .toy import toy_config, toy_head, toy_model

ROOT = Path(__file__).resolve().parents[2]
# huggingface_hub and safetensors come with transformers, which imports them as our code does.
ALLOWED = {
    *("torch", "tokenizers", "transformers", "huggingface_hub", "safetensors"),
    *sys.stdlib_module_names,
}


@pytest.fixture(scope="module")
def tokenizer() -> VanillaTransformerTokenizer:
    return VanillaTransformerTokenizer.train_from_iterator(
        ["a cat sleeps", "我有一只猫。"] * 3, vocab_size=285
    )


@pytest.fixture(scope="module")
def model(tokenizer: VanillaTransformerTokenizer) -> VanillaTransformerForConditionalGeneration:
    return toy_model(dtype=torch.float32, vocab_size=len(tokenizer), decoder_vocab_size=len(tokenizer))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_that_travels_is_found_and_no_other() -> None:
    named = {path.name for path in ROOT.glob("*/*_vanilla_transformer.py")}
    assert {path.name for path in saving.source_files()} == named


def test_what_travels_imports_nothing_that_transformers_does_not_bring(tmp_path: Path) -> None:
    saving.write_code(tmp_path)
    for path in tmp_path.iterdir():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= ALLOWED, path.name
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert str(node.module).partition(".")[0] in ALLOWED, path.name
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1, path.name
                assert (tmp_path / f"{node.module}.py").is_file(), path.name


def test_the_flat_copy_differs_in_its_imports_alone(tmp_path: Path) -> None:
    saving.write_code(tmp_path)
    for path in saving.source_files():
        flat, ours = (text.splitlines() for text in ((tmp_path / path.name).read_text(), path.read_text()))
        changed = [line for line, before in zip(flat, ours, strict=True) if line != before]
        assert all(re.match(r" *from \.\w+_vanilla_transformer import", line) for line in changed)


def test_model_tokenizer_and_pipeline_make_the_same_folder_in_any_order(
    model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    pipe = pipeline("translation", model, tokenizer, device="cpu")
    orders: list[list[Any]] = [[model, tokenizer], [tokenizer, model], [pipe], [pipe, tokenizer, model]]
    folders = [tmp_path / str(number) for number in range(len(orders))]
    for folder, order in zip(folders, orders, strict=True):
        for one in order:
            one.save_pretrained(folder)
    expected = contents(folders[0])
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} < set(expected)
    assert all(contents(folder) == expected for folder in folders)


def test_a_loaded_pair_saves_the_folder_that_it_came_from(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    pipeline("translation", model, tokenizer, device="cpu").save_pretrained(tmp_path / "a")
    again = pipeline("translation", tmp_path / "a", device="cpu", local_files_only=True)
    again.save_pretrained(tmp_path / "b")
    assert contents(tmp_path / "b") == contents(tmp_path / "a")


def test_the_names_in_the_folder_are_those_of_its_files(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    references = [*config["auto_map"].values(), config["custom_pipelines"]["translation"]["impl"]]
    references += json.loads((tmp_path / "tokenizer_config.json").read_text())["auto_map"]["AutoTokenizer"][
        :1
    ]
    for reference in references:
        module, _, name = reference.partition(".")
        assert f"\nclass {name}(" in (tmp_path / f"{module}.py").read_text()


@pytest.mark.parametrize("from_translator", [False, True])
def test_only_a_model_that_translates_has_the_pipeline(from_translator: bool, tmp_path: Path) -> None:
    if from_translator:
        toy_model().save_pretrained(tmp_path / "translator")
        model = VanillaTransformerModel.from_pretrained(tmp_path / "translator")
    else:
        model = VanillaTransformerModel(toy_config())
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert "custom_pipelines" not in config
    assert config["auto_map"]["AutoModel"].endswith(".VanillaTransformerModel")


@pytest.mark.parametrize("kind", [VanillaTransformerForConditionalGeneration, VanillaTransformerForCausalLM])
def test_a_class_made_of_ours_is_named_as_ours(kind: Any, tmp_path: Path) -> None:
    """FSDP makes one of each model, as `FSDPVanillaTransformer...`, and a user may derive one."""
    toy_head(kind).save_pretrained(tmp_path / "plain")
    derived = toy_head(kind)
    derived.__class__ = type(f"FSDP{kind.__name__}", (kind,), {})
    derived.save_pretrained(tmp_path / "derived")
    plain, found = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("plain", "derived")
    )
    assert found["auto_map"] == plain["auto_map"]
    assert found.get("custom_pipelines") == plain.get("custom_pipelines")


def test_of_many_processes_that_save_a_model_one_writes(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(model), "should_save_on_this_rank", lambda self, is_main_process: False)
    model.save_pretrained(tmp_path / "x", push_to_hub=True)  # nor does another process send anything
    assert list(tmp_path.rglob("*.*")) == []


def test_a_folder_that_another_process_makes_meanwhile_holds_both(tmp_path: Path) -> None:
    final = tmp_path / "x"
    with saving.files_written_whole(final) as folder:
        (folder / "a").write_text("ours")
        final.mkdir()
        (final / "a").write_text("theirs")
        (final / "b").write_text("theirs")
    assert contents(final) == {"a": b"ours", "b": b"theirs"}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_the_saved_paths_of_a_tokenizer_exist(tokenizer: Any, tmp_path: Path) -> None:
    paths = tokenizer.save_pretrained(tmp_path / "t")
    assert {Path(path).name for path in paths} >= {"tokenizer.json", "tokenizer_config.json"}
    assert all(Path(path).is_file() for path in paths)


def test_new_shards_replace_old_weights(model: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for size, shards in (("5KB", True), ("50GB", False), ("5KB", True)):
        model.save_pretrained(tmp_path, max_shard_size=size)
        names = {path.name for path in tmp_path.glob("model*.safetensors*")}
        assert ("model.safetensors.index.json" in names) is shards
        assert ("model.safetensors" in names) is not shards
        loaded = VanillaTransformerForConditionalGeneration.from_pretrained(tmp_path)
        assert loaded.state_dict()["model.shared.weight"].equal(model.state_dict()["model.shared.weight"])
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_files_are_forced_to_disk_while_they_are_open_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to flush others."""
    (tmp_path / "sub").mkdir()
    for name in ("a.txt", "sub/b.txt"):
        (tmp_path / name).write_text(name)
    sizes: list[int] = []

    def as_windows(descriptor: int) -> None:
        os.write(descriptor, b"")  # raises what is open for reading alone
        sizes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", as_windows)
    saving.flush(tmp_path)
    assert sorted(sizes) == [5, 9]
    assert contents(tmp_path) == {"a.txt": b"a.txt", "b.txt": b"sub/b.txt"}


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_who_may_read_the_weights_follows_the_umask(
    mask: int, mode: int, model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    with umask(mask):
        for _ in range(2):  # a new folder, and one that is there
            model.save_pretrained(tmp_path / "model", max_shard_size="5KB")
            tokenizer.save_pretrained(tmp_path / "model")
            assert modes(tmp_path / "model") == {mode}


def test_shards_of_a_variant_replace_those_of_the_same(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    plain = {path.name for path in tmp_path.iterdir()}
    for size, shards in (("5KB", True), ("50GB", False), ("5KB", True)):
        model.save_pretrained(tmp_path, max_shard_size=size, variant="fp16")
        names = {path.name for path in tmp_path.iterdir()}
        assert plain < names
        assert ("model.safetensors.index.fp16.json" in names) is shards
        assert ("model.fp16.safetensors" in names) is not shards
        assert any(re.fullmatch(r"model\.fp16-\d{5}-of-\d{5}\.safetensors", name) for name in names) is shards


class Crash(BaseException):
    """What no code expects."""


def crash_after(function: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """The function, which does its work so many times and then raises before the next."""
    left = [calls]

    def crashing(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Crash
        return function(*args, **kwargs)

    return crashing


def half_written(tensors: Any, path: Any, **kwargs: Any) -> None:
    Path(path).write_bytes(b"half of the weights")
    raise Crash


def half_a_tokenizer(self: Any, save_directory: Any, **kwargs: Any) -> None:
    (Path(save_directory) / "tokenizer.json").write_text("{")
    raise Crash


@pytest.mark.parametrize("anew", [True, False])
def test_a_crash_while_weights_are_written_leaves_the_folder_as_it_was(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    folder = tmp_path / "model"
    if not anew:
        toy_model(seed=1).save_pretrained(folder)
    before = contents(tmp_path)
    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", half_written)
    with pytest.raises(Crash):
        model.save_pretrained(folder)
    assert contents(tmp_path) == before
    assert folder.exists() is not anew


def test_a_crash_between_two_files_puts_the_earlier_ones_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["config.json", "model.safetensors", "tokenizer.json"]
    for name in names:
        (tmp_path / name).write_text("old")
    replace = os.replace
    # What puts the files back is not to crash.
    monkeypatch.setattr(saving, "_put_back", lambda link, path: replace(link, path))
    for renames in range(len(names)):
        monkeypatch.setattr(saving.os, "replace", crash_after(replace, renames))
        with pytest.raises(Crash), saving.files_written_whole(tmp_path) as folder:
            for name in names:
                (folder / name).write_text("new")
        assert contents(tmp_path) == dict.fromkeys(names, b"old")


def test_a_tokenizer_that_cannot_be_written_leaves_the_earlier_one(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.save_pretrained(tmp_path)
    before = contents(tmp_path)
    other = VanillaTransformerTokenizer.train_from_iterator(["other words"] * 3, vocab_size=270)
    monkeypatch.setattr(type(other), "_save_pretrained", half_a_tokenizer)
    with pytest.raises(Crash):
        other.save_pretrained(tmp_path)
    assert contents(tmp_path) == before


def test_weights_are_exchanged_last(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_model(seed=1).save_pretrained(tmp_path)
    moved = []
    replace = os.replace

    def noted(source: Path, target: Path) -> None:
        moved.append(target.name)
        replace(source, target)

    monkeypatch.setattr(saving.os, "replace", noted)
    model.save_pretrained(tmp_path)
    assert moved[-1] == "model.safetensors"
    assert load_file(tmp_path / "model.safetensors")["model.shared.weight"].equal(model.model.shared.weight)


def test_a_file_in_the_place_of_the_folder_is_an_error(model: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(NotADirectoryError):
        model.save_pretrained(tmp_path / "x")
    assert contents(tmp_path) == {"x": b"mine"}
