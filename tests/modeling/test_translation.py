"""Translation line by line: order, batches by tokens, streaming, lengths and refusals."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
import torch
from helpers import parallel_sentences
from transformers import (
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from vanilla_transformer import (
    FairseqTokenizer,
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.modeling import translation_vanilla_transformer
from vanilla_transformer.modeling.translation_vanilla_transformer import (
    cross_attention,
    eager_attention,
    side_vocabulary,
    token_batches,
    translate,
    translations,
)

from .toy import SOURCES, TARGETS, pad, translating_model

SENTENCES = [source for source, _ in parallel_sentences(60)]


class Echo(torch.nn.Module):
    """Generates its source and remembers what it was given."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)
        self.generation_config = GenerationConfig()
        self.device = torch.device("cpu")
        self.calls: list[dict[str, Any]] = []

    def generate(self, *, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        assert not self.training
        self.calls.append({"shape": tuple(input_ids.shape), **kwargs})
        return input_ids


@pytest.fixture
def echo() -> Any:
    return Echo()


def sizes(model: Any) -> list[tuple[int, int]]:
    return [call["shape"] for call in model.calls]


@pytest.mark.parametrize("window", [1, 7, 1000])
@pytest.mark.parametrize("tokens_per_batch", [1, 40, 10_000])
def test_translations_come_in_the_order_of_the_sentences(
    echo: Any, tiny_tokenizer: PreTrainedTokenizerFast, window: int, tokens_per_batch: int
) -> None:
    found = list(translate(echo, tiny_tokenizer, SENTENCES, tokens_per_batch=tokens_per_batch, window=window))
    assert found == SENTENCES
    assert sum(rows for rows, _ in sizes(echo)) == len(SENTENCES)
    assert all(rows == 1 or rows * length <= tokens_per_batch for rows, length in sizes(echo))


def test_batches_hold_sentences_of_similar_length(echo: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    list(translate(echo, tiny_tokenizer, SENTENCES, tokens_per_batch=120))
    tokens = sum(len(sentence.split()) + 1 for sentence in SENTENCES)
    assert sum(rows * length for rows, length in sizes(echo)) < 1.15 * tokens
    lengths = [length for _, length in sizes(echo)]
    assert lengths == sorted(lengths, reverse=True)


def test_token_batches_leave_nothing_out() -> None:
    lengths = [5, 0, 3, 9, 1, 0, 3, 20]
    batches = token_batches(lengths, 10)
    assert sorted(index for batch in batches for index in batch) == [0, 2, 3, 4, 6, 7]
    assert batches[0] == [7]
    assert token_batches([], 10) == []


def test_blank_sentences_are_not_translated(echo: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    found = list(translate(echo, tiny_tokenizer, ["", SENTENCES[0], "  \t", "\u3000", SENTENCES[1]]))
    assert found == ["", SENTENCES[0], "", "", SENTENCES[1]]
    assert sum(rows for rows, _ in sizes(echo)) == 2
    assert list(translate(echo, tiny_tokenizer, ["", " "])) == ["", ""]
    assert list(translate(echo, tiny_tokenizer, [])) == []


def test_endless_input_is_read_a_window_at_a_time(echo: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield SENTENCES[read % 9]

    translations = translate(echo, tiny_tokenizer, endless(), window=5)
    assert read == 0
    assert [next(translations) for _ in range(6)] == [SENTENCES[k % 9] for k in range(1, 7)]
    assert 10 <= read <= 15  # the third window may be read while the second is in use


def test_the_next_window_is_encoded_while_one_is_translated(
    echo: Any, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model waits for it; encoding each window only when it is its turn would never let it go on."""
    further = threading.Event()

    def read() -> Iterator[str]:
        yield from SENTENCES[:4]
        further.set()
        yield from SENTENCES[4:8]

    generate = echo.generate

    def waiting(**inputs: Any) -> torch.Tensor:
        assert further.wait(timeout=60)
        return generate(**inputs)

    monkeypatch.setattr(echo, "generate", waiting)
    assert list(translate(echo, tiny_tokenizer, read(), window=4)) == SENTENCES[:8]


def test_what_the_reader_raises_comes_behind_what_was_read_before(
    echo: Any, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    def broken() -> Iterator[str]:
        yield from SENTENCES[:4]
        raise ValueError("line 5 is broken")

    translations = translate(echo, tiny_tokenizer, broken(), window=4)
    assert [next(translations) for _ in range(4)] == SENTENCES[:4]
    with pytest.raises(ValueError, match="line 5 is broken"):
        next(translations)


def test_a_translation_may_be_50_tokens_longer_than_the_longest_source(
    echo: Any, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    list(translate(echo, tiny_tokenizer, [SENTENCES[0]]))
    assert echo.calls[0]["max_length"] == len(SENTENCES[0].split()) + 1 + 50


@pytest.mark.parametrize("limit", [{"max_length": 7}, {"max_new_tokens": 7}])
def test_the_callers_limit_counts(
    echo: Any, tiny_tokenizer: PreTrainedTokenizerFast, limit: dict[str, Any]
) -> None:
    list(translate(echo, tiny_tokenizer, [SENTENCES[0]], num_beams=3, **limit))
    expected = {"num_beams": 3, **limit}
    assert {key: echo.calls[0].get(key) for key in ("num_beams", "max_length", "max_new_tokens")} == {
        "num_beams": 3,
        "max_length": None,
        "max_new_tokens": None,
    } | expected


def test_a_sentence_beyond_the_models_positions_is_cut_and_told(
    tiny_tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    model: Any = Echo(max_position_embeddings=8)
    long = " ".join(["w1"] * 30)
    transformers_logger = logging.get_logger("vanilla_transformer")
    transformers_logger.addHandler(caplog.handler)
    try:
        found = list(translate(model, tiny_tokenizer, ["w2", long], done=40))
    finally:
        transformers_logger.removeHandler(caplog.handler)
    assert found == ["w2", " ".join(["w1"] * 7)]
    assert "sentence 42 has 31 tokens; it is cut to 8" in caplog.text
    assert model.calls[0]["max_length"] == 8


def test_computed_positions_have_no_limit(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    model: Any = Echo(max_position_embeddings=8, position_embedding="sinusoidal")
    long = " ".join(["w1"] * 30)
    assert list(translate(model, tiny_tokenizer, [long])) == [long]
    assert model.calls[0]["max_length"] == 81


def test_the_model_returns_to_its_mode(
    echo: Any, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo.train()
    found = translate(echo, tiny_tokenizer, SENTENCES, window=5)
    next(found)
    assert echo.training, "and it trains on while the caller looks at a translation"
    list(found)
    assert echo.training

    def broken(**kwargs: Any) -> torch.Tensor:
        raise RuntimeError("stop")

    monkeypatch.setattr(echo, "generate", broken)
    with pytest.raises(RuntimeError, match="stop"):
        list(translate(echo, tiny_tokenizer, SENTENCES))
    assert echo.training


def test_translations_of_one_model_may_overlap(echo: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """`Echo` refuses to generate while it trains."""
    echo.train()
    short, long = (translate(echo, tiny_tokenizer, SENTENCES[:n], window=1) for n in (2, 9))
    next(short)
    next(long)
    assert list(short) == SENTENCES[1:2]
    assert list(long) == SENTENCES[1:9]
    assert echo.training


def test_threads_share_the_mode_of_a_model(
    echo: Any, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that ends while another still generates does not take its mode away."""
    generate, started, ended = echo.generate, threading.Event(), threading.Event()
    modes = []

    def waiting(*, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        if len(input_ids) > 1:
            started.set()
            assert ended.wait(timeout=60)
            modes.append(echo.training)
        return generate(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(echo, "generate", waiting)
    echo.train()
    thread = threading.Thread(target=lambda: list(translate(echo, tiny_tokenizer, SENTENCES)))
    thread.start()
    assert started.wait(timeout=60)
    assert list(translate(echo, tiny_tokenizer, SENTENCES[:1])) == SENTENCES[:1]
    ended.set()
    thread.join()
    assert modes and not any(modes)
    assert echo.training


def test_each_module_is_in_its_mode_again(echo: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """An encoder that is frozen, without dropout, beneath a model that trains."""
    echo.encoder = torch.nn.Dropout()
    echo.train()
    echo.encoder.eval()
    list(translate(echo, tiny_tokenizer, SENTENCES[:2]))
    assert echo.training and not echo.encoder.training


def test_no_thread_encodes_while_another_cuts(
    tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer is told to cut, and would cut for everybody."""
    cut = translation_vanilla_transformer._Translator._cut
    lock_of = translation_vanilla_transformer._lock_of
    cutting, second, go_on = threading.Event(), threading.Event(), threading.Event()

    def noted(tokenizer: Any) -> Any:
        if cutting.is_set():
            second.set()
        return lock_of(tokenizer)

    def slowly(self: Any, text: str, limit: int) -> list[int]:
        cutting.set()
        assert go_on.wait(timeout=60)
        return cut(self, text, limit)

    monkeypatch.setattr(translation_vanilla_transformer._Translator, "_cut", slowly)
    monkeypatch.setattr(translation_vanilla_transformer, "_lock_of", noted)
    found: dict[str, list[str]] = {}

    def run(name: str, **options: Any) -> None:
        model: Any = Echo()
        found[name] = [one[0].text for one in translations(model, tiny_tokenizer, ["w1 w2 w3"], **options)]

    short = {"long_sentences": "truncate", "max_source_length": 3}
    threads = [threading.Thread(target=run, args=("cut",), kwargs=short)]
    threads.append(threading.Thread(target=run, args=("whole",)))
    threads[0].start()
    assert cutting.wait(timeout=60)
    threads[1].start()
    assert second.wait(timeout=60)
    threads[1].join(timeout=0.1)
    assert not found
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == {"cut": ["w1 w2"], "whole": ["w1 w2 w3"]}


def test_attention_of_overlapping_threads_leaves_the_implementation() -> None:
    model = translating_model(dtype=torch.float32)
    ids, mask = pad(SOURCES)
    tokens, _ = pad(TARGETS)
    entered, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with eager_attention(model):
            entered.set()
            assert ended.wait(timeout=60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(timeout=60)
    weights = cross_attention(model, {"input_ids": ids, "attention_mask": mask}, tokens)
    assert weights.shape == (3, 3, 2, tokens.shape[1] - 1, ids.shape[1])
    assert model.config._attn_implementation == "eager", "of the thread that still reads it"
    ended.set()
    thread.join()
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(RuntimeError, match="stop"), eager_attention(model):
        raise RuntimeError("stop")
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("in_config", [True, False])
def test_generate_may_return_more_than_tokens(
    tiny_tokenizer: PreTrainedTokenizerFast, in_config: bool
) -> None:
    model = translating_model(dtype=torch.float32, vocab_size=len(tiny_tokenizer))
    expected = list(translate(model, tiny_tokenizer, SENTENCES[:3]))
    model.generation_config.return_dict_in_generate = in_config
    options = {} if in_config else {"return_dict_in_generate": True}
    assert list(translate(model, tiny_tokenizer, SENTENCES[:3], **options)) == expected


@pytest.mark.parametrize("in_config", [True, False])
def test_stop_strings_need_no_tokenizer_beside_them(in_config: bool) -> None:
    tokenizer = VanillaTransformerTokenizer.train_from_iterator(SENTENCES, vocab_size=300, min_frequency=1)
    model = translating_model(dtype=torch.float32, vocab_size=len(tokenizer))
    letters = [n for token, n in tokenizer.get_vocab().items() if not token.isalnum() and n != 2]
    options: dict[str, Any] = {"num_beams": 1, "max_new_tokens": 20, "suppress_tokens": letters}
    (whole,) = translate(model, tokenizer, SENTENCES[:1], **options)
    stop = whole[len(whole) // 2]
    if in_config:
        model.generation_config.stop_strings = [stop]
    else:
        options["stop_strings"] = [stop]
    (found,) = translate(model, tokenizer, SENTENCES[:1], **options)
    assert stop in found and whole.startswith(found) and len(found) < len(whole)


def test_one_translation_whatever_a_generation_config_says(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    model = translating_model(dtype=torch.float32, vocab_size=len(tiny_tokenizer))
    expected = list(translate(model, tiny_tokenizer, [SENTENCES[0], ""]))
    model.generation_config.num_return_sequences = 2
    assert list(translate(model, tiny_tokenizer, [SENTENCES[0], ""])) == expected
    several = list(translations(model, tiny_tokenizer, [SENTENCES[0], ""]))
    assert [len(one) for one in several] == [2, 2]
    three = GenerationConfig(num_beams=3, num_return_sequences=3, max_new_tokens=3)
    several = list(translations(model, tiny_tokenizer, [SENTENCES[0], ""], generation_config=three))
    assert [len(one) for one in several] == [3, 3]


def test_a_prefix_stands_before_each_sentence_and_each_part(
    echo: Any, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    found = list(translations(echo, tiny_tokenizer, ["w1", "", "w2 w3 w4"], prefix="w9 "))
    assert [one[0].text for one in found] == ["w9 w1", "", "w9 w2 w3 w4"]
    for choice, text in (("truncate", "w9 w2 w3"), ("split", "w9 w2 w3 w9 w4")):
        (cut,) = translations(
            echo, tiny_tokenizer, ["w2 w3 w4"], prefix="w9 ", long_sentences=choice, max_source_length=4
        )
        assert cut[0].text == text


def test_an_iterator_of_one_thread_is_read_with_windows_of_one(
    echo: Any, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    base = sqlite3.connect(":memory:")
    base.execute("create table sentences (text)")
    base.executemany("insert into sentences values (?)", [(sentence,) for sentence in SENTENCES[:3]])
    rows = (text for (text,) in base.execute("select text from sentences"))
    assert list(translate(echo, tiny_tokenizer, rows, window=1)) == SENTENCES[:3]


def test_each_side_of_fairseq_has_its_names() -> None:
    special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    sides = [special | {"the": 4, "cat": 5}, special | {"le": 4, "chat": 5, "court": 6}]
    tokenizer = FairseqTokenizer(vocab=sides[0], target_vocab=sides[1])
    assert [side_vocabulary(tokenizer, target=target) for target in (False, True)] == sides
    shared = FairseqTokenizer(vocab=sides[0])
    assert side_vocabulary(shared, target=True) == sides[0]
    model = translating_model(
        dtype=torch.float32, vocab_size=6, decoder_vocab_size=7, share_encoder_decoder_embeddings=False
    )
    ((found,),) = translations(model, tokenizer, ["the cat"], attention=True, max_new_tokens=4)
    assert found.source_tokens == ("the", "cat", "</s>")
    assert set(found.target_tokens) <= set(sides[1])


@pytest.mark.parametrize(
    ("sentences", "options", "message"),
    [
        (["a"], {"tokens_per_batch": 0}, "`tokens_per_batch` must be positive, but is 0 instead"),
        (["a"], {"window": 0}, "`window` must be positive, but is 0 instead"),
        (["a"], {"batch_size": 0}, "`batch_size` must be positive, but is 0 instead"),
        (["a"], {"max_source_length": 0}, "`max_source_length` must be positive, but is 0 instead"),
        ("one string", {}, "`sentences` must be an iterable of strings"),
        (["a"], {"num_return_sequences": 2}, "`num_return_sequences` must be 1"),
    ],
)
def test_refusals_come_before_the_first_sentence(
    echo: Any,
    tiny_tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[str],
    options: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        translate(echo, tiny_tokenizer, sentences, **options)


def test_progress_is_shown_on_standard_error(
    echo: Any, tiny_tokenizer: PreTrainedTokenizerFast, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(translate(echo, tiny_tokenizer, SENTENCES, progress=True, total=60)) == SENTENCES
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "60/60" in shown.err


@pytest.mark.parametrize("sentences", [SENTENCES, ["", " "]])
def test_progress_advances_with_each_batch(
    echo: Any, tiny_tokenizer: PreTrainedTokenizerFast, sentences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bar(contextlib.nullcontext):
        steps: list[int] = []

        def __init__(self, **options: Any):
            super().__init__(self)

        def update(self, count: int) -> None:
            self.steps.append(count)

    monkeypatch.setattr(translation_vanilla_transformer.logging, "tqdm", Bar)
    options: dict[str, Any] = {"tokens_per_batch": 30, "progress": True}
    next(iter(translate(echo, tiny_tokenizer, sentences, **options)))
    assert sum(Bar.steps) == len(sentences)
    assert max(Bar.steps) <= 30 // min(len(tiny_tokenizer(text)["input_ids"]) for text in sentences)


def large_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Weights so large that what one token attends to shows in the output."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model.eval()


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_sentence_is_translated_alike_alone_and_among_others(
    tiny_config_kwargs: dict[str, Any], tiny_tokenizer: PreTrainedTokenizerFast, num_beams: int
) -> None:
    changed = {"vocab_size": len(tiny_tokenizer), "tie_word_embeddings": False}
    config = VanillaTransformerConfig(**tiny_config_kwargs | changed)
    model = large_weights(VanillaTransformerForConditionalGeneration(config))
    options: dict[str, Any] = {"num_beams": num_beams, "max_length": 12}
    together = list(translate(model, tiny_tokenizer, SENTENCES[:12], **options))
    alone = list(translate(model, tiny_tokenizer, SENTENCES[:12], tokens_per_batch=1, **options))
    assert together == alone
    assert len(set(together)) >= 5


def test_other_models_of_transformers_translate_too(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    config = MarianConfig(
        vocab_size=len(tiny_tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
    )
    model = large_weights(MarianMTModel(config))
    model.generation_config.max_new_tokens = 3
    found = list(translate(model, tiny_tokenizer, [*SENTENCES[:3], " ".join(["w1"] * 100)], num_beams=1))
    assert len(found) == 4
    # Not the 3 tokens that the model's folder says: a translation follows the length of its source.
    assert max(len(text.split()) for text in found) > 20


def test_a_choice_for_long_sentences_needs_their_length(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    model: Any = Echo()
    with pytest.raises(ValueError, match="`long_sentences` needs `max_source_length`: this model takes"):
        translations(model, tiny_tokenizer, SENTENCES, long_sentences="split")
    model = Echo(max_position_embeddings=8)
    ((found,),) = translations(model, tiny_tokenizer, ["w1"], long_sentences="error")
    assert found.text == "w1"


class Words:
    """Splits at spaces; knows one target language, as tokenizers of OPUS-MT do."""

    supported_language_codes: ClassVar[list[str]] = [">>fra<<"]

    def __call__(self, text: str, *, max_length: int | None = None, **kwargs: Any) -> dict[str, list[str]]:
        return {"input_ids": text.split()[:max_length]}


@pytest.mark.parametrize(("code", "known"), [(">>fra<<", True), (">>xyz<<", False)])
def test_each_part_is_translated_into_the_language_of_the_sentence(code: str, known: bool) -> None:
    settings: dict[str, Any] = {"scores": False, "attention": False, "prefix": "", "generate_kwargs": {}}
    translator = translation_vanilla_transformer._Translator(
        model=cast(Any, None), tokenizer=cast(Any, Words()), long_sentences="split", max_source_length=3,
        **settings,
    )  # fmt: skip
    parts: list[Any] = translator._shortened(f"{code} One two. Three four.", 5, 3, 1)
    assert parts[0] == [code, "One", "two."]
    assert parts[1] == ([code] if known else []) + ["Three", "four."]
