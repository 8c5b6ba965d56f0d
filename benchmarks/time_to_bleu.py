"""From raw text to a scored test: how long it takes to reach a BLEU, beside transformers' Marian.

    python benchmarks/time_to_bleu.py multi30k_en_de \\
        --train_source train.en --train_target train.de --valid_source val.en --valid_target val.de \\
        --test_source test_2016_flickr.en --test_reference test_2016_flickr.de

Everything is counted but the imports: training the tokenizer, preparing the pairs, training, validation,
saving, loading, translating the test and scoring it. The model is chosen on the validation files as the
recipe says; the test is read once, after that. BLEU is that of lower-cased text in the Moses tokenisation.
Any key of the recipe can be replaced by `--key value`. On a CPU, `--processes` trains ours on several cores.
With `--taught`, the model translates the training sources, and training goes on from it with references and
translations together, within the time.

Beside it runs what a user of transformers would write: a MarianMTModel of the same shape with
Seq2SeqTrainer at its defaults (batches of 8 sentences, learning rate 5e-5 falling in a straight line, 3
epochs). Marian has no tokenizer that can be trained, so it gets one as ours.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.lines import load_aligned_lines
from vanilla_transformer.scripts.support.models import load_model
from vanilla_transformer.scripts.support.options import parser_of, positive
from vanilla_transformer.training.recipe import TrainRecipe, load_recipe
from vanilla_transformer.training.recipe_values import apply_overrides, parse_overrides

if TYPE_CHECKING:
    from vanilla_transformer.training.run import TrainResult

ROOT = Path(__file__).resolve().parents[1]
TITLES = ("Model", "Parameters", "Seconds until trained", "Seconds in all", "BLEU", "sacreBLEU", "Target")


def run_ours(recipe: TrainRecipe, args: argparse.Namespace) -> dict[str, Any]:
    """Train by the recipe, and on its own translations where that is asked for."""
    results = [train_ours(recipe, args.processes)]
    if args.taught:
        results.append(train_ours(taught_recipe(recipe, args.taught), args.processes))
    model, tokenizer = load_model(str(results[-1].output_dir))
    return {
        "model": model,
        "tokenizer": tokenizer,
        "steps": sum(result.steps for result in results),
        "validation": results[-1].scores["final"],
    }


def train_ours(recipe: TrainRecipe, processes: int) -> TrainResult:
    """Train by one recipe."""
    from vanilla_transformer.training.run import train

    if processes > 1:
        train_together(recipe, processes)  # `train` then finds a finished run
    return train(recipe)


def taught_recipe(recipe: TrainRecipe, changes: Sequence[str]) -> TrainRecipe:
    """The recipe of a run that goes on from that of `recipe`, with its translations of the training text.

    Args:
        changes: other keys to replace, each as `key=value`.
    """
    from vanilla_transformer.training.distillation import student_recipe, write_student_corpus

    teacher, second = recipe.output_dir, changed_recipe(recipe, changes)
    write_student_corpus(second, teacher, *load_model(teacher), with_references=True)
    return student_recipe(second, teacher, with_references=True)


def changed_recipe(recipe: TrainRecipe, changes: Sequence[str]) -> TrainRecipe:
    """The recipe of a run in a folder of its own that begins at the model of `recipe`."""
    first = recipe.output_dir
    values = recipe.to_dict() | {"output_dir": f"{first}/taught", "init_from": first, "lowercase": False}
    words = [f"--{change}" for change in changes]
    apply_overrides(values, parse_overrides(words, TrainRecipe), TrainRecipe)
    return TrainRecipe.from_dict(values)


def train_together(recipe: TrainRecipe, processes: int) -> None:
    """Train by the recipe on several processes of this machine; they import anew, and that counts."""
    import datasets

    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recipe.yaml")
        path.write_text(recipe.to_yaml(), encoding="utf-8")
        status = subprocess.run(
            [sys.executable, "-m", *launcher, "-m", "vanilla_transformer.scripts.train", str(path)],
            env=os.environ | {"HF_DATASETS_CACHE": str(datasets.config.HF_DATASETS_CACHE)},
            check=False,
        ).returncode
    if status:
        raise InputError(f"training on {processes} processes ended with status {status}; see above.")


def run_marian(recipe: TrainRecipe, args: argparse.Namespace) -> dict[str, Any]:
    """Train transformers' Marian of the recipe's shape with its own trainer."""
    from transformers import (
        DataCollatorForSeq2Seq,
        MarianMTModel,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        set_seed,
    )

    from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerTokenizer
    from vanilla_transformer.interop.marian import marian_config
    from vanilla_transformer.training.corpus import Texts
    from vanilla_transformer.training.filtering import prepare_pairs
    from vanilla_transformer.training.tasks import TranslationTask

    pairs = TranslationTask(recipe).training_data()
    tokenizer = VanillaTransformerTokenizer.train_from_iterator(
        Texts(pairs), vocab_size=recipe.vocab_size, lowercase=recipe.lowercase
    )
    names = ("max_source_length", "max_target_length", "long_sentences", "max_length_ratio")
    limits: dict[str, Any] = {name: getattr(recipe, name) for name in names}
    prepared, _ = prepare_pairs(pairs, tokenizer, **limits)
    set_seed(recipe.seed)
    ours = VanillaTransformerConfig.from_preset(recipe.preset, vocab_size=len(tokenizer), **recipe.model)
    model = MarianMTModel(marian_config(ours, max_position_embeddings=512))
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(Path(recipe.output_dir, "marian")),
            num_train_epochs=args.marian_epochs,
            save_strategy="no",
            report_to="none",
            seed=recipe.seed,
        ),
        train_dataset=prepared.select_columns(["input_ids", "labels"]),
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
    )
    trainer.train()
    return {"model": model, "tokenizer": tokenizer, "steps": trainer.state.global_step}


RUNS: dict[str, Callable[[TrainRecipe, argparse.Namespace], dict[str, Any]]] = {
    "ours": run_ours,
    "marian": run_marian,
}


@contextlib.contextmanager
def nothing_prepared() -> Iterator[None]:
    """Neither of the two finds pairs that the other, or an earlier run, has prepared."""
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder)
        try:
            yield
        finally:
            datasets.config.HF_DATASETS_CACHE = before


def measure(name: str, recipe: TrainRecipe, args: argparse.Namespace) -> dict[str, Any]:
    """Train one of the two from raw text, translate the test and score it, by the clock on the wall."""
    # What both need is imported before the clock starts, not by whichever comes first.
    import transformers.trainer_seq2seq  # noqa: F401

    import vanilla_transformer.training.run  # noqa: F401
    from vanilla_transformer.modeling.translation_vanilla_transformer import translate
    from vanilla_transformer.training.metrics import lower_cases, score, score_lowercased_tokenized

    started = time.perf_counter()
    with nothing_prepared():
        trained = RUNS[name](recipe, args)
    until_trained = time.perf_counter() - started
    model, tokenizer = trained.pop("model"), trained.pop("tokenizer")
    sources, references = load_aligned_lines([args.test_source, args.test_reference])
    search = {"num_beams": recipe.generation.get("num_beams", 4)}
    translations = list(translate(model, tokenizer, sources, **search))
    paper = score_lowercased_tokenized(translations, [references], recipe.target_lang or "en")
    in_all = time.perf_counter() - started
    options: dict[str, Any] = {"language": recipe.target_lang, "lowercase": lower_cases(tokenizer)}
    plain = score(translations, [references], metrics=("bleu",), **options)
    return trained | {
        "parameters": model.num_parameters(),
        "seconds_until_trained": until_trained,
        "seconds": in_all,
        "bleu": paper["bleu"],
        "sacrebleu": plain["bleu"],
        "signatures": [paper["bleu_signature"], plain["bleu_signature"]],
    }


def table_rows(results: dict[str, dict[str, Any]], target: float) -> list[list[str]]:
    """A line for each model; the target is reached or missed by what the test reads."""
    names = {"ours": "VanillaTransformer", "marian": "Marian, Seq2SeqTrainer"}
    return [
        [
            names[name],
            f"{found['parameters']:,}",
            f"{found['seconds_until_trained']:.0f}",
            f"{found['seconds']:.0f}",
            f"{found['bleu']:.1f}",
            f"{found['sacrebleu']:.1f}",
            f"{target:.1f} {'reached' if found['bleu'] >= target else 'missed'}",
        ]
        for name, found in results.items()
    ]


def parser() -> argparse.ArgumentParser:
    """The command-line options; what is not among them is a key of the recipe."""
    options = parser_of(
        __doc__, usage="%(prog)s RECIPE --test_source FILE --test_reference FILE [--key value ...]"
    )
    options.add_argument("recipe", metavar="RECIPE", help="name of a packaged recipe, or a YAML file")
    options.add_argument("--test_source", required=True, metavar="FILE", help="source text of the test")
    options.add_argument("--test_reference", required=True, metavar="FILE", help="its reference translations")
    options.add_argument("--target", type=float, default=41.0, help="BLEU to reach; default: %(default)s")
    options.add_argument("--models", nargs="+", choices=RUNS, default=list(RUNS), help="default: both")
    options.add_argument(
        "--processes", type=positive, default=1, help="processes that train ours; default: %(default)s"
    )
    options.add_argument(
        "--taught",
        nargs="+",
        metavar="KEY=VALUE",
        help="let the model teach itself in the end, with these keys of the recipe changed",
    )
    options.add_argument(
        "--marian_epochs", type=float, default=3.0, help="default: %(default)s, the Trainer's own"
    )
    options.add_argument(
        "--results",
        metavar="FILE",
        default=str(ROOT / "benchmarks" / "results" / "time_to_bleu.json"),
        help="results file",
    )
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args, overrides = parser().parse_known_args(argv)
    return run_script(lambda: run(args, overrides))


def run(args: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Measure, write and print."""
    from vanilla_transformer.tables import markdown_table
    from vanilla_transformer.training.reports import write_report

    recipe = load_recipe(args.recipe, overrides)
    recipe.require_trainable()
    if not recipe.has_validation:
        raise InputError(
            "the model is chosen on validation files: give `--valid_source` and `--valid_target`."
        )
    if Path(recipe.output_dir).exists():
        raise InputError(
            f"`{recipe.output_dir}` exists, but a time counts from nothing: give another `output_dir`."
        )
    if args.taught:
        changed_recipe(recipe, args.taught)  # what is wrong there is told now
    load_aligned_lines([args.test_source, args.test_reference])
    results = {name: measure(name, recipe, args) for name in args.models}
    rows = table_rows(results, args.target)
    write_report(
        args.results,
        titles=TITLES,
        rows=rows,
        target=args.target,
        settings={"processes": args.processes, "marian_epochs": args.marian_epochs, "taught": args.taught}
        | recipe.to_dict(),
        models=results,
    )
    print(markdown_table(TITLES, rows))


if __name__ == "__main__":
    raise SystemExit(main())
