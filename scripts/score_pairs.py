"""Print how probable a model holds given translations: a line for each pair, in order.

    vanilla-transformer score --model runs/en-de --source test.en --target test.de
    vanilla-transformer score --model runs/en-de --source test.en --target test.de --per_token --output scores

Each line is log P(target | source) in nats, the end token counted, by teacher forcing; with --per_token it is
divided by the tokens of the target; a pair that is too long for the model has nan. The perplexity of all
others goes to standard error. Any sequence-to-sequence model of transformers can be named. Uses: ranking
n-best lists, filtering a parallel corpus, comparing models.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.lines import check_output, write_lines
from vanilla_transformer.scripts.support.models import (
    add_language_options,
    add_loading_options,
    load_named_model,
    set_languages,
)
from vanilla_transformer.scripts.support.options import parser_of, positive

if TYPE_CHECKING:
    from vanilla_transformer.modeling.pair_scores import PairScore


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument("--source", required=True, metavar="FILE", help="source text, one sentence a line")
    options.add_argument("--target", required=True, metavar="FILE", help="line n translates line n of it")
    options.add_argument("--output", metavar="FILE", help="where to write; default: standard output")
    options.add_argument("--per_token", action="store_true", help="divide by the tokens of the target")
    options.add_argument(
        "--tokens_per_batch",
        type=positive,
        default=2048,
        help="most tokens of a batch on its longer side; default: %(default)s",
    )
    add_loading_options(options, required=True)
    add_language_options(options)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Score what the options name."""
    from vanilla_transformer.modeling.pair_scores import score_pairs
    from vanilla_transformer.text_files import check_regular, count_lines
    from vanilla_transformer.training.parallel_files import check_equal_length, read_aligned_batches

    check_output(args.output, [args.source, args.target])
    files = Path(args.source), Path(args.target)
    for path in files:
        check_regular(path)
    check_equal_length(*files)
    if not count_lines(files[0]):
        raise InputError(f"`{files[0]}` is empty.")
    model, tokenizer = load_named_model(args)
    set_languages(model, tokenizer, args)
    pairs = chain.from_iterable(zip(*batch, strict=True) for batch in read_aligned_batches(*files))
    total = Total()
    found = score_pairs(model, tokenizer, pairs, tokens_per_batch=args.tokens_per_batch)
    write_lines(total.lines(found, per_token=args.per_token), args.output)
    print(total, file=sys.stderr)


@dataclass
class Total:
    """What the pairs come to together."""

    log_probability: float = 0.0
    tokens: int = 0
    pairs: int = 0

    def lines(self, scores: Iterable[PairScore], *, per_token: bool) -> Iterator[str]:
        """A line for each score, which is counted."""
        for score in scores:
            if not math.isnan(score.log_probability):
                self.log_probability += score.log_probability
                self.tokens += score.tokens
                self.pairs += 1
            yield f"{score.log_probability / (max(score.tokens, 1) if per_token else 1):.4f}"

    def __str__(self) -> str:
        if not self.tokens:
            return "no pair was scored"
        perplexity = math.exp(min(-self.log_probability / self.tokens, 700.0))
        return f"{self.pairs} pairs, {self.tokens} target tokens, perplexity {perplexity:.3f}"


if __name__ == "__main__":
    raise SystemExit(main())
