"""Embeddings from word vectors: the three kinds of file, what matches what, and the size of the rows."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors
from training_toy import toy_model, write_recipe

from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.errors import InputError
from vanilla_transformer.training import embed_word_vectors, load_recipe, load_word_vectors, train

WORDS = ["the", "cat", "猫", "ing", "</s>", "<0x41>"]
LINES = ["the cat is sitting", "The cat sings", "a cat was doing the thing", "猫猫"] * 5


def word_vectors(width: int = 16) -> Any:
    vectors = KeyedVectors(width)
    draw = np.random.default_rng(0)
    vectors.add_vectors(WORDS, draw.normal(0.3, 2.0, (len(WORDS), width)).astype(np.float32))
    return vectors


def write(kind: str, folder: Path, width: int = 16) -> Path:
    vectors = word_vectors(width)
    path = folder / ("vectors.bin" if kind == "binary" else "vectors.txt")
    if kind == "glove":
        lines = [f"{word} {' '.join(f'{x:.6f}' for x in vectors[word])}" for word in WORDS]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        vectors.save_word2vec_format(str(path), binary=kind == "binary")
    if kind == "packed":
        packed = path.with_suffix(".txt.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        return packed
    return path


@pytest.fixture(scope="module")
def tokenizer() -> VanillaTransformerTokenizer:
    return VanillaTransformerTokenizer.train_from_iterator(LINES, vocab_size=400)


@pytest.mark.parametrize("kind", ["text", "binary", "glove", "packed"])
def test_every_kind_of_file_is_read(kind: str, tmp_path: Path) -> None:
    loaded = load_word_vectors(write(kind, tmp_path))
    assert loaded.index_to_key == WORDS
    np.testing.assert_allclose(loaded.vectors, word_vectors().vectors, atol=1e-6)


def test_a_damaged_packed_file_is_named(tmp_path: Path) -> None:
    path = write("packed", tmp_path, width=4000)
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half:] = bytes(len(content) - half)
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a whole file of word vectors"):
        load_word_vectors(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_words_of_glove_may_hold_spaces(tmp_path: Path, end: str) -> None:
    path = tmp_path / "glove.txt"
    lines = ["the 0.1 0.2", ". . . 0.3 0.4", "at name@domain.com 0.5 0.6", "the 7 8", "cat -1e-2 1"]
    path.write_text("".join(line + end for line in lines), newline="")
    loaded = load_word_vectors(path)
    assert loaded.index_to_key == ["the", ". . .", "at name@domain.com", "cat"]
    wanted = [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [-0.01, 1]]
    np.testing.assert_allclose(loaded.vectors, wanted, rtol=1e-6)
    for wrong in ("cat 0.5", "a cat 0.5"):
        path.write_text(f"the 0.1 0.2\n{wrong}\n")
        with pytest.raises(InputError, match=r"word vectors: line 2 holds no vector of 2 numbers\.$"):
            load_word_vectors(path)


def test_rows_are_matched_and_scaled_and_the_others_stay(
    tokenizer: VanillaTransformerTokenizer, tmp_path: Path
) -> None:
    vocabulary = tokenizer.get_vocab()
    wanted = {" the": "the", "The": "the", " cat": "cat", "猫": "猫", "ing": "ing"}
    assert {" the", "The", " cat", "猫", "ing", "the"} <= set(vocabulary)
    model: Any = toy_model(vocab_size=len(tokenizer))
    before = model.get_input_embeddings().weight.detach().clone()
    report = embed_word_vectors(model, tokenizer, write("glove", tmp_path))
    after = model.get_input_embeddings().weight.detach()
    changed = {piece for piece, row in vocabulary.items() if not after[row].equal(before[row])}
    assert changed == set(wanted), "not `the` inside of words, nor </s>, nor a byte"
    assert (report.matched, report.unmatched) == (5, len(tokenizer) - 5)
    assert str(report).startswith("word vectors for 5 of ")
    rows = torch.tensor(np.stack([word_vectors()[word] for word in wanted.values()]))
    factor = 16**-0.5 / rows.square().mean().sqrt()
    torch.testing.assert_close(
        after[[vocabulary[piece] for piece in wanted]], rows * factor, rtol=1e-4, atol=1e-5
    )
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_a_vocabulary_of_whole_words_and_a_matrix_of_its_own(tiny_tokenizer: Any) -> None:
    model: Any = toy_model(vocab_size=len(tiny_tokenizer), share_encoder_decoder_embeddings=False)
    vectors = KeyedVectors(16)
    vectors.add_vectors(["w1", "absent"], np.ones((2, 16), np.float32))
    target = model.model.decoder.embed_tokens
    source = model.get_input_embeddings().weight.detach().clone()
    assert embed_word_vectors(model, tiny_tokenizer, vectors, embeddings=target).matched == 2
    for word in ("w1", "W1"):
        row = target.weight[tiny_tokenizer.convert_tokens_to_ids(word)]
        torch.testing.assert_close(row, torch.full((16,), 0.25))
    assert model.get_input_embeddings().weight.equal(source)


def test_what_cannot_be_used_is_named(tokenizer: VanillaTransformerTokenizer, tmp_path: Path) -> None:
    model: Any = toy_model(vocab_size=len(tokenizer))
    with pytest.raises(InputError, match=r"vectors\.txt` must hold vectors of `d_model` \(16\) .* have 8\."):
        embed_word_vectors(model, tokenizer, write("text", tmp_path, width=8))
    with pytest.raises(InputError, match=r"absent\.txt` does not exist"):
        load_word_vectors(tmp_path / "absent.txt")
    (tmp_path / "prose.txt").write_text("no vectors here\nnone\n")
    with pytest.raises(InputError, match=r"prose\.txt` is not a file of word vectors"):
        load_word_vectors(tmp_path / "prose.txt")
    for kind in ("text", "binary"):
        whole = write(kind, tmp_path)
        whole.write_bytes(whole.read_bytes()[:-70])
        with pytest.raises(InputError, match=f"{whole.name}` is not a whole file of word vectors") as caught:
            load_word_vectors(whole)
        assert "\n" not in str(caught.value)
    for number in (0.0, float("nan")):
        useless = KeyedVectors(16)
        useless.add_vectors(["cat"], np.full((1, 16), number, np.float32))
        with pytest.raises(InputError, match="must hold finite vectors that are not all zero"):
            embed_word_vectors(model, tokenizer, useless)
    foreign = KeyedVectors(16)
    foreign.add_vectors(["xyzzy"], np.ones((1, 16), np.float32))
    with pytest.raises(InputError, match="has a vector for no piece"):
        embed_word_vectors(model, tokenizer, foreign)


def test_a_recipe_starts_from_vectors_and_keeps_them(tmp_path: Path, capsys: Any) -> None:
    vectors = KeyedVectors(16)
    vectors.add_vectors(["w", "n"], np.eye(2, 16, dtype=np.float32))
    vectors.save_word2vec_format(str(tmp_path / "v.txt"))
    changes: dict[str, Any] = {
        "word_vectors": str(tmp_path / "v.txt"), "freeze": ["embeddings"], "max_steps": 1,
        "eval_steps": 1, "save_steps": 1,
    }  # fmt: skip
    result = train(load_recipe(write_recipe(tmp_path, **changes)))
    assert "Embeddings: word vectors for " in capsys.readouterr().out
    tokenizer = VanillaTransformerTokenizer.from_pretrained(result.output_dir)
    model: Any = type(toy_model()).from_pretrained(result.output_dir)
    row = model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(" w")]
    assert (row.count_nonzero(), row[0].item()) == (1, pytest.approx(1.0)), "16^-0.5 / rms 0.25"


def test_vectors_and_a_model_to_start_from_contradict_each_other() -> None:
    with pytest.raises(InputError, match="`init_from` and `word_vectors` must not both be given"):
        load_recipe("demo", ["--init_from", "model", "--word_vectors", "v.txt"])
