"""`vanilla-transformer <command>`: every script of the package under one name."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from vanilla_transformer.scripts.support.console import fail, run_script

PROGRAM = "vanilla-transformer"

# Command: module in this package, and what it does in one line.
COMMANDS = {
    "demo": (
        "run_demo",
        "train on a small corpus in minutes; with a model's folder, serve its page for the browser",
    ),
    "train": ("train", "train a translation model by a recipe"),
    "train-lm": ("train_lm", "train a language model, causal or masked, on text files"),
    "train-classifier": ("train_classifier", "train a classifier of texts on CSV or JSON lines"),
    "translate": ("translate", "translate files, standard input or sentences"),
    "score": ("score_pairs", "print how probable a model holds given translations"),
    "explain": ("explain_model", "show how a sentence is translated, stage by stage"),
    "evaluate": ("evaluate_model", "score translations: BLEU, chrF, TER"),
    "distill": ("distill_model", "train a small model on what a large one says, and compare the two"),
    "lineage": ("compare_lineage", "set the Transformer beside what came before it, in a table and a plot"),
    "plot-attention": ("plot_attention", "draw the attention weights of a sentence pair"),
    "plot-positions": ("plot_positions", "draw the positional encodings and their dot products"),
    "plot-training": ("plot_training", "draw the curves of a training run"),
    "publish": ("publish", "send a trained model with its card to the Hugging Face Hub"),
    "recipes": ("list_recipes", "list the packaged recipes, or print one"),
    "train-tokenizer": ("train_tokenizer", "train a shared byte-pair vocabulary on text files"),
    "average-checkpoints": ("average_checkpoints", "average the weights of checkpoints"),
    "convert": ("convert", "bring checkpoints of other frameworks in, or take ours out"),
    "make-demo-corpus": ("make_demo_corpus", "write the embedded Chinese-English corpus to files"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; without any, list them.

    Returns:
        The command's exit status; 2 for an unknown command.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # A command's own `run_script` begins only behind argparse, which prints its help.
    return run_script(lambda: _run(words))


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"{PROGRAM} {_version()}")
        return 0
    command = words[0].replace("_", "-")
    if command not in COMMANDS:
        return fail(_unknown(command))
    # argparse takes the program's name from here, and reports the whole command.
    sys.argv = [f"{PROGRAM} {command}", *words[1:]]
    module = importlib.import_module(f"vanilla_transformer.scripts.{COMMANDS[command][0]}")
    return int(module.main(words[1:]))


def overview() -> str:
    """Every command with a line of its own."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{summary}" for name, (_, summary) in COMMANDS.items()]
    title = f"usage: {PROGRAM} <command> ...   ({PROGRAM} <command> --help explains it)"
    return "\n".join([title, "", *lines])


def _unknown(command: str) -> str:
    matches = difflib.get_close_matches(command, COMMANDS, n=1)
    hint = f"; did you mean {matches[0]!r}?" if matches else f"; the commands are {', '.join(COMMANDS)}."
    return f"unknown command {command!r}{hint}"


def _version() -> str:
    try:
        return version("vanilla-transformer")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    raise SystemExit(main())
