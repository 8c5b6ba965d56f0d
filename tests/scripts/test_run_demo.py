"""The demo: its table, its scores by halves, and the whole of it on a corpus of a moment."""

from functools import partial
from pathlib import Path

import pytest

from vanilla_transformer.errors import InputError
from vanilla_transformer.scripts import run_demo, translate
from vanilla_transformer.training import embedded_corpus
from vanilla_transformer.training.embedded_corpus import EmbeddedCorpus, build_corpus

SMALL_RUN = """
    --vocab_size 700 --model.d_model 16 --model.encoder_layers 1 --model.decoder_layers 1
    --model.encoder_attention_heads 2 --model.decoder_attention_heads 2 --model.encoder_ffn_dim 16
    --model.decoder_ffn_dim 16 --tokens_per_update 400 --tokens_per_device 400 --max_steps 2
    --eval_steps 2 --warmup_steps 2 --logging_steps 1 --tensorboard false --generation.num_beams 1
"""
SMALL = SMALL_RUN.split()


@pytest.fixture(scope="module")
def corpus() -> EmbeddedCorpus:
    """The corpus, but small."""
    return build_corpus(train_size=1500, valid_size=8, test_size=12)


def test_the_corpus_lies_in_the_output_folder() -> None:
    recipe = run_demo.demo_recipe(["--output_dir", "elsewhere", "--seed", "4"])
    assert recipe.train_source == str(Path("elsewhere/corpus/train.zh"))
    assert recipe.valid_target == str(Path("elsewhere/corpus/valid.en"))
    assert (recipe.output_dir, recipe.seed) == ("elsewhere", 4)
    assert run_demo.demo_recipe([]).train_target == str(Path("runs/demo/corpus/train.en"))
    with pytest.raises(InputError, match="unknown key `outputdir`; did you mean `output_dir`"):
        run_demo.demo_recipe(["--outputdir", "elsewhere"])


def test_each_half_has_scores_of_its_own(corpus: EmbeddedCorpus) -> None:
    perfect = [pair.target for pair in corpus.test]
    half = len(corpus.test_seen)
    wrong = [*perfect[:half], *("no" for _ in perfect[half:])]
    assert [round(bleu) for bleu, _ in run_demo.score_parts(corpus, perfect).values()] == [100, 100, 100]
    whole, seen, new = run_demo.score_parts(corpus, wrong).values()
    assert seen[0] == pytest.approx(100)
    assert new[0] < 1
    assert new[0] < whole[0] < seen[0]


def test_a_model_that_lower_cases_is_scored_without_case(corpus: EmbeddedCorpus) -> None:
    lower = [pair.target.lower() for pair in corpus.test]
    assert [round(bleu) for bleu, _ in run_demo.score_parts(corpus, lower, lowercase=True).values()] == [
        100
    ] * 3
    assert run_demo.score_parts(corpus, lower)["all test sentences"][0] < 90


def test_the_table_shows_the_named_sentences_and_both_halves(corpus: EmbeddedCorpus) -> None:
    rows = run_demo.examples(corpus, [pair.target for pair in corpus.test])
    assert rows[0] == ("我有一只猫。", "I have a cat.", "I have a cat.")
    assert rows[1] == ("我是一个学生。", "I am a student.", "I am a student.")
    assert {row[0] for row in rows} & {pair.source for pair in corpus.test_new}
    assert all(reference == translation for _, reference, translation in rows)


def test_from_nothing_to_a_model_and_once_more(
    corpus: EmbeddedCorpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(embedded_corpus, "build_corpus", lambda: corpus)
    command = ["--output_dir", str(tmp_path / "demo"), *SMALL]
    assert run_demo.main(command) == 0
    shown = capsys.readouterr().out
    for text in (
        "1,500 pairs to train on, 12 to test",
        "all test sentences",
        "new combinations",
        "BLEU",
        "chrF",
    ):
        assert text in shown
    assert "我是一个学生。" in shown
    lines = shown.strip().splitlines()[-3:]
    exec("\n".join(lines), {})
    assert capsys.readouterr().out.endswith("\n")
    assert run_demo.main(command) == 0
    again = capsys.readouterr().out
    assert "is finished after 2 steps" in again
    assert scores_of(again) == scores_of(shown)


def scores_of(shown: str) -> list[str]:
    return [line for line in shown.splitlines() if "BLEU" in line and "chrF" in line]


def test_a_model_that_learned_too_little_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    status = partial(run_demo._status, {"all": (95.0, 97.0), "  new": (80.04, 90.0)})
    assert status(as_packaged=True) == 2
    assert capsys.readouterr().err == (
        "error: the demo should reach a BLEU of 90 everywhere, but reached 80.0 (new).\n"
    )
    assert status(as_packaged=False) == 0
    assert run_demo._status({"all": (95.0, 97.0), "  new": (90.0, 97.0)}, as_packaged=True) == 0


@pytest.mark.parametrize("words", [["--seed"], ["--sed", "1"], ["runs/no-such-model"]])
def test_refusals_are_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1


def test_a_folder_of_another_run_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: 2\n")
    assert run_demo.main(["--output_dir", str(tmp_path)]) == 2
    assert "holds a run with another recipe" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.slow
def test_the_demo_as_it_is_packaged_learns_to_translate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The main job of the README, minutes of training: status 0 says that it has 90 BLEU."""
    monkeypatch.chdir(tmp_path)
    assert run_demo.main([]) == 0
    capsys.readouterr()
    assert translate.main(["--model", "runs/demo", "我有一只猫。"]) == 0
    assert capsys.readouterr().out == "I have a cat.\n"
