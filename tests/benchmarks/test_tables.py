"""The tables of a document are those of its results files, and a drift is told."""

from pathlib import Path

import pytest
from helpers import load_benchmark

from vanilla_transformer.training.reports import command_line, machine, write_report

tables = load_benchmark("tables")


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A document with a table that is not filled in yet."""
    write_report(tmp_path / "results" / "one.json", titles=("a", "b"), rows=[["1|2", "3"]], runs=[1])
    path = tmp_path / "README.md"
    path.write_text("before\n\n<!-- table: results/one.json -->\n<!-- end of table -->\n\nafter\n", "utf-8")
    return path


def test_a_table_is_filled_in_and_stays(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(["--check", "--document", str(document)]) == 2
    assert "is not that of its results file" in capsys.readouterr().err
    assert tables.main(["--document", str(document)]) == 0
    assert document.read_text("utf-8") == (
        "before\n\n<!-- table: results/one.json -->\n\n| a | b |\n| --- | --- |\n| 1\\|2 | 3 |\n\n"
        "<!-- end of table -->\n\nafter\n"
    )
    assert tables.main(["--check", "--document", str(document)]) == 0
    document.write_text(document.read_text("utf-8").replace("| 3 |", "| 4 |"), "utf-8")
    assert tables.main(["--check", "--document", str(document)]) == 2


def test_a_file_may_have_several_tables(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {"titles": ["c"], "rows": [["4"]]}
    write_report(document.parent / "results" / "one.json", titles=("a",), rows=[["1"]], trends=other)
    place = "<!-- table: results/one.json#{} -->\n<!-- end of table -->\n"
    document.write_text(place.format("trends"), "utf-8")
    assert tables.main(["--document", str(document)]) == 0
    assert "\n\n| c |\n| --- |\n| 4 |\n\n" in document.read_text("utf-8")
    document.write_text(place.format("others"), "utf-8")
    assert tables.main(["--document", str(document)]) == 2
    assert "one.json` has no others" in capsys.readouterr().err


def test_what_cannot_be_filled_in(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document.write_text("<!-- table: results/two.json -->\n<!-- end of table -->\n", "utf-8")
    assert tables.main(["--document", str(document)]) == 2
    assert "two.json` is missing" in capsys.readouterr().err
    document.write_text("<!-- table: results/one.json -->\n", "utf-8")
    assert tables.main(["--document", str(document)]) == 2
    assert "lacks its line" in capsys.readouterr().err


def test_the_tables_of_the_readme_are_those_of_the_results_files() -> None:
    assert tables.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["benchmarks/table3.py", "--seeds", "1"], "python benchmarks/table3.py --seeds 1"),
        (["/usr/bin/vanilla-transformer lineage", "a b"], "vanilla-transformer lineage 'a b'"),
    ],
)
def test_a_command_is_told_as_one_types_it(
    words: list[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", words)
    assert command_line() == command


def test_figures_of_a_processor_name_it_though_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "some GPU")
    assert machine()["device"] == machine("cuda")["device"] == "some GPU"
    assert machine("cpu")["device"] != "some GPU" and machine("cpu")["threads"]
