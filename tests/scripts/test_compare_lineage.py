"""The road: every model goes from text to its line of the table at toy size, and none is trained twice."""

import json
from pathlib import Path

import pytest
from helpers import write_parallel_files
from transformers import AutoConfig

from vanilla_transformer.lineage import road
from vanilla_transformer.scripts import compare_lineage
from vanilla_transformer.scripts.support.corpora import CORPUS_FILES

NO_GENSIM = "gensim is not installed: pip install '.[vectors]'"


def test_the_options_name_every_model() -> None:
    assert sorted(compare_lineage.MODELS) == sorted(road.lineage_models())


@pytest.mark.slow
def test_all_models_to_a_table_and_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gensim", reason=NO_GENSIM)
    paths = (*write_parallel_files(tmp_path, 60), *write_parallel_files(tmp_path, 3, seed=1))
    words = [
        word for side, path in zip(CORPUS_FILES, paths, strict=True) for word in (f"--{side}", str(path))
    ]
    words += [
        "--target_lang",
        "en",
        "--vocab_size",
        "300",
        "--steps",
        "2",
        "--tokens_per_update",
        "400",
        "--width",
        "16",
    ]
    words += ["--output_dir", str(tmp_path / "road")]
    assert compare_lineage.main(words) == 0
    shown = capsys.readouterr().out
    report = json.loads((tmp_path / "road" / "lineage.json").read_text("utf-8"))
    assert [row[0] for row in report["table"]["rows"]] == [
        road.lineage_models()[name].title for name in compare_lineage.MODELS
    ]
    for name, row in report["models"].items():
        assert row["title"] in shown
        assert ("bleu" in row) == (name.startswith(("gru", "lstm")) or name == "transformer"), name
        assert ("perplexity" in row) == (name not in ("cbow", "skip_gram")), name
        assert ("loss_by_step" in row) == ("bleu" in row or name in ("nnlm", "elmo")), name
    for picture in ("lineage", "losses", "bleu_by_length", "words_cbow", "words_skip_gram"):
        assert (tmp_path / "road" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    saved = tmp_path / "road" / "models"
    neural = {name for name, row in report["models"].items() if "loss_by_step" in row}
    assert {path.name for path in saved.iterdir()} == neural
    assert AutoConfig.from_pretrained(saved / "transformer").use_cache, "which the Trainer switches off"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "road" / "rows").iterdir()}
    assert compare_lineage.main(words) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "road" / "rows").iterdir()}


def test_rows_of_other_settings_are_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = (*write_parallel_files(tmp_path, 60), *write_parallel_files(tmp_path, 3, seed=1))
    words = [
        word for side, path in zip(CORPUS_FILES, paths, strict=True) for word in (f"--{side}", str(path))
    ]
    words += [
        "--target_lang",
        "en",
        "--models",
        "ngram2",
        "--output_dir",
        str(tmp_path / "road"),
        "--vocab_size",
    ]
    assert compare_lineage.main([*words, "300"]) == 0
    words[words.index("ngram2")] = "ngram1"
    assert compare_lineage.main([*words, "300"]) == 0
    assert "Training data: " in capsys.readouterr().out
    report = json.loads((tmp_path / "road" / "lineage.json").read_text("utf-8"))
    assert [row[0] for row in report["table"]["rows"]] == ["1-gram, add-one", "2-gram, add-one"]
    assert compare_lineage.main([*words, "400"]) == 2
    assert "holds results made otherwise (vocab_size differ)" in capsys.readouterr().err


def test_a_vocabulary_that_is_too_small_is_told_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare_lineage.main(["--vocab_size", "100", "--output_dir", str(tmp_path / "road")]) == 2
    assert capsys.readouterr().err == "error: `--vocab_size` must be at least 262, but is 100 instead.\n"
    assert not (tmp_path / "road").exists()


def test_blank_and_changed_text_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = (*write_parallel_files(tmp_path, 60), *write_parallel_files(tmp_path, 3, seed=1))
    words = [
        word for side, path in zip(CORPUS_FILES, paths, strict=True) for word in (f"--{side}", str(path))
    ]
    words += [
        "--target_lang",
        "en",
        "--models",
        "ngram1",
        "--vocab_size",
        "300",
        "--output_dir",
        str(tmp_path / "road"),
    ]
    assert compare_lineage.main(words) == 0
    for path in paths[:2]:
        path.write_text("\n" * 60)
    assert compare_lineage.main(words) == 2
    assert "holds results made otherwise (train_source, train_target differ)" in capsys.readouterr().err
    assert compare_lineage.main([*words[:-1], str(tmp_path / "anew")]) == 2
    assert "error: no tokenizer can be trained: there is no text" in capsys.readouterr().err
