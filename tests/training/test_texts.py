"""Texts for language models and classifiers: rows, what is hidden, batches, a classifier's scores."""

import gzip
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers import word_tokenizer
from transformers import EvalPrediction

from vanilla_transformer.errors import InputError
from vanilla_transformer.training import texts as module
from vanilla_transformer.training.classification import (
    ClassificationMetric,
    ClassificationScores,
    classification_scores,
)
from vanilla_transformer.training.corpus import load_labelled_texts, load_texts
from vanilla_transformer.training.filtering import PROBE, encode
from vanilla_transformer.training.text_collators import ClassifierCollator, TextCollator
from vanilla_transformer.training.texts import (
    Masking,
    classes_of,
    mask_rows,
    prepare_causal_texts,
    prepare_labelled_texts,
    prepare_masked_texts,
)

WORDS = [f"w{n}" for n in range(20)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Return a tokenizer that gives `wN` the id of its place among the sorted words, from 5."""
    return word_tokenizer(WORDS)


def ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.convert_tokens_to_ids(text.split())


def texts(*lines: str, **columns: list[str]) -> Dataset:
    return Dataset.from_dict({"text": list(lines), **columns})


def test_lines_of_a_text_file_plain_and_packed(tmp_path: Path) -> None:
    content = "one\n\ntwo\u2028still two\r\n".encode()
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(content))
    for name in ("a.txt", "a.txt.gz"):
        assert load_texts(tmp_path / name)["text"][:] == ["one", "", "two\u2028still two"]
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.txt` holds no text"):
        load_texts(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes(b"good\ncaf\xe9\n")
    with pytest.raises(InputError, match=r"latin\.txt` must be UTF-8, but line 2 is not"):
        load_texts(tmp_path / "latin.txt")


def test_labelled_texts_of_every_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('kind,review,x\ngood,"a, b",1\n"bad",c,2\n')
    (tmp_path / "a.jsonl").write_text(
        '{"review": "a, b", "kind": "good"}\n{"kind": 7, "review": "c"}\n{"kind": true, "review": "d"}\n'
    )
    columns = {"text_column": "review", "label_column": "kind"}
    csv = load_labelled_texts(tmp_path / "a.csv", **columns)
    assert (csv["text"][:], csv["label"][:]) == (["a, b", "c"], ["good", "bad"])
    assert load_labelled_texts(tmp_path / "a.jsonl", **columns)["label"][:] == ["good", "7", "true"]
    with pytest.raises(InputError, match=r"a\.csv` has no column `label`; its columns are `kind`"):
        load_labelled_texts(tmp_path / "a.csv", text_column="review")
    with pytest.raises(InputError, match="must differ, but both are `x`"):
        load_labelled_texts(tmp_path / "a.csv", text_column="x", label_column="x")


def test_causal_rows_begin_with_the_start_and_lose_no_token(tokenizer: Any) -> None:
    lines = texts("w1 w2", " ", "w3 w4 w5 w6 w7")
    rows, report = prepare_causal_texts(lines, tokenizer, max_length=4)
    long = ids(tokenizer, "w3 w4 w5 w6 w7")
    assert rows["input_ids"][:] == [
        [1, *ids(tokenizer, "w1 w2"), 2], [1, *long[:3]], [1, *long[3:], 2]
    ]  # fmt: skip
    assert rows["labels"][:] == [[-100, *row[1:]] for row in rows["input_ids"]]
    assert (rows["source_length"][:], rows["target_length"][:]) == ([4, 4, 4], [4, 4, 4])
    assert str(report) == "3 pieces of 3 texts; 1 empty, 1 cut"


def test_an_end_that_would_stand_alone_is_no_row(tokenizer: Any) -> None:
    rows, report = prepare_causal_texts(texts("w1 w2 w3", "w4"), tokenizer, max_length=4)
    assert rows["input_ids"][:] == [[1, *ids(tokenizer, "w1 w2 w3")], [1, *ids(tokenizer, "w4"), 2]]
    assert str(report) == "2 pieces of 2 texts; 1 cut"


def test_joined_lines_fill_the_rows(tokenizer: Any) -> None:
    lines = texts("w1 w2", "", "w3", "w4")
    stream = [*ids(tokenizer, "w1 w2"), 2, *ids(tokenizer, "w3"), 2, *ids(tokenizer, "w4"), 2]
    rows, _ = prepare_causal_texts(lines, tokenizer, max_length=5, join_lines=True)
    assert rows["input_ids"][:] == [[1, *stream[:4]], [1, *stream[4:]]]
    rows, _ = prepare_masked_texts(lines, tokenizer, max_length=4, join_lines=True)
    assert rows["input_ids"][:] == [stream[:4], stream[4:]] == rows["labels"][:]
    with pytest.raises(InputError, match=r"^no text is left: 0 pieces of 2 texts; 2 empty\.$"):
        prepare_masked_texts(texts("", " "), tokenizer)


def test_what_was_tokenized_is_mapped_and_not_made_again(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = texts("w1 w2 w3", "w4", " ", "w5", label=["a", "b", "a", "b"])
    encoded: list[str] = []

    def spy(one: Any, lines: list[str], **options: Any) -> Any:
        encoded.extend(line for line in lines if line != PROBE)
        return encode(one, lines, **options)

    monkeypatch.setattr(module, "encode", spy)
    for prepare in (
        partial(prepare_causal_texts, corpus, tokenizer),
        partial(prepare_masked_texts, corpus, tokenizer),
        partial(prepare_labelled_texts, corpus, tokenizer, ["a", "b"]),
    ):
        encoded.clear()
        rows, report = prepare(max_length=3)
        assert encoded and rows.cache_files
        encoded.clear()
        again, same = prepare(max_length=3)
        assert not encoded
        assert same == report and report.empty == report.cut == 1
        assert again.cache_files == rows.cache_files
        assert list(again) == list(rows)
        prepare(max_length=4)
        assert encoded, "of another length"
        Path(rows.cache_files[0]["filename"]).with_suffix(".json").unlink()
        encoded.clear()
        assert prepare(max_length=3)[1] == report
        assert encoded, "a run was killed before it had the counts"


def test_rows_of_another_tokenizer_are_others(tokenizer: Any) -> None:
    corpus = texts("w1 w2", "w3", label=["a", "b"])
    rows, _ = prepare_labelled_texts(corpus, tokenizer, ["a", "b"])
    turned = prepare_labelled_texts(corpus, tokenizer, ["b", "a"])[0]
    assert (rows["labels"][:], turned["labels"][:]) == ([[0], [1]], [[1], [0]])
    without_end = word_tokenizer(WORDS)
    without_end.backend_tokenizer.post_processor = None
    others, _ = prepare_labelled_texts(corpus, without_end, ["a", "b"])
    assert others["input_ids"][:] == [row[:-1] for row in rows["input_ids"]]


def test_masks_follow_from_row_seed_and_epoch_in_the_shares_of_the_paper(tokenizer: Any) -> None:
    masking = Masking(tokenizer, probability=0.3, seed=1)
    draw = np.random.default_rng(0)
    rows = [np.append(draw.integers(5, 25, 50), 2) for _ in range(200)]
    hidden = [masking(row) for row in rows]
    counts = dict.fromkeys(("chosen", "masked", "kept"), 0)
    for row, (read, labels) in zip(rows, hidden, strict=True):
        chosen = labels != -100
        assert labels[-1] == -100, "never </s>"
        assert np.array_equal(labels[chosen], row[chosen])
        assert np.array_equal(read[~chosen], row[~chosen])
        assert not np.isin(read[chosen], [0, 1, 2, 3]).any()
        counts["chosen"] += chosen.sum()
        counts["masked"] += (read[chosen] == 4).sum()
        counts["kept"] += (read[chosen] == row[chosen]).sum()
    assert counts["chosen"] / 10_000 == pytest.approx(0.3, abs=0.02)
    assert counts["masked"] / counts["chosen"] == pytest.approx(0.8, abs=0.03)
    assert counts["kept"] / counts["chosen"] == pytest.approx(0.1 + 0.1 / 20, abs=0.03)
    again = Masking(tokenizer, probability=0.3, seed=1)
    assert all(
        np.array_equal(again(row)[0], read) for row, (read, _) in zip(rows[::-1], hidden[::-1], strict=True)
    )
    again.epoch = 1
    assert not all(np.array_equal(again(row)[0], read) for row, (read, _) in zip(rows, hidden, strict=True))
    assert (Masking(tokenizer, probability=1e-9)(rows[0])[1] != -100).sum() == 1, "one at the least"


def test_batches_of_texts_are_padded_and_masked_once(tokenizer: Any) -> None:
    rows, _ = prepare_masked_texts(texts("w1 w2 w3", "w4"), tokenizer)
    masking = Masking(tokenizer, probability=0.5)
    batch = TextCollator(tokenizer, masking)([[rows[0], rows[1]]])
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["input_ids"][1, 2:].tolist() == [0, 0]
    assert batch["labels"][1].tolist() == [ids(tokenizer, "w4")[0], -100, -100, -100]
    fixed = mask_rows(rows, masking)
    for epoch in (0, 3):
        collator = TextCollator(tokenizer, masking)
        collator.set_epoch(epoch)
        assert collator([fixed[0]])["labels"].tolist() == [fixed["labels"][0]]
    causal, _ = prepare_causal_texts(texts("w1 w2", "w3"), tokenizer)
    batch = TextCollator(tokenizer)(list(causal))
    assert batch["labels"].tolist() == [
        [-100, *ids(tokenizer, "w1 w2"), 2],
        [-100, *ids(tokenizer, "w3"), 2, -100],
    ]


def test_labelled_rows_and_their_batches(tokenizer: Any) -> None:
    corpus = texts("w1 w2 w3", "w4", "", label=["10", "9", "10"])
    classes = classes_of(corpus)
    assert classes == ["9", "10"], "numbers in their order"
    rows, report = prepare_labelled_texts(corpus, tokenizer, classes, max_length=3)
    assert rows["input_ids"][:] == [[*ids(tokenizer, "w1 w2"), 2], [*ids(tokenizer, "w4"), 2]]
    assert rows["labels"][:] == [[1], [0]]
    assert str(report) == "2 pieces of 3 texts; 1 empty, 1 cut"
    assert len(prepare_labelled_texts(corpus, tokenizer, classes, max_length=3, long_texts="drop")[0]) == 1
    whole = prepare_labelled_texts(corpus, tokenizer, classes, max_length=3, long_texts="keep")[0]
    assert whole["source_length"][:] == [4, 2]
    batch = ClassifierCollator(tokenizer)([whole[0], whole[1]])
    assert batch["labels"].tolist() == [1, 0]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    with pytest.raises(InputError, match="label '8' is none of the classes .* '9', '10'"):
        prepare_labelled_texts(texts("w1", label=["8"]), tokenizer, classes)
    with pytest.raises(InputError, match="needs two labels, but the training data have 'a'"):
        classes_of(texts("w1", label=["a"]))
    with pytest.raises(InputError, match="has no label"):
        classes_of(texts("w1", "w2", label=["a", ""]))
    assert classes_of(texts("w1", "w2", "w3", label=["b", "a", "2"])) == ["2", "a", "b"]
    assert classes_of(texts("w1", "w2", "w3", "w1", label=["0", "10", "-1", "9"])) == ["-1", "0", "9", "10"]


def test_accuracy_and_f1_by_hand() -> None:
    """Class 0: 2 hits, 3 predicted, 2 there; class 1: 1, 1, 2; class 2: 0, 0, 1; class 3: 0, 1, 0."""
    right, predicted = [0, 0, 1, 1, 2], [0, 0, 1, 0, 3]
    scores = classification_scores(predicted, right)
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["f1"] == pytest.approx((4 / 5 + 2 / 3 + 0 + 0) / 4)
    metric = ClassificationMetric(keep_in_memory=True)
    assert metric.compute(predictions=predicted, references=right) == pytest.approx(scores)
    with pytest.raises(InputError, match="one prediction for each reference, but there are 1 and 2"):
        classification_scores([1], [1, 2])


def test_the_classifiers_smoothed_loss_is_pytorchs() -> None:
    from vanilla_transformer.modeling.loss_vanilla_transformer import sequence_loss

    torch.manual_seed(0)
    logits, labels = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    wanted = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2, reduction="sum") / 12
    found = sequence_loss(logits, labels, "single_label_classification", 12, 0.2)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)


def test_a_text_without_an_end_token_is_cut_where_it_is() -> None:
    """As a causal model's tokenizer leaves it."""
    tokenizer = word_tokenizer(WORDS)
    tokenizer.backend_tokenizer.post_processor = None
    corpus = texts("w1 w2 w3", "w4", label=["10", "9"])
    rows, _ = prepare_labelled_texts(corpus, tokenizer, ["9", "10"], max_length=2)
    assert rows["input_ids"][:] == [ids(tokenizer, "w1 w2"), ids(tokenizer, "w4")]


def test_scores_of_a_classifier_may_come_in_batches() -> None:
    scores = ClassificationScores()
    logits, labels = np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 2, 0])
    whole = scores(EvalPrediction(logits, labels))
    tensors: list[Any] = [torch.tensor(logits), torch.tensor(labels)]
    first, second = (EvalPrediction(*(one[part] for one in tensors)) for part in (slice(2), slice(2, None)))
    assert scores(first, compute_result=False) == {}
    assert scores(second, compute_result=True) == whole
    assert whole == classification_scores([0, 1, 2, 2], [0, 1, 2, 0])
