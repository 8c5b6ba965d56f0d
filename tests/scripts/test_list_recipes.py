"""The recipes script: a list, or one recipe that is a valid file of its own."""

from pathlib import Path

import pytest

from vanilla_transformer.scripts import list_recipes
from vanilla_transformer.training.recipe import available_launch_configs, available_recipes, load_recipe


def test_the_list_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_recipes.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = available_recipes() | available_launch_configs()
    assert [line.split(maxsplit=1) for line in lines] == [list(item) for item in listed.items()]


def test_a_printed_recipe_is_a_file_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_recipes.main(["multi30k_en_de"]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_recipe(tmp_path / "mine.yaml") == load_recipe("multi30k_en_de")


def test_a_printed_launch_configuration_is_the_packaged_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_recipes.main(["accelerate/fsdp"]) == 0
    packaged = Path(__file__).parents[2] / "recipes" / "accelerate" / "fsdp.yaml"
    assert capsys.readouterr().out == packaged.read_text("utf-8")
    assert list_recipes.main(["accelerate/fdsp"]) == 2
    assert "did you mean `accelerate/fsdp`?" in capsys.readouterr().err


def test_an_unknown_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_recipes.main(["demmo"]) == 2
    assert "did you mean `demo`?" in capsys.readouterr().err
