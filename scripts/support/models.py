"""Models by name: the options that name them, and how they are loaded."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vanilla_transformer.errors import InputError, first_line
from vanilla_transformer.files import is_path
from vanilla_transformer.scripts.support.options import at_least_two, penalty_exponent, positive

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# The keys of `engines.ENGINES`, so that `--help` need not import PyTorch.
BACKENDS = ("ctranslate2", "onnx")
DTYPES = ("auto", "float32", "bfloat16", "float16")


def add_loading_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """The options that say which model is loaded, and how."""
    parser.add_argument("--model", required=required, help="folder or Hub name of the model")
    parser.add_argument(
        "--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1, mps; default: auto"
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help="arithmetic; auto is what the weights are saved in; on a CPU with AVX2, float16 means weights of"
        " half the size and arithmetic in float32, the fastest for few sentences; bfloat16 is faster for"
        " files where the processor multiplies it (AVX512-BF16, AMX); default: auto",
    )


def add_language_options(parser: argparse.ArgumentParser) -> None:
    """The options for models of several languages."""
    for side, what in (("src", "sources"), ("tgt", "translations")):
        parser.add_argument(
            f"--{side}_lang",
            metavar="LANG",
            help=f"language of the {what} as the tokenizer of a model of several names it: deu_Latn, de_DE",
        )


def add_model_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """The options that say which model translates, where, and how it searches."""
    add_loading_options(parser, required=required)
    parser.add_argument(
        "--num_beams", type=positive, help="beams of the search; default: what the model's folder says"
    )
    parser.add_argument(
        "--length_penalty",
        type=penalty_exponent,
        help="alpha of the beam search; default: what the model's folder says",
    )
    parser.add_argument(
        "--max_length",
        type=at_least_two,
        help="most tokens of a translation, that of its start counted; default: what the model's folder says,"
        " such as 50 more than its source has",
    )
    parser.add_argument(
        "--tokens_per_batch",
        type=positive,
        default=4096,
        help="most source tokens translated at once; default: %(default)s",
    )
    add_language_options(parser)
    parser.add_argument(
        "--backend", choices=BACKENDS, help="engine that --model was exported to, by `convert --to`"
    )
    parser.add_argument(
        "--compute_type",
        metavar="TYPE",
        help="arithmetic of ctranslate2 (float32, int8, ...); default: as the weights are stored",
    )


def given_model_options(args: argparse.Namespace) -> list[str]:
    """Which of the options of `add_model_options` were given, and not with their default."""
    defaults = argparse.ArgumentParser()
    add_model_options(defaults, required=False)
    return [
        f"--{name}" for name, value in vars(defaults.parse_args([])).items() if getattr(args, name) != value
    ]


def generate_options(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `generate()` that were given on the command line."""
    names = ("num_beams", "length_penalty", "max_length")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def check_model_name(name: str) -> None:
    """Refuse a folder without a model, and what can only be a folder, before the Hub is asked for it.

    Raises:
        InputError: `name` is a file, a path where there is no folder, or the folder of a run that has not
            ended, of an exported model, or of something else.
    """
    folder = Path(name)
    if not folder.is_dir():
        if folder.exists() or is_path(name):
            raise InputError(f"`{name}` is not a folder with a model.")
        return
    for file, backend in (("model.bin", "ctranslate2"), ("encoder.onnx", "onnx")):
        if (folder / file).is_file() and not any(folder.glob("*.safetensors")):
            raise InputError(f"`{name}` holds an exported model: add `--backend {backend}`.")
    if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
        from vanilla_transformer.training.checkpoints import list_checkpoints

        if found := list_checkpoints(folder):
            raise InputError(
                f"`{name}` is a run that has not ended: train on, or name a checkpoint of it, such as"
                f" `{found[-1]}`."
            )
        raise InputError(f"`{name}` is not a folder with a model: it has no config.json.")


def load_model(
    name: str, *, device: str = "auto", dtype: str = "auto", quantization_config: Any = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Any sequence-to-sequence model of transformers with its tokenizer, on its device.

    `device` is "auto", a GPU if there is one, or a name of PyTorch's; the rest is as in `from_pretrained`.

    Raises:
        InputError: there is no such model, it is damaged, not whole or of another kind, or the device does
            not exist.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    import vanilla_transformer  # noqa: F401 (makes the Auto classes know our model)
    from vanilla_transformer.modeling.loading import (
        check_complete,
        check_search,
        check_translates,
        check_vocabulary,
        tokenizer_place,
    )
    from vanilla_transformer.modeling.modeling_vanilla_transformer import damaged_file_named
    from vanilla_transformer.modeling.progress import no_progress_bars

    place = _device(device)
    check_model_name(name)
    try:
        with no_progress_bars(), damaged_file_named(name):
            tokenizer = AutoTokenizer.from_pretrained(tokenizer_place(name), trust_remote_code=False)
            loaded: Any = AutoModelForSeq2SeqLM.from_pretrained(
                name,
                trust_remote_code=False,  # nor a question, which a line of the text would answer
                dtype="auto" if dtype == "auto" else getattr(torch, dtype),
                quantization_config=quantization_config,
                output_loading_info=True,
            )
    except Exception as error:  # what a damaged or foreign folder raises is of many kinds
        here = "" if Path(name).is_dir() else "there is no such folder here, and "
        raise InputError(f"`{name}` cannot be loaded: {here}{first_line(error)}") from error
    model, report = loaded
    check_translates(model.config, name)
    check_complete(report["missing_keys"], model.config, name)
    check_vocabulary(tokenizer, model.config)
    check_search(model, name)
    return model.eval().to(place), tokenizer


def load_named_model(args: argparse.Namespace) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of PyTorch that the options of `add_loading_options` name, with its tokenizer.

    Raises:
        InputError: as `load_model`.
    """
    half = _half_weights(args)
    return load_model(args.model, device=args.device, dtype=args.dtype, quantization_config=half)


def load_translator(args: argparse.Namespace) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model that the options of `add_model_options` name, PyTorch's or an engine's, with its tokenizer.

    Raises:
        InputError: as `load_model`, an option is given that the engine does not have, or a language that the
            tokenizer does not know.
    """
    model, tokenizer = _load_translator(args)
    set_languages(model, tokenizer, args)
    return model, tokenizer


def set_languages(model: Any, tokenizer: Any, args: argparse.Namespace) -> None:
    """Set model and tokenizer to the languages that the options of `add_language_options` name.

    Raises:
        InputError: the tokenizer takes no languages, or does not know one of them.
    """
    from vanilla_transformer.modeling.pipeline_vanilla_transformer import (
        known_languages,
        language_generate_kwargs,
    )

    try:
        languages = known_languages(tokenizer, src_lang=args.src_lang, tgt_lang=args.tgt_lang)
    except ValueError as error:
        raise InputError(str(error)) from None
    for name, language in languages.items():
        setattr(tokenizer, name, language)
    if search := language_generate_kwargs(tokenizer, languages):
        model.generation_config.update(**search)


def _load_translator(args: argparse.Namespace) -> tuple[Any, PreTrainedTokenizerBase]:
    if args.compute_type and args.backend != "ctranslate2":
        raise InputError("`--compute_type` goes together with `--backend ctranslate2`.")
    if args.backend is None:
        return load_named_model(args)
    if args.dtype != "auto":
        instead = "; use `--compute_type`" if args.backend == "ctranslate2" else ""
        raise InputError(f"`--dtype` is not available with `--backend {args.backend}`{instead}.")
    from transformers import AutoTokenizer

    from vanilla_transformer.modeling.engines import load_engine
    from vanilla_transformer.modeling.loading import check_search

    device = _device(_engine_device(args.backend) if args.device == "auto" else args.device)
    model = load_engine(args.backend, args.model, device=device, compute_type=args.compute_type)
    check_search(model, args.model)
    try:
        return model, AutoTokenizer.from_pretrained(args.model, trust_remote_code=False)
    except Exception as error:  # what a damaged folder raises is of many kinds
        raise InputError(f"the tokenizer in `{args.model}` cannot be loaded: {first_line(error)}") from None


def _engine_device(backend: str) -> str:
    """Where an engine computes unless told: CTranslate2 on an NVIDIA GPU if there is one, else the CPU."""
    import torch

    return "cuda" if backend == "ctranslate2" and torch.cuda.is_available() else "cpu"


def _half_weights(args: argparse.Namespace) -> Any:
    """What keeps weights in float16 where that is asked for on a CPU, whose arithmetic in it is slow."""
    if args.dtype != "float16" or _device(args.device).type != "cpu":
        return None
    from vanilla_transformer.modeling.half_weights import HalfWeightsConfig, half_weights_run_here

    if half_weights_run_here():
        return HalfWeightsConfig()
    print("warning: without AVX2 `--dtype float16` computes in float16, which is slow here.", file=sys.stderr)
    return None


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device(torch.accelerator.current_accelerator(check_available=True) or "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a value, which `meta` cannot give
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"`device` {name!r} cannot be used: {first_line(error)}") from None
    return device
