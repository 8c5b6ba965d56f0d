"""Text files line by line, in and out."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

from vanilla_transformer import text_files
from vanilla_transformer.errors import InputError
from vanilla_transformer.files import changed_keys, one_line, read_json, readable_write_errors
from vanilla_transformer.scripts.support.console import print_error

STANDARD_INPUT = "-"


def is_stream(path: str) -> bool:
    """Whether a pipe, a device or the like has that name: it hands on what it is given, and holds nothing."""
    place = Path(path)
    return place.exists() and not (place.is_file() or place.is_dir())


def read_only_once(path: str) -> bool:
    """Whether `read_lines` finds the lines no second time: in standard input and in a named pipe."""
    return path == STANDARD_INPUT or is_stream(path)


def read_lines(path: str) -> Iterator[str]:
    """The lines of a UTF-8 file, as training reads them, or of standard input, for "-", without their ends.

    A file named .gz, .bz2 or .xz is unpacked. Only a line feed (or carriage return and line feed) ends a
    line, so that line n stays line n whatever else a sentence holds.

    Raises:
        InputError: the file cannot be read, or a line is not UTF-8; the message names file and line.
    """
    if not read_only_once(path):
        yield from text_files.read_lines(Path(path))
        return
    name = "standard input" if path == STANDARD_INPUT else path
    try:
        with _standard_input() if path == STANDARD_INPUT else open(path, "rb") as file:
            yield from text_files.decoded_lines(file, name)  # each line as soon as it comes
    except OSError as error:
        raise InputError(f"`{name}` cannot be read: {error.strerror or error}.") from None


def _standard_input() -> AbstractContextManager[IO[bytes]]:
    """A reader of its own: Python aborts at exit if a thread waits in that of `sys.stdin`."""
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except OSError:  # a stream that somebody put there in its place
        return nullcontext(sys.stdin.buffer)


def load_aligned_lines(paths: Sequence[str]) -> list[list[str]]:
    """The lines of files that must be equally long.

    Raises:
        InputError: as `read_lines`, and if the files are empty or of unequal length.
    """
    texts = [list(read_lines(path)) for path in paths]
    for path, text in zip(paths, texts, strict=True):
        if not text:
            raise InputError(f"`{path}` is empty.")
        if len(text) != len(texts[0]):
            raise InputError(
                f"`{paths[0]}` and `{path}` must have equally many lines, but have {len(texts[0])} and"
                f" {len(text)} instead."
            )
    return texts


def check_output(path: str | None, inputs: Iterable[str | None] = (), *, grows: bool = False) -> None:
    """Refuse, before any work is done, a file that could not be written or that is read.

    Args:
        path: the file to be; `None` is standard output.
        inputs: names of the files that are read, `None` for one that is not given.
        grows: it will be a `PartialFile`, which writes two others, too.

    Raises:
        InputError: `path` is a folder or one of `inputs`, no file can be made in its own folder, or its name
            promises a packed file or stands for standard input.
    """
    if path is None or is_stream(path):
        return
    if path == STANDARD_INPUT:
        raise InputError("leave `--output` out for standard output.")
    if packed := text_files.compression(Path(path)):
        raise InputError(f"`{path}` must not end in {packed}: what is written is plain text.")
    if Path(path).is_dir():
        raise InputError(f"`{path}` is a folder, not a file.")
    read = [name for name in inputs if name and Path(name).exists()]
    for written in (Path(path), *(_beside(_behind_link(path)) if grows else ())):
        if written.exists() and any(written.samefile(name) for name in read):
            raise InputError(
                f"`--output` must not write over a file that is read, but would over `{written}`."
            )
    try:
        tempfile.TemporaryFile(dir=_behind_link(path).parent).close()
    except OSError as error:
        raise InputError(f"`{path}` cannot be written: {error.strerror or error}.") from None


def write_lines(lines: Iterable[str], path: str | None) -> None:
    """Write one line for each text to a file, or to standard output.

    A file is written beside and renamed when it is complete. Standard output and pipes show each line at
    once.

    Raises:
        InputError: the disk is full or the file cannot be written.
    """
    if path is None:
        _write_each(lines, sys.stdout.buffer)
    elif is_stream(path):
        with open(path, "wb") as file:
            _write_each(lines, file)
    else:
        with readable_write_errors(path), _written_whole(_behind_link(path)) as file:
            file.writelines(f"{one_line(line)}\n".encode() for line in lines)


def _write_each(lines: Iterable[str], file: IO[bytes]) -> None:
    for line in lines:
        file.write(f"{one_line(line)}\n".encode())
        file.flush()


def _behind_link(path: str) -> Path:
    """The file that a link leads to, for a file that is renamed would take the place of the link."""
    return Path(os.path.realpath(path) if os.path.islink(path) else path)


def _beside(path: Path) -> tuple[Path, Path]:
    """The lines of a file so far, and what job they are of."""
    return Path(f"{path}.partial"), Path(f"{path}.partial.json")


class PartialFile:
    """A file of lines that grows beside, and goes on where an interrupted run of the same job stopped.

    Beside `out`, `out.partial` holds the lines so far, and `out.partial.json` what job they are of.

    Args:
        path: the file that the lines become when all are there.
        job: what decides the lines, as JSON holds it.
        step: lines that are made together. Only whole steps of a run before count, so that this one goes on
            as if there had been no interruption.
        resumable: whether the same job has the same lines again. Otherwise nobody can go on with what is left
            of an interruption: it is there to be read, and in the way until it is deleted.

    Attributes:
        done: how many lines are there.

    Raises:
        InputError: the lines that are there are of another job, or of one that nobody can go on with, or
            nobody noted what they are of; another process is writing them; or they cannot be written.
    """

    def __init__(self, path: str, job: dict[str, Any], step: int, *, resumable: bool = True):
        self.path = _behind_link(path)
        self.lines, self.note = _beside(self.path)
        self.step, self.done, self.resumable = step, 0, resumable
        job = job | {"resumable": resumable}
        self._file = self.lines.open("a+b")
        if not _locks(self._file):
            raise InputError(f"another process is writing `{self.path}`.")
        changed, size = [], 0
        noted = read_json(self.note) if self.note.is_file() else None
        if self.lines.stat().st_size and not (noted or {}).get("resumable"):
            raise InputError(f"`{self.lines}` is in the way: delete it, or give another `--output`.")
        if noted is not None:
            changed = changed_keys(noted, job)
            self.done, size = self._whole_steps()
        if changed and self.done:
            raise InputError(
                f"`{self.lines}` is of another job ({', '.join(changed)} differ): delete it, or give another"
                " `--output`."
            )
        with readable_write_errors(self.path):
            self._file.truncate(size)
            with _written_whole(self.note) as file:
                file.write(json.dumps(job, indent=2).encode())

    def _whole_steps(self) -> tuple[int, int]:
        """The lines of whole steps that are there, and their bytes."""
        done = size = kept = 0
        self._file.seek(0)
        for number, line in enumerate(self._file, start=1):
            size += len(line)
            if line.endswith(b"\n") and number % self.step == 0:
                done, kept = number, size
        return done, kept

    def write(self, lines: Iterable[str]) -> None:
        """Append one line for each text; the file gets its name when no more come.

        Raises:
            InputError: the disk is full or the file cannot be written.
        """
        number = 0
        with readable_write_errors(self.path):
            try:
                with self._file as file:
                    for number, line in enumerate(lines, start=1):
                        file.write(f"{one_line(line)}\n".encode())
                        if number % self.step == 0:
                            file.flush()
            except BaseException:
                if number or self.done:
                    after = ": the same command goes on with them" if self.resumable else ""
                    print_error(f"the lines so far are in {self.lines}{after}")
                raise
            os.replace(self.lines, self.path)
            self.note.unlink()


def _locks(file: IO[bytes]) -> bool:
    """Whether a file is not locked elsewhere, as it is from here on until it is closed."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # Windows; some network file systems
        return True
    return True


@contextmanager
def _written_whole(path: Path) -> Iterator[IO[bytes]]:
    descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}.incomplete-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        # mkstemp lets nobody else read; a file written plainly has what the umask leaves.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(beside, 0o666 & ~mask)
        os.replace(beside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise
