"""The translation pipeline: what goes in and out, long sentences, languages, and which call works where."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from datasets import Dataset
from foreign_toy import SHAPE, enlarged, mbart
from helpers import parallel_sentences
from sentencepiece import SentencePieceTrainer
from transformers import (
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.pipelines.pt_utils import KeyDataset

from vanilla_transformer import (
    TranslationPipeline,
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    pipeline,
    translate,
)
from vanilla_transformer.modeling.pipeline_vanilla_transformer import alignment
from vanilla_transformer.modeling.splitting_vanilla_transformer import joined, split_text

from .toy import toy_model

SENTENCES = [source for source, _ in parallel_sentences(12)]


@pytest.fixture(scope="module")
def model(tiny_tokenizer: PreTrainedTokenizerFast) -> Any:
    config = VanillaTransformerConfig(vocab_size=len(tiny_tokenizer), tie_word_embeddings=False, **SHAPE)
    return enlarged(VanillaTransformerForConditionalGeneration(config))


@pytest.fixture(scope="module")
def marian(tiny_tokenizer: PreTrainedTokenizerFast) -> Any:
    config = MarianConfig(
        vocab_size=len(tiny_tokenizer), max_position_embeddings=64, pad_token_id=0, eos_token_id=2,
        decoder_start_token_id=0, forced_eos_token_id=None, **SHAPE,
    )  # fmt: skip
    return enlarged(MarianMTModel(config))


@pytest.fixture(scope="module")
def pipe(model: Any, tiny_tokenizer: Any) -> TranslationPipeline:
    made = pipeline("translation", model, tiny_tokenizer, device="cpu", max_length=12, num_beams=1)
    assert isinstance(made, TranslationPipeline)
    return made


@pytest.fixture(scope="module")
def expected(model: Any, tiny_tokenizer: Any) -> list[str]:
    found = list(translate(model, tiny_tokenizer, SENTENCES, max_length=12, num_beams=1))
    assert len(set(found)) >= 3
    return found


def texts(records: Any) -> list[str]:
    return [record["translation_text"] for record in records]


def test_strings_lists_generators_and_data_sets(pipe: Any, expected: list[str]) -> None:
    assert pipe(SENTENCES[0]) == [{"translation_text": expected[0]}]
    assert pipe(SENTENCES) == [{"translation_text": text} for text in expected]
    assert texts(pipe(tuple(SENTENCES), batch_size=2)) == expected
    assert pipe([]) == []
    dataset = Dataset.from_dict({"source": SENTENCES})
    streams: list[tuple[Any, dict[str, Any]]] = [
        ((sentence for sentence in SENTENCES), {}),
        (KeyDataset(dataset, "source"), {}),
        (dataset["source"], {}),
        (dataset, {"column": "source"}),
        (dataset.to_iterable_dataset(), {"column": "source"}),
    ]
    for stream, options in streams:
        found = pipe(stream, **options)
        assert isinstance(found, Iterator)
        assert texts(found) == expected


def test_an_endless_stream_is_read_a_window_ahead(pipe: Any, expected: list[str]) -> None:
    read = []

    def endless() -> Iterator[str]:
        while True:
            read.append(1)
            yield SENTENCES[0]

    found = pipe(endless(), window=3)
    assert not read
    assert [next(found)["translation_text"] for _ in range(4)] == [expected[0]] * 4
    assert 6 <= len(read) <= 9  # the third window may be read while the second is in use


def test_a_dictionary_is_one_sentence(pipe: Any, expected: list[str]) -> None:
    assert pipe({"en": SENTENCES[0]}, column="en") == [{"translation_text": expected[0]}]


@pytest.mark.parametrize("nothing", [None, 3, b"a b"])
def test_what_gives_no_sentences_is_told_at_the_call(pipe: Any, nothing: Any) -> None:
    with pytest.raises(ValueError, match="the input must be a string, or something that gives strings"):
        pipe(nothing)


def test_blank_sentences_and_progress(pipe: Any, expected: list[str], capsys: Any) -> None:
    assert pipe("") == [{"translation_text": ""}]
    assert texts(pipe(["", SENTENCES[0], " \t"], progress=True)) == ["", expected[0], ""]
    assert "3/3" in capsys.readouterr().err


def test_several_translations_have_scores_best_first(pipe: Any, model: Any, tiny_tokenizer: Any) -> None:
    options: dict[str, Any] = {"num_beams": 4, "num_return_sequences": 3}
    first, blank = pipe([SENTENCES[0], ""], **options)
    assert pipe(SENTENCES[0], **options) == first
    generated = model.generate(
        **tiny_tokenizer([SENTENCES[0]], return_tensors="pt"), max_length=12,
        return_dict_in_generate=True, output_scores=True, **options,
    )  # fmt: skip
    assert [record["score"] for record in first] == generated.sequences_scores.tolist()
    assert texts(first) == tiny_tokenizer.batch_decode(generated.sequences, skip_special_tokens=True)
    assert blank == [{"translation_text": "", "score": 0.0}] * 3


def log_probability(model: Any, batch: Any, ids: torch.Tensor) -> float:
    """That of the decoder tokens `ids` (1, S), start token first, by teacher forcing."""
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], decoder_input_ids=ids[:, :-1]).logits
    return float(logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).sum())


def assert_scores_of_greedy_search(found: Any, model: Any, tokenizer: Any) -> None:
    for sentence, record in zip(SENTENCES, found, strict=False):
        batch = tokenizer([sentence], return_tensors="pt")
        ids = model.generate(**batch, num_beams=1, max_length=9)
        assert record["score"] == pytest.approx(log_probability(model, batch, ids), rel=1e-4)


@pytest.mark.parametrize("kind", ["model", "marian"])
def test_the_score_of_greedy_search_is_the_log_probability(
    kind: str, request: pytest.FixtureRequest, tiny_tokenizer: Any
) -> None:
    model = request.getfixturevalue(kind)
    pipe = pipeline("translation", model, tiny_tokenizer, device="cpu", num_beams=1)
    found = pipe(SENTENCES[:3], return_scores=True, max_length=9)
    assert_scores_of_greedy_search(found, model, tiny_tokenizer)


def test_the_score_of_greedy_search_with_two_vocabularies(tiny_tokenizer: Any) -> None:
    sizes = {"vocab_size": len(tiny_tokenizer), "decoder_vocab_size": len(tiny_tokenizer) - 3}
    model = enlarged(toy_model(share_encoder_decoder_embeddings=False, dtype=torch.float32, **sizes))
    pipe = pipeline("translation", model, tiny_tokenizer, device="cpu", num_beams=1, max_length=9)
    assert_scores_of_greedy_search(pipe(SENTENCES[:3], return_scores=True), model, tiny_tokenizer)


def test_the_score_of_a_sample_is_its_log_probability(model: Any, tiny_tokenizer: Any) -> None:
    """Whatever was left to draw from."""
    pipe = pipeline("translation", model, tiny_tokenizer, device="cpu", max_length=9)
    transformers.set_seed(1)
    drawn: dict[str, Any] = {"do_sample": True, "num_beams": 1, "top_k": 3, "temperature": 0.5}
    samples = pipe([SENTENCES[0]], return_scores=True, return_alignment=True, num_return_sequences=4, **drawn)
    batch = tiny_tokenizer([SENTENCES[0]], return_tensors="pt")
    assert len({record["translation_text"] for record in samples[0]}) > 1
    for record in samples[0]:
        ids = torch.tensor([[1, *tiny_tokenizer.convert_tokens_to_ids(record["target_tokens"])]])
        assert record["score"] == pytest.approx(log_probability(model, batch, ids), rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 1, "max_length_beyond_source": 0, "suppress_tokens": [2]},
        {"num_beams": 1, "max_length_beyond_source": 9, "eos_token_id": [2, 7, 8, 9]},
        {"num_beams": 3, "max_length_beyond_source": 0, "suppress_tokens": [2]},
    ],
    ids=["own-limit", "own-end", "beams"],
)
def test_scores_and_tokens_do_not_depend_on_the_batch(
    pipe: Any, model: Any, tiny_tokenizer: Any, options: dict[str, Any]
) -> None:
    pipe = pipeline("translation", model, tiny_tokenizer, device="cpu")
    sentences = [SENTENCES[0].split()[0], *SENTENCES[1:4]]
    options = options | {"return_scores": True, "return_alignment": True}
    together = pipe(sentences, **options)
    assert len({len(record["target_tokens"]) for record in together}) > 1
    for sentence, record in zip(sentences, together, strict=True):
        (alone,) = pipe(sentence, **options)
        assert record["target_tokens"] == alone["target_tokens"]
        assert record["score"] == pytest.approx(alone["score"], rel=1e-4)


@pytest.mark.parametrize("kind", ["model", "marian"])
def test_attention_and_alignment_are_those_of_the_sentence_alone(
    kind: str, request: pytest.FixtureRequest, tiny_tokenizer: Any
) -> None:
    model = request.getfixturevalue(kind)
    before = model.config._attn_implementation
    pipe = pipeline("translation", model, tiny_tokenizer, device="cpu", num_beams=1, max_length=9)
    asked: dict[str, bool] = {"return_attention": True, "return_alignment": True}
    for sentence, record in zip(SENTENCES, pipe(SENTENCES, **asked), strict=True):
        (alone,) = pipe(sentence, **asked)
        source, target = record["source_tokens"], record["target_tokens"]
        assert source == [*sentence.split(), "</s>"]
        weights = record["attention"]
        assert weights.shape == (2, 4, len(target), len(source))
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        torch.testing.assert_close(weights, alone["attention"], rtol=1e-4, atol=1e-5)
        assert record["alignment"] == alignment(weights)
        assert [pair[1] for pair in record["alignment"]] == list(range(len(target)))
    assert model.config._attn_implementation == before


def test_an_alignment_by_hand() -> None:
    first = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7]])
    second = torch.tensor([[0.1, 0.9, 0.0], [0.2, 0.2, 0.6]])
    # The means are 0.35, 0.65, 0 and 0.15, 0.2, 0.65.
    assert alignment(torch.stack([first, second])[:, None]) == [(1, 0), (2, 1)]
    assert alignment(None) == []


def test_sentences_that_are_too_long(pipe: Any) -> None:
    text = "w1 w2. w3 w4 w5. w6"
    tokens = len(text.split()) + 1
    assert pipe(text) == pipe(text, max_source_length=tokens, long_sentences="error")
    assert pipe(text) == pipe(text, max_source_length=2), "left alone where nothing is asked for"
    with pytest.raises(ValueError, match=f"sentence 2 must have at most 4 tokens, but has {tokens} instead"):
        pipe(["w1", text], max_source_length=4, long_sentences="error")
    parts = texts(pipe(["w1 w2.", "w3 w4 w5.", "w6"]))
    options = {"max_source_length": 4, "long_sentences": "split"}
    assert pipe([text, "w6"], **options) == [
        {"translation_text": joined(parts)}, {"translation_text": parts[2]},
    ]  # fmt: skip
    cut = pipe(text, max_source_length=4, long_sentences="truncate")
    assert cut == pipe("w1 w2. w3")


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("A b. C d! E?", 5, ["A b.", "C d!", "E?"]),
        ("A b. C d! E?", 9, ["A b. C d!", "E?"]),
        ('"A." B', 4, ['"A."', "B"]),
        ("3.14 is pi. Yes", 11, ["3.14 is pi.", "Yes"]),
        ("我有猫。你呢？好", 4, ["我有猫。", "你呢？好"]),
        ("one, two three four", 9, ["one,", "two three", "four"]),
        ("one, two three four", 14, ["one,", "two three four"]),
        ("abcdefgh", 3, ["ab", "cd", "ef", "gh"]),
        ("ab", 0, ["a", "b"]),
    ],
)
def test_where_a_text_is_cut(text: str, limit: int, parts: list[str]) -> None:
    assert split_text(text, lambda part: len(part) <= limit) == parts


def test_parts_are_joined_as_their_script_is_written() -> None:
    assert joined(["I am.", "", "You are."]) == "I am. You are."
    assert joined(["我有猫。", "你呢？"]) == "我有猫。你呢？"
    assert joined(["나는 간다.", "너는?"]) == "나는 간다. 너는?"


def test_languages_that_are_written_otherwise_than_their_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M2M100 calls French "fr", and its token "__fr__"; here a piece of text is "fr", too."""
    lines = tmp_path / "lines"
    lines.write_text("".join(f"{text}\n" for text in ("fr a b", "en a fr", "a b en") * 20))
    SentencePieceTrainer.train(
        input=str(lines), model_prefix=str(tmp_path / "pieces"), vocab_size=20, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    names = ["<s>", "<pad>", "</s>", "<unk>", "fr", "en", "▁a", "▁b"]
    (tmp_path / "vocab.json").write_text(json.dumps({name: k for k, name in enumerate(names)}))
    tokenizer = M2M100Tokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "pieces.model"))
    model, _ = mbart()
    model.resize_token_embeddings(len(tokenizer))
    forced = []

    def noted(input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        forced.append(kwargs["forced_bos_token_id"])
        return input_ids

    monkeypatch.setattr(model, "generate", noted)
    pipe = pipeline("translation", model, tokenizer, device="cpu")
    pipe("a b", src_lang="en", tgt_lang="fr")
    assert forced == [tokenizer.get_lang_id("fr")] != [tokenizer.convert_tokens_to_ids("fr")]
    with pytest.raises(ValueError, match="`tgt_lang` must be a language of the tokenizer"):
        pipe("a b", tgt_lang="__fr__")


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ([1], {}, "sentence 1 must be a string, but is a int instead"),
        ([{"a": "x"}], {"column": "b"}, "`column` must be one of a for sentence 1, but is 'b' instead"),
        (["x"], {"long_sentences": "cut"}, "`long_sentences` must be one of error, truncate, split"),
        (["x"], {"max_source_length": -1}, "`max_source_length` must be positive"),
        (["x"], {"batch_size": -2}, "`batch_size` must be positive"),
        (["x"], {"tgt_lang": "fr"}, "`tgt_lang` must be a language of the tokenizer"),
        (["x"], {"return_attention": True, "long_sentences": "split"}, "cannot be given for sentences"),
    ],
)
def test_refusals(pipe: Any, inputs: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipe(inputs, **options)


def test_a_tokenizer_with_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = mbart()
    seen = []
    generate = model.generate

    def noted(**kwargs: Any) -> Any:
        seen.append((kwargs["input_ids"][0, 0].item(), kwargs["forced_bos_token_id"]))
        return generate(**kwargs)

    monkeypatch.setattr(model, "generate", noted)
    french, english = tokenizer.convert_tokens_to_ids(["fr_XX", "en_XX"])  # type: ignore[misc]
    pipe = pipeline("translation", model, tokenizer, device="cpu", max_length=6)
    (record,) = pipe("a b", src_lang="fr_XX", tgt_lang="en_XX", return_alignment=True)
    assert seen == [(french, english)]
    assert record["target_tokens"][0] == "en_XX"
    assert tokenizer.src_lang == "en_XX"
    pipeline("translation_fr_XX_to_en_XX", model, tokenizer, device="cpu", max_length=6)("a b")
    assert seen[1] == seen[0]
    for unknown in ("xx", "▁a"):  # a piece of text is no language
        with pytest.raises(ValueError, match=f"MBart50Tokenizer does not know '{unknown}'"):
            pipe("a", src_lang=unknown)


def test_the_languages_are_kept_while_the_caller_does_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread that encodes may do so between two translations, when the pipeline is not at work."""
    model, tokenizer = mbart()
    seen: list[int] = []
    generate, given = model.generate, threading.Event()

    def noted(**kwargs: Any) -> Any:
        seen.extend(kwargs["input_ids"][:, 0].tolist())
        return generate(**kwargs)

    def slow() -> Iterator[str]:
        yield from ["a b"] * 2
        assert given.wait(timeout=60)
        yield from ["a b"] * 2

    monkeypatch.setattr(model, "generate", noted)
    french, english = tokenizer.convert_tokens_to_ids(["fr_XX", "en_XX"])  # type: ignore[misc]
    pipe = pipeline("translation", model, tokenizer, device="cpu", max_length=4)
    before = set(threading.enumerate())
    found: Any = pipe(slow(), src_lang="fr_XX", window=2)
    next(found)
    given.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=60)
    assert len([next(found) for _ in range(3)]) == 3
    assert seen == [french] * 4
    pipe("a b")
    assert seen[4] == english
    tokenizer.add_tokens(["c"])
    assert isinstance(pipe, TranslationPipeline)
    copies = [pipe._tokenizer_in({"src_lang": "fr_XX"}) for _ in range(2)]
    assert copies[0] is copies[1] and len(copies[0]) == len(tokenizer)


def test_the_task_of_t5_gives_prefix_and_search(
    tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"prefix": "w9 w8 ", "num_beams": 3, "early_stopping": True, "max_length": 5}
    others: dict[str, Any] = {
        "decoder_start_token_id": 0,
        "task_specific_params": {"summarization": {}, "translation_en_to_de": entry},
    }
    config = T5Config(
        vocab_size=len(tiny_tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, **others
    )
    model: Any = T5ForConditionalGeneration(config).eval()
    seen: list[dict[str, Any]] = []
    generate = model.generate

    def noted(**kwargs: Any) -> Any:
        seen.append(kwargs)
        return generate(**kwargs)

    monkeypatch.setattr(model, "generate", noted)
    pipe = pipeline("translation_en_to_de", model, tiny_tokenizer, device="cpu")
    assert pipe(["w1 w2", ""])[1] == {"translation_text": ""}
    assert tiny_tokenizer.batch_decode(seen[0]["input_ids"], skip_special_tokens=True) == ["w9 w8 w1 w2"]
    assert seen[0]["num_beams"] == 3 and seen[0]["early_stopping"] is True
    assert seen[0]["max_length"] == 5 + 50, "as long as its source allows, not the folder"
    pipe("w1", num_beams=1, prefix="")
    assert seen[1]["num_beams"] == 1 and seen[1]["input_ids"].shape == (1, 2)
    pipeline("translation", model, tiny_tokenizer, device="cpu")("w1")
    assert "num_beams" not in seen[2] and seen[2]["input_ids"].shape == (1, 2)
    with pytest.raises(ValueError, match="`task` must be one of translation_en_to_de, but is"):
        pipeline("translation_de_to_en", model, tiny_tokenizer, device="cpu")


@pytest.mark.parametrize("kind", ["model", "marian"])
def test_the_direction_of_a_model_of_one_is_a_name(
    kind: str, request: pytest.FixtureRequest, tiny_tokenizer: Any
) -> None:
    options: dict[str, Any] = {"device": "cpu", "max_length": 12, "num_beams": 1}
    found = [
        pipeline(task, request.getfixturevalue(kind), tiny_tokenizer, **options)(SENTENCES)
        for task in ("translation", "translation_zh_to_en")
    ]
    assert found[0] == found[1]


def test_several_translations_may_be_asked_for_by_a_generation_config(
    model: Any, pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"num_beams": 3}
    expected = pipe([SENTENCES[0], ""], num_return_sequences=2, **options)
    for name, number in {"num_beams": 3, "num_return_sequences": 2}.items():
        monkeypatch.setattr(model.generation_config, name, number)
    assert pipe([SENTENCES[0], ""], **options) == expected


def test_which_call_works_where_with_our_package(
    model: Any, marian: Any, tiny_tokenizer: Any, tmp_path: Path, expected: list[str]
) -> None:
    """The half of the table for an installed package; `test_without_package.py` has the other one."""
    options: dict[str, Any] = {"device": "cpu", "max_length": 12, "num_beams": 1}
    folders: dict[str, Path] = {}
    for name, one in {"ours": model, "marian": marian}.items():
        folders[name] = tmp_path / name
        one.save_pretrained(folders[name])
        tiny_tokenizer.save_pretrained(folders[name])
        by_object = pipeline("translation", one, tiny_tokenizer, **options)(SENTENCES)
        for path in (folders[name], str(folders[name])):
            assert pipeline("translation", path, **options)(SENTENCES) == by_object
        loaded = type(one).from_pretrained(folders[name])
        assert pipeline("translation", loaded, **options)(SENTENCES) == by_object
    theirs: Any = transformers.pipeline
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        theirs("translation", model=str(folders["ours"]))
    trusted = theirs("translation", model=str(folders["ours"]), trust_remote_code=True, **options)
    chosen = theirs("translation", model=str(folders["ours"]), pipeline_class=TranslationPipeline, **options)
    assert texts(trusted(SENTENCES)) == texts(chosen(SENTENCES)) == expected
    for refused in (model, marian, str(folders["marian"])):
        for trust in (None, True):
            with pytest.raises(KeyError, match="translation"):
                theirs("translation", model=refused, tokenizer=tiny_tokenizer, trust_remote_code=trust)


def test_a_model_from_nowhere_needs_its_tokenizer(model: Any) -> None:
    with pytest.raises(ValueError, match="`tokenizer` must be given"):
        pipeline("translation", model)


def test_other_tasks_are_left_to_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    # By this path, as `sys.modules` may by now hold another module `transformers` than the one imported here.
    theirs = "vanilla_transformer.modeling.pipelines.transformers.pipeline"
    monkeypatch.setattr(theirs, lambda task, **options: (task, options))
    found: Any = pipeline("fill-mask", "somewhere", top_k=3)
    assert found == ("fill-mask", {"model": "somewhere", "tokenizer": None, "top_k": 3})
