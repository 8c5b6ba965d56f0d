"""n-grams by hand, word2vec on words whose neighbours are known, principal components against numpy."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vanilla_transformer.errors import InputError
from vanilla_transformer.lineage.ngram import NgramLanguageModel
from vanilla_transformer.lineage.road import word_lines
from vanilla_transformer.lineage.word_vectors import (
    analogy,
    neighbours,
    plot_words,
    principal_components,
    train_word_vectors,
)

END = 2

NO_GENSIM = "gensim is not installed: pip install '.[vectors]'"


def test_add_one_smoothing_by_hand() -> None:
    """Two sentences over five words: 3 4 end, 3 3 end."""
    sentences = [[3, 4, END], [3, 3, END]]
    bigrams = NgramLanguageModel(2, 5).fit(sentences)
    assert bigrams.probability(3, [1]) == pytest.approx((2 + 1) / (2 + 5))
    assert bigrams.probability(4, [3]) == pytest.approx((1 + 1) / (3 + 5))
    assert bigrams.probability(0, [4]) == pytest.approx((0 + 1) / (1 + 5))
    assert bigrams.probability(4, [0, 0, 3]) == bigrams.probability(4, [3]), "one word before counts"
    assert bigrams.probability(3) == bigrams.probability(3, [1]), "a sentence begins"
    trigrams = NgramLanguageModel(3, 5).fit(sentences)
    assert trigrams.probability(3, [3]) == trigrams.probability(3, [1, 3]) == pytest.approx((1 + 1) / (2 + 5))
    unigrams = NgramLanguageModel(1, 5).fit(sentences)
    assert unigrams.probability(3) == unigrams.probability(3, [4]) == pytest.approx((3 + 1) / (6 + 5))
    logs = [math.log(4 / 11), math.log(2 / 11), math.log(3 / 11)]
    assert unigrams.perplexity([[3, 4, END]]) == pytest.approx(math.exp(-sum(logs) / 3))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_sum_to_one(order: int) -> None:
    model = NgramLanguageModel(order, 7).fit([[3, 4, 5, END], [3, 5, 4, END]])
    for history in ([], [3], [3, 4], [6, 6]):
        padded = [1] * order + history
        assert sum(model.probability(word, padded) for word in range(7)) == pytest.approx(1)


def test_more_words_before_help_where_they_tell_something() -> None:
    sentences = [[3, 4, 5, END], [6, 4, 3, END]] * 50  # what follows 4 depends on the word before it
    perplexities = [NgramLanguageModel(n, 7).fit(sentences).perplexity(sentences) for n in (1, 2, 3)]
    assert perplexities[0] > perplexities[1] > perplexities[2]


@pytest.mark.parametrize(("order", "size"), [(0, 5), (2, 0)])
def test_sizes_are_positive(order: int, size: int) -> None:
    with pytest.raises(ValueError, match="must be positive, but is 0 instead"):
        NgramLanguageModel(order, size)


@pytest.mark.parametrize("skip_gram", [False, True])
def test_words_that_stand_for_each_other_are_neighbours(skip_gram: bool) -> None:
    pytest.importorskip("gensim", reason=NO_GENSIM)
    groups = (["cat", "dog"], ["red", "blue"])
    sentences = [
        [f"{group[0]}-verb", word, f"{group[0]}-place", f"{group[0]}-time"]
        for group in groups
        for word in group
    ] * 60
    vectors = train_word_vectors(sentences, skip_gram=skip_gram, size=16, window=2, epochs=20)
    assert vectors.similarity("cat", "dog") > max(vectors.similarity("cat", w) for w in ("red", "blue"))
    nearest = neighbours(vectors, "cat", set(vectors.index_to_key), 3)
    assert len(nearest) == 3 and "dog" in nearest and "cat" not in nearest
    assert neighbours(vectors, "cat", {"cat", "red", "blue"}) in (["red", "blue"], ["blue", "red"])
    again = train_word_vectors(sentences, skip_gram=skip_gram, size=16, window=2, epochs=20)
    assert np.array_equal(again["cat"], vectors["cat"])


def test_words_are_drawn_as_they_are_spelled(tmp_path: Path) -> None:
    models = pytest.importorskip("gensim.models", reason=NO_GENSIM)
    vectors = models.KeyedVectors(3)
    words = ["a$\\foo$", "cat", "dog"]
    vectors.add_vectors(words, np.eye(3, dtype=np.float32))
    assert plot_words(vectors, words, tmp_path / "words.png").read_bytes().startswith(b"\x89PNG")


def test_words_that_occur_but_once_are_refused() -> None:
    pytest.importorskip("gensim.models", reason=NO_GENSIM)
    with pytest.raises(InputError, match="needs words that occur 2 times"):
        train_word_vectors([["a", "b"], ["c"]], skip_gram=False)


def test_an_analogy_is_the_sum_of_differences() -> None:
    models = pytest.importorskip("gensim.models", reason=NO_GENSIM)
    vectors = models.KeyedVectors(3)
    words = {"man": [1, 0, 0], "woman": [1, 1, 0], "king": [1, 0, 1], "queen": [1, 1, 1], "tree": [-1, 0, 0]}
    vectors.add_vectors(list(words), np.array(list(words.values()), dtype=np.float32))
    assert analogy(vectors, "man", "king", "woman", words, 1) == ["queen"]
    assert analogy(vectors, "man", "king", "woman", {"tree"}) == ["tree"]


def test_principal_components_are_the_eigenvectors_coordinates() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 5)) * [5, 3, 1, 1, 1]
    found = principal_components(rows)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    expected = (rows - rows.mean(0)) @ vectors[:, ::-1][:, :2]
    assert np.allclose(np.abs(found), np.abs(expected))
    assert np.allclose(found.var(axis=0, ddof=1), values[::-1][:2])


def test_what_word2vec_found_is_told_in_lines() -> None:
    rows: dict[str, dict[str, Any]] = {
        "nnlm": {"title": "NNLM", "perplexity": 3.0},
        "cbow": {
            "title": "word2vec cbow",
            "neighbours": {"cat": ["dog", "bird"]},
            "analogies": {"cat : cats = dog : ?": ["dogs"]},
        },
        "skip_gram": {"title": "word2vec skip-gram", "neighbours": {}, "analogies": {}},
    }
    assert word_lines(rows) == [
        "word2vec cbow, neighbours: cat dog, bird",
        "word2vec cbow, analogies: cat : cats = dog : ? dogs",
    ]


def test_one_word_alone_lies_in_the_middle() -> None:
    assert principal_components(np.ones((1, 5))).tolist() == [[0, 0]]
