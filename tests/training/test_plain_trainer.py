"""Fine-tuning with transformers' own Trainer and collators, without any script of ours."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from helpers import parallel_sentences
from training_toy import toy_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

TEXTS = [source for source, _ in parallel_sentences(32)]


def fine_tune(model: Any, dataset: Dataset, collator: Any, folder: Path) -> list[float]:
    """Return the loss of each update over the whole data set."""
    args = TrainingArguments(
        str(folder), num_train_epochs=6, per_device_train_batch_size=16, gradient_accumulation_steps=2,
        learning_rate=0.01, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True,
        disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model, args, train_dataset=dataset, data_collator=collator)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture
def pretrained(tiny_tokenizer: Any, tmp_path: Path) -> Path:
    """Return the folder of a translation model."""
    toy_model(vocab_size=len(tiny_tokenizer)).save_pretrained(tmp_path / "translation")
    return tmp_path / "translation"


def test_a_classifier(pretrained: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    columns = dict(tiny_tokenizer(TEXTS, return_token_type_ids=False))
    dataset = Dataset.from_dict(columns | {"label": [len(text) % 2 for text in TEXTS]})
    model = AutoModelForSequenceClassification.from_pretrained(pretrained, num_labels=2)
    losses = fine_tune(model, dataset, DataCollatorWithPadding(tiny_tokenizer), tmp_path)
    assert losses[0] == pytest.approx(0.7, abs=0.35), "not twice as large for two batches an update"
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("masked", [False, True])
def test_a_language_model(masked: bool, pretrained: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    dataset = Dataset.from_dict(dict(tiny_tokenizer(TEXTS, return_token_type_ids=False)))
    auto: Any = AutoModelForMaskedLM if masked else AutoModelForCausalLM
    collator = DataCollatorForLanguageModeling(tiny_tokenizer, mlm=masked, mlm_probability=0.5, seed=0)
    losses = fine_tune(auto.from_pretrained(pretrained), dataset, collator, tmp_path)
    assert losses[-1] < 0.9 * losses[0]
