"""Publish a trained model on the Hugging Face Hub: weights, tokenizer, code and model card, and nothing else.

    vanilla-transformer publish runs/demo me/zh-en --dry-run
    vanilla-transformer publish runs/demo me/zh-en --private --license apache-2.0
    vanilla-transformer publish runs/demo me/zh-en --space

With --space the page that `vanilla-transformer demo` opens is sent, too, as a Gradio Space of the same name.
Shows what it sends first. Log in once with `hf auth login`, or set HF_TOKEN. A failed upload leaves all files
as they were; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.options import parser_of

if TYPE_CHECKING:
    from vanilla_transformer.training.publishing import Publication


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument("folder", help="folder of a run, or of any saved model")
    options.add_argument("repo_id", metavar="OWNER/NAME", help="repository on the Hub; it is made if missing")
    options.add_argument("--private", action="store_true", help="make a new repository private")
    options.add_argument("--revision", help="branch to commit to; it is made if missing; default: main")
    options.add_argument("--license", help="licence that the card states, such as apache-2.0; default: none")
    options.add_argument("--space", action="store_true", help="send a Space of the same name, too")
    options.add_argument("--dry-run", "--dry_run", action="store_true", help="show it and send nothing")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Publish what the options name."""
    from vanilla_transformer.training.publishing import publish

    publication = publish(
        args.folder,
        args.repo_id,
        private=args.private or None,
        revision=args.revision,
        license=args.license,
        space=args.space,
        dry_run=args.dry_run,
        show=show,
    )
    if args.dry_run:
        print("nothing was sent (--dry-run)")
    for one in filter(None, (publication, publication.space)):
        if one.url:
            print(f"sent: {one.url}")


def show(publication: Publication) -> None:
    """For model and Space a line for each file with its size, and their sum."""
    for title, one in (("model", publication), ("Space", publication.space)):
        if one is not None:
            print(f"{title}:")
            for name, size in one.files.items():
                print(f"{size:>14,}  {name}")
            print(f"{sum(one.files.values()):>14,}  bytes in {len(one.files)} files", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
