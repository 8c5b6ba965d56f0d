"""The evaluate script: a model or finished translations, one or several references."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import parallel_sentences

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.scripts import average_checkpoints, evaluate_model, translate
from vanilla_transformer.training.metrics import score, score_as_paper, score_lowercased_tokenized

HYPOTHESES = ["The small dog runs through a park.", "Two men don't play chess."]
REFERENCES = [
    ["The small dog runs across the park.", "Two men do not play chess."],
    ["A little dog runs through a park.", "Two men don't play chess!"],
]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Translations and two sets of references in files."""
    paths = []
    for name, lines in zip(("hyp", "ref0", "ref1"), (HYPOTHESES, *REFERENCES), strict=True):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        paths.append(str(tmp_path / name))
    return paths


def test_several_references_as_json(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--hypotheses", files[0], "--references", *files[1:], "--json", "--lowercased_tokenized", "en"]
    assert evaluate_model.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    published = score_lowercased_tokenized(HYPOTHESES, REFERENCES, "en")
    assert found == {
        "sentences": 2,
        **score(HYPOTHESES, REFERENCES),
        **{f"lowercased_tokenized_{name}": value for name, value in published.items()},
    }


def test_both_kinds_of_bleu_as_paper(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--hypotheses", files[0], "--references", files[1], "--as-paper"]
    assert evaluate_model.main(words) == 0
    shown = capsys.readouterr().out
    reported = score_as_paper(HYPOTHESES, REFERENCES[:1], "de")
    for value in (score(HYPOTHESES, REFERENCES[:1])["bleu"], reported["bleu"]):
        assert f"{value:6.2f}" in shown
    assert evaluate_model.main([*words, "--json", "--target_lang", "en"]) == 0
    found = json.loads(capsys.readouterr().out)
    english = score_as_paper(HYPOTHESES, REFERENCES[:1], "en")
    assert (found["paper_bleu"], found["paper_bleu_signature"]) == (
        english["bleu"],
        english["bleu_signature"],
    )


def test_scores_with_their_signatures_in_lines(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--hypotheses", files[0], "--reference", files[1], "--target_lang", "zh", "--lowercase"]
    assert evaluate_model.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    scores = score(HYPOTHESES, REFERENCES[:1], language="zh", lowercase=True)
    assert lines[0] == "2 sentences"
    for line, (name, label) in zip(
        lines[1:], [("bleu", "BLEU"), ("chrf", "chrF"), ("ter", "TER")], strict=True
    ):
        assert line.split() == [label, f"{scores[name]:.2f}", *scores[f"{name}_signature"].split()]


def test_a_model_is_scored_on_its_translations(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = parallel_sentences(12)
    source, reference = tmp_path / "src", tmp_path / "ref"
    source.write_text("".join(f"{text}\n" for text, _ in pairs))
    reference.write_text("".join(f"{text}\n" for _, text in pairs))
    options = ["--model", model_folder, "--device", "cpu", "--num_beams", "1", "--max_length", "9"]
    assert translate.main([*options, "--input", str(source), "--output", str(tmp_path / "expected")]) == 0
    capsys.readouterr()
    words = ["--source", str(source), "--reference", str(reference), "--output", str(tmp_path / "out")]
    assert evaluate_model.main([*options, *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (tmp_path / "out").read_text() == (tmp_path / "expected").read_text()
    hypotheses = (tmp_path / "out").read_text().splitlines()
    assert found == {"sentences": 12, **score(hypotheses, [[text for _, text in pairs]])}


def test_the_recipe_of_a_model_tells_the_language(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "chinese"
    shutil.copytree(model_folder, folder)
    (folder / "recipe.yaml").write_text("target_lang: zh\n")
    (tmp_path / "text").write_text("w1 w2\n")
    words = ["--model", str(folder), "--device", "cpu", "--num_beams", "1", "--max_length", "9", "--json"]
    words += ["--source", str(tmp_path / "text"), "--reference", str(tmp_path / "text")]
    for options, splitter in (([], "zh"), (["--target_lang", "en"], "13a")):
        assert evaluate_model.main([*words, *options]) == 0
        assert f"|tok:{splitter}|" in json.loads(capsys.readouterr().out)["bleu_signature"]


def test_checkpoints_and_their_average_have_the_language_of_the_run(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    for step in (10, 20):
        shutil.copytree(model_folder, run / f"checkpoint-{step}")
    (run / "recipe.yaml").write_text("target_lang: zh\n")
    averaged = str(tmp_path / "averaged")
    assert average_checkpoints.main(["--run", str(run), "--last", "2", "--output", averaged]) == 0
    (tmp_path / "text").write_text("我有猫\n")
    words = ["--device", "cpu", "--num_beams", "1", "--max_length", "9", "--json"]
    words += ["--source", str(tmp_path / "text"), "--reference", str(tmp_path / "text")]
    capsys.readouterr()
    for folder in (str(run / "checkpoint-10"), averaged):
        assert evaluate_model.main(["--model", folder, *words]) == 0
        shown = capsys.readouterr()
        assert "|tok:zh|" in json.loads(shown.out)["bleu_signature"]
        assert "warning" not in shown.err


@pytest.mark.parametrize(
    ("references", "options", "warned"),
    [
        (["我 有 猫。"], [], True),
        (["猫がいます"], [], True),
        (["고양이가 있다"], [], True),
        (["a cat, 猫", "and a dog"], [], False),
        ([""], [], False),
        (["我有猫"], ["--target_lang", "zh"], False),
        (["我有猫"], ["--tokenize", "char"], False),
    ],
)
def test_text_without_spaces_and_no_language_is_warned_of(
    references: list[str],
    options: list[str],
    warned: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = tmp_path / "text"
    text.write_text("".join(f"{line}\n" for line in references))
    assert evaluate_model.main(["--hypotheses", str(text), "--references", str(text), *options]) == 0
    error = capsys.readouterr().err
    assert error.count("\n") == error.count("`--target_lang`") == warned
    assert error.startswith("warning: the references seem to be Chinese" if warned else "")


@pytest.mark.parametrize(("lowercase", "case"), [(False, "mixed"), (True, "lc")])
def test_case_is_ignored_for_a_model_that_knows_none(
    lowercase: bool,
    case: str,
    tiny_config_kwargs: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tokenizer = VanillaTransformerTokenizer.train_from_iterator(
        REFERENCES[0], vocab_size=290, lowercase=lowercase
    )
    config = VanillaTransformerConfig(**tiny_config_kwargs | {"vocab_size": len(tokenizer)})
    VanillaTransformerForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "text").write_text("A dog\n")
    text = str(tmp_path / "text")
    words = ["--device", "cpu", "--num_beams", "1", "--max_length", "9", "--json"]
    words += ["--source", text, "--reference", text]
    assert evaluate_model.main(["--model", str(tmp_path), *words]) == 0
    assert f"|case:{case}|" in json.loads(capsys.readouterr().out)["bleu_signature"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either `--model` with `--source`, or `--hypotheses`"),
        (["--model", "m"], "`--model` and `--source` go together"),
        (["--source", "s", "--hypotheses", "h"], "`--model` and `--source` go together"),
        (["--model", "m", "--hypotheses", "h"], "give either"),
        (["--hypotheses", "h", "--output", "o"], "`--output` keeps the translations of `--model`"),
        (["--hypotheses", "h", "--num_beams", "4"], "`--num_beams` is for translating with `--model`"),
        (["--hypotheses", "h", "--tgt_lang", "de"], "`--tgt_lang` is for translating with `--model`"),
        (["--hypotheses", "missing"], "`missing` does not exist"),
    ],
)
def test_what_does_not_go_together(
    files: list[str], words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate_model.main([*words, "--references", files[1]]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1


def test_files_of_unequal_length(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "short").write_text("one\n")
    words = ["--hypotheses", files[0], "--references", files[1], str(tmp_path / "short")]
    assert evaluate_model.main(words) == 2
    assert "short` must have equally many lines, but have 2 and 1" in capsys.readouterr().err


@pytest.mark.parametrize("tokenize", ["words", "ja-mecab"])
def test_a_word_splitter_that_is_not_there_stops_before_translating(
    tokenize: str,
    model_folder: str,
    files: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "MeCab", None)  # as where it is not installed
    monkeypatch.delattr(evaluate_model, "_translated")
    words = ["--model", model_folder, "--source", files[0], "--references", files[1], "--tokenize", tokenize]
    assert evaluate_model.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: `tokenize` ") and tokenize in error and error.count("\n") == 1


@pytest.mark.parametrize("number", [0, 2])
def test_an_output_that_is_read_is_refused(
    number: int, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(files[number])
    for output in (files[number], str(tmp_path / "." / "link")):
        words = ["--model", "m", "--source", files[0], "--references", *files[1:], "--output", output]
        assert evaluate_model.main(words) == 2
        message = f"error: `--output` must not write over a file that is read, but would over `{output}`.\n"
        assert capsys.readouterr().err == message


@pytest.mark.parametrize("output", ["no/such/folder/out", ".", "out.bz2"])
def test_an_output_that_cannot_be_written_stops_before_translating(
    output: str, files: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(evaluate_model, "_translated")
    words = ["--model", "m", "--source", files[0], "--references", files[1], "--output", output]
    assert evaluate_model.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: `{output}` ") and error.count("\n") == 1


def test_an_unknown_word_splitter(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--hypotheses", files[0], "--references", files[1], "--tokenize", "words"]
    assert evaluate_model.main(words) == 2
    assert "error: `tokenize` must be one of" in capsys.readouterr().err


def test_other_spellings_of_the_options(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--hypotheses", files[0], "--reference", files[1], "--target_lang", "de", "--json"]
    shown = []
    for paper, lowercased in (
        ("--as-paper", "--lowercased_tokenized"),
        ("--as_paper", "--lowercase_tokenized"),
    ):
        assert evaluate_model.main([*words, paper, lowercased, "de"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert shown[0] == shown[1]
    assert {"paper_bleu", "lowercased_tokenized_bleu"} <= shown[0].keys()
