"""Encoding and decoding speed of our tokenizer against transformers' own fast tokenizers.

All are trained on the same synthetic text (words of Latin letters with Zipf's frequencies, or Chinese
characters without spaces) with the same vocabulary size, then take turns at sentences that they have not
seen, new ones for each job of a round (tokenizers keep what they have encoded), on one thread. What counts is
the ratio ours / theirs within a round, of characters per second of processor time. "ids alone" is our
`encode_ids` against `encode_batch_fast` of the backend of transformers' tokenizers.

    python benchmarks/tokenizer_speed.py
    python benchmarks/tokenizer_speed.py --file corpus.en --vocab-size 8000
"""

import argparse
import gc
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from side_by_side import format_ratio, ratios

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.lines import read_lines
from vanilla_transformer.scripts.support.options import parser_of, positive

os.environ["TOKENIZERS_PARALLELISM"] = "false"

TRAINING_SHARE = 0.4
PEERS = ("GemmaTokenizer", "LlamaTokenizer", "GPT2Tokenizer", "T5Tokenizer")
JOBS = ("encode", "ids alone", "decode")
TITLES = ("Text", "Peer", "Ours, 10^6 characters/s", "Theirs", "Ours / theirs")


def latin_sentences(count: int, seed: int = 1) -> Iterator[str]:
    """Yield sentences of made-up words in Latin letters, 20 words on average."""
    draw = random.Random(seed)
    onsets = ["b", "br", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "st", "t", "th", "v", "w", ""]
    syllables = [a + v + e for a in onsets for v in "aeiou" for e in ("", "n", "r", "s", "t")]
    words = ["".join(draw.choices(syllables, k=draw.choice((1, 1, 2, 2, 3, 4)))) for _ in range(20_000)]
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    for _ in range(count):
        sentence = draw.choices(words, cum_weights=weights, k=draw.randint(5, 35))
        sentence[0] = sentence[0].capitalize()
        if draw.random() < 0.3:
            sentence[len(sentence) // 2] += ","
        if draw.random() < 0.1:
            sentence.append(str(draw.randrange(3000)))
        yield " ".join(sentence) + draw.choice(".....?!")


def chinese_sentences(count: int, seed: int = 1) -> Iterator[str]:
    """Yield sentences of made-up words in Chinese characters, 12 words on average, without spaces."""
    draw = random.Random(seed)
    characters = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
    words = ["".join(draw.choices(characters, k=draw.choice((1, 2, 2, 3)))) for _ in range(20_000)]
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    for _ in range(count):
        sentence = draw.choices(words, cum_weights=weights, k=draw.randint(4, 20))
        if draw.random() < 0.3:
            sentence.insert(len(sentence) // 2, "，")
        yield "".join(sentence) + draw.choice("。。。？！")


def train(name: str, lines: Sequence[str], vocab_size: int) -> Any:
    """Return the tokenizer of that class, trained on `lines`."""
    import transformers

    from vanilla_transformer import VanillaTransformerTokenizer

    if name == "ours":
        return VanillaTransformerTokenizer.train_from_iterator(lines, vocab_size=vocab_size)
    empty = getattr(transformers, name)()
    return empty.train_new_from_iterator(lines, vocab_size=vocab_size, show_progress=False)


def compare(lines: Sequence[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return, for each peer and job, the ratios ours / theirs, and our and their speeds."""
    first = int(len(lines) * TRAINING_SHARE)
    size = (len(lines) - first) // (2 * (arguments.rounds + 1))
    if size < 1:
        raise InputError(f"{len(lines)} lines are too few for {arguments.rounds} rounds.")
    names = ["ours", *arguments.peers]
    tokenizers = {name: train(name, lines[:first], arguments.vocab_size) for name in names}
    speeds: dict[str, dict[str, list[float]]] = {job: {name: [] for name in names} for job in JOBS}
    for number in range(arguments.rounds + 1):
        start = first + 2 * number * size
        batches = [list(lines[k : k + size]) for k in (start, start + size)]
        for name in random.Random(number).sample(names, k=len(names)):
            for job, speed in _speeds(tokenizers[name], *batches).items():
                if number > 0:  # the first round warms up
                    speeds[job][name].append(speed)
    return {name: {job: _ratio(speeds[job], name) for job in JOBS} for name in arguments.peers}


def _speeds(tokenizer: Any, first: list[str], second: list[str]) -> dict[str, float]:
    """Encode and decode the first batch, and make ids alone of the second; return characters per second."""
    ids, encoding = _timed(lambda: tokenizer(first)["input_ids"])
    _, decoding = _timed(lambda: tokenizer.batch_decode(ids, skip_special_tokens=True))
    _, alone = _timed(lambda: _ids(tokenizer, second))
    characters, others = (sum(map(len, batch)) for batch in (first, second))
    speeds = {"encode": characters / encoding, "ids alone": others / alone, "decode": characters / decoding}
    return {job: speeds[job] for job in JOBS}


def _ids(tokenizer: Any, batch: list[str]) -> list[list[int]]:
    """The ids of a batch by the quickest way that the tokenizer has."""
    if hasattr(tokenizer, "encode_ids"):
        found: list[list[int]] = tokenizer.encode_ids(batch)
        return found
    return [one.ids for one in tokenizer.backend_tokenizer.encode_batch_fast(batch)]


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    gc.collect()  # what an earlier one left is not this one's to clear away
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def _ratio(speeds: dict[str, list[float]], peer: str) -> dict[str, float]:
    median, least, most = ratios(speeds["ours"], speeds[peer])
    return {
        "ours": statistics.median(speeds["ours"]),
        "theirs": statistics.median(speeds[peer]),
        "ratio": median,
        "min": least,
        "max": most,
    }


def table_rows(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the results as they are shown; speeds in millions of characters per second."""
    return [
        [
            f"{text}, {job}",
            peer,
            f"{figures['ours'] / 1e6:.2f}",
            f"{figures['theirs'] / 1e6:.2f}",
            format_ratio((figures["ratio"], figures["min"], figures["max"])),
        ]
        for text, peers in results.items()
        for peer, jobs in peers.items()
        for job, figures in jobs.items()
    ]


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--file", type=Path, help="text to use instead of the synthetic ones, a sentence a line")
    add("--sentences", type=positive, default=40_000, help="synthetic sentences of each kind; default: 40000")
    add("--vocab-size", type=positive, default=8000, help="entries of each vocabulary (default: 8000)")
    add("--rounds", type=positive, default=7, help="timed rounds (default: 7)")
    add(
        "--peers",
        nargs="+",
        choices=PEERS,
        default=list(PEERS),
        help="classes of transformers (default: %(default)s)",
    )
    add("--json", type=Path, help="write the figures here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    arguments = parse_arguments(argv)
    return run_script(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Measure and print a table."""
    from vanilla_transformer.training.reports import show_report

    if arguments.file:
        texts = {arguments.file.name: list(read_lines(str(arguments.file)))}
    else:
        count = arguments.sentences
        texts = {"latin": list(latin_sentences(count)), "chinese": list(chinese_sentences(count))}
    results = {name: compare(lines, arguments) for name, lines in texts.items()}
    show_report(arguments.json, titles=TITLES, rows=table_rows(results), device="cpu", figures=results)


if __name__ == "__main__":
    raise SystemExit(main())
