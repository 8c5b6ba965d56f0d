"""Time to a BLEU: both models go all the way from text to a score, at toy size."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import datasets
import pytest
from helpers import load_benchmark
from training_toy import processes_of, write_recipe

from vanilla_transformer import VanillaTransformerConfig
from vanilla_transformer.interop.marian import marian_config
from vanilla_transformer.training.recipe import TrainRecipe, load_recipe

time_to_bleu = load_benchmark("time_to_bleu")


def test_marian_has_the_recipes_shape() -> None:
    recipe = load_recipe("multi30k_en_de")
    ours = VanillaTransformerConfig.from_preset(recipe.preset, vocab_size=10_000, **recipe.model)
    config = marian_config(ours, max_position_embeddings=512)
    assert (config.d_model, config.encoder_layers, config.decoder_ffn_dim, config.dropout) == (
        128,
        4,
        256,
        0.2,
    )
    assert (config.pad_token_id, config.eos_token_id, config.decoder_start_token_id) == (0, 2, 1)
    assert (config.scale_embedding, config.activation_function, config.vocab_size) == (True, "relu", 10_000)


def test_both_from_text_to_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes: dict[str, Any] = {"max_steps": 2, "eval_steps": 2, "save_steps": 2, "lowercase": True}
    recipe = write_recipe(tmp_path, generation={"num_beams": 1}, **changes)
    test = ["--test_source", str(tmp_path / "text1.src"), "--test_reference", str(tmp_path / "text1.tgt")]
    words = [str(recipe), *test, "--results", str(tmp_path / "time.json"), "--marian_epochs", "0.2"]
    words += ["--taught", "max_steps=1", "eval_steps=1", "save_steps=1", "model.dropout=0.3"]
    words += ["max_source_length=60", "max_target_length=60"]
    assert time_to_bleu.main(words) == 0
    report = json.loads((tmp_path / "time.json").read_text("utf-8"))
    ours, marian = report["models"]["ours"], report["models"]["marian"]
    assert (ours["steps"], marian["steps"]) == (3, 1)
    assert 0 < ours["seconds_until_trained"] < ours["seconds"]
    assert ours["bleu"] < 41 and [row[-1] for row in report["table"]["rows"]] == ["41.0 missed"] * 2
    assert report["settings"]["max_steps"] == 2
    second = load_recipe(tmp_path / "run" / "taught" / "recipe.yaml")
    assert (second.init_from, second.max_steps) == (str(tmp_path / "run"), 1)
    assert second.model["dropout"] == 0.3
    sources = Path(second.train_source or "").read_text("utf-8").splitlines()
    assert sources == 2 * (tmp_path / "text0.src").read_text("utf-8").splitlines()
    # Marian's projections have biases, and so have its logits.
    assert marian["parameters"] > ours["parameters"]
    assert "| VanillaTransformer |" in capsys.readouterr().out
    assert time_to_bleu.main(words) == 2
    assert "counts from nothing" in capsys.readouterr().err


def test_what_is_wrong_in_the_second_training_is_told_before_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, max_steps=2, eval_steps=2, save_steps=2)
    test = ["--test_source", str(tmp_path / "text1.src"), "--test_reference", str(tmp_path / "text1.tgt")]
    assert time_to_bleu.main([str(recipe), *test, "--taught", "max_step=1"]) == 2
    assert "max_step" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_ours_on_two_processes(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "max_steps": 2,
        "eval_steps": 2,
        "save_steps": 2,
        "generation": {"num_beams": 1},
    }
    recipe = load_recipe(write_recipe(tmp_path, **changes))
    time_to_bleu.train_together(recipe, 2)
    assert processes_of(Path(recipe.output_dir)) == 2
    assert time_to_bleu.run_ours(recipe, Namespace(processes=1, taught=None))["steps"] == 2


def test_neither_finds_what_the_other_has_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caches = []

    def run(recipe: TrainRecipe, args: Any) -> dict[str, Any]:
        cache = Path(datasets.config.HF_DATASETS_CACHE)
        caches.append((cache, list(cache.iterdir())))
        raise InterruptedError

    recipe = load_recipe(write_recipe(tmp_path, max_steps=2))
    monkeypatch.setattr(time_to_bleu, "RUNS", {"ours": run, "marian": run})
    before = datasets.config.HF_DATASETS_CACHE
    for name in ("ours", "marian"):
        with pytest.raises(InterruptedError):
            time_to_bleu.measure(name, recipe, None)
    assert caches[0][0] != caches[1][0] and caches[0][1] == caches[1][1] == []
    assert before == datasets.config.HF_DATASETS_CACHE


def test_the_model_is_chosen_on_validation_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path, max_steps=2, valid_source=None, valid_target=None)
    test = ["--test_source", str(tmp_path / "text1.src"), "--test_reference", str(tmp_path / "text1.tgt")]
    assert time_to_bleu.main([str(recipe), *test]) == 2
    assert "chosen on validation files" in capsys.readouterr().err


def test_a_target_is_reached_by_what_the_test_reads() -> None:
    found = {"parameters": 1, "seconds_until_trained": 1, "seconds": 2, "bleu": 41.0, "sacrebleu": 39.0}
    assert time_to_bleu.table_rows({"ours": found}, 41.0)[0][-1] == "41.0 reached"
