"""Explanations as text."""

from vanilla_transformer.inspection.text import pick


def test_a_stack_with_fewer_layers_shows_its_last() -> None:
    assert [pick("abc", index) for index in (0, 2, 9, -1, -3, -9)] == list("acccaa")
