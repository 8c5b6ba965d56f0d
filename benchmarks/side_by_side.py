"""What the speed benchmarks share: two models of one shape, a clock, ratios within a round, and limits.

The systems of a benchmark take turns, so that a busy machine hits all alike, and what counts is the ratio of
two of them within a round.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vanilla_transformer.scripts.support.options import positive

PAD, START, END, FIRST_WORD = 0, 1, 2, 5
OURS, MARIAN = "ours", "marian"
MODELS = (OURS, MARIAN)
# Standard deviation of the logarithm of target tokens / source tokens, in Multi30k English-German.
LENGTH_NOISE = 0.17
# Where Linux, and no other system, tells how much memory a process has.
PROCESS_STATUS = Path("/proc/self/status")
NO_BFLOAT16 = "this processor does not multiply bfloat16"


@dataclass(frozen=True)
class Shape:
    """What both models share: width, feed-forward width, heads, and layers of each stack."""

    d_model: int
    ffn_dim: int
    heads: int
    layers: int

    @property
    def source_entries(self) -> int:
        """Entries of the matrices that a source token is multiplied with.

        Those of the encoder, and those of the keys and values of the cross-attention.
        """
        return self.layers * (6 * self.d_model**2 + 2 * self.d_model * self.ffn_dim)

    def target_entries(self, vocab_size: int) -> int:
        """Entries of the other matrices of the decoder and of the output projection, for a target token."""
        layer = 6 * self.d_model**2 + 2 * self.d_model * self.ffn_dim
        return self.layers * layer + self.d_model * vocab_size


SHAPES = {
    "toy": Shape(16, 32, 2, 1),
    "tiny": Shape(128, 512, 4, 2),
    "base": Shape(512, 2048, 8, 6),
    "big": Shape(1024, 4096, 16, 6),
}


def build_model(
    name: str,
    shape: Shape,
    vocab_size: int,
    device: str = "cpu",
    *,
    attention: str = "sdpa",
    longest: int | None = None,
) -> Any:
    """Return our model or Marian's, in training mode, with random weights and the paper's dropout.

    Args:
        name: one of `MODELS`.
        longest: the most tokens of a sentence, for which Marian has a table; default: its own default.
    """
    from transformers import MarianConfig, MarianMTModel

    from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration

    fields: dict[str, Any] = {
        "vocab_size": vocab_size, "d_model": shape.d_model, "encoder_layers": shape.layers,
        "decoder_layers": shape.layers, "encoder_attention_heads": shape.heads,
        "decoder_attention_heads": shape.heads, "encoder_ffn_dim": shape.ffn_dim,
        "decoder_ffn_dim": shape.ffn_dim, "dropout": 0.1, "attention_dropout": 0.0,
        "activation_dropout": 0.0, "activation_function": "relu", "scale_embedding": True,
        "pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END, "decoder_start_token_id": START,
        "attn_implementation": attention,
    }  # fmt: skip
    torch.manual_seed(1)
    model: Any
    if name == OURS:
        model = VanillaTransformerForConditionalGeneration(VanillaTransformerConfig(**fields))
    else:
        table: dict[str, Any] = {} if longest is None else {"max_position_embeddings": longest}
        model = MarianMTModel(MarianConfig(**fields, **table, forced_eos_token_id=None))
    return model.train().to(device)


def random_sentences(
    lengths: torch.Tensor, vocab_size: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random words for sentences of `lengths` (N,), each with its end token: ids and mask (N, T)."""
    ids = torch.randint(FIRST_WORD, vocab_size, (len(lengths), int(lengths.max())), generator=generator)
    places = torch.arange(ids.shape[1])
    ids[places == lengths[:, None] - 1] = END
    mask = (places < lengths[:, None]).long()
    return ids.masked_fill(mask == 0, PAD), mask


def seconds(device: str) -> float:
    """Seconds of processor time of this process and its children, or of the clock where a GPU computes."""
    if device != "cpu":
        torch.cuda.synchronize()
        return time.perf_counter()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def resident_mib(field: str) -> float:
    """The MiB of this process that Linux keeps in memory now ("VmRSS"), or kept at its peak ("VmHWM")."""
    for line in PROCESS_STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"This system does not report `{field}`.")


def memory_left_out(*names: str) -> dict[str, str]:
    """Return `names`, which need `resident_mib`, with the reason why they are left out, or nothing."""
    return {} if PROCESS_STATUS.exists() else dict.fromkeys(names, f"this system has no {PROCESS_STATUS}")


def tell_left_out(left_out: Mapping[str, str]) -> None:
    """Say on standard error what is not measured, and why."""
    for name, reason in left_out.items():
        print(f"left out: {name}, as {reason}", file=sys.stderr)


def product_rate(device: str, dtype: torch.dtype = torch.float32) -> float:
    """Return the operations per second of a large product; one on a GPU is larger still, to fill it."""
    size = 2048 if device == "cpu" else 8192
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / min(_least_seconds(product, device) for product in _products(matrix))


def read_rate(device: str) -> float:
    """Return the bytes per second that are read of a large matrix in its product with a vector."""
    vector = torch.randn(2048, device=device)
    matrices = [torch.randn(8192, 2048, device=device) for _ in range(4)]
    read = sum(matrix.nbytes for matrix in matrices)
    return read / _least_seconds(lambda: [matrix @ vector for matrix in matrices], device)


def _products(matrix: torch.Tensor) -> list[Callable[[], torch.Tensor]]:
    """Return the ways to multiply a matrix with itself; which one is the fastest depends on the processor."""
    from vanilla_transformer.modeling.modules_vanilla_transformer import multiplies_bfloat16

    ways = [lambda: matrix @ matrix]
    known = matrix.dtype == torch.float32 or multiplies_bfloat16()
    if matrix.device.type == "cpu" and torch.backends.mkldnn.is_available() and known:
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(matrix, matrix, None, "none", [], ""))
    return ways


def _least_seconds(work: Callable[[], Any], device: str) -> float:
    """What the work takes at least; on a GPU one of many in a row, so that launching them does not count."""
    repeated = 1 if device == "cpu" else 50
    found = []
    for _ in range(3):
        start = seconds(device)
        for _ in range(repeated):
            work()
        found.append((seconds(device) - start) / repeated)
    return min(found)


def take_turns(
    works: Mapping[str, Callable[[], float]], *, rounds: int, device: str
) -> dict[str, list[float]]:
    """Return what each system does in a second, of each round.

    Args:
        works: what each does in a round; returns how much that was, in a unit of the caller's.
        rounds: how many are counted, after one that warms up.
    """
    speeds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            start = seconds(device)
            done = work()
            if number > 0:
                speeds[name].append(done / (seconds(device) - start))
    return speeds


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the least and the greatest ratio of two systems within a round."""
    found = [one / other for one, other in zip(ours, theirs, strict=True)]
    return statistics.median(found), min(found), max(found)


def format_ratio(ratio: Sequence[float]) -> str:
    """Return a ratio as tables show it: its median, and its range."""
    return "{:.2f} ({:.2f}-{:.2f})".format(*ratio)


def with_ratios(
    speeds: Mapping[str, Sequence[float]], pairs: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
    """Return the median of each system, and as "name / marian" its `ratios` to Marian.

    Args:
        speeds: those of each system in each round, Marian's among them.
        pairs: systems that are also to be compared with another than Marian, each with that one; pairs that
            were not measured are passed over.
    """
    summary: dict[str, Any] = {name: statistics.median(values) for name, values in speeds.items()}
    measured = [pair for pair in pairs if speeds.keys() >= set(pair)]
    for name, other in [*((name, MARIAN) for name in speeds if name != MARIAN), *measured]:
        summary[f"{name} / {other}"] = list(ratios(speeds[name], speeds[other]))
    return summary


def add_options(parser: argparse.ArgumentParser, *, rounds: int, threads: int | None = 1) -> None:
    """Add the options of all speed benchmarks: where it runs, how often, and what it writes."""
    add = parser.add_argument
    add("--device", default="cpu", help="cpu or cuda (default: cpu)")
    most = "PyTorch's" if threads is None else threads
    add("--threads", type=positive, default=threads, help=f"CPU threads (default: {most})")
    add("--rounds", type=positive, default=rounds, help=f"timed rounds of each system (default: {rounds})")
    add("--json", type=Path, help="write the figures here")
    add("--figure", type=Path, help="draw the figures here, as PNG")


def report(
    arguments: argparse.Namespace,
    results: dict[str, Any],
    *,
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    plot: Callable[[dict[str, Any], Path], None],
    **content: Any,
) -> None:
    """Print the table of a benchmark, and write and draw its figures where the options say so.

    Args:
        content: what else is written.
    """
    from vanilla_transformer.training.reports import show_report

    show_report(arguments.json, titles=titles, rows=rows, device=arguments.device, figures=results, **content)
    if arguments.figure:
        plot(results, arguments.figure)
