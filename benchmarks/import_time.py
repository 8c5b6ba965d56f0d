"""Start-up: our package against transformers' own seq2seq classes.

Each measurement is the wall time and the CPU time of a fresh interpreter that runs one import and ends. The
three are interleaved (ours, ours with its classes, Marian, ours, ...).

    python benchmarks/import_time.py --rounds 10
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from side_by_side import format_ratio, ratios

from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.options import parser_of, positive

TITLES = ("Import", "Seconds", "Times as long as Marian's")
REFERENCE = "transformers' Marian classes"
IMPORTS = {
    "import vanilla_transformer": "import vanilla_transformer",
    "vanilla_transformer's classes": (
        "from vanilla_transformer import "
        "VanillaTransformerConfig, VanillaTransformerForConditionalGeneration, VanillaTransformerTokenizer"
    ),
    REFERENCE: "from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast",
}


def seconds_to_run(statement: str) -> tuple[float, float]:
    """Return the wall time and the CPU time in seconds of a fresh interpreter that executes `statement`."""
    start, used = time.perf_counter(), _cpu_seconds_of_children()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start, _cpu_seconds_of_children() - used


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return wall and CPU seconds of each import in each round; an extra first round warms the file cache."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in IMPORTS}
    for number in range(rounds + 1):
        for name, statement in IMPORTS.items():
            seconds = seconds_to_run(statement)
            if number > 0:
                times[name].append(seconds)
    return times


def summarise(times: dict[str, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    """Return a row per import and clock: median seconds, and the ratio to Marian's in the same round."""
    rows = []
    for number, clock in enumerate(("wall", "CPU")):
        reference = [round_[number] for round_ in times[REFERENCE]]
        for name, rounds in times.items():
            seconds = [round_[number] for round_ in rounds]
            rows.append(
                {
                    "import": name,
                    "clock": clock,
                    "seconds": statistics.median(seconds),
                    "ratio": ratios(seconds, reference),
                }
            )
    return rows


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=positive, default=5, help="measurements of each import (default: 5)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    arguments = parse_arguments(argv)
    return run_script(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Measure and print a table."""
    from vanilla_transformer.training.reports import show_report

    figures = summarise(measure(arguments.rounds))
    rows = [
        [
            row["import"],
            f"{row['seconds']:.2f} {row['clock']}",
            format_ratio(row["ratio"]),
        ]
        for row in figures
    ]
    show_report(arguments.json, titles=TITLES, rows=rows, device="cpu", figures=figures)


if __name__ == "__main__":
    raise SystemExit(main())
