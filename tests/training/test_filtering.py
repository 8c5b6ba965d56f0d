"""Tokenising and filtering: what is kept, cut and dropped, what is counted, and what is cached."""

import errno
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets.arrow_writer import ArrowWriter
from helpers import parallel_sentences, word_tokenizer
from tokenizers import processors
from transformers import NllbTokenizer, PreTrainedTokenizerFast

from vanilla_transformer.errors import InputError
from vanilla_transformer.training import filtering
from vanilla_transformer.training.batching import StreamingTokenBatches, TokenizedPairs
from vanilla_transformer.training.filtering import FilterReport, prepare_pairs

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h"]
END = 2
BOTH_WAYS = pytest.mark.parametrize("streaming", [False, True])


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(WORDS)


def text(words: int) -> str:
    return " ".join(WORDS[i % 8] for i in range(words))


def corpus(pairs: list[tuple[str, str]], streaming: bool) -> Any:
    rows = [{"source": source, "target": target} for source, target in pairs]
    stored = datasets.Dataset.from_list(rows)
    return stored.to_iterable_dataset(num_shards=1) if streaming else stored


def prepare(pairs: list[tuple[str, str]], tokenizer: Any, streaming: bool, **options: Any) -> tuple[Any, Any]:
    """The rows that are left, and the report after all of them were read."""
    prepared, report = prepare_pairs(corpus(pairs, streaming), tokenizer, **options)
    rows = list(prepared)
    return rows, report.total


class TestPreparePairs:
    @BOTH_WAYS
    def test_ids_end_in_the_end_token_and_lengths_count_it(self, tokenizer: Any, streaming: bool) -> None:
        rows, report = prepare([("a b", "c"), ("d", "e f g")], tokenizer, streaming)
        ids = {word: 5 + i for i, word in enumerate(WORDS)}
        assert rows == [
            {
                "source": "a b",
                "target": "c",
                "input_ids": [ids["a"], ids["b"], END],
                "labels": [ids["c"], END],
                "source_length": 3,
                "target_length": 2,
            },
            {
                "source": "d",
                "target": "e f g",
                "input_ids": [ids["d"], END],
                "labels": [ids["e"], ids["f"], ids["g"], END],
                "source_length": 2,
                "target_length": 4,
            },
        ]
        assert report == FilterReport(kept=2)

    @BOTH_WAYS
    @pytest.mark.parametrize("empty", ["", "   ", "\t\u3000\u2028"])
    @pytest.mark.parametrize("side", [0, 1])
    def test_empty_sentences_are_skipped_and_counted(
        self, tokenizer: Any, streaming: bool, empty: str, side: int
    ) -> None:
        pair = (empty, "a") if side == 0 else ("a", empty)
        rows, report = prepare([("a", "b"), pair, (empty, empty), ("c", "d")], tokenizer, streaming)
        assert [row["source"] for row in rows] == ["a", "c"]
        assert report == FilterReport(kept=2, empty=2)

    def test_a_sentence_that_leaves_no_tokens_is_empty(self, tokenizer: Any) -> None:
        rows, report = prepare([("a", "b"), ("\u200b", "b")], NoTokens(tokenizer), False)
        assert len(rows) == 1 and report == FilterReport(kept=1, empty=1)

    @BOTH_WAYS
    def test_long_sentences_are_dropped(self, tokenizer: Any, streaming: bool) -> None:
        pairs = [(text(3), text(1)), (text(4), text(1)), (text(1), text(5)), (text(1), text(6))]
        rows, report = prepare(pairs, tokenizer, streaming, max_source_length=4, max_target_length=6)
        assert [(row["source_length"], row["target_length"]) for row in rows] == [(4, 2), (2, 6)]
        assert report == FilterReport(kept=2, too_long=2)

    @BOTH_WAYS
    def test_long_sentences_are_cut_and_still_end_in_the_end_token(
        self, tokenizer: Any, streaming: bool
    ) -> None:
        pairs = [(text(3), text(9)), (text(7), text(1)), (text(2), text(2))]
        options = {"max_source_length": 4, "max_target_length": 5, "long_sentences": "cut"}
        rows, report = prepare(pairs, tokenizer, streaming, **options)
        assert [(row["source_length"], row["target_length"]) for row in rows] == [(4, 5), (4, 2), (3, 3)]
        for row, pair in zip(rows, pairs, strict=True):
            for name, side in (("input_ids", 0), ("labels", 1)):
                whole = tokenizer(pair[side])["input_ids"]
                assert row[name] == whole[: len(row[name]) - 1] + [END]
        assert report == FilterReport(kept=3, cut=2)

    @BOTH_WAYS
    def test_long_sentences_are_kept_and_counted(self, tokenizer: Any, streaming: bool) -> None:
        options = {"max_source_length": 4, "max_target_length": 5, "long_sentences": "keep"}
        rows, report = prepare([(text(9), text(1)), (text(1), text(1))], tokenizer, streaming, **options)
        assert [row["source_length"] for row in rows] == [10, 2]
        assert report == FilterReport(kept=2, long=1)

    @BOTH_WAYS
    def test_without_limits_nothing_is_long(self, tokenizer: Any, streaming: bool) -> None:
        options = {"max_source_length": None, "max_target_length": None}
        rows, report = prepare([(text(600), text(500))], tokenizer, streaming, **options)
        assert rows[0]["source_length"] == 601 and report == FilterReport(kept=1)

    @BOTH_WAYS
    def test_pairs_of_unlike_length_are_dropped(self, tokenizer: Any, streaming: bool) -> None:
        # With the end token: 2 to 4, 2 to 5, 5 to 2, 4 to 4 tokens.
        pairs = [(text(1), text(3)), (text(1), text(4)), (text(4), text(1)), (text(3), text(3))]
        rows, report = prepare(pairs, tokenizer, streaming, max_length_ratio=2.0)
        assert [row["source"] for row in rows] == [text(1), text(3)]
        assert report == FilterReport(kept=2, ratio=2)

    @BOTH_WAYS
    def test_the_ratio_is_taken_before_cutting(self, tokenizer: Any, streaming: bool) -> None:
        options = {"max_source_length": 4, "long_sentences": "cut", "max_length_ratio": 2.0}
        rows, report = prepare([(text(30), text(3)), (text(5), text(5))], tokenizer, streaming, **options)
        assert len(rows) == 1 and report == FilterReport(kept=1, cut=1, ratio=1)

    @BOTH_WAYS
    def test_each_pair_is_counted_once(self, tokenizer: Any, streaming: bool) -> None:
        pairs = [("", text(50)), (text(50), text(1)), (text(1), text(9)), (text(2), text(2))]
        rows, report = prepare(pairs, tokenizer, streaming, max_source_length=10, max_length_ratio=3.0)
        assert report == FilterReport(kept=1, empty=1, too_long=1, ratio=1)
        assert report.read == 4 and len(rows) == 1

    def test_nothing_left(self, tokenizer: Any) -> None:
        with pytest.raises(InputError, match="No sentence pair is left: kept 0 of 2 .* 1 empty, 1 too"):
            prepare([("", "a"), (text(9), "a")], tokenizer, False, max_source_length=4)

    def test_many_batches_and_processes(self, tiny_tokenizer: Any) -> None:
        pairs = parallel_sentences(300)
        one, _ = prepare(pairs, tiny_tokenizer, False, max_source_length=8)
        small, _ = prepare(pairs, tiny_tokenizer, True, max_source_length=8, batch_size=7)
        assert one == small
        # The cache does not ask how many processes filled it, so another limit fills another.
        stored, report = prepare_pairs(corpus(pairs, False), tiny_tokenizer, max_source_length=9, num_proc=2)
        assert len(stored.cache_files) == 2, "each process writes a file"
        one, _ = prepare(pairs, tiny_tokenizer, True, max_source_length=9)
        assert list(stored) == one and report.total.kept == len(one)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"max_source_length": 1}, "`max_source_length` must be at least 2 .*, but is 1 instead"),
            ({"max_target_length": 0}, "`max_target_length` must be at least 2 .*, but is 0 instead"),
            (
                {"long_sentences": "trim"},
                "`long_sentences` must be one of drop, cut, keep, but is trim",
            ),
            ({"max_length_ratio": 0.5}, "`max_length_ratio` must be at least 1, but is 0.5 instead"),
        ],
    )
    def test_rejects_limits_that_cannot_work(self, tokenizer: Any, options: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            prepare([("a", "b")], tokenizer, False, **options)

    @BOTH_WAYS
    def test_rejects_a_tokenizer_without_end_token(self, streaming: bool) -> None:
        plain = word_tokenizer(WORDS)
        plain.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
        with pytest.raises(InputError, match="must end every source in its end token"):
            prepare([("a", "b")], plain, streaming)

    def test_feeds_the_batches(self, tokenizer: Any) -> None:
        pairs = [(text(n % 7 + 1), text(n % 5 + 1)) for n in range(50)] + [("", "")]
        stored, _ = prepare_pairs(corpus(pairs, False), tokenizer)
        assert TokenizedPairs(stored).source_lengths.tolist() == [n % 7 + 2 for n in range(50)]
        stream, report = prepare_pairs(corpus(pairs, True), tokenizer)
        batches = list(StreamingTokenBatches(stream, tokens_per_batch=40, batches_per_update=2, window=20))
        assert sum(map(len, batches)) == 50 and report.total.read == 51


class NoTokens:
    """A tokenizer whose normaliser removes the zero-width space."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = tokenizer.eos_token_id

    def __call__(self, text: Any = None, text_target: Any = None, **options: Any) -> Any:
        clean = [line.replace("\u200b", "") for line in (text or text_target)]
        return self._tokenizer(clean, **options)


class TestCaching:
    def tokenised(self, monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> int:
        """How many pairs are tokenised when the corpus is prepared."""
        seen: list[str] = []
        encode = filtering.encode

        def noted(tokenizer: Any, texts: list[str]) -> Any:
            seen.extend(texts)
            return encode(tokenizer, texts)

        with monkeypatch.context() as patch:
            patch.setattr(filtering, "encode", noted)
            prepare_pairs(*arguments, **options)
        return len(seen) - 1  # less the one that shows the end token

    def test_is_keyed_by_pairs_tokenizer_and_limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        words = [*WORDS, "caching"]
        pairs = corpus([("a caching", "b"), ("c", "d e")], False)
        assert self.tokenised(monkeypatch, pairs, word_tokenizer(words)) == 2
        assert self.tokenised(monkeypatch, pairs, word_tokenizer(words)) == 0
        assert self.tokenised(monkeypatch, pairs, word_tokenizer([*words, "more"])) == 2
        assert self.tokenised(monkeypatch, pairs, word_tokenizer(words), max_source_length=9) == 2
        other = corpus([("a caching", "b"), ("c", "d f")], False)
        assert self.tokenised(monkeypatch, other, word_tokenizer(words)) == 2

    def test_a_used_tokenizer_finds_its_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pairs = corpus([("a used", "b")], False)
        tokenizer = word_tokenizer([*WORDS, "used"])
        assert self.tokenised(monkeypatch, pairs, tokenizer) == 1
        tokenizer(["a", "b c"], padding=True, truncation=True, max_length=3)
        assert self.tokenised(monkeypatch, pairs, tokenizer) == 0

    def test_another_target_language_is_encoded_anew(self) -> None:
        """NLLB and mBART set it in their backend only while they encode a target."""
        tokenizer: Any = NllbTokenizer().train_new_from_iterator(["a b c hello world"], vocab_size=300)
        pairs = corpus([("hello", "a language")], False)
        for language in ("fra_Latn", "deu_Latn"):
            tokenizer.src_lang, tokenizer.tgt_lang = "eng_Latn", language
            prepared, _ = prepare_pairs(pairs, tokenizer)
            assert prepared["labels"][0][0] == tokenizer.convert_tokens_to_ids(language)

    def test_the_report_is_the_same_from_the_cache(self, tokenizer: Any) -> None:
        pairs = corpus([("a", "b"), ("", "x"), (text(30), "b"), (text(12), text(12))], False)
        options: dict[str, Any] = {"max_source_length": 10, "long_sentences": "cut", "max_length_ratio": 4.0}
        reports = [prepare_pairs(pairs, tokenizer, **options)[1] for _ in range(2)]
        assert reports[0] == reports[1] == FilterReport(kept=2, cut=1, empty=1, ratio=1)

    def test_a_saved_dataset_is_left_alone(self, tokenizer: Any, tmp_path: Path) -> None:
        corpus([("a", "b")], False).save_to_disk(tmp_path)
        before = sorted(path.name for path in tmp_path.iterdir())
        prepare_pairs(datasets.load_from_disk(tmp_path), tokenizer)
        assert sorted(path.name for path in tmp_path.iterdir()) == before

    def test_a_full_disk(self, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        pairs = corpus([("a", "b"), ("b", "f")], False)
        with monkeypatch.context() as patch:
            patch.setattr(ArrowWriter, "write_table", full)
            with pytest.raises(InputError, match="corpus cannot be written: No space left on device"):
                prepare_pairs(pairs, tokenizer)
        assert prepare_pairs(pairs, tokenizer)[1].total.kept == 2


class TestReport:
    def test_is_one_readable_line(self) -> None:
        report = FilterReport(kept=28_990, cut=3, empty=4, too_long=6)
        assert (
            str(report)
            == "kept 28,990 of 29,000 sentence pairs (3 of them cut); dropped: 4 empty, 6 too long"
        )
        assert str(FilterReport(kept=5)) == "kept 5 of 5 sentence pairs; dropped: none"
        assert str(FilterReport(kept=5, long=2, ratio=1)) == (
            "kept 5 of 6 sentence pairs (2 of them above the limit); dropped: 1 of unlike length"
        )
