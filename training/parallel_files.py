"""Reading parallel text from files, with errors that name the file and the line.

Every reader yields batches of pairs as two lists of equal length, holds one batch in memory and raises
`InputError` for what it cannot read. What a line is, `text_files` says.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import InputError, first_line
from ..text_files import count_lines, open_binary, read_lines

# pyarrow is imported where it is used: text is read where only translating is installed, too.
if TYPE_CHECKING:
    import pyarrow as pa

BATCH_SIZE = 10_000
# The csv module's own limit is 131,072 characters; this is the highest that fits on every system.
CSV_CELL_CHARACTERS = (1 << 31) - 1
JSON_FORMAT = "the format is one JSON object a line"

Pairs: TypeAlias = tuple[list[str], list[str]]
Columns: TypeAlias = tuple[str, str]


def check_equal_length(source: Path, target: Path) -> None:
    """Raise `InputError` unless two text files have the same number of lines."""
    lengths = count_lines(source), count_lines(target)
    if lengths[0] != lengths[1]:
        raise InputError(
            f"`{source}` and `{target}` must have equally many lines, "
            f"but have {lengths[0]} and {lengths[1]} instead."
        )


def read_aligned_batches(source: Path, target: Path) -> Iterator[Pairs]:
    """Yield the pairs of two aligned text files: line n of one belongs to line n of the other.

    Raises:
        InputError: at the end of the shorter file, if the other one goes on.
    """
    sources, targets = read_lines(source), read_lines(target)
    while True:
        batch = list(itertools.islice(sources, BATCH_SIZE)), list(itertools.islice(targets, BATCH_SIZE))
        if len(batch[0]) != len(batch[1]):
            check_equal_length(source, target)
        if not batch[0]:
            return
        yield batch


def read_tsv(path: Path, columns: Columns, *, header_required: bool) -> Iterator[Pairs]:
    """Yield the pairs of a tab-separated file; nothing is quoted or escaped in it.

    The first line is a header if it holds a name of `columns`, or if `header_required`; without a header
    there must be exactly two columns, source and target.
    """
    lines = read_lines(path)
    first = next(lines, None)
    if first is None:
        return
    names = first.split("\t")
    if header_required or set(columns) & set(names):
        where, width, start = _positions(path, names, columns), len(names), 2
    else:
        where, width, start, lines = (0, 1), 2, 1, itertools.chain([first], lines)
    rows = ((number, line.split("\t")) for number, line in enumerate(lines, start))
    yield from _batches(_pick_cells(path, rows, where, width))


def read_csv(path: Path, columns: Columns) -> Iterator[Pairs]:
    """Yield the pairs of a comma-separated file whose header names `columns`; empty lines are skipped."""
    rows = _csv_rows(path)
    header = next(rows, None)
    if header is None:
        return
    yield from _batches(_pick_cells(path, rows, _positions(path, header[1], columns), len(header[1])))


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    # The csv module ends a quoted field's lines only where it sees their line feed.
    reader = csv.reader((f"{line}\n" for line in read_lines(path)), strict=True)
    limit = csv.field_size_limit(CSV_CELL_CHARACTERS)
    try:
        yield from ((reader.line_num, row) for row in reader if row)
    except csv.Error as error:
        raise InputError(f"`{path}` is malformed at line {reader.line_num}: {error}.") from None
    finally:
        csv.field_size_limit(limit)


def read_jsonl(path: Path, columns: Columns, *, numbers: bool = False) -> Iterator[Pairs]:
    """Yield the pairs of a file with one JSON object a line; empty lines are skipped.

    `columns` are keys of the object, or of the object under its key "translation"; null is an empty sentence.
    With `numbers`, the second column may hold whole numbers and truth values, which become text.
    """
    lines = enumerate(read_lines(path), 1)
    rows = ((number, _parse_object(path, number, line, columns)) for number, line in lines if line.strip())
    yield from _batches(
        (_text(path, number, row, columns[0]), _text(path, number, row, columns[1], numbers))
        for number, row in rows
    )


def read_parquet(path: Path, columns: Columns, *, numbers: bool = False) -> Iterator[Pairs]:
    """Yield the pairs of two text columns of a Parquet file, or of its struct column "translation".

    A missing value (null) is an empty sentence. With `numbers`, the second column may hold whole numbers or
    truth values, which become text as in `read_jsonl`.
    """
    import pyarrow as pa
    from pyarrow import parquet

    with open_binary(path) as handle:
        try:
            file = parquet.ParquetFile(handle)
            names, types = file.schema_arrow.names, file.schema_arrow.types
            nested = not set(columns) <= set(names) and "translation" in names
            nested = nested and pa.types.is_struct(types[names.index("translation")])
            read = ("translation", "translation") if nested else columns
            _positions(path, names, read)
            for batch in file.iter_batches(BATCH_SIZE, columns=list(dict.fromkeys(read))):
                cells = pa.RecordBatch.from_struct_array(batch.column("translation")) if nested else batch
                yield _cells(path, cells, columns[0]), _cells(path, cells, columns[1], numbers)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise InputError(f"`{path}` is not a readable Parquet file: {first_line(error)}") from None


def _cells(path: Path, batch: pa.RecordBatch, column: str, numbers: bool = False) -> list[str]:
    import pyarrow as pa

    cells = batch.column(_positions(path, batch.schema.names, (column, column))[0])
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if numbers and (pa.types.is_integer(cells.type) or pa.types.is_boolean(cells.type)):
        cells = cells.cast(pa.string())
    if not (pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)):
        raise InputError(f"`{path}`: column `{column}` must hold text, but holds {cells.type} instead.")
    return [text or "" for text in cells.to_pylist()]


def _parse_object(path: Path, number: int, line: str, columns: Columns) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        reason = (
            f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        )
        raise InputError(
            f"`{path}` line {number} must be JSON, but is not: {reason}; {JSON_FORMAT}."
        ) from None
    except RecursionError:
        raise InputError(f"`{path}` line {number} is nested too deeply to be read.") from None
    if not isinstance(row, dict):
        raise InputError(
            f"`{path}` line {number} must be a JSON object, but is {_kind(row)} instead; {JSON_FORMAT}."
        )
    if isinstance(row.get("translation"), dict) and not set(columns) <= set(row):
        row = row["translation"]
    return row


def _text(path: Path, number: int, row: dict[str, Any], column: str, numbers: bool = False) -> str:
    if column not in row:
        raise InputError(f"`{path}` line {number} has no `{column}`; its columns are {_list(row)}.")
    value = "" if row[column] is None else row[column]
    if numbers and isinstance(value, int):
        return json.dumps(value)
    if not isinstance(value, str):
        raise InputError(f"`{path}` line {number}: `{column}` must be text, but is {_kind(value)} instead.")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise InputError(f"`{path}` line {number}: `{column}` holds a lone surrogate, which is no text.")
    return value


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__


def _positions(path: Path, names: Sequence[str], columns: Columns) -> tuple[int, int]:
    """Return where `columns` stand among the `names` of a header."""
    for column in columns:
        if column not in names:
            raise InputError(f"`{path}` has no column `{column}`; its columns are {_list(names)}.")
        if names.count(column) > 1:
            raise InputError(f"`{path}` has {names.count(column)} columns `{column}`, but must have one.")
    return names.index(columns[0]), names.index(columns[1])


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in itertools.islice(names, 20)) or "none"


def _pick_cells(
    path: Path, rows: Iterable[tuple[int, list[str]]], where: tuple[int, int], width: int
) -> Iterator[tuple[str, str]]:
    first, second = where
    for number, row in rows:
        if len(row) != width:
            raise InputError(f"`{path}` line {number} must have {width} columns, but has {len(row)} instead.")
        yield row[first], row[second]


def _batches(pairs: Iterable[tuple[str, str]]) -> Iterator[Pairs]:
    pairs = iter(pairs)
    while batch := list(itertools.islice(pairs, BATCH_SIZE)):
        yield [source for source, _ in batch], [target for _, target in batch]
