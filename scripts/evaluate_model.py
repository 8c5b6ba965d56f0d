"""Score translations against references with sacreBLEU: BLEU, chrF and TER, each with its signature.

    vanilla-transformer evaluate --model runs/demo --source test.zh --references test.en --target_lang en
    vanilla-transformer evaluate --hypotheses out.en --references test.ref0.en test.ref1.en
    vanilla-transformer evaluate --as-paper --hypotheses newstest2014.out.de --references newstest2014.de

--as-paper adds the BLEU that the paper reports (27.3 and 28.4 for English-German): on text split by the Moses
tokenizer, with the words of a hyphenated compound apart, and case-sensitive. sacreBLEU splits the plain text
by rules of its own and leaves compounds whole. Compare each of the two only with its own kind.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from vanilla_transformer.errors import InputError
from vanilla_transformer.files import one_line
from vanilla_transformer.scripts.support.console import run_script
from vanilla_transformer.scripts.support.lines import check_output, load_aligned_lines, write_lines
from vanilla_transformer.scripts.support.models import (
    add_model_options,
    generate_options,
    given_model_options,
    load_translator,
)
from vanilla_transformer.scripts.support.options import parser_of

LABELS = {
    "bleu": "BLEU",
    "chrf": "chrF",
    "ter": "TER",
    "lowercased_tokenized_bleu": "BLEU, lower-cased tokenised",
    "paper_bleu": "BLEU as in the paper",
}
# Chinese characters, kana and hangul, with the punctuation of their width.
CJK = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")


def parser() -> argparse.ArgumentParser:
    """The command-line options."""
    options = parser_of(__doc__)
    options.add_argument(
        "--references",
        "--reference",
        nargs="+",
        required=True,
        metavar="FILE",
        help="reference translations; each file is a set of its own",
    )
    options.add_argument("--source", metavar="FILE", help="source text that --model translates")
    options.add_argument("--hypotheses", metavar="FILE", help="translations made before, instead of a model")
    options.add_argument("--output", metavar="FILE", help="keep the model's translations here")
    options.add_argument(
        "--target_lang",
        help="target language (BCP-47), which chooses the word splitter of BLEU; default: that of the model's"
        " recipe, or of the run that a checkpoint lies in; with none it is 13a, which is wrong for zh, ja and"
        " ko",
    )
    options.add_argument("--tokenize", help="sacreBLEU's word splitter (13a, zh, char, none, ...) by name")
    options.add_argument(
        "--lowercase",
        action="store_true",
        help="ignore case; always so for a model whose tokenizer lower-cases",
    )
    options.add_argument(
        "--lowercased_tokenized",
        "--lowercase_tokenized",
        metavar="LANG",
        help="also BLEU on lower-cased text, tokenised by sacremoses for this language",
    )
    options.add_argument(
        "--as-paper",
        "--as_paper",
        action="store_true",
        help="also BLEU as in the paper, tokenised for --target_lang (default: de)",
    )
    options.add_argument("--json", action="store_true", help="print one JSON object")
    add_model_options(options, required=False)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; see the module's docstring. Returns the exit status."""
    args = parser().parse_args(argv)
    return run_script(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Translate if a model is named, and print the scores."""
    _check_options(args)
    hypotheses, *references = load_aligned_lines([args.source or args.hypotheses, *args.references])
    if args.model:
        args.target_lang = args.target_lang or _target_language(args.model) or args.tgt_lang
    if not (args.target_lang or args.tokenize):
        _warn_of_cjk(references)
    if args.model:
        _check_scorable(args, len(references))
        hypotheses, lower_cases = _translated(args, hypotheses)
        args.lowercase = args.lowercase or lower_cases
    scores = _scores(args, hypotheses, references)
    print(json.dumps(scores, ensure_ascii=False, indent=2) if args.json else render(scores))


def render(scores: dict[str, Any]) -> str:
    """A line for each score: name, value, signature."""
    width = max(len(LABELS[name]) for name in scores if name in LABELS)
    lines = [
        f"{label:<{width}}  {scores[name]:6.2f}  {scores[f'{name}_signature']}"
        for name, label in LABELS.items()
        if name in scores
    ]
    return "\n".join([f"{scores['sentences']} sentences", *lines])


def _check_options(args: argparse.Namespace) -> None:
    if (args.model is None) == (args.hypotheses is None):
        raise InputError("give either `--model` with `--source`, or `--hypotheses`.")
    if (args.model is None) != (args.source is None):
        raise InputError("`--model` and `--source` go together.")
    if args.output and args.model is None:
        raise InputError("`--output` keeps the translations of `--model`, which is not given.")
    if args.model is None and (idle := given_model_options(args)):
        raise InputError(f"`{idle[0]}` is for translating with `--model`, which is not given.")
    check_output(args.output, [args.source, *args.references])


def _check_scorable(args: argparse.Namespace, sets: int) -> None:
    """Refuse what cannot be scored before the work of translating, by scoring one word.

    Args:
        sets: how many references there are of each sentence.
    """
    _scores(args, ["."], [["."]] * sets)


def _translated(args: argparse.Namespace, sources: list[str]) -> tuple[list[str], bool]:
    """The translations, and whether the model knows no capitals."""
    from vanilla_transformer.modeling.translation_vanilla_transformer import translate
    from vanilla_transformer.training.metrics import lower_cases

    model, tokenizer = load_translator(args)
    translations = [
        one_line(text)
        for text in translate(
            model,
            tokenizer,
            sources,
            tokens_per_batch=args.tokens_per_batch,
            progress=True,
            total=len(sources),
            **generate_options(args),
        )
    ]
    if args.output:
        write_lines(translations, args.output)
    return translations, lower_cases(tokenizer)


def _target_language(model: str) -> str | None:
    """The language that the recipe names, if `model` is the folder of a run, an average or a checkpoint."""
    from vanilla_transformer.training.recipe import recipe_of_model

    return getattr(recipe_of_model(model), "target_lang", None)


def _warn_of_cjk(references: Sequence[Iterable[str]]) -> None:
    """Say that BLEU, told no language, splits words at spaces where most of the text has none."""
    text = "".join("".join(line.split()) for lines in references for line in lines)
    if 2 * len(CJK.findall(text)) > len(text):
        print(
            "warning: the references seem to be Chinese, Japanese or Korean, for which the word splitter 13a"
            " of BLEU is wrong: give `--target_lang` zh, ja or ko.",
            file=sys.stderr,
        )


def _scores(args: argparse.Namespace, hypotheses: list[str], references: list[list[str]]) -> dict[str, Any]:
    from vanilla_transformer.training.metrics import score, score_as_paper, score_lowercased_tokenized

    scores: dict[str, Any] = {"sentences": len(hypotheses)}
    scores |= score(
        hypotheses, references, lowercase=args.lowercase, tokenize=args.tokenize, language=args.target_lang
    )
    if args.lowercased_tokenized:
        published = score_lowercased_tokenized(hypotheses, references, args.lowercased_tokenized)
        scores |= {f"lowercased_tokenized_{name}": value for name, value in published.items()}
    if args.as_paper:
        reported = score_as_paper(hypotheses, references, args.target_lang or "de")
        scores |= {f"paper_{name}": value for name, value in reported.items()}
    return scores


if __name__ == "__main__":
    raise SystemExit(main())
