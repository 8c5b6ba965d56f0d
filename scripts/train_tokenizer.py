"""Train the byte-pair vocabulary that source and target share (sections 3.4 and 5.1 of the paper).

vanilla-transformer train-tokenizer --input train.en train.de --vocab_size 37000 --output tokenizers/en-de
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from vanilla_transformer.errors import InputError
from vanilla_transformer.files import readable_write_errors
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.lines import read_lines, read_only_once
from vanilla_transformer.scripts.support.options import parser_of, positive


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="FILE",
        help="UTF-8 text of both languages, plain or packed (.gz, .bz2, .xz); - is standard input",
    )
    options.add_argument("--output", required=True, metavar="DIR", help="folder of the new tokenizer")
    options.add_argument(
        "--vocab_size", type=positive, default=37_000, help="entries of the vocabulary; default: %(default)s"
    )
    options.add_argument("--lowercase", action="store_true", help="lower-case all text")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Train on the files that the options name, and save."""
    from vanilla_transformer.tokenization import VanillaTransformerTokenizer

    output = Path(args.output)
    if output.exists() and not output.is_dir():
        raise InputError(f"`{output}` is not a folder.")
    for name in ("config.json", "recipe.yaml"):
        if (output / name).is_file():
            raise InputError(
                f"`{output}` holds a model or a run ({name}), whose tokenizer would be replaced: give another"
                " `--output`."
            )
    lines = lines_of(args.input)
    try:
        tokenizer = VanillaTransformerTokenizer.train_from_iterator(
            lines, vocab_size=args.vocab_size, lowercase=args.lowercase
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    with readable_write_errors(output):
        tokenizer.save_pretrained(output)
    print(f"saved a tokenizer of {len(tokenizer)} entries to {output}")


@dataclass(frozen=True)
class Lines:
    """The lines of files, read anew in each pass."""

    paths: Sequence[str]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(read_lines(path) for path in self.paths)


def lines_of(paths: Sequence[str]) -> Iterable[str]:
    """All lines, in memory only where standard input or a pipe is among them, which are read once.

    Raises:
        InputError: there are none.
    """
    lines = list(Lines(paths)) if any(map(read_only_once, paths)) else Lines(paths)
    if not any(line.strip() for line in lines):
        raise InputError(f"there is no text in {', '.join(f'`{path}`' for path in paths)}.")
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
