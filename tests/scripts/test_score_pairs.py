"""The score script: a line for each pair, and what stops it."""

import math
from pathlib import Path

import pytest
from helpers import parallel_sentences

from vanilla_transformer import score_pairs as score_in_python
from vanilla_transformer.modeling.pair_scores import PairScore
from vanilla_transformer.scripts import score_pairs
from vanilla_transformer.scripts.score_pairs import Total
from vanilla_transformer.scripts.support.models import load_model

PAIRS = parallel_sentences(7)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The options that name the two files of PAIRS."""
    words = []
    for side, name in enumerate(("source", "target")):
        path = tmp_path / name
        path.write_text("".join(f"{pair[side]}\n" for pair in PAIRS))
        words += [f"--{name}", str(path)]
    return words


def run(model_folder: str, *words: str) -> int:
    return score_pairs.main(["--model", model_folder, "--device", "cpu", *words])


def test_a_line_for_each_pair(
    model_folder: str, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = list(score_in_python(*load_model(model_folder, device="cpu"), PAIRS))
    assert run(model_folder, *files) == 0
    shown = capsys.readouterr()
    lines = [float(line) for line in shown.out.splitlines()]
    assert lines == pytest.approx([one.log_probability for one in expected], abs=1e-3)
    tokens = sum(one.tokens for one in expected)
    assert shown.err.startswith(f"7 pairs, {tokens} target tokens, perplexity ")
    assert run(model_folder, *files, "--per_token", "--output", str(tmp_path / "out")) == 0
    per_token = [float(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert per_token == pytest.approx([one.log_probability / one.tokens for one in expected], abs=1e-3)


def test_files_of_unequal_length(
    model_folder: str, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "target").write_text("w1\n")
    assert run(model_folder, *files, "--output", str(tmp_path / "out")) == 2
    assert "must have equally many lines, but have 7 and 1 instead" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_files_without_a_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are refused before the model is looked for."""
    for name in ("source", "target"):
        (tmp_path / name).write_text("")
    words = ["--source", str(tmp_path / "source"), "--target", str(tmp_path / "target")]
    assert run("./nowhere", *words, "--output", str(tmp_path / "out")) == 2
    assert capsys.readouterr().err == f"error: `{tmp_path / 'source'}` is empty.\n"
    assert not (tmp_path / "out").exists()


def test_pairs_none_of_which_could_be_scored() -> None:
    total = Total()
    assert list(total.lines([PairScore(math.nan, 0)], per_token=True)) == ["nan"]
    assert str(total) == "no pair was scored"
