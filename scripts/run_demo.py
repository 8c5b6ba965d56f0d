"""From nothing to a translation in minutes: make a corpus, train on it, score and show what it learned.

    vanilla-transformer demo                                      (trains a model into runs/demo)
    vanilla-transformer demo --output_dir runs/demo2 --seed 2
    vanilla-transformer demo runs/demo                            (serves a page for a trained model)

Two things bear this name: without a folder the demo is made, with one it is shown in the browser
(`vanilla-transformer demo runs/demo --help` has its options). What follows is about the first.

The corpus is Chinese-English, made by a small grammar. Half of the test sentences hold combinations of words
that training never shows together. Any key of the recipe `demo` can be replaced by `--key value`. The command
given again goes on where it was stopped; with a finished model it only scores it once more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vanilla_transformer.scripts import open_demo
from vanilla_transformer.scripts.support.console import fail, print_title, run_script
from vanilla_transformer.scripts.support.models import load_model
from vanilla_transformer.scripts.support.options import parser_of
from vanilla_transformer.tables import text_table

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from vanilla_transformer.training.embedded_corpus import EmbeddedCorpus
    from vanilla_transformer.training.recipe import TrainRecipe

# What the recipe reaches on the whole test and on each half of it, with room for the luck of a seed.
EXPECTED_BLEU = 90.0
# The named sentences and a few more of the seen half, and as many of the new one.
ROWS_PER_HALF = 6


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and not words[0].startswith("-"):
        return open_demo.main(words)
    if {"-h", "--help"} & set(words):
        parser().print_help()
        return 0
    return run_script(lambda: run(words))


def parser() -> argparse.ArgumentParser:
    """For the help only: options are keys of the recipe."""
    return parser_of(
        __doc__, usage="%(prog)s [--key value ...]\n       %(prog)s MODEL [--open] [--port PORT] ..."
    )


def run(overrides: Sequence[str]) -> int:
    """Do all of it. Returns the exit status: 0, or 2 if the recipe as it is learned too little."""
    from vanilla_transformer.training.embedded_corpus import build_corpus, write_corpus
    from vanilla_transformer.training.metrics import lower_cases
    from vanilla_transformer.training.run_folder import check_same_recipe

    recipe = demo_recipe(overrides)
    folder = Path(recipe.output_dir)
    check_same_recipe(recipe, folder)  # before the corpus is written into it
    print_title("Making the corpus")
    corpus = build_corpus()
    write_corpus(corpus, folder / "corpus")
    print(f"{len(corpus.train):,} pairs to train on, {len(corpus.test):,} to test, in {folder / 'corpus'}")
    print_title("Training")
    from vanilla_transformer.training.run import train

    train(recipe)
    print_title("Translating the test sentences, which training never saw")
    model, tokenizer = load_model(str(folder))
    translations = translate_test(model, tokenizer, corpus)
    scores = score_parts(corpus, translations, lowercase=lower_cases(tokenizer))
    for name, (bleu, chrf) in scores.items():
        print(f"{name:<32}BLEU {bleu:5.1f}   chrF {chrf:5.1f}")
    print_title("Some of them")
    print(text_table(("source", "reference", "translation"), examples(corpus, translations)))
    print_title("The model in Python")
    print(python_lines(folder))
    return _status(scores, as_packaged=not overrides)


def demo_recipe(overrides: Sequence[str]) -> TrainRecipe:
    """The recipe `demo`, its corpus inside its output folder wherever that is."""
    from vanilla_transformer.training.recipe import load_recipe

    corpus = Path(load_recipe("demo", overrides).output_dir, "corpus")
    files = {
        f"{part}_{side}": corpus / f"{part}.{language}"
        for part in ("train", "valid")
        for side, language in (("source", "zh"), ("target", "en"))
    }
    return load_recipe("demo", [*(f"--{key}={path}" for key, path in files.items()), *overrides])


def translate_test(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: EmbeddedCorpus
) -> list[str]:
    """Translations of the whole test."""
    from vanilla_transformer.modeling.translation_vanilla_transformer import translate

    sources = [pair.source for pair in corpus.test]
    return list(translate(model, tokenizer, sources, progress=True, total=len(sources)))


def score_parts(
    corpus: EmbeddedCorpus, translations: Sequence[str], *, lowercase: bool = False
) -> dict[str, tuple[float, float]]:
    """(BLEU, chrF) of the whole test and of its halves, with case or without."""
    from vanilla_transformer.training.metrics import score

    seen = len(corpus.test_seen)
    parts = {
        "all test sentences": slice(None),
        "  combinations seen in training": slice(seen),
        "  new combinations": slice(seen, None),
    }
    references = [pair.target for pair in corpus.test]
    scores = {
        name: score(translations[part], [references[part]], metrics=("bleu", "chrf"), lowercase=lowercase)
        for name, part in parts.items()
    }
    return {name: (one["bleu"], one["chrf"]) for name, one in scores.items()}


def examples(corpus: EmbeddedCorpus, translations: Sequence[str]) -> list[tuple[str, str, str]]:
    """Rows of the table: the named sentences, more of the seen half, and some of the new one."""
    first_new = len(corpus.test_seen)
    chosen = [*range(ROWS_PER_HALF), *range(first_new, first_new + ROWS_PER_HALF)]
    return [(corpus.test[k].source, corpus.test[k].target, translations[k]) for k in chosen]


def python_lines(folder: Path) -> str:
    """Three lines that load the model and translate."""
    name = str(folder)
    return "\n".join(
        [
            "from vanilla_transformer import VanillaTransformerForConditionalGeneration as Model,"
            " VanillaTransformerTokenizer as Tokenizer",
            f"model, tokenizer = Model.from_pretrained({name!r}), Tokenizer.from_pretrained({name!r})",
            'ids = model.generate(**tokenizer("我有一只猫。", return_tensors="pt"))[0];'
            " print(tokenizer.decode(ids, skip_special_tokens=True))",
        ]
    )


def _status(scores: dict[str, tuple[float, float]], *, as_packaged: bool) -> int:
    low = [f"{bleu:.1f} ({name.strip()})" for name, (bleu, _) in scores.items() if bleu < EXPECTED_BLEU]
    if not low or not as_packaged:
        return 0
    return fail(
        f"the demo should reach a BLEU of {EXPECTED_BLEU:.0f} everywhere, but reached {', '.join(low)}."
    )


if __name__ == "__main__":
    raise SystemExit(main())
