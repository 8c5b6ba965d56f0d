"""Longer sentences than in training: sinusoids, learned positions and none (the paper, 3.5).

The paper chose sinusoids because "it may allow the model to extrapolate to sequence lengths longer than the
ones encountered during training". Here a model with each kind of positions is trained on pairs of at most
`--longest` source tokens, and translates greedily what is shorter and what is longer. BLEU and the share of
translations that are the reference word for word are given by the length of the source.

    python benchmarks/length_extrapolation.py                    # the embedded corpus
    python benchmarks/length_extrapolation.py --positions sinusoidal learned --longest 12
    python benchmarks/length_extrapolation.py --train_source train.en --train_target train.de \\
        --valid_source val.en --valid_target val.de --source_lang en --target_lang de

Sentences of the embedded corpus are short, and its long ones have more relative clauses than its short ones.
So that nothing but the length is new, lines of one to `--joined` sentences that follow each other are made,
in training and in the test alike; training leaves out those of more than `--longest` tokens. The command
given again goes on where it stopped.
"""

import argparse
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.corpora import (
    CORPUS_FILES,
    add_corpus_options,
    corpus_digests,
    corpus_files,
)
from vanilla_transformer.scripts.support.lines import load_aligned_lines, write_lines
from vanilla_transformer.scripts.support.options import parser_of, positive, random_seed
from vanilla_transformer.training.recipe import TrainRecipe

ROOT = Path(__file__).resolve().parents[1]
POSITIONS = ("sinusoidal", "learned", "none")
OUTPUTS = ("output_dir", "results", "figure")
WITHOUT_SPACES = ("zh", "ja")
# A range of lengths ends at each of these parts of `--longest`; the first three are known from training.
RANGES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)


def joined_lines(lines: Sequence[str], most: int, language: str) -> list[str]:
    """First every sentence alone, then two by two, and so on up to `most` that follow each other in one line.

    What is left over at the end makes no line. Chinese and Japanese need no space between sentences.
    """
    space = "" if language in WITHOUT_SPACES else " "
    return [
        space.join(lines[start : start + size])
        for size in range(1, most + 1)
        for start in range(0, len(lines) - size + 1, size)
    ]


def write_joined(files: Mapping[str, str], args: argparse.Namespace) -> dict[str, str]:
    """Join the sentences of the four files; the paths of the new files."""
    paths = {name: str(Path(args.output_dir, f"joined_{name}.txt")) for name in CORPUS_FILES}
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    for part in ("train", "valid"):
        names = (f"{part}_source", f"{part}_target")
        sides = load_aligned_lines([files[name] for name in names])
        for name, lines, language in zip(names, sides, (args.source_lang, args.target_lang), strict=True):
            write_lines(joined_lines(lines, args.joined, language), paths[name])
    return paths


def recipe_of(positions: str, args: argparse.Namespace, files: Mapping[str, Any]) -> TrainRecipe:
    """A model of the demo's shape with one kind of positions; nothing is chosen on the validation files."""
    return TrainRecipe(
        train_source=files["train_source"],
        train_target=files["train_target"],
        source_lang=args.source_lang,
        target_lang=args.target_lang,
        vocab_size=args.vocab_size,
        max_source_length=args.longest,
        max_target_length=4 * args.longest,
        model={
            "position_embedding": positions,
            "d_model": args.d_model,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 2 * args.d_model,
            "decoder_ffn_dim": 2 * args.d_model,
            "dropout": 0.05,
        },
        tokens_per_update=args.tokens_per_update,
        max_steps=args.max_steps,
        warmup_steps=args.warmup_steps,
        save_steps=args.max_steps,
        final_model="last",
        tensorboard=False,
        seed=args.seed,
        output_dir=str(Path(args.output_dir, positions)),
    )


def ranges(longest: int) -> list[tuple[int, int]]:
    """(shortest, longest) of each range of source tokens."""
    ends = [0, *(round(part * longest) for part in RANGES)]
    return [(start + 1, end) for start, end in itertools.pairwise(ends)]


def measure(recipe: TrainRecipe, args: argparse.Namespace, files: Mapping[str, str]) -> dict[str, Any]:
    """Train, unless that is done, translate, and score each range of lengths."""
    from vanilla_transformer.modeling.translation_vanilla_transformer import translate
    from vanilla_transformer.scripts.support.models import load_model
    from vanilla_transformer.training.run import train

    started = time.perf_counter()
    result = train(recipe)
    model, tokenizer = load_model(str(result.output_dir))
    sources, references = load_aligned_lines([files["valid_source"], files["valid_target"]])
    translations = list(translate(model, tokenizer, sources, num_beams=1, length_penalty=1.0))
    lengths = [len(ids) for ids in tokenizer(sources).input_ids]
    scores = {}
    for shortest, longest in ranges(args.longest):
        rows = [k for k, length in enumerate(lengths) if shortest <= length <= longest]
        if rows:
            pairs = [(translations[k], references[k]) for k in rows]
            scores[f"{shortest}-{longest}"] = scores_of(pairs, args.target_lang)
    seconds = time.perf_counter() - started
    return {"parameters": model.num_parameters(), "seconds": seconds, "ranges": scores}


def scores_of(pairs: Sequence[tuple[str, str]], language: str) -> dict[str, float]:
    """BLEU and the percentage of exact translations of (translation, reference) pairs."""
    from vanilla_transformer.training.metrics import score

    translations, references = zip(*pairs, strict=True)
    bleu = score(translations, [references], language=language, metrics=("bleu",))["bleu"]
    exact = 100 * sum(found == wanted for found, wanted in pairs) / len(pairs)
    return {"sentences": len(pairs), "bleu": float(bleu), "exact": exact}


def results(recipes: Mapping[str, TrainRecipe], args: argparse.Namespace, files: Mapping[str, str]) -> Any:
    """What each kind of positions reached; what was measured before is read from the run's folder."""
    import json

    from vanilla_transformer.files import read_json, write_text

    found = {}
    for positions, recipe in recipes.items():
        path = Path(recipe.output_dir, "by_length.json")
        if not path.is_file():
            write_text(path, json.dumps(measure(recipe, args, files), indent=2))
        found[positions] = read_json(path)
    return found


def table_of(found: Mapping[str, Any], longest: int) -> tuple[list[str], list[list[str]]]:
    """Titles and rows: the ranges down, the kinds of positions across."""
    names = list(next(iter(found.values()))["ranges"])
    titles = [
        "Source tokens",
        "Pairs",
        *(f"{kind}, {what}" for kind in found for what in ("BLEU", "exact %")),
    ]
    rows = []
    for name in names:
        cells = [one["ranges"][name] for one in found.values()]
        new = " (longer than in training)" if int(name.partition("-")[0]) > longest else ""
        values = [f"{cell[key]:.1f}" for cell in cells for key in ("bleu", "exact")]
        rows.append([name + new, str(cells[0]["sentences"]), *values])
    return titles, rows


def plot(found: Mapping[str, Any], longest: int, path: Path) -> Path:
    """BLEU and exact translations over the length of the source; a line where training ended."""
    from vanilla_transformer.drawing import new_figure, save_figure

    figure = new_figure(11, 4)
    for axes, (key, title) in zip(
        figure.subplots(1, 2), {"bleu": "BLEU", "exact": "exact translations (%)"}.items(), strict=True
    ):
        for (kind, one), style in zip(found.items(), ("o-", "s--", "^-."), strict=False):
            axes.plot(list(one["ranges"]), [cell[key] for cell in one["ranges"].values()], style, label=kind)
        known = sum(int(name.partition("-")[0]) <= longest for name in next(iter(found.values()))["ranges"])
        axes.axvline(known - 0.5, color="grey", linestyle=":", label=f"training: up to {longest}")
        axes.set(title=title, xlabel="source tokens")
        axes.grid(alpha=0.3)
        axes.legend()
    return save_figure(figure, path)


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    add = options.add_argument
    add("--positions", nargs="+", choices=POSITIONS, default=list(POSITIONS), help="default: all three")
    add("--longest", type=positive, default=16, help="source tokens in training; default: %(default)s")
    add("--joined", type=positive, default=5, help="most sentences of a line; default: %(default)s")
    add_corpus_options(options, train_size=24_000)
    add("--source_lang", help="BCP-47 code of files of your own; default: zh, of the embedded corpus")
    add("--target_lang", help="likewise; decides how BLEU splits words; default: en")
    add("--vocab_size", type=positive, default=2000, help="entries of the vocabulary; default: %(default)s")
    add("--d_model", type=positive, default=128, help="a multiple of 8; default: %(default)s")
    add("--tokens_per_update", type=positive, default=1024, help="default: %(default)s")
    add("--max_steps", type=positive, default=1000, help="updates of each run; default: %(default)s")
    add("--warmup_steps", type=positive, default=300, help="default: %(default)s")
    add("--seed", type=random_seed, default=1, help="default: %(default)s")
    add("--output_dir", default="runs/length_extrapolation", metavar="DIR", help="default: %(default)s")
    default = ROOT / "benchmarks" / "results" / "length_extrapolation.json"
    add("--results", type=Path, default=default, metavar="FILE", help="results file")
    add("--figure", type=Path, metavar="FILE", help="picture; default: beside the results file")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Train and translate what is missing, write and print."""
    from vanilla_transformer.tables import markdown_table
    from vanilla_transformer.training.reports import check_settings, write_report

    corpus = corpus_files(args)
    settings = {name: value for name, value in vars(args).items() if name not in OUTPUTS}
    shared = {name: value for name, value in settings.items() if name != "positions"}
    folder = Path(args.output_dir)
    begun = any(folder.glob("*/recipe.yaml"))
    check_settings(folder / "settings.json", shared | corpus_digests(corpus), begun=begun)
    files = write_joined(corpus, args)
    recipes = {positions: recipe_of(positions, args, files) for positions in args.positions}
    found = results(recipes, args, files)
    titles, rows = table_of(found, args.longest)
    write_report(args.results, titles=titles, rows=rows, settings=settings, positions=found)
    print(markdown_table(titles, rows))
    print(plot(found, args.longest, args.figure or args.results.with_suffix(".png")))


if __name__ == "__main__":
    raise SystemExit(main())
