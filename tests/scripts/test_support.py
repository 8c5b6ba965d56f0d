"""What the scripts share: errors in one line, and text files in which line k stays line k."""

import bz2
import errno
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

import pytest
import torch
from foreign_toy import SHAPE
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import MarianConfig, MarianMTModel

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerEncoderModel,
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    pipeline,
)
from vanilla_transformer.errors import InputError
from vanilla_transformer.files import one_line
from vanilla_transformer.scripts.support.console import fail, run_script
from vanilla_transformer.scripts.support.corpora import CORPUS_FILES, add_corpus_options, corpus_files
from vanilla_transformer.scripts.support.lines import (
    PartialFile,
    check_output,
    load_aligned_lines,
    read_lines,
    read_only_once,
    write_lines,
)
from vanilla_transformer.scripts.support.models import add_model_options, load_model
from vanilla_transformer.scripts.support.options import parser_of


@pytest.mark.parametrize(
    "kind",
    [
        VanillaTransformerForSequenceClassification,
        VanillaTransformerForMaskedLM,
        VanillaTransformerForCausalLM,
        VanillaTransformerEncoderModel,
    ],
)
def test_a_model_that_does_not_translate_is_refused(model_folder: str, kind: Any) -> None:
    """Its other half would be random."""
    kind.from_pretrained(model_folder).save_pretrained(model_folder)
    message = f"{model_folder}` holds a {kind.__name__}, which does not translate"
    with pytest.raises(InputError, match=message):
        load_model(model_folder, device="cpu")
    with pytest.raises(InputError, match=message):
        pipeline("translation", model_folder)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (("lm_head.",), r"its weights lack `lm_head\.weight`\.$"),
        (
            ("model.decoder.layers.1.fc1.", "model.encoder.layers.0.fc2."),
            r"its weights lack `model\.decoder\.layers\.1\.fc1\.bias` and 3 more\.$",
        ),
    ],
    ids=["projection", "layers"],
)
def test_a_model_some_of_whose_weights_are_not_there_is_refused(
    model_folder: str, lost: tuple[str, ...], message: str
) -> None:
    """They would be random."""
    path = Path(model_folder, "model.safetensors")
    weights = {name: tensor for name, tensor in load_file(path).items() if not name.startswith(lost)}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"^`{model_folder}` cannot be loaded: {message}"):
        load_model(model_folder, device="cpu")
    with pytest.raises(InputError, match=f"^`{model_folder}` cannot be loaded: {message}"):
        pipeline("translation", model_folder)


def test_tied_weights_are_stored_once_and_all_there(
    tiny_config_kwargs: dict[str, Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    config = VanillaTransformerConfig(**tiny_config_kwargs | {"vocab_size": len(tiny_tokenizer)})
    VanillaTransformerForConditionalGeneration(config).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    for model in (load_model(str(tmp_path), device="cpu")[0], pipeline("translation", tmp_path).model):
        assert model.lm_head.weight is model.model.shared.weight


@pytest.mark.parametrize("kind", ["marian", "ours"])
def test_a_file_of_weights_that_is_cut_short_is_named(
    kind: str, model_folder: str, tiny_tokenizer: Any
) -> None:
    if kind == "marian":
        marian = MarianMTModel(MarianConfig(vocab_size=len(tiny_tokenizer), pad_token_id=0, **SHAPE))
        marian.save_pretrained(model_folder)
    path = Path(model_folder, "model.safetensors")
    path.write_bytes(path.read_bytes()[:-9])
    message = f"^`{model_folder}` cannot be loaded: `{path}` is cut short: it has"
    with pytest.raises(InputError, match=message):
        load_model(model_folder, device="cpu")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("length_penalty_type", "gmnt", "must be one of gnmt, power, but is 'gmnt' instead."),
        ("patience", 0, "must be a positive number, but is 0 instead."),
        ("max_length_beyond_source", -1, "must be a whole number, 0 or more, but is -1 instead."),
    ],
)
def test_a_saved_search_that_is_impossible_is_one_line(
    model_folder: str, field: str, value: Any, message: str
) -> None:
    path = Path(model_folder, "generation_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(InputError) as caught:
        load_model(model_folder, device="cpu")
    assert str(caught.value) == f"`{path}` cannot be used: `{field}` {message}"


def test_how_many_translations_are_saved_with_a_model_is_left_to_each_search(model_folder: str) -> None:
    path = Path(model_folder, "generation_config.json")
    beyond = {"num_beams": 4, "num_return_sequences": 4, "patience": 0.5, "length_penalty_type": "gnmt"}
    path.write_text(json.dumps(json.loads(path.read_text()) | beyond))
    found: Any = load_model(model_folder, device="cpu")[0].generation_config
    assert {name: getattr(found, name) for name in beyond} == beyond


def raising(error: BaseException) -> Callable[[], None]:
    def body() -> NoReturn:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("line 3\n is bad"), 2, "error: line 3 is bad\n"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "x.txt"),
            2,
            "error: x.txt: No such file or directory\n",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: No space left on device\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (
            ModuleNotFoundError("No module named 'datasets.arrow'", name="datasets.arrow"),
            2,
            "error: this needs the package datasets, which is not installed: it comes with the extra `train`"
            " (pip install '.[train]' in a clone).\n",
        ),
        (
            ModuleNotFoundError("No module named 'gensim'", name="gensim"),
            2,
            "error: this needs the package gensim, which is not installed: it comes with the extra `vectors`"
            " (pip install '.[vectors]' in a clone).\n",
        ),
        (
            ModuleNotFoundError("No module named 'yaml'", name="yaml"),
            2,
            "error: this needs the package yaml, which is not installed: it comes with the extra `train`"
            " (pip install '.[train]' in a clone).\n",
        ),
        (
            ModuleNotFoundError("No module named 'nobodys'", name="nobodys"),
            2,
            "error: this needs the package nobodys, which is not installed.\n",
        ),
        (ImportError("A card needs Jinja2.\nInstall it."), 2, "error: A card needs Jinja2.\n"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            2,
            "error: the device has not enough memory: take fewer tokens or sentences at a time"
            " (`--tokens_per_device` and `--eval_batch_size` of a training, `--tokens_per_batch` of a"
            " translation).\n",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, line: str
) -> None:
    assert run_script(raising(error)) == status
    assert capsys.readouterr() == ("", line)


def test_a_fault_in_an_import_of_ours_is_not_hidden() -> None:
    error = ModuleNotFoundError("No module named", name="vanilla_transformer.nothing")
    with pytest.raises(ModuleNotFoundError):
        run_script(raising(error))


@pytest.mark.parametrize("word", ["--num_beams", "--num-beams"])
def test_options_are_known_with_hyphens_too(word: str) -> None:
    parser = parser_of("Some script.")
    parser.add_argument("--num_beams", type=int)
    parser.add_argument("--dry-run", action="store_true")
    assert parser.parse_args([word, "3", "--dry_run"]).num_beams == 3
    assert parser.parse_args([f"{word}=4"]).num_beams == 4
    assert parser.parse_known_args(["--other-key", "a-b"])[1] == ["--other-key", "a-b"]


def test_an_error_is_told_below_an_open_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with tqdm(total=3) as bar, tqdm(total=5):
        bar.update(2)
        assert run_script(raising(InputError("wrong"))) == 2
        *bars, line = capsys.readouterr().err.splitlines()
        assert line == "error: wrong"
        assert "2/3" in "".join(bars)
        assert fail("again") == 2
        assert capsys.readouterr().err == "error: again\n"


def test_an_error_imports_no_progress_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "tqdm")
    assert fail("wrong") == 2
    assert "tqdm" not in sys.modules
    assert capsys.readouterr().err == "error: wrong\n"


@pytest.mark.parametrize("penalty", ["nan", "inf", "-inf", "400", "x", ""])
def test_a_length_penalty_is_a_number_with_finite_powers(
    penalty: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = parser_of("what it does")
    add_model_options(options, required=False)
    assert options.parse_args(["--length_penalty", "-0.5"]).length_penalty == -0.5
    with pytest.raises(SystemExit):
        options.parse_args([f"--length_penalty={penalty}"])
    message = f"argument --length_penalty: must be a number from -20 to 20, but is {penalty!r} instead.\n"
    assert capsys.readouterr().err.endswith(message)


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_script(raising(ZeroDivisionError()))


def test_the_status_of_the_body_is_passed_on() -> None:
    assert run_script(lambda: None) == 0
    assert run_script(lambda: 3) == 3


def test_closed_streams_hold_nothing_and_take_everything() -> None:
    body = """
def body():
    assert not sys.stdin.isatty() and list(read_lines("-")) == []
    write_lines(["a"], None)
    print("b")
    assert open(os.devnull).fileno() == 3, "a file opened later must not become standard output"
    raise InputError("that nobody sees")
"""
    modules = "\n".join(
        f"from vanilla_transformer.scripts.support.{name} import *" for name in ("console", "lines")
    )
    code = f"{modules}\n{body}\nraise SystemExit(run_script(body))"
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code])
    assert done.returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:surrogateescape"])
def test_what_the_encoding_lacks_is_printed_as_an_escape(encoding: str) -> None:
    code = """
import sys
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.lines import write_lines
from vanilla_transformer.scripts.support.options import parser_of
def body():
    print("猫")
    write_lines(["猫"], None)  # translations are UTF-8 wherever they go
if len(sys.argv) > 1:
    parser_of("猫").parse_args()
raise SystemExit(run_script(body))
"""
    environment = os.environ | {"PYTHONIOENCODING": encoding}

    def shown(*words: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code, *words], env=environment, capture_output=True, check=True
        )
        return done.stdout.decode().splitlines()

    assert sorted(shown()) == ["\\u732b", "猫"]
    assert "\\u732b" in shown("--help")


def test_an_output_told_to_replace_letters_replaces_them(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", errors="replace")
    monkeypatch.setattr(sys, "stdout", stream)
    assert run_script(lambda: print("猫")) == 0
    assert stream.buffer.getvalue() == b"?\n"


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("stdout", lambda: print("a"), 141),
        ("stdout", lambda: parser_of("what it does").parse_args(["--help"]), 141),
        ("stderr", lambda: fail("wrong"), 2),
        ("stderr", raising(KeyboardInterrupt()), 130),
    ],
)
def test_a_stream_that_nobody_reads_is_no_error(
    name: str,
    body: Callable[[], None],
    status: int,
    unread_stream: TextIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, name, unread_stream)
    assert run_script(body) == status
    unread_stream.flush()  # as Python does at exit


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_standard_output_is_one_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run_script(lambda: print("a")) == 2
    monkeypatch.undo()
    assert capsys.readouterr().err == "error: No space left on device\n"


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\u2028two\r\n\r\nthree\x0cfour\x85\rfive\nlast".encode())
    assert list(read_lines(str(path))) == ["one\u2028two", "", "three\x0cfour\x85\rfive", "last"]


def test_packed_files_are_unpacked(tmp_path: Path) -> None:
    for suffix, pack in ((".gz", gzip), (".bz2", bz2), (".xz", lzma)):
        for end in (suffix, suffix.upper()):
            path = tmp_path / f"a.txt{end}"
            path.write_bytes(pack.compress("猫\n狗\n".encode()))
            assert list(read_lines(str(path))) == ["猫", "狗"]
    path = tmp_path / "a.txt.gz"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(InputError, match=r"a.txt.gz` is not a whole .gz file"):
        list(read_lines(str(path)))
    path.write_bytes(b"plain text")
    with pytest.raises(InputError, match=r"a.txt.gz` is not a whole .gz file"):
        list(read_lines(str(path)))


def test_broken_utf8_names_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"fine\nfine\ncaf\xe9\n")
    with pytest.raises(InputError, match=r"a.txt` must be UTF-8, but line 3 is not"):
        list(read_lines(str(path)))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n")))
    with pytest.raises(InputError, match="`standard input` must be UTF-8, but line 1 is not"):
        list(read_lines("-"))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing.txt` does not exist"):
        list(read_lines(str(tmp_path / "missing.txt")))
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        list(read_lines(str(tmp_path)))


def test_aligned_files_are_equally_long(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a", "b", "c")]
    for path, text in zip(paths, ("1\n2\n", "3\n4", ""), strict=True):
        Path(path).write_text(text)
    assert load_aligned_lines(paths[:2]) == [["1", "2"], ["3", "4"]]
    with pytest.raises(InputError, match=r"c` is empty"):
        load_aligned_lines(paths)
    Path(paths[2]).write_text("5\n")
    with pytest.raises(InputError, match=r"a` and `.*c` must have equally many lines, but have 2 and 1"):
        load_aligned_lines(paths)


def test_what_can_be_read_only_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    names = ("file", "link", "pipe", ".", "missing")
    assert [name for name in names if read_only_once(str(tmp_path / name))] == ["pipe"]
    assert read_only_once("-")
    reader, writer = os.pipe()
    assert read_only_once(f"/dev/fd/{reader}")
    os.close(reader)
    os.close(writer)


def test_a_translation_stays_one_line() -> None:
    assert one_line("a\nb\r\nc\rd\u2028e") == "a b c d\u2028e"


def test_a_file_is_there_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")

    def failing() -> Iterator[str]:
        yield "new"
        raise InputError("stopped")

    with pytest.raises(InputError, match="stopped"):
        write_lines(failing(), str(path))
    assert path.read_text() == "old"
    write_lines(["a\nb", "c"], str(path))
    assert path.read_bytes() == b"a b\nc\n"
    assert [item.name for item in tmp_path.iterdir()] == ["out.txt"]
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = raising(OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(os, "replace", lambda *_: full())
    path = tmp_path / "out.txt"
    assert run_script(lambda: write_lines(["a"], str(path))) == 2
    assert capsys.readouterr().err == f"error: `{path}` cannot be written: no space left on device.\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("resumable", "after"), [(True, ": the same command goes on with them"), (False, "")]
)
def test_of_a_full_disk_one_learns_where_the_lines_so_far_are(
    resumable: bool, after: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out"
    partial = PartialFile(str(path), {}, step=2, resumable=resumable)

    def lines() -> Iterator[str]:
        yield from ("a", "b")
        raise OSError(errno.ENOSPC, "No space left on device")

    assert run_script(lambda: partial.write(lines())) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"the lines so far are in {path}.partial{after}",
        f"error: `{path}` cannot be written: no space left on device.",
    ]
    assert Path(f"{path}.partial").read_text() == "a\nb\n"


def test_a_note_that_the_disk_has_no_room_for_names_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = raising(OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(os, "replace", lambda *_: full())
    with pytest.raises(InputError, match="out` cannot be written: no space left on device"):
        PartialFile(str(tmp_path / "out"), {}, step=2)


@pytest.mark.parametrize("name", ["pipe", "link to a pipe", "/dev/null"])
def test_what_is_no_file_is_written_and_stays(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link to a pipe").symlink_to("pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    check_output(str(tmp_path / name))
    write_lines(["a\nb", "c"], str(tmp_path / name))
    assert os.read(reader, 99) == (b"" if name == "/dev/null" else b"a b\nc\n")
    os.close(reader)
    assert not Path(tmp_path / name).is_file()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_to_a_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "file")
    for line in ("new", "again"):
        check_output(str(tmp_path / "link"))
        write_lines([line], str(tmp_path / "link"))
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "folder" / "file").read_text() == f"{line}\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "` is a folder, not a file."),
        ("missing/out", "` cannot be written: No such file or directory."),
        ("file/out", "` cannot be written: Not a directory."),
        ("out.gz", "` must not end in .gz: what is written is plain text."),
        ("out.XZ", "` must not end in .xz: what is written is plain text."),
    ],
)
def test_what_cannot_be_written_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as caught:
        check_output(str(tmp_path / name))
    assert str(caught.value) == f"`{tmp_path / name}{message}"


def test_what_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    for name in ("file", "new"):
        check_output(str(tmp_path / name))
    check_output(None)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/model"])
def test_a_model_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(InputError, match=f"`{name}` is not a folder with a model"):
        load_model(name)


def test_a_mistyped_folder_is_not_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    def asked(name: str, **options: Any) -> NoReturn:
        raise OSError("the Hub was asked")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", asked)
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    with pytest.raises(InputError, match="^`runs/nothing` is not a folder with a model"):
        load_model("runs/nothing", device="cpu")
    with pytest.raises(InputError, match="there is no such folder here, and the Hub was asked"):
        load_model("owner/model", device="cpu")


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder with a model: it has no config"):
        load_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be loaded: ") as caught:
        load_model(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_run_that_has_not_ended_is_told_from_a_model(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-3"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    with pytest.raises(InputError, match=f"has not ended: train on, or .* such as `{checkpoint}`"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(("file", "backend"), [("model.bin", "ctranslate2"), ("encoder.onnx", "onnx")])
def test_an_exported_model_asks_for_its_engine(file: str, backend: str, tmp_path: Path) -> None:
    for name in ("config.json", file):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=f"holds an exported model: add `--backend {backend}`"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("device", ["gpu7", "meta"])
def test_a_device_that_cannot_compute_is_an_error(tmp_path: Path, device: str) -> None:
    with pytest.raises(InputError, match=f"`device` '{device}' cannot be used"):
        load_model(str(tmp_path), device=device)


def corpus_options(folder: Path, size: int) -> Namespace:
    return Namespace(**dict.fromkeys(CORPUS_FILES), output_dir=str(folder), train_size=size)


def test_the_embedded_corpus_is_as_large_as_asked_for(tmp_path: Path) -> None:
    files = corpus_files(corpus_options(tmp_path, 400))
    assert len(list(read_lines(files["train_source"]))) == 400
    source = Path(files["train_source"])
    source.write_text("", encoding="utf-8")
    (tmp_path / "corpus" / "settings.json").unlink()  # as if it had been cut off
    assert corpus_files(corpus_options(tmp_path, 400)) == files
    assert len(list(read_lines(files["train_source"]))) == 400
    with pytest.raises(InputError, match="holds results made otherwise \\(train_size differ"):
        corpus_files(corpus_options(tmp_path, 500))


def test_files_of_ones_own_need_their_languages(tmp_path: Path) -> None:
    languages: dict[str, str | None] = {"source_lang": None, "target_lang": None}
    embedded = Namespace(**vars(corpus_options(tmp_path, 400)), **languages)
    corpus_files(embedded)
    assert (embedded.source_lang, embedded.target_lang) == ("zh", "en")
    given: dict[str, str | None] = dict.fromkeys(CORPUS_FILES, "x")
    own = Namespace(**given | languages | {"source_lang": "en", "train_size": None})
    with pytest.raises(InputError, match="`--target_lang` must be given for files of your own"):
        corpus_files(own)
    own.target_lang = "de"
    assert corpus_files(own) == dict.fromkeys(CORPUS_FILES, "x")
    assert (own.source_lang, own.target_lang) == ("en", "de")


def test_a_size_of_the_embedded_corpus_is_not_for_files_of_ones_own(tmp_path: Path) -> None:
    parser = ArgumentParser()
    add_corpus_options(parser, train_size=400)
    words = [word for name in CORPUS_FILES for word in (f"--{name}", "x")]
    own = parser.parse_args(words)
    assert corpus_files(own) == dict.fromkeys(CORPUS_FILES, "x")
    with pytest.raises(InputError, match="`--train_size` is for the embedded corpus"):
        corpus_files(parser.parse_args([*words, "--train_size", "9"]))
    embedded = parser.parse_args([])
    embedded.output_dir = str(tmp_path)
    corpus_files(embedded)
    assert embedded.train_size == 400 and "embedded_train_size" not in vars(embedded)


def test_standard_output_is_no_file_called_so() -> None:
    with pytest.raises(InputError, match="leave `--output` out for standard output"):
        check_output("-")


@pytest.mark.parametrize("shown", [True, False])
def test_loading_leaves_progress_bars_as_they_are(
    shown: bool, model_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.utils import logging

    monkeypatch.setattr(logging, "_tqdm_active", shown)
    load_model(model_folder, device="cpu")
    assert logging.is_progress_bar_enabled() is shown
