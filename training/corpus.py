"""Loading parallel text: two aligned files, one file of pairs, or a dataset, as a `datasets` dataset."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import datasets
from datasets import Dataset, IterableDataset
from datasets.packaged_modules.csv.csv import CsvConfig

from ..errors import InputError, first_line
from ..text_files import check_regular, compression, file_digest, read_lines
from .pair_builder import FEATURES, PAIR_COLUMNS, PairBuilder
from .parallel_files import (
    Columns,
    Pairs,
    check_equal_length,
    read_aligned_batches,
    read_csv,
    read_jsonl,
    read_parquet,
    read_tsv,
)

PathLike: TypeAlias = str | Path
READ_SIZE = 1000


@dataclass(frozen=True)
class PairFiles:
    """Files that hold text, and how to read them.

    Attributes:
        paths: the files, in the order in which `read` wants them.
        read: returns the texts of the files in batches, a list for each column; must be picklable.
        layout: names what decides, beside the bytes of the files, which texts are read.
        columns: names of the columns that `read` gives.
    """

    paths: tuple[Path, ...]
    read: Callable[[], Iterator[tuple[list[str], ...]]]
    layout: str
    columns: tuple[str, ...] = PAIR_COLUMNS

    def fingerprint(self) -> str:
        """Return a digest of the layout and the bytes of all files: a changed file is a new corpus."""
        digest = hashlib.blake2b(self.layout.encode(), digest_size=16)
        for path in self.paths:
            digest.update(compression(path).encode() + file_digest(path))
        return digest.hexdigest()


def load_pairs(
    *,
    source: PathLike | None = None,
    target: PathLike | None = None,
    file: PathLike | None = None,
    source_column: str = "source",
    target_column: str = "target",
    dataset: str | None = None,
    dataset_config: str | None = None,
    split: str = "train",
    streaming: bool = False,
) -> Dataset | IterableDataset:
    """Return a parallel corpus with exactly two text columns, "source" and "target".

    Exactly one of three origins is given: `source` and `target`, `file`, or `dataset`. Files named .gz, .bz2
    or .xz are unpacked while they are read. What was read from files is cached by their content.
    A missing value (null) is an empty sentence.

    Args:
        source: plain text, UTF-8, one sentence a line; line n belongs to line n of `target`.
        target: the translations.
        file: pairs in one file, its format told by the name: .tsv (two columns, or the columns named by the
            first line), .csv (columns named by the first line), .jsonl or .json (one object a line),
            .parquet.
        source_column: the column of `file` or `dataset` that holds the source; a language code, if the pairs
            lie in a column "translation" that maps language codes to sentences.
        target_column: the column that holds the target.
        dataset: a name on the Hub, a local folder that `datasets.load_dataset` reads, or one that
            `save_to_disk` wrote.
        dataset_config: the configuration of a dataset with several.
        split: the part of `dataset` to load; files have one part only.
        streaming: read while iterating, for a corpus larger than memory and disk. Two aligned files are then
            counted beforehand and compared again at the end of every pass.

    Raises:
        InputError: for origins that do not fit together, and for everything that cannot be read: a file that
            is missing or damaged, is not UTF-8, is empty or of unequal length, a malformed row, a column that
            is not there. With `streaming`, errors beyond the first pair come while iterating.
    """
    columns = (source_column, target_column)
    _check_origins(source, target, file, dataset, columns)
    if dataset is not None:
        name = f"Dataset `{dataset}`"
        pairs = _load_dataset(dataset, dataset_config, split, streaming, columns)
    else:
        files = _aligned_files(source, target) if file is None else _one_file(Path(file), columns)
        name = f"`{files.paths[0]}`"
        pairs = _load_files(files, streaming)
    with readable_data_errors(name):
        first = next(iter(pairs), None)
    if first is None:
        raise _empty(name)
    return pairs


def _check_origins(
    source: PathLike | None,
    target: PathLike | None,
    file: PathLike | None,
    dataset: str | None,
    columns: Columns,
) -> None:
    if (source is None) != (target is None):
        missing = "source" if source is None else "target"
        raise InputError(f"`source` and `target` must be given together, but `{missing}` is missing.")
    given = [
        name
        for name, value in (("source and target", source), ("file", file), ("dataset", dataset))
        if value is not None
    ]
    if len(given) != 1:
        found = " and ".join(f"`{name}`" for name in given) or "none"
        raise InputError(
            f"Exactly one of source and target, `file` or `dataset` must be given, but got {found} instead."
        )
    if columns[0] == columns[1]:
        raise InputError(
            f"`source_column` and `target_column` must differ, but both are `{columns[0]}` instead."
        )


def _aligned_files(source: PathLike | None, target: PathLike | None) -> PairFiles:
    paths = (Path(cast(PathLike, source)), Path(cast(PathLike, target)))
    return PairFiles(paths, partial(read_aligned_batches, *paths), "aligned")


def read_lines_of(path: Path) -> Iterator[tuple[list[str]]]:
    """The lines of a text file in batches, as `PairFiles` wants them."""
    lines = read_lines(path)
    while batch := list(itertools.islice(lines, READ_SIZE)):
        yield (batch,)


def load_texts(path: PathLike) -> Dataset:
    """Return the lines of a text file, plain or packed, as a data set with the column "text".

    Raises:
        InputError: the file cannot be read, is not UTF-8 or is empty.
    """
    file = Path(path)
    return cast(
        Dataset, _load_files(PairFiles((file,), partial(read_lines_of, file), "lines", ("text",)), False)
    )


def load_labelled_texts(path: PathLike, *, text_column: str = "text", label_column: str = "label") -> Dataset:
    """Return texts and their labels as a data set with the text columns "text" and "label".

    Args:
        path: .csv, .tsv, .jsonl or .parquet with named columns, plain or packed. The labels in .jsonl
            and .parquet may be numbers or truth values too.
        text_column: the column of the text.
        label_column: the column of the label.

    Raises:
        InputError: the file cannot be read, a row is malformed, or a column is not there.
    """
    if text_column == label_column:
        raise InputError(
            f"`text_column` and `label_column` must differ, but both are `{text_column}` instead."
        )
    files = _one_file(Path(path), (text_column, label_column), names=("text", "label"))
    return cast(Dataset, _load_files(files, False))


def _one_file(path: Path, columns: Columns, *, names: Columns = PAIR_COLUMNS) -> PairFiles:
    kind = Path(path.name.lower().removesuffix(compression(path))).suffix
    numbers = names != PAIR_COLUMNS  # which labels may be
    read_objects = partial(read_jsonl, numbers=numbers)
    readers: dict[str, Callable[..., Iterator[Pairs]]] = {
        ".tsv": partial(read_tsv, header_required=columns != PAIR_COLUMNS),
        ".csv": read_csv,
        ".jsonl": read_objects,
        ".json": read_objects,
        ".parquet": partial(read_parquet, numbers=numbers),
    }
    if kind not in readers:
        raise InputError(f"`{path}` must be named {', '.join(readers)} (or one of these and .gz).")
    return PairFiles((path,), partial(readers[kind], path, columns), f"{kind} {columns!r} {names!r}", names)


def _load_files(files: PairFiles, streaming: bool) -> Dataset | IterableDataset:
    for path in files.paths:
        check_regular(path)
    if streaming and len(files.paths) == 2:
        check_equal_length(*files.paths)
    # A stream is not cached, so it needs no digest of what may be many gigabytes.
    fingerprint = "streaming" if streaming else files.fingerprint()
    try:
        builder = PairBuilder(read=files.read, config_id=fingerprint, columns=files.columns)
        if streaming:
            return builder.as_streaming_dataset(split="train")
        builder.download_and_prepare()
    except (datasets.exceptions.DatasetGenerationError, OSError) as error:
        raise _cause(error) from None
    if not builder.info.splits["train"].num_examples:
        raise _empty(f"`{files.paths[0]}`", "sentence pairs" if files.columns == PAIR_COLUMNS else "text")
    return cast(Dataset, builder.as_dataset(split="train"))


@contextmanager
def readable_data_errors(name: str, *, done: str = "read") -> Iterator[None]:
    """Turn what `datasets` and its readers raise into an `InputError`: `name` cannot be `done`, and why."""
    try:
        yield
    except InputError:
        raise
    except datasets.exceptions.DatasetGenerationError as error:
        raise InputError(f"{name} cannot be {done}: {first_line(_cause(error))}") from error
    # A data set with a script of its own is a RuntimeError.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{name} cannot be {done}: {first_line(error)}") from error


def _empty(name: str, what: str = "sentence pairs") -> InputError:
    return InputError(f"{name} holds no {what}.")


def _cause(error: Exception) -> Exception:
    """Return what went wrong below the errors that `datasets` wraps around it."""
    while isinstance(error, datasets.exceptions.DatasetGenerationError) and isinstance(
        error.__cause__, Exception
    ):
        error = error.__cause__
    if isinstance(error, OSError):
        return InputError(f"The cache of the corpus cannot be written: {error.strerror or error}.")
    return error


def _load_dataset(
    name: str, config: str | None, split: str, streaming: bool, columns: Columns
) -> Dataset | IterableDataset:
    with readable_data_errors(f"Dataset `{name}`", done="loaded"):
        loaded = _open_dataset(name, config, split, streaming)
    return _pick_columns(loaded, name, columns)


def _open_dataset(name: str, config: str | None, split: str, streaming: bool) -> Dataset | IterableDataset:
    folder = Path(name)
    if not ((folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()):
        options = _csv_options(name, config) if folder.is_dir() else {}
        loaded = datasets.load_dataset(name, config, split=split, streaming=streaming, **options)
        return cast(Dataset | IterableDataset, loaded)
    saved: Any = datasets.load_from_disk(name)
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise InputError(f"Dataset `{name}` has no split `{split}`; its splits are {', '.join(saved)}.")
        saved = saved[split]
    elif split != (only := str(saved.split or "train")):
        # Else a run would validate on what it is trained on.
        raise InputError(f"Dataset `{name}` has no split `{split}`; its only one is {only}.")
    return saved.to_iterable_dataset() if streaming else saved


def _csv_options(name: str, config: str | None) -> dict[str, Any]:
    """Options of `load_dataset` by which "NA", "None" or "null" in a folder of CSV files are sentences."""
    if not isinstance(datasets.load_dataset_builder(name, config).config, CsvConfig):
        return {}
    # An empty cell stays a missing value: a column of numbers would not be one without.
    return {"keep_default_na": False, "na_values": [""]}


def _pick_columns(
    loaded: Dataset | IterableDataset, name: str, columns: Columns
) -> Dataset | IterableDataset:
    """Return the two columns as "source" and "target", a missing value as an empty sentence."""
    if isinstance(loaded, IterableDataset):
        picked = loaded.map(partial(_pick_cells, name=name, columns=columns), batched=True, features=FEATURES)
        return picked.select_columns(list(PAIR_COLUMNS))
    names = dict(zip(columns, PAIR_COLUMNS, strict=True))
    if "translation" in loaded.column_names and not set(columns) <= set(loaded.column_names):
        loaded = loaded.flatten()
        names = {f"translation.{column}": new for column, new in names.items()}
    for column in names:
        _check_text_column(loaded.features, column, name)
    pairs = loaded.select_columns(list(names)).rename_columns(names)
    if any(pairs.data.column(column).null_count for column in PAIR_COLUMNS):
        fingerprint = f"{pairs._fingerprint}-filled"
        try:
            pairs = pairs.map(
                _fill, batched=True, new_fingerprint=fingerprint, cache_file_name=cache_file(fingerprint)
            )
        except OSError as error:
            raise _cause(error) from None
    return pairs


def held_in_memory(pairs: IterableDataset, name: str) -> Dataset:
    """All pairs of a stream, such as the validation split of a data set that is too large to be stored.

    Args:
        pairs: the stream.
        name: what messages call it.

    Raises:
        InputError: it cannot be read.
    """
    with readable_data_errors(name):
        return Dataset.from_list(list(pairs), features=FEATURES)


def _check_text_column(features: datasets.Features, column: str, name: str) -> None:
    if column not in features:
        raise _no_column(name, column, features)
    kind = getattr(features[column], "dtype", type(features[column]).__name__)
    if kind not in ("string", "large_string"):
        raise _not_text(name, column, kind)


def _no_column(name: str, column: str, known: Iterable[str]) -> InputError:
    found = ", ".join(f"`{one}`" for one in known)
    return InputError(f"Dataset `{name}` has no column `{column}`; its columns are {found}.")


def _not_text(name: str, column: str, kind: str) -> InputError:
    return InputError(f"Dataset `{name}`: column `{column}` must hold text, but holds {kind} instead.")


def _pick_cells(batch: dict[str, list[Any]], *, name: str, columns: Columns) -> dict[str, list[str]]:
    if "translation" in batch and not set(columns) <= set(batch):
        rows = [row or dict.fromkeys(columns) for row in batch["translation"]]
        batch = {
            column: [row[column] for row in rows] for column in columns if all(column in row for row in rows)
        }
    for column in columns:
        if column not in batch:
            raise _no_column(name, column, batch)
        wrong = next((cell for cell in batch[column] if not isinstance(cell, str | None)), None)
        if wrong is not None:
            raise _not_text(name, column, type(wrong).__name__)
    return _fill({new: batch[old] for old, new in zip(columns, PAIR_COLUMNS, strict=True)})


def _fill(batch: dict[str, list[str | None]]) -> dict[str, list[str]]:
    return {column: [text or "" for text in batch[column]] for column in PAIR_COLUMNS}


@dataclass(frozen=True)
class Texts:
    """The texts of each row in turn, read anew in each pass; much faster than row by row.

    Attributes:
        corpus: the rows.
        limit: how many of them are read at most; `None` for all.
        columns: the columns that hold text.
    """

    corpus: Dataset | IterableDataset
    limit: int | None = None
    columns: Sequence[str] = PAIR_COLUMNS

    def __iter__(self) -> Iterator[str]:
        batches = self.corpus.select_columns(list(self.columns)).with_format("arrow").iter(READ_SIZE)
        rows = itertools.chain.from_iterable(
            zip(*(table.column(column).to_pylist() for column in self.columns), strict=True)
            for table in batches
        )
        yield from itertools.chain.from_iterable(itertools.islice(rows, self.limit))


def text_digest(corpus: Dataset) -> str:
    """Return a digest of all texts of a corpus in their order, however they are stored.

    It takes a few seconds for two million pairs.
    """
    digests = [hashlib.blake2b(digest_size=16) for _ in corpus.column_names]
    for table in corpus.with_format("arrow").iter(READ_SIZE):
        for digest, column in zip(digests, table.columns, strict=True):
            digest.update("\0".join([*column.to_pylist(), ""]).encode())
    return hashlib.blake2b(b"".join(one.digest() for one in digests), digest_size=16).hexdigest()


def cache_file(fingerprint: str) -> str:
    """Return where in the cache of `datasets` a dataset derived by us lies, so that no user's folder is
    written to.

    Raises:
        InputError: if the cache's folder cannot be made.
    """
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "vanilla_transformer"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The cache `{folder}` cannot be written: {error.strerror or error}.") from None
    return str(folder / f"{fingerprint}.arrow")
