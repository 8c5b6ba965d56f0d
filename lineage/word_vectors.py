"""word2vec through gensim, and how to look at it.

CBOW and skip-gram are of Mikolov, Chen, Corrado and Dean (2013, arXiv:1301.3781), which trained them with a
hierarchical softmax; negative sampling is of Mikolov, Sutskever, Chen, Corrado and Dean (2013,
arXiv:1310.4546).
"""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..drawing import fonts_for, new_figure, save_figure
from ..errors import InputError


def train_word_vectors(
    sentences: Sequence[Sequence[str]],
    *,
    skip_gram: bool,
    size: int = 64,
    window: int = 5,
    epochs: int = 20,
    min_count: int = 2,
    seed: int = 1,
) -> Any:
    """Vectors that predict a word from its neighbours' mean (CBOW), or the neighbours from it (skip-gram).

    Both with negative sampling, log s(v_o . v_i) + sum_k log s(-v_k . v_i) (arXiv:1310.4546, equation 4). One
    thread, so that the same sentences give the same vectors.

    Args:
        sentences: words of each sentence.
        skip_gram: skip-gram instead of CBOW.
        size, window, epochs, min_count: width of a vector, words on either side, passes, rarest word.

    Returns:
        gensim's `KeyedVectors`.

    Raises:
        InputError: no word occurs `min_count` times.
    """
    from gensim.models import Word2Vec

    if max(Counter(chain.from_iterable(sentences)).values(), default=0) < min_count:
        raise InputError(f"word2vec needs words that occur {min_count} times, but there is none.")
    model = Word2Vec(
        [list(sentence) for sentence in sentences],
        vector_size=size,
        window=window,
        min_count=min_count,
        sg=int(skip_gram),
        epochs=epochs,
        workers=1,
        seed=seed,
    )
    return model.wv


def neighbours(vectors: Any, word: str, among: Collection[str], count: int = 5) -> list[str]:
    """The words of `among` whose vectors have the largest cosine with that of `word`."""
    return _first(vectors.most_similar(word, topn=len(vectors)), among, count)


def analogy(
    vectors: Any, word: str, is_to: str, as_word: str, among: Collection[str], count: int = 5
) -> list[str]:
    """What is to `as_word` as `is_to` is to `word`: the words nearest to is_to - word + as_word."""
    return _first(vectors.most_similar([is_to, as_word], [word], topn=len(vectors)), among, count)


def _first(nearest: Sequence[tuple[str, float]], among: Collection[str], count: int) -> list[str]:
    return [word for word, _ in nearest if word in among][:count]


def principal_components(rows: np.ndarray, count: int = 2) -> np.ndarray:
    """(words, E) -> (words, count): the coordinates along the directions of greatest variance.

    Of fewer words than `count` there are fewer directions; along the others all lie at 0.
    """
    centred = rows - rows.mean(axis=0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    found = left[:, :count] * scale[:count]
    return np.pad(found, ((0, 0), (0, count - found.shape[1])))


def plot_words(vectors: Any, words: Sequence[str], path: Path) -> Path:
    """A picture of words in the plane of their two principal components."""
    known = [word for word in words if word in vectors]
    points = principal_components(np.stack([vectors[word] for word in known]))
    with fonts_for(known, required=False):
        axes = (figure := new_figure(6, 6)).subplots()
        axes.scatter(points[:, 0], points[:, 1], s=8)
        for word, (x, y) in zip(known, points, strict=True):
            axes.annotate(word.strip(), (x, y), fontsize=8, parse_math=False)
        return save_figure(figure, path)
