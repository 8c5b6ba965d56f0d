"""Distillation: the student's pairs are the teacher's translations, made once, whatever interrupts that."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from hub_client import hub_client
from hub_server import Repository, running_hub
from training_toy import write_recipe

from vanilla_transformer import translate
from vanilla_transformer.errors import InputError
from vanilla_transformer.modeling import translation_vanilla_transformer
from vanilla_transformer.scripts import distill_model
from vanilla_transformer.scripts.support.models import load_model
from vanilla_transformer.training import distillation
from vanilla_transformer.training.embedded_corpus import build_corpus, write_corpus
from vanilla_transformer.training.recipe import load_recipe
from vanilla_transformer.training.run import train

TOY = """
    --vocab_size 700 --model.d_model 16 --model.encoder_layers 1 --model.decoder_layers 1
    --model.encoder_attention_heads 2 --model.decoder_attention_heads 2 --model.encoder_ffn_dim 16
    --model.decoder_ffn_dim 16 --tokens_per_update 400 --tokens_per_device 400 --max_steps 2 --eval_steps 2
    --metric loss --max_target_length 256 --warmup_steps 2 --logging_steps 1 --tensorboard false
    --generation.num_beams 1 --generation.min_new_tokens 2
"""


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A teacher of two steps, its student, and what the command printed and translated when run twice."""
    folder = tmp_path_factory.mktemp("distillation")
    write_corpus(build_corpus(train_size=60, valid_size=4, test_size=8), folder / "corpus")
    files = {
        f"{part}_{side}": str(folder / "corpus" / f"{part}.{language}")
        for part in ("train", "valid")
        for side, language in (("source", "zh"), ("target", "en"))
    }
    words = [word for key, path in files.items() for word in (f"--{key}", path)] + TOY.split()
    train(load_recipe("demo", [*words, "--output_dir", str(folder / "teacher")]))
    student = ["demo_student", "--teacher", str(folder / "teacher"), *words]
    student += ["--output_dir", str(folder / "student"), "--part_size", "25"]
    return {"folder": folder, "command": student, "files": files}


def test_from_a_teacher_to_a_table_and_nothing_is_done_twice(
    taught: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = taught["folder"]
    assert distill_model.main(taught["command"]) == 0
    shown = capsys.readouterr().out
    assert "60 sentences translated now" in shown
    sources = Path(taught["files"]["train_source"]).read_text("utf-8").splitlines()
    distilled = folder / "student" / "distilled"
    assert (distilled / "source.txt").read_text("utf-8").splitlines() == sources
    teacher, tokenizer = load_model(str(folder / "teacher"), device="cpu")
    parts = [sources[start : start + 25] for start in (0, 25, 50)]
    lines = [line for part in parts for line in translate(teacher, tokenizer, part)]
    expected = [" ".join(line.splitlines()) for line in lines]
    assert (distilled / "target.txt").read_text("utf-8").split("\n")[:-1] == expected
    recipe = load_recipe(folder / "student" / "recipe.yaml")
    assert recipe.tokenizer == str(folder / "teacher")
    assert recipe.train_target == str(distilled / "target.txt")
    report = json.loads((folder / "student" / "distillation.json").read_text("utf-8"))
    models = report["models"]
    assert [model["model"] for model in models] == [str(folder / "teacher"), str(folder / "student")]
    for model, row in zip(models, report["table"]["rows"], strict=True):
        count = load_model(model["model"], device="cpu")[0].num_parameters()
        assert model["parameters"] == count
        assert 4 * count / 1e6 < model["megabytes"] < 4.5 * count / 1e6 + 0.1
        assert row[:2] == [model["model"], f"{count:,}"] and f"{count:,}" in shown
    assert distill_model.main(taught["command"]) == 0
    again = capsys.readouterr().out
    assert "\n0 sentences translated now" in again
    assert "finished after 2 steps" in again


def test_the_teacher_searches_as_it_is_told(
    taught: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def spy(*args: Any, **options: Any) -> int:
        asked.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(distillation, "translate_corpus", spy)
    command = [*taught["command"], "--output_dir", str(tmp_path)]
    assert distill_model.main(command) == distill_model.main([*command, "--teacher_beams", "3"]) == 130
    own, told = asked
    assert "num_beams" not in own and told["num_beams"] == 3


def test_a_model_teaches_itself_beside_the_references(
    taught: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = str(taught["folder"] / "teacher")
    files = [word for key, path in taught["files"].items() for word in (f"--{key}", path)]
    command = ["demo", "--teacher", teacher, "--init_from", teacher, "--with_references", *files]
    command += [*TOY.split(), "--output_dir", str(tmp_path / "run")]
    assert distill_model.main(command) == 0
    assert "kept 120 of 120 sentence pairs" in capsys.readouterr().out
    distilled = tmp_path / "run" / "distilled"
    for side, name in (("train_source", "source"), ("train_target", "target")):
        references = Path(taught["files"][side]).read_text("utf-8").splitlines()
        own = (distilled / f"{name}.txt").read_text("utf-8").split("\n")[:-1]
        assert (distilled / f"mixed_{name}.txt").read_text("utf-8").split("\n")[:-1] == references + own
    recipe = load_recipe(tmp_path / "run" / "recipe.yaml")
    assert (recipe.train_source, recipe.init_from) == (str(distilled / "mixed_source.txt"), teacher)
    assert distill_model.main(command) == 0
    assert "finished after 2 steps" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "split", "test files"])
def test_models_are_compared_on_the_test_files_or_else_on_whatever_the_recipe_validates_on(
    kind: str, tmp_path: Path
) -> None:
    pairs = [("Ein Hund.", "A dog."), ("Zwei Katzen.", "Two cats.")]
    sides = [list(side) for side in zip(*pairs, strict=True)]
    (tmp_path / "valid.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    (tmp_path / "valid.jsonl").write_text(
        "".join(json.dumps({"source": source, "target": target}) + "\n" for source, target in pairs)
    )
    columns = dict(zip(("source", "target"), sides, strict=True))
    train_rows = Dataset.from_dict({"source": ["Ja."], "target": ["Yes."]})
    DatasetDict(train=train_rows, dev=Dataset.from_dict(columns)).save_to_disk(tmp_path / "data")
    for name, lines in zip(("test.de", "test.en"), (["Nein."], ["No."]), strict=True):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    changes: dict[str, Any] = {"valid_source": None, "valid_target": None}
    if kind == "split":
        changes |= {"dataset": str(tmp_path / "data"), "valid_split": "dev"}
    else:
        changes |= {"valid_file": str(tmp_path / f"valid.{'jsonl' if kind == 'jsonl' else 'tsv'}")}
    words = ["toy", "--teacher", "nowhere"]
    if kind == "test files":
        words += ["--test_source", str(tmp_path / "test.de"), "--test_reference", str(tmp_path / "test.en")]
        sides = [["Nein."], ["No."]]
    recipe = load_recipe(write_recipe(tmp_path, **changes))
    assert distill_model.comparison_texts(distill_model.parser().parse_args(words), recipe) == sides


def test_a_teacher_on_the_hub_is_measured_as_one_in_a_folder(
    taught: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = taught["folder"] / "teacher"
    options = distill_model.parser().parse_args(["demo", "--teacher", "me/teacher", "--device", "cpu"])
    texts = [["我有一只猫。"], ["I have a cat."]]
    here = distill_model.measure(str(teacher), texts, "en", options)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with running_hub() as hub, hub_client(hub, monkeypatch):
        hub.repositories["me/teacher"] = Repository()
        files = {path.name: path.read_bytes() for path in teacher.iterdir() if path.is_file()}
        hub.repositories["me/teacher"].commit("main", files)
        there = distill_model.measure("me/teacher", texts, "en", options)
    assert here["megabytes"] > 0
    for key in ("parameters", "megabytes", "bleu"):
        assert there[key] == here[key]


def test_an_interrupted_translation_goes_on_with_the_missing_part(
    taught: dict[str, Any], tmp_path: Path
) -> None:
    model, tokenizer = load_model(str(taught["folder"] / "teacher"), device="cpu")
    sources = Path(taught["files"]["train_source"]).read_text("utf-8").splitlines()[:10]

    def translate_into(folder: Path) -> int:
        return distillation.translate_corpus(model, tokenizer, sources, folder, part_size=4)

    assert translate_into(tmp_path / "whole") == 10
    parts = tmp_path / "again" / "parts"
    parts.mkdir(parents=True)
    (parts / "000000004-000000008.txt").write_text("kept\n" * 4)
    assert translate_into(tmp_path / "again") == 6
    whole = (tmp_path / "whole" / "target.txt").read_text("utf-8").split("\n")
    again = (tmp_path / "again" / "target.txt").read_text("utf-8").split("\n")
    assert again == [*whole[:4], *["kept"] * 4, *whole[8:]]


def test_an_interrupted_translation_goes_on_with_parts_of_another_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def shout(model: Any, tokenizer: Any, sources: list[str], **options: Any) -> Iterator[str]:
        calls.append(sources)
        if len(calls) == 2:
            raise KeyboardInterrupt
        yield from (source.upper() for source in sources)

    monkeypatch.setattr(translation_vanilla_transformer, "translate", shout)
    model: Any = None
    sources = [f"line {n}" for n in range(10)]
    with pytest.raises(KeyboardInterrupt):
        distillation.translate_corpus(model, model, sources, tmp_path, part_size=4)
    (tmp_path / "target.txt").write_text("of an earlier version, which did not count\n")
    assert distillation.translate_corpus(model, model, sources, tmp_path, part_size=2) == 10
    lines = (tmp_path / "target.txt").read_text("utf-8").splitlines()
    assert lines == [source.upper() for source in sources]


def test_a_part_with_lines_too_few_is_named_and_no_target_written(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "000000000-000000002.txt").write_text("one\n")
    model: Any = None
    with pytest.raises(InputError, match=r"000000000-000000002\.txt` holds 1 lines for 2 sentences"):
        distillation.translate_corpus(model, model, ["a", "b"], tmp_path, part_size=2)
    assert not (tmp_path / "target.txt").exists()


@pytest.mark.parametrize(
    ("name", "key"), [("generation_config.json", "generation"), ("tokenizer.json", "tokenizer")]
)
def test_a_teacher_that_searches_or_splits_otherwise_is_another(tmp_path: Path, name: str, key: str) -> None:
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    for content in ("{}", '{"num_beams": 2}'):
        (teacher / name).write_text(content)
        origin = distillation.origin_of(str(teacher), ["one"], {})
        if content == "{}":
            distillation.check_origin(tmp_path / "distilled", origin)
            (tmp_path / "distilled" / "target.txt").write_text("eins\n")
    with pytest.raises(InputError, match=rf"made otherwise \({key} differ\)"):
        distillation.check_origin(tmp_path / "distilled", origin)


def test_translations_of_another_teacher_are_not_mixed_in(tmp_path: Path) -> None:
    distillation.check_origin(tmp_path / "distilled", distillation.origin_of("c", ["one"], {}))
    origin = distillation.origin_of("a", ["one"], {})
    distillation.check_origin(tmp_path / "distilled", origin)  # nothing is translated yet
    (tmp_path / "distilled" / "parts").mkdir()
    (tmp_path / "distilled" / "parts" / "000000000-000000001.txt").write_text("eins\n")
    distillation.check_origin(tmp_path / "distilled", origin)
    with pytest.raises(InputError, match=r"made otherwise \(teacher, num_beams differ\)"):
        distillation.check_origin(
            tmp_path / "distilled", distillation.origin_of("b", ["one"], {"num_beams": 2})
        )


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({}, ["--test_source", "a"], "`--test_source` and `--test_reference` go together"),
        ({}, ["--test_source", "a", "--test_reference", "b"], "`a` does not exist"),
        ({}, ["--beside", "elsewhere"], "`elsewhere` is not a folder with a model"),
        ({"valid_source": None, "valid_target": None}, [], "the recipe has no validation data"),
        (
            {"valid_source": None, "valid_target": None, "valid_file": "gone.tsv"},
            [],
            "validation data: `gone.tsv` does not exist",
        ),
        ({}, ["--layers", "1"], "unknown key `layers`"),
        ({"streaming": True}, [], "`streaming` must be false"),
    ],
)
def test_refusals_come_before_any_work(
    changes: dict[str, Any],
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = write_recipe(tmp_path, **changes)
    assert distill_model.main([str(recipe), "--teacher", "nowhere", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert error.count("\n") == 1


def test_a_folder_of_another_run_is_told_before_the_teacher_translates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(load_recipe(recipe).to_yaml())
    assert distill_model.main([str(recipe), "--teacher", "nowhere"]) == 2
    assert "holds a run with another recipe; these keys differ: train_source" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["recipe.yaml"]
