"""Growth at toy size: every axis has its curves, and attention that holds all scores grows faster."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import load_benchmark

growth = load_benchmark("growth")


def run(folder: Path, *words: str) -> dict[str, Any]:
    """The axes of the results file of a run at toy size."""
    sizes = ["--shape", "toy", "--quick", "--threads", str(torch.get_num_threads())]
    files = ["--json", str(folder / "growth.json"), "--figure", str(folder / "growth.png")]
    assert growth.main([*words, *sizes, *files]) == 0
    assert (folder / "growth.png").read_bytes().startswith(b"\x89PNG")
    results: dict[str, Any] = json.loads((folder / "growth.json").read_text("utf-8"))
    assert {row[1] for row in results["table"]["rows"]} == {
        name for axis in results["axes"].values() for name in axis["curves"]
    }
    axes: dict[str, Any] = results["axes"]
    return axes


def test_costs_of_both_models_on_each_axis(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "STEP_TOKENS", 200)
    fewer = {name: replace(axis, quick=axis.quick[:2]) for name, axis in growth.AXES.items()}
    monkeypatch.setattr(growth, "AXES", fewer)
    axes = run(tmp_path, "--axes", "length", "batch", "vocabulary", "depth")
    assert list(axes) == ["length", "batch", "vocabulary", "depth"]
    for name, axis in axes.items():
        assert axis["values"] == list(growth.AXES[name].quick)
        assert axis["curves"].keys() == axis["exponents"].keys() == {"ours", "marian"}
        for place in range(len(axis["values"])):
            ours, theirs = (axis["curves"][model][place] for model in ("ours", "marian"))
            ratios = [axis["ratios"][kind][place] for kind in ("least", "median", "greatest")]
            assert ratios == [pytest.approx(ours / theirs)] * 3
    assert capsys.readouterr().out.count("ours / marian") == 4


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peaks of memory are read from /proc, which is of Linux"
)


@needs_proc
def test_memory_grows_in_proportion_with_sdpa_and_with_the_square_with_eager(tmp_path: Path) -> None:
    values = ["--values", "1000", "2000", "4000"]
    memory = run(tmp_path, "--axes", "memory", "--systems", "ours", *values)["memory"]
    assert memory["values"] == [1000, 2000, 4000]
    assert memory["curves"].keys() == {"ours, sdpa", "ours, eager"}
    assert memory["exponents"]["ours, sdpa"] < 1.4 < 1.6 < memory["exponents"]["ours, eager"]
    # Scores of two sentences and two heads, four bytes each.
    assert memory["curves"]["ours, eager"][-1] > 4 * 4 * 4000**2 / 2**20


@needs_proc
@pytest.mark.slow
def test_files_are_translated(tmp_path: Path) -> None:
    lines = run(tmp_path, "--axes", "lines", "--values", "50", "100")["lines"]
    (peaks,) = lines["curves"].values()
    assert all(peak > 50 for peak in peaks)


def test_what_an_axis_changes() -> None:
    assert growth.point_on("length", 1000) == growth.Point(length=1000, batch=4)
    assert growth.point_on("length", 5000) == growth.Point(length=5000, batch=1)
    assert growth.point_on("depth", 7) == growth.Point(depth=7)


def test_exponents_of_powers() -> None:
    values = [1, 10, 20, 40]
    assert growth.exponent(values, [99.0, *(3 * value**1.5 for value in values[1:])]) == pytest.approx(1.5)
    assert growth.exponent(values, [5.0] * 4) == pytest.approx(0)
    assert math.isnan(growth.exponent([10], [5.0]))


def test_values_belong_to_one_axis(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        growth.main(["--values", "10"])
    assert stopped.value.code == 2
    assert "--values needs --axes with one axis." in capsys.readouterr().err


def test_memory_is_left_out_where_the_system_does_not_tell_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("side_by_side.PROCESS_STATUS", tmp_path / "status")
    monkeypatch.setattr(growth, "measure", lambda axis, arguments: {"axis": axis})
    written: dict[str, Any] = {}
    monkeypatch.setattr(growth, "report", written.update)
    assert growth.main(["--axes", "depth", "memory", "lines"]) == 0
    assert written == {"depth": {"axis": "depth"}}
    assert "left out: lines, as this system has no" in capsys.readouterr().err
    assert growth.main(["--axes", "memory"]) == 2
    assert "none of `--axes` can be measured here." in capsys.readouterr().err
    assert not growth.reads_memory("memory", "cuda") and growth.reads_memory("lines", "cuda")
