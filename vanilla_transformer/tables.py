"""Tables as text: in columns that line up on a terminal, and in Markdown."""

import unicodedata
from collections.abc import Sequence


def text_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a rule below its titles, for a terminal; see `aligned`."""
    rule = ["-" * max(map(display_width, column)) for column in zip(titles, *rows, strict=True)]
    return "\n".join(aligned([titles, rule, *rows]))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Each row as a line, in columns that line up on a terminal, where a Chinese character takes two places.

    Raises:
        ValueError: the rows differ in length.
    """
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    return [_line_up(row, widths) for row in rows]


def _line_up(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell + " " * (width - display_width(cell)) for cell, width in zip(row, widths, strict=True))
    return "  ".join(cells).rstrip()


def display_width(text: str) -> int:
    """Places that a terminal gives to `text`: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; a bar in a cell is escaped."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
