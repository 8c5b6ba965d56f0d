"""Reading text files, plain or packed, with errors that name the file and the line.

Only a line feed ends a line: U+2028, U+0085, form feeds or a lone carriage return inside a sentence belong to
it, so that they cannot shift two aligned files against each other. One carriage return before the line feed
and a byte order mark at the start of the file are removed.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, cast

from .errors import InputError

# Lines are decoded together, but no more than this: each short one becomes an object of some sixty bytes.
CHUNK_BYTES = 1 << 18
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@contextmanager
def open_binary(path: Path, *, unpack: bool = True) -> Iterator[IO[bytes]]:
    """Open `path` for reading, unpacked (unless told otherwise) if its name ends in .gz, .bz2 or .xz.

    Raises:
        InputError: naming `path`, for whatever goes wrong while opening or (inside the block) reading it.
    """
    try:
        with _open(path, compression(path) if unpack else "") as handle:
            yield handle
    except FileNotFoundError:
        raise InputError(f"`{path}` does not exist.") from None
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise InputError(f"`{path}` is not a whole {path.suffix} file: {error}.") from None
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error.strerror or error}.") from None


def check_regular(path: Path) -> None:
    """Raise `InputError` for a pipe or the like, which gives what it holds only once."""
    try:
        regular = path.is_file() or path.is_dir() or not path.exists()
    except OSError as error:  # of a folder that nobody may enter
        raise InputError(f"`{path}` cannot be read: {error.strerror or error}.") from None
    if not regular:
        raise InputError(f"`{path}` must be a regular file, because it is read more than once.")


def compression(path: Path) -> str:
    """Return the suffix that says how a file is packed, or the empty string."""
    suffix = path.suffix.lower()
    return suffix if suffix in (".gz", ".bz2", ".xz") else ""


def _open(path: Path, packed: str) -> IO[bytes]:
    if packed == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if packed == ".bz2":
        return bz2.open(path, "rb")
    if packed == ".xz":
        return lzma.open(path, "rb")
    return path.open("rb")


def file_digest(path: Path) -> bytes:
    """Return a digest of the bytes of a file as it lies on the disk."""
    digest = hashlib.blake2b()
    with open_binary(path, unpack=False) as handle:
        while chunk := handle.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()


def short_digest(path: Path) -> str:
    """`file_digest` as 32 hexadecimal digits, for a note that is kept as JSON."""
    return file_digest(path).hex()[:32]


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 text file without their line ends, as the module describes.

    Raises:
        InputError: for a file that cannot be opened, and for the first line that is not UTF-8.
    """
    with open_binary(path) as handle:
        yield from decoded_lines(iter(partial(_read_whole_lines, handle), b""), str(path))


def decoded_lines(chunks: Iterable[bytes], name: str) -> Iterator[str]:
    """Yield the lines of UTF-8 text without their line ends, as the module describes.

    Args:
        chunks: whole lines, one or more in each; the last one may lack its line feed.
        name: what messages call the text.

    Raises:
        InputError: for the first line that is not UTF-8.
    """
    number = 1
    for chunk in chunks:
        if number == 1:
            chunk = chunk.removeprefix(BYTE_ORDER_MARK)
        if chunk:
            lines = _decode(chunk, name, number).removesuffix("\n").split("\n")
            yield from (line.removesuffix("\r") for line in lines)
            number += len(lines)


def _read_whole_lines(handle: IO[bytes]) -> bytes:
    chunk = handle.read(CHUNK_BYTES)
    return chunk if not chunk or chunk.endswith(b"\n") else chunk + handle.readline()


def _decode(chunk: bytes, name: str, number: int) -> str:
    try:
        return chunk.decode("utf-8")
    except UnicodeDecodeError as error:
        line = number + chunk.count(b"\n", 0, error.start)
        raise InputError(f"`{name}` must be UTF-8, but line {line} is not: {error.reason}.") from None


def count_lines(path: Path) -> int:
    """Return the number of lines of a text file, the last one counted with or without a line feed."""
    count, last = 0, b"\n"
    with open_binary(path) as handle:
        while chunk := handle.read(CHUNK_BYTES):
            count, last = count + chunk.count(b"\n"), chunk[-1:]
    return count + (last != b"\n")
