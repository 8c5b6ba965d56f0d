"""The translate script: where sentences come from, where translations go, and what stops it."""

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from subprocess import PIPE
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from foreign_toy import mbart
from helpers import parallel_sentences

from vanilla_transformer import HalfWeightsConfig, InputError, VanillaTransformerTokenizer, pipeline
from vanilla_transformer.modeling import translation_vanilla_transformer
from vanilla_transformer.modeling.half_weights import HalfWeightsLinear, half_weights_run_here
from vanilla_transformer.modeling.translation_vanilla_transformer import WINDOW
from vanilla_transformer.modeling.translation_vanilla_transformer import translate as translate_in_python
from vanilla_transformer.scripts import explain_model, plot_attention, translate
from vanilla_transformer.scripts.support.lines import PartialFile
from vanilla_transformer.scripts.support.models import load_model, load_translator

SENTENCES = [source for source, _ in parallel_sentences(9)]
OPTIONS = ["--num_beams", "1", "--max_length", "6"]


@pytest.fixture
def expected(model_folder: str) -> list[str]:
    """The translations of SENTENCES that the Python function gives."""
    model, tokenizer = load_model(model_folder, device="cpu")
    return list(translate_in_python(model, tokenizer, SENTENCES, num_beams=1, max_length=6))


def run(model_folder: str, *words: str) -> int:
    return translate.main(["--model", model_folder, "--device", "cpu", *OPTIONS, *words])


def test_sentences_as_arguments(
    model_folder: str, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model_folder, *SENTENCES) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == expected
    assert shown.err == ""


def test_several_translations_of_each_sentence_as_json(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = load_model(model_folder, device="cpu")
    pipe = pipeline("translation", model, tokenizer, device="cpu", max_length=6, num_beams=3)
    words = ["--num_beams", "3", "--n_best", "2", *SENTENCES[:2], ""]
    assert run(model_folder, *words) == 0
    expected = pipe([*SENTENCES[:2], ""], num_return_sequences=2)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == expected
    assert run(model_folder, "--alignment", SENTENCES[0], "--output", str(tmp_path / "out")) == 0
    (shown,) = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    (aligned,) = pipe(SENTENCES[0], num_beams=1, return_alignment=True, return_scores=True)
    assert [shown[0][name] for name in aligned] == [
        [list(pair) for pair in value] if name == "alignment" else value for name, value in aligned.items()
    ]
    assert run(model_folder, "--json", SENTENCES[0]) == 0
    (plain,) = json.loads(capsys.readouterr().out)
    assert plain == {name: aligned[name] for name in ("translation_text", "score")}


def test_translations_may_be_drawn(model_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown: dict[str, Any] = {}
    for seed in ("1", "1", "2"):
        words = ["--model", model_folder, "--device", "cpu", "--max_length", "9", "--do_sample"]
        assert translate.main([*words, "--seed", seed, "--n_best", "3", *SENTENCES]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert shown.setdefault(seed, lines) == lines
    assert shown["1"] != shown["2"]
    assert len({one["translation_text"] for one in shown["1"][0]}) > 1
    # One token to draw from is greedy search.
    assert run(model_folder, "--do_sample", "--top_k", "1", SENTENCES[0]) == 0
    drawn = capsys.readouterr().out
    assert run(model_folder, SENTENCES[0]) == 0
    assert capsys.readouterr().out == drawn


def test_the_languages_of_a_model_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = mbart()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    words = ["--model", str(tmp_path), "--device", "cpu", "--max_length", "6", "--num_beams", "1", "a b"]
    shown = {}
    for source, target in (("en_XX", "fr_XX"), ("fr_XX", "en_XX")):
        options = ["--json", "--alignment", "--src_lang", source, "--tgt_lang", target]
        assert translate.main([*words, *options]) == 0
        shown[target] = json.loads(capsys.readouterr().out)[0]
        assert shown[target]["source_tokens"][0] == source
        assert shown[target]["target_tokens"][0] == target
    assert translate.main([*words, "--tgt_lang", "xx"]) == 2
    message = (
        "error: `tgt_lang` must be a language of the tokenizer, but MBart50Tokenizer does not know 'xx'."
    )
    assert capsys.readouterr().err.strip() == message


def test_weights_are_loaded_in_bfloat16(model_folder: str) -> None:
    words = ["--model", model_folder, "--device", "cpu", "--dtype", "bfloat16"]
    assert load_translator(translate.parser().parse_args(words))[0].dtype == torch.bfloat16
    assert run(model_folder, "--dtype", "bfloat16", *SENTENCES) == 0


@pytest.mark.skipif(not half_weights_run_here(), reason="this PyTorch has no kernels for them")
def test_float16_on_a_cpu_is_of_weights_alone(model_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    half = HalfWeightsConfig()
    model, tokenizer = load_model(model_folder, device="cpu", quantization_config=half)
    assert run(model_folder, "--dtype", "float16", *SENTENCES) == 0
    expected = list(translate_in_python(model, tokenizer, SENTENCES, num_beams=1, max_length=6))
    assert capsys.readouterr().out.splitlines() == expected
    args = translate.parser().parse_args(["--model", model_folder, "--device", "cpu", "--dtype", "float16"])
    loaded, _ = load_translator(args)
    assert type(loaded.lm_head) is HalfWeightsLinear


def test_files_in_their_order_with_empty_lines(
    model_folder: str, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text("\n".join(SENTENCES[:4]) + "\n\n \n")
    (tmp_path / "b").write_text("\n".join(SENTENCES[4:]))
    assert run(model_folder, "--input", str(tmp_path / "a"), str(tmp_path / "b")) == 0
    assert capsys.readouterr().out.split("\n") == [*expected[:4], "", "", *expected[4:], ""]


def test_standard_input_to_a_file(
    model_folder: str,
    expected: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(SENTENCES).encode())))
    assert run(model_folder, "--output", str(tmp_path / "out")) == 0
    assert (tmp_path / "out").read_text().splitlines() == expected
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{len(SENTENCES)} sentences" in shown.err


def test_a_named_pipe_is_read_once(
    model_folder: str, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("\n".join(SENTENCES),))
    writer.start()
    assert run(model_folder, "--input", str(pipe)) == 0
    writer.join()
    assert capsys.readouterr().out.splitlines() == expected


def test_a_terminal_is_answered_line_by_line(
    model_folder: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.BytesIO):
        """Standard input that notes how much was answered before each line was read."""

        answered: ClassVar[list[int]] = []

        def __next__(self) -> bytes:
            self.answered.append(capsys.readouterr().out.count("\n"))
            return super().__next__()

    stdin = io.TextIOWrapper(Terminal("".join(f"{line}\n" for line in SENTENCES[:3]).encode()))
    monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run(model_folder) == 0
    assert Terminal.answered == [0, 1, 1, 1]


def test_progress_is_shown_for_long_input(
    model_folder: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "a").write_text("\n".join(SENTENCES))
    monkeypatch.setattr(translate, "LONG_INPUT", 9)
    assert run(model_folder, "--input", str(tmp_path / "a")) == 0
    shown = capsys.readouterr()
    assert "9/9" in shown.err
    assert len(shown.out.splitlines()) == 9


def test_no_line_end_gets_into_the_output(
    model_folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vanilla_transformer.modeling import translation_vanilla_transformer as translation

    found = [[translation.Translation(text)] for text in ("a\nb", "c\r\nd")]
    monkeypatch.setattr(translation, "translations", lambda *_, **__: iter(found))
    assert run(model_folder, "x", "y") == 0
    assert capsys.readouterr().out == "a b\nc d\n"


def test_broken_utf8_is_told_before_anything_is_written(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_bytes(b"w1\nw\xff\n")
    assert run(model_folder, "--input", str(tmp_path / "a"), "--output", str(tmp_path / "out")) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: `")
    assert "a` must be UTF-8, but line 2 is not" in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input", "nowhere.txt"], "error: `nowhere.txt` does not exist."),
        (["w1", "--input", "x"], "error: give sentences as arguments or `--input`, not both."),
        (["w1", "--device", "gpu9"], "error: `device` 'gpu9' cannot be used"),
        (["w1", "--device", "meta"], "error: `device` 'meta' cannot be used"),
        (["w1", "--output", "no/such/folder/out"], "`no/such/folder/out` cannot be written: No such file or"),
        (["w1", "--output", "out.gz"], "error: `out.gz` must not end in .gz"),
        (["w1", "--output", "."], "error: `.` is a folder, not a file."),
        (["w1", "--top_k", "2"], "error: `--top_k` goes together with `--do_sample`."),
        (["w1", "--n_best", "2"], "error: `--n_best` must be at most the beams of the search, 1, but is 2"),
        (["w1", "--src_lang", "en"], "error: `src_lang` must be a language of the tokenizer"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    model_folder: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model_folder, *words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert message in shown
    assert shown.count("\n") == 1


def test_a_folder_as_output_is_told_before_the_model_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("./no such model", "w1", "--output", ".") == 2
    assert "is a folder" in capsys.readouterr().err


def test_an_output_that_is_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for path in files:
        path.write_text("w1\n")
    assert run("./no such model", "--input", *map(str, files), "--output", str(files[1])) == 2
    message = f"error: `--output` must not write over a file that is read, but would over `{files[1]}`.\n"
    assert capsys.readouterr().err == message
    assert files[1].read_text() == "w1\n"


def test_a_pipe_as_output_is_written_and_stays(
    model_folder: str, expected: list[str], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert run(model_folder, *SENTENCES, "--output", str(tmp_path / "pipe")) == 0
    assert os.read(reader, 1 << 16).decode().splitlines() == expected
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    assert not list(tmp_path.glob("*.partial*"))


@pytest.mark.parametrize(
    "words",
    [
        ["--num_beams", "0"],
        ["--tokens_per_batch", "x"],
        ["--dtype", "int8"],
        ["--max_length", "0"],
        ["--max_length", "1"],
        ["--temperature", "0"],
        ["--temperature", "inf"],
    ],
)
def test_options_out_of_range(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        translate.main(["--model", "m", "w1", *words])
    assert stopped.value.code == 2
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize("script", [translate, explain_model, plot_attention])
def test_a_sentence_that_is_not_utf8(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        script.main(["--model", "m", os.fsdecode(b"caf\xe9")])
    assert stopped.value.code == 2
    assert "must be UTF-8, but is 'caf\\udce9' instead.\n" in capsys.readouterr().err


def test_without_standard_input_there_is_nothing_to_translate(
    model_folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as after `<&-`
    assert run(model_folder) == 0
    sys.stdin.close()
    assert capsys.readouterr().out == ""


def test_a_damaged_model_is_one_line(model_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    weights = Path(model_folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    assert run(model_folder, "w1") == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: `{model_folder}` cannot be loaded: ")
    assert shown.count("\n") == 1


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes windows of two sentences, and the translation stop, as if by Ctrl-C, behind so many lines."""
    from vanilla_transformer.modeling import translation_vanilla_transformer as translation

    translate_all = translation.translations
    monkeypatch.setattr(translation, "WINDOW", 2)

    def stop_behind(lines: int) -> None:
        def stopped(*args: Any, **options: Any) -> Iterator[list[Any]]:
            yield from islice(translate_all(*args, **options), lines)
            raise KeyboardInterrupt

        monkeypatch.setattr(translation, "translations", stopped if lines else translate_all)

    return stop_behind


def test_an_interrupted_run_goes_on_where_it_stopped(
    model_folder: str,
    expected: list[str],
    tmp_path: Path,
    stopping: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Twice interrupted: after line 5, of which 4 are whole windows, and after 2 more."""
    (tmp_path / "in").write_text("\n".join(SENTENCES) + "\n")
    command = [model_folder, "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    for lines, before in ((5, 0), (2, 4)):
        stopping(lines)
        assert run(*command) == 130
        assert not (tmp_path / "out").exists()
        assert ("going on" in capsys.readouterr().err) is bool(before)
    with (tmp_path / "out.partial").open("a") as file:
        file.write("half a li")
    stopping(0)
    assert run(*command) == 0
    assert "going on after line 6\n" in capsys.readouterr().err
    assert (tmp_path / "out").read_text().splitlines() == expected
    assert not list(tmp_path.glob("*out.*"))


def test_an_output_beside_the_model_is_not_of_the_model(
    model_folder: str, expected: list[str], tmp_path: Path, stopping: Callable[[int], None]
) -> None:
    (tmp_path / "in").write_text("\n".join(SENTENCES))
    output = Path(model_folder, "translations.en")
    command = [model_folder, "--input", str(tmp_path / "in"), "--output", str(output)]
    stopping(4)
    assert run(*command) == 130
    assert {path.name for path in output.parent.glob("*partial*")} == {
        f"{output.name}.partial{end}" for end in ("", ".json")
    }
    stopping(0)
    assert run(*command) == 0
    assert output.read_text().splitlines() == expected


def test_what_decides_the_translations_is_known_by_name(model_folder: str, tmp_path: Path) -> None:
    """All that transformers saved, and no file of a training or of a translation."""
    named = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    others = ["recipe.yaml", "results.json", "out.en.partial", "out.en.partial.json", "training_curves.png"]
    for name in others:
        Path(model_folder, name).touch()
    found = {path.name for path in translate.model_files(model_folder)}
    assert found == named | {"tokenizer_config.json"}
    engines = """model.bin shared_vocabulary.json source_vocabulary.txt encoder.onnx decoder.onnx.data
        decoder_model.onnx_data adapter_model.safetensors adapter_config.json source.spm target_vocab.json
        model-00001-of-00002.safetensors model.safetensors.index.json vocab-src.json merges.txt vocab.txt
        spiece.model sentencepiece.bpe.model special_tokens_map.json added_tokens.json pytorch_model.bin"""
    (tmp_path / "all").mkdir()
    for name in engines.split():
        (tmp_path / "all" / name).touch()
    assert [path.name for path in translate.model_files(str(tmp_path / "all"))] == sorted(engines.split())


def test_long_lines_are_split_or_cut_where_that_is_asked_for(
    model_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"{SENTENCES[0]} . {SENTENCES[1]} ."
    found = {}
    for words in ([], ["--long_sentences", "split"], ["--long_sentences", "truncate"]):
        length = ["--max_source_length", "9"] if words else []
        assert run(model_folder, line, *words, *length, "--num_beams", "1", "--max_length", "9") == 0
        found[words[-1] if words else "whole"] = capsys.readouterr().out
    model, tokenizer = load_model(model_folder)
    options: dict[str, Any] = {"num_beams": 1, "max_length": 9, "max_source_length": 9}
    for name in ("split", "truncate"):
        expected = translate_in_python(model, tokenizer, [line], long_sentences=name, **options)
        assert found[name] == "".join(f"{one}\n" for one in expected)
    assert len(set(found.values())) == 3
    assert run(model_folder, line, "--long_sentences", "split") == 2
    assert "needs `--max_source_length`: this model takes sources of any length" in capsys.readouterr().err
    assert run(model_folder, line, "--max_source_length", "9") == 2
    assert "needs `--long_sentences`" in capsys.readouterr().err
    assert run(model_folder, line, "--alignment", "--long_sentences", "split") == 2
    assert "not available with `--long_sentences split`" in capsys.readouterr().err


def test_two_processes_do_not_write_one_file(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_text("\n".join(SENTENCES))
    command = [model_folder, "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    first = PartialFile(str(tmp_path / "out"), {"search": "of the first"}, step=2)
    assert run(*command) == 2
    assert f"another process is writing `{tmp_path / 'out'}`" in capsys.readouterr().err
    first.write(["one", "two"])
    assert (tmp_path / "out").read_text() == "one\ntwo\n"
    assert run(*command) == 0
    assert not list(tmp_path.glob("*partial*"))


def test_lines_that_are_read_once_are_kept_when_something_goes_wrong(
    model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody can go on with them, but they are there to be read, until they are deleted."""
    output, partial = tmp_path / "out", tmp_path / "out.partial"
    monkeypatch.setattr(translation_vanilla_transformer, "WINDOW", 2)

    def translated(ending: bytes) -> tuple[int, str]:
        text = "".join(f"{line}\n" for line in SENTENCES[:4]).encode() + ending
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        status = run(model_folder, "--output", str(output))
        return status, capsys.readouterr().err

    status, shown = translated(b"\xff\n")
    assert (status, output.exists()) == (2, False)
    assert f"the lines so far are in {partial}\n" in shown and "line 5 is not" in shown
    kept = partial.read_text()
    for status, shown in (translated(b""), translated(b"")):
        assert status == 2 and f"`{partial}` is in the way: delete it" in shown
    assert partial.read_text() == kept
    partial.unlink()
    assert translated(b"")[0] == 0
    assert output.read_text() == kept and kept.count("\n") == 4
    assert not list(tmp_path.glob("*partial*"))


@pytest.mark.parametrize("name", ["out.partial", "out.partial.json"])
def test_what_grows_beside_the_output_is_not_what_is_read(
    name: str, model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("\n".join(SENTENCES))
    assert run(model_folder, "--input", str(tmp_path / name), "--output", str(tmp_path / "out")) == 2
    assert f"would over `{tmp_path / name}`" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "\n".join(SENTENCES)


def test_a_partial_file_that_nobody_noted_is_left_alone(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_text("\n".join(SENTENCES))
    (tmp_path / "out.partial").write_text("something else\n")
    assert run(model_folder, "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")) == 2
    assert "out.partial` is in the way: delete it" in capsys.readouterr().err
    assert (tmp_path / "out.partial").read_text() == "something else\n"


def test_a_reader_that_goes_away_while_the_writer_is_silent_is_no_error(model_folder: str) -> None:
    """A thread then waits for standard input, in which Python must not wait for it at exit."""
    lines = b"w1 w2\n" * (WINDOW + 10)
    command = [sys.executable, "-m", "vanilla_transformer.scripts.translate", "--model", model_folder]
    # The JSON of a window is more than a pipe holds.
    command += ["--device", "cpu", "--num_beams", "1", "--max_length", "3", "--json"]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(lines)
        process.stdin.flush()  # and no end comes
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=120) == 141, process.stderr.read()
        process.stdin.close()


def test_what_is_drawn_is_said_in_full_and_its_options_go_with_it() -> None:
    def options(*words: str) -> dict[str, Any]:
        return translate.search_options(translate.parser().parse_args(["--model", "m", "x", *words]))

    drawn = {"do_sample": True, "num_beams": 1, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
    assert options("--do_sample") == drawn
    assert options("--do_sample", "--top_k", "9", "--temperature", "0.5", "--num_beams", "2") == drawn | {
        "top_k": 9, "temperature": 0.5, "num_beams": 2,
    }  # fmt: skip
    assert options("--num_beams", "2") == {"num_beams": 2}
    for words in (["--seed", "3"], ["--top_k", "9"], ["--temperature", "0.5"]):
        with pytest.raises(InputError, match=f"`{words[0]}` goes together with `--do_sample`"):
            options(*words)


def test_a_job_that_wrote_no_line_is_in_nobodys_way(model_folder: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("\n".join(SENTENCES))
    (tmp_path / "out.partial").write_text("half a line")
    (tmp_path / "out.partial.json").write_text('{"search": "another", "resumable": true}')
    assert run(model_folder, "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")) == 0
    assert len((tmp_path / "out").read_text().splitlines()) == len(SENTENCES)


def test_another_job_does_not_go_on_with_the_lines_of_the_first(
    model_folder: str,
    tmp_path: Path,
    stopping: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "in").write_text("\n".join(SENTENCES))
    command = [model_folder, "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    stopping(4)
    assert run(*command) == 130
    stopping(0)
    capsys.readouterr()
    assert run(*command, "--length_penalty", "2") == 2
    assert "out.partial` is of another job (length_penalty differ)" in capsys.readouterr().err
    (tmp_path / "in").write_text("\n".join(SENTENCES[::-1]))
    with (Path(model_folder) / "generation_config.json").open("a") as file:
        file.write("\n")
    assert run(*command) == 2
    assert "(model, sources differ): delete it, or give another `--output`.\n" in capsys.readouterr().err
    (tmp_path / "out.partial").unlink()
    assert run(*command) == 0
    assert len((tmp_path / "out").read_text().splitlines()) == len(SENTENCES)


def test_files_are_translated_without_what_training_needs(model_folder: str, tmp_path: Path) -> None:
    """As after a plain `pip install .`, in a process that has imported nothing yet."""
    absent = [
        "accelerate",
        "datasets",
        "evaluate",
        "matplotlib",
        "peft",
        "pyarrow",
        "sacrebleu",
        "sacremoses",
    ]
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({absent})); "
        "from vanilla_transformer.scripts import translate; sys.exit(translate.main(sys.argv[1:]))"
    )
    (tmp_path / "in").write_text("w1 w2\n", encoding="utf-8")
    words = ["--model", model_folder, "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    subprocess.run([sys.executable, "-c", program, *words], check=True)
    assert (tmp_path / "out").is_file()


def test_a_damaged_note_of_a_partial_file_is_one_line(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_text("w1 w2\n", encoding="utf-8")
    for name, text in (("out.partial", "w1\n"), ("out.partial.json", "{")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    words = ["--model", model_folder, "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert translate.main(words) == 2
    shown = capsys.readouterr().err
    assert "out.partial.json` cannot be read" in shown and "Traceback" not in shown


def test_a_reader_that_goes_away_is_no_error(model_folder: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("w1 w2\n" * (WINDOW + 10))
    script = Path(__file__).resolve().parents[2] / "scripts" / "translate.py"
    command = [sys.executable, str(script), "--model", model_folder, "--device", "cpu"]
    # The JSON of a window is more than a pipe holds.
    command += ["--num_beams", "1", "--max_length", "3", "--json", "--input", str(tmp_path / "a")]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    shown = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=120) == 141, shown
    assert "Traceback" not in shown
    assert "BrokenPipe" not in shown
    assert "error" not in shown


@pytest.mark.parametrize(("words", "window"), [([], "2,048"), (["--alignment"], "128")])
def test_a_block_has_as_many_lines_as_the_readme_says(
    words: list[str], window: str, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def spy(*args: Any, window: int, **options: Any) -> Iterator[list[Any]]:
        asked.append(window)
        return iter(())

    monkeypatch.setattr(translation_vanilla_transformer, "translations", spy)
    (tmp_path / "in").write_text("w1 w2\n")
    files = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert translate.main(["--model", model_folder, *files, *words]) == 0
    assert asked == [int(window.replace(",", ""))]
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
    assert re.search(rf"\b{window} (lines|with `--alignment`)", readme)


def test_no_line_of_the_text_allows_the_code_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers would ask on standard input, which is what is to be translated."""
    parallel = [text for pair in parallel_sentences(9) for text in pair]
    VanillaTransformerTokenizer.train_from_iterator(parallel, vocab_size=300).save_pretrained(tmp_path)
    references = {"AutoConfig": "own.OwnConfig", "AutoModelForSeq2SeqLM": "own.OwnModel"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": references}))
    (tmp_path / "own.py").write_text("raise SystemExit('was run')\n")
    monkeypatch.setattr("builtins.input", lambda *args: pytest.fail("asked"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert translate.main(["--model", str(tmp_path), "--device", "cpu"]) == 2
    assert "contains custom code which must be executed" in capsys.readouterr().err
    with pytest.raises(ValueError, match="trust_remote_code"):
        pipeline("translation", str(tmp_path))
