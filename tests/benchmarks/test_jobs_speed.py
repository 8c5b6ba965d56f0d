"""Whole jobs at toy size: each system does its work, and the ratios are reported."""

import json
from pathlib import Path

import pytest
import torch
from helpers import load_benchmark

jobs_speed = load_benchmark("jobs_speed")
MARIANS = {"marian", "marian in our batches"}
PEERS = {"training": MARIANS, "file": MARIANS, "start": {"marian"}}


def test_jobs_in_this_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--shape", "toy", "--pairs", "24", "--lines", "20", "--rounds", "1"]
    sizes += ["--threads", str(torch.get_num_threads())]
    words = [*sizes, "--json", str(tmp_path / "jobs.json"), "--figure", str(tmp_path / "jobs.png")]
    assert jobs_speed.main(["--jobs", "training", "file", *words]) == 0
    results = json.loads((tmp_path / "jobs.json").read_text("utf-8"))["figures"]
    assert set(results) == {"training", "file"}
    for job, row in results.items():
        assert set(row) == {"ours", *PEERS[job], *(f"ours / {peer}" for peer in PEERS[job])}
        for peer in PEERS[job]:
            median, least, most = row[f"ours / {peer}"]
            assert least == median == most == pytest.approx(row["ours"] / row[peer])
    assert (tmp_path / "jobs.png").read_bytes().startswith(b"\x89PNG")
    assert "marian in our batches" in capsys.readouterr().out


@pytest.mark.slow
def test_first_translations_of_fresh_interpreters(capsys: pytest.CaptureFixture[str]) -> None:
    threads = ["--threads", str(torch.get_num_threads())]
    assert jobs_speed.main(["--jobs", "start", "--shape", "toy", "--rounds", "1", *threads]) == 0
    assert capsys.readouterr().out.count("| start, starts/s |") == 2
