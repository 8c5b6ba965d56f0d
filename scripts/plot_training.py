"""Draw the curves of a training run: loss, learning rate and scores over the optimizer steps.

    vanilla-transformer plot-training runs/demo
    vanilla-transformer plot-training runs/demo/checkpoint-500 --output curves.svg

The log is read from the newest whole checkpoint, so a run that is under way can be drawn too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.options import parser_of


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument("run", help="folder of the run, or one of its checkpoints")
    options.add_argument(
        "--output", metavar="FILE", default="training.png", help=".png or .svg; default: %(default)s"
    )
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Draw the run that the options name."""
    from vanilla_transformer.training.checkpoints import STATE_FILE, last_checkpoint, read_state
    from vanilla_transformer.training.curves import plot_curves

    folder = Path(args.run)
    checkpoint = folder if (folder / STATE_FILE).is_file() else last_checkpoint(folder)
    if checkpoint is None:
        raise InputError(f"`{folder}` holds no whole checkpoint, so there is no log to draw.")
    title = folder.resolve().name
    print(plot_curves(read_state(checkpoint)["log_history"], args.output, title=title))


if __name__ == "__main__":
    raise SystemExit(main())
