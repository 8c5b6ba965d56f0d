"""Training speed and peak memory: our model against transformers' MarianMTModel of the same shape.

Both train on the same length-bucketed batches of random tokens: forward pass, loss, backward pass, Adam. They
take turns (ours, Marian, ours, Marian, ...) in one process; on a CPU the clock counts its own seconds. Tokens
are target tokens without padding. Peak memory is measured in a process of its own for each: what it grew by
after its imports on a CPU, what PyTorch allocated on a GPU.

    python benchmarks/train_speed.py --shape tiny --threads 2
    python benchmarks/train_speed.py --shape base --device cuda --dtype bfloat16 --tokens-per-batch 12500

Each computes the loss as its trainer does: ours projects to the vocabulary chunk by chunk and keeps no
logits, which Marian cannot. Adam is fused, as it is in both trainers. Two differences remain: Marian's
projections have biases, which the paper's have not, and Marian cannot smooth labels, so neither does.

The limit is what would be trained on a second if the step were nothing but products with the matrices of our
model, three of each (forward, gradient of the inputs, gradient of the weights), at the rate that this machine
reaches in a large one of `--dtype`. Padding is not multiplied there, and attention's own products, which have
no weights, are not counted. On a GPU, 10^12 operations of these products per second stand beside that rate:
their quotient is the utilisation.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from side_by_side import (
    MARIAN,
    MODELS,
    OURS,
    SHAPES,
    START,
    Shape,
    add_options,
    build_model,
    format_ratio,
    memory_left_out,
    product_rate,
    random_sentences,
    report,
    resident_mib,
    take_turns,
    tell_left_out,
    with_ratios,
)

from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.options import not_negative, parser_of, positive

# Entries of the vocabulary at each shape.
VOCABULARIES = {"toy": 300, "tiny": 8000, "base": 37_000, "big": 37_000}
TITLES = ("Measured", "Ours", "Marian", "Ours / Marian", "Limit")
MEMORY, SPEED, OPERATIONS = "peak memory in MiB", "target tokens per second", "10^12 operations per second"
RATIO, LIMIT = f"{OURS} / {MARIAN}", "limit"
# Tokens of a sentence, at least.
SHORTEST = 4
# What a trainer adds to a batch.
LOSS_OPTIONS: dict[str, dict[str, Any]] = {OURS: {"return_logits": False}, MARIAN: {}}

Batch = dict[str, torch.Tensor]


def make_batches(count: int, vocab_size: int, tokens_per_batch: int) -> list[Batch]:
    """Return `count` batches of sentence pairs of like length, the one of the longest pairs first.

    Lengths are spread as in news text (log-normal around 25 tokens, at most 128). Sentences times the
    greatest length comes as near to `tokens_per_batch` as it can, on the longer side.
    """
    generator = torch.Generator().manual_seed(1)
    # The shortest tenth, where the last batch begins, fills one: it has four tokens or more in each pair.
    spread = torch.randn(max(100 * count, 10 * tokens_per_batch // SHORTEST), generator=generator)
    targets = (25 * (0.6 * spread).exp()).clamp(SHORTEST, 128).long()
    stretch = 1 + 0.1 * torch.randn(len(targets), generator=generator)
    sources = (targets * stretch).clamp(SHORTEST, 140).long()
    order = targets.argsort(descending=True)
    batches = []
    for start in torch.linspace(0, 0.9 * len(order), count).long():
        rows = _rows_that_fit(order[start:], sources, targets, tokens_per_batch)
        batches.append(_random_batch(sources[rows], targets[rows], vocab_size, generator))
    return batches


def _rows_that_fit(
    order: torch.Tensor, sources: torch.Tensor, targets: torch.Tensor, limit: int
) -> torch.Tensor:
    longest = torch.maximum(sources, targets)[order].cummax(0).values
    padded = longest * torch.arange(1, len(order) + 1)
    return order[: max(1, int((padded <= limit).sum()))]


def _random_batch(
    sources: torch.Tensor, targets: torch.Tensor, vocab_size: int, generator: torch.Generator
) -> Batch:
    input_ids, attention_mask = random_sentences(sources, vocab_size, generator)  # (N, T)
    target_ids, target_mask = random_sentences(targets, vocab_size, generator)  # (N, S)
    labels = target_ids.masked_fill(target_mask == 0, -100)
    start = torch.full_like(target_ids[:, :1], START)
    decoder_input_ids = torch.cat([start, target_ids[:, :-1]], dim=1)  # (N, S)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "decoder_input_ids": decoder_input_ids,
        "labels": labels,
    }


def target_tokens(batches: Sequence[Batch]) -> int:
    """Return the number of target tokens that are not padding."""
    return sum(int((batch["labels"] != -100).sum()) for batch in batches)


def operations(shape: Shape, vocab_size: int, batches: Sequence[Batch]) -> int:
    """Return the additions and multiplications of a step's matrix products on all batches, without padding.

    A matrix takes part in three: forward, gradient of its inputs, gradient of its weights.
    """
    source_tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    once = source_tokens * shape.source_entries + target_tokens(batches) * shape.target_entries(vocab_size)
    return 3 * 2 * once


def make_step(name: str, arguments: argparse.Namespace) -> Callable[[Batch], None]:
    """Return a function that trains one of the models on one batch."""
    device = torch.device(arguments.device)
    model = build_model(name, SHAPES[arguments.shape], VOCABULARIES[arguments.shape], arguments.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)
    forward = torch.compile(model, dynamic=True) if arguments.compile else model
    dtype = getattr(torch, arguments.dtype)

    def step(batch: Batch) -> None:
        inputs = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            loss = forward(**inputs, **LOSS_OPTIONS[name]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def batches_of(arguments: argparse.Namespace) -> list[Batch]:
    """Return the batches of a round."""
    return make_batches(arguments.batches, VOCABULARIES[arguments.shape], arguments.tokens_per_batch)


def compare_speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return target tokens per second of both models, of the process's own where a CPU computes."""
    batches = batches_of(arguments)
    tokens = target_tokens(batches)

    def work(name: str) -> Callable[[], float]:
        step = make_step(name, arguments)

        def train() -> float:
            for batch in batches:
                step(batch)
            return tokens

        return train

    works = {name: work(name) for name in MODELS}
    speeds = with_ratios(take_turns(works, rounds=arguments.rounds, device=arguments.device))
    return with_limits(speeds, batches, arguments)


def with_limits(
    speeds: dict[str, Any], batches: Sequence[Batch], arguments: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Return the speeds with their limit, and on a GPU the operations that they amount to."""
    rate = product_rate(arguments.device, getattr(torch, arguments.dtype))
    shape, vocab_size = SHAPES[arguments.shape], VOCABULARIES[arguments.shape]
    per_token = operations(shape, vocab_size, batches) / target_tokens(batches)
    results = {SPEED: speeds | {LIMIT: rate / per_token}}
    if arguments.device != "cpu":
        results[OPERATIONS] = {name: speeds[name] * per_token / 1e12 for name in MODELS}
        results[OPERATIONS][LIMIT] = rate / 1e12
    return results


def peak_memory(name: str, arguments: argparse.Namespace) -> float:
    """Return the peak memory in MiB of training `name` in this process, which must be fresh."""
    for other in MODELS:
        build_model(other, SHAPES["toy"], VOCABULARIES["toy"])  # so that neither is charged with its imports
    on_gpu = arguments.device != "cpu"
    batches = batches_of(arguments)
    before = 0.0 if on_gpu else resident_mib("VmRSS")
    step = make_step(name, arguments)
    for batch in batches:
        step(batch)
    return torch.cuda.max_memory_allocated() / 2**20 if on_gpu else resident_mib("VmHWM") - before


def compare_memory(arguments: argparse.Namespace, argv: Sequence[str]) -> dict[str, Any]:
    """Return the peak memory in MiB of both models, measured in fresh processes that take turns."""
    peaks: dict[str, list[float]] = {name: [] for name in MODELS}
    for _ in range(arguments.memory_rounds):
        for name in MODELS:
            command = [sys.executable, __file__, *argv, "--peak-memory-of", name]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            peaks[name].append(float(result.stdout))
    return {MEMORY: with_ratios(peaks)}


def table_rows(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the results as they are shown."""
    rows = []
    for label, row in results.items():
        ours, marian, limit = (f"{row[name]:.0f}" if name in row else "" for name in (*MODELS, LIMIT))
        rows.append([label, ours, marian, format_ratio(row[RATIO]) if RATIO in row else "", limit])
    return rows


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the ratios ours / Marian as bars, with their ranges."""
    from vanilla_transformer.drawing import new_figure, save_figure

    ratios = {label: row[RATIO] for label, row in results.items() if RATIO in row}
    figure = new_figure(7, 0.6 + 0.5 * len(ratios))
    axes = figure.subplots()
    medians, least, most = zip(*ratios.values(), strict=True)
    below = [median - low for median, low in zip(medians, least, strict=True)]
    above = [high - median for median, high in zip(medians, most, strict=True)]
    axes.barh(list(ratios), medians, xerr=[below, above], capsize=3)
    axes.axvline(1, color="grey", linewidth=1)
    axes.set_xlabel("ours, Marian = 1")
    save_figure(figure, path)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--shape", choices=SHAPES, default="tiny", help="size of both models (default: tiny)")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="bfloat16 means autocast")
    add("--compile", action="store_true", help="run both through torch.compile")
    add("--tokens-per-batch", type=positive, default=2048, help="bound on each side (default: 2048)")
    add("--batches", type=positive, default=8, help="batches in a round (default: 8)")
    add(
        "--memory-rounds",
        type=not_negative,
        default=3,
        help="memory processes of each model, 0 for none (default: 3)",
    )
    add("--peak-memory-of", choices=MODELS, help="only train this one and print its peak in MiB")
    add_options(parser, rounds=7, threads=None)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = parse_arguments(argv)
    return run_script(lambda: run(arguments, argv))


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    """Measure and print a table."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.peak_memory_of:
        print(peak_memory(arguments.peak_memory_of, arguments))
        return
    results: dict[str, Any] = {}
    on_cpu = arguments.device == "cpu"
    left_out = memory_left_out(MEMORY) if on_cpu and arguments.memory_rounds else {}
    tell_left_out(left_out)
    if arguments.memory_rounds and not left_out:
        results |= compare_memory(arguments, argv)
    results |= compare_speed(arguments)
    report(arguments, results, titles=TITLES, rows=table_rows(results), plot=plot, left_out=left_out)


if __name__ == "__main__":
    raise SystemExit(main())
