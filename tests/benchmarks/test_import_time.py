"""Start-up: each import is run as often as asked, and the ratios are those of a round."""

import json
from pathlib import Path

import pytest
from helpers import load_benchmark

import_time = load_benchmark("import_time")


def test_times_of_stand_ins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marian's import takes 4 seconds, and 2 of the processor; the others a half of it and a quarter."""
    wall = dict(zip(import_time.IMPORTS.values(), (1.0, 2.0, 4.0), strict=True))
    run: list[str] = []

    def seconds_to_run(statement: str) -> tuple[float, float]:
        run.append(statement)
        return wall[statement], wall[statement] / 2

    monkeypatch.setattr(import_time, "seconds_to_run", seconds_to_run)
    assert import_time.main(["--rounds", "1", "--json", str(tmp_path / "time.json")]) == 0
    assert run == [*wall, *wall]
    figures = json.loads((tmp_path / "time.json").read_text("utf-8"))["figures"]
    assert [row["seconds"] for row in figures] == [1.0, 2.0, 4.0, 0.5, 1.0, 2.0]
    assert [row["ratio"] for row in figures] == 2 * [[0.25] * 3, [0.5] * 3, [1.0] * 3]
    assert "| import vanilla_transformer | 1.00 wall | 0.25 (0.25-0.25) |" in capsys.readouterr().out


def test_a_statement_runs_in_an_interpreter_of_its_own(tmp_path: Path) -> None:
    wall, used = import_time.seconds_to_run(f"open({str(tmp_path / 'run')!r}, 'w')")
    assert (tmp_path / "run").is_file()
    assert wall > 0 and used > 0


@pytest.mark.parametrize("statement", import_time.IMPORTS.values())
def test_what_is_imported_is_there(statement: str) -> None:
    exec(statement, {})
