"""`generate()` at toy size: all systems write what they are told to, and the ratios are reported."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from helpers import load_benchmark

from vanilla_transformer.modeling.half_weights import half_weights_run_here
from vanilla_transformer.modeling.modules_vanilla_transformer import multiplies_bfloat16
from vanilla_transformer.modeling.projections_vanilla_transformer import copies_run_here

generate_speed = load_benchmark("generate_speed")


@pytest.mark.parametrize("ends", ["together", "apart"])
def test_speed_at_toy_size(ends: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--shape", "toy", "--vocabulary", "60", "--batches", "3", "--rounds", "1", "--ends", ends]
    words += ["--systems", "fast", "half", "bf16", "static", "plain", "ct2 int8"]
    words += ["--threads", str(torch.get_num_threads())]
    files = ["--json", str(tmp_path / "speed.json"), "--figure", str(tmp_path / "speed.png")]
    assert generate_speed.main([*words, *files]) == 0
    written = json.loads((tmp_path / "speed.json").read_text("utf-8"))
    results, left_out = written["figures"], written["left_out"]
    assert set(results) == {"beam 1, batch 3", "beam 4, batch 3"}
    systems = {"fast", "plain", "marian", *(["ct2 int8"] if ends == "together" else [])}
    systems |= {"bf16", "marian bf16"} if multiplies_bfloat16() else set()
    systems |= {"half"} if half_weights_run_here() else set()
    for row in results.values():
        ratios = {f"{name} / marian" for name in systems - {"marian"}}
        ratios |= {"bf16 / marian bf16"} if multiplies_bfloat16() else set()
        assert set(row) == {"limit", *systems, *ratios}
        for ratio in ratios:
            ours, other = ratio.split(" / ")
            assert row[ratio][0] == pytest.approx(row[ours] / row[other])
    assert ("bf16 / marian bf16" in written["table"]["titles"]) == multiplies_bfloat16()
    assert {len(row) for row in written["table"]["rows"]} == {len(written["table"]["titles"])}
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr()
    assert "beam 4, batch 3" in printed.out
    assert left_out["static"] == "its steps are compiled on a GPU alone"
    assert "left out: static, as its steps are compiled on a GPU alone" in printed.err
    assert ("ct2 int8" in left_out) == ("left out: ct2 int8" in printed.err) == (ends == "apart")
    assert {"fairseq", "JoeyNMT", "OpenNMT-py"} < left_out.keys()
    assert written["copies_mib"] == 0, "no matrix of a toy is worth a copy"
    assert "copies of matrices that the fast search keeps: 0 MiB" in printed.out


def test_sentences_that_end_apart_have_lengths_of_their_own() -> None:
    batch = generate_speed.make_batch(16, 100, "cpu")
    together, apart = (generate_speed.target_lengths(batch, ends) for ends in ("together", "apart"))
    assert set(together.tolist()) == {batch["input_ids"].shape[1]}
    assert len(set(apart.tolist())) > 3
    assert int(apart.sum()) == pytest.approx(int(batch["attention_mask"].sum()), rel=0.2)


def test_copies_are_those_of_the_large_matrices() -> None:
    """At this shape those of the feed-forward layers of the decoder, and the output projection."""
    found = generate_speed.copies_mib(Namespace(shape="tiny", vocabulary=2000))
    expected = 4 * (2 * 2 * 128 * 512 + 128 * 2000) / 2**20
    assert found == (expected if copies_run_here(torch.float32) else 0)


def test_bfloat16_is_compared_with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "vanilla_transformer.modeling.modules_vanilla_transformer.multiplies_bfloat16"
    arguments = Namespace(systems=["bf16"], device="cpu", ends="together")
    monkeypatch.setattr(module, lambda: True)
    assert generate_speed.obstacles(arguments) == dict.fromkeys(("bf16", "marian", "marian bf16"))
    monkeypatch.setattr(module, lambda: False)
    reasons = generate_speed.obstacles(arguments)
    assert reasons["marian"] is None
    assert reasons["bf16"] == reasons["marian bf16"] == "this processor does not multiply bfloat16"
