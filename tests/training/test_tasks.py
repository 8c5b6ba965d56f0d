"""Whole runs of language models and classifiers, what they leave behind, and where they start from."""

import csv
import dataclasses
import gzip
import json
import math
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from datasets import Dataset
from helpers import parallel_sentences, word_tokenizer
from safetensors.torch import load_file
from training_toy import of_one_stack
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
    pipeline,
)

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.errors import InputError
from vanilla_transformer.modeling.generation_vanilla_transformer import PAPER_DECODING, set_decoding
from vanilla_transformer.training import TrainResult, train
from vanilla_transformer.training.recipe import ClassifierRecipe, LanguageModelRecipe, TrainRecipe
from vanilla_transformer.training.tasks import TranslationTask, task_of

SMALL: dict[str, Any] = {
    "vocab_size": 300, "tokens_per_update": 400, "tokens_per_device": 200, "max_steps": 6, "warmup_steps": 10,
    "eval_steps": 3, "save_steps": 3, "logging_steps": 1, "tensorboard": False, "final_model": "last",
    "model": {
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "dropout": 0.2,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with texts, plain and packed, and with labelled ones whose label a word tells."""
    folder = tmp_path_factory.mktemp("data")
    lines = [source for source, _ in parallel_sentences(60)]
    with gzip.open(folder / "train.txt.gz", "wt", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    (folder / "valid.txt").write_text("".join(f"{line}\n" for line in lines[:7]) + "\n", encoding="utf-8")
    for name, count in (("train.csv", 60), ("valid.csv", 12)):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(
                (f"x {lines[k]}", "cross") if k % 3 else (f"o {lines[k]}", "ring") for k in range(count)
            )
    return folder


def language_model(data: Path, output: Path, **changes: Any) -> LanguageModelRecipe:
    files = {"train_text": str(data / "train.txt.gz"), "valid_text": str(data / "valid.txt")}
    values = SMALL | files | {"output_dir": str(output)} | changes
    model = of_one_stack(values["model"], masked=values.get("objective") == "masked")
    return LanguageModelRecipe(**values | {"model": model})


def classifier(data: Path, output: Path, **changes: Any) -> ClassifierRecipe:
    files = {"train_file": str(data / "train.csv"), "valid_file": str(data / "valid.csv")}
    values = SMALL | files | {"output_dir": str(output)} | changes
    return ClassifierRecipe(**values | {"model": of_one_stack(values["model"], masked=True)})


def test_a_causal_model_is_trained_and_its_perplexity_is_right(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = language_model(data, tmp_path / "run", samples=2, prompts=["w1 w2"])
    result = train(recipe)
    shown = capsys.readouterr().out
    assert "Validation data: 7 pieces of 8 texts; 1 empty" in shown
    assert [line.startswith(f"step {step}: w1 w2") for step in (3, 6) for line in shown.splitlines()].count(
        True
    ) == 4
    model: Any = AutoModelForCausalLM.from_pretrained(result.output_dir)
    tokenizer = AutoTokenizer.from_pretrained(result.output_dir)
    assert (model.generation_config.do_sample, model.generation_config.max_new_tokens) == (True, 40)
    retrained = tokenizer.train_new_from_iterator(["w1 w2"] * 9, vocab_size=300)
    assert retrained("w1")["input_ids"][0] == 1 and retrained("w1")["input_ids"][-1] != 2
    total, count = 0.0, 0
    for line in (data / "valid.txt").read_text().split("\n")[:7]:
        ids = torch.tensor([[*tokenizer(line)["input_ids"], 2]])
        assert ids[0, 0] == 1
        with torch.no_grad():
            log_p = model.eval()(ids[:, :-1]).logits.double().log_softmax(-1)
        total -= log_p.gather(-1, ids[:, 1:, None]).sum().item()
        count += ids.shape[1] - 1
    assert result.scores["final"]["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    (written,) = pipeline("text-generation", str(result.output_dir))("w1 w2", do_sample=False)
    continued = model.generate(torch.tensor([tokenizer("w1 w2")["input_ids"]]), do_sample=False)
    assert written["generated_text"] == tokenizer.decode(continued[0], skip_special_tokens=True)
    assert train(recipe).finished_before
    again = language_model(data, tmp_path / "again", init_from=str(result.output_dir), model={}, max_steps=3)
    assert train(again).scores["final"]["perplexity"] < 1.5 * result.scores["final"]["perplexity"]
    with pytest.raises(InputError, match="these keys differ: objective, join_lines"):
        train(
            language_model(
                data, tmp_path / "run", samples=2, prompts=["w1 w2"], objective="masked", join_lines=True
            )
        )


def test_a_masked_model_resumes_to_the_bit(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 5:
                raise KeyboardInterrupt

    changes: dict[str, Any] = {"objective": "masked", "max_steps": 9, "samples": 1}
    whole = train(language_model(data, tmp_path / "whole", **changes))
    assert "step 9: " in capsys.readouterr().out
    halted = language_model(data, tmp_path / "halted", **changes)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("vanilla_transformer.training.run._callbacks", lambda *args, **kwargs: [Stop()])
        train(halted)
    resumed = train(halted)
    assert (resumed.steps, resumed.scores) == (9, whole.scores)
    weights, wanted = (load_file(run.output_dir / "model.safetensors") for run in (resumed, whole))
    assert all(weights[name].equal(wanted[name]) for name in wanted)
    model = AutoModelForMaskedLM.from_pretrained(whole.output_dir)
    tokenizer = AutoTokenizer.from_pretrained(whole.output_dir)
    best, *_ = pipeline("fill-mask", str(whole.output_dir))("w1 <mask> w3")
    ids = tokenizer("w1 <mask> w3", return_tensors="pt")["input_ids"]
    assert best["token"] == model(ids).logits[ids == 4].argmax().item()
    # The mask stands for a piece with the space in front of it.
    assert ids.tolist() == tokenizer("w1<mask> w3", return_tensors="pt")["input_ids"].tolist()


@pytest.fixture(scope="module")
def classified(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    changes: dict[str, Any] = {
        "max_steps": 60, "eval_steps": 20, "save_steps": 20, "learning_rate_scale": 0.6,
        "final_model": "best",
    }  # fmt: skip
    return train(classifier(data, tmp_path_factory.mktemp("classified") / "run", **changes))


def test_a_classifier_learns_and_names_its_classes(classified: TrainResult) -> None:
    assert set(classified.scores["final"]) == {"loss", "accuracy", "f1"}
    assert classified.scores["final"]["accuracy"] == 1.0
    results = json.loads((classified.output_dir / "results.json").read_text())
    assert results["scores"] == classified.scores
    model: Any = AutoModelForSequenceClassification.from_pretrained(classified.output_dir)
    tokenizer: Any = AutoTokenizer.from_pretrained(classified.output_dir)
    assert model.config.id2label == {0: "cross", 1: "ring"}
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
    assert [found["label"] for found in classify(["o w1 w2", "x w1 w2"])] == ["ring", "cross"]


def test_a_blank_validation_file_is_told_as_such(data: Path, tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "blank.csv").write_text("text,label\n ,ring\n")
    for recipe in (
        language_model(data, tmp_path / "run", valid_text=str(tmp_path / "blank.txt")),
        classifier(data, tmp_path / "run", valid_file=str(tmp_path / "blank.csv")),
    ):
        with pytest.raises(InputError, match=r"^validation data: no text is left: 0 pieces of"):
            train(recipe)


@pytest.mark.parametrize(
    ("recipe", "changes", "keys"),
    [
        (language_model, {}, "`max_length`"),
        (classifier, {"long_texts": "keep"}, "`max_length` and `long_texts`"),
    ],
)
def test_a_text_longer_than_a_batch_is_told_with_the_keys_of_its_recipe(
    recipe: Any, changes: dict[str, Any], keys: str, data: Path, tmp_path: Path
) -> None:
    small = {"tokens_per_update": 5, "tokens_per_device": 5}
    with pytest.raises(
        InputError, match=rf"^Text \d+ has \d+ tokens, .* limit the lengths by {keys}, or raise"
    ):
        train(recipe(data, tmp_path / "run", **small, **changes))


def test_a_classifier_is_no_start_for_other_many_classes(
    data: Path, classified: TrainResult, tmp_path: Path
) -> None:
    three = tmp_path / "three.csv"
    three.write_text((data / "train.csv").read_text("utf-8") + "y w1 w2,fork\n", "utf-8")
    changes: dict[str, Any] = {"init_from": str(classified.output_dir), "model": {}, "max_steps": 3}
    message = r"the training data have 3 labels, but `num_labels` of the model `.*run` is 2"
    with pytest.raises(InputError, match=message) as caught:
        train(classifier(data, tmp_path / "run", train_file=str(three), **changes))
    assert "\n" not in str(caught.value)
    assert train(classifier(data, tmp_path / "run", **changes)).steps == 3


def test_a_classifier_whose_classes_stand_in_another_order_is_told(
    data: Path, classified: TrainResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes: dict[str, Any] = {"model": {}, "max_steps": 1, "eval_steps": 1, "save_steps": 1}
    start = tmp_path / "start"
    shutil.copytree(classified.output_dir, start, ignore=shutil.ignore_patterns("checkpoint-*"))
    for name, told in (("same", False), ("other", True)):
        train(classifier(data, tmp_path / name, init_from=str(start), **changes))
        assert ("have other names, or another order" in caplog.text) is told
        config = json.loads((start / "config.json").read_text())
        config["id2label"] = {"0": "ring", "1": "cross"}
        (start / "config.json").write_text(json.dumps(config))


def test_the_parts_of_a_translation_model_are_a_start(data: Path, tmp_path: Path) -> None:
    """With a learning rate of 0, what a run saves is what it started from."""
    tokenizer = VanillaTransformerTokenizer.train_from_iterator(
        [line for pair in parallel_sentences(60) for line in pair], vocab_size=300
    )
    torch.manual_seed(3)
    config = VanillaTransformerConfig(**(SMALL["model"] | {"vocab_size": len(tokenizer)}))
    translation = VanillaTransformerForConditionalGeneration(config)
    set_decoding(translation.generation_config, **PAPER_DECODING)
    for thing in (translation, tokenizer):
        thing.save_pretrained(tmp_path / "translation")
    wanted = dict(translation.named_parameters())
    still: dict[str, Any] = {
        "init_from": str(tmp_path / "translation"), "learning_rate_scale": 0.0, "model": {}, "samples": 0,
        "max_steps": 1, "eval_steps": 1, "save_steps": 1,
    }  # fmt: skip
    causal = train(language_model(data, tmp_path / "causal", **still))
    model: Any = AutoModelForCausalLM.from_pretrained(causal.output_dir)
    for name, value in model.model.decoder.layers.named_parameters():
        if "encoder_attn" not in name:
            assert value.equal(wanted[f"model.decoder.layers.{name}"]), name
    assert model.lm_head.weight.equal(wanted["model.shared.weight"])
    assert (model.generation_config.num_beams or 1, model.generation_config.do_sample) == (1, True)
    assert "d_model" not in vars(model.generation_config)
    # The head is new, and reads what it likes.
    head = {key: value for key, value in still.items() if key != "samples"} | {"model": {"pooling": "first"}}
    labelled = train(classifier(data, tmp_path / "labelled", **head))
    encoder: Any = AutoModelForSequenceClassification.from_pretrained(labelled.output_dir)
    for name, value in encoder.model.encoder.layers.named_parameters():
        assert value.equal(wanted[f"model.encoder.layers.{name}"]), name
    assert encoder.get_input_embeddings().weight.equal(wanted["model.shared.weight"])


@pytest.mark.parametrize(
    ("objective", "lacking", "message"),
    [
        ("causal", "bos_token", "a causal language model needs a tokenizer with a `bos_token`"),
        ("causal", "eos_token", "a language model needs a tokenizer with a `eos_token`"),
        ("masked", "mask_token", "a masked language model needs a tokenizer with a `mask_token`"),
    ],
)
def test_a_tokenizer_without_a_token_that_is_needed_is_refused(
    data: Path, tmp_path: Path, objective: str, lacking: str, message: str
) -> None:
    tokenizer = word_tokenizer(["w1 w2"])
    setattr(tokenizer, lacking, None)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    changes: dict[str, Any] = {"valid_text": None, "eval_steps": None, "objective": objective}
    with pytest.raises(InputError, match=message):
        train(language_model(data, tmp_path / "run", tokenizer=str(tmp_path / "tokenizer"), **changes))


def test_learned_positions_limit_texts(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned = SMALL["model"] | {"position_embedding": "learned", "max_position_embeddings": 30}
    for recipe in (language_model, classifier):
        with pytest.raises(InputError, match=r"`max_length` must be at most .*\(30\).* but is 256 instead"):
            train(recipe(data, tmp_path / "run", model=learned))
    (tmp_path / "long.csv").write_text("text,label\n" + "x w1 w2 " * 30 + ",cross\no w1,ring\n")
    changes: dict[str, Any] = {"max_steps": 1, "eval_steps": 1, "save_steps": 1, "long_texts": "keep"}
    changes |= {"max_length": 30, "valid_file": str(tmp_path / "long.csv")}
    train(classifier(data, tmp_path / "run", model=learned, **changes))
    assert "Validation data: 2 pieces of 2 texts; 1 cut" in capsys.readouterr().out


def test_samples_of_learned_positions_end_with_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned = SMALL["model"] | {"position_embedding": "learned", "max_position_embeddings": 12}
    changes: dict[str, Any] = {"model": learned, "max_length": 12, "max_steps": 1, "eval_steps": 1}
    changes |= {"save_steps": 1, "samples": 1}
    with pytest.raises(InputError, match=r"each of `prompts` must be shorter than .*\(12\)"):
        train(language_model(data, tmp_path / "run", prompts=["w1 " * 12], **changes))
    assert not (tmp_path / "run" / "recipe.yaml").exists()
    train(language_model(data, tmp_path / "run", prompts=["w1 w2"], **changes))
    assert "step 1: w1 w2" in capsys.readouterr().out


def test_what_cannot_be_trained_on_is_one_line_and_starts_no_run(data: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("text,label\nw1,square\n")
    for recipe, message in (
        (classifier(data, tmp_path / "run", label_column="kind"), "has no column `kind`"),
        (
            classifier(data, tmp_path / "run", valid_file=str(tmp_path / "other.csv")),
            "label 'square' is none of",
        ),
        (
            language_model(data, tmp_path / "run", train_text=str(tmp_path / "absent")),
            "absent` does not exist",
        ),
        (language_model(data, tmp_path / "run", freeze=["encoder"]), "`freeze` names `encoder`, but"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            train(recipe)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_a_recipe_says_how_much_is_masked_and_how_much_the_tokenizer_reads(data: Path) -> None:
    recipe = LanguageModelRecipe(
        train_text=str(data / "train.txt"), max_steps=1, objective="masked", mask_probability=0.4, seed=7
    )
    masking: Any = task_of(recipe).collator(word_tokenizer(["w1 <mask>"])).masking
    assert (masking.probability, masking.seed) == (0.4, 7)
    pairs = TrainRecipe(train_source="a", train_target="b", max_steps=1, tokenizer_sentences=3)
    rows = [{"source": f"s{n}", "target": f"t{n}"} for n in range(9)]
    assert sorted(task_of(pairs).texts(Dataset.from_list(rows))) == ["s0", "s1", "s2", "t0", "t1", "t2"]


def test_a_stream_is_validated_on_a_split_that_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("train", "w1"), ("validation", "w2")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"source": text, "target": text}) + "\n")
    asked: list[tuple[str, bool]] = []
    load = datasets.load_dataset

    def noted(*args: Any, split: str, streaming: bool, **kwargs: Any) -> Any:
        asked.append((split, streaming))
        return load(*args, split=split, streaming=streaming, **kwargs)

    monkeypatch.setattr(datasets, "load_dataset", noted)
    recipe = TrainRecipe(
        dataset=str(tmp_path), valid_split="validation", streaming=True, max_steps=1, output_dir=str(tmp_path)
    )
    rows, _ = TranslationTask(recipe).validation_rows(word_tokenizer(["w1", "w2"]))
    assert asked == [("validation", True)]
    assert rows["source"][:] == ["w2"]


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_a_finished_language_model_goes_on_for_longer(objective: str, data: Path, tmp_path: Path) -> None:
    """Though its tokenizer was saved with what a user of the model will want of it."""
    recipe = language_model(data, tmp_path / "run", objective=objective, max_steps=2, save_steps=2)
    assert train(recipe).steps == 2
    assert train(dataclasses.replace(recipe, max_steps=4)).steps == 4
