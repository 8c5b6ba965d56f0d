"""Write the embedded Chinese-English corpus: aligned text files for training, validation and test.

    vanilla-transformer make-demo-corpus --output_dir demo_corpus
    vanilla-transformer make-demo-corpus --output_dir demo_corpus --seed 1 --train_size 50000
    vanilla-transformer make-demo-corpus --output_dir demo_corpus --labels

The sentences come from a small bilingual grammar; the same options give the same files. No sentence of the
test is in training. Half of the test (test_new_combinations) holds a verb with a noun, a classifier with a
noun, or a relative clause with a question that training never shows together. Files of these names that hold
other text are not written over.
"""

from __future__ import annotations

import argparse
import filecmp
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.options import parser_of, positive


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument("--output_dir", required=True, metavar="DIR", help="folder for the files")
    options.add_argument("--seed", type=int, default=0, help="chooses the sentences; default: %(default)s")
    options.add_argument(
        "--train_size", type=positive, default=24_000, help="pairs for training; default: %(default)s"
    )
    options.add_argument(
        "--valid_size", type=positive, default=500, help="pairs for validation; default: %(default)s"
    )
    options.add_argument(
        "--test_size", type=positive, default=1_000, help="pairs for the test, even; default: %(default)s"
    )
    options.add_argument(
        "--labels",
        action="store_true",
        help="write train.csv, valid.csv and test.csv besides: sentences with their kind, to classify",
    )
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Build the corpus that the options describe, and write it."""
    from vanilla_transformer.training.embedded_corpus import build_corpus, write_corpus, write_labelled

    output = Path(args.output_dir)
    if output.exists() and not output.is_dir():
        raise InputError(f"`{output}` is not a folder.")
    corpus = build_corpus(
        seed=args.seed, train_size=args.train_size, valid_size=args.valid_size, test_size=args.test_size
    )

    def write(folder: Path) -> None:
        write_corpus(corpus, folder)
        if args.labels:
            write_labelled(corpus, folder)

    with tempfile.TemporaryDirectory() as made:
        write(Path(made))
        check_no_other_text(Path(made), output)
    write(output)
    sizes = f"{len(corpus.train)} training, {len(corpus.valid)} validation and {len(corpus.test)} test pairs"
    print(f"wrote {sizes} to {output}")


def check_no_other_text(made: Path, output: Path) -> None:
    """Refuse to write over files that hold anything but what is to be written.

    Args:
        made: a folder with the files as they will be.
        output: where they are to go.
    """
    for path in sorted(made.iterdir()):
        there = output / path.name
        if there.exists() and not filecmp.cmp(path, there, shallow=False):
            raise InputError(f"`{there}` holds other text: give another `--output_dir`, or delete it.")


if __name__ == "__main__":
    raise SystemExit(main())
