"""Bring a model of another framework in, or take one of ours out.

    vanilla-transformer convert --from marian Helsinki-NLP/opus-mt-en-de --output opus-en-de
    vanilla-transformer convert --from fsmt facebook/wmt19-en-de --output wmt19-en-de
    vanilla-transformer convert --from fairseq wmt14.en-fr --config moses.json --output wmt14-en-fr
    vanilla-transformer convert --from torch model.pt --config fields.json --output mine
    vanilla-transformer convert --to marian runs/demo --output demo-marian
    vanilla-transformer convert --to torch runs/demo --output demo-torch
    vanilla-transformer convert --to ctranslate2 runs/demo --output demo-ct2 --quantization int8
    vanilla-transformer convert --to onnx runs/demo --output demo-onnx

`--config` of a torch.nn.Transformer is a JSON file of what no tensor tells: fields of our configuration,
{"encoder_attention_heads": 8, "norm_position": "pre", "pad_token_id": 1, ...}, and under "names" how the
state dict calls "source_embedding.weight", "target_embedding.weight", "projection.weight", "projection.bias".
A tokenizer of transformers beside the state dict comes along.
Of fairseq, the model is a checkpoint, or a folder with model.pt or checkpoint_best.pt; dict.*.txt and codes
(bpecodes, code or sentencepiece.bpe.model) lie beside it. Its `--config` is a JSON file of settings that
replace those of the checkpoint, under fairseq's names: {"tokenizer": "moses", "bpe": "fastbpe", "data":
"data-bin/wmt14", "source_lang": "en", "target_lang": "fr", ...}.
Foreign files are read with `weights_only=True`: nothing in them is run. The output folder must be new or
empty.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vanilla_transformer.errors import InputError, first_line
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.models import load_model
from vanilla_transformer.scripts.support.options import parser_of

if TYPE_CHECKING:
    from vanilla_transformer import VanillaTransformerForConditionalGeneration

SOURCES = ("marian", "fsmt", "fairseq", "torch")
TARGETS = ("marian", "torch", "ctranslate2", "onnx")


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument("model", help="folder, file or Hub name of the model to convert")
    direction = options.add_mutually_exclusive_group(required=True)
    direction.add_argument("--from", dest="source", choices=SOURCES, help="what the model is")
    direction.add_argument("--to", dest="target", choices=TARGETS, help="what to make of a model of ours")
    options.add_argument("--output", required=True, metavar="DIR", help="folder of the converted model")
    options.add_argument(
        "--config",
        metavar="FILE",
        help="what no tensor of a torch.nn.Transformer tells, or fairseq's settings",
    )
    options.add_argument(
        "--tokenizer",
        metavar="NAME",
        help="with --from: folder or Hub name of a tokenizer to save beside the model, instead of its own",
    )
    options.add_argument(
        "--quantization",
        metavar="TYPE",
        help="how CTranslate2 stores weights, int8 for instance; default: float32",
    )
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Convert what the options name."""
    if args.config and args.source not in ("torch", "fairseq"):
        raise InputError("`--config` goes together with `--from torch` or `--from fairseq`.")
    if args.tokenizer and args.target:
        raise InputError(
            "`--tokenizer` goes together with `--from`: `--to` takes the tokenizer of the model."
        )
    if args.source == "fairseq" and args.config and args.tokenizer:
        raise InputError("`--config` of fairseq is about its own tokenizer: leave `--tokenizer` out.")
    if args.quantization and args.target != "ctranslate2":
        raise InputError("`--quantization` goes together with `--to ctranslate2`.")
    with new_folder(Path(args.output)) as folder:
        if args.source:
            bring_in(args, folder)
        else:
            take_out(args, folder)
    print(f"saved {args.model} to {args.output}")


def bring_in(args: argparse.Namespace, folder: Path) -> None:
    """Write a model of another framework as one of ours, with its tokenizer."""
    from transformers import FSMTTokenizer

    from vanilla_transformer.files import read_json
    from vanilla_transformer.interop import load_fairseq, load_fsmt, load_marian, load_torch, pair_tokenizer
    from vanilla_transformer.modeling.loading import check_vocabulary

    readers = {
        "marian": lambda: load_marian(args.model),
        "fsmt": lambda: load_fsmt(args.model),
        "torch": lambda: load_torch(args.model, _required(args.config)),
    }
    if args.source == "fairseq":
        changes = read_json(Path(args.config)) if args.config else {}
        model, tokenizer = load_fairseq(args.model, changes, with_tokenizer=args.tokenizer is None)
    else:
        model, tokenizer = readers[args.source](), None
    tokenizer = tokenizer or _tokenizer(args)
    if isinstance(tokenizer, FSMTTokenizer):
        tokenizer = pair_tokenizer(tokenizer)
    if tokenizer is not None:
        check_vocabulary(tokenizer, model.config)
    _check_generation(model, args.model)
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _check_generation(model: Any, name: str) -> None:
    """Refuse how a model generates where transformers, which reads it from anywhere, would not save it."""
    try:
        model.generation_config.validate(strict=True)
    except ValueError as error:
        raise InputError(f"the generation config of `{name}` must be mended: {first_line(error)}") from None


def take_out(args: argparse.Namespace, folder: Path) -> None:
    """Write a model of ours in the format of another framework, with its tokenizer."""
    from vanilla_transformer.interop import save_ctranslate2, save_marian, save_onnx, save_torch

    model, tokenizer = _own_model(args.model)
    _check_generation(model, args.model)
    writers: dict[str, Callable[..., None]] = {
        "marian": save_marian,
        "torch": save_torch,
        "ctranslate2": save_ctranslate2,
        "onnx": save_onnx,
    }
    options = {"quantization": args.quantization} if args.quantization else {}
    writers[args.target](model, folder, tokenizer, **options)


def _required(config: str | None) -> str:
    if config is None:
        raise InputError("`--config` must be given with `--from torch`.")
    return config


def _own_model(name: str) -> tuple[VanillaTransformerForConditionalGeneration, Any]:
    from vanilla_transformer import VanillaTransformerForConditionalGeneration

    model, tokenizer = load_model(name, device="cpu")
    if not isinstance(model, VanillaTransformerForConditionalGeneration):
        raise InputError(f"`{name}` is not a model of ours, but of type {model.config.model_type!r}.")
    return model, tokenizer


def _tokenizer(args: argparse.Namespace) -> Any:
    """The tokenizer that `--tokenizer` names, or else the model's own."""
    from transformers import AutoTokenizer

    name = args.tokenizer or _own_tokenizer(args)
    if name is None:
        return None
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # what a damaged folder raises is of many kinds
        raise InputError(f"the tokenizer `{name}` cannot be loaded: {first_line(error)}") from None


def _own_tokenizer(args: argparse.Namespace) -> str | None:
    """Where the tokenizer of the model lies: with it, or beside the file of a state dict."""
    if args.source in ("marian", "fsmt"):
        return str(args.model)
    folder = Path(args.model).parent
    return str(folder) if (folder / "tokenizer_config.json").is_file() else None


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of `output` when the block has ended well.

    Raises:
        InputError: there is something of that name already, or it cannot be written.
    """
    from vanilla_transformer.files import readable_write_errors
    from vanilla_transformer.modeling.saving_vanilla_transformer import files_written_whole

    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise InputError(f"`{output}` exists already.")
    with readable_write_errors(output), files_written_whole(output) as beside:
        yield beside


if __name__ == "__main__":
    raise SystemExit(main())
