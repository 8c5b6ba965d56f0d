"""explain, plot-attention, plot-positions, plot-training and the demo's page, as commands."""

import json
from pathlib import Path
from typing import Any

import pytest
from foreign_toy import mbart
from helpers import parallel_sentences

from vanilla_transformer.scripts.cli import main

SOURCE, TARGET = parallel_sentences(1)[0]
PNG = b"\x89PNG\r\n\x1a\n"


def refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1


def test_explain_prints_and_draws(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures"
    words = ["explain", SOURCE, "--target", TARGET, "--model", model_folder, "--figures", str(figures)]
    assert main([*words, "--layer", "2", "--head", "3"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{SOURCE} -> {TARGET}\n")
    assert "Encoder layer 2, self-attention: head 3 of 4" in shown
    assert shown.splitlines()[-8:] == [str(path) for path in sorted(figures.iterdir())]
    refused([*words, "--layer", "9"], "`layer` must be at most 2, but is 9 instead.", capsys)
    refused(["explain", " ", "--model", model_folder], "`source` must be a sentence", capsys)
    alone = ["explain", SOURCE, "--model", model_folder, "--format", "svg"]
    refused(alone, "`--format` goes together with `--figures`", capsys)
    refused(["explain", "x", "--model", str(figures)], "is not a folder with a model", capsys)


def test_explain_draws_in_the_format_asked_for(model_folder: str, tmp_path: Path) -> None:
    words = ["explain", SOURCE, "--target", TARGET, "--model", model_folder, "--format", "svg"]
    assert main([*words, "--figures", str(tmp_path / "figures")]) == 0
    pictures = list((tmp_path / "figures").iterdir())
    assert len(pictures) == 8
    assert all(picture.suffix == ".svg" and b"<svg" in picture.read_bytes() for picture in pictures)


@pytest.mark.parametrize("kind", ["encoder", "cross", "alignment"])
def test_plot_attention(
    kind: str, model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "attention.svg"
    words = ["plot-attention", SOURCE, "--target", TARGET, "--model", model_folder, "--kind", kind]
    assert main([*words, "--output", str(picture)]) == 0
    assert capsys.readouterr().out == f"{picture}\n"
    assert b"<svg" in picture.read_bytes()
    refused([*words, "--output", str(tmp_path / "x.gif")], "must be a .png or .svg", capsys)
    if kind == "alignment":
        refused([*words, "--head", "1"], "`--head` does not go with alignment", capsys)
    refused([*words, "--layer", "7"], "there are 2 of `layer`, but number 7 is asked for", capsys)


def test_plot_chosen_heads(model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "heads.png"
    words = ["plot-attention", SOURCE, "--target", TARGET, "--model", model_folder, "--output", str(picture)]
    assert main([*words, "--heads", "1.2", "2.4"]) == 0
    assert picture.read_bytes().startswith(PNG)
    refused([*words, "--heads", "1.2", "--layer", "1"], "`--heads` goes without `--layer`", capsys)
    refused([*words, "--heads", "1.9"], "there are 4 of `head`, but number 9 is asked for", capsys)
    with pytest.raises(SystemExit):
        main([*words, "--heads", "0.1"])
    assert "must be a layer and a head such as 2.1, but is '0.1' instead" in capsys.readouterr().err


def test_plot_positions(model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "positions.png"
    for shape in (["--d_model", "6", "--layout", "split"], ["--model", model_folder]):
        assert main(["plot-positions", *shape, "--positions", "9", "--output", str(picture)]) == 0
        assert picture.read_bytes().startswith(PNG)
        picture.unlink()
    capsys.readouterr()
    refused(["plot-positions", "--d_model", "7"], "`d_model` must be even", capsys)
    both = ["plot-positions", "--model", model_folder, "--layout", "split"]
    refused(both, "`--d_model` and `--layout` are for positions without `--model`", capsys)


def test_plot_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history: list[dict[str, Any]] = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "eval_bleu": 9.0}]
    run = tmp_path / "run"
    run.mkdir()
    words = ["plot-training", str(run), "--output", str(tmp_path / "curves.svg")]
    refused(words, "holds no whole checkpoint", capsys)
    (run / "trainer_state.json").write_text(json.dumps({"log_history": history, "global_step": 2}))
    assert main(words) == 0
    assert b"<svg" in (tmp_path / "curves.svg").read_bytes()


def test_the_page_needs_a_model_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(["demo", str(tmp_path / "nowhere")], "is not a folder with a model", capsys)


def test_the_page_has_a_port_that_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", "model", "--port", "99999"])
    assert "must be at most 65535, but is 99999 instead" in capsys.readouterr().err


def test_the_page_is_served_as_the_options_say(model_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}

    class App:
        def launch(self, **options: Any) -> None:
            made["launched"] = options

    def build_app(model: Any, tokenizer: Any, **options: Any) -> App:
        made["parameters"], made["built"] = model.num_parameters(), options
        return App()

    monkeypatch.setattr("vanilla_transformer.inspection.app.build_app", build_app)
    options = ["--device", "cpu", "--host", "0.0.0.0", "--port", "7999", "--open"]
    assert main(["demo", model_folder, *options, "--example", "w1 w2", "--example", "w3"]) == 0
    launched = {"server_name": "0.0.0.0", "server_port": 7999, "inbrowser": True, "share": False}
    assert made["launched"] == launched
    assert made["built"]["examples"] == ["w1 w2", "w3"]
    assert made["parameters"] > 0
    assert main(["demo", model_folder, "--device", "cpu"]) == 0
    assert made["launched"]["server_name"] == "127.0.0.1"  # nobody else sees it unless asked for


def test_the_page_needs_gradio(
    model_folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gradio", None)
    refused(["demo", model_folder], "pip install '.[demo]'", capsys)


def test_a_model_of_another_kind_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = mbart()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    capsys.readouterr()
    refused(["demo", str(tmp_path)], "is a `mbart`, not a `vanilla_transformer`", capsys)
    refused(["plot-positions", "--model", str(tmp_path)], "has no positional encodings that can", capsys)
    out = ["--output", str(tmp_path / "out")]
    refused(["convert", "--to", "marian", str(tmp_path), *out], "is not a model of ours, but of type", capsys)
    for command in ("explain", "plot-attention"):
        assert main([command, "a b", "--model", str(tmp_path)]) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("error: ") and shown.count("\n") == 1
