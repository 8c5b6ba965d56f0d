"""Average the weights of checkpoints, as section 6.1 of the paper does for its results.

vanilla-transformer average-checkpoints --run runs/wmt14 --last 5 --output runs/wmt14-averaged
vanilla-transformer average-checkpoints --run runs/wmt14 --best 5 --metric bleu --output averaged
vanilla-transformer average-checkpoints checkpoint-900 checkpoint-1000 --output averaged

The recipe of the run comes along, so that `evaluate`, `publish` and `demo` know the languages of the model.
No run goes on in that folder: `train` refuses it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.options import parser_of, positive


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument("checkpoints", nargs="*", help="checkpoint folders to average")
    options.add_argument("--run", metavar="DIR", help="folder of a training run to choose checkpoints from")
    count = options.add_mutually_exclusive_group()
    count.add_argument("--last", type=positive, metavar="K", help="average the last K checkpoints of the run")
    count.add_argument("--best", type=positive, metavar="K", help="average its K best on validation data")
    options.add_argument(
        "--metric",
        choices=("bleu", "chrf", "accuracy", "f1", "loss"),
        help="best in what; default: what the run's recipe says, else bleu",
    )
    options.add_argument("--output", required=True, metavar="DIR", help="folder of the averaged model")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Average the checkpoints that the options name, and say which they were."""
    from vanilla_transformer.training.averaging import (
        average_checkpoints,
        check_average_output,
        find_checkpoints,
    )
    from vanilla_transformer.training.recipe import recipe_of_checkpoints

    if bool(args.checkpoints) == (args.run is not None):
        raise InputError("give either checkpoint folders, or `--run` with `--last` or `--best`.")
    if (args.run is None) != (args.last is None and args.best is None):
        raise InputError("`--run` goes together with `--last` or `--best`.")
    if args.metric and args.best is None:
        raise InputError("`--metric` goes together with `--best`.")
    check_average_output(args.output)
    paths = [Path(path) for path in args.checkpoints]
    if args.run is not None:
        metric = args.metric or _metric_of(args.run)
        paths = find_checkpoints(args.run, last=args.last, best=args.best, metric=metric)
    average_checkpoints(paths, args.output, recipe=recipe_of_checkpoints(paths))
    print(f"averaged {len(paths)} checkpoints into {args.output}: {', '.join(path.name for path in paths)}")


def _metric_of(run: str) -> str:
    from vanilla_transformer.training.checkpoints import RECIPE_FILE
    from vanilla_transformer.training.recipe import saved_recipe

    return getattr(saved_recipe(Path(run, RECIPE_FILE)), "metric", "bleu")


if __name__ == "__main__":
    raise SystemExit(main())
