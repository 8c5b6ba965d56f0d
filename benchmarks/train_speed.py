"""Training speed and peak memory: our model against transformers' MarianMTModel of the same shape.

Both train on the same length-bucketed batches of random tokens: forward pass, loss, backward pass, Adam. In
one process they take turns (ours, Marian, ours, Marian, ...), so that a busy machine hits both alike, and
what counts is the ratio within a round. On a CPU the clock counts the process's own seconds. Tokens are
target tokens without padding. Peak memory is measured in a process of its own for each: what it grew by after
its imports on a CPU, what PyTorch allocated on a GPU.

    python benchmarks/train_speed.py --shape tiny --threads 2
    python benchmarks/train_speed.py --shape base --device cuda --dtype bfloat16 --tokens-per-batch 12500

Each computes the loss as its trainer does: ours projects to the vocabulary chunk by chunk and keeps no
logits, which Marian cannot. Adam is fused, as it is in both trainers. Two differences remain: Marian's
projections have biases, which the paper's have not, and Marian cannot smooth labels, so neither does.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.options import not_negative, parser_of, positive

PAD, START, END, FIRST_WORD = 0, 1, 2, 5
MODELS = ("ours", "marian")
TITLES = ("Measured", "Ours", "Marian", "Ours / Marian")
# What a trainer adds to a batch.
LOSS_OPTIONS: dict[str, dict[str, Any]] = {"ours": {"return_logits": False}, "marian": {}}

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """What both models share: vocabulary, model width, feed-forward width, heads and layers of each stack."""

    vocab_size: int
    d_model: int
    ffn_dim: int
    heads: int
    layers: int


SHAPES = {
    "tiny": Shape(vocab_size=8000, d_model=128, ffn_dim=512, heads=4, layers=2),
    "base": Shape(vocab_size=37000, d_model=512, ffn_dim=2048, heads=8, layers=6),
}
SMALLEST = Shape(vocab_size=16, d_model=8, ffn_dim=8, heads=2, layers=1)


def build_model(name: str, shape: Shape) -> torch.nn.Module:
    """Return our model or Marian's, in training mode, with the paper's dropout and fused attention."""
    from transformers import MarianConfig, MarianMTModel

    from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration

    fields: dict[str, Any] = {
        "vocab_size": shape.vocab_size,
        "d_model": shape.d_model,
        "encoder_layers": shape.layers,
        "decoder_layers": shape.layers,
        "encoder_attention_heads": shape.heads,
        "decoder_attention_heads": shape.heads,
        "encoder_ffn_dim": shape.ffn_dim,
        "decoder_ffn_dim": shape.ffn_dim,
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "activation_function": "relu",
        "scale_embedding": True,
        "pad_token_id": PAD,
        "bos_token_id": START,
        "eos_token_id": END,
        "decoder_start_token_id": START,
        "attn_implementation": "sdpa",
    }
    torch.manual_seed(1)
    if name == "ours":
        return VanillaTransformerForConditionalGeneration(VanillaTransformerConfig(**fields)).train()
    return MarianMTModel(MarianConfig(**fields, forced_eos_token_id=None)).train()


def make_batches(count: int, shape: Shape, tokens_per_batch: int) -> list[Batch]:
    """Return `count` batches of sentence pairs of like length, the one of the longest pairs first.

    Lengths are spread as in news text (log-normal around 25 tokens, at most 128). Sentences times the
    greatest length stays within `tokens_per_batch`, on the source side and on the target side.
    """
    generator = torch.Generator().manual_seed(1)
    spread = torch.randn(100 * count, generator=generator)
    targets = (25 * (0.6 * spread).exp()).clamp(4, 128).long()
    stretch = 1 + 0.1 * torch.randn(len(targets), generator=generator)
    sources = (targets * stretch).clamp(4, 140).long()
    order = targets.argsort(descending=True)
    batches = []
    for start in torch.linspace(0, 0.9 * len(order), count).long():
        rows = _rows_that_fit(order[start:], sources, targets, tokens_per_batch)
        batches.append(_random_batch(sources[rows], targets[rows], shape, generator))
    return batches


def _rows_that_fit(
    order: torch.Tensor, sources: torch.Tensor, targets: torch.Tensor, limit: int
) -> torch.Tensor:
    longest = torch.maximum(sources, targets)[order].cummax(0).values
    padded = longest * torch.arange(1, len(order) + 1)
    return order[: max(1, int((padded <= limit).sum()))]


def _random_batch(
    sources: torch.Tensor, targets: torch.Tensor, shape: Shape, generator: torch.Generator
) -> Batch:
    input_ids, attention_mask = _random_sentences(sources, shape, generator)  # (N, T)
    target_ids, target_mask = _random_sentences(targets, shape, generator)  # (N, S)
    labels = target_ids.masked_fill(target_mask == 0, -100)
    start = torch.full_like(target_ids[:, :1], START)
    decoder_input_ids = torch.cat([start, target_ids[:, :-1]], dim=1)  # (N, S)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "decoder_input_ids": decoder_input_ids,
        "labels": labels,
    }


def _random_sentences(
    lengths: torch.Tensor, shape: Shape, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    size = (len(lengths), int(lengths.max()))
    ids = torch.randint(FIRST_WORD, shape.vocab_size, size, generator=generator)
    positions = torch.arange(size[1])
    ids[positions == lengths[:, None] - 1] = END
    mask = (positions < lengths[:, None]).long()
    return ids.masked_fill(mask == 0, PAD), mask


def target_tokens(batches: Sequence[Batch]) -> int:
    """Return the number of target tokens that are not padding."""
    return sum(int((batch["labels"] != -100).sum()) for batch in batches)


def make_step(name: str, shape: Shape, arguments: argparse.Namespace) -> Callable[[Batch], None]:
    """Return a function that trains one of the models on one batch."""
    device = torch.device(arguments.device)
    model = build_model(name, shape).to(device)
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


def compare_speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return target tokens per second of both models, of the process's own where a CPU computes."""
    shape = SHAPES[arguments.shape]
    batches = make_batches(arguments.batches, shape, arguments.tokens_per_batch)
    tokens = target_tokens(batches)
    steps = {name: make_step(name, shape, arguments) for name in MODELS}
    clock = time.process_time if arguments.device == "cpu" else time.perf_counter
    speeds: dict[str, list[float]] = {name: [] for name in MODELS}
    for number in range(arguments.rounds + 1):
        for name in MODELS:
            start = clock()
            _train(steps[name], batches, arguments.device)
            if number > 0:  # the first round warms up
                speeds[name].append(tokens / (clock() - start))
    return {"target tokens per second": _compared(speeds)}


def _train(step: Callable[[Batch], None], batches: Sequence[Batch], device: str) -> None:
    for batch in batches:
        step(batch)
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _compared(values: dict[str, list[float]]) -> dict[str, float]:
    """Return both medians, and the spread of the ratio ours / Marian over the rounds."""
    ratios = [ours / theirs for ours, theirs in zip(values["ours"], values["marian"], strict=True)]
    medians = {name: statistics.median(values[name]) for name in MODELS}
    return medians | {"ratio": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def peak_memory(name: str, arguments: argparse.Namespace) -> int:
    """Return the peak memory in bytes of training `name` in this process, which must be fresh."""
    for other in MODELS:
        build_model(other, SMALLEST)  # so that neither is charged with its imports
    on_gpu = arguments.device.startswith("cuda")
    shape = SHAPES[arguments.shape]
    batches = make_batches(arguments.batches, shape, arguments.tokens_per_batch)
    before = 0 if on_gpu else _resident_bytes("VmRSS")
    step = make_step(name, shape, arguments)
    for batch in batches:
        step(batch)
    return torch.cuda.max_memory_allocated() if on_gpu else _resident_bytes("VmHWM") - before


def _resident_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"This system does not report `{field}`.")


def compare_memory(arguments: argparse.Namespace, argv: Sequence[str]) -> dict[str, Any]:
    """Return the peak memory in MiB of both models, measured in fresh processes that take turns."""
    peaks: dict[str, list[float]] = {name: [] for name in MODELS}
    for _ in range(arguments.memory_rounds):
        for name in MODELS:
            command = [sys.executable, __file__, *argv, "--peak-memory-of", name]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            peaks[name].append(int(result.stdout) / 2**20)
    return {"peak memory in MiB": _compared(peaks)} if arguments.memory_rounds else {}


def table_rows(results: dict[str, dict[str, float]]) -> list[list[str]]:
    """Return the results as they are shown."""
    return [
        [
            label,
            f"{row['ours']:.0f}",
            f"{row['marian']:.0f}",
            f"{row['ratio']:.2f} ({row['min']:.2f}-{row['max']:.2f})",
        ]
        for label, row in results.items()
    ]


def plot(results: dict[str, dict[str, float]], path: Path) -> None:
    """Draw the ratios ours / Marian as bars, with their ranges."""
    from vanilla_transformer.drawing import new_figure, save_figure

    figure = new_figure(7, 0.6 + 0.5 * len(results))
    axes = figure.subplots()
    ratios = [row["ratio"] for row in results.values()]
    below = [row["ratio"] - row["min"] for row in results.values()]
    above = [row["max"] - row["ratio"] for row in results.values()]
    axes.barh(list(results), ratios, xerr=[below, above], capsize=3)
    axes.axvline(1, color="grey", linewidth=1)
    axes.set_xlabel("ours, Marian = 1")
    save_figure(figure, path)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--shape", choices=SHAPES, default="tiny", help="size of both models (default: tiny)")
    add("--device", default="cpu", help="cpu or cuda (default: cpu)")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="bfloat16 means autocast")
    add("--threads", type=positive, default=None, help="CPU threads (default: PyTorch's)")
    add("--compile", action="store_true", help="run both through torch.compile")
    add("--tokens-per-batch", type=positive, default=2048, help="bound on each side (default: 2048)")
    add("--batches", type=positive, default=8, help="batches in a round (default: 8)")
    add("--rounds", type=positive, default=7, help="timed rounds of each model (default: 7)")
    add(
        "--memory-rounds",
        type=not_negative,
        default=3,
        help="memory processes of each model, 0 for none (default: 3)",
    )
    add("--json", type=Path, help="write the figures here")
    add("--figure", type=Path, help="draw the ratios here, as PNG")
    add("--peak-memory-of", choices=MODELS, help="only train this one and print its peak in bytes")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = parse_arguments(argv)
    return run_script(lambda: run(arguments, argv))


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    """Measure and print a table."""
    from vanilla_transformer.training.reports import show_report

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.peak_memory_of:
        print(peak_memory(arguments.peak_memory_of, arguments))
        return
    results = compare_memory(arguments, argv) | compare_speed(arguments)
    show_report(arguments.json, titles=TITLES, rows=table_rows(results), figures=results)
    if arguments.figure:
        plot(results, arguments.figure)


if __name__ == "__main__":
    raise SystemExit(main())
