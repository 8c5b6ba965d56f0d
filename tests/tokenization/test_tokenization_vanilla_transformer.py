"""The tokenizer gives every text back, also after saving; its vocabulary, training and BPE-dropout."""

import ast
import copy
import json
import pickle
import random
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerTokenizer
from vanilla_transformer.modeling.saving_vanilla_transformer import source_files
from vanilla_transformer.tokenization import tokenization_vanilla_transformer as module
from vanilla_transformer.training.embedded_grammar import sample_pair

NAMES = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SMALLEST = 262

ALWAYS = [
    "",
    " ",
    "  ",
    " a",
    "a ",
    "  two   spaces  ",
    "\t\ttab\tand\nnew\r\nline\n",
    "\0",
    "a\0b\0",
    "▁",
    "▁the▁ ▁▁ cat",
    *NAMES,
    "".join(NAMES),
    "the <s> cat</s> <pad><pad>",
    "<0x41>",
    "<0xE7><0x8C><0xAB> <0x0A>",
    "<<s>> < s > <<<",
    "<\u0338",
    "<s>\u0338",
    "<\u0338\u0338 <\u0327\u0338 <\u0334\u0338 >\u0338",
    "\u226e\u226f",
    "e\u0301 \u0301 \u1112\u1161\u11ab \u212b \u0958",
    "我有一只猫。",
    "我用Python3.11写了2个程序,你呢?",
    "コーヒー、カフェ",
    "👍🏽 👩‍👩‍👧 🇨🇳",
    "שלום עולם",
    "مرحبا بالعالم",
    "\u202eabc\u202c",
    "𐍈𝔘\U0010ffff\ufffd\ufeff",
    "don't — “quote” 1,000.50€",
]
FRAGMENTS = [
    *NAMES,
    "<0x41>",
    "<0x",
    "0xE7>",
    "<",
    ">",
    "/",
    "\u0338",
    "\u0327",
    "\u0301",
    "e",
    "▁",
    " ",
    "  ",
]
FRAGMENTS += ["\t", "\n", "\0", "0", "12", "the", " cat", ".", "...", "猫", "我有", "。", "\u3000", "\u00a0"]
FRAGMENTS += ["\u1112", "\u1161", "\u11ab", "👍", "🏽", "\u200d", "ש", "م", "ー", "〇", "⺀", "½", "\ufffd"]
TEXTS = st.text() | st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=2), max_size=12).map("".join)


def sentences(count: int, seed: int = 0) -> Iterator[str]:
    """Yield invented sentences: English-like, Chinese-like, or both mixed, with digits and punctuation."""
    draw = random.Random(seed)
    for number in range(count):
        latin = " ".join(draw.choices(["the", "cat", "cats", "dog", "sees", "walking", "don't", "a"], k=6))
        chinese = "".join(draw.choices(["我", "有", "一只", "猫", "学生", "不", "看见", "的"], k=6))
        yield [f"{latin.capitalize()}.", f"{chinese}。", f"{chinese}, {latin} {number}!"][number % 3]


def trained(lines: Any, vocab_size: int, **options: Any) -> VanillaTransformerTokenizer:
    return VanillaTransformerTokenizer.train_from_iterator(lines, vocab_size=vocab_size, **options)


MAKERS: dict[str, Callable[[], VanillaTransformerTokenizer]] = {
    "mixed": lambda: trained(sentences(600), 400),
    "tiny": lambda: trained(["a"], 300, min_frequency=1),
    "smallest": lambda: trained(sentences(60), SMALLEST),
    "just above": lambda: trained(sentences(60), SMALLEST + 3),
    "spelled tokens": lambda: trained(["".join(NAMES) + "<0x41><0xE7>▁ ▁a"] * 9, 400),
    "untrained": VanillaTransformerTokenizer,
}
LOADERS: dict[str, Callable[[Path], Any]] = {
    "own class": VanillaTransformerTokenizer.from_pretrained,
    "AutoTokenizer": AutoTokenizer.from_pretrained,
    "PreTrainedTokenizerFast": PreTrainedTokenizerFast.from_pretrained,
    "tokenizer.json alone": lambda folder: PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json")
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for name, make in MAKERS.items():
        folders[name] = tmp_path_factory.mktemp("saved")
        make().save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="module")
def mixed() -> VanillaTransformerTokenizer:
    return MAKERS["mixed"]()


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def assert_lossless(tokenizer: Any, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids[-1] == 2 and set(ids[:-1]).isdisjoint(range(5)), (text, ids)
    assert tokenizer.decode(ids, skip_special_tokens=True) == nfc(text)


@pytest.mark.parametrize("name", MAKERS)
def test_every_text_comes_back(name: str) -> None:
    tokenizer = MAKERS[name]()
    for text in ALWAYS:
        assert_lossless(tokenizer, text)

    @given(TEXTS)
    @settings(max_examples=400, deadline=None, database=None)
    def check(text: str) -> None:
        assert_lossless(tokenizer, text)

    check()


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("name", MAKERS)
def test_every_text_comes_back_after_saving_and_loading(
    name: str, loader: str, saved: dict[str, Path]
) -> None:
    tokenizer = LOADERS[loader](saved[name])
    original = VanillaTransformerTokenizer.from_pretrained(saved[name])
    for text in ALWAYS:
        assert_lossless(tokenizer, text)

    @given(TEXTS)
    @settings(max_examples=80, deadline=None, database=None)
    def check(text: str) -> None:
        assert_lossless(tokenizer, text)
        assert tokenizer.encode(text) == original.encode(text)

    check()


def test_loading_gives_the_class_back(saved: dict[str, Path], tmp_path: Path) -> None:
    assert type(AutoTokenizer.from_pretrained(saved["mixed"])) is VanillaTransformerTokenizer
    tokenizer = VanillaTransformerTokenizer.from_pretrained(saved["mixed"])
    tokenizer.save_pretrained(tmp_path)
    VanillaTransformerConfig(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert type(again) is VanillaTransformerTokenizer
    assert again.get_vocab() == tokenizer.get_vocab()
    assert (tmp_path / "tokenizer.json").read_text() == (saved["mixed"] / "tokenizer.json").read_text()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copy_is_the_same(mixed: VanillaTransformerTokenizer, copied: Callable[[Any], Any]) -> None:
    tokenizer = copied(mixed)
    assert [tokenizer.encode(text) for text in ALWAYS] == [mixed.encode(text) for text in ALWAYS]


def test_a_batch_comes_back(mixed: VanillaTransformerTokenizer) -> None:
    batch = mixed(ALWAYS, padding=True)
    assert mixed.batch_decode(batch["input_ids"], skip_special_tokens=True) == [nfc(text) for text in ALWAYS]
    assert [mixed.encode(text) for text in ALWAYS] == [
        [token for token, kept in zip(ids, mask, strict=True) if kept]
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


def test_an_added_token_that_is_not_in_nfc_is_found_in_a_large_batch() -> None:
    tokenizer = MAKERS["mixed"]()
    tokenizer.add_tokens([unicodedata.normalize("NFD", "Việt")])
    text = unicodedata.normalize("NFC", "a Việt b")
    assert len(tokenizer) - 1 in tokenizer(text)["input_ids"]
    assert tokenizer([text] * 40)["input_ids"] == [tokenizer(text)["input_ids"]] * 40


@pytest.mark.parametrize("token", ["<2en>", AddedToken("<2en>"), AddedToken("<2en>", rstrip=True)], ids=repr)
def test_an_added_token_with_the_guard_in_it_is_found(token: Any, tmp_path: Path) -> None:
    tokenizer = MAKERS["mixed"]()
    assert tokenizer.add_tokens([token]) == 1
    tokenizer.save_pretrained(tmp_path)
    for one in (tokenizer, VanillaTransformerTokenizer.from_pretrained(tmp_path)):
        ids = one("<2en> </s> a").input_ids
        assert ids[0] == len(tokenizer) - 1
        assert ids.count(one.eos_token_id) == 1  # at the end: what a text spells is text
        assert str(one.decode(ids[1:], skip_special_tokens=True)).strip() == "</s> a"


@pytest.mark.parametrize("name", ["mixed", "smallest"])
def test_a_large_batch_is_encoded_as_its_texts_are(name: str) -> None:
    """Large batches of text in NFC take a way of their own."""
    tokenizer = MAKERS[name]()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<2en>", "▁▁"]})
    tokenizer.add_tokens(["the cat", "<new>"])
    tokenizer.padding_side = "left"

    @given(st.lists(TEXTS.map(nfc) | st.sampled_from(ALWAYS), min_size=32, max_size=40), st.booleans())
    @settings(max_examples=40, deadline=None, database=None)
    def check(texts: list[str], truncation: bool) -> None:
        options: dict[str, Any] = {"truncation": truncation, "max_length": 9 if truncation else None}
        together = tokenizer([*texts, "<2en>the cat<new>▁▁"], padding=True, **options)
        alone = [tokenizer(text, **options)["input_ids"] for text in [*texts, "<2en>the cat<new>▁▁"]]
        assert together["input_ids"] == tokenizer.pad({"input_ids": alone})["input_ids"]
        assert [sum(mask) for mask in together["attention_mask"]] == [len(ids) for ids in alone]

    check()


@pytest.mark.parametrize("name", ["mixed", "smallest"])
def test_ids_alone_are_those_of_a_call(name: str) -> None:
    tokenizer = MAKERS[name]()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<2en>"]})
    texts = [*ALWAYS, "<2en>the cat", unicodedata.normalize("NFD", "Việt")]
    for batch in (texts, [nfc(text) for text in texts] * 32, []):
        for split in (False, True):
            tokenizer.split_special_tokens = split
            tokenizer(["the cat", "a"], padding=True, truncation=True, max_length=2)  # leaves no trace
            for special in (False, True):
                wanted = [tokenizer(text, add_special_tokens=special)["input_ids"] for text in batch]
                tokenizer(["the cat", "a"], padding=True, truncation=True, max_length=2)
                assert tokenizer.encode_ids(batch, add_special_tokens=special) == wanted
    with tokenizer.bpe_dropout(1.0):
        assert tokenizer.encode_ids(["the cat"]) == [tokenizer("the cat")["input_ids"]]
    with pytest.raises(ValueError, match="lone surrogate U\\+D800 at position 1"):
        tokenizer.encode_ids(["a", "b\ud800"])


def test_decoding_takes_what_models_give(mixed: VanillaTransformerTokenizer) -> None:
    ids = mixed(["the cat", "<s> 猫"], padding=True)["input_ids"]
    texts = ["the cat", "<s> 猫"]
    for batch in (ids, torch.tensor(ids), torch.tensor(ids).numpy(), list(torch.tensor(ids))):
        assert mixed.decode(batch, skip_special_tokens=True) == texts
        assert mixed.batch_decode(batch, skip_special_tokens=True) == texts
    assert mixed.batch_decode(ids, clean_up_tokenization_spaces=False)[1].startswith("<s> 猫</s>")
    assert mixed.decode(torch.tensor(ids[0]), skip_special_tokens=True) == "the cat"
    assert mixed.decode([5 + ord("a"), 2]) == "a</s>"
    for padded in ([5, -100], [[5, -100]]):
        with pytest.raises(ValueError, match=r"must not be negative: replace the -100"):
            mixed.decode(padded)


def test_every_entry_decodes_to_itself(mixed: VanillaTransformerTokenizer) -> None:
    for token, index in mixed.get_vocab().items():
        if token not in BYTES:
            assert mixed.decode([index]) == token
    assert [mixed.decode([5 + byte]) for byte in range(128)] == [chr(byte) for byte in range(128)]
    assert mixed.decode(mixed.convert_tokens_to_ids(["<0xE7>", "<0x8C>", "<0xAB>"])) == "猫"


def test_ids_of_special_and_byte_tokens(mixed: VanillaTransformerTokenizer) -> None:
    assert mixed.convert_ids_to_tokens(list(range(261))) == NAMES + BYTES
    assert mixed.all_special_ids == [1, 2, 3, 0, 4]
    assert mixed.pad_token_id == 0 and mixed.bos_token_id == 1 and mixed.eos_token_id == 2
    assert mixed.unk_token_id == 3 and mixed.mask_token_id == 4
    special = [str(token) for token in mixed.added_tokens_decoder.values() if token.special]
    assert sorted(special) == sorted(NAMES)
    assert set(mixed.get_added_vocab()).isdisjoint(BYTES)


@pytest.mark.parametrize("vocab_size", [SMALLEST, SMALLEST + 1, 280, 300, 330])
def test_vocabulary_has_the_size_asked_for(vocab_size: int) -> None:
    tokenizer = trained(sentences(300), vocab_size)
    assert len(tokenizer) == tokenizer.vocab_size == vocab_size
    assert sorted(tokenizer.get_vocab().values()) == list(range(vocab_size))


def test_vocabulary_is_smaller_when_the_text_runs_out() -> None:
    tokenizer = trained(["ab"] * 3, 1000)
    assert set(tokenizer.get_vocab()) == {*NAMES, *BYTES, "<", "a", "b", "ab"}


@pytest.mark.parametrize(("vocab_size", "told"), [(SMALLEST + 13, True), (SMALLEST + 21, False)])
def test_characters_that_leave_few_entries_to_longer_pieces_are_told(
    vocab_size: int, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Nine letters, the space and the guard take eleven entries."""
    assert len(trained(["abc def ghi abcdefghi"] * 3, vocab_size)) == vocab_size
    lines = [record.getMessage() for record in caplog.records]
    expected = "Single characters take 11 of the 14 entries of the vocabulary .* leaves 3 for longer pieces"
    assert len(lines) == told and all(re.match(expected, line) and "\n" not in line for line in lines)


def test_the_embedded_corpus_has_few_characters_for_the_vocabulary_of_the_demo() -> None:
    draw = random.Random(0)
    pairs = [sample_pair(draw) for _ in range(3000)]
    characters = {character for pair in pairs for character in pair.source + pair.target}
    assert 300 < len(characters) < (2000 - SMALLEST) / 2


def test_rare_characters_have_no_piece() -> None:
    tokenizer = trained(["xx yy xx猫yy"], 270)
    assert "猫" not in tokenizer.get_vocab()
    assert tokenizer.tokenize("猫") == ["<0xE7>", "<0x8C>", "<0xAB>"]
    assert "猫" in trained(["xx yy xx猫yy"], 270, min_frequency=1).get_vocab()


def test_the_most_frequent_characters_come_first() -> None:
    tokenizer = trained(["a" * 9 + "b" * 5 + "c" * 5 + "d" * 4], SMALLEST + 2)
    assert set(tokenizer.get_vocab()) - {*NAMES, *BYTES} == {"<", "a", "b"}


def test_training_is_repeatable() -> None:
    first, second = (trained(sentences(300), 350).backend_tokenizer.to_str() for _ in range(2))
    assert first == second


def test_a_generator_a_list_and_batches_train_alike() -> None:
    lines = list(sentences(90))
    vocabularies = [
        trained(source, 320).get_vocab()
        for source in (lines, iter(lines), tuple(lines), [lines[:40], lines[40:]], iter([lines]))
    ]
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)


def test_pieces_are_made_of_one_kind_of_character(mixed: VanillaTransformerTokenizer) -> None:
    for piece in set(mixed.get_vocab()) - {*NAMES, *BYTES}:
        text = piece.removeprefix(" ")
        kinds = {"P" if unicodedata.category(character)[0] in "PS" else "L" for character in text}
        assert len(kinds) <= 1 and " " not in text
        assert len(text) == 1 or not any(character.isdigit() for character in text)
        assert piece == text or not any("\u4e00" <= character <= "\u9fff" for character in text)


def test_words_are_found_in_chinese_mixed_with_latin(mixed: VanillaTransformerTokenizer) -> None:
    assert mixed.tokenize("学生 the cats 12") == ["学生", " the", " cats", " 1", "2"]
    assert mixed.tokenize("一只, the") == ["一只", ",", " the"]


@pytest.mark.parametrize("name", ["mixed", "smallest", "spelled tokens"])
def test_no_merge_reaches_across_words(name: str) -> None:
    """Encoding whole texts gives what encoding word by word gives, though only training knows words."""
    tokenizer = MAKERS[name]()
    by_words = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    by_words.pre_tokenizer = pre_tokenizers.Split(Regex(module._WORDS), "isolated")

    @given(TEXTS)
    @settings(max_examples=300, deadline=None, database=None)
    def check(text: str) -> None:
        assert tokenizer.encode(text) == by_words.encode(text).ids

    check()


def test_max_token_length() -> None:
    tokenizer = trained(["walking"] * 9, 400, max_token_length=3)
    assert max(len(piece) for piece in set(tokenizer.get_vocab()) - {*NAMES, *BYTES}) == 3


@pytest.mark.parametrize(
    ("lines", "vocab_size", "message"),
    [
        (["a"], 261, "`vocab_size` must be at least 262, but is 261 instead."),
        ([], 300, "there is no text to train on."),
        (["", ""], 300, "there is no text to train on."),
        ("a text", 300, "`lines` must be several texts, but are a single one instead."),
        (["a", 7], 300, "text 2 must be a str, but is a int instead."),
        (["a", ["b", None]], 300, "text 3 must be a str, but is a NoneType instead."),
        (
            ["a\ud800"],
            300,
            "a text must be valid Unicode, but has the lone surrogate U\\+D800 at position 1.",
        ),
    ],
)
def test_training_refuses(lines: Any, vocab_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        trained(lines, vocab_size)


@pytest.mark.parametrize("text", ["ab\udfff", ["a", "ab\udfff"], [("a", "ab\udfff")]])
def test_a_lone_surrogate_is_named(mixed: VanillaTransformerTokenizer, text: Any) -> None:
    with pytest.raises(ValueError, match="lone surrogate U\\+DFFF at position 2"):
        mixed(text)


def test_source_and_target_end_alike(mixed: VanillaTransformerTokenizer) -> None:
    plain = mixed("the cat", add_special_tokens=False)["input_ids"]
    encoded = mixed("the cat", text_target="the cat")
    assert encoded["input_ids"] == encoded["labels"] == [*plain, 2]
    assert 1 not in encoded["input_ids"]
    pair = mixed("the cat", "a dog")["input_ids"]
    assert pair == [*plain, 2, *mixed.encode("a dog")]
    assert mixed.num_special_tokens_to_add() == 1


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        ({}, ["</s>"]),
        ({"add_bos_token": True}, ["<s>", "</s>"]),
        ({"add_bos_token": False}, ["</s>"]),
        ({"add_eos_token": False}, []),
        ({"add_bos_token": True, "add_eos_token": False}, ["<s>"]),
    ],
)
def test_what_stands_around_a_text_is_what_was_asked_for(
    asked: dict[str, Any], tokens: list[str], saved: dict[str, Path], tmp_path: Path
) -> None:
    given = VanillaTransformerTokenizer.from_pretrained(saved["mixed"], **asked)
    later = VanillaTransformerTokenizer.from_pretrained(saved["mixed"])
    for name, value in asked.items():
        setattr(later, name, value)
    given.save_pretrained(tmp_path)
    for tokenizer in (given, later, AutoTokenizer.from_pretrained(tmp_path)):
        assert tokenizer.convert_ids_to_tokens(tokenizer("")["input_ids"]) == tokens
        assert (tokenizer.add_bos_token, tokenizer.add_eos_token) == ("<s>" in tokens, "</s>" in tokens)


def test_what_was_saved_stands_unless_it_is_asked_for_otherwise(
    mixed: VanillaTransformerTokenizer, tmp_path: Path
) -> None:
    own: Any = copy.deepcopy(mixed)
    own.add_bos_token, own.add_eos_token = True, False
    own.save_pretrained(tmp_path)
    cases: tuple[tuple[dict[str, Any], list[str]], ...] = (
        ({"add_eos_token": True}, ["<s>", "</s>"]),
        ({"add_bos_token": False}, []),
    )
    for asked, tokens in cases:
        found = AutoTokenizer.from_pretrained(tmp_path, **asked)
        assert found.convert_ids_to_tokens(found("")["input_ids"]) == tokens


@pytest.mark.parametrize("partial", [False, True])
def test_a_folder_without_a_tokenizer_is_refused(
    partial: bool, saved: dict[str, Path], tmp_path: Path
) -> None:
    VanillaTransformerConfig().save_pretrained(tmp_path)
    if partial:  # as after an interrupted download
        shutil.copy(saved["mixed"] / "tokenizer_config.json", tmp_path)
    for loader in (VanillaTransformerTokenizer, AutoTokenizer):
        with pytest.raises(OSError, match=f"`{tmp_path}` holds no tokenizer: there is no `tokenizer.json`"):
            loader.from_pretrained(tmp_path)


@pytest.mark.parametrize("loader", ["own class", "PreTrainedTokenizerFast"])
def test_padding_and_truncation(loader: str, saved: dict[str, Path]) -> None:
    tokenizer = LOADERS[loader](saved["mixed"])
    batch = tokenizer(["the cat", "the"], padding=True, return_tensors="pt")
    assert list(batch) == ["input_ids", "attention_mask"]
    assert batch["input_ids"][1].tolist() == [*tokenizer.encode("the"), 0]
    assert torch.equal(batch["attention_mask"], (batch["input_ids"] != 0).long())
    cut = tokenizer("the cat sees the dog", max_length=3, truncation=True)["input_ids"]
    assert cut == [*tokenizer.encode("the cat sees the dog")[:2], 2]


def test_offsets_point_into_the_text(mixed: VanillaTransformerTokenizer) -> None:
    text = "the <s> cats, 我有猫 12"
    encoding = mixed(text, return_offsets_mapping=True, add_special_tokens=False)
    assert "".join(text[start:end] for start, end in encoding["offset_mapping"]) == text


def test_dropout_segments_anew_each_time(mixed: VanillaTransformerTokenizer) -> None:
    lines = list(sentences(100, seed=1))
    usual = mixed(lines)["input_ids"]
    with mixed.bpe_dropout(0.3):
        first, second = mixed(lines)["input_ids"], mixed(lines)["input_ids"]
    assert first != second and first != usual
    assert mixed.batch_decode(first, skip_special_tokens=True) == lines
    assert mixed(lines)["input_ids"] == usual


def test_dropout_of_one_leaves_characters(mixed: VanillaTransformerTokenizer) -> None:
    with mixed.bpe_dropout(1.0):
        assert mixed.tokenize(" the 学生") == list(" the 学生")


def test_dropout_ends_with_its_block(mixed: VanillaTransformerTokenizer) -> None:
    with pytest.raises(KeyError), mixed.bpe_dropout(1.0), mixed.bpe_dropout(0.0):
        assert mixed.tokenize(" the") == [" the"]
        raise KeyError
    assert mixed.tokenize(" the") == [" the"]


def test_dropout_is_never_saved(mixed: VanillaTransformerTokenizer, tmp_path: Path) -> None:
    with mixed.bpe_dropout(1.0):
        mixed.save_pretrained(tmp_path)
        assert mixed.tokenize(" the") == [" ", "t", "h", "e"]
    assert json.loads((tmp_path / "tokenizer.json").read_text())["model"]["dropout"] is None
    assert VanillaTransformerTokenizer.from_pretrained(tmp_path).tokenize(" the") == [" the"]


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_dropout_must_be_a_probability(mixed: VanillaTransformerTokenizer, p: float) -> None:
    with (
        pytest.raises(ValueError, match=f"`p` must lie between 0 and 1, but is {p} instead."),
        mixed.bpe_dropout(p),
    ):
        pass


def test_train_new_keeps_the_settings() -> None:
    lines = list(sentences(300, seed=2))
    start = VanillaTransformerTokenizer(model_max_length=77)
    start.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer = start.train_new_from_iterator(lines, 400, new_special_tokens=["<2zh>", "<2en>"])
    assert isinstance(tokenizer, VanillaTransformerTokenizer)
    assert len(tokenizer) == 400 and tokenizer.model_max_length == 77
    assert tokenizer.convert_tokens_to_ids(["<2zh>", "<2en>"]) == [398, 399]
    assert tokenizer.tokenize("<2zh> The <s>") == ["<2zh>", " the", " ", "<", "s", "<0x3E>"]
    again = tokenizer.train_new_from_iterator([lines], 310)
    assert len(again) == 310 and again.convert_tokens_to_ids("<2en>") == 309
    whole = start.train_new_from_iterator(
        lines, 400, new_special_tokens=[AddedToken("<2en>", normalized=False)]
    )
    assert whole.decode([399, *whole("the")["input_ids"]], skip_special_tokens=True) == "the"
    with pytest.raises(ValueError, match="a special token must not be called 'the', which is a piece"):
        start.train_new_from_iterator(lines, 400, special_tokens_map={"<mask>": "the"})


def test_train_new_from_a_loaded_one_has_none_of_its_tokens(tmp_path: Path) -> None:
    start = VanillaTransformerTokenizer.train_from_iterator(sentences(300), vocab_size=400)
    start.add_tokens(["foo"])
    start.save_pretrained(tmp_path)
    loaded = VanillaTransformerTokenizer.from_pretrained(tmp_path)
    new = loaded.train_new_from_iterator(sentences(300), 310, special_tokens_map={"</s>": "[EOS]"})
    assert len(new) == 310 and new.eos_token == "[EOS]"
    assert not {"foo", "</s>"} & set(new.get_vocab())


@pytest.mark.parametrize("loader", [VanillaTransformerTokenizer, AutoTokenizer, PreTrainedTokenizerFast])
def test_a_lower_casing_one_writes_every_text_in_lower_case(loader: Any, tmp_path: Path) -> None:
    trained = VanillaTransformerTokenizer.train_from_iterator(
        ["The CAT sat.", "THE Cat SAT."] * 5, vocab_size=300, lowercase=True
    )
    assert not any(token.isupper() for token in set(trained.get_vocab()) - set(BYTES))
    trained.save_pretrained(tmp_path)
    tokenizer = loader.from_pretrained(tmp_path)
    assert tokenizer("The Cat").input_ids == tokenizer("tHE cAT").input_ids
    for text in [*ALWAYS, "ÀÉ E\u0301 Straße ẞ ΑΣ Ǆ Ⅷ 𐐀 İ", "The CAT"]:
        lowered = unicodedata.normalize("NFC", "".join(character.lower() for character in text))
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == lowered


def test_train_new_from_an_empty_one_is_training(mixed: VanillaTransformerTokenizer) -> None:
    tokenizer = VanillaTransformerTokenizer().train_new_from_iterator(sentences(600), 400)
    assert tokenizer.backend_tokenizer.to_str() == mixed.backend_tokenizer.to_str()


def test_train_new_renames_special_tokens() -> None:
    tokenizer = VanillaTransformerTokenizer().train_new_from_iterator(
        sentences(90), 300, special_tokens_map={"</s>": "<end>"}
    )
    assert tokenizer.eos_token == "<end>" and tokenizer.eos_token_id == 2
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("a"))[-1] == "<end>"
    assert_lossless(tokenizer, "a</s><end>")


def test_train_new_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="initial_alphabet"):
        VanillaTransformerTokenizer().train_new_from_iterator(["a"], 300, initial_alphabet=["a"])


def test_added_tokens_are_found(saved: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = VanillaTransformerTokenizer.from_pretrained(saved["mixed"])
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    tokenizer.add_tokens(["<new>", "猫dog"])
    expected = [" the", "<mask>", "<new>", "猫dog", "<", "s", "<0x3E>"]
    assert tokenizer.tokenize(" the<mask><new>猫dog<s>") == expected
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).tokenize(" the<mask><new>猫dog<s>") == expected


def test_making_one_from_a_vocabulary(mixed: VanillaTransformerTokenizer) -> None:
    model = json.loads(mixed.backend_tokenizer.to_str())["model"]
    tokenizer = VanillaTransformerTokenizer(vocab=model["vocab"], merges=model["merges"])
    assert tokenizer.backend_tokenizer.to_str() == mixed.backend_tokenizer.to_str()
    del model["vocab"]["<0x41>"]
    with pytest.raises(ValueError, match="`vocab` must hold the token '<0x41>', but does not."):
        VanillaTransformerTokenizer(vocab=model["vocab"], merges=[])


def test_the_file_needs_nothing_but_what_the_hub_has() -> None:
    """Of ours it imports only files that travel with it."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    statements = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    imported = {node.module or "." for node in statements if not node.level}
    imported |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    packages = {name.partition(".")[0] for name in imported}
    assert packages - sys.stdlib_module_names <= {"torch", "tokenizers", "transformers"}
    ours = {(node.module or ".").rpartition(".")[2] for node in statements if node.level}
    assert ours <= {path.stem for path in source_files()}
