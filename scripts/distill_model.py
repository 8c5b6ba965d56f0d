"""Distil a large model into a small one: the teacher translates the training text, the student learns that.

    vanilla-transformer distill demo_student --teacher runs/demo
    vanilla-transformer distill multi30k_en_de_student --teacher runs/multi30k_en_de \\
        --train_source train.en --train_target train.de --valid_source val.en --valid_target val.de \\
        --test_source test.en --test_reference test.de
    vanilla-transformer distill multi30k_en_de --teacher runs/en-de --init_from runs/en-de \\
        --with_references --train_source train.en --train_target train.de \\
        --valid_source val.en --valid_target val.de --output_dir runs/en-de-taught

RECIPE is the student's; any key of it can be replaced by `--key value`, as for `train`, whose --help
lists them. With `--init_from` the teacher's own folder, a model teaches itself. The teacher translates on one
process and may be interrupted; the student is an ordinary run. In the end a table sets the two side by side
on the test files, or else the validation data: parameters, size on the disk, speed and BLEU;
output_dir/distillation.json keeps it.

A student on many GPUs: interrupt the command when training begins, and go on with
`accelerate launch ... scripts/train.py OUTPUT_DIR/recipe.yaml`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts.support.console import print_title, run_script
from vanilla_transformer.scripts.support.lines import load_aligned_lines
from vanilla_transformer.scripts.support.models import check_model_name, load_model
from vanilla_transformer.scripts.support.options import parser_of, positive
from vanilla_transformer.tables import text_table

if TYPE_CHECKING:
    from vanilla_transformer.training.recipe import TrainRecipe

COMPARISON_FILE = "distillation.json"
# The titles of the table, and what `measure` calls what stands below them.
COLUMNS = {
    "Model": "model",
    "Parameters": "parameters",
    "MB": "megabytes",
    "Sentences/s": "sentences_per_second",
    "BLEU": "bleu",
    "chrF": "chrf",
}


def parser() -> argparse.ArgumentParser:
    """The command-line options; what is not among them is a key of the recipe."""
    options = parser_of(__doc__, usage="%(prog)s RECIPE --teacher DIR [--key value ...]")
    options.add_argument("recipe", metavar="RECIPE", help="the student's recipe: a name, or a YAML file")
    options.add_argument("--teacher", required=True, metavar="DIR", help="folder of the trained large model")
    options.add_argument(
        "--beside", nargs="+", default=[], metavar="DIR",
        help="more models for the table, such as the student trained on the references",
    )  # fmt: skip
    options.add_argument(
        "--with_references", action="store_true",
        help="the student learns the references too; every source then comes twice in an epoch",
    )  # fmt: skip
    options.add_argument("--teacher_beams", type=positive, help="beams of the teacher; default: its own")
    options.add_argument("--test_source", metavar="FILE", help="source text of the comparison")
    options.add_argument("--test_reference", metavar="FILE", help="its reference translations")
    options.add_argument(
        "--part_size",
        type=positive,
        default=2048,
        help="sentences translated at a time; default: %(default)s",
    )
    options.add_argument(
        "--tokens_per_batch",
        type=positive,
        default=4096,
        help="most source tokens of a batch; default: %(default)s",
    )
    options.add_argument("--device", default="auto", help="of the teacher and the comparison; default: auto")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args, overrides = parser().parse_known_args(argv)
    return run_script(lambda: run(args, overrides))


def run(args: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Translate, train and compare; each step that is done already is passed over."""
    from vanilla_transformer.training.distillation import student_recipe, write_student_corpus
    from vanilla_transformer.training.recipe import load_recipe
    from vanilla_transformer.training.run import check_ahead, train

    recipe = load_recipe(args.recipe, overrides)
    recipe.require_trainable()
    student = student_recipe(recipe, args.teacher, with_references=args.with_references)
    check_model_name(args.teacher)
    check_ahead(student)
    # What the table needs is looked at first: the student may take days.
    for folder in args.beside:
        if not Path(folder, "config.json").is_file():
            raise InputError(f"`--beside`: `{folder}` is not a folder with a model.")
    texts = comparison_texts(args, recipe)
    print_title("The teacher translates the training text")
    model, tokenizer = load_model(args.teacher, device=args.device)
    count = write_student_corpus(
        recipe,
        args.teacher,
        model,
        tokenizer,
        with_references=args.with_references,
        part_size=args.part_size,
        tokens_per_batch=args.tokens_per_batch,
        **({} if args.teacher_beams is None else {"num_beams": args.teacher_beams}),
    )
    print(f"{count:,} sentences translated now")
    print_title("The student learns from it")
    train(student)
    print_title("Before and after")
    compare([args.teacher, *args.beside, recipe.output_dir], texts, recipe, args)


def comparison_texts(args: argparse.Namespace, recipe: TrainRecipe) -> list[list[str]]:
    """Sources and references of the comparison: of the test files that are given, or the validation data.

    Raises:
        InputError: one of the two without the other, neither these nor validation data, or text that cannot
            be read.
    """
    if (args.test_source is None) != (args.test_reference is None):
        raise InputError("`--test_source` and `--test_reference` go together.")
    if args.test_source is not None:
        return load_aligned_lines([args.test_source, args.test_reference])
    if not recipe.has_validation:
        raise InputError("give `--test_source` and `--test_reference`: the recipe has no validation data.")
    return validation_texts(recipe)


def validation_texts(recipe: TrainRecipe) -> list[list[str]]:
    """Sources and references of what a recipe validates on, from whatever file or data set it names.

    Raises:
        InputError: they cannot be read.
    """
    from vanilla_transformer.training.tasks import load_validation_pairs

    try:
        pairs: Any = load_validation_pairs(recipe)
    except InputError as error:
        raise InputError(f"validation data: {error}") from None
    return [pairs[side][:] for side in ("source", "target")]


def compare(
    folders: Sequence[str], texts: Sequence[Sequence[str]], recipe: TrainRecipe, args: argparse.Namespace
) -> None:
    """Measure the models, print the table and write it into the student's folder."""
    from vanilla_transformer.training.reports import write_report

    models = [measure(folder, texts, recipe.target_lang, args) for folder in folders]
    titles, rows = list(COLUMNS), [[_cell(model[key]) for key in COLUMNS.values()] for model in models]
    write_report(
        Path(recipe.output_dir, COMPARISON_FILE),
        titles=titles,
        rows=rows,
        settings={"seed": recipe.seed, "sentences": len(texts[0])},
        models=models,
    )
    print(text_table(titles, rows))


def measure(
    name: str, texts: Sequence[Sequence[str]], language: str | None, args: argparse.Namespace
) -> dict[str, Any]:
    """A row of the table: what the model is, how fast it translates as it was saved, and how well."""
    from vanilla_transformer.modeling.translation_vanilla_transformer import translate
    from vanilla_transformer.training.metrics import lower_cases, score

    sources, references = texts
    model, tokenizer = load_model(name, device=args.device)
    batches = {"tokens_per_batch": args.tokens_per_batch}
    list(translate(model, tokenizer, sources[:8], **batches))  # what happens only once is not timed
    started = time.perf_counter()
    translations = list(translate(model, tokenizer, sources, **batches))
    seconds = time.perf_counter() - started
    options: dict[str, Any] = {"language": language, "lowercase": lower_cases(tokenizer)}
    scores = score(translations, [references], metrics=("bleu", "chrf"), **options)
    return {
        "model": name,
        "parameters": model.num_parameters(),
        "megabytes": _bytes_of_weights(name) / 1e6,
        "sentences_per_second": len(sources) / seconds,
        "bleu": scores["bleu"],
        "chrf": scores["chrf"],
        "signature": scores["bleu_signature"],
        "device": str(model.device),
    }


def _bytes_of_weights(name: str) -> int:
    """The size of the weights on the disk; a model of the Hub lies in the cache that it was loaded from."""
    from huggingface_hub import snapshot_download

    folder = Path(name if Path(name).is_dir() else snapshot_download(name, local_files_only=True))
    files = list(folder.glob("*.safetensors")) or list(folder.glob("pytorch_model*.bin"))
    return sum(path.stat().st_size for path in files)


def _cell(value: Any) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


if __name__ == "__main__":
    raise SystemExit(main())
