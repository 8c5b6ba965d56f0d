import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from helpers import parallel_sentences
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from training_toy import step_losses, write_recipe
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from transformers.utils import is_flash_attn_2_available, is_kernels_available

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
    translate,
)
from vanilla_transformer.errors import InputError
from vanilla_transformer.training import (
    TrainRecipe,
    TrainResult,
    VanillaTransformerTrainer,
    load_recipe,
    train,
)
from vanilla_transformer.training.checkpoints import list_checkpoints, read_state
from vanilla_transformer.training.run import _callbacks, training_arguments
from vanilla_transformer.training.run_checks import check_precision, check_sharding
from vanilla_transformer.training.segmentation import EpochSegmentation

FINISHED: dict[str, Any] = {
    "metric": "bleu", "max_steps": 4, "save_steps": 1, "eval_steps": 1, "tensorboard": True,
    "average_checkpoints": 2, "keep_checkpoints": 1, "final_model": "average_best",
    "generation": {
        "num_beams": 2, "length_penalty": 0.6, "length_penalty_type": "power", "max_length_beyond_source": 7
    },
}  # fmt: skip

SHORT: dict[str, Any] = {"max_source_length": 9, "max_target_length": 9}
LEARNED: dict[str, Any] = {"position_embedding": "learned", "max_position_embeddings": 140}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    recipe = write_recipe(tmp_path_factory.mktemp("finished"), **FINISHED)
    return train(load_recipe(recipe))


def again(result: TrainResult, **changes: Any) -> TrainResult:
    values = load_recipe(result.output_dir.parent / "run.yaml").to_dict()
    return train(TrainRecipe.from_dict(values | changes))


def test_the_folder_holds_what_was_promised(finished: TrainResult) -> None:
    names = {path.name for path in finished.output_dir.iterdir()}
    assert {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json", "recipe.yaml", "results.json", "training_curves.png", "logs",
    } <= names  # fmt: skip
    assert not {"trainer_state.json", "optimizer.pt", "training_args.bin", "training_progress.pt"} & names
    assert "runs" not in names, "a second TensorBoard log"
    assert list((finished.output_dir / "logs").glob("events.*"))


def test_the_final_model_loads_and_translates(finished: TrainResult) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(finished.output_dir)
    tokenizer = AutoTokenizer.from_pretrained(finished.output_dir)
    generation = GenerationConfig.from_pretrained(finished.output_dir)
    assert (generation.num_beams, generation.length_penalty) == (2, 0.6)
    assert (generation.length_penalty_type, generation.max_length_beyond_source) == ("power", 7)
    assert generation.max_length is None
    assert model.config.use_cache is True
    source = tokenizer(["w1 w2"], return_tensors="pt")
    output = model.generate(**source)
    assert 1 < output.shape[1] <= 1 + source.input_ids.shape[1] + 7


def test_the_final_model_is_the_average_of_the_best(finished: TrainResult) -> None:
    assert len(finished.checkpoints) == 2
    parts = [
        load_file(finished.output_dir / f"checkpoint-{n}" / "model.safetensors") for n in finished.checkpoints
    ]
    for name, value in load_file(finished.output_dir / "model.safetensors").items():
        torch.testing.assert_close(value, (parts[0][name] + parts[1][name]) / 2)


def test_the_results_hold_the_scores_of_best_and_final(finished: TrainResult) -> None:
    results = json.loads((finished.output_dir / "results.json").read_text())
    assert results["steps"] == 4
    assert results["scores"] == finished.scores
    for name in ("best", "final"):
        assert set(finished.scores[name]) == {"loss", "perplexity", "bleu", "chrf"}
    assert "tok:13a" in results["signatures"]["bleu"]
    assert results["best_checkpoint"] in results["checkpoints"]


def test_the_log_has_every_curve(finished: TrainResult) -> None:
    log = read_state(list_checkpoints(finished.output_dir)[-1])["log_history"]
    keys = {key for entry in log for key in entry}
    assert {
        "loss", "learning_rate", "target_tokens_per_second", "padding_share", "eval_loss",
        "eval_perplexity", "eval_bleu", "eval_chrf",
    } <= keys  # fmt: skip


def test_a_finished_run_says_so(finished: TrainResult, capsys: pytest.CaptureFixture[str]) -> None:
    result = again(finished)
    assert result.finished_before
    assert result.scores == finished.scores
    assert "is finished after 4 steps; nothing to do" in capsys.readouterr().out


def test_a_changed_recipe_is_refused_with_the_keys_that_differ(finished: TrainResult) -> None:
    with pytest.raises(InputError, match=r"these keys differ: warmup_steps, seed\. Give"):
        again(finished, seed=7, warmup_steps=3)


def test_what_takes_less_memory_may_differ_when_a_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"max_steps": 4, "eval_steps": 2, "save_steps": 2, "final_model": "last"}
    short = train(load_recipe(write_recipe(tmp_path, **settings | {"max_steps": 2})))
    less: dict[str, Any] = {
        "gradient_checkpointing": True,
        "eval_batch_size": 1,
        "logging_steps": 1,
        "samples": 0,
    }
    with caplog.at_level("WARNING"):
        result = train(load_recipe(write_recipe(tmp_path, **settings, **less)))
    assert short.steps == 2 and result.steps == 4
    assert "not on the same batches" not in caplog.text
    whole = train(load_recipe(write_recipe(tmp_path, name="whole", **settings)))
    assert result.scores["final"] == pytest.approx(whole.scores["final"])
    with caplog.at_level("WARNING"):
        settings |= less | {"max_steps": 6, "tokens_per_device": 50}
        assert train(load_recipe(write_recipe(tmp_path, **settings))).steps == 6
    assert "not on the same batches" in caplog.text


@pytest.mark.parametrize("length", ["max_steps", "num_train_epochs"])
def test_a_finished_run_can_be_made_longer(length: str, tmp_path: Path) -> None:
    def run(name: str, amount: int) -> TrainResult:
        changes = {"max_steps": None, "num_train_epochs": None, length: amount, "final_model": "last"}
        if length == "num_train_epochs":
            changes |= {"eval_steps": None, "save_steps": None}  # each epoch
        return train(load_recipe(write_recipe(tmp_path, name=name, **changes)))

    first, later = (3, 7) if length == "max_steps" else (1, 2)
    whole = run("whole", later)
    short = run("parts", first)
    assert 0 < short.steps < whole.steps
    extended = run("parts", later)
    assert not extended.finished_before and extended.steps == whole.steps
    assert extended.scores == whole.scores
    weights, wanted = (load_file(result.output_dir / "model.safetensors") for result in (extended, whole))
    assert all(weights[name].equal(wanted[name]) for name in wanted)
    assert run("parts", later).finished_before
    with pytest.raises(InputError, match=f"these keys differ: {length}"):
        run("parts", first)


def test_a_run_that_trained_nothing_says_how_to_begin_anew(
    finished: TrainResult, tmp_path: Path, monkeypatch: Any
) -> None:
    with pytest.raises(InputError, match=r"or another `output_dir`\.$"):
        again(finished, seed=7)

    def dies(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("vanilla_transformer.training.run.VanillaTransformerTrainer.train", dies)
        train(load_recipe(write_recipe(tmp_path)))
    changed = load_recipe(write_recipe(tmp_path, max_steps=1, save_steps=1, eval_steps=1, vocab_size=270))
    claim = tmp_path / "run" / "recipe.yaml"
    with pytest.raises(InputError, match=f"if no run goes on there, delete `{claim}` to begin anew"):
        train(changed)
    claim.unlink()
    assert len(AutoTokenizer.from_pretrained(train(changed).output_dir)) == 270


def test_a_run_that_died_while_finishing_is_finished_without_training(
    finished: TrainResult, tmp_path: Path
) -> None:
    shutil.copytree(finished.output_dir, tmp_path / "run")
    recipe = load_recipe(tmp_path / "run" / "recipe.yaml", ["--output_dir", str(tmp_path / "run")])
    for name in ("results.json", "model.safetensors"):
        (tmp_path / "run" / name).unlink()
    for name in (".run.incomplete-0a1b", ".incomplete-x_y"):
        (tmp_path / "run" / name).mkdir()
    before = [path.stat().st_mtime_ns for path in list_checkpoints(tmp_path / "run")]
    result = train(recipe)
    assert not result.finished_before
    assert result.scores == finished.scores
    assert [path.stat().st_mtime_ns for path in list_checkpoints(tmp_path / "run")] == before
    assert not list((tmp_path / "run").glob(".*incomplete-*"))


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "results.json"]
)
def test_a_folder_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("{}")
    with pytest.raises(InputError, match=rf"holds {re.escape(name)} but no recipe\.yaml"):
        train(recipe)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]
    assert (tmp_path / "run" / name).read_text() == "{}"


ONE_STEP: dict[str, Any] = {"max_steps": 1, "save_steps": 1, "eval_steps": 1}


@pytest.mark.parametrize("wanted", [True, False])
def test_activations_are_computed_again_where_the_recipe_says_so(
    wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever name transformers has for it."""
    found: list[bool] = []
    compute_loss = VanillaTransformerTrainer.compute_loss

    def note(trainer: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        found.append(model.model.encoder.layers[0].gradient_checkpointing)
        return compute_loss(trainer, model, *args, **kwargs)

    monkeypatch.setattr(VanillaTransformerTrainer, "compute_loss", note)
    train(load_recipe(write_recipe(tmp_path, gradient_checkpointing=wanted, **ONE_STEP)))
    assert set(found) == {wanted}


def test_a_folder_with_unrelated_files_is_trained_in(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.json").write_text("mine")
    assert train(load_recipe(write_recipe(tmp_path, **ONE_STEP))).steps == 1
    assert (tmp_path / "run" / "notes.json").read_text() == "mine"


def test_a_tokenizer_may_lie_in_the_output_folder_that_is_to_use_it(
    finished: TrainResult, tmp_path: Path
) -> None:
    AutoTokenizer.from_pretrained(finished.output_dir).save_pretrained(tmp_path / "run")
    recipe = load_recipe(write_recipe(tmp_path, tokenizer=str(tmp_path / "run"), **ONE_STEP))
    assert train(recipe).steps == 1


def test_a_run_that_failed_before_it_began_begins_anew(tmp_path: Path, monkeypatch: Any) -> None:
    recipe = load_recipe(write_recipe(tmp_path, **ONE_STEP))

    def fails(*args: Any, **kwargs: Any) -> None:
        raise InputError("no model.")

    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"^no model\.$"):
        patch.setattr("vanilla_transformer.training.run._model", fails)
        train(recipe)
    assert (tmp_path / "run" / "tokenizer.json").is_file()
    assert not (tmp_path / "run" / "recipe.yaml").exists()
    result = train(dataclasses.replace(recipe, vocab_size=270))
    assert len(AutoTokenizer.from_pretrained(result.output_dir)) == 270


def changed_text(path: Path) -> None:
    path.write_text(path.read_text("utf-8").replace("w1 ", "w2 ", 1), "utf-8")


def shortened_text(path: Path) -> None:
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")


@pytest.mark.parametrize(("change", "rows"), [(changed_text, 40), (shortened_text, 39)])
def test_a_run_goes_on_only_with_the_data_that_it_began_with(
    change: Callable[[Path], None], rows: int, tmp_path: Path
) -> None:
    recipe = load_recipe(write_recipe(tmp_path, max_steps=3))
    assert train(recipe).steps == 3
    for path in (recipe.train_source, recipe.train_target):
        change(Path(str(path)))
    longer = dataclasses.replace(recipe, max_steps=6)
    message = rf"the training data are not those that the run in `.*run` began with \({rows} .* 40 then\)"
    with pytest.raises(InputError, match=message) as caught:
        train(longer)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run" / "results.json").is_file()
    # As a run of an earlier version, which noted nothing.
    (tmp_path / "run" / "data_digest.json").unlink()
    assert train(longer).steps == 6
    assert train(dataclasses.replace(recipe, max_steps=9)).steps == 9


def test_a_run_goes_on_only_with_the_tokenizer_that_it_began_with(tmp_path: Path) -> None:
    """Of the same size, another one would give other pieces the embeddings of these."""
    words = tmp_path / "words"

    def save(text: str) -> None:
        VanillaTransformerTokenizer.train_from_iterator([text] * 9, vocab_size=275).save_pretrained(words)

    save("w1 W1 n2 N2")
    recipe = load_recipe(write_recipe(tmp_path, max_steps=3, tokenizer=str(words)))
    assert train(recipe).steps == 3
    longer = dataclasses.replace(recipe, max_steps=6)
    save("W1 w1 N2 n2")
    with pytest.raises(InputError, match=r"the tokenizer is not the one that the run in `.*run` began with"):
        train(longer)
    save("w1 W1 n2 N2")
    assert train(longer).steps == 6


def test_data_of_a_run_that_trained_nothing_may_change_when_it_begins_anew(
    tmp_path: Path, monkeypatch: Any
) -> None:
    def dies(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    recipe = load_recipe(write_recipe(tmp_path, **ONE_STEP))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("vanilla_transformer.training.run.VanillaTransformerTrainer.train", dies)
        train(recipe)
    changed_text(Path(str(recipe.train_source)))
    claim = tmp_path / "run" / "recipe.yaml"
    with pytest.raises(InputError, match=f"if no run goes on there, delete `{claim}` to begin anew"):
        train(recipe)
    claim.unlink()
    assert train(recipe).steps == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_source": "absent.txt"}, r"absent\.txt"),
        ({"model": {"d_model": 15}}, "`d_model` must be divisible"),
        ({"tokenizer": "./absent"}, r"`tokenizer` names the folder `\./absent`, which does not exist\."),
        ({"init_from": "/absent/model"}, "`init_from` names the folder `/absent/model`, which does not"),
        ({"tokenizer": "recipes/absent"}, "`tokenizer` names the folder `recipes/absent`, which does not"),
        (
            {"freeze": ["encoder.layers.7"], "train_source": "absent.txt"},
            r"`freeze` names `encoder\.layers\.7`, but the parts",
        ),
        (
            {"learning_rate_factors": {"head": 2.0}, "train_source": "absent.txt"},
            "`learning_rate_factors` names `head`, but the parts",
        ),
        ({"tokens_per_update": 20, "tokens_per_device": 20}, "a batch may hold 20"),
        (
            {"streaming": True, "max_source_length": 130, "max_target_length": 131},
            r"`max_target_length` of a stream must be at most the tokens of a batch \(130\), but is 131",
        ),
        (
            {"streaming": True, "long_sentences": "keep", "model": LEARNED, **SHORT},
            r"`max_source_length` of a stream must be at most the tokens of a batch \(130\), but is 140",
        ),
        pytest.param(
            {"attn_implementation": "flash_attention_2", "precision": "bf16", "train_source": "absent.txt"},
            "`attn_implementation`: flash_attention_2 cannot be used: .*installed",
            marks=pytest.mark.skipif(
                is_flash_attn_2_available() or is_kernels_available(), reason="it can be used here"
            ),
        ),
        (
            {"attn_implementation": "flash_attention_2", "train_source": "absent.txt"},
            "`attn_implementation`: flash_attention_2 needs `precision` bf16 or fp16",
        ),
        pytest.param(
            {"precision": "fp16", "train_source": "absent.txt"},
            "`precision`: fp16 does not train on a CPU; use bf16 or fp32",
            marks=pytest.mark.skipif(torch.accelerator.is_available(), reason="trains on no CPU here"),
        ),
        pytest.param(
            {"attn_implementation": "flex_attention", "train_source": "absent.txt"},
            "`attn_implementation`: flex_attention does not train on a CPU; use sdpa",
            marks=pytest.mark.skipif(torch.accelerator.is_available(), reason="trains on no CPU here"),
        ),
    ],
)
def test_bad_input_is_one_clear_line_and_starts_no_run(tmp_path: Path, changes: dict, message: str) -> None:
    path = write_recipe(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        train(load_recipe(path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "recipe.yaml").exists()


@pytest.mark.parametrize(
    ("found", "warns"),
    [
        ({"avx2": True, "avx512_f": True}, True),
        ({"avx512_bf16": True, "amx_bf16": False}, False),
        ({"avx512_bf16": False, "amx_bf16": True}, False),
        ({"neon": True, "bf16": True}, False),
    ],
)
def test_bf16_on_a_processor_that_does_not_multiply_it(
    found: dict[str, bool], warns: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    for precision, device, main in product(("fp32", "bf16"), ("cpu", "cuda"), (True, False)):
        caplog.clear()
        check_precision(TrainRecipe(precision=precision), torch.device(device), main=main)
        expected = warns and (precision, device, main) == ("bf16", "cpu", True)
        assert ("bf16 is slower than fp32 here" in caplog.text) == expected


def test_training_in_bf16_learns_as_in_fp32(tmp_path: Path) -> None:
    found = {}
    for precision in ("fp32", "bf16"):
        recipe = load_recipe(write_recipe(tmp_path, precision=precision, name=precision))
        found[precision] = train(recipe)
    losses = {name: [loss for _, loss in step_losses(result.output_dir)] for name, result in found.items()}
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.03)
    weights = load_file(found["bf16"].output_dir / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_the_results_name_a_dataset_of_the_hub_but_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [{"source": source, "target": target} for source, target in parallel_sentences(9)]
    monkeypatch.chdir(tmp_path)
    Path("corpus").mkdir()
    Path("corpus", "train.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    changes = {
        "train_source": None, "train_target": None, "valid_source": None, "valid_target": None,
        "max_steps": 1, "save_steps": 1, "eval_steps": None,
    }  # fmt: skip

    def named(dataset: str) -> str | None:
        recipe = write_recipe(tmp_path, name=Path(dataset).name, dataset=dataset, **changes)
        results = json.loads((train(load_recipe(recipe)).output_dir / "results.json").read_text())
        return results["hub_dataset"]

    assert named("corpus") is None
    loaded = datasets.load_dataset("corpus", split="train")
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: loaded)
    assert named("me/pairs") == "me/pairs"


def test_blank_validation_files_are_told_as_such(tmp_path: Path) -> None:
    blank = tmp_path / "blank"
    blank.write_text("\n \n")
    recipe = load_recipe(write_recipe(tmp_path, valid_source=str(blank), valid_target=str(blank)))
    with pytest.raises(
        InputError, match=r"^validation data: No sentence pair is left: kept 0 of 2 .* 2 empty"
    ):
        train(recipe)


def test_a_recipe_may_lie_in_its_own_output_folder(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, max_steps=1, save_steps=1, eval_steps=1)
    (tmp_path / "run").mkdir()
    path = Path(path).rename(tmp_path / "run" / "recipe.yaml")
    path.write_text(text := "# Mine.\n" + path.read_text())
    assert train(load_recipe(path)).steps == 1
    assert path.read_text() == text


def foreign_tokenizer(folder: Path, bos: str | None, pad: str | None = "<pad>") -> str:
    """Save a tokenizer of words with </s> first and the other special tokens last; return its folder."""
    words = sorted({word for pair in parallel_sentences(40) for line in pair for word in line.split()})
    vocabulary = {word: at for at, word in enumerate(["</s>", *words, "<unk>", "<s>", "<pad>"])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=pad, bos_token=bos, eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("bos", ["<s>", None])
def test_the_special_tokens_are_those_of_a_given_tokenizer(tmp_path: Path, bos: str | None) -> None:
    name = foreign_tokenizer(tmp_path / "tokenizer", bos)
    changes: dict[str, Any] = {"max_steps": 1, "save_steps": 1, "eval_steps": 1, "tokenizer": name}
    result = train(load_recipe(write_recipe(tmp_path, **changes)))
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(result.output_dir)
    size = model.config.vocab_size
    pad, start = size - 1, size - 1 if bos is None else size - 2
    for config in (model.config, model.generation_config):
        assert (config.pad_token_id, config.eos_token_id) == (pad, 0)
        assert config.bos_token_id == (None if bos is None else start)
        assert config.decoder_start_token_id == start
    assert model.get_input_embeddings().padding_idx == pad


def test_the_special_tokens_of_a_trained_tokenizer_are_the_defaults(finished: TrainResult) -> None:
    config = json.loads((finished.output_dir / "config.json").read_text())
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    assert [config[name] for name in names] == [0, 1, 2, 1]


def test_a_tokenizer_without_padding_is_refused(tmp_path: Path) -> None:
    name = foreign_tokenizer(tmp_path / "tokenizer", "<s>", pad=None)
    with pytest.raises(InputError, match="has no padding token, which batches need"):
        train(load_recipe(write_recipe(tmp_path, tokenizer=name)))


def test_learned_positions_limit_training_and_cut_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = load_recipe(write_recipe(tmp_path)).model
    shape = {**shape, "position_embedding": "learned", "max_position_embeddings": 40}
    changes: dict[str, Any] = {"model": shape, "max_steps": 1, "save_steps": 1, "eval_steps": 1}
    limits: dict[str, Any] = {"max_source_length": 40, "max_target_length": 40}
    with pytest.raises(InputError, match=r"`max_target_length` must be at most .*\(40\).* but is 41 instead"):
        train(load_recipe(write_recipe(tmp_path, **changes, **(limits | {"max_target_length": 41}))))
    recipe = load_recipe(write_recipe(tmp_path, **changes, **limits))
    for path in (recipe.valid_source, recipe.valid_target):
        with Path(str(path)).open("a") as file:
            file.write("w1 w2 w3 " * 30 + "\n")
    learned = train(recipe)
    assert "kept 7 of 7 sentence pairs (1 of them cut)" in capsys.readouterr().out
    changes |= {"model": {}, "init_from": str(learned.output_dir)}
    with pytest.raises(
        InputError, match=r"`max_source_length` must be at most .*\(40\).* but is 256 instead"
    ):
        train(load_recipe(write_recipe(tmp_path, name="next", **changes)))


def test_a_wrong_field_of_a_given_model_is_one_line(finished: TrainResult, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"init_from": str(finished.output_dir), "model": {"d_model": "x"}}
    with pytest.raises(InputError, match="Field 'd_model' expected int") as caught:
        train(load_recipe(write_recipe(tmp_path, **changes)))
    assert "\n" not in str(caught.value)


def test_a_given_model_keeps_its_function(finished: TrainResult, tmp_path: Path) -> None:
    start = VanillaTransformerConfig.from_pretrained(finished.output_dir)
    other = "pre" if start.norm_position == "post" else "post"
    changes: dict[str, Any] = {"init_from": str(finished.output_dir), "model": {"norm_position": other}}
    with pytest.raises(InputError, match=r"`model\.norm_position` must be that of .*, but is") as caught:
        train(load_recipe(write_recipe(tmp_path, **changes)))
    assert "\n" not in str(caught.value)


def test_a_preset_beside_a_given_model_is_looked_at(finished: TrainResult, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"init_from": str(finished.output_dir), "model": {}, "preset": "big"}
    message = r"`preset.d_model` must be that of .*, 16, but is 1024 instead: `--preset base` keeps all"
    with pytest.raises(InputError, match=message):
        train(load_recipe(write_recipe(tmp_path, **changes)))


@pytest.mark.parametrize(
    ("version", "kind", "whole"),
    [(2, "FULL_STATE_DICT", True), (2, "SHARDED_STATE_DICT", False), (1, "FULL_STATE_DICT", False)],
)
def test_sharding_that_leaves_no_weights_is_refused(version: int, kind: str, whole: bool) -> None:
    reshard = True if version == 2 else "FULL_SHARD"
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=version, state_dict_type=kind, reshard_after_forward=reshard
    )
    check_sharding(None)
    if whole:
        check_sharding(plugin)
    else:
        with pytest.raises(InputError, match="FSDP must be of version 2 and save whole weights"):
            check_sharding(plugin)


def given_model(folder: Path, tokenizer: Path, **fields: Any) -> Path:
    """Save a model of random weights with the tokenizer of another folder; return its folder."""
    vocabulary = AutoTokenizer.from_pretrained(tokenizer)
    vocabulary.save_pretrained(folder)
    shape = VanillaTransformerConfig.from_pretrained(tokenizer).to_dict()
    model = VanillaTransformerForConditionalGeneration(VanillaTransformerConfig(**(shape | fields)))
    model.save_pretrained(folder)
    return folder


def test_learned_positions_of_a_given_model_are_as_many(finished: TrainResult, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"model": {"max_position_embeddings": 150}, **ONE_STEP, **SHORT}
    start = given_model(tmp_path / "learned", finished.output_dir, **LEARNED)
    message = r"`model\.max_position_embeddings` must be that of .*learned`, 140, but is 150 instead"
    with pytest.raises(InputError, match=message):
        train(load_recipe(write_recipe(tmp_path, init_from=str(start), **changes)))
    start = given_model(tmp_path / "sinusoids", finished.output_dir)
    assert train(load_recipe(write_recipe(tmp_path, init_from=str(start), **changes))).steps == 1


def test_a_model_of_another_architecture_is_no_start(tmp_path: Path) -> None:
    shape: dict[str, Any] = {"vocab_size": 30, "pad_token_id": 0, "d_model": 8, "max_position_embeddings": 16}
    shape |= {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    shape |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_start_token_id": 0}
    MarianMTModel(MarianConfig(**shape)).save_pretrained(tmp_path / "opus")
    message = (
        r"`init_from` must name a model of type vanilla_transformer, but `.*opus` holds .* type marian\."
    )
    with pytest.raises(InputError, match=message) as caught:
        train(load_recipe(write_recipe(tmp_path, init_from=str(tmp_path / "opus"), model={})))
    assert "\n" not in str(caught.value)


def test_an_adapter_is_no_start(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    save_file({"lora_A.weight": torch.ones(1)}, tmp_path / "adapter" / "adapter_model.safetensors")
    message = r"`init_from`: `.*adapter` holds an adapter \(LORA\) and no model: merge .*`merge_and_unload`"
    with pytest.raises(InputError, match=message) as caught:
        train(load_recipe(write_recipe(tmp_path, init_from=str(tmp_path / "adapter"), model={})))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "message"),
    [(0, r"its weights lack `{}`"), (7, r"its config\.json has no place for `{}`")],
    ids=["missing", "unexpected"],
)
def test_weights_that_are_not_those_of_the_model_are_no_start(
    layer: int, message: str, finished: TrainResult, tmp_path: Path
) -> None:
    start = tmp_path / "start"
    shutil.copytree(finished.output_dir, start, ignore=shutil.ignore_patterns("checkpoint-*"))
    weights = load_file(start / "model.safetensors")
    name = f"model.encoder.layers.{layer}.fc1.bias"
    if weights.pop(name, None) is None:
        weights[name] = torch.ones(1)
    save_file(weights, start / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"`.*start` cannot be loaded: " + message.format(re.escape(name))):
        train(load_recipe(write_recipe(tmp_path, init_from=str(start), model={})))


@pytest.mark.parametrize(
    ("key", "value", "argument", "expected"),
    [
        ("tokens_per_update", 512, "tokens_per_update", 512),
        ("tokens_per_device", 128, "tokens_per_device", 128),
        ("warmup_steps", 7, "warmup_steps", 7),
        ("learning_rate_scale", 0.5, "learning_rate_scale", 0.5),
        ("label_smoothing", 0.2, "label_smoothing_factor", 0.2),
        ("adam_beta1", 0.8, "adam_beta1", 0.8),
        ("adam_beta2", 0.95, "adam_beta2", 0.95),
        ("adam_epsilon", 1e-6, "adam_epsilon", 1e-6),
        ("weight_decay", 0.01, "weight_decay", 0.01),
        ("max_grad_norm", 2.0, "max_grad_norm", 2.0),
        ("precision", "bf16", "bf16", True),
        ("torch_compile", True, "torch_compile", True),
        ("seed", 9, "seed", 9),
        ("eval_batch_size", 3, "per_device_eval_batch_size", 3),
        ("metric", "chrf", "metric_for_best_model", "chrf"),
        ("keep_checkpoints", 11, "save_total_limit", 11),
        ("logging_steps", 4, "logging_steps", 4),
        ("dataloader_workers", 2, "dataloader_num_workers", 2),
        ("eval_num_beams", 3, "generation_num_beams", 3),
    ],
)
def test_what_a_recipe_says_is_what_the_trainer_is_told(
    key: str, value: Any, argument: str, expected: Any, tmp_path: Path
) -> None:
    plain = training_arguments(load_recipe(write_recipe(tmp_path, name="plain")))
    told = training_arguments(load_recipe(write_recipe(tmp_path, name="told", **{key: value})))
    assert getattr(told, argument) == expected != getattr(plain, argument)


def test_processes_wait_a_day_for_the_main_one(tmp_path: Path) -> None:
    assert training_arguments(load_recipe(write_recipe(tmp_path))).ddp_timeout == 86_400


def test_a_lower_cased_run_learns_and_validates_in_lower_case(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, max_steps=1, lowercase=True))
    for path in (recipe.train_source, recipe.train_target, recipe.valid_source, recipe.valid_target):
        assert path is not None
        Path(path).write_text(Path(path).read_text("utf-8").upper(), "utf-8")
    result = train(recipe)
    tokenizer = AutoTokenizer.from_pretrained(result.output_dir)
    assert tokenizer("W1 W2").input_ids == tokenizer("w1 w2").input_ids
    assert tokenizer.decode(tokenizer("W1 W2").input_ids, skip_special_tokens=True) == "w1 w2"


def test_validation_once_per_epoch_and_epochs_instead_of_steps(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "max_steps": None,
        "num_train_epochs": 2,
        "eval_steps": None,
        "save_steps": None,
    }
    result = train(load_recipe(write_recipe(tmp_path, **changes)))
    state = read_state(list_checkpoints(result.output_dir)[-1])
    epochs = [entry["epoch"] for entry in state["log_history"] if "eval_loss" in entry]
    assert epochs == [1.0, 2.0]
    assert state["best_metric"] == min(e["eval_loss"] for e in state["log_history"] if "eval_loss" in e)


def test_early_stopping_is_not_undone_by_starting_again(tmp_path: Path, monkeypatch: Any) -> None:
    scores = iter([5.0, 4.0, 3.0, 9.0])

    def scripted(self: Any, prediction: Any) -> dict[str, float]:
        return {"bleu": next(scores, 1.0), "chrf": 0.0}

    monkeypatch.setattr("vanilla_transformer.training.scoring.TranslationScores.__call__", scripted)
    changes: dict[str, Any] = {
        "metric": "bleu",
        "early_stopping_patience": 2,
        "eval_steps": 1,
        "save_steps": 1,
        "final_model": "best",
    }
    recipe = load_recipe(write_recipe(tmp_path, **changes))
    first = train(recipe)
    assert first.steps == 3
    assert first.checkpoints == [1]
    (first.output_dir / "results.json").unlink()
    assert train(recipe).steps == 3


def test_early_stopping_says_so_and_a_larger_patience_goes_on(
    tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = iter([5.0, 4.0, 3.0])

    def scripted(self: Any, prediction: Any) -> dict[str, float]:
        return {"bleu": next(scores, 1.0), "chrf": 0.0}

    monkeypatch.setattr("vanilla_transformer.training.scoring.TranslationScores.__call__", scripted)
    changes: dict[str, Any] = {"metric": "bleu", "early_stopping_patience": 2, "final_model": "best"}
    recipe = load_recipe(write_recipe(tmp_path, **ONE_STEP | changes | {"max_steps": 9}))
    assert train(recipe).steps == 3
    told = "Early stopping ended the run in "
    assert told not in capsys.readouterr().out
    longer = dataclasses.replace(recipe, max_steps=12)
    assert train(longer).steps == 3
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(told))
    assert line.endswith("after 3 steps, so none is added: a larger `early_stopping_patience` goes on.")
    patient = dataclasses.replace(longer, early_stopping_patience=3)
    assert train(patient).steps == 4
    with pytest.raises(InputError, match="these keys differ: early_stopping_patience"):
        train(longer)
    assert train(dataclasses.replace(patient, early_stopping_patience=None)).steps == 12
    assert told not in capsys.readouterr().out


def test_without_validation_data_the_last_checkpoint_is_the_model(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"valid_source": None, "valid_target": None, "eval_steps": None, "max_steps": 3}
    result = train(load_recipe(write_recipe(tmp_path, **changes)))
    assert result.scores == {}
    assert result.checkpoints == [3]


def test_a_stream_trains_and_tells_what_was_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, Any] = {"streaming": True, "streaming_window": 20, "max_steps": 4}
    changes |= {"max_source_length": 130, "max_target_length": 130}
    changes |= {"eval_steps": 2, "save_steps": 2, "dataloader_workers": 1}
    recipe = load_recipe(write_recipe(tmp_path, **changes))
    with open(str(recipe.train_source), "a") as source, open(str(recipe.train_target), "a") as target:
        source.write("\n")
        target.write("nothing\n")
    assert train(recipe).steps == 4
    line = next(line for line in capsys.readouterr().out.splitlines() if "all that was read" in line)
    kept, read, empty = (int(number) for number in re.findall(r"\d+", line))
    assert kept + empty == read >= 41 and empty >= 1


def test_training_starts_from_a_given_model(finished: TrainResult, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"init_from": str(finished.output_dir), "max_steps": 1}
    changes |= {"learning_rate_scale": 0.0, "save_steps": 1, "eval_steps": 1}
    result = train(load_recipe(write_recipe(tmp_path, **changes)))
    weights, wanted = (load_file(run.output_dir / "model.safetensors") for run in (result, finished))
    assert all(weights[name].equal(wanted[name]) for name in wanted)
    tokenizers = [AutoTokenizer.from_pretrained(run.output_dir).get_vocab() for run in (result, finished)]
    assert tokenizers[0] == tokenizers[1]


def test_a_given_model_with_another_tokenizer(
    finished: TrainResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes: dict[str, Any] = {"init_from": str(finished.output_dir), "max_steps": 1}
    changes |= {"save_steps": 1, "eval_steps": 1}
    foreign = foreign_tokenizer(tmp_path / "foreign", "<s>")
    with pytest.raises(InputError, match=r"the pad_token of `tokenizer` must be entry 0, as for .*, but is"):
        train(load_recipe(write_recipe(tmp_path, tokenizer=foreign, **changes)))
    before = AutoTokenizer.from_pretrained(finished.output_dir)
    before.save_pretrained(tmp_path / "same")
    train(load_recipe(write_recipe(tmp_path, tokenizer=str(tmp_path / "same"), name="first", **changes)))
    assert "stand for something else" not in caplog.text
    before.train_new_from_iterator(["xyz zyx"] * 9, len(before)).save_pretrained(tmp_path / "other")
    train(load_recipe(write_recipe(tmp_path, tokenizer=str(tmp_path / "other"), name="second", **changes)))
    assert re.search(rf"\d+ of the {len(before)} entries .* stand for something else", caplog.text)


def test_a_full_disk_ends_in_one_line_and_the_run_goes_on_later(tmp_path: Path, monkeypatch: Any) -> None:
    recipe = load_recipe(write_recipe(tmp_path, max_steps=6))
    save: Callable[..., None] = torch.save

    def full(value: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        if "checkpoint-6" in str(path):
            raise OSError(28, "No space left on device")
        save(value, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"checkpoint-6` cannot be written: no space left on device\.$"):
        train(recipe)
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["checkpoint-3"]
    assert not list((tmp_path / "run" / ".incomplete").iterdir())
    monkeypatch.setattr(torch, "save", save)
    assert train(recipe).steps == 6


def test_bpe_dropout_draws_anew_in_each_epoch_and_a_resumed_run_keeps_its_own(
    tmp_path: Path, monkeypatch: Any
) -> None:
    drawn: list[tuple[int, list[list[int]]]] = []
    original = EpochSegmentation.epoch

    def spy(self: EpochSegmentation, number: int) -> Any:
        pairs = original(self, number)
        drawn.append((number, pairs["input_ids"][:]))
        return pairs

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 8:
                raise KeyboardInterrupt

    ahead: list[int] = []
    draw_ahead = EpochSegmentation.draw_ahead

    def spy_ahead(self: EpochSegmentation, number: int) -> None:
        ahead.append(number)
        draw_ahead(self, number)

    monkeypatch.setattr(EpochSegmentation, "epoch", spy)
    monkeypatch.setattr(EpochSegmentation, "draw_ahead", spy_ahead)
    changes: dict[str, Any] = {
        "bpe_dropout": 0.3,
        "vocab_size": 400,
        "max_steps": 13,
        "save_steps": 7,
        "eval_steps": 7,
    }
    recipe = load_recipe(write_recipe(tmp_path, **changes))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("vanilla_transformer.training.run._callbacks", lambda *args, **kwargs: [Stop()])
        train(recipe)
    before = dict(drawn)
    assert list(before) == [0, 1]
    assert before[0] != before[1]
    assert ahead == [1, 2]
    drawn.clear()
    ahead.clear()
    result = train(recipe)
    after = dict(drawn)
    assert list(after) == [1, 2]
    assert ahead == [2], "the next epoch, but none after the last"
    assert after[1] == before[1]
    tokenizer = json.loads((result.output_dir / "tokenizer.json").read_text())
    assert not tokenizer["model"].get("dropout")
    assert [step for step, _ in step_losses(result.output_dir)] == list(range(1, 14))


@pytest.mark.parametrize(
    ("positions", "lengths", "how", "longest"),
    [(64, (28, 24), "drop", (28, 24)), (26, (26, 24), "cut", (26, 24)), (26, (9, 9), "keep", (26, 26))],
)
def test_bpe_dropout_makes_no_sentence_longer_than_allowed(
    tmp_path: Path, positions: int, lengths: tuple[int, int], how: str, longest: tuple[int, int]
) -> None:
    learned = {"position_embedding": "learned", "max_position_embeddings": positions}
    changes: dict[str, Any] = {
        "bpe_dropout": 0.9, "vocab_size": 500, "max_steps": 1, "eval_steps": 1, "save_steps": 1,
        "model": load_recipe(write_recipe(tmp_path)).model | learned, "long_sentences": how,
        "max_source_length": lengths[0], "max_target_length": lengths[1],
    }  # fmt: skip
    result = train(load_recipe(write_recipe(tmp_path, **changes)))
    drawn = np.load(result.output_dir / "segmentation" / "lengths.npy")
    assert all(drawn[side].max() <= limit for side, limit in enumerate(longest))


def test_a_longer_run_needs_what_it_goes_on_from(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, **FINISHED))
    folder = train(recipe).output_dir
    weights = (folder / "model.safetensors").read_bytes()
    longer = dataclasses.replace(recipe, max_steps=8)
    last = list_checkpoints(folder)[-1]
    (last / "optimizer.pt").unlink()
    with pytest.raises(InputError, match=f"`{last}` has no optimizer state"):
        train(longer)
    for checkpoint in list_checkpoints(folder):
        shutil.rmtree(checkpoint)
    with pytest.raises(InputError, match="has no checkpoint left to go on from"):
        train(longer)
    assert (folder / "model.safetensors").read_bytes() == weights


def test_a_tracker_of_transformers_gets_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, float]] = []

    class Tracker(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(kwargs["logs"])

    class Absent(TrainerCallback):
        def __init__(self) -> None:
            raise RuntimeError("Absent requires absent to be installed.")

    known = {"toy": Tracker, "absent": Absent}
    monkeypatch.setattr("transformers.integrations.integration_utils.INTEGRATION_TO_CALLBACK", known)
    recipe = load_recipe(write_recipe(tmp_path, report_to=["toy"], max_steps=3))
    state = read_state(list_checkpoints(train(recipe).output_dir)[-1])
    assert [entry["loss"] for entry in seen if "loss" in entry] == [
        entry["loss"] for entry in state["log_history"] if "loss" in entry
    ]
    # What is computed when the run has ended belongs to no step of it.
    assert not any("final_loss" in entry for entry in seen)
    for name, message in {
        "absent": "`report_to`: Absent requires absent to be installed.",
        "other": "`report_to`: other is not supported, only toy, absent are supported.",
        "tensorboard": "`tensorboard` is a key of its own",
    }.items():
        with pytest.raises(InputError, match=message):
            train(load_recipe(write_recipe(tmp_path, name=name, report_to=[name])))


def test_a_second_start_in_the_folder_of_a_run_is_refused(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    folder = Path(recipe.output_dir)

    def again(*_: Any, **__: Any) -> None:
        with pytest.raises(InputError, match=f"another process trains in `{folder}`"):
            train(recipe)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(VanillaTransformerTrainer, "train", again)
        train(recipe)
    assert train(recipe).steps == 9
    assert not (folder / "training.lock").exists()


def test_a_run_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, train_source=str(tmp_path / "nowhere")))
    with pytest.raises(InputError, match="does not exist"):
        train(recipe)
    assert not Path(recipe.output_dir).exists()


def test_validation_prints_translations_and_training_its_first_pair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe(write_recipe(tmp_path, max_steps=3, samples=2, metric="bleu"))
    result = train(recipe)
    lines = capsys.readouterr().out.splitlines()
    source, target = (
        Path(str(name)).read_text().splitlines()[0] for name in (recipe.train_source, recipe.train_target)
    )
    assert f"The first of them: {source} → {target}" in lines
    tokenizer = AutoTokenizer.from_pretrained(result.output_dir)
    model = VanillaTransformerForConditionalGeneration.from_pretrained(result.output_dir)
    sides = (Path(str(name)).read_text().splitlines() for name in (recipe.valid_source, recipe.valid_target))
    pairs = list(zip(*sides, strict=True))[:2]
    written = translate(model, tokenizer, [source for source, _ in pairs], num_beams=1)
    expected = [
        f"step 3: {' '.join(f'{source} → {text.strip()} (reference: {target})'.split())}"
        for (source, target), text in zip(pairs, written, strict=True)
    ]
    assert [line for line in lines if line.startswith("step 3:")] == expected


def test_text_of_blank_lines_is_no_text(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    recipe = load_recipe(path)
    for name in (recipe.train_source, recipe.train_target):
        Path(str(name)).write_text("\n" * 40)
    with pytest.raises(InputError, match="no tokenizer can be trained: there is no text"):
        train(recipe)


def test_a_data_set_beside_training_files_is_for_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = {
        name: datasets.Dataset.from_dict({"source": [f"{name} w1"], "target": [f"{name} w2"]})
        for name in ("train", "dev")
    }
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "set")
    changes: dict[str, Any] = {"dataset": str(tmp_path / "set"), "valid_split": "dev"}
    changes |= {"max_steps": 1, "save_steps": 1}
    changes |= {"valid_source": None, "valid_target": None, "eval_steps": 1}
    result = train(load_recipe(write_recipe(tmp_path, **changes)))
    shown = capsys.readouterr().out
    assert "kept 40 of 40 sentence pairs" in shown
    assert "dev w1 →" in shown and "train w1" not in shown
    assert result.steps == 1


def test_a_stream_goes_on_whatever_became_of_its_text(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"streaming": True, "streaming_window": 20, "max_steps": 3}
    changes |= {"max_source_length": 130, "max_target_length": 130}
    recipe = load_recipe(write_recipe(tmp_path, **changes))
    assert train(recipe).steps == 3
    for path in (str(recipe.train_source), str(recipe.train_target)):
        with open(path, "a", encoding="utf-8") as file:
            file.write("w1 w2\n")
    assert train(dataclasses.replace(recipe, max_steps=6)).steps == 6


@pytest.mark.parametrize(("saved", "purged"), [(None, 0), (4, 5)])
def test_what_an_interrupted_run_logged_is_logged_once(
    saved: int | None, purged: int, finished: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "torch.utils.tensorboard.SummaryWriter", lambda folder, purge_step: asked.append(purge_step)
    )
    if saved:
        (checkpoint,) = finished.output_dir.glob(f"checkpoint-{saved}")
        shutil.copytree(checkpoint, tmp_path / "run" / checkpoint.name)
    _callbacks(load_recipe(write_recipe(tmp_path, tensorboard=True)), main=True)
    assert asked == [purged]


@pytest.mark.slow
def test_a_compiled_run_trains_and_saves_as_any_other(tmp_path: Path) -> None:
    runs = []
    for flag in (False, True):
        path = write_recipe(tmp_path / str(flag), torch_compile=flag, max_steps=3, eval_steps=3)
        path.write_text(path.read_text().replace("dropout: 0.2", "dropout: 0.0"))
        runs.append(train(load_recipe(path)))
    plain, compiled = runs
    weights = [load_file(run.output_dir / "model.safetensors") for run in (plain, compiled)]
    assert weights[0].keys() == weights[1].keys()
    losses = [step_losses(run.output_dir) for run in (plain, compiled)]
    for (step, loss), (same, other) in zip(*losses, strict=True):
        assert step == same and other == pytest.approx(loss, rel=1e-4)


def test_damaged_weights_to_start_from_are_one_line(tmp_path: Path) -> None:
    first = load_recipe(write_recipe(tmp_path, max_steps=1, save_steps=1, eval_steps=1))
    train(first)
    start = shutil.copytree(first.output_dir, tmp_path / "start")
    (start / "model.safetensors").write_bytes(b"half")
    path = write_recipe(tmp_path / "second", init_from=str(start), model={}, max_steps=1)
    with pytest.raises(InputError, match=r"model\.safetensors` is cut short or damaged") as caught:
        train(load_recipe(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{}", '{"version": "1.0", "added_tokens": []}', '{"model": '])
def test_a_damaged_tokenizer_is_one_line(content: str, finished: TrainResult, tmp_path: Path) -> None:
    """For which `tokenizers` raises an `Exception` of no class of its own."""
    place = tmp_path / "tokenizer"
    place.mkdir()
    shutil.copy(finished.output_dir / "tokenizer_config.json", place)
    (place / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=f"tokenizer `{place}` cannot be loaded: "):
        train(load_recipe(write_recipe(tmp_path, tokenizer=str(place))))


def test_results_that_lack_something_are_named(finished: TrainResult, tmp_path: Path) -> None:
    shutil.copytree(finished.output_dir, tmp_path / "run")
    path = tmp_path / "run" / "results.json"
    path.write_text(json.dumps({"steps": 4}), encoding="utf-8")
    recipe = load_recipe(tmp_path / "run" / "recipe.yaml", ["--output_dir", str(tmp_path / "run")])
    with pytest.raises(InputError, match=f"`{path}` lacks checkpoints, scores: delete it"):
        train(recipe)


@pytest.mark.parametrize(("wanted", "on_cpu"), [("true", True), ("1", True), ("false", False), (None, False)])
def test_a_gpu_can_be_left_alone(
    wanted: str | None, on_cpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    if wanted is not None:
        monkeypatch.setenv("ACCELERATE_USE_CPU", wanted)
    given: list[Any] = []
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr(
        "vanilla_transformer.training.run.VanillaTransformerTrainingArguments",
        dataclasses.make_dataclass(
            "Arguments", [], namespace={"__init__": lambda self, **all: given.append(all)}
        ),
    )
    training_arguments(load_recipe(write_recipe(tmp_path)))
    assert given[0]["use_cpu"] is on_cpu
