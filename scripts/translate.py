"""Translate sentences with a trained model: one line of output for each line of input, in order.

    vanilla-transformer translate --model runs/demo 我有一只猫。
    vanilla-transformer translate --model runs/demo --input test.zh --output test.en
    cat test.zh | vanilla-transformer translate --model runs/demo > test.en

    vanilla-transformer translate --model runs/demo --n_best 3 --alignment 我有一只猫。
    vanilla-transformer translate --backend ctranslate2 --compute_type int8 --model demo-ct2 --input test.zh

Any sequence-to-sequence model of transformers can be named, and with --backend a folder that `convert --to`
has written for an engine. An empty line stays empty. With --n_best, --alignment or --json, each line is
JSON: the list of translations that the pipeline gives, with their scores: best first, or as --do_sample drew
them.

Files of any length need little more memory than short ones. What is translated grows beside the output, as
`test.en.partial`; after an interruption, the same command goes on where it stopped, unless it reads standard
input or a pipe. Of these, 2,048 lines (128 with --alignment) are read before the first is translated; at a
terminal it is one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.lines import (
    STANDARD_INPUT,
    PartialFile,
    check_output,
    is_stream,
    read_lines,
    read_only_once,
    write_lines,
)
from vanilla_transformer.scripts.support.models import add_model_options, generate_options, load_translator
from vanilla_transformer.scripts.support.options import (
    parser_of,
    positive,
    positive_number,
    random_seed,
    sentence,
)
from vanilla_transformer.text_files import short_digest

if TYPE_CHECKING:
    from vanilla_transformer.modeling.translation_vanilla_transformer import Translation

# From this many lines on, a progress bar is worth its line on the screen.
LONG_INPUT = 200
# Lines that are translated together where the attention of each is held until all are: megabytes a sentence.
ALIGNED_WINDOW = 128
# What transformers, PEFT and the exports to engines load a model and its tokenizer from, by name.
MODEL_FILES = (
    *("config.json", "generation_config.json", "adapter_config.json", "*.index.json"),
    *("*.safetensors", "pytorch_model*.bin", "adapter_model.bin", "model.bin", "*.onnx", "*.onnx[._]data"),
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "*vocab*.json", "*vocab*.txt"),
    *("merges.txt", "*.model", "*.spm"),
)


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument(
        "sentences",
        nargs="*",
        type=sentence,
        help="sentences to translate; otherwise standard input is read",
    )
    options.add_argument(
        "--input",
        nargs="+",
        metavar="FILE",
        help="UTF-8 text, one sentence a line, plain or packed (.gz, .bz2, .xz); - is standard input",
    )
    options.add_argument("--output", metavar="FILE", help="where to write; default: standard output")
    options.add_argument(
        "--n_best", type=positive, metavar="N", help="so many translations of each sentence, as JSON"
    )
    options.add_argument(
        "--alignment",
        action="store_true",
        help="also the source token that each target token attends to most, as JSON",
    )
    options.add_argument(
        "--do_sample", action="store_true", help="draw each token at random, as for back-translation"
    )
    options.add_argument("--top_k", type=positive, help="draw from the k most probable tokens; default: all")
    options.add_argument("--temperature", type=positive_number, help="of the draw; default: 1")
    options.add_argument(
        "--seed",
        type=random_seed,
        help="of the draw, which is another where an interrupted run goes on; default: 1",
    )
    options.add_argument("--json", action="store_true", help="a line of JSON for each sentence, with scores")
    options.add_argument(
        "--long_sentences",
        choices=("split", "truncate"),
        help="split what is too long at the ends of its sentences, or cut it off; default: translate it as it"
        " is, if the model can",
    )
    options.add_argument(
        "--max_source_length",
        type=positive,
        metavar="TOKENS",
        help="from where on a line is too long for --long_sentences; default: what the model can take",
    )
    add_model_options(options, required=True)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Translate what the options name."""
    search = search_options(args)
    _check_long_sentences(args)
    check_output(args.output, args.input or [], grows=True)
    sentences, total = open_input(args)
    model, tokenizer = load_translator(args)
    from transformers import set_seed

    from vanilla_transformer.modeling.translation_vanilla_transformer import WINDOW, translations

    _check_ranking(args, search, model)
    _check_length(args, model, tokenizer)
    window = ALIGNED_WINDOW if args.alignment else WINDOW
    typed = _is_typed(args)
    if typed:
        print("type a sentence and Enter; Ctrl-D ends", file=sys.stderr)
    # What can be read once more can be gone on with.
    partial = _partial_file(args, window, resumable=total is not None)
    done = partial.done if partial else 0
    if args.do_sample:
        set_seed((_seed(args) + done) % 2**32)
    found = translations(
        model,
        tokenizer,
        islice(sentences, done, None),
        tokens_per_batch=args.tokens_per_batch,
        progress=total is None and not typed or (total or 0) >= LONG_INPUT,
        total=total,
        done=done,
        window=1 if typed else window,
        num_return_sequences=args.n_best or 1,
        scores=_as_json(args),
        attention=args.alignment,
        long_sentences=args.long_sentences,
        max_source_length=args.max_source_length,
        **search,
    )
    lines = (_line_of(args, ranked) for ranked in found)
    if partial:
        partial.write(lines)
    else:
        write_lines(lines, args.output)


def search_options(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `generate()` that say how translations are searched for, or drawn.

    Raises:
        InputError: an option of sampling without it.
    """
    names = ("top_k", "temperature")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if not args.do_sample:
        for name in (*given, *(["seed"] if args.seed is not None else [])):
            raise InputError(f"`--{name}` goes together with `--do_sample`.")
        return generate_options(args)
    # transformers' own default would be the 50 most probable, and the folder may say something else.
    plain = {"do_sample": True, "num_beams": 1, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
    return plain | given | generate_options(args)


def _seed(args: argparse.Namespace) -> int:
    return 1 if args.seed is None else int(args.seed)


def _check_ranking(args: argparse.Namespace, search: dict[str, Any], model: Any) -> None:
    """Refuse more translations than the search finds, and attention of an engine that shows none."""
    config = model.generation_config
    beams = search.get("num_beams") or config.num_beams or 1
    drawn = search.get("do_sample") or config.do_sample
    if (args.n_best or 1) > beams and not (drawn and beams == 1):
        raise InputError(
            f"`--n_best` must be at most the beams of the search, {beams}, but is {args.n_best} instead:"
            " raise `--num_beams`."
        )
    if args.alignment and args.backend:
        raise InputError(f"`--alignment` is not available with `--backend {args.backend}`.")


def _check_long_sentences(args: argparse.Namespace) -> None:
    """Refuse a length that nothing is done with, and the attention of what is put together from parts."""
    if args.max_source_length and not args.long_sentences:
        raise InputError("`--max_source_length` needs `--long_sentences` to say what becomes of longer ones.")
    if args.alignment and args.long_sentences == "split":
        raise InputError("`--alignment` is not available with `--long_sentences split`.")


def _check_length(args: argparse.Namespace, model: Any, tokenizer: Any) -> None:
    """Refuse a choice for long sentences where none is too long."""
    from vanilla_transformer.modeling.translation_vanilla_transformer import longest_source

    if args.long_sentences and not args.max_source_length and longest_source(model, tokenizer) is None:
        raise InputError(
            "`--long_sentences` needs `--max_source_length`: this model takes sources of any length."
        )


def _is_typed(args: argparse.Namespace) -> bool:
    """Whether somebody types the sentences."""
    read = args.input or ([] if args.sentences else [STANDARD_INPUT])
    return STANDARD_INPUT in read and sys.stdin.isatty()


def _partial_file(args: argparse.Namespace, window: int, *, resumable: bool) -> PartialFile | None:
    """The output as far as it was written before, none where it goes to a stream."""
    if not args.output or is_stream(args.output):
        return None
    partial = PartialFile(args.output, job_of(args, resumable=resumable), window, resumable=resumable)
    if partial.done:
        print(f"going on after line {partial.done}", file=sys.stderr)
    return partial


def _as_json(args: argparse.Namespace) -> bool:
    return args.json or args.alignment or args.n_best is not None


def _line_of(args: argparse.Namespace, ranked: Sequence[Translation]) -> str:
    """What stands in the output for one sentence."""
    if not _as_json(args):
        return ranked[0].text
    from vanilla_transformer.modeling.pipeline_vanilla_transformer import translation_record

    records = [translation_record(one, with_alignment=args.alignment) for one in ranked]
    return json.dumps(records, ensure_ascii=False)


def job_of(args: argparse.Namespace, *, resumable: bool) -> dict[str, Any]:
    """What decides the translations: the model (its files, or its name on the Hub), sources and search.

    Of sources that can be read but once, and are not `resumable`, nothing can be said.
    """
    settings = ("tokens_per_batch", "dtype", "backend", "compute_type", "src_lang", "tgt_lang")
    shown = ("n_best", "alignment", "json", "long_sentences", "max_source_length")
    options = {name: getattr(args, name) for name in settings + shown}
    if args.do_sample:
        options["seed"] = _seed(args)
    sources = (args.sentences or [short_digest(Path(path)) for path in args.input]) if resumable else None
    return {
        "model": [short_digest(path) for path in model_files(args.model)] or args.model,
        "sources": sources,
        "search": search_options(args) | options,
    }


def model_files(model: str) -> list[Path]:
    """The files of a folder that decide what its model says; logs, scores and translations may lie beside."""
    found = {path for pattern in MODEL_FILES for path in Path(model).glob(pattern)}
    return sorted(filter(Path.is_file, found))


def open_input(args: argparse.Namespace) -> tuple[Iterable[str], int | None]:
    """The sentences, and how many there are if that can be known.

    Files are read through once before the model is loaded, so that a broken one stops the run at the start.
    """
    if args.sentences and args.input:
        raise InputError("give sentences as arguments or `--input`, not both.")
    if args.sentences:
        return args.sentences, len(args.sentences)
    paths = args.input or [STANDARD_INPUT]
    if any(map(read_only_once, paths)):
        return _all_lines(paths), None
    return _all_lines(paths), sum(1 for _ in _all_lines(paths))


def _all_lines(paths: Sequence[str]) -> Iterator[str]:
    return chain.from_iterable(read_lines(path) for path in paths)


if __name__ == "__main__":
    raise SystemExit(main())
