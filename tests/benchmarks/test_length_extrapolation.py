"""Length extrapolation: lines are joined alike on both sides, and toy models go all the way to a picture."""

import json
from pathlib import Path

import pytest
from helpers import load_benchmark, write_parallel_files

from vanilla_transformer.scripts.support.corpora import CORPUS_FILES

extrapolation = load_benchmark("length_extrapolation")


def test_sentences_that_follow_each_other_make_a_line() -> None:
    assert extrapolation.joined_lines(["a", "b", "c"], 2, "en") == ["a", "b", "c", "a b"]
    assert extrapolation.joined_lines(["猫。", "狗。"], 2, "zh") == ["猫。", "狗。", "猫。狗。"]


def test_a_range_ends_where_training_ends() -> None:
    found = extrapolation.ranges(16)
    assert found == [(1, 8), (9, 12), (13, 16), (17, 20), (21, 24), (25, 32), (33, 48)]


def test_scores_by_hand() -> None:
    pairs = [("a b c d e", "a b c d e"), ("f g h i j", "f g h i k")]
    scores = extrapolation.scores_of(pairs, "en")
    assert (scores["sentences"], scores["exact"]) == (2, 50.0)
    precisions = (9 / 10) * (7 / 8) * (5 / 6) * (3 / 4)  # of 1 to 4 words
    assert scores["bleu"] == pytest.approx(100 * precisions**0.25)


@pytest.mark.slow
def test_from_text_to_a_picture_and_once_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = (*write_parallel_files(tmp_path, 60), *write_parallel_files(tmp_path, 6, seed=1))
    words = [
        word for side, path in zip(CORPUS_FILES, paths, strict=True) for word in (f"--{side}", str(path))
    ]
    words += [
        "--vocab_size",
        "300",
        "--d_model",
        "16",
        "--longest",
        "24",
        "--joined",
        "3",
        "--max_steps",
        "2",
    ]
    words += [
        "--tokens_per_update",
        "400",
        "--warmup_steps",
        "2",
        "--source_lang",
        "en",
        "--target_lang",
        "de",
    ]
    words += ["--output_dir", str(tmp_path / "runs"), "--results", str(tmp_path / "lengths.json")]
    assert extrapolation.main(words) == 0
    report = json.loads((tmp_path / "lengths.json").read_text("utf-8"))
    assert list(report["positions"]) == list(extrapolation.POSITIONS)
    longer = [row[0] for row in report["table"]["rows"] if row[0].endswith("(longer than in training)")]
    assert longer, "joined lines are longer than those in training"
    log = json.loads((tmp_path / "runs" / "learned" / "results.json").read_text("utf-8"))
    assert log["steps"] == 2
    assert (tmp_path / "lengths.png").read_bytes().startswith(b"\x89PNG")
    assert "| Source tokens | Pairs | sinusoidal, BLEU |" in capsys.readouterr().out
    assert extrapolation.main([*words, "--max_steps", "3"]) == 2
    assert "holds results made otherwise (max_steps differ)" in capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/by_length.json")}
    assert len(before) == 3
    assert extrapolation.main([*words, "--figure", str(tmp_path / "other.png")]) == 0
    assert (tmp_path / "other.png").is_file()
    assert before == {path: path.stat().st_mtime_ns for path in before}
    paths[0].write_text("\n".join(reversed(paths[0].read_text("utf-8").splitlines())), "utf-8")
    assert extrapolation.main(words) == 2
    assert "holds results made otherwise" in capsys.readouterr().err
