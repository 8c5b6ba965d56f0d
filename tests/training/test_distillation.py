"""The student's recipe: what it takes from the teacher, and what it keeps of the recipe it comes from."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from helpers import word_tokenizer

from vanilla_transformer.training.distillation import SOURCE_FILE, TARGET_FILE, student_recipe
from vanilla_transformer.training.recipe import TrainRecipe, load_recipe
from vanilla_transformer.training.tasks import TranslationTask


@pytest.mark.parametrize("train_split", ["train", "extra"])
def test_a_student_is_validated_on_the_split_of_its_data_set(tmp_path: Path, train_split: str) -> None:
    splits = {
        name: Dataset.from_dict({"source": [f"{name} a"], "target": [f"{name} b"]})
        for name in (train_split, "dev")
    }
    DatasetDict(splits).save_to_disk(tmp_path / "set")
    recipe = TrainRecipe(
        dataset=str(tmp_path / "set"), train_split=train_split, valid_split="dev", max_steps=1,
        output_dir=str(tmp_path / "run"),
    )  # fmt: skip
    student = student_recipe(recipe, "teacher")
    (tmp_path / "run" / "distilled").mkdir(parents=True)
    for name in (SOURCE_FILE, TARGET_FILE):
        (tmp_path / "run" / "distilled" / name).write_text(f"{name}\n", "utf-8")
    task: Any = TranslationTask(student)
    assert task.training_data()[:] == {"source": [SOURCE_FILE], "target": [TARGET_FILE]}
    rows, _ = task.validation_rows(word_tokenizer(["dev a", "dev b"]))
    assert rows["source"][:] == ["dev a"]
    student_file = tmp_path / "student.yaml"
    student_file.write_text(student.to_yaml(), "utf-8")
    assert load_recipe(student_file) == student


def test_a_student_of_files_has_no_data_set(tmp_path: Path) -> None:
    recipe = TrainRecipe(
        dataset="some", valid_file="valid.tsv", max_steps=1, output_dir=str(tmp_path), lowercase=True
    )
    student = student_recipe(recipe, "teacher")
    student.check()  # it lower-cases as the teacher's tokenizer does
    assert (student.dataset, student.valid_file, student.tokenizer) == (None, "valid.tsv", "teacher")


def test_a_student_that_starts_from_a_model_keeps_its_tokenizer(tmp_path: Path) -> None:
    recipe = TrainRecipe(train_file="a.tsv", init_from="other", max_steps=1, output_dir=str(tmp_path))
    assert student_recipe(recipe, "teacher").tokenizer is None
