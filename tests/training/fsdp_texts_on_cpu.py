"""Trains a language model as `tests/recipes/fsdp_on_cpu.py` trains a translator: FSDP on CPU processes."""

import sys
from pathlib import Path

from accelerate.state import PartialState

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

from fsdp_on_cpu import take_cpu, take_gloo  # type: ignore[import-not-found]

from vanilla_transformer.training import load_recipe, train
from vanilla_transformer.training.recipe import LanguageModelRecipe

if __name__ == "__main__":
    PartialState._prepare_backend = take_gloo
    PartialState.set_device = take_cpu
    train(load_recipe(Path(sys.argv[1]), (), LanguageModelRecipe))
