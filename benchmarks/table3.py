"""The paper's Table 3 at a small scale: variations A-E with several seeds, beside the paper's figures.

Every width of the paper (d_model, d_ff, d_k, d_v) is multiplied by `--d_model` / 512; heads, layers,
dropout, label smoothing and positions are the paper's, and `big` trains three times as long. As there, scores
are those of the development set with beam 4 and alpha 0.6, perplexities are per piece, and no checkpoints are
averaged.

    python benchmarks/table3.py                                  # the embedded corpus, all rows, three seeds
    python benchmarks/table3.py --rows base A1 C1 --seeds 1
    python benchmarks/table3.py --train_source train.en --train_target train.de \\
        --valid_source val.en --valid_target val.de --source_lang en --target_lang de \\
        --d_model 128 --max_steps 20000

Each run is a folder of `--output_dir`; the command given again goes on where it stopped, a run at the last
tenth of its updates. With several GPUs the runs are shared out, one on each; on a CPU, `--jobs` says how many
run side by side.
"""

import argparse
import os
import queue
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vanilla_transformer.configuration import PRESETS, VanillaTransformerConfig
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.corpora import add_corpus_options, corpus_files
from vanilla_transformer.scripts.support.options import not_negative, parser_of, positive
from vanilla_transformer.training.recipe import TrainRecipe

PAPER_WIDTH = 512


@dataclass(frozen=True)
class PaperRow:
    """A line of Table 3: what it changes, and its development perplexity and BLEU."""

    change: str
    perplexity: float
    bleu: float


PAPER = {
    "base": PaperRow("N 6, d 512, d_ff 2048, h 8, d_k = d_v 64, dropout 0.1, smoothing 0.1", 4.92, 25.8),
    "A1": PaperRow("h 1, d_k = d_v 512", 5.29, 24.9),
    "A2": PaperRow("h 4, d_k = d_v 128", 5.00, 25.5),
    "A3": PaperRow("h 16, d_k = d_v 32", 4.91, 25.8),
    "A4": PaperRow("h 32, d_k = d_v 16", 5.01, 25.4),
    "B1": PaperRow("d_k 16", 5.16, 25.1),
    "B2": PaperRow("d_k 32", 5.01, 25.4),
    "C1": PaperRow("N 2", 6.11, 23.7),
    "C2": PaperRow("N 4", 5.19, 25.3),
    "C3": PaperRow("N 8", 4.88, 25.5),
    "C4": PaperRow("d 256, d_k = d_v 32", 5.75, 24.5),
    "C5": PaperRow("d 1024, d_k = d_v 128", 4.66, 26.0),
    "C6": PaperRow("d_ff 1024", 5.12, 25.4),
    "C7": PaperRow("d_ff 4096", 4.75, 26.2),
    "D1": PaperRow("dropout 0", 5.77, 24.6),
    "D2": PaperRow("dropout 0.2", 4.95, 25.5),
    "D3": PaperRow("smoothing 0", 4.67, 25.3),
    "D4": PaperRow("smoothing 0.2", 5.47, 25.7),
    "E": PaperRow("learned positions", 4.92, 25.7),
    "big": PaperRow("d 1024, d_ff 4096, h 16, dropout 0.3", 4.33, 26.4),
}


@dataclass(frozen=True)
class Trend:
    """What the paper reads off its table: a row that is better than another, or as good, in a measure."""

    text: str
    better: str
    worse: str
    measure: str = "bleu"
    as_good: bool = False


TRENDS = (
    Trend("eight heads are better than one", "base", "A1"),
    Trend("eight heads are better than 32", "base", "A4"),
    Trend("a smaller d_k hurts", "base", "B1"),
    Trend("more layers are better (6 against 2)", "base", "C1"),
    Trend("wider is better (512 against 256)", "base", "C4"),
    Trend("wider is better (1024 against 512)", "C5", "base"),
    Trend("a wider feed-forward network is better (4096 against 1024)", "C7", "C6"),
    Trend("dropout helps", "base", "D1"),
    Trend("dropout helps perplexity", "base", "D1", "perplexity"),
    Trend("label smoothing hurts perplexity", "D3", "base", "perplexity"),
    Trend("label smoothing helps BLEU", "base", "D3"),
    Trend("learned positions are as good as sinusoids", "E", "base", as_good=True),
    Trend("`big` is the best", "big", "base"),
)
# What runs of one row that differ in their seed alone may differ by; the second is a share. Three of `base`
# on Multi30k lay 1.8 BLEU and 3.1% of perplexity apart.
ONE_SEED_BLEU, ONE_SEED_PERPLEXITY = 2.0, 0.04


def scaled_fields(row: str, d_model: int) -> dict[str, Any]:
    """The fields of a row's model, its widths multiplied by d_model / 512.

    Raises:
        InputError: a width would not be a whole number.
    """
    from vanilla_transformer.errors import InputError

    config = VanillaTransformerConfig.from_preset(row)
    widths = {name: getattr(config, name) for name in ("d_model", "encoder_ffn_dim", "decoder_ffn_dim")}
    widths["head_dim"], widths["value_head_dim"] = config.encoder_head_dims
    for name, width in widths.items():
        if width * d_model % PAPER_WIDTH:
            raise InputError(
                f"`d_model` must be a multiple of 32, but is {d_model} instead: {name} of row {row}."
            )
    kept = ("encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads")
    others = (*kept, "dropout", "position_embedding")
    return {name: width * d_model // PAPER_WIDTH for name, width in widths.items()} | {
        name: getattr(config, name) for name in others
    }


def recipe_of(row: str, seed: int, args: argparse.Namespace, files: Mapping[str, Any]) -> TrainRecipe:
    """One run: a row with a seed."""
    steps = args.max_steps * PRESETS[row].train_steps // PRESETS["base"].train_steps
    return TrainRecipe(
        **files,
        source_lang=args.source_lang,
        target_lang=args.target_lang,
        vocab_size=args.vocab_size,
        max_source_length=128,
        max_target_length=128,
        model=scaled_fields(row, args.d_model) | {"norm_position": args.norm_position},
        label_smoothing=PRESETS[row].label_smoothing,
        tokens_per_update=args.tokens_per_update,
        max_steps=steps,
        warmup_steps=args.warmup_steps,
        learning_rate_scale=args.learning_rate_scale,
        precision=args.precision,
        eval_steps=steps,
        eval_batch_size=128,
        save_steps=max(1, steps // 10),
        final_model="last",
        tensorboard=False,
        seed=seed,
        output_dir=str(Path(args.output_dir, f"{row}-seed{seed}")),
    )


def train_all(recipes: Sequence[TrainRecipe], jobs: int) -> None:
    """Train what is not finished yet, each run in a process of its own, one a GPU where there are GPUs.

    Raises:
        InputError: a run failed; what it said is on standard error.
    """
    import torch

    from vanilla_transformer.errors import InputError
    from vanilla_transformer.files import write_text

    free: queue.Queue[str | None] = queue.Queue()
    gpus = torch.cuda.device_count()
    # Of the GPUs that this process may see, by the names that it was given.
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    names = visible[:gpus] or [str(number) for number in range(gpus)]
    for name in names if gpus else [None] * jobs:
        free.put(name)

    def train_one(recipe: TrainRecipe) -> int:
        path = Path(f"{recipe.output_dir}.yaml")
        write_text(path, recipe.to_yaml())
        gpu = free.get()
        try:
            environment = os.environ | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
            command = [sys.executable, "-m", "vanilla_transformer.scripts.train", str(path)]
            return subprocess.run(command, env=environment, check=False).returncode
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(gpus or jobs) as pool:
        failed = [
            recipe.output_dir
            for recipe, status in zip(recipes, pool.map(train_one, recipes), strict=True)
            if status
        ]
    if failed:
        raise InputError(f"these runs failed: {', '.join(failed)}.")


def train_here(recipes: Sequence[TrainRecipe]) -> None:
    """Train one run after the other in this process."""
    from vanilla_transformer.training.run import train

    for recipe in recipes:
        train(recipe)


def collect(recipes: Mapping[tuple[str, int], TrainRecipe]) -> dict[str, dict[str, Any]]:
    """Parameters and, of every seed, perplexity and BLEU of each row."""
    from vanilla_transformer.files import read_json

    rows: dict[str, dict[str, Any]] = {}
    for (row, seed), recipe in recipes.items():
        found = read_json(Path(recipe.output_dir, "results.json"))
        scores = found["scores"]["final"]
        entry = rows.setdefault(row, {"parameters": found["parameters"], "model": recipe.model, "runs": []})
        run = {name: scores[name] for name in ("perplexity", "bleu")}
        entry["runs"].append({"seed": seed, **run, "training_seconds": found["training_seconds"]})
    return rows


def figures(rows: Mapping[str, dict[str, Any]], row: str, measure: str) -> list[float]:
    """The values of all seeds of a row."""
    return [run[measure] for run in rows[row]["runs"]]


def judge(trend: Trend, better: Sequence[float], worse: Sequence[float]) -> str:
    """Whether a trend appears in the figures of two rows: yes or no where no seed disagrees, else unclear.

    Where a row has a single seed, its means must differ by more than seeds of one row do.
    """
    if trend.measure == "perplexity":
        better, worse = worse, better
    if min(len(better), len(worse)) > 1:
        above, below = min(better) > max(worse), min(worse) > max(better)
    else:
        means = statistics.fmean(better), statistics.fmean(worse)
        margin = ONE_SEED_BLEU if trend.measure == "bleu" else ONE_SEED_PERPLEXITY * max(means)
        above, below = means[0] - means[1] > margin, means[1] - means[0] > margin
    if trend.as_good:
        return "no" if below else "yes"
    return "yes" if above else "no, the opposite" if below else "unclear"


def trend_rows(rows: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """Which of the paper's trends appear, where their rows were trained."""
    found = []
    for trend in TRENDS:
        if trend.better in rows and trend.worse in rows:
            pair = [figures(rows, row, trend.measure) for row in (trend.better, trend.worse)]
            digits = 1 if trend.measure == "bleu" else 3
            shown = " / ".join(mean_and_range(values, digits) for values in pair)
            unit = "BLEU" if trend.measure == "bleu" else "PPL"
            names = f"{trend.better} / {trend.worse}"
            found.append([trend.text, f"{names}: {shown} {unit}", judge(trend, *pair)])
    return found


def mean_and_range(values: Sequence[float], digits: int = 2) -> str:
    """The mean of the seeds and, where there are several, the smallest and the largest value."""
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table_rows(rows: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """The paper's columns, and ours beside them."""
    return [
        [
            row,
            PAPER[row].change,
            f"{PAPER[row].perplexity:.2f}",
            mean_and_range(figures(rows, row, "perplexity"), 3),
            f"{PAPER[row].bleu:.1f}",
            mean_and_range(figures(rows, row, "bleu"), 1),
            str(PRESETS[row].paper_parameters or ""),
            f"{entry['parameters'] / 1e6:.2f}",
        ]
        for row, entry in rows.items()
    ]


TITLES = (
    "Row",
    "Changes",
    "PPL, paper",
    "PPL, ours",
    "BLEU, paper",
    "BLEU, ours",
    "10^6 par., paper",
    "ours",
)
TREND_TITLES = ("The paper", "Here", "Appears")


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    add = options.add_argument
    add("--rows", nargs="+", choices=PAPER, default=list(PAPER), metavar="ROW", help="default: all of them")
    add("--seeds", type=positive, default=3, help="runs of each row; default: %(default)s")
    add(
        "--d_model",
        type=positive,
        default=64,
        help="width of the base row, a multiple of 32; default: %(default)s",
    )
    add(
        "--norm_position",
        choices=("post", "pre"),
        default="post",
        help="pre learns several times faster in a short training; default: %(default)s, as in the paper",
    )
    add_corpus_options(options, train_size=8000)
    add("--source_lang", help="BCP-47 code of files of your own; default: zh, of the embedded corpus")
    add("--target_lang", help="likewise; decides how BLEU splits words; default: en")
    add("--vocab_size", type=positive, default=2000, help="entries of the vocabulary; default: %(default)s")
    add("--tokens_per_update", type=positive, default=1024, help="default: %(default)s")
    steps = "updates of each run, `big` has three times as many; default: %(default)s"
    add("--max_steps", type=positive, default=4000, help=steps)
    add("--warmup_steps", type=positive, default=1000, help="default: %(default)s")
    # At 1 and a warm-up of 300, post-norm models of six layers hardly begin to learn.
    add("--learning_rate_scale", type=float, default=0.5, help="default: %(default)s")
    add("--precision", choices=("fp32", "bf16"), default="fp32", help="default: %(default)s")
    add(
        "--jobs",
        type=not_negative,
        default=1,
        help="runs side by side on a CPU; 0: in this process; default: %(default)s",
    )
    add("--output_dir", default="runs/table3", metavar="DIR", help="folder of the runs; default: %(default)s")
    add("--results", metavar="FILE", help="results file; default: table3.json in the output folder")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Train, collect, write and print."""
    files = corpus_files(args)
    recipes = {
        (row, seed): recipe_of(row, seed, args, files)
        for seed in range(1, args.seeds + 1)  # a whole table of one seed comes before the second one
        for row in args.rows
    }
    if args.jobs:
        train_all(list(recipes.values()), args.jobs)
    else:
        train_here(list(recipes.values()))
    from vanilla_transformer.tables import markdown_table
    from vanilla_transformer.training.reports import write_report

    rows = collect(recipes)
    trends = trend_rows(rows)
    settings = {name: value for name, value in vars(args).items() if name not in ("results", "output_dir")}
    write_report(
        args.results or Path(args.output_dir, "table3.json"),
        titles=TITLES,
        rows=table_rows(rows),
        settings=settings,
        variations=rows,
        trends={"titles": TREND_TITLES, "rows": trends},
    )
    print(markdown_table(TITLES, table_rows(rows)))
    print(f"\n{markdown_table(TREND_TITLES, trends)}")


if __name__ == "__main__":
    raise SystemExit(main())
