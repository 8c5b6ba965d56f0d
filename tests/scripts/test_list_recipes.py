"""The recipes script: a list, or one recipe that is a valid file of its own."""

from pathlib import Path

import pytest

from vanilla_transformer.scripts import list_recipes
from vanilla_transformer.training.recipe import available_recipes, load_recipe


def test_the_list_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_recipes.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [list(item) for item in available_recipes().items()]


def test_a_printed_recipe_is_a_file_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_recipes.main(["multi30k_en_de"]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_recipe(tmp_path / "mine.yaml") == load_recipe("multi30k_en_de")


def test_an_unknown_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_recipes.main(["demmo"]) == 2
    assert "did you mean `demo`?" in capsys.readouterr().err
