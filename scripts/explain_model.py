"""Show how a sentence is translated, stage by stage, with the numbers of the model's own forward pass.

    vanilla-transformer explain 我有一只猫。 --model runs/demo
    vanilla-transformer explain 我有一只猫。 --model runs/demo --figures figures

Pieces, embeddings, positions, one head's attention, the other sub-layers of one layer, the encoder's output,
and decoding step by step beside teacher forcing. The best piece of each step is taken (greedy decoding).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.models import load_model
from vanilla_transformer.scripts.support.options import parser_of, positive, sentence


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument("sentence", type=sentence, help="a source sentence")
    options.add_argument("--model", required=True, help="folder or Hub name of the model")
    options.add_argument("--target", type=sentence, help="a translation to follow; default: the model's own")
    options.add_argument("--layer", type=positive, default=1, help="layer to show; default: %(default)s")
    options.add_argument("--head", type=positive, default=1, help="head to show; default: %(default)s")
    options.add_argument("--figures", metavar="DIR", help="draw every stage into this folder, too")
    options.add_argument(
        "--format", choices=["png", "svg"], help="of the pictures of --figures; default: png"
    )
    options.add_argument("--device", default="cpu", help="cpu, cuda, mps, auto; default: %(default)s")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Print the explanation, and draw it if asked to."""
    from vanilla_transformer.inspection import explain

    if args.format and not args.figures:
        raise InputError("`--format` goes together with `--figures`.")
    model, tokenizer = load_model(args.model, device=args.device)
    try:
        explanation = explain(model, tokenizer, args.sentence, target=args.target)
    except ValueError as error:
        raise InputError(str(error)) from error
    check_range("layer", args.layer, model.config.encoder_layers, model.config.decoder_layers)
    check_range("head", args.head, model.config.encoder_attention_heads, model.config.decoder_attention_heads)
    place = {"layer": args.layer - 1, "head": args.head - 1}
    print(explanation.text(**place))
    if args.figures:
        for path in explanation.draw(Path(args.figures), **place, suffix=args.format or "png"):
            print(path)


def check_range(name: str, number: int, *counts: int) -> None:
    """Refuse a layer or head that neither stack has."""
    if number > max(counts):
        raise InputError(f"`{name}` must be at most {max(counts)}, but is {number} instead.")


if __name__ == "__main__":
    raise SystemExit(main())
