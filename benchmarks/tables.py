"""Put the tables of the results files into a document, or check that they are those that stand there.

    python benchmarks/tables.py
    python benchmarks/tables.py --check
    python benchmarks/tables.py --document docs/speed.md

A table stands between `<!-- table: benchmarks/results/NAME.json -->` and `<!-- end of table -->`, each on a
line of its own; what is between them is replaced by the table of that file, or by another of its tables where
`NAME.json#OTHER` stands. Paths are relative to the document. With --check nothing is written, and the exit
status is 2 if a table differs from its file.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.options import parser_of

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)


def with_tables(text: str, folder: Path) -> str:
    """The document with each table as its results file has it.

    Raises:
        InputError: a results file that is missing or has no table, or a table without an end.
    """
    if text.count("<!-- table: ") != len(BLOCK.findall(text)):
        raise InputError("a table lacks its line `<!-- end of table -->`.")
    return BLOCK.sub(lambda match: f"{match[1]}\n{table_of(folder, match[2])}\n\n{match[4]}", text)


def table_of(folder: Path, place: str) -> str:
    """A table of a results file in Markdown, where `place` is `PATH` or `PATH#NAME`."""
    from vanilla_transformer.files import read_json
    from vanilla_transformer.tables import markdown_table

    path, _, name = place.partition("#")
    table = read_json(folder / path).get(name or "table")
    if not table:
        raise InputError(f"`{folder / path}` has no {name or 'table'}.")
    return markdown_table(table["titles"], table["rows"])


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument("--check", action="store_true", help="write nothing, fail if a table has drifted")
    options.add_argument("--document", type=Path, default=README, help="default: the README")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Write the document with its tables, or compare."""
    from vanilla_transformer.files import write_text

    text = args.document.read_text("utf-8")
    renewed = with_tables(text, args.document.parent)
    if args.check and renewed != text:
        raise InputError(
            f"a table in `{args.document}` is not that of its results file: run {Path(__file__).name}."
        )
    if renewed != text:
        write_text(args.document, renewed)


if __name__ == "__main__":
    raise SystemExit(main())
