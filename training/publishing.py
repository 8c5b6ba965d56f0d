"""A trained model on its way to the Hub: completed, with its card, in a folder that holds nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo

from ..configuration import VanillaTransformerConfig
from ..errors import InputError
from ..modeling.hub_vanilla_transformer import (
    CARD_FILE,
    check_contents,
    check_repo_id,
    files_to_send,
    upload,
)
from ..modeling.saving_vanilla_transformer import add_references, write_code
from . import checkpoints
from .model_card import metadata_of, render_model_card


@dataclass(frozen=True)
class Publication:
    """What `publish` sent, or would send.

    Attributes:
        files: name and size in bytes of each file.
        url: address of the commit; `None` after a dry run.
    """

    files: dict[str, int]
    url: str | None = None


def publish(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    license: str | None = None,
    dry_run: bool = False,
    show: Any = lambda publication: None,
) -> Publication:
    """Send the model of a training run with its tokenizer, its code and its card.

    Args:
        folder: a run, a checkpoint, or any folder with a saved model. It is left as it is; a README.md in it
            is taken for the card, otherwise one is written from what the run recorded.
        repo_id: `owner/name`, or `name` in your own account.
        private, revision, token: as `upload` takes them.
        license: identifier of the licence that the card states.
        dry_run: send nothing.
        show: called with the list of files before anything is sent.

    Raises:
        InputError: a folder without a whole model, a name or a file that is refused, or a Hub that refuses;
            the message is one line.
    """
    try:
        check_repo_id(repo_id)
        with staged(folder, repo_id, license=license) as ready:
            names = files_to_send(ready)
            check_contents(ready, names)
            publication = Publication({name: (ready / name).stat().st_size for name in names})
            show(publication)
            if dry_run:
                return publication
            sent = upload(ready, repo_id, private=private, revision=revision, token=token)
            return Publication(publication.files, str(sent.commit_url))
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(" ".join(str(error).split())) from error


@contextmanager
def staged(folder: str | Path, repo_id: str, *, license: str | None = None) -> Iterator[Path]:
    """A temporary folder with what may be sent of `folder`, completed by code and card."""
    ready = take(folder, repo_id, license=license)
    try:
        yield ready
    finally:
        shutil.rmtree(ready, ignore_errors=True)


def take(
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
    if not (folder / "adapter_config.json").is_file():
        checkpoints.read_json(folder / "config.json")
        checkpoints.check_weights(folder)
    place = Path(run_dir or folder)
    ready = Path(tempfile.mkdtemp(prefix=".incomplete-", dir=place if os.access(place, os.W_OK) else None))
    try:
        for name in files_to_send(folder):
            _take_file(folder / name, ready / name)
        _complete(folder, ready, repo_id, license)
    except BaseException:
        shutil.rmtree(ready, ignore_errors=True)
        raise
    return ready


def _take_file(source: Path, target: Path) -> None:
    """A hard link, which costs nothing and outlives the source, or a copy. What is rewritten is copied."""
    if source.suffix == ".safetensors":
        try:
            os.link(source, target)
            return
        except OSError:
            pass
    shutil.copyfile(source, target)


def _complete(folder: Path, ready: Path, repo_id: str, license: str | None) -> None:
    """Add to a model of ours the code that loads it, and a card if it has none."""
    config = checkpoints.read_json(ready / "config.json") if (ready / "config.json").is_file() else {}
    ours = config.get("model_type") == VanillaTransformerConfig.model_type
    if ours:
        write_code(ready)
        add_references(ready)
    if (ready / CARD_FILE).is_file():
        metadata_of((ready / CARD_FILE).read_text("utf-8"))
    elif ours:
        card = str(render_model_card(folder, repo_id, license=license))
        metadata_of(card)
        (ready / CARD_FILE).write_text(card, "utf-8")


def send(ready: Path, repo_id: str, **options: Any) -> CommitInfo:
    """Upload what `take` made, and remove it; for a thread of its own."""
    try:
        return upload(ready, repo_id, **options)
    finally:
        shutil.rmtree(ready, ignore_errors=True)
