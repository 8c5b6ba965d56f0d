"""The train-tokenizer script: from files to a folder that AutoTokenizer reads."""

import gzip
import os
import threading
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from vanilla_transformer.scripts import train_tokenizer


def test_files_become_a_shared_vocabulary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_text("the cat sat on the mat\n" * 20)
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"die katze sitzt auf der matte\n" * 20))
    output = tmp_path / "tokenizers" / "mine"
    words = ["--input", str(tmp_path / "a"), str(tmp_path / "b.gz"), "--vocab_size", "300"]
    assert train_tokenizer.main([*words, "--output", str(output)]) == 0
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert capsys.readouterr().out == f"saved a tokenizer of {len(tokenizer)} entries to {output}\n"
    assert len(tokenizer) <= 300
    for text in ("the katze sat auf the mat", "新しい  words"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert len(tokenizer("katze")["input_ids"]) < len(tokenizer("qxwvy")["input_ids"])
    assert [path.name for path in output.parent.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b"", "there is no text in"), (b"\n \n", "no text"), (b"\xff\n", "UTF-8")],
)
def test_files_without_text_are_refused(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    words = ["--input", str(tmp_path / "a"), "--output", str(tmp_path / "out")]
    assert train_tokenizer.main(words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert message in shown
    assert not (tmp_path / "out").exists()


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    file.write_text("the cat sat on the mat\n" * 20)
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(file.read_text(),))
    writer.start()
    for path in (pipe, file):
        words = ["--input", str(path), "--output", str(tmp_path / f"of {path.name}"), "--vocab_size", "280"]
        assert train_tokenizer.main(words) == 0
    writer.join()
    of_pipe, of_file = (
        (tmp_path / f"of {path.name}" / "tokenizer.json").read_text() for path in (pipe, file)
    )
    assert of_pipe == of_file


def test_a_vocabulary_too_small_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_text("text\n")
    words = ["--input", str(tmp_path / "a"), "--output", str(tmp_path / "out"), "--vocab_size", "100"]
    assert train_tokenizer.main(words) == 2
    assert capsys.readouterr().err == "error: `vocab_size` must be at least 262, but is 100 instead.\n"
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_text("text\n")
    words = ["--input", str(tmp_path / "a"), "--output", str(tmp_path / "a")]
    assert train_tokenizer.main(words) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert (tmp_path / "a").read_text() == "text\n"


@pytest.mark.parametrize("name", ["config.json", "recipe.yaml"])
def test_the_tokenizer_of_a_model_is_not_replaced(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text("the cat sat on the mat\n" * 20)
    output = tmp_path / "model"
    output.mkdir()
    (output / name).write_text("{}")
    words = ["--input", str(tmp_path / "a"), "--vocab_size", "300", "--output", str(output)]
    assert train_tokenizer.main(words) == 2
    shown = f"holds a model or a run ({name}), whose tokenizer would be replaced: give another `--output`."
    assert shown in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == [name]
