"""Serve a page for the browser where a trained model translates and shows how it does it.

    vanilla-transformer demo runs/demo
    vanilla-transformer demo runs/demo --example 猫在哪里？ --open

Without a folder, `vanilla-transformer demo` trains such a model first. The page needs gradio:
pip install '.[demo]' in a clone. Pictures of Chinese need a font that has it, such as Debian's package
fonts-noto-cjk. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.models import load_model
from vanilla_transformer.scripts.support.options import parser_of, positive


def _port(text: str) -> int:
    if (number := positive(text)) > 65_535:
        raise argparse.ArgumentTypeError(f"must be at most 65535, but is {number} instead.")
    return number


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument("model", help="folder or Hub name of the model")
    options.add_argument(
        "--example",
        metavar="SENTENCE",
        action="append",
        help="a sentence to click, several times for several; default: some in the language of its recipe",
    )
    options.add_argument("--host", default="127.0.0.1", help="address to listen at; default: %(default)s")
    options.add_argument("--port", type=_port, help="port to listen at; default: the first free from 7860")
    options.add_argument("--open", action="store_true", help="open the browser, too")
    options.add_argument("--device", default="auto", help="auto, cpu, cuda, mps; default: %(default)s")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    from vanilla_transformer.inspection.app import build_app
    from vanilla_transformer.training.publishing import examples_for

    model, tokenizer = load_model(args.model, device=args.device)
    if model.config.model_type != "vanilla_transformer":
        raise InputError(f"`{args.model}` is a `{model.config.model_type}`, not a `vanilla_transformer`.")
    examples = args.example or examples_for(args.model)
    app = build_app(model, tokenizer, examples=examples, title=f"vanilla-transformer: {args.model}")
    app.launch(server_name=args.host, server_port=args.port, inbrowser=args.open, share=False)


if __name__ == "__main__":
    raise SystemExit(main())
