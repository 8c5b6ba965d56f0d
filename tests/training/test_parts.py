"""Parts of a model by name: freezing, and learning rates of their own."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from training_toy import copy_dataset, toy_arguments, toy_model, write_recipe
from transformers import HfArgumentParser

from vanilla_transformer.errors import InputError
from vanilla_transformer.files import read_json
from vanilla_transformer.training import (
    VanillaTransformerTrainer,
    VanillaTransformerTrainingArguments,
    freeze,
    load_recipe,
    paper_learning_rate,
    train,
)
from vanilla_transformer.training.parts import learning_rate_factors_of


def trainer_of(model: Any, tokenizer: Any, folder: Path, **changes: Any) -> VanillaTransformerTrainer:
    args = toy_arguments(folder, **changes)
    return VanillaTransformerTrainer(model, args, train_dataset=copy_dataset(60), processing_class=tokenizer)


def frozen_names(names: list[str], **changes: Any) -> set[str]:
    model = toy_model(encoder_layers=3, **changes)
    freeze(model, names)
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def below(prefix: str, **changes: Any) -> set[str]:
    model = toy_model(encoder_layers=3, **changes)
    return {name for name, _ in model.named_parameters() if name.startswith(f"model.{prefix}.")}


def test_embeddings_are_every_use_of_the_shared_matrix() -> None:
    for name in ("embeddings", "shared", "lm_head", "model.decoder.embed_tokens"):
        assert frozen_names([name]) == {"model.shared.weight"}


def test_a_stack_leaves_out_what_others_use_too() -> None:
    assert frozen_names(["encoder"]) == below("encoder")
    apart = {"share_encoder_decoder_embeddings": False}
    assert frozen_names(["encoder"], **apart) == below("encoder", **apart)
    assert "model.encoder.embed_tokens.weight" in frozen_names(["encoder"], **apart)
    assert "model.decoder.embed_tokens.weight" not in frozen_names(["decoder"], **apart), "lm_head uses it"


def test_layers_and_ranges_of_layers() -> None:
    assert frozen_names(["encoder.layers.1"]) == below("encoder.layers.1")
    assert frozen_names(["encoder.layers.0-1"]) == below("encoder.layers.0") | below("encoder.layers.1")
    assert frozen_names(["decoder.layers.0.fc1"]) == below("decoder.layers.0.fc1")


@pytest.mark.parametrize("name", ["encodr", "encoder.layers.3", "encoder.layers.1-3", "encoder.layers.2-1"])
def test_an_unknown_part_names_the_choices(name: str) -> None:
    choices = "embeddings, lm_head, shared, encoder, encoder.layers.0-2, decoder, decoder.layers.0-0"
    with pytest.raises(InputError, match="^`freeze` names `" + name) as caught:
        frozen_names([name])
    assert set(choices.split(", ")) <= set(
        str(caught.value).replace(", and", ",").split("are ")[1].split(", ")
    )


def test_something_must_be_left_to_train() -> None:
    with pytest.raises(InputError, match="must leave something to train"):
        freeze(toy_model(), ["embeddings", "encoder", "decoder"])


def test_the_count_is_of_parameters_each_once() -> None:
    assert freeze(toy_model(), ["embeddings", "lm_head"]) == 40 * 16


@pytest.mark.parametrize("checkpointing", [False, True])
def test_frozen_parts_stay_to_the_bit_without_gradient_or_optimizer_state(
    checkpointing: bool, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    model = toy_model()
    freeze(model, ["embeddings", "encoder.layers.0"])
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    if checkpointing:
        model.gradient_checkpointing_enable()
    trainer = trainer_of(model, tiny_tokenizer, tmp_path, weight_decay=0.1)
    trainer.train()
    held = {parameter for group in trainer.optimizer.param_groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        frozen = name == "model.shared.weight" or name.startswith("model.encoder.layers.0")
        assert parameter.equal(before[name]) is frozen, name
        assert (parameter in held) is (parameter in trainer.optimizer.state) is not frozen
        assert parameter.grad is None or not frozen


def test_each_part_learns_at_its_factor_of_the_papers_rate(tiny_tokenizer: Any, tmp_path: Path) -> None:
    """Adam's first step moves a parameter by the learning rate, wherever the gradient is not tiny."""
    model = toy_model()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    factors = {"encoder": 0.5, "encoder.layers.0.fc1": 2, "embeddings": 0.25}
    trainer = trainer_of(model, tiny_tokenizer, tmp_path, max_steps=1, learning_rate_factors=factors)
    trainer.train()
    rate = paper_learning_rate(1, d_model=16, warmup=10)
    for name, parameter in model.named_parameters():
        factor = 1.0
        if ".encoder." in name:
            factor = 2.0 if ".fc1." in name else 0.5
        elif name == "model.shared.weight":
            factor = 0.25
        moved = (parameter.detach() - before[name]).abs().max().item()
        assert math.isclose(moved, factor * rate, rel_tol=1e-3), name
    assert trainer.state.log_history[0]["learning_rate"] == pytest.approx(rate)


def test_the_smallest_part_decides_whatever_the_order() -> None:
    model = toy_model()
    factors = {"encoder.layers.0.fc1": 2.0, "encoder": 0.5}
    for ordered in (factors, dict(reversed(factors.items()))):
        found = learning_rate_factors_of(model, ordered)
        assert found[model.model.encoder.layers[0].fc1.weight] == 2.0
        assert found[model.model.encoder.layers[0].fc2.weight] == 0.5
        assert model.lm_head.weight not in found


def test_another_schedule_and_a_resumed_run_keep_the_factors(tiny_tokenizer: Any, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "learning_rate_factors": {"decoder": 0.1}, "save_strategy": "steps", "save_steps": 2,
        "paper_schedule": False, "learning_rate": 0.01, "lr_scheduler_type": "constant", "warmup_steps": 0,
    }  # fmt: skip
    whole = trainer_of(toy_model(), tiny_tokenizer, tmp_path, **settings)
    whole.train()
    assert {group["lr"] for group in whole.optimizer.param_groups} == {0.01, 0.001}
    resumed = trainer_of(toy_model(), tiny_tokenizer, tmp_path, **settings)
    resumed.train(str(tmp_path / "checkpoint-2"))
    assert [group["lr"] for group in resumed.optimizer.param_groups] == [
        group["lr"] for group in whole.optimizer.param_groups
    ]
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert ours.equal(theirs)


@pytest.mark.parametrize("factor", [0, -1, float("nan"), "high", True])
def test_a_factor_is_a_positive_number(factor: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`learning_rate_factors\.encoder` must be a positive number"):
        toy_arguments(tmp_path, learning_rate_factors={"encoder": factor})


def test_an_unknown_part_is_told_before_training(tiny_tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`learning_rate_factors` names `head`"):
        trainer_of(toy_model(), tiny_tokenizer, tmp_path, learning_rate_factors={"head": 2.0})


def test_factors_from_a_command_line(tmp_path: Path) -> None:
    arguments: Any = VanillaTransformerTrainingArguments
    parser = HfArgumentParser(arguments)
    words = ["--output_dir", str(tmp_path), "--learning_rate_factors", '{"encoder": 0.1}']
    (args,) = parser.parse_args_into_dataclasses(words)
    assert args.learning_rate_factors == {"encoder": 0.1}


def test_a_recipe_freezes_and_scales(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "freeze": ["embeddings", "encoder.layers.0-0"], "learning_rate_factors": {"decoder": 0.5},
        "max_steps": 2, "eval_steps": 1, "save_steps": 1, "final_model": "last",
    }  # fmt: skip
    result = train(load_recipe(write_recipe(tmp_path, **changes)))
    state = torch.load(result.output_dir / "checkpoint-2" / "optimizer.pt", weights_only=True)
    factors = [group["learning_rate_factor"] for group in state["param_groups"]]
    assert factors == [0.5, 0.5], "nothing else is trained"
    assert read_json(result.output_dir / "results.json")["steps"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--freeze", "encoder"], "`freeze` must be a list of strings, but is encoder instead"),
        (["--freeze", "[1]"], r"`freeze` must be a list of strings, but is \[1\] instead"),
        (["--learning_rate_factors.encoder", "0"], "factors.encoder` must be a positive number, but is 0"),
    ],
)
def test_wrong_keys_of_a_recipe(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe("demo", words)
    assert load_recipe("demo", ["--freeze", "[encoder, decoder.layers.0]"]).freeze[1] == "decoder.layers.0"
