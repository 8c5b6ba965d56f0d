"""Embeddings that start from pre-trained word vectors: word2vec files, text or binary, and GloVe's.

What a word matches. A piece of the vocabulary that begins with a space (or with the "▁" of other tokenizers)
begins a word: it takes the vector of the word behind the space. A piece without takes one only if the
vocabulary has no such twin, as otherwise it is mostly the inside of words; Chinese and Japanese words, and
those of tokenizers without spaces in their pieces, are found by this. A piece that is not found as it is
written is looked for in lower case. Special tokens and bytes are never matched.

Their size. The usual initialisation has a standard deviation of d_model^-0.5, which the model's factor
sqrt(d_model) (section 3.4) brings to 1, beside positions of that size. Vectors from elsewhere have any size:
those that are matched are multiplied by one common number that gives their components the root mean square
d_model^-0.5. Directions, and lengths relative to each other, stay.
"""

from __future__ import annotations

import lzma
import re
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, first_line, import_extra
from ..text_files import open_binary

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

_HEADER = re.compile(rb"\d+ \d+\s*")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_WORD_BEGINNINGS = (" ", "▁")
# A line of text vectors is shorter than this; what lies in a binary file is not text for long.
_SAMPLE = 1 << 16


@dataclass(frozen=True)
class VectorReport:
    """How many pieces of the vocabulary have a word vector, and how many start as usual."""

    matched: int
    unmatched: int

    def __str__(self) -> str:
        """One line: "word vectors for 812 of 1,000 pieces; the other 188 start at random"."""
        whole = self.matched + self.unmatched
        found = f"word vectors for {self.matched:,} of {whole:,} pieces"
        return f"{found}; the other {self.unmatched:,} start at random"


def load_word_vectors(path: str | Path) -> KeyedVectors:
    """Read a file of word vectors; what kind it is of, its first lines tell.

    Args:
        path: word2vec text (a header with two numbers), word2vec binary, or GloVe text (no header), whose
            words may hold spaces; it may be packed, as .gz.

    Raises:
        InputError: gensim, which reads them, is not installed, or the file cannot be read.
    """
    path = Path(path)
    binary, no_header = _layout(path)
    import_extra("gensim", "vectors")
    from gensim.models import KeyedVectors

    if no_header:
        return _read_glove(path)
    try:
        # Words that are no UTF-8 occur in published files; they match nothing.
        return KeyedVectors.load_word2vec_format(str(path), binary=binary, unicode_errors="replace")
    except (EOFError, ValueError, IndexError, OSError, lzma.LZMAError, zlib.error) as error:
        raise _damaged(path, first_line(error)) from None


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"`{path}` is not a whole file of word vectors: {reason}.")


def _read_glove(path: Path) -> KeyedVectors:
    """Vectors without a header whose words may hold spaces, such as ". . ."; gensim splits at every space.

    Raises:
        InputError: a line has fewer numbers than the first, or what should be one is none.
    """
    from gensim.models import KeyedVectors

    words: dict[str, None] = {}
    values = array("f")
    with open_binary(path) as file:
        width = len(file.readline().split()) - 1
        file.seek(0)
        for number, line in enumerate(file, 1):
            word, *fields = line.decode("utf-8", errors="replace").rstrip().rsplit(" ", width)
            try:
                row = array("f", map(float, fields))
            except ValueError:
                row = array("f")
            if len(row) != width:
                raise _damaged(path, f"line {number} holds no vector of {width} numbers")
            if word not in words:
                words[word] = None
                values.extend(row)
    vectors = KeyedVectors(width)
    vectors.add_vectors(list(words), np.frombuffer(values, np.float32).reshape(-1, width))
    return vectors


def _layout(path: Path) -> tuple[bool, bool]:
    """Whether a file is binary, and whether its header is missing."""
    with open_binary(path) as file:
        first = file.readline(_SAMPLE)
        second = file.readline(_SAMPLE)
    if not _HEADER.fullmatch(first):
        if not _is_text_vector(first):
            raise InputError(f"`{path}` is not a file of word vectors: its first line holds no vector.")
        return False, True
    return not _is_text_vector(second), False


def _is_text_vector(line: bytes) -> bool:
    fields = line.split()[1:]
    try:
        return bool(fields) and all(isinstance(float(field), float) for field in fields)
    except ValueError:
        return False


@torch.no_grad()
def embed_word_vectors(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    vectors: str | Path | KeyedVectors,
    *,
    embeddings: nn.Embedding | None = None,
) -> VectorReport:
    """Write word vectors into the embeddings of a model, as the module describes; other rows stay.

    To keep them fixed, `freeze(model, ["embeddings"])` afterwards, which keeps the other rows, and a tied
    projection, fixed as well.

    Args:
        model: a model of the family.
        tokenizer: whose pieces the rows belong to.
        vectors: a file for `load_word_vectors`, or what it returned.
        embeddings: the matrix to write to, by default `model.get_input_embeddings()`: that of source and
            target, if they share one.

    Raises:
        InputError: as `load_word_vectors`, the vectors are not of the model's width, or no piece has one.
    """
    name = "the file" if not isinstance(vectors, str | Path) else f"`{vectors}`"
    loaded = load_word_vectors(vectors) if isinstance(vectors, str | Path) else vectors
    target = cast(nn.Embedding, model.get_input_embeddings()) if embeddings is None else embeddings
    if loaded.vector_size != target.embedding_dim:
        raise InputError(
            f"{name} must hold vectors of `d_model` ({target.embedding_dim}) dimensions, but they have"
            f" {loaded.vector_size}."
        )
    matches = dict(_matches(tokenizer, loaded.key_to_index))
    if not matches:
        raise InputError(f"{name} has a vector for no piece of the vocabulary.")
    rows = torch.from_numpy(loaded.vectors[list(matches.values())]).to(target.weight)
    mean_square = rows.square().mean()
    if not (mean_square.isfinite() and mean_square > 0):
        raise InputError(f"{name} must hold finite vectors that are not all zero for the pieces.")
    rows *= target.embedding_dim**-0.5 / mean_square.sqrt()
    target.weight[list(matches)] = rows
    return VectorReport(len(matches), len(tokenizer) - len(matches))


def _matches(tokenizer: PreTrainedTokenizerBase, rows: dict[str, int]) -> Iterator[tuple[int, int]]:
    """Id of each piece that has a vector, with the vector's row."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids)
    for piece, number in vocabulary.items():
        if number in special or _BYTE.fullmatch(piece):
            continue
        if piece[:1] not in _WORD_BEGINNINGS and any(
            f"{beginning}{piece}" in vocabulary for beginning in _WORD_BEGINNINGS
        ):
            continue
        word = piece[1:] if piece[:1] in _WORD_BEGINNINGS else piece
        row = rows.get(word, rows.get(word.lower()))
        if row is not None:
            yield number, row
