"""Two senses of 苹果 on the road, BLEU by length, and the pictures of both."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vanilla_transformer.lineage import road
from vanilla_transformer.lineage.pictures import plot_lengths, plot_losses, plot_scores, spread_out
from vanilla_transformer.lineage.senses import (
    HELD_OUT_FRAMES,
    SHOWN_FRAMES,
    WORD,
    sense_cosines,
    sense_sentences,
    split_sentences,
    vectors_in_context,
)
from vanilla_transformer.scripts import compare_lineage
from vanilla_transformer.scripts.support.corpora import CORPUS_FILES
from vanilla_transformer.training.arguments import CPU_TOKENS

SETTINGS = {"vocab_size": 340, "steps": 2, "tokens_per_update": 400, "width": 8}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A corpus that has 苹果 in it, and too little of it to learn anything in two steps."""
    path = tmp_path_factory.mktemp("senses") / "text"
    sentences = [*sense_sentences(SHOWN_FRAMES), *sense_sentences(HELD_OUT_FRAMES)]
    path.write_text("".join(f"{text}\n" for text, _ in sentences), encoding="utf-8")
    return dict.fromkeys(CORPUS_FILES, str(path))


@pytest.fixture(scope="module")
def experiment(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return road.prepare(files, tmp_path_factory.mktemp("experiment"), **SETTINGS)


@pytest.mark.parametrize(("frames", "least"), [(SHOWN_FRAMES, 100), (HELD_OUT_FRAMES, 70)])
def test_the_frames_give_the_word_once_in_either_sense(frames: dict[str, Any], least: int) -> None:
    sentences = dict(sense_sentences(frames))
    for sense in ("fruit", "company"):
        chosen = [text for text in sentences if sentences[text] == sense]
        assert len(chosen) > least
        assert all(text.count(WORD) == 1 and "{" not in text for text in chosen)


def test_the_word_stands_first_and_last_in_either_sense_in_all_frames_together() -> None:
    sentences = [*sense_sentences(SHOWN_FRAMES), *sense_sentences(HELD_OUT_FRAMES)]
    for stands in (lambda text: text.startswith(WORD), lambda text: text.endswith(f"{WORD}。")):
        for sense in ("fruit", "company"):
            assert {stands(text) for text, found in sentences if found == sense} == {True, False}


def test_cosines_by_hand() -> None:
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [3.0, 4.0]])
    found = sense_cosines(vectors, ["fruit", "fruit", "company", "company"])
    assert found["within"] == pytest.approx((1 + 0.8) / 2)  # (1, 2) and (3, 4)
    assert found["across"] == pytest.approx((0 + 0.6 + 0 + 0.6) / 4)


def test_elmo_reads_some_sentences_and_is_asked_about_others(
    experiment: Any, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, held_out = split_sentences(experiment.tokenizer)
    assert not set(shown) & set(held_out) and len(shown) > len(held_out) > 80
    options = [word for name, value in (files | SETTINGS).items() for word in (f"--{name}", str(value))]
    options += ["--target_lang", "en", "--models", "elmo", "--output_dir", str(tmp_path)]
    assert compare_lineage.main(options) == 0
    found = json.loads((tmp_path / "senses.json").read_text("utf-8"))
    assert found["senses"]["sentences"] == len(held_out)
    without, *layers = found["senses"]["layers"]
    assert without["within"] == pytest.approx(1) and without["across"] == pytest.approx(1)
    assert len(layers) == 2 and all(layer["within"] != layer["across"] for layer in layers)
    assert sum(layer["weight"] for layer in (without, *layers)) == pytest.approx(1)
    companies = sum(sense == "company" for _, sense in held_out) / len(held_out)
    one_answer = [pytest.approx(companies), pytest.approx(1 - companies)]
    assert without["accuracy"] in one_answer, "without context all sentences get one answer"
    assert found["table"]["rows"][0][:3] == ["0", "1.00", "1.00"]
    assert (tmp_path / "senses.png").read_bytes().startswith(b"\x89PNG")
    line = (
        f"in {len(held_out)} unseen sentences, mean cosine within a sense and across, and how often a"
        " classifier names the sense: layer 0 1.00 and 1.00, "
    )
    assert line in capsys.readouterr().out


def test_accumulation_does_not_change_the_loss_of_elmo(experiment: Any) -> None:
    """The Trainer divides by the passes of an update, for the labels that it counts are of the target."""
    vocabulary = math.log(len(experiment.tokenizer))
    for tokens in (CPU_TOKENS, 3 * CPU_TOKENS):
        changed = replace(experiment, tokens_per_update=tokens, steps=1)
        row = road.neural_row(changed, road.build_elmo, f"elmo{tokens}")
        assert row["loss_by_step"][1] == pytest.approx(vocabulary, rel=0.1)


def test_the_vector_is_that_of_the_word_in_its_place(experiment: Any) -> None:
    model: Any = road.build_elmo(experiment).eval()
    texts = ["我吃了一个苹果。", "苹果卖了很多手机。"]
    found = vectors_in_context(model, experiment.tokenizer, texts)
    for k, text in enumerate(texts):
        ids = experiment.tokenizer(text, return_tensors="pt")
        place = ids.input_ids[0].tolist().index(experiment.tokenizer.get_vocab()[WORD])
        alone = torch.stack(model.layers(ids.input_ids, ids.attention_mask))[:, 0, place]
        assert torch.allclose(found[:, k], alone, atol=1e-6)


def test_without_the_word_there_is_nothing_to_ask(tiny_tokenizer: Any) -> None:
    assert split_sentences(tiny_tokenizer) == ([], [])


def test_ranges_of_lengths_have_enough_sentences() -> None:
    lengths = [5] * 20 + [6] * 5 + [9] * 19 + [30] * 40
    found = road.rows_by_length(lengths)
    assert {name: len(rows) for name, rows in found.items()} == {"1-6": 25, "over 24": 40}
    assert found["1-6"] == list(range(25))


def test_pictures_of_what_there_is(tmp_path: Path) -> None:
    rows = {
        "ngram1": {"title": "1-gram", "perplexity": 90.0},
        "gru": {"title": "GRU", "perplexity": 9.0, "bleu": 30.0, "loss_by_step": {"10": 5.0, "20": 4.0}},
    }
    rows["gru"]["bleu_by_length"] = {"1-6": 35.0, "7-8": 25.0}
    plot_scores(rows, tmp_path / "scores.png")
    plot_losses(rows, tmp_path / "losses.png")
    plot_lengths(rows, {"1-6": 40, "7-8": 30}, tmp_path / "lengths.png")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 3
    del rows["gru"]
    assert plot_losses(rows, tmp_path / "none.png") is None
    assert plot_lengths(rows, {}, tmp_path / "none.png") is None
    assert not (tmp_path / "none.png").exists()


def test_labels_have_room() -> None:
    points = torch.tensor([[0.0, 0.0], [5.0, 0.01], [0.0, 1.0], [0.0, 0.5], [1.0, 0.96]]).numpy()
    assert spread_out(points) == [0, 2, 3]
