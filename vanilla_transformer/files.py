"""Small files read and written as a user expects: whole or not at all, with errors of one line."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError


def is_path(name: str) -> bool:
    """Whether the name of a model can only be a path, or begins with a folder of this machine.

    Without the network, it takes a minute until one learns that the Hub knows no model of that name.
    """
    first, _, rest = name.partition("/")
    return name.startswith((".", "/", "~")) or "/" in rest or (bool(rest) and Path(first).is_dir())


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: the file is missing, unreadable or holds something else.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"`{path}` is missing.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"`{path}` cannot be read: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(f"`{path}` is damaged: it does not hold a JSON object.")
    return value


def changed_keys(noted: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """The keys under which two JSON objects hold different values, those of an object inside by their own."""
    changed = []
    for key in {**noted, **given}:
        old, new = noted.get(key), given.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changed += changed_keys(old, new)
        elif old != new:
            changed.append(key)
    return changed


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all; its folder is made if need be."""
    with replaced_when_whole(path) as beside:
        beside.write_text(text if text.endswith("\n") else f"{text}\n", "utf-8")


@contextmanager
def replaced_when_whole(path: Path) -> Iterator[Path]:
    """A file of the same kind to write beside `path`, which takes its place when the block ends well.

    Raises:
        InputError: it cannot be written.
    """
    beside = path.with_name(f".{path.stem}.incomplete{path.suffix}")
    with readable_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def one_line(text: str) -> str:
    """`text` with its line ends replaced by spaces, so that it stays one line of a file."""
    return text.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")


@contextmanager
def readable_write_errors(path: str | Path) -> Iterator[None]:
    """Turn what the operating system, torch and safetensors raise on a failed write into one `InputError`.

    A broken pipe passes through: standard output has lost its reader, and no file has failed.
    """
    try:
        yield
    except (InputError, BrokenPipeError):
        raise
    except Exception as error:
        reason = _write_failure(error, Path(path))
        if reason is None:
            raise
        raise InputError(f"`{path}` cannot be written: {reason}.") from error


def _write_failure(error: Exception, path: Path) -> str | None:
    """Why a write failed, or `None` if `error` is of another kind."""
    text = str(error)
    by_library = type(error).__name__ == "SafetensorError" or any(
        word in text for word in ("PytorchStreamWriter", "inline_container", "No space left")
    )
    if not isinstance(error, OSError) and not by_library:
        return None
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
        return "no space left on device"
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if shutil.disk_usage(existing).free < 2**20:
        return "no space left on device"
    return (error.strerror if isinstance(error, OSError) else None) or text.partition("\n")[0].rstrip(".")
