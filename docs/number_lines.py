"""Bring the line numbers of the tour's links up to date: `python docs/number_lines.py`.

A link such as [`embed`](../modeling/modeling_vanilla_transformer.py#L1) leads to the line that defines the
function or class of its text; where the text is more than a name, to the one line that holds it.
tests/test_tour.py fails while a number is out of date.
"""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent
LINK = re.compile(r"\[`([^`]+)`\]\(([\w./]+\.py)#L\d+\)")


def numbered(text: str) -> str:
    """`text` with every link into code pointing at its line; `ValueError` names code that is gone."""

    def replace(link: re.Match[str]) -> str:
        code, path = link.groups()
        wanted = re.compile(rf"\s*(def|class) {code}\b" if code.isidentifier() else rf"\s*{re.escape(code)}")
        lines = (DOCS / path).read_text(encoding="utf-8").splitlines()
        number = next((n for n, line in enumerate(lines, start=1) if wanted.match(line)), None)
        if number is None:
            raise ValueError(f"`{path}` must define or hold `{code}`, to which the tour leads, but does not.")
        return f"[`{code}`]({path}#L{number})"

    return LINK.sub(replace, text)


def main() -> None:
    """Rewrite the pages whose numbers have changed."""
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (changed := numbered(text)) != text:
            page.write_text(changed, encoding="utf-8")


if __name__ == "__main__":
    main()
