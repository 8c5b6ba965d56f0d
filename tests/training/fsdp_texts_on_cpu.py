"""Trains a language model as `tests/recipes/fsdp_on_cpu.py` trains a translator: FSDP on CPU processes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

from fsdp_on_cpu import claim_an_accelerator  # type: ignore[import-not-found]

from vanilla_transformer.training import load_recipe, train
from vanilla_transformer.training.recipe import LanguageModelRecipe

if __name__ == "__main__":
    claim_an_accelerator()
    train(load_recipe(Path(sys.argv[1]), (), LanguageModelRecipe))
