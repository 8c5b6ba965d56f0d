"""Tables on a terminal, whatever the width of their characters, and in Markdown."""

import pytest

from vanilla_transformer.tables import aligned, display_width, markdown_table, text_table


@pytest.mark.parametrize(
    ("text", "width"), [("cat", 3), ("我有一只猫。", 12), ("ｗｉｄｅ", 8), ("é", 1), ("e\u0301", 1), ("", 0)]
)
def test_the_width_on_a_terminal(text: str, width: int) -> None:
    assert display_width(text) == width


def test_columns_line_up_where_characters_are_wide() -> None:
    table = text_table(("zh", "en"), [("我有一只猫。", "I have a cat."), ("猫", "Cat.")])
    assert table.splitlines() == [
        "zh            en",
        "------------  -------------",
        "我有一只猫。  I have a cat.",
        "猫            Cat.",
    ]


def test_rows_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        aligned([("a", "b"), ("c",)])


def test_markdown() -> None:
    assert markdown_table(("a", "b|c"), [("1", "x")]).splitlines() == [
        "| a | b\\|c |",
        "| --- | --- |",
        "| 1 | x |",
    ]
