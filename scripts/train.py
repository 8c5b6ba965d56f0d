"""Train a Transformer by a recipe: parallel text in, a trained model out.

RECIPE is the name of a packaged recipe (`vanilla-transformer recipes` lists them) or a YAML file; any key of
it can be replaced by `--key value`, one inside `model` or `generation` by `--model.d_model 256`. The same
command given again goes on from the last checkpoint of a run that was stopped, and says so if the run is
finished.

On a CPU or one GPU:

    vanilla-transformer train multi30k_en_de --train_source train.en --train_target train.de
    python scripts/train.py recipes/multi30k_en_de.yaml --train_source train.en --train_target train.de

On all GPUs of a machine (`tokens_per_update` stays what the recipe says; accumulation follows from it):

    accelerate launch --multi_gpu --num_processes 8 scripts/train.py wmt14_en_de_base --train_source ...

On two machines of 8 GPUs each, on each of them with its own --machine_rank (0 and 1):

    accelerate launch --multi_gpu --num_machines 2 --num_processes 16 --machine_rank 0 \\
        --main_process_ip 10.0.0.1 --main_process_port 29500 \\
        scripts/train.py wmt14_en_de_base --train_source ...

On a CPU, a process for each core is faster than one process of as many threads. `accelerate launch --cpu`
starts one process whatever its `--num_processes`, so PyTorch's own launcher does it (beside a GPU, with the
environment variable ACCELERATE_USE_CPU=true):

    torchrun --standalone --nproc_per_node 2 scripts/train.py demo
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.options import parser_of

if TYPE_CHECKING:
    from vanilla_transformer.training.run import TrainResult


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    return train_by_recipe(argv, doc=__doc__, kind="TrainRecipe")


def train_by_recipe(
    argv: Sequence[str] | None,
    *,
    doc: str | None,
    kind: str,
    default: Callable[[Sequence[str]], str] | None = None,
) -> int:
    """What the training scripts share: help, the recipe with its overrides, the run and what came out of it.

    Args:
        argv: the command line, by default that of the process.
        doc: the script's docstring.
        kind: name of the class of its recipes.
        default: name of the recipe if the options come first; without it, a recipe must be named.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or {"-h", "--help"} & set(words):
        parser(doc, kind).print_help()
        return 0 if words else 2
    if default is not None and words[0].startswith("--"):
        words.insert(0, default(words))
    args = parser(doc, kind).parse_args(words)
    return run_script(lambda: run(args, kind))


def run(args: argparse.Namespace, kind: str) -> None:
    """Read the recipe, train, and say what came out."""
    from vanilla_transformer.training import recipe as recipes

    recipe = recipes.load_recipe(args.recipe, args.overrides, getattr(recipes, kind))
    recipe.require_trainable()
    # The Trainer takes seconds to import; a mistake in the recipe is told before.
    from vanilla_transformer.training.run import train

    try:
        result = train(recipe)
    finally:
        leave_process_group()
    if os.environ.get("RANK", "0") != "0" or result.finished_before:
        return
    print(saved_line(result))


def saved_line(result: TrainResult) -> str:
    """What the run saved, of how many steps, where, and the scores of that model."""
    steps = ", ".join(map(str, result.checkpoints))
    what = "checkpoint" if len(result.checkpoints) == 1 else "the average of checkpoints"
    measured = ", ".join(f"{name} {value:.2f}" for name, value in result.scores.get("final", {}).items())
    line = f"Saved {what} {steps} of {result.steps} steps to {result.output_dir}"
    return f"{line}: {measured}" if measured else line


def leave_process_group() -> None:
    """Part from the other processes of a distributed run, which torch would otherwise complain about."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def parser(doc: str | None, kind: str) -> argparse.ArgumentParser:
    """The command-line options; the keys of a recipe are listed below them."""
    named = "RECIPE" if kind == "TrainRecipe" else "[RECIPE]"
    options = parser_of(doc, usage=f"%(prog)s {named} [--key value ...]", epilog=keys_help(kind))
    options.add_argument("recipe", metavar="RECIPE", help="name of a packaged recipe, or a YAML file")
    options.add_argument(
        "overrides", nargs=argparse.REMAINDER, metavar="--key value", help="keys to replace, listed below"
    )
    return options


def keys_help(kind: str) -> str:
    """Every key of a kind of recipe with its meaning, choices and default."""
    from vanilla_transformer.training import recipe as recipes
    from vanilla_transformer.training.recipe_values import comment_lines

    recipe_class = getattr(recipes, kind)
    lines = []
    for item in dataclasses.fields(recipe_class):
        if item.metadata["section"]:
            lines += ["", item.metadata["section"]]
        lines += [
            f"  --{item.name}",
            *(f"      {line.removeprefix('# ')}" for line in comment_lines(item.name, recipe_class)),
        ]
    return "\n".join(["keys of a recipe:", *lines])


if __name__ == "__main__":
    raise SystemExit(main())
