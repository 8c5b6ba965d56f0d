"""A trained model on its way to the Hub: completed, with its card, in a folder that holds nothing else."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, ModelCard

from ..configuration import VanillaTransformerConfig
from ..errors import InputError
from ..files import is_path, read_json
from ..inspection.space import write_space
from ..modeling.hub_vanilla_transformer import (
    CARD_FILE,
    check_contents,
    check_repo_id,
    files_to_send,
    text_of,
    upload,
)
from ..modeling.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from ..modeling.saving_vanilla_transformer import add_references, write_code
from . import checkpoints
from .model_card import metadata_of, render_model_card
from .recipe import recipe_of_model

logger = logging.getLogger(__name__)

# Sentences to click on a model's page, by the language that it translates from.
EXAMPLES = {
    "zh": ("我有一只猫。", "我是一个学生。", "他昨天看了那本红色的书。"),
    "en": ("A dog is running on the beach.", "Two children are playing in the snow.", "I have a cat."),
    "de": ("Ein Hund läuft am Strand.", "Zwei Kinder spielen im Schnee.", "Ich habe eine Katze."),
}


@dataclass(frozen=True)
class Publication:
    """What `publish` sent, or would send.

    Attributes:
        files: name and size in bytes of each file.
        url: address of the commit; `None` after a dry run.
        space: the same of the Space, where one was asked for.
    """

    files: dict[str, int]
    url: str | None = None
    space: Publication | None = None


def examples_for(folder: str | Path) -> tuple[str, ...]:
    """Sentences to click for the model in `folder`, in the source language that its recipe names; or none."""
    language = getattr(recipe_of_model(folder), "source_lang", None) or ""
    return EXAMPLES.get(language.partition("-")[0], ())


def publish(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    license: str | None = None,
    space: bool = False,
    dry_run: bool = False,
    show: Callable[[Publication], None] = lambda publication: None,
) -> Publication:
    """Send the model of a training run with its tokenizer, its code and its card, and a Space if asked for.

    Args:
        folder: a run, a checkpoint, or any folder with a saved model. It is left as it is; a README.md in it
            is taken for the card, otherwise one is written from what the run recorded.
        repo_id: `owner/name`, or `name` in your own account.
        private, revision, token: as `upload` takes them.
        license: identifier of the licence that the card states.
        space: also send a Space of the same name, the page that `vanilla-transformer demo` opens.
        dry_run: send nothing.
        show: called with the lists of files before anything is sent.

    Raises:
        InputError: a folder without a whole model, a name or a file that is refused, or a Hub that refuses;
            the message is one line.
    """
    try:
        check_repo_id(repo_id)
        with ExitStack() as folders:
            ready = folders.enter_context(staged(folder, repo_id, license=license))
            page = folders.enter_context(_staged_space(folder, repo_id, revision, license)) if space else None
            publication = Publication(
                _sizes(ready), space=Publication(_sizes(page, "space")) if page is not None else None
            )
            show(publication)
            if dry_run:
                return publication
            sent = upload(ready, repo_id, private=private, revision=revision, token=token)
            publication = replace(publication, url=str(sent.commit_url))
            if page is not None and publication.space is not None:
                sent = upload(page, repo_id, repo_type="space", private=private, token=token)
                publication = replace(publication, space=replace(publication.space, url=str(sent.commit_url)))
            return publication
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(" ".join(str(error).split())) from error


def _sizes(ready: Path, repo_type: str = "model") -> dict[str, int]:
    """Size in bytes of each file that is to be sent, after a look into all of them."""
    names = files_to_send(ready, repo_type)
    check_contents(ready, names)
    return {name: (ready / name).stat().st_size for name in names}


@contextmanager
def _staged_space(
    folder: str | Path, repo_id: str, revision: str | None, license: str | None
) -> Iterator[Path]:
    """A temporary folder with the Space of the model in `folder`."""
    if "/" not in repo_id:
        raise InputError(f"a Space loads its model by `owner/name`, but {repo_id!r} has no owner.")
    architectures = read_json(Path(folder) / "config.json").get("architectures") or ["model"]
    if VanillaTransformerForConditionalGeneration.__name__ not in architectures:
        raise InputError(
            f"a Space is for a model that translates, but `{folder}` holds a `{architectures[0]}`."
        )
    with tempfile.TemporaryDirectory() as page:
        examples = examples_for(folder)
        write_space(
            page,
            repo_id,
            revision=revision or "main",
            examples=examples,
            license=license,
            extras=_extras_for(folder),
        )
        yield Path(page)


def _extras_for(folder: str | Path) -> tuple[str, ...]:
    """Extras of our package that a page needs to show the model: the tokenizers of others need libraries."""
    path = Path(folder, "tokenizer_config.json")
    settings = read_json(path) if path.is_file() else {}
    own = ("VanillaTransformerTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend", None)
    return ("demo",) if settings.get("tokenizer_class") in own else ("demo", "convert")


@contextmanager
def staged(folder: str | Path, repo_id: str, *, license: str | None = None) -> Iterator[Path]:
    """A temporary folder with what may be sent of `folder`, completed by code and card."""
    ready = stage(folder, repo_id, license=license)
    try:
        yield ready
    finally:
        shutil.rmtree(ready, ignore_errors=True)


def stage(
    folder: str | Path, repo_id: str, *, license: str | None = None, run_dir: str | Path | None = None
) -> Path:
    """As `staged`, for who removes the folder himself; what becomes of `folder` afterwards does not matter.

    Args:
        folder, repo_id, license: as in `publish`.
        run_dir: where to put the temporary folder, if not into `folder`; a run that `folder` is part of.

    Raises:
        InputError: there is no whole model in `folder`, or its card has no metadata.
    """
    folder = Path(folder)
    if (folder / checkpoints.ADAPTER_CONFIG_FILE).is_file():
        _check_base(folder)
    else:
        read_json(folder / "config.json")
    checkpoints.check_weights(folder)
    # A checkpoint may be deleted by the run that it is of.
    is_checkpoint = folder in checkpoints.list_checkpoints(folder.parent)
    place = Path(run_dir or (folder.parent if is_checkpoint else folder))
    ready = Path(tempfile.mkdtemp(prefix=".incomplete-", dir=place if os.access(place, os.W_OK) else None))
    try:
        for name in files_to_send(folder):
            _take_file(folder / name, ready / name)
        _complete(folder, ready, repo_id, license)
        checkpoints.check_weights(ready)
        check_contents(ready, files_to_send(ready), origin=folder)
    except BaseException:
        shutil.rmtree(ready, ignore_errors=True)
        raise
    return ready


def _check_base(folder: Path) -> None:
    """Refuse an adapter whose base nobody else can load."""
    base = str(read_json(folder / checkpoints.ADAPTER_CONFIG_FILE).get("base_model_name_or_path") or "")
    if is_path(base) or Path(base).is_dir():
        raise InputError(
            f"the adapter in `{folder}` needs the folder `{base}` of this machine: publish that model, and"
            f" name it as `base_model_name_or_path` in {checkpoints.ADAPTER_CONFIG_FILE}; or merge the two"
            " (`merge_and_unload`)."
        )


def _take_file(source: Path, target: Path) -> None:
    """A hard link, which costs nothing and outlives the source, or a copy. What is rewritten is copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".safetensors":
        try:
            # Of a link in the Hub's cache, what it leads to.
            os.link(os.path.realpath(source), target)
            return
        except OSError:
            pass
    shutil.copyfile(source, target)


def _complete(folder: Path, ready: Path, repo_id: str, license: str | None) -> None:
    """Add to a model of ours the code that loads it, and a card if it has none."""
    config = read_json(ready / "config.json") if (ready / "config.json").is_file() else {}
    ours = config.get("model_type") == VanillaTransformerConfig.model_type
    if ours:
        write_code(ready)
        add_references(ready)
    if (ready / CARD_FILE).is_file():
        _state_license(ready / CARD_FILE, license)
    elif ours:
        card = str(render_model_card(folder, repo_id, license=license))
        metadata_of(card)
        (ready / CARD_FILE).write_text(card, "utf-8")


def _state_license(card: Path, license: str | None) -> None:
    """Add the licence to a card that states none.

    Raises:
        InputError: the card has no metadata, or states another licence.
    """
    text = text_of(card)
    stated = metadata_of(text).get("license")
    if license is None or license == stated:
        return
    if stated is not None:
        raise InputError(f"the licence is to be {license}, but `{card.name}` of the folder says {stated}.")
    whole = ModelCard(text)
    data: Any = whole.data
    data.license = license
    card.write_text(str(whole), "utf-8")


def send(ready: Path, repo_id: str, *, tolerant: bool = False, **options: Any) -> CommitInfo | None:
    """Upload what `take` made, and remove it.

    Args:
        ready, repo_id, options: as `upload` takes them.
        tolerant: make a warning of an upload that fails, for a thread of its own beside the training.
    """
    try:
        with tolerated(tolerant):
            return upload(ready, repo_id, **options)
        return None
    finally:
        shutil.rmtree(ready, ignore_errors=True)


@contextmanager
def tolerated(tolerant: bool) -> Iterator[None]:
    """Make a warning of what fails on the way to the Hub beside a training, if it is `tolerant`."""
    try:
        yield
    except (ValueError, OSError) as error:
        if not tolerant:
            raise
        logger.warning("%s Training goes on.", error)
