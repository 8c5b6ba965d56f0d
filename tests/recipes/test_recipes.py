"""The packaged recipes: every key known and explained, and the paper's numbers where a recipe claims them."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from transformers import GenerationConfig

from vanilla_transformer.configuration import VanillaTransformerConfig
from vanilla_transformer.modeling.generation_vanilla_transformer import OWN_FIELDS, PAPER_DECODING
from vanilla_transformer.training.recipe import (
    ClassifierRecipe,
    LanguageModelRecipe,
    RunRecipe,
    TrainRecipe,
    available_recipes,
    load_recipe,
    recipe_text,
)
from vanilla_transformer.training.recipe_values import comment_lines

NAMES = list(available_recipes())
ROOT = Path(__file__).resolve().parents[2]


def kind_of(name: str) -> type[RunRecipe]:
    if name == "classifier":
        return ClassifierRecipe
    return LanguageModelRecipe if name.startswith("lm_") else TrainRecipe


def default_of(section: str, key: str) -> object:
    if section == "generation":
        # GenerationConfig holds None where the library's own default applies.
        library: dict[str, object] = {"num_beams": 1, "length_penalty": 1.0, "early_stopping": False}
        library |= {"do_sample": False, "top_k": 50, "max_new_tokens": None} | OWN_FIELDS
        assert getattr(GenerationConfig(), key, None) in (None, library[key])
        return library[key]
    return getattr(VanillaTransformerConfig(), key)


@pytest.mark.parametrize("name", NAMES)
def test_every_key_carries_the_comment_of_the_dataclass(name: str) -> None:
    lines = recipe_text(name).splitlines()
    keys = [line.partition(":")[0] for line in lines if re.match(r"\w+:", line)]
    assert keys == [item.name for item in dataclasses.fields(kind_of(name))]
    for key in keys:
        at = next(k for k, line in enumerate(lines) if line.startswith(f"{key}:"))
        comment = comment_lines(key, kind_of(name))
        assert lines[at - len(comment) : at] == comment


@pytest.mark.parametrize("name", NAMES)
def test_every_inner_key_says_meaning_and_default(name: str) -> None:
    section, found = "", 0
    for line in recipe_text(name).splitlines():
        if match := re.match(r"(\w+):", line):
            section = match[1]
        if match := re.match(r"  (\w+): \S+", line):
            comment = re.search(r"# .{8,}\. Default: (.+)\.$", line)
            assert comment, line
            assert yaml.safe_load(comment[1]) == default_of(section, match[1]), line
            found += 1
    assert found >= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_makes_a_model_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = {
        TrainRecipe: [] if name.startswith("demo") else ["--train_source", "a", "--train_target", "b"],
        LanguageModelRecipe: ["--train_text", "a"],
        ClassifierRecipe: ["--train_file", "a.csv"],
    }
    recipe = load_recipe(name, data[kind_of(name)], kind_of(name))
    recipe.require_trainable()
    config = VanillaTransformerConfig.from_preset(recipe.preset, vocab_size=recipe.vocab_size, **recipe.model)
    assert config.dropout == recipe.model["dropout"]


@pytest.mark.parametrize("name", NAMES)
def test_the_path_and_the_name_are_one_recipe(name: str) -> None:
    kind = kind_of(name)
    assert load_recipe(ROOT / "recipes" / f"{name}.yaml", [], kind) == load_recipe(name, [], kind)


@dataclasses.dataclass(frozen=True)
class PaperRun:
    """What sections 5.1, 5.2 and 6.1 say of one model; the rest is the same for all three."""

    preset: str
    vocabulary: int
    steps: int
    dropout: float
    averaged: int
    save_steps: int  # about 10 minutes of the paper's time


PAPER_RUNS = {
    "wmt14_en_de_base": PaperRun("base", 37_000, 100_000, 0.1, 5, 1500),
    "wmt14_en_de_big": PaperRun("big", 37_000, 300_000, 0.3, 20, 600),
    "wmt14_en_fr_big": PaperRun("big_en_fr", 32_000, 300_000, 0.1, 20, 600),
}


@pytest.mark.parametrize("name", PAPER_RUNS)
def test_the_wmt14_recipes_are_the_papers(name: str) -> None:
    recipe, paper = load_recipe(name), PAPER_RUNS[name]
    assert (recipe.preset, recipe.vocab_size, recipe.max_steps) == (
        paper.preset,
        paper.vocabulary,
        paper.steps,
    )
    assert (recipe.tokens_per_update, recipe.warmup_steps, recipe.learning_rate_scale) == (25_000, 4000, 1.0)
    assert (recipe.adam_beta1, recipe.adam_beta2, recipe.adam_epsilon) == (0.9, 0.98, 1e-9)
    assert (recipe.weight_decay, recipe.max_grad_norm, recipe.bpe_dropout) == (0.0, 0.0, 0.0)
    assert recipe.label_smoothing == 0.1
    assert recipe.model["dropout"] == paper.dropout
    assert (recipe.effective_final_model, recipe.average_checkpoints) == ("average_last", paper.averaged)
    assert recipe.save_steps == paper.save_steps
    assert recipe.keep_checkpoints >= paper.averaged
    assert recipe.generation == PAPER_DECODING
    shaped = VanillaTransformerConfig.from_preset(paper.preset, **recipe.model)
    assert shaped.to_dict() == VanillaTransformerConfig.from_preset(paper.preset).to_dict()


def test_the_two_multi30k_recipes_differ_in_the_target_language_alone() -> None:
    german, french = load_recipe("multi30k_en_de"), load_recipe("multi30k_en_fr")
    assert german.differences(french) == ["target_lang", "output_dir"]


def test_multi30k_needs_nothing_but_its_two_files() -> None:
    recipe = load_recipe("multi30k_en_de", ["--train_source", "a.en", "--train_target", "a.de"])
    recipe.require_trainable()
    assert recipe.effective_final_model == "average_last"
