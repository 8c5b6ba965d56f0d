"""Table 3: every row scaled as the paper has it, trained at toy size, judged by hand-made figures."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import load_benchmark, write_parallel_files

from vanilla_transformer import VanillaTransformerConfig
from vanilla_transformer.configuration import PRESETS
from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.corpora import CORPUS_FILES
from vanilla_transformer.training.recipe import load_recipe

table3 = load_benchmark("table3")


def test_figures_of_several_seeds() -> None:
    assert table3.mean_and_range([30.0, 31.0, 35.0], 1) == "32.0 (30.0-35.0)"
    assert table3.mean_and_range([4.916]) == "4.92"
    assert table3.mean_and_range([]) == ""


def test_every_row_of_the_paper_is_there() -> None:
    assert list(table3.PAPER) == [name for name in PRESETS if name != "big_en_fr"]


@pytest.mark.parametrize("row", table3.PAPER)
def test_at_the_papers_width_a_row_is_the_papers_model(row: str) -> None:
    built = VanillaTransformerConfig(**table3.scaled_fields(row, 512))
    paper = VanillaTransformerConfig.from_preset(row)
    assert built.num_parameters == paper.num_parameters
    assert built.encoder_head_dims == paper.encoder_head_dims
    assert (built.dropout, built.position_embedding) == (paper.dropout, paper.position_embedding)


def test_widths_shrink_in_proportion() -> None:
    fields = table3.scaled_fields("A4", 64)
    assert (fields["d_model"], fields["encoder_ffn_dim"], fields["encoder_attention_heads"]) == (64, 256, 32)
    assert (fields["head_dim"], fields["value_head_dim"]) == (2, 2)
    with pytest.raises(InputError, match="`d_model` must be a multiple of 32, but is 48 instead"):
        table3.scaled_fields("A4", 48)


def toy_options(folder: Path, *words: str) -> list[str]:
    """The options of runs of two steps on invented words, and where they go."""
    paths = (*write_parallel_files(folder, 40), *write_parallel_files(folder, 4, seed=1))
    files = [
        word for side, path in zip(CORPUS_FILES, paths, strict=True) for word in (f"--{side}", str(path))
    ]
    sizes = ["--d_model", "32", "--vocab_size", "280", "--tokens_per_update", "260", "--max_steps", "2"]
    places = ["--output_dir", str(folder / "runs")]
    files += ["--source_lang", "en", "--target_lang", "de"]
    return [*files, *sizes, "--warmup_steps", "2", *places, *words]


@pytest.mark.slow
def test_runs_side_by_side_each_in_a_process_of_its_own(tmp_path: Path) -> None:
    words = toy_options(tmp_path, "--rows", "C1", "D1", "--seeds", "1", "--jobs", "2")
    assert table3.main(words) == 0
    report = json.loads((tmp_path / "runs" / "table3.json").read_text("utf-8"))
    assert [len(report["variations"][row]["runs"]) for row in ("C1", "D1")] == [1, 1]
    for row in ("C1", "D1"):
        recipe = load_recipe(tmp_path / "runs" / f"{row}-seed1.yaml")
        assert recipe.differences(load_recipe(tmp_path / "runs" / f"{row}-seed1" / "recipe.yaml")) == []
        assert recipe.model["dropout"] == (0.0 if row == "D1" else 0.1)


def test_a_run_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def run(command: list[str], **kwargs: Any) -> Any:
        started.append(Path(command[-1]).stem)
        return SimpleNamespace(returncode=int("C2" in command[-1]))

    monkeypatch.setattr(table3.subprocess, "run", run)
    args = table3.parser().parse_args(toy_options(tmp_path))
    recipes = [table3.recipe_of(row, 1, args, {}) for row in ("C1", "C2", "C3")]
    with pytest.raises(InputError, match=r"these runs failed: \S*/runs/C2-seed1\.$"):
        table3.train_all(recipes, 2)
    assert sorted(started) == ["C1-seed1", "C2-seed1", "C3-seed1"], "the others are trained all the same"


@pytest.mark.slow
def test_two_rows_and_two_seeds_to_a_results_file_and_once_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = toy_options(tmp_path, "--rows", "C1", "C2", "--seeds", "2", "--jobs", "0")
    assert table3.main(words) == 0
    report = json.loads((tmp_path / "runs" / "table3.json").read_text("utf-8"))
    assert list(report["variations"]) == ["C1", "C2"]
    for row in ("C1", "C2"):
        for seed, found in enumerate(report["variations"][row]["runs"], start=1):
            scores = json.loads((tmp_path / "runs" / f"{row}-seed{seed}" / "results.json").read_text("utf-8"))
            final = {name: scores["scores"]["final"][name] for name in ("perplexity", "bleu")}
            assert found == {"seed": seed, "training_seconds": scores["training_seconds"], **final}
    assert report["table"]["rows"][1][:3] == ["C2", "N 4", "5.19"]
    assert "| C2 | N 4 | 5.19 |" in capsys.readouterr().out
    assert table3.main(words) == 0
    assert capsys.readouterr().out.count("is finished after 2 steps") == 4


def row_of(*values: tuple[float, float]) -> dict[str, Any]:
    return {"runs": [{"perplexity": perplexity, "bleu": bleu} for perplexity, bleu in values]}


def verdicts(**rows: dict[str, Any]) -> dict[str, str]:
    """What is said of each trend that these rows can show."""
    return {text: verdict for text, _, verdict in table3.trend_rows(rows)}


def test_a_trend_appears_only_where_no_seed_disagrees() -> None:
    rows = {
        "base": row_of((5.0, 30.0), (5.2, 31.0)),
        "A1": row_of((5.5, 28.0), (5.4, 29.9)),  # both seeds below both of base
        "B1": row_of((5.1, 30.5), (5.1, 29.0)),  # between
        "D1": row_of((4.0, 35.0), (4.1, 34.0)),  # above
        "D3": row_of((4.5, 29.0), (4.6, 29.5)),
        "E": row_of((5.1, 29.9), (5.1, 30.5)),
    }
    assert verdicts(**rows) == {
        "eight heads are better than one": "yes",
        "a smaller d_k hurts": "unclear",
        "dropout helps": "no, the opposite",
        "dropout helps perplexity": "no, the opposite",
        "label smoothing hurts perplexity": "yes",
        "label smoothing helps BLEU": "yes",
        "learned positions are as good as sinusoids": "yes",
    }
    shown = table3.trend_rows(rows)[0][1]
    assert shown == "base / A1: 30.5 (30.0-31.0) / 28.9 (28.0-29.9) BLEU"


def test_a_small_difference_of_single_runs_is_no_trend() -> None:
    base = row_of((5.0, 30.0))
    text = "eight heads are better than one"
    for bleu, verdict in ((29.9, "unclear"), (31.5, "unclear"), (27.0, "yes"), (33.0, "no, the opposite")):
        assert verdicts(base=base, A1=row_of((5.0, bleu))) == {text: verdict}
    several = row_of((5.0, 29.0), (5.0, 31.0))
    for bleu, verdict in ((28.5, "unclear"), (27.9, "yes")):
        assert verdicts(base=several, A1=row_of((5.0, bleu))) == {text: verdict}
    text = "learned positions are as good as sinusoids"
    for bleu, verdict in ((28.5, "yes"), (33.0, "yes"), (27.0, "no")):
        assert verdicts(base=base, E=row_of((5.0, bleu))) == {text: verdict}


def test_half_of_the_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table3.main(["--train_source", "a", "--output_dir", str(tmp_path)]) == 2
    assert "error: give all of `--train_source`" in capsys.readouterr().err


def test_runs_are_shared_out_over_the_gpus_that_may_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def run(command: Any, *, env: dict[str, str], check: bool) -> Any:
        used.append(env["CUDA_VISIBLE_DEVICES"])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(table3.subprocess, "run", run)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    args = table3.parser().parse_args(["--output_dir", str(tmp_path)])
    files = {"train_source": "a", "train_target": "b", "valid_source": "c", "valid_target": "d"}
    recipes = [table3.recipe_of("base", seed, args, files) for seed in range(4)]
    for given, expected in (("5,GPU-77", {"5", "GPU-77"}), (None, {"0", "1"})):
        used.clear()
        if given is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        table3.train_all(recipes, jobs=1)
        assert len(used) == 4 and set(used) <= expected
