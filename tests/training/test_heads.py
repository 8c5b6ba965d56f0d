"""Each head under transformers' own Trainer and collators: accumulation, label smoothing, learning."""

from pathlib import Path
from typing import Any

import pytest
import torch
from training_toy import VOCABULARY
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForCausalLM,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
)

HEADS: list[Any] = [
    VanillaTransformerForCausalLM,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
]


class Gradients(TrainerCallback):
    """Keeps the gradients of the last update."""

    def __init__(self) -> None:
        self.last: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.last = {name: tensor.grad.clone() for name, tensor in kwargs["model"].named_parameters()}


def toy_head(kind: Any, **changes: Any) -> Any:
    torch.manual_seed(0)
    fields: dict[str, Any] = {
        "vocab_size": VOCABULARY, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32, "dropout": 0.0, "num_labels": 3,
    }  # fmt: skip
    return kind(VanillaTransformerConfig(**(fields | changes)))


def texts(kind: Any, n: int = 8) -> list[dict[str, Any]]:
    """Texts of a few words, whose class is the first word's; every third is masked for a masked model."""
    rows = [[5 + i % 3, *(5 + (i + k) % 3 for k in range(1 + i % 4)), 2] for i in range(n)]
    if kind is VanillaTransformerForSequenceClassification:
        return [{"input_ids": row, "labels": row[0] - 5} for row in rows]
    if kind is VanillaTransformerForTokenClassification:
        return [{"input_ids": row, "labels": [token % 3 for token in row]} for row in rows]
    if kind is VanillaTransformerForCausalLM:
        return [{"input_ids": row} for row in rows]
    return [
        {
            "input_ids": [token if k % 3 else 4 for k, token in enumerate(row)],
            "labels": [-100 if k % 3 else token for k, token in enumerate(row)],
        }
        for row in rows
    ]


def collator(kind: Any, tokenizer: Any) -> Any:
    if kind is VanillaTransformerForSequenceClassification:
        return DataCollatorWithPadding(tokenizer)
    if kind is VanillaTransformerForCausalLM:
        return DataCollatorForLanguageModeling(tokenizer, mlm=False)
    return DataCollatorForTokenClassification(tokenizer)


def train(kind: Any, tokenizer: Any, folder: Path, **changes: Any) -> tuple[Trainer, Gradients]:
    settings: dict[str, Any] = {
        "output_dir": str(folder), "max_steps": 1, "logging_steps": 1, "save_strategy": "no",
        "report_to": "none", "use_cpu": True, "disable_tqdm": True, "max_grad_norm": 0,
        "per_device_train_batch_size": 8,
    }  # fmt: skip
    recorder = Gradients()
    trainer = Trainer(
        model=toy_head(kind),
        args=TrainingArguments(**(settings | changes)),
        data_collator=collator(kind, tokenizer),
        train_dataset=texts(kind),
        eval_dataset=texts(kind),
        callbacks=[recorder],
    )
    assert trainer.label_names == ["labels"]
    trainer.train()
    return trainer, recorder


@pytest.mark.parametrize("kind", HEADS)
def test_accumulated_batches_give_the_gradient_of_one(kind: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    _, whole = train(kind, tiny_tokenizer, tmp_path)
    _, parts = train(
        kind, tiny_tokenizer, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    for name, gradient in whole.last.items():
        assert (parts.last[name] - gradient).abs().max() <= 1e-5 * gradient.abs().max() + 1e-9, name


@pytest.mark.parametrize("kind", HEADS)
def test_the_stock_trainers_label_smoothing_is_ours(kind: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    """`LabelSmoother` takes the labels away and shifts them for causal models that it knows by name."""
    trainer, smoothed = train(kind, tiny_tokenizer, tmp_path, label_smoothing_factor=0.1)
    assert trainer.label_smoother is not None
    batch = collator(kind, tiny_tokenizer)(texts(kind))
    model = toy_head(kind)
    if getattr(model, "accepts_label_smoothing", False):
        model(**batch, label_smoothing=0.1).loss.backward()
    else:
        labels = batch.pop("labels")
        logits = model(**batch).logits
        torch.nn.functional.cross_entropy(
            logits.flatten(0, -2), labels.flatten(), label_smoothing=0.1
        ).backward()
    for name, parameter in model.named_parameters():
        largest = parameter.grad.abs().max()
        assert (smoothed.last[name] - parameter.grad).abs().max() <= 1e-4 * largest + 1e-9, name


@pytest.mark.parametrize("kind", HEADS)
def test_the_stock_trainer_teaches_each_head(kind: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    trainer, _ = train(kind, tiny_tokenizer, tmp_path, max_steps=30, learning_rate=0.02)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.7 * losses[0]
    assert trainer.evaluate()["eval_loss"] < losses[0]
    trainer.save_model(str(tmp_path / "saved"))
    assert type(kind.from_pretrained(tmp_path / "saved")) is kind


def test_masks_drawn_by_the_stock_collator(tiny_tokenizer: Any) -> None:
    masks = DataCollatorForLanguageModeling(tiny_tokenizer, mlm_probability=0.5, seed=1)
    model = toy_head(VanillaTransformerForMaskedLM, vocab_size=len(tiny_tokenizer))
    batch = masks([{"input_ids": row["input_ids"]} for row in texts(VanillaTransformerForCausalLM)])
    outputs = model(**batch)
    chosen = batch["labels"] != -100
    assert batch["input_ids"].eq(4).any() and not chosen.all()
    expected = torch.nn.functional.cross_entropy(outputs.logits[chosen], batch["labels"][chosen])
    assert outputs.loss.item() == pytest.approx(expected.item(), rel=1e-5)
