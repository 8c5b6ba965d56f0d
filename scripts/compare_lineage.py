"""The road to the Transformer: older models beside it on one corpus, in one table and one plot.

    vanilla-transformer lineage
    vanilla-transformer lineage --models ngram3 gru gru_attention transformer --steps 500
    vanilla-transformer lineage --train_source train.en --train_target train.de \\
        --valid_source val.en --valid_target val.de --target_lang de --vocab_size 8000

Without files it takes the embedded Chinese-English corpus. Language models are those of the target side, and
all perplexities are per piece of the one vocabulary; translations are greedy. On a CPU, seconds are those of
the process, over all its threads. The command given again only trains what is missing in `--output_dir`.
word2vec needs the package gensim (`pip install '.[lineage]'`).

The pictures in `--output_dir`: lineage.png (perplexity and BLEU), losses.png, bleu_by_length.png,
words_cbow.png, words_skip_gram.png and, where 苹果 is a piece of the vocabulary, senses.png: the vectors that
ELMo gives the word as a fruit and as a company. The tables are lineage.json and senses.json, the trained
models are in models/.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.corpora import add_corpus_options, corpus_digests, corpus_files
from vanilla_transformer.scripts.support.options import parser_of, positive, random_seed

# The keys of `road.lineage_models()`, so that `--help` need not import PyTorch.
MODELS = (
    *("ngram1", "ngram2", "ngram3", "nnlm", "cbow", "skip_gram"),
    *("gru", "gru_attention", "lstm", "lstm_attention", "transformer", "elmo"),
)


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    add = options.add_argument
    add("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME", help=", ".join(MODELS))
    add_corpus_options(options, train_size=24_000)
    add("--target_lang", help="BCP-47 code of files of your own; decides how BLEU splits words; default: en")
    add("--vocab_size", type=positive, default=2000, help="entries of the vocabulary; default: %(default)s")
    add("--steps", type=positive, default=1000, help="updates of each neural model; default: %(default)s")
    add("--tokens_per_update", type=positive, default=2048, help="default: %(default)s")
    add("--width", type=positive, default=128, help="of all models, a multiple of 4; default: %(default)s")
    add("--seed", type=random_seed, default=1, help="default: %(default)s")
    add("--output_dir", default="runs/lineage", metavar="DIR", help="default: %(default)s")
    add("--results", metavar="FILE", help="results file; default: lineage.json in the output folder")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Train what is missing, print the table, and write it and the plot."""
    _check_sizes(args)
    _check_gensim(args.models)
    files = corpus_files(args)
    from vanilla_transformer.lineage import pictures, road
    from vanilla_transformer.tables import markdown_table
    from vanilla_transformer.training.reports import check_settings, write_report

    names = ("steps", "tokens_per_update", "width", "seed", "vocab_size")
    folder = Path(args.output_dir)
    settings = {name: getattr(args, name) for name in names}
    noted = settings | corpus_digests(files) | {"target_lang": args.target_lang}
    check_settings(folder / "settings.json", noted, begun=any(folder.glob("rows/[!.]*.json")))
    experiment = road.prepare(files, folder, language=args.target_lang, **settings)
    road.train_missing(experiment, args.models)
    rows = road.read_rows(experiment, MODELS)
    table = road.table_rows(rows)
    lengths = road.rows_by_length(experiment.valid["source_length"])
    sizes = {name: len(sentences) for name, sentences in lengths.items()}
    content: dict[str, Any] = {"settings": settings, "models": rows, "sentences_by_length": sizes}
    write_report(args.results or folder / "lineage.json", titles=road.TITLES, rows=table, **content)
    if "senses" in (elmo := rows.get("elmo", {})):
        content = {"settings": settings, "seconds": elmo["seconds"], "senses": elmo["senses"]}
        write_report(folder / "senses.json", titles=road.SENSE_TITLES, rows=road.sense_rows(elmo), **content)
    pictures.plot_scores(rows, folder / "lineage.png")
    pictures.plot_losses(rows, folder / "losses.png")
    pictures.plot_lengths(rows, sizes, folder / "bleu_by_length.png")
    print(markdown_table(road.TITLES, table))
    for line in road.word_lines(rows):
        print(f"\n{line}")
    print(f"\nthe pictures are in {folder}")


def _check_sizes(args: argparse.Namespace) -> None:
    from vanilla_transformer.tokenization.tokenization_vanilla_transformer import SMALLEST_VOCABULARY

    if args.width % 4:
        raise InputError(f"`--width` must be a multiple of 4, but is {args.width} instead.")
    if args.vocab_size < SMALLEST_VOCABULARY:
        raise InputError(
            f"`--vocab_size` must be at least {SMALLEST_VOCABULARY}, but is {args.vocab_size} instead."
        )


def _check_gensim(models: Sequence[str]) -> None:
    from importlib.util import find_spec

    if {"cbow", "skip_gram"} & set(models) and find_spec("gensim") is None:
        raise InputError(
            "word2vec needs the package gensim: install it, or leave cbow and skip_gram out of `--models`."
        )


if __name__ == "__main__":
    raise SystemExit(main())
