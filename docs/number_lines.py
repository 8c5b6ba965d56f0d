"""Bring the line numbers of the tour's links up to date: `python docs/number_lines.py`.

A link such as [`embed`](../modeling/modeling_vanilla_transformer.py#L1) leads to the line that defines the
function or class of its text. tests/test_tour.py fails while a number is out of date.
"""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent
LINK = re.compile(r"\[`(\w+)`\]\(([\w./]+\.py)#L\d+\)")


def numbered(text: str) -> str:
    """`text` with every link to a definition pointing at its line; `ValueError` names one that is gone."""

    def replace(link: re.Match[str]) -> str:
        name, path = link.groups()
        definition = re.compile(rf"\s*(def|class) {name}\b")
        lines = (DOCS / path).read_text(encoding="utf-8").splitlines()
        number = next((n for n, line in enumerate(lines, start=1) if definition.match(line)), None)
        if number is None:
            raise ValueError(f"`{path}` must define `{name}`, to which the tour leads, but does not.")
        return f"[`{name}`]({path}#L{number})"

    return LINK.sub(replace, text)


def main() -> None:
    """Rewrite the pages whose numbers have changed."""
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (changed := numbered(text)) != text:
            page.write_text(changed, encoding="utf-8")


if __name__ == "__main__":
    main()
