"""Text in columns, whatever the width of its characters."""

import pytest

from vanilla_transformer.inspection.text import display_width, pick, render_table


@pytest.mark.parametrize(
    ("text", "width"), [("cat", 3), ("我有一只猫。", 12), ("ｗｉｄｅ", 8), ("é", 1), ("e\u0301", 1), ("", 0)]
)
def test_the_width_on_a_terminal(text: str, width: int) -> None:
    assert display_width(text) == width


def test_columns_line_up_where_characters_are_wide() -> None:
    table = render_table(("zh", "en"), [("我有一只猫。", "I have a cat."), ("猫", "Cat.")])
    assert table.splitlines() == [
        "zh            en",
        "------------  -------------",
        "我有一只猫。  I have a cat.",
        "猫            Cat.",
    ]


def test_a_stack_with_fewer_layers_shows_its_last() -> None:
    assert [pick("abc", index) for index in (0, 2, 9, -1, -3, -9)] == list("acccaa")
