"""Draw positional encodings (section 3.5): the matrix, and dot products against distance.

    vanilla-transformer plot-positions --d_model 128 --positions 100 --output positions.png
    vanilla-transformer plot-positions --model runs/demo

With --model, the encoder's positions are drawn, learned ones too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.models import load_model
from vanilla_transformer.scripts.support.options import parser_of, positive


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument("--model", help="folder or Hub name of a model; default: sinusoids of --d_model")
    options.add_argument("--d_model", type=positive, help="width without --model; default: 512")
    options.add_argument(
        "--layout",
        choices=["interleaved", "split", "tensor2tensor"],
        help="order of sines and cosines without --model; default: interleaved",
    )
    options.add_argument("--positions", type=positive, default=100, help="how many; default: %(default)s")
    options.add_argument(
        "--output", metavar="FILE", default="positions.png", help=".png or .svg; default: %(default)s"
    )
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Draw what the options name."""
    import torch

    from vanilla_transformer.drawing import check_format, save_figure
    from vanilla_transformer.inspection.figures import plot_positions

    check_format(args.output)
    encode = encoder_positions(args)
    try:
        with torch.no_grad():
            encodings = encode(torch.arange(args.positions), torch.float32)
    except ValueError as error:
        raise InputError(str(error)) from error
    print(save_figure(plot_positions(encodings), args.output))


def encoder_positions(args: argparse.Namespace) -> Any:
    """The module that encodes positions: the model's own, or one of the shape that the options name."""
    from vanilla_transformer import VanillaTransformerConfig
    from vanilla_transformer.modeling.modeling_vanilla_transformer import VanillaTransformerPositionalEncoding

    if args.model is None:
        try:
            config = VanillaTransformerConfig(
                d_model=args.d_model or 512,
                head_dim=1,
                value_head_dim=1,
                sinusoidal_layout=args.layout or "interleaved",
            )
        except ValueError as error:
            raise InputError(str(error)) from error
        return VanillaTransformerPositionalEncoding(config)
    if args.d_model or args.layout:
        raise InputError("`--d_model` and `--layout` are for positions without `--model`.")
    model, _ = load_model(args.model, device="cpu")
    encode = getattr(model.get_encoder(), "embed_positions", None)
    if model.config.model_type != "vanilla_transformer" or encode is None:
        raise InputError(f"`{args.model}` has no positional encodings that can be drawn.")
    return encode


if __name__ == "__main__":
    raise SystemExit(main())
