"""`generate()` at toy size: all systems write what they are told to, and the ratios are reported."""

import json
from pathlib import Path

import pytest
import torch
from helpers import load_benchmark

from vanilla_transformer.modeling.half_weights import half_weights_run_here
from vanilla_transformer.modeling.modules_vanilla_transformer import multiplies_bfloat16

generate_speed = load_benchmark("generate_speed")


@pytest.mark.parametrize("ends", ["together", "apart"])
def test_speed_at_toy_size(ends: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--shape", "toy", "--vocabulary", "60", "--batches", "3", "--rounds", "1", "--ends", ends]
    words += ["--systems", "fast", "half", "bf16", "static", "plain", "ct2 int8"]
    words += ["--threads", str(torch.get_num_threads())]
    files = ["--json", str(tmp_path / "speed.json"), "--figure", str(tmp_path / "speed.png")]
    assert generate_speed.main([*words, *files]) == 0
    results = json.loads((tmp_path / "speed.json").read_text("utf-8"))["figures"]
    assert set(results) == {"beam 1, batch 3", "beam 4, batch 3"}
    systems = {"fast", "plain", "marian", *(["ct2 int8"] if ends == "together" else [])}
    systems |= {"bf16"} if multiplies_bfloat16() else set()
    systems |= {"half"} if half_weights_run_here() else set()
    for row in results.values():
        others = systems - {"marian"}
        assert set(row) == {"limit", *systems, *(f"{name} / marian" for name in others)}
        assert row["fast / marian"][0] == pytest.approx(row["fast"] / row["marian"])
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr()
    assert "beam 4, batch 3" in printed.out
    assert "left out: static, as its steps are compiled on a GPU alone" in printed.err
    assert ("left out: ct2 int8" in printed.err) == (ends == "apart")


def test_sentences_that_end_apart_have_lengths_of_their_own() -> None:
    batch = generate_speed.make_batch(16, 100, "cpu")
    together, apart = (generate_speed.target_lengths(batch, ends) for ends in ("together", "apart"))
    assert set(together.tolist()) == {batch["input_ids"].shape[1]}
    assert len(set(apart.tolist())) > 3
    assert int(apart.sum()) == pytest.approx(int(batch["attention_mask"].sum()), rel=0.2)
