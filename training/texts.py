"""From lines of text to the rows that language models and classifiers train on.

Rows have the columns of prepared sentence pairs, "input_ids", "labels", "source_length" and "target_length",
so that all that makes batches of pairs makes batches of them. They are cached as prepared pairs are, by the
texts, the tokenizer and the settings: processes that train together, and later runs, map the same file.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from datasets import Dataset, Features, List, Value, is_caching_enabled
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..files import read_json
from ..modeling.loss_vanilla_transformer import IGNORED
from .corpus import cache_file
from .filtering import PROBE, encode, rows_digest

ROW_FEATURES = Features(
    {name: List(Value("int32")) for name in ("input_ids", "labels")}
    | {name: Value("int32") for name in ("source_length", "target_length")}
)
BATCH_SIZE = 1000
# Part of the key of the cache: count it up whenever the same texts are prepared differently.
CACHE_VERSION = "texts-1"


@dataclass(frozen=True)
class TextReport:
    """What became of texts: how many were read, how many rows they make, and what was changed or left out.

    Attributes:
        read: texts that were looked at.
        rows: rows to train on.
        empty: left out, because there is no text.
        cut: longer than the limit: the end is lost (classifier), or in further rows (language model).
        too_long: left out, because they are longer than the limit.
    """

    read: int
    rows: int
    empty: int = 0
    cut: int = 0
    too_long: int = 0

    def __str__(self) -> str:
        """One line: "1,010 pieces of 1,000 texts; 2 empty, 12 cut"."""
        counts = ((self.empty, "empty"), (self.too_long, "too long"), (self.cut, "cut"))
        found = [f"{number:,} {what}" for number, what in counts if number]
        return f"{self.rows:,} pieces of {self.read:,} texts; {', '.join(found) or 'none left out or cut'}"


def require_token(tokenizer: PreTrainedTokenizerBase, name: str, model: str) -> None:
    """Refuse a tokenizer that lacks a special token, "mask_token" for instance, which a kind of model needs.

    Raises:
        InputError: names the kind of model and the token.
    """
    if getattr(tokenizer, f"{name}_id") is None:
        raise InputError(f"{model} needs a tokenizer with a `{name}`, but this one has none.")


def prepare_causal_texts(
    texts: Dataset, tokenizer: PreTrainedTokenizerBase, *, max_length: int = 256, join_lines: bool = False
) -> tuple[Dataset, TextReport]:
    """Rows for a causal language model: `<s>`, the text, `</s>`; of `<s>` no loss is taken.

    Args:
        texts: the column "text".
        tokenizer: knows `<s>` and `</s>`; whether it adds them by itself does not matter.
        max_length: most tokens of a row. What is longer goes on in further rows, each of which begins with
            `<s>`; `</s>` stands at the end of the text alone.
        join_lines: fill rows with one text after the other, `</s>` between them.

    Raises:
        InputError: there is no text, or a tokenizer without one of the two.
    """
    require_token(tokenizer, "bos_token", "a causal language model")
    start = [cast(int, tokenizer.bos_token_id)]
    return _prepare_language_model(texts, tokenizer, start, max_length, join_lines)


def prepare_masked_texts(
    texts: Dataset, tokenizer: PreTrainedTokenizerBase, *, max_length: int = 256, join_lines: bool = False
) -> tuple[Dataset, TextReport]:
    """Rows for a masked language model: the text and `</s>`, as an encoder reads it; `TextCollator` hides.

    Args and errors as for `prepare_causal_texts`, without the `<s>`.
    """
    return _prepare_language_model(texts, tokenizer, [], max_length, join_lines)


def _prepare_language_model(
    texts: Dataset, tokenizer: PreTrainedTokenizerBase, start: list[int], max_length: int, join_lines: bool
) -> tuple[Dataset, TextReport]:
    require_token(tokenizer, "eos_token", "a language model")
    settings: dict[str, Any] = {"start": start, "max_length": max_length, "join_lines": join_lines}
    cut = partial(_pieces, tokenizer=tokenizer, **settings)
    rows, counts = _mapped(texts, cut, _fingerprint(texts, tokenizer, settings))
    return rows, TextReport(len(texts), len(rows), empty=counts[0], cut=counts[1])


def _pieces(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    start: list[int],
    max_length: int,
    join_lines: bool,
) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """Input ids and labels of the rows, and how many texts were empty and how many cut."""
    real = [text for text in texts if text.strip()]
    end = [cast(int, tokenizer.eos_token_id)]
    encoded = [ids + end for ids in encode(tokenizer, real, add_special_tokens=False)] if real else []
    room = max_length - len(start)
    streams = [list(itertools.chain.from_iterable(encoded))] if join_lines and encoded else encoded
    bodies = [stream[at : at + room] for stream in streams for at in range(0, len(stream), room)]
    # A single token has nothing to be predicted from or to predict, an end by itself teaches an empty text.
    inputs = [start + body for body in bodies if body != end and len(start) + len(body) > 1]
    labels = [[IGNORED] * len(start) + row[len(start) :] for row in inputs]
    return inputs, labels, [len(texts) - len(real), sum(len(row) > room for row in encoded)]


def prepare_labelled_texts(
    texts: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    classes: Sequence[str],
    *,
    max_length: int = 256,
    long_texts: str = "cut",
) -> tuple[Dataset, TextReport]:
    """Rows for a classifier: the text and `</s>`, and in "labels" the number of its class alone.

    Args:
        texts: the columns "text" and "label".
        tokenizer: ends every text in its end token.
        classes: the labels, in the order of their numbers.
        max_length: limit in tokens, `</s>` counted.
        long_texts: "cut" longer ones (`</s>` stays at their end), "drop" or "keep" them.

    Raises:
        InputError: there is no text, or a label that is no class.
    """
    numbers = {label: number for number, label in enumerate(classes)}
    foreign = next((label for label in texts["label"] if label not in numbers), None)
    if foreign is not None:
        raise InputError(
            f"the label {foreign!r} is none of the classes of the training data: {_some(classes)}."
        )
    limit = None if long_texts == "keep" else max_length
    special = frozenset(tokenizer.all_special_ids)

    def rows_of(
        batch: Sequence[str], labels: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]], list[int]]:
        counts = [sum(not text.strip() for text in batch), 0, 0]
        inputs, targets = [], []
        for text, ids, label in zip(batch, encode(tokenizer, list(batch)), labels, strict=True):
            if not text.strip():
                continue
            long = limit is not None and len(ids) > limit
            counts[1 if long_texts == "cut" else 2] += long
            if not long or long_texts == "cut":
                inputs.append(_cut(ids, limit, special) if long and limit else ids)
                targets.append([numbers[label]])
        return inputs, targets, counts

    settings = {"classes": list(classes), "limit": limit, "long_texts": long_texts}
    fingerprint = _fingerprint(texts, tokenizer, settings)
    rows, counts = _mapped(texts, rows_of, fingerprint, columns=("text", "label"))
    return rows, TextReport(len(texts), len(rows), *counts)


def _cut(ids: list[int], limit: int, special: Collection[int]) -> list[int]:
    """The first `limit` ids; an end token stays at the end."""
    end = ids[-1:] if ids[-1] in special else []
    return [*ids[: limit - len(end)], *end]


def classes_of(texts: Dataset) -> list[str]:
    """The different labels, numbers in their order and words by the alphabet.

    Raises:
        InputError: a label is missing, or there are fewer than two.
    """
    classes = set(texts.unique("label"))
    if "" in classes:
        raise InputError("a text of the training data has no label.")
    if len(classes) < 2:
        raise InputError(
            f"a classifier needs two labels, but the training data have {_some(sorted(classes))}."
        )
    return sorted(classes, key=_place)


def _place(label: str) -> tuple[int, int, str]:
    """What a label is sorted by: whole numbers by size, before all other words."""
    return (0, int(label), label) if label.removeprefix("-").isdecimal() else (1, 0, label)


def _some(classes: Sequence[str]) -> str:
    return ", ".join(map(repr, classes[:20])) + (" and more" if len(classes) > 20 else "")


def _fingerprint(texts: Dataset, tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any]) -> str:
    """A digest of what decides the rows: the texts, the tokenizer, how it encodes a probe, the settings."""
    probe = encode(tokenizer, [PROBE])
    special = tokenizer.bos_token_id, tokenizer.eos_token_id, sorted(tokenizer.all_special_ids)
    return rows_digest(CACHE_VERSION, texts._fingerprint, tokenizer, probe, special, settings)


def _mapped(
    texts: Dataset, rows_of: Any, fingerprint: str, columns: Sequence[str] = ("text",)
) -> tuple[Dataset, list[int]]:
    """The rows that a function makes of batches of texts, and the sums of what it counts, or both cached."""
    path = Path(cache_file(fingerprint))
    counts_path = path.with_suffix(".json")
    cached = is_caching_enabled() and path.is_file() and counts_path.is_file()
    counts: list[int] = read_json(counts_path)["counts"] if cached else [0, 0, 0]

    def convert(*batch: Sequence[str]) -> dict[str, list[Any]]:
        inputs, labels, found = rows_of(*batch)
        for place, number in enumerate(found):
            counts[place] += number
        return {
            "input_ids": inputs,
            "labels": labels,
            "source_length": [len(row) for row in inputs],
            "target_length": [len(row) for row in labels],
        }

    try:
        rows = texts.map(
            convert,
            batched=True,
            batch_size=BATCH_SIZE,
            input_columns=list(columns),
            remove_columns=texts.column_names,
            features=ROW_FEATURES,
            load_from_cache_file=cached,
            cache_file_name=str(path),
            new_fingerprint=fingerprint,
            desc="Tokenizing",
        )
        if not cached:
            # Of a name of its own, as another run may do the same at the same time.
            beside = counts_path.with_suffix(f".{os.getpid()}.json")
            beside.write_text(json.dumps({"counts": counts}), "utf-8")
            os.replace(beside, counts_path)
    except OSError as error:
        raise InputError(f"The tokenized texts cannot be written: {error.strerror or error}.") from None
    if not len(rows):
        raise InputError(f"no text is left: {TextReport(len(texts), 0, *counts)}.")
    return rows, counts


class Masking:
    """Hides tokens for a masked language model, as Devlin et al. (2019), section 3.1, do.

    Which tokens of a row are hidden follows from the row, the seed and the epoch, and from nothing else: a
    resumed run hides what the uninterrupted one does. At least one token of each row is hidden; special
    tokens never are.

    Args:
        tokenizer: has a mask token.
        probability: share of tokens that are predicted; 80% of them are masked, 10% become another token of
            the vocabulary, and 10% stay.
        seed: another one hides other tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, probability: float = 0.15, seed: int = 0):
        require_token(tokenizer, "mask_token", "a masked language model")
        self.probability = probability
        self.seed = seed
        self.epoch = 0
        self._mask = tokenizer.mask_token_id
        self._special = np.array(sorted(tokenizer.all_special_ids))
        self._others = np.setdiff1d(np.arange(len(tokenizer)), self._special)

    def __call__(self, row: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids (T,) as what the model reads and, -100 elsewhere, what it shall predict."""
        ids = np.asarray(row, np.int64)
        draw = np.random.default_rng([self.seed, self.epoch, *ids.tolist()])
        open_to_it = np.flatnonzero(~np.isin(ids, self._special))
        if not len(open_to_it):
            return ids, np.full_like(ids, IGNORED)
        count = max(draw.binomial(len(open_to_it), self.probability), 1)
        chosen = draw.choice(open_to_it, count, replace=False)
        labels = np.full_like(ids, IGNORED)
        labels[chosen] = ids[chosen]
        kind, hidden = draw.random(count), ids.copy()
        hidden[chosen[kind < 0.8]] = self._mask
        random = chosen[kind >= 0.9]
        hidden[random] = draw.choice(self._others, len(random))
        return hidden, labels


def mask_rows(rows: Dataset, masking: Masking) -> Dataset:
    """Rows of `prepare_masked_texts` hidden once and for all, for validation data."""

    def hide(batch: Sequence[Sequence[int]]) -> dict[str, list[Any]]:
        pairs = [masking(np.asarray(row)) for row in batch]
        return {"input_ids": [ids for ids, _ in pairs], "labels": [labels for _, labels in pairs]}

    return rows.map(
        hide,
        batched=True,
        input_columns=["input_ids"],
        load_from_cache_file=False,
        keep_in_memory=True,
        new_fingerprint=f"{rows._fingerprint}-masked",
        desc="Masking",
    )
