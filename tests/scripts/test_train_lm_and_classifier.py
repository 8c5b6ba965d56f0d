"""The scripts for language models and classifiers: help, the recipe that is chosen, a run of each."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from helpers import parallel_sentences

from vanilla_transformer.scripts import make_demo_corpus, train_classifier, train_lm
from vanilla_transformer.training.recipe import ClassifierRecipe, LanguageModelRecipe

SMALL_RUN = """
    --vocab_size 400 --model.d_model 16 --model.encoder_layers 1 --model.encoder_attention_heads 2
    --model.encoder_ffn_dim 16 --tokens_per_update 400 --tokens_per_device 400 --max_steps 2 --eval_steps 2
    --tensorboard false --output_dir run
"""
SMALL = SMALL_RUN.split()


@pytest.mark.parametrize(
    ("script", "kind"), [(train_lm, LanguageModelRecipe), (train_classifier, ClassifierRecipe)]
)
def test_help_explains_every_key(script: Any, kind: type, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for item in dataclasses.fields(kind):
        assert f"\n  --{item.name}\n" in shown
    assert script.main([]) == 2
    assert script.main(["--train_sauce", "x"]) == 2
    assert "unknown key `train_sauce`" in capsys.readouterr().err


def test_the_objective_chooses_the_recipe() -> None:
    assert train_lm.recipe_for(["--seed", "1", "--objective", "masked"]) == "lm_masked"
    assert train_lm.recipe_for(["--objective=masked"]) == "lm_masked"
    assert train_lm.recipe_for(["--objective", "causal", "--output_dir", "masked"]) == "lm_causal"


def test_a_run_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("".join(f"{line}\n" for line, _ in parallel_sentences(60)))
    command = ["--objective", "masked", "--train_text", "text", "--valid_text", "text", *SMALL]
    assert train_lm.main(command) == 0
    assert "Saved checkpoint 2 of 2 steps to run: loss " in capsys.readouterr().out
    assert train_lm.main([*command, "--seed", "2"]) == 2
    assert "these keys differ: seed" in capsys.readouterr().err
    assert train_lm.main([*command, "--model.decoder_layers", "1"]) == 2
    assert "`model.decoder_layers` has no effect" in capsys.readouterr().err
    sizes = "--train_size 120 --valid_size 20 --test_size 20 --labels --output_dir corpus"
    assert make_demo_corpus.main(sizes.split()) == 0
    assert make_demo_corpus.main(sizes.split()) == 0  # the same again
    files = ["--train_file", "corpus/train.csv", "--valid_file", "corpus/valid.csv"]
    assert train_classifier.main([*files, *SMALL, "--output_dir", "classifier"]) == 0
    assert "accuracy " in capsys.readouterr().out
    labels = json.loads(Path("classifier/config.json").read_text())["id2label"]
    assert labels == {"0": "question", "1": "relative", "2": "statement"}


def test_the_demo_corpus_is_not_written_over_text_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.en").write_text("my own\n")
    sizes = ["--train_size", "120", "--valid_size", "20", "--test_size", "20", "--output_dir", str(tmp_path)]
    assert make_demo_corpus.main(sizes) == 2
    message = f"`{tmp_path / 'train.en'}` holds other text: give another `--output_dir`, or delete it."
    assert message in capsys.readouterr().err
    assert (tmp_path / "train.en").read_text() == "my own\n"
    assert [path.name for path in tmp_path.iterdir()] == ["train.en"]
