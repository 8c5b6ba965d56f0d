"""`vanilla-transformer`: the list of commands, dispatch, and names that are almost right."""

import importlib
import sys
from typing import TextIO

import pytest

from vanilla_transformer.scripts import cli
from vanilla_transformer.training.reports import command_line


def test_alone_it_lists_every_command_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: vanilla-transformer <command>")
    for command, (_, summary) in cli.COMMANDS.items():
        assert [line.split() for line in shown.splitlines() if line.startswith(f"  {command} ")] == [
            [command, *summary.split()]
        ]


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
def test_help_is_the_same_list(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert cli.main([word]) == 0
    assert capsys.readouterr().out == cli.overview() + "\n"


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    import vanilla_transformer

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vanilla-transformer {vanilla_transformer.__version__}\n"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("trian", "did you mean 'train'?"),
        ("average", "the commands are demo, train"),
        ("recipe", "'recipes'?"),
    ],
)
def test_an_unknown_command_names_the_closest(
    capsys: pytest.CaptureFixture[str], word: str, hint: str
) -> None:
    assert cli.main([word]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: unknown command '{word}'; ")
    assert hint in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself_under_its_own_name(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["vanilla-transformer"])
    try:
        status = cli.main([command, "--help"])
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    shown = capsys.readouterr().out
    assert status == 0
    assert shown.startswith(f"usage: vanilla-transformer {command} ")
    described = importlib.import_module(f"vanilla_transformer.scripts.{cli.COMMANDS[command][0]}").__doc__
    assert described
    assert described.splitlines()[0] in shown


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["recipes", "--help"]])
def test_a_reader_that_goes_away_is_no_error(
    words: list[str], unread_stream: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", unread_stream)
    assert cli.main(words) == 141
    unread_stream.flush()  # as Python does at exit


def test_underscores_are_taken_for_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["average_checkpoints", "--help"])
    assert stopped.value.code == 0
    assert "--best K" in capsys.readouterr().out


def test_a_report_tells_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/vanilla-transformer", "average_checkpoints", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert command_line() == "vanilla-transformer average-checkpoints --help"
