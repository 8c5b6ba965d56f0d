"""Sequence-level knowledge distillation (Kim and Rush, 2016, arXiv:1606.07947): the teacher's translations.

A student that is trained on what the teacher says learns its mode, which is simpler than the references. Here
the teacher translates the training sources; the student is an ordinary run on these pairs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from . import checkpoints
from .parallel_files import file_digest
from .run import write_text
from .tasks import TranslationTask

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .recipe import TrainRecipe

SOURCE_FILE, TARGET_FILE = "source.txt", "target.txt"
ORIGIN_FILE = "teacher.json"
PART_SIZE = 2048


def distillation_folder(recipe: TrainRecipe) -> Path:
    """Where the pairs for the student of a recipe lie."""
    return Path(recipe.output_dir) / "distilled"


def training_sources(recipe: TrainRecipe) -> list[str]:
    """The source sentences that a recipe trains on, blank ones left out, each in one line.

    Raises:
        InputError: the recipe streams its data, or they cannot be read.
    """
    if recipe.streaming:
        raise InputError(
            "`streaming` must be false: the teacher translates the training data once, as a whole."
        )
    pairs: Any = TranslationTask(recipe).training_data()
    return [line for line in map(_in_one_line, pairs["source"]) if line.strip()]


def _in_one_line(text: str) -> str:
    return " ".join(text.splitlines())


def student_recipe(recipe: TrainRecipe, teacher: str) -> TrainRecipe:
    """The recipe of the student's run: the teacher's translations as targets, and its tokenizer.

    A tokenizer that the recipe names is left as it is.
    """
    folder = distillation_folder(recipe)
    return dataclasses.replace(
        recipe,
        train_source=str(folder / SOURCE_FILE),
        train_target=str(folder / TARGET_FILE),
        train_file=None,
        dataset=recipe.dataset if recipe.valid_split is not None else None,
        tokenizer=recipe.tokenizer or teacher,
    )


def check_origin(folder: Path, origin: dict[str, Any]) -> None:
    """Note in `folder` where its translations come from, or refuse to mix them with others.

    Raises:
        InputError: the folder holds translations of another teacher, other sources or another search.
    """
    path = folder / ORIGIN_FILE
    if path.is_file():
        changed = [key for key, value in checkpoints.read_json(path).items() if origin.get(key) != value]
        if changed:
            raise InputError(
                f"`{folder}` holds translations made otherwise ({', '.join(changed)} differ):"
                " give another `output_dir`."
            )
        return
    write_text(path, json.dumps(origin, indent=2))


def origin_of(teacher: str, sources: Sequence[str], generate_kwargs: dict[str, Any]) -> dict[str, Any]:
    """What decides the translations: the teacher's weights, the sources, and how it searches."""
    weights = Path(teacher) / checkpoints.WEIGHTS_FILE
    return {
        "teacher": file_digest(weights).hex()[:32] if weights.is_file() else teacher,
        "sources": hashlib.blake2b("\n".join(sources).encode(), digest_size=16).hexdigest(),
        "search": generate_kwargs,
    }


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

    A part that is there already is not translated again, so an interrupted call goes on where it stopped.

    Args:
        sources: sentences without line ends, none of them blank.
        part_size: sentences of a part.
        tokens_per_batch, generate_kwargs: as `translate` takes them.

    Returns:
        How many sentences were translated by this call.
    """
    from transformers.utils import logging

    from ..modeling.translation_vanilla_transformer import translate

    if (folder / TARGET_FILE).is_file():
        return 0
    starts = range(0, len(sources), part_size)
    parts = [folder / "parts" / f"{start:09d}.txt" for start in starts]
    done = 0
    for start, part in logging.tqdm(list(zip(starts, parts, strict=True)), desc="translating", unit=" parts"):
        if not part.is_file():
            chunk = sources[start : start + part_size]
            lines = translate(model, tokenizer, chunk, tokens_per_batch=tokens_per_batch, **generate_kwargs)
            write_text(part, "".join(f"{_in_one_line(line)}\n" for line in lines))
            done += len(chunk)
    write_text(folder / SOURCE_FILE, "".join(f"{source}\n" for source in sources))
    # The target comes last: it marks that all is there.
    write_text(folder / TARGET_FILE, "".join(part.read_text("utf-8") for part in parts))
    return done
