"""Sequence-level knowledge distillation (Kim and Rush, 2016, arXiv:1606.07947): the teacher's translations.

A student that is trained on what the teacher says learns its mode, which is simpler than the references. Here
the teacher translates the training sources; the student is an ordinary run on these pairs, or on them and
the references.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files import one_line, write_text
from ..text_files import file_digest, short_digest
from . import checkpoints
from .recipe import TrainRecipe
from .reports import check_settings
from .tasks import TranslationTask

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SOURCE_FILE, TARGET_FILE = "source.txt", "target.txt"
MIXED_SOURCE_FILE, MIXED_TARGET_FILE = "mixed_source.txt", "mixed_target.txt"
ORIGIN_FILE = "teacher.json"
PART_SIZE = 2048
# What a folder may hold of a tokenizer.
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges*", "*.model", "*.spm")


def distillation_folder(recipe: TrainRecipe) -> Path:
    """Where the pairs for the student of a recipe lie."""
    return Path(recipe.output_dir) / "distilled"


def write_student_corpus(
    recipe: TrainRecipe,
    teacher: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    with_references: bool = False,
    part_size: int = PART_SIZE,
    tokens_per_batch: int = 4096,
    **generate_kwargs: Any,
) -> int:
    """Let the teacher translate what a recipe trains on, and write the files that `student_recipe` names.

    Args:
        teacher: folder or Hub name that `model` and `tokenizer` were loaded from.
        with_references: write the recipe's own pairs too, before those of the teacher.
        part_size, tokens_per_batch, generate_kwargs: as `translate_corpus` takes them.

    Returns:
        How many sentences were translated by this call.

    Raises:
        InputError: the training data cannot be read, or the folder holds translations of another teacher,
            other sources or another search.
    """
    folder = distillation_folder(recipe)
    pairs: Any = TranslationTask(recipe).training_data()
    sources, targets = ([one_line(text) for text in pairs[side]] for side in ("source", "target"))
    nonblank = [source for source in sources if source.strip()]
    check_origin(folder, origin_of(teacher, nonblank, generate_kwargs))
    done = translate_corpus(
        model,
        tokenizer,
        nonblank,
        folder,
        part_size=part_size,
        tokens_per_batch=tokens_per_batch,
        **generate_kwargs,
    )
    if with_references:
        _put_before(folder / SOURCE_FILE, sources, folder / MIXED_SOURCE_FILE)
        _put_before(folder / TARGET_FILE, targets, folder / MIXED_TARGET_FILE)
    return done


def student_recipe(recipe: TrainRecipe, teacher: str, *, with_references: bool = False) -> TrainRecipe:
    """The recipe of the student's run: on what `write_student_corpus` writes, with the teacher's tokenizer.

    A tokenizer that the recipe names is left as it is, as is that of a model to start from, and a split of a
    data set to validate on.

    Args:
        with_references: train on the recipe's own pairs too.

    Raises:
        InputError: the recipe streams its data.
    """
    if recipe.streaming:
        raise InputError(
            "`streaming` must be false: the teacher translates the training data once, as a whole."
        )
    folder = distillation_folder(recipe)
    source, target = (MIXED_SOURCE_FILE, MIXED_TARGET_FILE) if with_references else (SOURCE_FILE, TARGET_FILE)
    return dataclasses.replace(
        recipe,
        train_source=str(folder / source),
        train_target=str(folder / target),
        train_file=None,
        dataset=recipe.dataset if recipe.valid_split is not None else None,
        train_split=TrainRecipe.train_split,
        tokenizer=recipe.tokenizer or (None if recipe.init_from else teacher),
        lowercase=False,  # or not, as that tokenizer does
    )


def check_origin(folder: Path, origin: dict[str, Any]) -> None:
    """Note in `folder` where its translations come from, or refuse to mix them with others.

    Raises:
        InputError: the folder holds translations of another teacher, other sources or another search.
    """
    begun = (folder / TARGET_FILE).is_file() or any(folder.glob("parts/*"))
    check_settings(folder / ORIGIN_FILE, origin, begun=begun)


def origin_of(teacher: str, sources: Sequence[str], generate_kwargs: dict[str, Any]) -> dict[str, Any]:
    """What decides the translations: the teacher with its tokenizer, the sources, and how it searches."""
    folder = Path(teacher)
    weights = folder / checkpoints.WEIGHTS_FILE
    shards = _digest_of(folder, ("*.safetensors*",)) if folder.is_dir() else None
    return {
        "teacher": short_digest(weights) if weights.is_file() else shards or teacher,
        "tokenizer": _digest_of(folder, _TOKENIZER_FILES),
        "sources": hashlib.blake2b("\n".join(sources).encode(), digest_size=16).hexdigest(),
        "generation": _digest_of(folder, ("generation_config.json",)),
        "search": generate_kwargs,
    }


def _digest_of(folder: Path, patterns: Sequence[str]) -> str:
    """A digest of the names and contents of some files of a folder, which need not exist."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        digest.update(path.name.encode() + file_digest(path))
    return digest.hexdigest()


def translate_corpus(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    folder: Path,
    *,
    part_size: int = PART_SIZE,
    tokens_per_batch: int = 4096,
    **generate_kwargs: Any,
) -> int:
    """Write the sources and their translations as aligned files into `folder`, a part at a time.

    A part that is there already is not translated again, so an interrupted call goes on where it stopped. It
    is named by the sentences that it holds: with another `part_size`, parts that do not fit are made anew.

    Args:
        sources: sentences without line ends, none of them blank.
        part_size: sentences of a part.
        tokens_per_batch, generate_kwargs: as `translate` takes them.

    Returns:
        How many sentences were translated by this call.

    Raises:
        InputError: a part holds more or fewer lines than sentences; the message names it.
    """
    from transformers.utils import logging

    from ..modeling.translation_vanilla_transformer import translate

    target = folder / TARGET_FILE
    if target.is_file() and _line_count(target.read_text("utf-8")) == len(sources):
        return 0
    spans = [(at, min(at + part_size, len(sources))) for at in range(0, len(sources), part_size)]
    parts = [folder / "parts" / f"{start:09d}-{end:09d}.txt" for start, end in spans]
    done = 0
    for (start, end), part in logging.tqdm(
        list(zip(spans, parts, strict=True)), desc="translating", unit=" parts"
    ):
        if not part.is_file():
            chunk = sources[start:end]
            lines = translate(model, tokenizer, chunk, tokens_per_batch=tokens_per_batch, **generate_kwargs)
            write_text(part, "".join(f"{one_line(line)}\n" for line in lines))
            done += len(chunk)
    write_text(folder / SOURCE_FILE, "".join(f"{source}\n" for source in sources))
    # The target comes last: it marks that all is there.
    texts = [_checked_part(part, end - start) for (start, end), part in zip(spans, parts, strict=True)]
    write_text(target, "".join(texts))
    return done


def _put_before(path: Path, lines: Sequence[str], mixed: Path) -> None:
    """Write `mixed`: these lines, and behind them those of `path`."""
    write_text(mixed, "".join(f"{line}\n" for line in lines) + path.read_text("utf-8"))


def _checked_part(part: Path, count: int) -> str:
    text = part.read_text("utf-8")
    if _line_count(text) != count:
        raise InputError(f"`{part}` holds {_line_count(text)} lines for {count} sentences: delete it.")
    return text


def _line_count(text: str) -> int:
    return text.count("\n")
