"""Whole jobs at toy size: each system does its work, and the ratios are reported."""

import json
from pathlib import Path

import pytest
import torch
from helpers import load_benchmark

from vanilla_transformer.modeling.modules_vanilla_transformer import multiplies_bfloat16

jobs_speed = load_benchmark("jobs_speed")


def test_jobs_in_this_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--shape", "toy", "--pairs", "24", "--lines", "20", "--rounds", "1"]
    sizes += ["--threads", str(torch.get_num_threads())]
    words = [*sizes, "--json", str(tmp_path / "jobs.json"), "--figure", str(tmp_path / "jobs.png")]
    assert jobs_speed.main(["--jobs", "training", "file", *words]) == 0
    results = json.loads((tmp_path / "jobs.json").read_text("utf-8"))["figures"]
    assert set(results) == {"training", "file"}
    systems = {"ours", "marian in our batches", *(["ours, bf16"] if multiplies_bfloat16() else [])}
    for row in results.values():
        assert set(row) == {"marian", *systems, *(f"{name} / marian" for name in systems)}
        for name in systems:
            median, least, most = row[f"{name} / marian"]
            assert least == median == most == pytest.approx(row[name] / row["marian"])
    assert (tmp_path / "jobs.png").read_bytes().startswith(b"\x89PNG")
    assert "marian in our batches" in capsys.readouterr().out


@pytest.mark.slow
def test_first_translations_of_fresh_interpreters(capsys: pytest.CaptureFixture[str]) -> None:
    threads = ["--threads", str(torch.get_num_threads())]
    assert jobs_speed.main(["--jobs", "start", "--shape", "toy", "--rounds", "1", *threads]) == 0
    assert capsys.readouterr().out.count("| start, starts/s |") == 2
