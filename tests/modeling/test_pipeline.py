"""The translation pipeline: what goes in and out, long sentences, languages, and which call works where."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from datasets import Dataset
from helpers import parallel_sentences
from transformers import (
    MarianConfig,
    MarianMTModel,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    PreTrainedTokenizerFast,
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

SENTENCES = [source for source, _ in parallel_sentences(12)]
SHAPE: dict[str, Any] = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
}  # fmt: skip


def enlarged(model: Any) -> Any:
    """Weights so large that different sentences are translated differently."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        # Marian's sinusoids are parameters that are not saved.
        if parameter.dim() > 1 and "embed_positions" not in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
    return model.eval()


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


@pytest.mark.parametrize("kind", ["model", "marian"])
def test_the_score_of_greedy_search_is_the_log_probability(
    kind: str, request: pytest.FixtureRequest, tiny_tokenizer: Any
) -> None:
    model = request.getfixturevalue(kind)
    pipe = pipeline("translation", model, tiny_tokenizer, device="cpu", num_beams=1)
    found = pipe(SENTENCES[:3], return_scores=True, max_length=9)
    for sentence, record in zip(SENTENCES, found, strict=False):
        batch = tiny_tokenizer([sentence], return_tensors="pt")
        ids = model.generate(**batch, num_beams=1, max_length=9)
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"], decoder_input_ids=ids[:, :-1]).logits
        chosen = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])
        assert record["score"] == pytest.approx(chosen.sum().item(), rel=1e-4)


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


def test_sentences_that_are_too_long(pipe: Any, expected: list[str], caplog: Any) -> None:
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
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("▁b", -1.0)]
    tokenizer = MBart50Tokenizer(vocab=[*pieces, ("en_XX", 0.0), ("fr_XX", 0.0), ("<mask>", 0.0)])
    config = MBartConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **SHAPE)
    model = enlarged(MBartForConditionalGeneration(config))
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
    with pytest.raises(ValueError, match="MBart50Tokenizer does not know 'xx'"):
        pipe("a", src_lang="xx")


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
    monkeypatch.setattr(transformers, "pipeline", lambda task, **options: (task, options))
    found: Any = pipeline("fill-mask", "somewhere", top_k=3)
    assert found == ("fill-mask", {"model": "somewhere", "tokenizer": None, "top_k": 3})
