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
    written = json.loads((tmp_path / "jobs.json").read_text("utf-8"))
    results, table = written["figures"], written["table"]
    assert set(results) == {"training", "file"}
    in_bf16 = {"ours, bf16", "marian, bf16"} if multiplies_bfloat16() else set()
    assert set(written["left_out"]) == {"ours, bf16", "marian, bf16"} - in_bf16
    systems = {"ours", "marian in our batches", *in_bf16}
    ratios = {f"{name} / marian" for name in systems} | ({"ours, bf16 / marian, bf16"} if in_bf16 else set())
    assert 0 < results["training"].pop("padding share") < 0.5
    for row in results.values():
        assert set(row) == {"marian", *systems, *ratios}
        for ratio in ratios:
            median, least, most = row[ratio]
            ours, other = ratio.split(" / ")
            assert least == median == most == pytest.approx(row[ours] / row[other])
    assert {len(row) for row in table["rows"]} == {len(table["titles"])}
    assert [row[1] for row in table["rows"] if row[4]] == (["ours, bf16"] * 2 if in_bf16 else [])
    assert (tmp_path / "jobs.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "marian in our batches" in printed and "| training, padding in our batches | ours |" in printed


@pytest.mark.slow
def test_first_translations_of_fresh_interpreters(capsys: pytest.CaptureFixture[str]) -> None:
    threads = ["--threads", str(torch.get_num_threads())]
    assert jobs_speed.main(["--jobs", "start", "--shape", "toy", "--rounds", "1", *threads]) == 0
    assert capsys.readouterr().out.count("| start, starts/s |") == 2
