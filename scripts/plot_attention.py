"""Draw where a model looks: its attention weights over the pieces of a sentence pair.

    vanilla-transformer plot-attention 我有一只猫。 --model runs/demo --output attention.png
    vanilla-transformer plot-attention 我有一只猫。 --model runs/demo --kind encoder --layer 1 --head 2
    vanilla-transformer plot-attention 我有一只猫。 --model runs/demo --kind encoder --heads 1.2 2.4
    vanilla-transformer plot-attention 我有一只猫。 --model runs/demo --kind alignment

Without --layer and --head, all of them are drawn as a grid; --heads draws chosen ones of several layers side
by side, each as LAYER.HEAD. `alignment` joins source and target by lines as thick as the cross-attention,
averaged over the heads (and over the layers, unless one is named).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.models import load_model
from vanilla_transformer.scripts.support.options import parser_of, positive, sentence


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument("sentence", type=sentence, help="a source sentence")
    options.add_argument("--model", required=True, help="folder or Hub name of the model")
    options.add_argument("--target", type=sentence, help="its translation; default: the model's own")
    options.add_argument(
        "--kind",
        choices=["encoder", "decoder", "cross", "alignment"],
        default="cross",
        help="which attention; default: %(default)s",
    )
    options.add_argument("--layer", type=positive, help="one layer; default: all")
    options.add_argument("--head", type=positive, help="one head; default: all")
    options.add_argument(
        "--heads", nargs="+", type=layer_and_head, metavar="LAYER.HEAD", help="chosen heads, instead of those"
    )
    options.add_argument(
        "--output", metavar="FILE", default="attention.png", help=".png or .svg; default: %(default)s"
    )
    options.add_argument("--device", default="cpu", help="cpu, cuda, mps, auto; default: %(default)s")
    return options


def layer_and_head(text: str) -> tuple[int, int]:
    """ "2.1" is the first head of the second layer: (1, 0), counted from 0; for argparse."""
    layer, _, head = text.partition(".")
    if not (layer.isdecimal() and head.isdecimal() and int(layer) and int(head)):
        raise argparse.ArgumentTypeError(f"must be a layer and a head such as 2.1, but is {text!r} instead.")
    return int(layer) - 1, int(head) - 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Draw what the options name."""
    from vanilla_transformer.drawing import check_format, save_figure
    from vanilla_transformer.inspection import explain
    from vanilla_transformer.inspection.figures import plot_alignment, plot_attention, plot_heads

    check_format(args.output)
    if args.heads and (args.layer or args.head or args.kind == "alignment"):
        raise InputError("`--heads` goes without `--layer` and `--head`, and not with alignment.")
    if args.head and args.kind == "alignment":
        raise InputError("`--head` does not go with alignment, which is the mean over the heads.")
    model, tokenizer = load_model(args.model, device=args.device)
    try:
        explanation = explain(model, tokenizer, args.sentence, target=args.target)
    except ValueError as error:
        raise InputError(str(error)) from error
    layer, head = (None if number is None else number - 1 for number in (args.layer, args.head))
    if args.kind == "alignment":
        figure = plot_alignment(explanation, layer=layer)
    elif args.heads:
        figure = plot_heads(explanation, args.kind, args.heads)
    else:
        figure = plot_attention(explanation, args.kind, layer=layer, head=head)
    print(save_figure(figure, args.output))


if __name__ == "__main__":
    raise SystemExit(main())
