"""Speed of `generate()`: ours, fast and plain, against transformers' MarianMTModel and our engines.

"half" is ours, fast, with weights in float16 and arithmetic in float32 (`HalfWeightsConfig`), on a CPU.
"bf16" is ours, fast, loaded with `dtype=torch.bfloat16`, on a CPU that multiplies it, and "marian bf16" is
Marian loaded so; bf16 stands beside it, too. All other ratios are to Marian in float32.
"static" is ours over a cache of fixed size, whose steps transformers compiles, with CUDA graphs, on a GPU in
greedy search; it compiles none in beam search.

All translate the same random sentences, of lengths as in Multi30k, in batches of like length, greedily and
with a beam of 4, and take turns (fast, plain, Marian, ..., fast).
CTranslate2, in float32 and int8, and onnxruntime run exports of our model, on a CPU.
On a CPU the clock counts the process's own seconds. Random weights never end a sentence: with `--ends
together` all write as many tokens as the longest source of their batch has, with `--ends apart` each sentence
is stopped at a length of its own, spread around its source's as German is around English in Multi30k. Engines
cannot be stopped so, and are left out there.

    python benchmarks/generate_speed.py --threads 1 --json generate_speed.json --figure generate_speed.png
    python benchmarks/generate_speed.py --threads 1 --ends apart
    python benchmarks/generate_speed.py --shape base --device cuda

Limits stand beside the figures: tokens per second if encoder and steps were nothing but matrix products, at
the rate that this machine reaches in a large one, or but weights read, at its bandwidth, whichever is slower.
Both are of float32; smaller weights may exceed them. What is left out is named, and the reason why.
On a CPU, the fast search keeps copies of matrices: "copies_mib" is what those of float32 take.
"""

import argparse
import copy
import math
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from side_by_side import (
    LENGTH_NOISE,
    MARIAN,
    MODELS,
    NO_BFLOAT16,
    OURS,
    SHAPES,
    add_options,
    build_model,
    format_ratio,
    product_rate,
    random_sentences,
    read_rate,
    report,
    take_turns,
    tell_left_out,
    with_ratios,
)

from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.options import parser_of, positive

BF16, MARIAN_BF16 = "bf16", "marian bf16"
IN_BF16 = f"{BF16} / {MARIAN_BF16}"
PYTORCH = ("fast", "half", BF16, "static", "plain", MARIAN, MARIAN_BF16)
# Name: engine, library, and how weights are stored and computed with.
ENGINES = {
    "ct2 f32": ("ctranslate2", "ctranslate2", "float32"),
    "ct2 int8": ("ctranslate2", "ctranslate2", "int8"),
    "onnx": ("onnx", "onnxruntime", None),
}
SYSTEMS = (*PYTORCH, *ENGINES)
FOREIGN = dict.fromkeys(("fairseq", "JoeyNMT", "OpenNMT-py"), "it runs other files than these models")
# Odd ones too: sentences that are finished leave batches of any size behind.
BATCHES, BEAMS = (1, 3, 13, 16, 64), (1, 4)

Generate = Callable[..., torch.Tensor]
Rows = dict[str, dict[str, Any]]


def build_models(
    shape: str, vocabulary: int, device: str, systems: Sequence[str] = PYTORCH
) -> dict[str, Generate]:
    """Return what each of `systems` calls to translate; ours and Marian have random weights."""
    ours, marian = (build_model(name, SHAPES[shape], vocabulary, device).eval() for name in MODELS)
    models: dict[str, Generate] = {
        "fast": ours.generate,
        "static": lambda *args, **kwargs: ours.generate(*args, cache_implementation="static", **kwargs),
        "plain": lambda *args, **kwargs: ours.generate(*args, fast=False, **kwargs),
        MARIAN: marian.generate,
    }
    models |= {name: build_engine(ours, name) for name in systems if name in ENGINES}
    for name, model in ((BF16, ours), (MARIAN_BF16, marian)):
        if name in systems:
            models[name] = copy.deepcopy(model).bfloat16().generate
    if "half" in systems:
        models["half"] = with_half_weights(ours).generate
    return {name: models[name] for name in systems}


def with_half_weights(model: Any) -> Any:
    """Return the same model, loaded with its weights in half precision."""
    from vanilla_transformer import HalfWeightsConfig

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return type(model).from_pretrained(folder, quantization_config=HalfWeightsConfig()).eval()


def build_engine(model: Any, name: str) -> Generate:
    """Return what translates with an export of `model`, which the engine has read by then."""
    from vanilla_transformer.interop import save_ctranslate2, save_onnx
    from vanilla_transformer.modeling.engines import load_engine

    engine, _, kind = ENGINES[name]
    with tempfile.TemporaryDirectory() as folder:
        if kind is None:
            save_onnx(model, folder)
        else:
            save_ctranslate2(model, folder, quantization=kind)
        return load_engine(engine, folder).generate


def obstacles(arguments: argparse.Namespace) -> dict[str, str | None]:
    """Return `--systems` and what they are compared with: why each cannot run here, or `None` if it can."""
    compared = [MARIAN, MARIAN_BF16] if BF16 in arguments.systems else [MARIAN]
    names = dict.fromkeys([*arguments.systems, *compared])
    return {name: _obstacle(name, arguments.device, arguments.ends) for name in names}


def _obstacle(name: str, device: str, ends: str) -> str | None:
    """Return why a system cannot be measured here, or `None` where it can."""
    from vanilla_transformer.modeling.half_weights import half_weights_run_here
    from vanilla_transformer.modeling.modules_vanilla_transformer import multiplies_bfloat16

    if name in (MARIAN, "fast", "plain"):
        return None
    if name == "static":
        return None if device == "cuda" else "its steps are compiled on a GPU alone"
    if device != "cpu":
        return "it runs on a CPU here"
    if name == "half":
        return None if half_weights_run_here() else "PyTorch has no kernels for it on this machine"
    if name in (BF16, MARIAN_BF16):
        return None if multiplies_bfloat16() else NO_BFLOAT16
    if ends != "together":
        return "it cannot stop each sentence at a length of its own"
    library = ENGINES[name][1]
    return None if find_spec(library) is not None else f"{library} is not installed"


def make_batch(rows: int, vocabulary: int, device: str) -> dict[str, torch.Tensor]:
    """Return `rows` random sentences of like length, about 15 tokens, as they lie together once sorted."""
    draw = torch.Generator().manual_seed(rows)
    lengths = (15 + torch.randn(max(20 * 64, 2 * rows), generator=draw) * 5).clamp(4, 40).long().sort().values
    lengths = lengths[len(lengths) // 2 :][:rows]
    ids, mask = random_sentences(lengths, vocabulary, draw)
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def measure(arguments: argparse.Namespace, systems: Sequence[str]) -> Rows:
    """Return tokens per second of each of `systems` for each beam and batch, and the ratios to Marian."""
    models = build_models(arguments.shape, arguments.vocabulary, arguments.device, systems)
    results: Rows = {}
    for beams in arguments.beams:
        compilable = {name: model for name, model in models.items() if name != "static" or beams == 1}
        for rows in arguments.batches:
            batch = make_batch(rows, arguments.vocabulary, arguments.device)
            written = target_lengths(batch, arguments.ends)
            works = {
                name: partial(translate, model, batch, beams, written) for name, model in compilable.items()
            }
            speeds = take_turns(works, rounds=arguments.rounds, device=arguments.device)
            results[f"beam {beams}, batch {rows}"] = with_ratios(speeds, [(BF16, MARIAN_BF16)])
    return results


def target_lengths(batch: dict[str, torch.Tensor], ends: str) -> torch.Tensor:
    """Return how many tokens each sentence of a batch is to be translated with."""
    mask = batch["attention_mask"]
    if ends == "together" or len(mask) == 1:
        return torch.full_like(mask[:, 0], mask.shape[1])
    noise = torch.randn(len(mask), generator=torch.Generator().manual_seed(1)).to(mask.device)
    return (mask.sum(-1) * (LENGTH_NOISE * noise).exp()).round().long()


def translate(generate: Generate, batch: dict[str, torch.Tensor], beams: int, written: torch.Tensor) -> float:
    """Translate a batch, each sentence with `written` (N,) tokens; return how many those are in all."""
    from vanilla_transformer.modeling.generation_vanilla_transformer import RowLengthCriteria

    steps = int(written.max())
    settings: dict[str, Any] = {"max_new_tokens": steps, "num_beams": beams}
    if beams > 1:
        settings |= {"length_penalty": 1.0, "early_stopping": True}
    if int(written.min()) < steps:
        settings["stopping_criteria"] = [RowLengthCriteria(written + 1)]
    found = generate(**batch, **settings)
    if found.shape[1] != steps + 1:
        raise RuntimeError(f"{steps} tokens were to be written, but {found.shape[1] - 1} were.")
    return int(written.sum())


def add_limits(results: Rows, arguments: argparse.Namespace) -> None:
    """Add to each row the tokens per second that the matrix products alone would allow."""
    products, bandwidth = product_rate(arguments.device), read_rate(arguments.device)
    for rows in arguments.batches:
        batch = make_batch(rows, arguments.vocabulary, arguments.device)
        written = target_lengths(batch, arguments.ends)
        for beams in arguments.beams:
            found = results[f"beam {beams}, batch {rows}"]
            found["limit"] = int(written.sum()) / sum(
                max(2 * weights * count / products, 4 * weights / bandwidth)
                for weights, count in _matrix_products(arguments, batch["input_ids"].numel(), written, beams)
            )


def _matrix_products(
    arguments: argparse.Namespace, source_tokens: int, written: torch.Tensor, beams: int
) -> list[tuple[int, int]]:
    """Return the entries of the matrices and the rows multiplied with them: once, and in each step."""
    shape = SHAPES[arguments.shape]
    step = shape.target_entries(arguments.vocabulary)
    still_written = [int((written > number).sum()) for number in range(int(written.max()))]
    return [(shape.source_entries, source_tokens), *((step, rows * beams) for rows in still_written)]


def copies_mib(arguments: argparse.Namespace) -> float:
    """Return the MiB of the matrices' copies that our model keeps after a fast search in float32."""
    from vanilla_transformer.modeling.projections_vanilla_transformer import _COPIES

    ours = build_model(OURS, SHAPES[arguments.shape], arguments.vocabulary).eval()
    batch = make_batch(3, arguments.vocabulary, "cpu")
    translate(ours.generate, batch, 4, target_lengths(batch, "together"))
    return sum(_COPIES[module].matrix.nbytes for module in ours.modules() if module in _COPIES) / 2**20


def table_titles(results: Rows) -> list[str]:
    """Return the titles: what Marian writes a second, and how many times as much the others do."""
    return ["Search", "Marian, tokens/s", *_shown_ratios(results), "Limit, float32"]


def table_rows(results: Rows) -> list[list[str]]:
    """Return the results as they are shown: ratios to Marian, median and range."""
    rows = []
    for label, row in results.items():
        cells = (row.get(key) for key in _shown_ratios(results).values())
        shown = [format_ratio(ratio) if ratio else "" for ratio in cells]
        rows.append([label, f"{row[MARIAN]:.0f}", *shown, f"{row['limit'] / row[MARIAN]:.1f}"])
    return rows


def _shown_ratios(results: Rows) -> dict[str, str]:
    """Return the names of all ratios that were measured, by the titles of their columns."""
    keys = {name: f"{name} / {MARIAN}" for name in SYSTEMS} | {IN_BF16: IN_BF16}
    return {title: key for title, key in keys.items() if any(key in row for row in results.values())}


def plot(results: Rows, path: Path) -> None:
    """Draw the ratios to Marian as bars, with the limit as a line above each group."""
    from vanilla_transformer.drawing import new_figure, save_figure

    figure = new_figure(8, 4)
    axes = figure.subplots()
    shown = [name for name in _shown_ratios(results) if name != IN_BF16]
    width = 0.8 / len(shown)
    for shift, name in enumerate(shown):
        places = [place + width * (shift + 0.5) - 0.4 for place in range(len(results))]
        ratios = [row.get(f"{name} / {MARIAN}", [math.nan])[0] for row in results.values()]
        label = name if name in (*ENGINES, MARIAN_BF16) else f"ours, {name}"
        axes.bar(places, ratios, 0.95 * width, label=label)
    limits = [row["limit"] / row[MARIAN] for row in results.values()]
    axes.plot(range(len(results)), limits, "_", color="black", markersize=30, label="limit")
    axes.axhline(1, color="grey", linewidth=1)
    axes.set_xticks(range(len(results)), list(results))
    axes.set_ylabel("tokens per second, Marian = 1")
    axes.legend()
    save_figure(figure, path)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--shape", choices=SHAPES, default="base", help="size of both models (default: base)")
    add("--vocabulary", type=positive, default=10_000, help="tokens of the vocabulary (default: 10000)")
    add("--batches", type=positive, nargs="+", default=BATCHES, help="sentences (default: 1 3 13 16 64)")
    add("--beams", type=positive, nargs="+", default=BEAMS, help="beams; 1 is greedy (default: 1 4)")
    add("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="what is timed (default: all)")
    add("--ends", choices=("together", "apart"), default="together", help="of sentences (default: together)")
    add_options(parser, rounds=5)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    arguments = parse_arguments(argv)
    return run_script(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Measure and print a table."""
    torch.set_num_threads(arguments.threads)
    reasons = obstacles(arguments)
    left_out = {name: reason for name, reason in reasons.items() if reason} | FOREIGN
    tell_left_out(left_out)
    results = measure(arguments, [name for name, reason in reasons.items() if reason is None])
    add_limits(results, arguments)
    content: dict[str, Any] = {"left_out": left_out}
    if arguments.device == "cpu":
        content["copies_mib"] = copies_mib(arguments)
        print(f"copies of matrices that the fast search keeps: {content['copies_mib']:.0f} MiB\n")
    titles, rows = table_titles(results), table_rows(results)
    report(arguments, results, titles=titles, rows=rows, plot=plot, **content)


if __name__ == "__main__":
    raise SystemExit(main())
