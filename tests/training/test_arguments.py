from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import HfArgumentParser, TrainingArguments

from vanilla_transformer.training import VanillaTransformerTrainingArguments


def arguments(folder: Path, **changes: Any) -> VanillaTransformerTrainingArguments:
    settings: dict[str, Any] = {"output_dir": str(folder), "use_cpu": True} | changes
    return VanillaTransformerTrainingArguments(**settings)


def test_bpe_dropout_goes_with_batches_by_tokens(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`bpe_dropout` needs batches by tokens"):
        arguments(tmp_path, bpe_dropout=0.1, tokens_per_update=None)


def test_defaults_are_the_papers(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    assert (args.adam_beta1, args.adam_beta2, args.adam_epsilon) == (0.9, 0.98, 1e-9)
    assert (args.weight_decay, args.max_grad_norm, args.warmup_steps) == (0, 0, 4000)
    assert args.label_smoothing_factor == 0.1
    assert args.tokens_per_update == 25_000
    assert not args.logging_nan_inf_filter


@pytest.mark.parametrize(("device", "tokens"), [("cpu", 1024), ("cuda", 4096), ("mps", 4096)])
def test_a_forward_pass_is_smaller_on_a_cpu(
    device: str, tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own: Any = TrainingArguments.device

    def named(self: Any) -> torch.device:
        own.fget(self)  # which sets up more than it returns
        return torch.device(device)

    monkeypatch.setattr(TrainingArguments, "device", property(named))
    assert arguments(tmp_path).tokens_per_device == tokens


def test_accumulation_follows_from_the_token_limits(tmp_path: Path) -> None:
    args = arguments(tmp_path, tokens_per_update=25_000, tokens_per_device=4096)
    assert args.gradient_accumulation_steps == 7
    assert args.tokens_per_batch is not None
    assert args.tokens_per_batch <= 4096
    assert 7 * args.tokens_per_batch <= 25_000 < 7 * (args.tokens_per_batch + 1)


def test_without_a_token_limit_accumulation_is_the_users(tmp_path: Path) -> None:
    args = arguments(tmp_path, tokens_per_update=None, gradient_accumulation_steps=3)
    assert args.gradient_accumulation_steps == 3
    assert args.tokens_per_batch is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tokens_per_update", 0, "`tokens_per_update` must be positive, but is 0 instead."),
        ("tokens_per_device", -1, "`tokens_per_device` must be positive, but is -1 instead."),
        ("warmup_steps", 0, "`warmup_steps` must be positive, but is 0 instead."),
        ("streaming_window", 0, "`streaming_window` must be positive, but is 0 instead."),
        (
            "bpe_dropout_max_target_length",
            0,
            "`bpe_dropout_max_target_length` must be positive, but is 0 instead.",
        ),
        ("bpe_dropout", 1.0, "`bpe_dropout` must be at least 0 and below 1, but is 1.0 instead."),
        ("learning_rate_scale", -1.0, "`learning_rate_scale` must not be negative, but is -1.0 instead."),
        ("keep_best_checkpoints", -1, "`keep_best_checkpoints` must not be negative, but is -1 instead."),
    ],
)
def test_values_outside_their_limits_are_refused(
    tmp_path: Path, name: str, value: float, message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        arguments(tmp_path, **{name: value})
    assert str(caught.value) == message


def test_another_schedule_needs_no_warm_up(tmp_path: Path) -> None:
    assert arguments(tmp_path, warmup_steps=0, paper_schedule=False).warmup_steps == 0


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, None),
        ({"learning_rate": 5e-5, "lr_scheduler_type": "linear", "learning_rate_scale": 2.0}, None),
        ({"learning_rate": 1e-3, "paper_schedule": False}, None),
        ({"learning_rate": 1e-3}, "`learning_rate` would"),
        ({"lr_scheduler_type": "cosine"}, "`lr_scheduler_type` would"),
        ({"learning_rate": 1e-3, "lr_scheduler_type": "cosine"}, "`learning_rate` and `lr_scheduler_type`"),
    ],
)
def test_another_schedule_than_the_papers_is_not_ignored_silently(
    given: dict[str, Any], named: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments(tmp_path, **given)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (named is not None)
    assert named is None or (named in messages[0] and "with `paper_schedule=False`" in messages[0])


def test_the_command_line_parser_of_transformers_reads_them(tmp_path: Path) -> None:
    parser = HfArgumentParser(VanillaTransformerTrainingArguments)  # type: ignore[arg-type]  # its own example
    words = ["--output_dir", str(tmp_path), "--tokens_per_update", "500", "--tokens_per_device", "250"]
    (args,) = parser.parse_args_into_dataclasses([*words, "--use_cpu", "true"])
    assert args.gradient_accumulation_steps == 2
