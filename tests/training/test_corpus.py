"""Loading parallel text: every format, every kind of damage, and caching by content."""

import bz2
import csv
import errno
import gzip
import json
import lzma
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from datasets.arrow_writer import ArrowWriter
from helpers import require_corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from vanilla_transformer import text_files
from vanilla_transformer.errors import InputError
from vanilla_transformer.training import parallel_files
from vanilla_transformer.training.corpus import Texts, load_labelled_texts, load_pairs, text_digest

PAIRS = [("ein Haus", "a house"), ("zwei  Häuser ", ' "two" houses'), ("", "nothing"), ("一只猫", "a cat 🐈")]
LINE = st.text(st.characters(codec="utf-8", exclude_characters="\n"))
A_LINE = "the format is one JSON object a line"
BOTH_WAYS = pytest.mark.parametrize("streaming", [False, True])


def read(**options: Any) -> list[tuple[str, str]]:
    return [(pair["source"], pair["target"]) for pair in load_pairs(**options)]


def write_aligned(folder: Path, pairs: Iterable[tuple[str, str]], *, end: str = "\n") -> dict[str, Any]:
    pairs = list(pairs)
    files = {"source": folder / "text.de", "target": folder / "text.en"}
    for side, path in enumerate(files.values()):
        path.write_bytes("".join(pair[side] + end for pair in pairs).encode())
    return files


def message(**options: Any) -> str:
    """The one line with which loading (or, when streaming, reading) fails."""
    with pytest.raises(InputError) as caught:
        for _ in load_pairs(**options):
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestAlignedFiles:
    @BOTH_WAYS
    def test_gives_the_lines(self, tmp_path: Path, streaming: bool) -> None:
        pairs = load_pairs(**write_aligned(tmp_path, PAIRS), streaming=streaming)
        assert isinstance(pairs, datasets.IterableDataset if streaming else datasets.Dataset)
        assert list(pairs.features) == ["source", "target"]
        assert list(pairs) == [{"source": source, "target": target} for source, target in PAIRS]

    @BOTH_WAYS
    @pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.open), ("bz2", bz2.open), ("xz", lzma.open)])
    def test_unpacks(self, tmp_path: Path, streaming: bool, suffix: str, pack: Callable[..., Any]) -> None:
        files = {}
        for side, path in write_aligned(tmp_path, PAIRS).items():
            files[side] = path.with_name(f"{path.name}.{suffix}")
            with pack(files[side], "wb") as packed:
                packed.write(path.read_bytes())
        assert read(**files, streaming=streaming) == PAIRS

    @BOTH_WAYS
    @pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85", "\r", "\x00"])
    def test_other_separators_end_no_line(self, tmp_path: Path, streaming: bool, separator: str) -> None:
        pairs = [(f"ein{separator}s", "one"), ("zwei", f"t{separator}{separator}wo"), ("drei", "three")]
        assert read(**write_aligned(tmp_path, pairs), streaming=streaming) == pairs

    @given(st.lists(st.tuples(LINE, LINE), min_size=1))
    @settings(max_examples=30, deadline=None)
    def test_any_text_stays_aligned(self, pairs: list[tuple[str, str]]) -> None:
        # A carriage return before the line feed is part of the line end.
        pairs = [(source.rstrip("\r"), target.rstrip("\r")) for source, target in pairs]
        with tempfile.TemporaryDirectory() as folder:
            files = write_aligned(Path(folder), [("x", "y"), *pairs])
            assert read(**files, streaming=True) == [("x", "y"), *pairs]

    @BOTH_WAYS
    def test_line_ends_of_windows_and_byte_order_marks(self, tmp_path: Path, streaming: bool) -> None:
        files = write_aligned(tmp_path, PAIRS, end="\r\n")
        files["target"].write_bytes(b"\xef\xbb\xbf" + files["target"].read_bytes().replace(b"\r\n", b"\n"))
        assert read(**files, streaming=streaming) == PAIRS

    @BOTH_WAYS
    def test_last_line_without_line_end(self, tmp_path: Path, streaming: bool) -> None:
        files = write_aligned(tmp_path, PAIRS)
        files["source"].write_bytes(files["source"].read_bytes().removesuffix(b"\n"))
        assert read(**files, streaming=streaming) == PAIRS

    def test_lines_that_straddle_chunks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(text_files, "CHUNK_BYTES", 7)
        monkeypatch.setattr(parallel_files, "BATCH_SIZE", 2)
        assert read(**write_aligned(tmp_path, PAIRS * 5, end="\r\n"), streaming=True) == PAIRS * 5

    @BOTH_WAYS
    @pytest.mark.parametrize("longer", ["source", "target"])
    def test_unequal_length(self, tmp_path: Path, streaming: bool, longer: str) -> None:
        files = write_aligned(tmp_path, PAIRS)
        files[longer].write_bytes(files[longer].read_bytes() + b"one more")
        lines = (5, 4) if longer == "source" else (4, 5)
        expected = f"must have equally many lines, but have {lines[0]} and {lines[1]} instead."
        with pytest.raises(InputError, match=expected) as caught:
            load_pairs(**files, streaming=streaming)
        assert all(f"`{path}`" in str(caught.value) for path in files.values())

    def test_a_file_that_loses_lines_while_it_is_streamed(self, tmp_path: Path) -> None:
        files = write_aligned(tmp_path, PAIRS)
        pairs = load_pairs(**files, streaming=True)
        files["target"].write_text("a house\n", encoding="utf-8")
        with pytest.raises(InputError, match="but have 4 and 1 instead"):
            list(pairs)

    @BOTH_WAYS
    @pytest.mark.parametrize("line", [1, 3, 9])
    def test_broken_utf8_names_file_and_line(self, tmp_path: Path, streaming: bool, line: int) -> None:
        files = write_aligned(tmp_path, [("x", "y")] * 10)
        lines = files["target"].read_bytes().split(b"\n")
        lines[line - 1] = b"caf\xe9"
        files["target"].write_bytes(b"\n".join(lines))
        found = message(**files, streaming=streaming)
        assert found.startswith(f"`{files['target']}` must be UTF-8, but line {line} is not: ")

    def test_broken_utf8_far_into_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(text_files, "CHUNK_BYTES", 64)
        files = write_aligned(tmp_path, [("Häuser", "houses")] * 1000)
        lines = files["source"].read_bytes().split(b"\n")
        lines[776] = b"\xff"
        files["source"].write_bytes(b"\n".join(lines))
        assert "but line 777 is not" in message(**files)

    @BOTH_WAYS
    def test_missing_file(self, tmp_path: Path, streaming: bool) -> None:
        files = write_aligned(tmp_path, PAIRS)
        files["target"].unlink()
        assert message(**files, streaming=streaming) == f"`{files['target']}` does not exist."

    @BOTH_WAYS
    def test_a_folder_is_no_file(self, tmp_path: Path, streaming: bool) -> None:
        files = write_aligned(tmp_path, PAIRS) | {"source": tmp_path}
        assert message(**files, streaming=streaming) == f"`{tmp_path}` cannot be read: Is a directory."

    @BOTH_WAYS
    def test_a_pipe_cannot_be_read_twice(self, tmp_path: Path, streaming: bool) -> None:
        files = write_aligned(tmp_path, PAIRS) | {"source": tmp_path / "pipe"}
        os.mkfifo(tmp_path / "pipe")
        expected = f"`{tmp_path / 'pipe'}` must be a regular file, because it is read more than once."
        assert message(**files, streaming=streaming) == expected

    @BOTH_WAYS
    @pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
    def test_not_packed_although_the_name_says_so(self, tmp_path: Path, streaming: bool, suffix: str) -> None:
        files = write_aligned(tmp_path, PAIRS)
        files["source"] = files["source"].rename(tmp_path / f"text.de{suffix}")
        assert message(**files, streaming=streaming).startswith(f"`{files['source']}` ")

    @BOTH_WAYS
    def test_a_packed_file_cut_short(self, tmp_path: Path, streaming: bool) -> None:
        files = write_aligned(tmp_path, PAIRS)
        packed = tmp_path / "text.de.gz"
        packed.write_bytes(gzip.compress(files["source"].read_bytes())[:-9])
        found = message(source=packed, target=files["target"], streaming=streaming)
        assert found.startswith(f"`{packed}` is not a whole .gz file: ")

    @BOTH_WAYS
    def test_empty_files(self, tmp_path: Path, streaming: bool) -> None:
        files = write_aligned(tmp_path, [])
        assert message(**files, streaming=streaming) == f"`{files['source']}` holds no sentence pairs."

    def test_reads_a_stream_twice(self, tmp_path: Path) -> None:
        pairs = load_pairs(**write_aligned(tmp_path, PAIRS), streaming=True)
        assert list(pairs) == list(pairs)
        assert list(pickle.loads(pickle.dumps(pairs))) == list(pairs)

    def test_streams_a_bit_at_a_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(text_files, "CHUNK_BYTES", 100)
        monkeypatch.setattr(parallel_files, "BATCH_SIZE", 10)
        files = write_aligned(tmp_path, [("x", "y")] * 1000)
        seen: list[bytes] = []
        decode = text_files._decode

        def noted(chunk: bytes, name: str, first_line: int) -> str:
            seen.append(chunk)
            return decode(chunk, name, first_line)

        monkeypatch.setattr(text_files, "_decode", noted)
        next(iter(load_pairs(**files, streaming=True)))
        assert len(seen) <= 4  # of 40 chunks: one of each file for the first look, and one for this

    def test_real_corpus(self) -> None:
        folder = require_corpus("multi30k")
        pairs = load_pairs(source=folder / "train.en.gz", target=folder / "train.de.gz")
        assert len(pairs) == 29_000


class TestCaching:
    def test_tests_have_a_cache_of_their_own(self) -> None:
        assert str(datasets.config.HF_DATASETS_CACHE) == os.environ["HF_DATASETS_CACHE"]
        assert datasets.config.HF_HUB_OFFLINE

    def test_a_changed_file_is_read_again(self, tmp_path: Path) -> None:
        assert read(**write_aligned(tmp_path, [("a", "b")])) == [("a", "b")]
        # Same size, and within the clock's grain the same time.
        assert read(**write_aligned(tmp_path, [("c", "d")])) == [("c", "d")]

    def test_the_same_content_is_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = load_pairs(**write_aligned(tmp_path, PAIRS))
        monkeypatch.setattr(parallel_files, "read_lines", None)
        again = load_pairs(**write_aligned(tmp_path, PAIRS))
        assert first.cache_files == again.cache_files
        assert first._fingerprint == again._fingerprint

    def test_the_digest_is_that_of_the_text_in_its_order(self, tmp_path: Path) -> None:
        digests = []
        for name, pairs in {"one": PAIRS, "same": PAIRS, "turned": PAIRS[::-1], "fewer": PAIRS[1:]}.items():
            (tmp_path / name).mkdir()
            digests.append(text_digest(load_pairs(**write_aligned(tmp_path / name, pairs))))
        rows = {side: [pair[k] for pair in PAIRS] for k, side in enumerate(("source", "target"))}
        stored = datasets.Dataset.from_dict(rows)
        exchanged = datasets.Dataset.from_dict({"source": rows["target"], "target": rows["source"]})
        one, same, *others = digests
        assert one == same == text_digest(stored)
        assert len({one, *others, text_digest(exchanged)}) == 4

    def test_the_columns_are_part_of_the_key(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.csv"
        path.write_text("de,en,fr\neins,one,un\n", encoding="utf-8")
        assert read(file=path, source_column="de", target_column="en") == [("eins", "one")]
        assert read(file=path, source_column="de", target_column="fr") == [("eins", "un")]

    def test_lines_exchanged_between_the_files_are_another_corpus(self, tmp_path: Path) -> None:
        files = write_aligned(tmp_path, [("a", "b")])
        assert read(**files) == [("a", "b")]
        assert read(source=files["target"], target=files["source"]) == [("b", "a")]

    def test_an_error_leaves_nothing_behind(self, tmp_path: Path) -> None:
        files = write_aligned(tmp_path, PAIRS)
        files["target"].write_text("one\n", encoding="utf-8")
        first = message(**files)
        assert message(**files) == first
        assert write_aligned(tmp_path, PAIRS) == files
        assert read(**files) == PAIRS

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        files = write_aligned(tmp_path, [("a full", "disk")] * 2)
        with monkeypatch.context() as patch:
            patch.setattr(ArrowWriter, "write_table", full)
            expected = "The cache of the corpus cannot be written: No space left on device."
            assert message(**files) == expected
        assert read(**files) == [("a full", "disk")] * 2

    @BOTH_WAYS
    def test_a_cache_that_is_no_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
    ) -> None:
        (tmp_path / "occupied").write_text("a file where the cache should be", encoding="utf-8")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "occupied")
        assert "cannot be written" in message(**write_aligned(tmp_path, PAIRS), streaming=streaming)


class TestTsv:
    @BOTH_WAYS
    @pytest.mark.parametrize("packed", [False, True])
    def test_two_columns_without_header(self, tmp_path: Path, streaming: bool, packed: bool) -> None:
        content = "".join(f"{source}\t{target}\r\n" for source, target in PAIRS).encode()
        path = tmp_path / ("pairs.tsv.gz" if packed else "pairs.tsv")
        path.write_bytes(gzip.compress(content) if packed else content)
        assert read(file=path, streaming=streaming) == PAIRS

    @BOTH_WAYS
    @pytest.mark.parametrize("names", [("source", "target"), ("de", "en")])
    def test_named_columns(self, tmp_path: Path, streaming: bool, names: tuple[str, str]) -> None:
        path = tmp_path / "pairs.tsv"
        rows = "".join(f"7\t{target}\t{source}\n" for source, target in PAIRS)
        path.write_text(f"id\t{names[1]}\t{names[0]}\n{rows}", encoding="utf-8")
        columns = dict(zip(("source_column", "target_column"), names, strict=True))
        assert read(file=path, streaming=streaming, **columns) == PAIRS

    @BOTH_WAYS
    @pytest.mark.parametrize(("row", "cells"), [("drei", 1), ("drei\tthree\t3", 3), ("", 1)])
    def test_malformed_row(self, tmp_path: Path, streaming: bool, row: str, cells: int) -> None:
        path = tmp_path / "pairs.tsv"
        path.write_text(f"eins\tone\nzwei\ttwo\n{row}\nvier\tfour\n", encoding="utf-8")
        expected = f"`{path}` line 3 must have 2 columns, but has {cells} instead."
        assert message(file=path, streaming=streaming) == expected

    def test_malformed_row_below_a_header(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.tsv"
        path.write_text("source\ttarget\tid\na\tb\t1\nc\td\n", encoding="utf-8")
        assert message(file=path) == f"`{path}` line 3 must have 3 columns, but has 2 instead."

    @pytest.mark.parametrize("header", ["source\tenglish", "de\ten"])
    def test_missing_column(self, tmp_path: Path, header: str) -> None:
        path = tmp_path / "pairs.tsv"
        path.write_text(f"{header}\na\tb\n", encoding="utf-8")
        wanted = {"target_column": "fr", "source_column": "de"} if header == "de\ten" else {}
        missing = "fr" if wanted else "target"
        known = header.replace("\t", "`, `")
        assert (
            message(file=path, **wanted) == f"`{path}` has no column `{missing}`; its columns are `{known}`."
        )

    def test_a_column_that_occurs_twice(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.tsv"
        path.write_text("target\tsource\ttarget\na\tb\tc\n", encoding="utf-8")
        assert message(file=path) == f"`{path}` has 2 columns `target`, but must have one."


class TestCsv:
    @BOTH_WAYS
    def test_quoting_and_words_that_mean_nothing_elsewhere(self, tmp_path: Path, streaming: bool) -> None:
        pairs = [*PAIRS, ("NA", "null"), ("a, b", 'say "c"'), ("two\nlines", "nan"), ("1", "2.0")]
        path = tmp_path / "pairs.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("target", "id", "source"), *((t, 1, s) for s, t in pairs)])
        assert read(file=path, streaming=streaming) == pairs

    @BOTH_WAYS
    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ("one", "line 3 must have 2 columns, but has 1 instead."),
            ("a,b,c", "line 3 must have 2 columns, but has 3 instead."),
            ('"a,b', "is malformed at line 4: unexpected end of data."),
            ('"a"x,b', "is malformed at line 3: ',' expected after '\"'."),
        ],
    )
    def test_malformed_row(self, tmp_path: Path, streaming: bool, row: str, reason: str) -> None:
        path = tmp_path / "pairs.csv"
        path.write_text(f"source,target\na,b\n{row}\n\n", encoding="utf-8")
        assert message(file=path, streaming=streaming) == f"`{path}` {reason}"

    def test_missing_column(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.csv"
        path.write_text("source,english\na,b\n", encoding="utf-8")
        assert message(file=path) == f"`{path}` has no column `target`; its columns are `source`, `english`."

    def test_a_column_that_occurs_twice(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.csv"
        path.write_text("source,id,target,id,source\na,1,b,2,c\n", encoding="utf-8")
        assert message(file=path) == f"`{path}` has 2 columns `source`, but must have one."
        path.write_text("source,id,target,id\na,1,b,2\n", encoding="utf-8")
        assert read(file=path) == [("a", "b")], "others may occur twice"

    def test_a_long_cell(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.csv"
        path.write_text(f"source,target\n{'a' * 200_000},b\n", encoding="utf-8")
        limit = csv.field_size_limit()
        assert read(file=path) == [("a" * 200_000, "b")]
        assert csv.field_size_limit() == limit, "other readers of this process keep theirs"

    @pytest.mark.parametrize("content", ["", "source,target\n"])
    def test_no_rows(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "pairs.csv"
        path.write_text(content, encoding="utf-8")
        assert message(file=path) == f"`{path}` holds no sentence pairs."


class TestJsonLines:
    @BOTH_WAYS
    @pytest.mark.parametrize("nested", [False, True])
    @pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.json", "pairs.jsonl.gz"])
    def test_reads(self, tmp_path: Path, streaming: bool, nested: bool, name: str) -> None:
        rows: list[Any] = [{"de": source, "en": target, "id": 1} for source, target in PAIRS]
        rows = [{"translation": row} for row in rows] if nested else rows
        content = "\n\n".join(json.dumps(row) for row in rows).encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        assert read(file=path, source_column="de", target_column="en", streaming=streaming) == PAIRS

    @BOTH_WAYS
    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (
                '{"source": "a"',
                f"line 2 must be JSON, but is not: Expecting ',' delimiter at column 15; {A_LINE}.",
            ),
            ("[", f"line 2 must be JSON, but is not: Expecting value at column 2; {A_LINE}."),
            ('["a", "b"]', f"line 2 must be a JSON object, but is list instead; {A_LINE}."),
            ("null", f"line 2 must be a JSON object, but is null instead; {A_LINE}."),
            ('{"source": "a"}', "line 2 has no `target`; its columns are `source`."),
            ('{"source": "a", "target": 3}', "line 2: `target` must be text, but is int instead."),
            (
                '{"source": "a", "target": "\\ud800"}',
                "line 2: `target` holds a lone surrogate, which is no text.",
            ),
            ("[" * 100_000, "line 2 is nested too deeply to be read."),
        ],
    )
    def test_malformed_row(self, tmp_path: Path, streaming: bool, row: str, reason: str) -> None:
        path = tmp_path / "pairs.jsonl"
        path.write_text(f'{{"source": "a", "target": "b"}}\n{row}\n', encoding="utf-8")
        assert message(file=path, streaming=streaming) == f"`{path}` {reason}"

    def test_null_is_an_empty_sentence(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.jsonl"
        path.write_text('{"source": "a", "target": null}\n', encoding="utf-8")
        assert read(file=path) == [("a", "")]


class TestParquet:
    @BOTH_WAYS
    @pytest.mark.parametrize("nested", [False, True])
    def test_reads(self, tmp_path: Path, streaming: bool, nested: bool) -> None:
        rows: list[Any] = [{"de": source or None, "en": target, "id": 1} for source, target in PAIRS]
        rows = [{"translation": row} for row in rows] if nested else rows
        path = tmp_path / "pairs.parquet"
        datasets.Dataset.from_list(rows).to_parquet(path)
        assert read(file=path, source_column="de", target_column="en", streaming=streaming) == PAIRS

    @pytest.mark.parametrize(
        ("labels", "texts"),
        [
            ([3, None, -1], ["3", "", "-1"]),
            ([True, None, False], ["true", "", "false"]),
            (["3", None, "x"], ["3", "", "x"]),
        ],
    )
    def test_labels_may_be_numbers(self, tmp_path: Path, labels: list[Any], texts: list[str]) -> None:
        path = tmp_path / "labelled.parquet"
        datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": labels}).to_parquet(path)
        (batch,) = parallel_files.read_parquet(path, ("text", "label"), numbers=True)
        assert batch == (["a", "b", "c"], texts)
        assert list(load_labelled_texts(path)["label"]) == texts

    @BOTH_WAYS
    @pytest.mark.parametrize("text", [pa.string(), pa.large_string()])
    def test_text_of_a_dictionary(self, tmp_path: Path, streaming: bool, text: pa.DataType) -> None:
        """As pandas and polars write categories."""
        path = tmp_path / "pairs.parquet"
        columns = {
            "source": pa.array(["a", None, "b", "a"], text).dictionary_encode(),
            "target": pa.array(["c", "d", "", "c"], text).dictionary_encode(),
        }
        parquet.write_table(pa.table(columns), path)
        assert read(file=path, streaming=streaming) == [("a", "c"), ("", "d"), ("b", ""), ("a", "c")]

    def test_a_dictionary_of_other_things_than_text(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.parquet"
        days = pa.array([1, 2], pa.date32()).dictionary_encode()
        parquet.write_table(pa.table({"source": ["a", "b"], "target": days}), path)
        assert (
            message(file=path) == f"`{path}`: column `target` must hold text, but holds date32[day] instead."
        )

    @pytest.mark.parametrize("names", [["source", "target", "target"], ["translation", "translation", "id"]])
    def test_a_column_that_occurs_twice(self, tmp_path: Path, names: list[str]) -> None:
        path = tmp_path / "pairs.parquet"
        cells = pa.array([{"source": "a", "target": "b"}]) if "id" in names else pa.array(["a"])
        parquet.write_table(pa.Table.from_arrays([cells] * 3, names), path)
        assert message(file=path) == f"`{path}` has 2 columns `{names[1]}`, but must have one."

    def test_a_column_translation_that_is_text(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.parquet"
        parquet.write_table(pa.table({"translation": ["a"]}), path)
        assert message(file=path) == f"`{path}` has no column `source`; its columns are `translation`."

    def test_errors(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.parquet"
        datasets.Dataset.from_list([{"source": "a", "id": 1}]).to_parquet(path)
        assert message(file=path) == f"`{path}` has no column `target`; its columns are `source`, `id`."
        assert message(file=path, target_column="id") == (
            f"`{path}`: column `id` must hold text, but holds int64 instead."
        )
        path.write_bytes(path.read_bytes()[:-20])
        assert message(file=path).startswith(f"`{path}` is not a readable Parquet file: ")


class TestDatasets:
    @BOTH_WAYS
    @pytest.mark.parametrize("nested", [False, True])
    @pytest.mark.parametrize("split", [None, "train"])
    def test_saved_on_disk(self, tmp_path: Path, streaming: bool, nested: bool, split: str | None) -> None:
        rows: list[Any] = [{"de": source or None, "en": target, "id": 1} for source, target in PAIRS]
        saved: Any = datasets.Dataset.from_list([{"translation": row} for row in rows] if nested else rows)
        saved = datasets.DatasetDict({split: saved}) if split else saved
        saved.save_to_disk(tmp_path / "saved")
        options = {"dataset": str(tmp_path / "saved"), "source_column": "de", "target_column": "en"}
        assert read(**options, streaming=streaming) == PAIRS
        assert sorted(load_pairs(**options, streaming=streaming).column_names) == ["source", "target"]

    @BOTH_WAYS
    def test_a_folder_that_load_dataset_reads(self, tmp_path: Path, streaming: bool) -> None:
        datasets.Dataset.from_list([{"target": t, "source": s} for s, t in PAIRS]).to_parquet(
            tmp_path / "test.parquet"
        )
        assert read(dataset=str(tmp_path), split="test", streaming=streaming) == PAIRS

    @BOTH_WAYS
    @pytest.mark.parametrize("kind", ["csv", "tsv"])
    def test_words_for_nothing_in_a_folder_of_csv_files_are_sentences(
        self, tmp_path: Path, kind: str, streaming: bool
    ) -> None:
        words = ["NA", "null", "nan", "None", "N/A", "", "cat"]
        rows = [("source", "score", "target"), *((word, "" if word else "1", word) for word in words)]
        with (tmp_path / f"train.{kind}").open("w", newline="") as file:
            csv.writer(file, delimiter="\t" if kind == "tsv" else ",").writerows(rows)
        assert read(dataset=str(tmp_path), streaming=streaming) == [(word, word) for word in words]

    @BOTH_WAYS
    def test_errors(self, tmp_path: Path, streaming: bool) -> None:
        name = str(tmp_path / "saved")
        saved = datasets.Dataset.from_list([{"source": "a", "id": 1}])
        datasets.DatasetDict({"train": saved}).save_to_disk(name)
        assert message(dataset=name, streaming=streaming) == (
            f"Dataset `{name}` has no column `target`; its columns are `source`, `id`."
        )
        assert message(dataset=name, streaming=streaming, target_column="id").startswith(
            f"Dataset `{name}`: column `id` must hold text, but holds int"
        )
        assert message(dataset=name, streaming=streaming, split="test") == (
            f"Dataset `{name}` has no split `test`; its splits are train."
        )

    def test_a_name_that_cannot_be_found(self, tmp_path: Path) -> None:
        name = str(tmp_path / "nowhere")
        assert message(dataset=name).startswith(f"Dataset `{name}` cannot be loaded: ")

    def test_missing_values_leave_the_saved_folder_alone(self, tmp_path: Path) -> None:
        name = tmp_path / "saved"
        rows = [{"source": "a", "target": None}, {"source": "b", "target": "c"}]
        datasets.Dataset.from_list(rows).save_to_disk(name)
        before = sorted(path.name for path in name.iterdir())
        assert read(dataset=str(name)) == [("a", ""), ("b", "c")]
        assert sorted(path.name for path in name.iterdir()) == before

    def test_a_single_saved_set_has_no_other_split(self, tmp_path: Path) -> None:
        """Else the validation pairs would be those of the training."""
        datasets.Dataset.from_list([{"source": "a", "target": "b"}]).save_to_disk(tmp_path)
        assert read(dataset=str(tmp_path)) == [("a", "b")]
        with pytest.raises(InputError, match="has no split `validation`; its only one is train"):
            read(dataset=str(tmp_path), split="validation")

    @BOTH_WAYS
    def test_a_missing_translation_is_empty(self, tmp_path: Path, streaming: bool) -> None:
        rows = {"translation": [{"zh": "猫", "en": "cat"}, None]}
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
        options = {"source_column": "zh", "target_column": "en", "streaming": streaming}
        assert read(dataset=str(tmp_path), **options) == [("猫", "cat"), ("", "")]

    def test_a_stream_that_cannot_be_read_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "train.jsonl").write_text('{"source": "a", "target"\n')
        with pytest.raises(InputError, match="^Dataset `.*` cannot be read: [^\n]*$"):
            load_pairs(dataset=str(tmp_path), streaming=True)


def test_pairs_and_labels_of_one_file_are_cached_apart(tmp_path: Path) -> None:
    path = tmp_path / "both.csv"
    path.write_text("source,target\na,b\n")
    labelled = load_labelled_texts(path, text_column="source", label_column="target")
    assert labelled.column_names == ["text", "label"]
    assert load_pairs(file=path).column_names == ["source", "target"]


class TestTexts:
    @BOTH_WAYS
    def test_alternates_source_and_target(self, tmp_path: Path, streaming: bool) -> None:
        pairs = load_pairs(**write_aligned(tmp_path, PAIRS * 500), streaming=streaming)
        texts = [text for pair in PAIRS * 500 for text in pair]
        found = Texts(pairs)
        assert list(found) == texts and list(found) == texts
        assert list(Texts(pairs, limit=3)) == texts[:6]


class TestOrigins:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (
                {},
                "Exactly one of source and target, `file` or `dataset` must be given, but got none instead.",
            ),
            (
                {"source": "a", "target": "b", "file": "c.tsv"},
                "Exactly one of source and target, `file` or `dataset` must be given, "
                "but got `source and target` and `file` instead.",
            ),
            ({"source": "a"}, "`source` and `target` must be given together, but `target` is missing."),
            ({"target": "a"}, "`source` and `target` must be given together, but `source` is missing."),
            (
                {"file": "a.tsv", "source_column": "x", "target_column": "x"},
                "`source_column` and `target_column` must differ, but both are `x` instead.",
            ),
            (
                {"file": "pairs.xlsx"},
                "`pairs.xlsx` must be named .tsv, .csv, .jsonl, .json, .parquet (or one of these and .gz).",
            ),
        ],
    )
    def test_must_fit_together(self, options: dict[str, str], expected: str) -> None:
        assert message(**options) == expected


def test_a_data_set_with_a_script_of_its_own_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "pairs.py").write_text("raise SystemExit\n")
    with pytest.raises(InputError, match="cannot be loaded: Dataset scripts are no longer supported"):
        load_pairs(dataset=str(tmp_path / "pairs"), source_column="en", target_column="de")


@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_asked_of_a_dataset_on_the_hub(streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*words: Any, **options: Any) -> Any:
        asked.append((words, options))
        rows = datasets.Dataset.from_dict({"zh": ["我有一只猫。"], "en": ["I have a cat."]})
        return rows.to_iterable_dataset() if options["streaming"] else rows

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    pairs = load_pairs(
        dataset="some/corpus", dataset_config="en-zh", split="dev", source_column="zh", target_column="en",
        streaming=streaming,
    )  # fmt: skip
    assert list(pairs) == [{"source": "我有一只猫。", "target": "I have a cat."}]
    assert asked == [(("some/corpus", "en-zh"), {"split": "dev", "streaming": streaming})]
