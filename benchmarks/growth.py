"""Growth: what a target token costs as sentences, batches, the vocabulary or the stacks grow.

Our model and transformers' Marian, of the same small shape and with fused attention (`sdpa`), take turns at a
training step, forward and backward; on a CPU the clock counts the process's own seconds. One thing grows at a
time: `length`, in batches of as many tokens whatever the length, `batch`, `vocabulary` or `depth`. No
sentence is padded.

`memory` is what a forward pass through both stacks adds to the memory at its peak, with `sdpa` and with
`eager` attention, which holds all scores: two sentences, one of them padded, without gradients and without
the projection to the vocabulary. `lines` is the peak memory of a process that translates a file. Each figure
comes from a process of its own: what the allocator keeps of one would be missing in the next.

    python benchmarks/growth.py --json growth.json --figure growth.png
    python benchmarks/growth.py --quick
    python benchmarks/growth.py --axes length --values 10 100 1000 --device cuda

The exponent of a curve is its slope over its last three points where both scales are logarithmic: 0 for what
stays as it is, 1 for what grows in proportion.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from side_by_side import (
    FIRST_WORD,
    MARIAN,
    MODELS,
    OURS,
    PAD,
    SHAPES,
    START,
    add_options,
    build_model,
    memory_left_out,
    ratios,
    resident_mib,
    take_turns,
    tell_left_out,
)

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.options import parser_of, positive

# Target tokens of a step on the axis of lengths, and of all steps of a round elsewhere, which are no more.
STEP_TOKENS, MOST_STEPS = 4000, 4

Batch = dict[str, torch.Tensor]
Curves = dict[str, list[float]]


@dataclass(frozen=True)
class Point:
    """A training step: tokens of a sentence on each side, sentences, vocabulary, and layers of each stack."""

    length: int = 25
    batch: int = 16
    vocabulary: int = 4000
    depth: int = 2


@dataclass(frozen=True)
class Axis:
    """What grows, what is measured, and where, in full and in the quick form."""

    grows: str
    measured: str
    full: tuple[int, ...]
    quick: tuple[int, ...]


COST, COST_ON_GPU = "processor time, µs per target token", "time, µs per target token"
AXES = {
    "length": Axis("tokens of a sentence", COST, (10, 30, 100, 300, 1000, 2000, 4000), (10, 100, 1000)),
    "batch": Axis("sentences of a batch", COST, (1, 4, 16, 64, 256), (1, 16, 256)),
    "vocabulary": Axis("vocabulary", COST, (1000, 4000, 16_000, 64_000), (1000, 8000, 32_000)),
    "depth": Axis("layers of each stack", COST, (1, 2, 4, 8, 16), (1, 2, 4)),
    "memory": Axis("tokens of a sentence", "MiB", (250, 500, 1000, 2000, 4000), (500, 1000, 2000)),
    "lines": Axis("lines of a file", "MiB", (2000, 20_000, 200_000, 1_000_000), (2000, 8000)),
}
MEMORY_CURVES = {
    f"{model}, {attention}": (model, attention) for attention in ("sdpa", "eager") for model in MODELS
}


def point_on(axis: str, value: int) -> Point:
    """Return the training step at `value` of an axis, everything else as it is by default."""
    if axis == "length":
        return Point(length=value, batch=max(1, STEP_TOKENS // value))
    return replace(Point(), **{axis: value})


def model_at(point: Point, name: str, shape: str, device: str, attention: str = "sdpa") -> Any:
    """Return our model or Marian's, in training mode, for sentences as long as those of `point`."""
    sizes = replace(SHAPES[shape], layers=point.depth)
    return build_model(name, sizes, point.vocabulary, device, attention=attention, longest=point.length)


def make_batch(lengths: Sequence[int], vocabulary: int, device: str) -> Batch:
    """Return random sentences of these lengths on both sides, as a model takes them."""
    draw = torch.Generator().manual_seed(1)
    shown = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]  # (N, T)
    source, target = torch.randint(FIRST_WORD, vocabulary, (2, *shown.shape), generator=draw)
    start = torch.full_like(target[:, :1], START)
    batch = {
        "input_ids": source.masked_fill(~shown, PAD),
        "attention_mask": shown.long(),
        "decoder_input_ids": torch.cat([start, target[:, :-1]], dim=1).masked_fill(~shown, PAD),
        "labels": target.masked_fill(~shown, -100),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}


def training_costs(axis: str, values: Sequence[int], arguments: argparse.Namespace) -> dict[str, Curves]:
    """Return the median cost of a token at each value, and the ratio ours / Marian within a round."""
    curves: Curves = {name: [] for name in arguments.systems}
    found: Curves = {"median": [], "least": [], "greatest": []}
    for value in values:
        costs = costs_at(point_on(axis, value), arguments)
        for name, measured in costs.items():
            curves[name].append(statistics.median(measured))
        if len(costs) == len(MODELS):
            for name, ratio in zip(found, ratios(costs[OURS], costs[MARIAN]), strict=True):
                found[name].append(ratio)
    return {"curves": curves, "ratios": found}


def costs_at(point: Point, arguments: argparse.Namespace) -> Curves:
    """Return the µs per target token of each model in each round."""
    batch = make_batch([point.length] * point.batch, point.vocabulary, arguments.device)
    tokens = point.length * point.batch
    steps = min(MOST_STEPS, -(-STEP_TOKENS // tokens))

    def work(name: str) -> Callable[[], float]:
        model = model_at(point, name, arguments.shape, arguments.device)

        def train_all() -> float:
            for _ in range(steps):
                train(model, batch)
            return steps * tokens

        return train_all

    works = {name: work(name) for name in arguments.systems}
    speeds = take_turns(works, rounds=arguments.rounds, device=arguments.device)
    return {name: [1e6 / speed for speed in found] for name, found in speeds.items()}


def train(model: Any, batch: Batch) -> None:
    """Forward and backward pass, ours as our trainer calls it: the loss fused with the last projection."""
    fused = {"return_logits": False} if hasattr(model, "limits_output_by_source") else {}
    model.zero_grad(set_to_none=True)
    model(**batch, **fused).loss.backward()


def forward_peak(curve: str, value: int, arguments: argparse.Namespace) -> float:
    """Return the MiB that a forward pass adds at its peak, in this process, which must be fresh."""
    name, attention = MEMORY_CURVES[curve]
    device, point = arguments.device, Point(length=value)
    model = model_at(point, name, arguments.shape, device, attention).eval().model
    with torch.no_grad():
        model(**_two_sentences(10, point.vocabulary, device))  # what is allocated once
        batch = _two_sentences(value, point.vocabulary, device)
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        before = resident_mib("VmRSS") if device == "cpu" else torch.cuda.memory_allocated() / 2**20
        model(**batch)
    peak = resident_mib("VmHWM") if device == "cpu" else torch.cuda.max_memory_allocated() / 2**20
    return peak - before


def _two_sentences(length: int, vocabulary: int, device: str) -> Batch:
    """A batch of which a tenth of one sentence is padding."""
    batch = make_batch([length, length - length // 10], vocabulary, device)
    del batch["labels"]
    return batch


def translation_peak(curve: str, value: int, arguments: argparse.Namespace) -> float:
    """Return the peak MiB of this process, which must be fresh, when it has translated `value` lines."""
    from vanilla_transformer import VanillaTransformerTokenizer
    from vanilla_transformer.scripts import translate

    words = [f"w{number}" for number in range(50)]
    tokenizer = VanillaTransformerTokenizer.train_from_iterator(words, vocab_size=300, min_frequency=1)
    model = model_at(Point(vocabulary=len(tokenizer), depth=1), OURS, arguments.shape, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        source, target = Path(folder, "source"), Path(folder, "target")
        with source.open("w", encoding="utf-8") as file:
            file.writelines(f"{words[k % 50]} {words[k % 7]}\n" for k in range(value))
        options = ["--model", folder, "--input", str(source), "--output", str(target)]
        options += ["--num_beams", "1", "--max_length", "8", "--device", arguments.device]
        if translate.main(options):
            raise RuntimeError(f"{value} lines were not translated.")
    return resident_mib("VmHWM")


PEAKS: dict[str, tuple[tuple[str, ...], Callable[..., float]]] = {
    "memory": (tuple(MEMORY_CURVES), forward_peak),
    "lines": (("translate",), translation_peak),
}


def reads_memory(axis: str, device: str) -> bool:
    """Whether an axis is measured by the memory of a process, and not by what is allocated on a GPU."""
    return axis == "lines" or (axis == "memory" and device == "cpu")


def memory_curves(axis: str, values: Sequence[int], arguments: argparse.Namespace) -> Curves:
    """Return the peaks of each curve, as a child of this process finds them."""
    words = [sys.executable, __file__, "--axes", axis, "--values", *map(str, values), "--peaks"]
    words += ["--systems", *arguments.systems, "--shape", arguments.shape]
    words += ["--device", arguments.device, "--threads", str(arguments.threads)]
    # Of glibc: large blocks go back to the system at once, so that the peak is what a pass holds. A file is
    # translated as users do it.
    environment = os.environ | ({"MALLOC_MMAP_THRESHOLD_": "65536"} if axis == "memory" else {})
    result = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stderr)
    found: Curves = json.loads(result.stdout.splitlines()[-1])
    return found


def forked_peaks(axis: str, arguments: argparse.Namespace) -> Curves:
    """Return the peaks of each curve, each measured in a copy of this process as it is now.

    They share its imports, which take seconds.
    """
    for name in MODELS:
        model_at(Point(depth=1), name, "toy", "cpu")  # imports what both need
    curves, peak = PEAKS[axis]
    if axis == "memory":
        curves = tuple(curve for curve in curves if MEMORY_CURVES[curve][0] in arguments.systems)
    tasks = [(curve, value, arguments) for curve in curves for value in arguments.values]
    with get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        peaks = iter(pool.starmap(peak, tasks, chunksize=1))
    return {curve: [next(peaks) for _ in arguments.values] for curve in curves}


def measure(axis: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the values of an axis, the curves over them, and their exponents."""
    values = sorted(arguments.values or getattr(AXES[axis], "quick" if arguments.quick else "full"))
    if axis in PEAKS:
        found: dict[str, Any] = {"curves": memory_curves(axis, values, arguments)}
    else:
        found = training_costs(axis, values, arguments)
    exponents = {name: exponent(values, curve) for name, curve in found["curves"].items()}
    measured = AXES[axis].measured
    if measured == COST and arguments.device != "cpu":
        measured = COST_ON_GPU
    return {
        "grows": AXES[axis].grows,
        "measured": measured,
        "values": values,
        **found,
        "exponents": exponents,
    }


def exponent(values: Sequence[float], curve: Sequence[float]) -> float:
    """Return the slope of log(curve) over log(values) at the last three points, by least squares."""
    along = [math.log(value) for value in values[-3:]]
    up = [math.log(max(value, 1e-9)) for value in curve[-3:]]
    return statistics.linear_regression(along, up).slope if len(along) > 1 else math.nan


def summary_rows(results: dict[str, Any]) -> list[list[str]]:
    """Return a row for each curve: what grows, from where to where, what it costs, and its exponent."""
    rows = []
    for row in results.values():
        values = f"{row['grows']}, {row['values'][0]:,} to {row['values'][-1]:,}"
        for name, curve in row["curves"].items():
            costs = f"{curve[0]:.0f} to {curve[-1]:.0f}"
            rows.append([values, name, row["measured"], costs, f"{row['exponents'][name]:.2f}"])
    return rows


TITLES = ("what grows", "curve", "measured", "from the first to the last", "exponent")


def report(results: dict[str, Any]) -> str:
    """Return a table of text for each axis."""
    lines = []
    for row in results.values():
        names, ratios = list(row["curves"]), row.get("ratios", {"median": []})
        lines += ["", f"{row['measured']}", f"{row['grows']:<22}" + "".join(f"{name:>16}" for name in names)]
        if ratios["median"]:
            lines[-1] += f"{'ours / marian':>24}"
        for place, value in enumerate(row["values"]):
            lines.append(f"{value:<22,}" + "".join(f"{row['curves'][name][place]:>16.1f}" for name in names))
            if ratios["median"]:
                lines[-1] += "{:>10.2f} ({:.2f} to {:.2f})".format(
                    *(ratio[place] for ratio in ratios.values())
                )
        lines.append(f"{'exponent':<22}" + "".join(f"{row['exponents'][name]:>16.2f}" for name in names))
    return "\n".join(lines[1:])


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw a panel for each axis, both of its scales logarithmic."""
    from matplotlib.ticker import NullFormatter

    from vanilla_transformer.drawing import new_figure, save_figure

    columns = min(3, len(results))
    size = (math.ceil(len(results) / columns), columns)
    figure = new_figure(3.2 * columns, 2.8 * size[0])
    grid = figure.subplots(*size, squeeze=False)
    for panel, row in zip(grid.flat, results.values(), strict=False):
        for name, curve in row["curves"].items():
            panel.loglog(row["values"], curve, marker=".", label=f"{name} ({row['exponents'][name]:.2f})")
        points = [value for curve in row["curves"].values() for value in curve]
        panel.set_ylim(min(points) / 3, max(points) * 3)  # so that a level curve looks level
        for side in (panel.xaxis, panel.yaxis):
            side.set_minor_formatter(NullFormatter())
        panel.set_xlabel(row["grows"])
        panel.set_ylabel(row["measured"], fontsize="small")
        panel.legend(fontsize="x-small", title="exponent in brackets", title_fontsize="x-small")
    for panel in grid.flat[len(results) :]:
        panel.remove()
    save_figure(figure, path)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--axes", choices=AXES, nargs="+", default=[*AXES], help="what grows (default: all)")
    add("--values", type=positive, nargs="+", help="how far, where --axes names one axis")
    add("--systems", choices=MODELS, nargs="+", default=MODELS, help="what is measured (default: both)")
    add("--shape", choices=SHAPES, default="tiny", help="widths of both models (default: tiny)")
    add("--quick", action="store_true", help="fewer values and one round: a minute or two")
    add_options(parser, rounds=3)
    add("--peaks", action="store_true", help="only print the peaks of one axis, measured below this process")
    arguments = parser.parse_args(argv)
    if arguments.values and len(arguments.axes) > 1:
        parser.error("--values needs --axes with one axis.")
    if arguments.quick:
        arguments.rounds = 1
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    arguments = parse_arguments(argv)
    return run_script(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Measure and print tables."""
    torch.set_num_threads(arguments.threads)
    if arguments.peaks:
        print(json.dumps(forked_peaks(arguments.axes[0], arguments)))
        return
    left_out = memory_left_out(*(axis for axis in arguments.axes if reads_memory(axis, arguments.device)))
    tell_left_out(left_out)
    results = {axis: measure(axis, arguments) for axis in arguments.axes if axis not in left_out}
    if not results:
        raise InputError("none of `--axes` can be measured here.")
    print(report(results))
    if arguments.json:
        from vanilla_transformer.training.reports import write_report

        write_report(
            arguments.json,
            titles=TITLES,
            rows=summary_rows(results),
            device=arguments.device,
            axes=results,
            left_out=left_out,
        )
    if arguments.figure:
        plot(results, arguments.figure)


if __name__ == "__main__":
    raise SystemExit(main())
