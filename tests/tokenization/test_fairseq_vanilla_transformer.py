"""Words and pieces as subword-nmt itself has them; saving, copying, both sides, refusals."""

import ast
import copy
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from vanilla_transformer import FairseqTokenizer
from vanilla_transformer.modeling.saving_vanilla_transformer import source_files
from vanilla_transformer.tokenization import fairseq_vanilla_transformer as module

PIECES = Path(__file__).parents[1] / "interop" / "fairseq_fixture" / "pieces.json"
SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
SOURCE = SPECIAL | {token: 4 + number for number, token in enumerate(["ba@@", "do", "ke", "</s@@", ">"])}
TARGET = SPECIAL | {token: 4 + number for number, token in enumerate(["ke", "li@@", "ta"])}
CODES = ["#version: 0.2", "b a", "d o</w>", "k e</w>", "l i", "t a</w>", "< /", "</ s"]


def tokenizer(**changes: Any) -> FairseqTokenizer:
    return FairseqTokenizer(**{"vocab": SOURCE, "target_vocab": TARGET, "merges": CODES} | changes)


def test_words_are_split_as_subword_nmt_splits_them() -> None:
    known = json.loads(PIECES.read_text("utf-8"))
    codes = known["codes"]
    # fastBPE writes no version, but how often a pair was seen.
    fast = [f"{line} 7" for line in codes["later"][1:]]
    for lines, pieces in ((codes["later"], "later"), (codes["earlier"], "earlier"), (fast, "later")):
        words = tokenizer(merges=lines)
        found = [" ".join(words.tokenize(word)) for word in known["words"]]
        assert found == known["pieces"][pieces]
        assert words.convert_tokens_to_string(" ".join(found).split()) == " ".join(known["words"])


def test_each_side_has_its_vocabulary() -> None:
    words = tokenizer()
    encoded = words(["bado ke", "ke lita"], text_target=["ke lita", "bado"])
    assert encoded["input_ids"] == [[4, 5, 6, 2], [6, 3, 3, 2]]
    assert encoded["labels"] == [[4, 5, 6, 2], [3, 3, 2]]
    assert words.decode([2, 4, 5, 6, 2, 1], skip_special_tokens=True) == "ke lita"
    assert tokenizer(target_vocab=None)(text_target="bado")["input_ids"] == [4, 5, 2]


def test_text_is_text_and_spaces_part_words() -> None:
    words = tokenizer()
    # White space other than a space is a letter to subword-nmt, and nothing to fairseq.
    assert words.tokenize("  bado\tke \n") == ["ba@@", "d@@", "o@@", "@@", "ke"]
    assert words("</s>")["input_ids"] == [7, 8, 2]
    assert words("")["input_ids"] == words(" \n")["input_ids"] == [2]


def test_it_is_saved_copied_and_padded(tmp_path: Path) -> None:
    words = tokenizer()
    words.save_pretrained(tmp_path)
    again: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(again, FairseqTokenizer)
    for other in (again, copy.deepcopy(words), pickle.loads(pickle.dumps(words))):
        batch = other(["bado ke", "ke"], text_target=["lita", "ke"], padding=True)
        assert batch["input_ids"] == [[4, 5, 6, 2], [6, 2, 1, 1]]
        assert batch["attention_mask"] == [[1, 1, 1, 1], [1, 1, 0, 0]]
        assert batch["labels"][0] == [5, 6, 2]
    again.save_pretrained(tmp_path / "twice")
    for name in ("vocab.json", "target_vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (tmp_path / "twice" / name).read_text() == (tmp_path / name).read_text()
    plain = FairseqTokenizer(vocab=SOURCE)
    plain.save_pretrained(tmp_path / "plain")
    assert AutoTokenizer.from_pretrained(tmp_path / "plain")("ke bado")["input_ids"] == [6, 3, 2]
    assert not (tmp_path / "plain" / "merges.txt").exists()


def test_moses_has_its_own_languages() -> None:
    words = tokenizer(vocab=SOURCE, merges=None, moses=True, source_lang="fr", target_lang="en")
    assert words.tokenize("l'ami") == ["l&apos;", "ami"]
    words._switch_to_target_mode()
    assert words.tokenize("don't") == ["don", "&apos;t"]
    assert words.convert_tokens_to_string(["don", "&apos;t", "!"]) == "don't!"


@pytest.mark.parametrize("name", ["target_vocab.json", "merges.txt"])
def test_a_folder_that_lost_a_file_is_refused(name: str, tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"`{name}` is missing, which this tokenizer was saved with"):
        FairseqTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab": {}}, "`vocab` must be given."),
        ({"merges": ["a b", "c"]}, "line 2 of `merges` must be a pair of pieces, but is 'c' instead."),
        ({"merges": ["a b c"]}, "line 1 of `merges` must be a pair of pieces, but is 'a b c' instead."),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        tokenizer(**settings)
    assert str(caught.value) == message


def test_the_file_travels() -> None:
    """It is among the files that go with a model, and imports only what is there."""
    assert module.__file__ is not None
    nodes = list(ast.walk(ast.parse(Path(module.__file__).read_text("utf-8"))))
    imported = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    imported |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    packages = {name.partition(".")[0] for name in imported}
    assert packages - sys.stdlib_module_names == {"transformers"}
    assert Path(module.__file__).name in {path.name for path in source_files()}


def test_use_leaves_nothing_in_its_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """By which the cache of `datasets` goes."""
    words = tokenizer()
    before = pickle.dumps(words)
    assert words.decode(words(text_target="ke lita")["input_ids"]) and words("bado ke")["input_ids"]
    assert pickle.dumps(words) == before
    monkeypatch.setattr(module, "REMEMBERED_WORDS", 2)
    words = tokenizer()
    assert words("bado ke lita bado")["input_ids"] == tokenizer()("bado ke lita bado")["input_ids"]
    assert len(words._pieces) <= 2


def test_an_added_token_counts() -> None:
    words = tokenizer()
    words.add_tokens(["<new>"])
    assert len(words) == len(SOURCE) + 1 and words.get_vocab()["<new>"] == len(SOURCE)
    words.add_tokens(["<new>er"])
    assert words("bado <new> ke<new>er")["input_ids"] == [4, 5, 9, 6, 10, 2]
    assert words.decode([9, 2], skip_special_tokens=True) == "<new>"


def test_what_a_folder_holds_of_another_vocabulary_goes(tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path)
    (tmp_path / "notes.txt").write_text("kept")
    FairseqTokenizer(vocab=SOURCE).save_pretrained(tmp_path)
    again: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert (again.merges, again.target_vocab) == (None, {})
    assert (tmp_path / "notes.txt").read_text() == "kept"


def test_no_token_is_added_in_the_place_of_one_of_the_target() -> None:
    words = tokenizer(vocab=TARGET, target_vocab=SOURCE)
    for token, number, other in (("<new>", 7, "</s@@"), ("ke", 4, "ba@@")):
        with pytest.raises(ValueError, match="cannot be added") as caught:
            words.add_tokens([token])
        assert (
            str(caught.value) == f"{token!r} cannot be added: its id, {number}, is {other!r} for the target."
        )
        with pytest.raises(ValueError, match="cannot be added"):
            words.add_special_tokens({"extra_special_tokens": [token]})
        assert words.convert_ids_to_tokens(number) == other
    assert words.add_tokens("</s>") == 0
    assert tokenizer(target_vocab=None).add_tokens(["<new>", "ke"]) == 1
