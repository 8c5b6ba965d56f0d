"""Time to a BLEU: both models go all the way from text to a score, at toy size."""

import json
from pathlib import Path

import pytest
from helpers import load_benchmark
from training_toy import write_recipe

from vanilla_transformer.training.recipe import load_recipe

time_to_bleu = load_benchmark("time_to_bleu")


def test_marian_has_the_recipes_shape() -> None:
    config = time_to_bleu.marian_config(load_recipe("multi30k_en_de"), 10_000)
    assert (config.d_model, config.encoder_layers, config.decoder_ffn_dim, config.dropout) == (
        128,
        4,
        256,
        0.2,
    )
    assert (config.pad_token_id, config.eos_token_id, config.decoder_start_token_id) == (0, 2, 1)
    assert (config.scale_embedding, config.activation_function, config.vocab_size) == (True, "relu", 10_000)


def test_both_from_text_to_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path, max_steps=2, eval_steps=2, save_steps=2, generation={"num_beams": 1})
    test = ["--test_source", str(tmp_path / "text1.src"), "--test_reference", str(tmp_path / "text1.tgt")]
    words = [str(recipe), *test, "--results", str(tmp_path / "time.json"), "--marian_epochs", "0.2"]
    assert time_to_bleu.main(words) == 0
    report = json.loads((tmp_path / "time.json").read_text("utf-8"))
    ours, marian = report["models"]["ours"], report["models"]["marian"]
    assert (ours["steps"], marian["steps"]) == (2, 1)
    assert 0 < ours["seconds_until_trained"] < ours["seconds"]
    assert ours["bleu"] < 41 and [row[-1] for row in report["table"]["rows"]] == ["41.0 missed"] * 2
    assert report["recipe"]["max_steps"] == 2
    # Marian's projections have biases, and so have its logits.
    assert marian["parameters"] > ours["parameters"]
    assert "| VanillaTransformer |" in capsys.readouterr().out
    assert time_to_bleu.main(words) == 2
    assert "counts from nothing" in capsys.readouterr().err


def test_a_target_is_reached_by_what_the_test_reads() -> None:
    found = {"parameters": 1, "seconds_until_trained": 1, "seconds": 2, "bleu": 41.0, "sacrebleu": 39.0}
    assert time_to_bleu.table_rows({"ours": found}, 41.0)[0][-1] == "41.0 reached"
