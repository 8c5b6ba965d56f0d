"""The packaged recipes: every key known and explained, and the paper's numbers where a recipe claims them."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from transformers import GenerationConfig

from vanilla_transformer.configuration import VanillaTransformerConfig
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
        library: dict[str, object] = {"num_beams": 1, "length_penalty": 1.0, "do_sample": False, "top_k": 50}
        library["max_new_tokens"] = None
        assert getattr(GenerationConfig(), key) in (None, library[key])
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
        TrainRecipe: [] if name == "demo" else ["--train_source", "a", "--train_target", "b"],
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


@pytest.mark.parametrize(
    ("name", "preset", "steps", "averaged", "interval"),
    [("wmt14_en_de_base", "base", 100_000, 5, 1500), ("wmt14_en_de_big", "big", 300_000, 20, 600)],
)
def test_the_wmt14_recipes_are_the_papers(
    name: str, preset: str, steps: int, averaged: int, interval: int
) -> None:
    recipe = load_recipe(name)
    assert (recipe.max_steps, recipe.warmup_steps, recipe.learning_rate_scale) == (steps, 4000, 1.0)
    assert (recipe.tokens_per_update, recipe.vocab_size, recipe.label_smoothing) == (25_000, 37_000, 0.1)
    assert (recipe.adam_beta1, recipe.adam_beta2, recipe.adam_epsilon) == (0.9, 0.98, 1e-9)
    assert (recipe.weight_decay, recipe.max_grad_norm, recipe.bpe_dropout) == (0.0, 0.0, 0.0)
    assert (recipe.effective_final_model, recipe.average_checkpoints) == ("average_last", averaged)
    assert recipe.save_steps == interval
    assert recipe.generation == {"num_beams": 4, "length_penalty": 0.6}
    shaped = VanillaTransformerConfig.from_preset(preset, **recipe.model)
    assert shaped.to_dict() == VanillaTransformerConfig.from_preset(preset).to_dict()


def test_multi30k_needs_nothing_but_its_two_files() -> None:
    recipe = load_recipe("multi30k_en_de", ["--train_source", "a.en", "--train_target", "a.de"])
    recipe.require_trainable()
    assert recipe.effective_final_model == "average_last"
