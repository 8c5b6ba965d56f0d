import copy
import logging
import math
import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from training_toy import collate, copy_dataset, copy_pairs, toy_arguments, toy_model
from transformers import (
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    EvalPrediction,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)
from transformers.trainer_pt_utils import LabelSmoother

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
)
from vanilla_transformer.errors import InputError
from vanilla_transformer.modeling.loss_vanilla_transformer import IGNORED
from vanilla_transformer.training import (
    StopWithoutImprovement,
    TextCollator,
    TranslationCollator,
    VanillaTransformerTrainer,
    load_pairs,
    paper_learning_rate,
    parallel_files,
    prepare_pairs,
)
from vanilla_transformer.training.callbacks import IntervalCounts
from vanilla_transformer.training.checkpoints import best_steps, list_checkpoints, read_state
from vanilla_transformer.training.evaluating_trainer import sum_of_scores
from vanilla_transformer.training.texts import Masking


class Recorder(TrainerCallback):
    """Keeps the gradients and the learning rate of each update."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.rates: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.gradients.append({n: p.grad.clone() for n, p in kwargs["model"].named_parameters()})
        self.rates.append(kwargs["optimizer"].param_groups[0]["lr"])


def stock_arguments(folder: Path, **changes: Any) -> Seq2SeqTrainingArguments:
    settings: dict[str, Any] = {
        "output_dir": str(folder), "max_steps": 4, "logging_steps": 1, "save_strategy": "no",
        "report_to": "none", "use_cpu": True, "disable_tqdm": True, "max_grad_norm": 0,
    }  # fmt: skip
    return Seq2SeqTrainingArguments(**(settings | changes))


def make_trainer(
    folder: Path, *, model: Any = None, data: Any = None, **changes: Any
) -> VanillaTransformerTrainer:
    extra = {
        name: changes.pop(name)
        for name in ("callbacks", "eval_dataset", "compute_metrics")
        if name in changes
    }
    return VanillaTransformerTrainer(
        model=toy_model() if model is None else model,
        args=toy_arguments(folder, **changes),
        data_collator=collate,
        train_dataset=copy_dataset(30) if data is None else data,
        **extra,
    )


def losses(trainer: Seq2SeqTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def assert_same_gradients(
    ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], rtol: float
) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert torch.allclose(gradient, theirs[name], rtol=rtol, atol=rtol * 1e-3), name


# Batches


def test_every_batch_and_every_update_keeps_its_bound(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, data=copy_dataset(100), tokens_per_update=100, tokens_per_device=30)
    accumulation = trainer.args.gradient_accumulation_steps
    assert accumulation == 4
    batches = list(trainer.get_train_dataloader())
    assert len(batches) % accumulation == 0
    for name in ("input_ids", "labels"):
        sizes = [batch[name].numel() for batch in batches]
        assert max(sizes) <= 30
        updates = [sum(sizes[i : i + accumulation]) for i in range(0, len(sizes), accumulation)]
        assert max(updates) <= 100
    assert sum(len(batch["labels"]) for batch in batches) == 100


def test_accumulation_gives_the_loss_and_the_gradient_of_one_large_batch(tmp_path: Path) -> None:
    results = []
    for tokens_per_device in (200, 50):
        recorder = Recorder()
        trainer = make_trainer(
            tmp_path,
            model=toy_model().double(),
            data=copy_dataset(8),
            tokens_per_update=200,
            tokens_per_device=tokens_per_device,
            max_steps=2,
            callbacks=[recorder],
        )
        trainer.train()
        results.append((trainer.args.gradient_accumulation_steps, losses(trainer), recorder.gradients))
    (one, losses_1, gradients_1), (four, losses_4, gradients_4) = results
    assert (one, four) == (1, 4)
    # The Trainer sums losses in float32.
    assert losses_4 == pytest.approx(losses_1, rel=1e-6)
    for gradient_1, gradient_4 in zip(gradients_1, gradients_4, strict=True):
        assert_same_gradients(gradient_1, gradient_4, rtol=1e-9)


def test_epochs_differ_and_each_holds_every_pair(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, data=copy_dataset(40))
    seen = []
    loader = trainer.get_train_dataloader()
    assert trainer.updates_per_epoch is not None
    for epoch in range(2):
        trainer._begin_epoch(epoch * trainer.updates_per_epoch)
        seen.append([tuple(row) for batch in loader for row in batch["input_ids"].tolist()])
    assert seen[0] != seen[1]
    wanted = sorted(tuple(pair["input_ids"]) for pair in copy_pairs(40))
    for epoch_rows in seen:
        assert sorted(tuple(token for token in row if token) for row in epoch_rows) == wanted


def test_pairs_in_a_plain_list_need_no_length_columns(tmp_path: Path) -> None:
    plain = make_trainer(tmp_path, data=copy_pairs(30))
    plain.train()
    with_columns = make_trainer(tmp_path)
    with_columns.train()
    without_lengths = make_trainer(tmp_path, data=Dataset.from_list(copy_pairs(30)))
    without_lengths.train()
    assert losses(plain) == losses(with_columns) == losses(without_lengths)


def test_workers_give_the_same_batches(tmp_path: Path) -> None:
    one, two = make_trainer(tmp_path), make_trainer(tmp_path, dataloader_num_workers=2)
    one.train()
    two.train()
    assert losses(one) == losses(two)


def test_a_stream_trains_and_its_updates_keep_the_bounds(tmp_path: Path) -> None:
    stream = copy_dataset(30).to_iterable_dataset()
    trainer = make_trainer(tmp_path, data=stream, max_steps=12, streaming_window=10)
    trainer.train()
    assert trainer.state.global_step == 12  # several passes
    assert len(losses(trainer)) == 12
    for batch, _ in zip(trainer.get_train_dataloader(), range(6), strict=False):
        assert max(batch["input_ids"].numel(), batch["labels"].numel()) <= 40


def test_a_worker_reads_a_stream_ahead_and_gives_the_same_batches(tmp_path: Path) -> None:
    def run(workers: int) -> VanillaTransformerTrainer:
        data = copy_dataset(30).to_iterable_dataset()
        trainer = make_trainer(
            tmp_path, model=toy_model(dropout=0.3), data=data, max_steps=8, streaming_window=10,
            dataloader_num_workers=workers,
        )  # fmt: skip
        # A second worker would have nothing to do.
        assert trainer.get_train_dataloader().num_workers == min(workers, 1)
        trainer.train()
        return trainer

    assert losses(run(2)) == losses(run(0))


def test_bad_input_that_a_worker_finds_is_one_line(
    tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_files, "BATCH_SIZE", 1)  # the first line is read before training
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"source": "w1", "target": "w2"}\n{"source": "w1"}\n', encoding="utf-8")
    data, _ = prepare_pairs(load_pairs(file=path, streaming=True), tiny_tokenizer)
    trainer = make_trainer(tmp_path, data=data, dataloader_num_workers=1)
    with pytest.raises(InputError) as caught:
        trainer.train()
    assert str(caught.value) == f"`{path}` line 2 has no `target`; its columns are `source`."
    # The traceback keeps the worker, which would hold the pipes of other tests open.
    for worker in multiprocessing.active_children():
        worker.terminate()
        worker.join()


def test_workers_that_may_outlive_an_epoch_hide_other_tokens_in_each(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in copy_pairs(30)]
    trainer = VanillaTransformerTrainer(
        toy_model(),
        toy_arguments(tmp_path, dataloader_num_workers=1, dataloader_persistent_workers=True),
        TextCollator(tiny_tokenizer, Masking(tiny_tokenizer, seed=1)),
        train_dataset=rows,
    )
    loader = trainer.get_train_dataloader()
    seen = []
    for epoch in range(2):
        trainer._begin_epoch(epoch * (trainer.updates_per_epoch or 0))
        rows_of_epoch = (row for batch in loader for row in batch["labels"].tolist())
        # Without padding, which differs from epoch to epoch.
        seen.append({tuple((k, label) for k, label in enumerate(row) if label >= 0) for row in rows_of_epoch})
    assert seen[0] != seen[1]


def test_batches_by_sentences_hide_other_tokens_in_each_epoch(tmp_path: Path, tiny_tokenizer: Any) -> None:
    rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in copy_pairs(10)]
    collator = TextCollator(tiny_tokenizer, Masking(tiny_tokenizer, seed=1))
    epochs = []

    class Note(TrainerCallback):
        def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
            epochs.append(collator.masking.epoch if collator.masking else None)

    args = toy_arguments(tmp_path, tokens_per_update=None, max_steps=-1, num_train_epochs=3)
    model = VanillaTransformerForMaskedLM(toy_model(vocab_size=len(tiny_tokenizer)).config)
    VanillaTransformerTrainer(model, args, collator, train_dataset=rows, callbacks=[Note()]).train()
    assert epochs == [0, 1, 2]


def test_the_newest_checkpoint_stays_beside_later_ones_of_another_run(tmp_path: Path) -> None:
    for step in (80, 90):
        (tmp_path / f"checkpoint-{step}").mkdir()
    make_trainer(tmp_path, max_steps=3, save_strategy="steps", save_steps=1, save_total_limit=1).train()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-3", "checkpoint-90"]


def test_a_resumed_run_saves_as_it_is_told_now(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"save_strategy": "steps", "logging_steps": 1}
    make_trainer(tmp_path, max_steps=2, save_steps=1, **settings).train()
    make_trainer(tmp_path, max_steps=6, save_steps=4, **settings).train(resume_from_checkpoint=True)
    assert [path.name for path in list_checkpoints(tmp_path)] == [f"checkpoint-{n}" for n in (1, 2, 4, 6)]


def test_a_stream_needs_max_steps(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_steps"):
        make_trainer(tmp_path, data=copy_dataset(30).to_iterable_dataset(), max_steps=-1)


def test_plain_arguments_batch_by_sentences_as_the_stock_trainer(tmp_path: Path) -> None:
    args = stock_arguments(tmp_path, max_steps=3, per_device_train_batch_size=5)
    results = []
    for kind in (Seq2SeqTrainer, VanillaTransformerTrainer):
        trainer = kind(model=toy_model(), args=args, data_collator=collate, train_dataset=copy_pairs(20))
        trainer.train()
        results.append(losses(trainer))
    # Ours lets the model compute the loss without the logits, which rounds differently.
    assert results[0] == pytest.approx(results[1], rel=1e-6)


def test_a_run_with_plain_arguments_is_saved_and_goes_on(tmp_path: Path) -> None:
    def trainer(steps: int) -> VanillaTransformerTrainer:
        args = stock_arguments(tmp_path, max_steps=steps, save_strategy="steps", save_steps=1)
        return VanillaTransformerTrainer(toy_model(), args, collate, train_dataset=copy_pairs(20))

    trainer(2).train()
    resumed = trainer(3)
    assert resumed.train(resume_from_checkpoint=True).global_step == 3
    assert [path.name for path in list_checkpoints(tmp_path)] == [f"checkpoint-{n}" for n in (1, 2, 3)]


def test_plain_arguments_have_the_collator_and_the_scores_too(tmp_path: Path, tiny_tokenizer: Any) -> None:
    data = copy_pairs(8)
    trainer = VanillaTransformerTrainer(
        toy_model(),
        stock_arguments(tmp_path, predict_with_generate=True, per_device_eval_batch_size=3, bf16=False),
        train_dataset=data,
        eval_dataset=data,
        processing_class=tiny_tokenizer,
    )
    assert isinstance(trainer.data_collator, TranslationCollator)
    assert trainer.train().global_step == 4
    assert {"eval_bleu", "eval_chrf", "eval_perplexity"} <= trainer.evaluate().keys()


# Loss


def test_label_smoothing_is_in_the_training_loss_and_not_in_the_evaluation_loss(tmp_path: Path) -> None:
    pairs = copy_pairs(7, seed=5)
    model = toy_model()
    batch = collate(pairs)
    smoothed = model(**batch, label_smoothing=0.3).loss.item()
    plain = model(**batch).loss.item()
    assert smoothed != pytest.approx(plain, rel=1e-3)
    trainer = make_trainer(
        tmp_path, model=model, data=pairs, eval_dataset=pairs, label_smoothing_factor=0.3,
        tokens_per_update=100, tokens_per_device=100, max_steps=1,
    )  # fmt: skip
    assert trainer.evaluate()["eval_loss"] == pytest.approx(plain, rel=1e-6)
    trainer.train()
    assert losses(trainer) == [pytest.approx(smoothed, rel=1e-6)]


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_the_evaluation_loss_is_exact_per_token(tmp_path: Path, batch_size: int) -> None:
    pairs = copy_pairs(7, seed=5)
    model = toy_model().eval()
    trainer = make_trainer(tmp_path, model=model, eval_dataset=pairs, per_device_eval_batch_size=batch_size)
    metrics = trainer.evaluate()
    with torch.no_grad():
        wanted = float(model(**collate(pairs)).loss)
    assert metrics["eval_loss"] == pytest.approx(wanted, rel=1e-6)
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(wanted), rel=1e-5)


def test_label_smoothing_is_that_of_the_arguments_when_training_begins(tmp_path: Path) -> None:
    """A search for hyper-parameters sets it for each of its trainings."""
    pairs = copy_pairs(7, seed=5)
    smoothed = toy_model()(**collate(pairs), label_smoothing=0.3).loss.item()
    trainer = make_trainer(
        tmp_path, data=pairs, label_smoothing_factor=0.0, tokens_per_update=100, tokens_per_device=100,
        max_steps=1,
    )  # fmt: skip
    trainer.args.label_smoothing_factor = 0.3
    trainer.train()
    assert losses(trainer) == [pytest.approx(smoothed, rel=1e-6)]


def logits_beside_the_loss(model: torch.nn.Module) -> list[bool]:
    """Return whether the passes of the model that compute a loss give logits too, as they are made."""
    found: list[bool] = []

    def note(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if output.loss is not None:
            found.append(output.logits is not None)

    model.register_forward_hook(note, with_kwargs=True)
    return found


@pytest.mark.parametrize("generates", [False, True])
def test_evaluation_computes_no_logits_that_nobody_reads(tmp_path: Path, generates: bool) -> None:
    model, pairs = toy_model().eval(), copy_pairs(7, seed=5)
    with torch.no_grad():
        wanted = float(model(**collate(pairs)).loss)
    given = logits_beside_the_loss(model)
    trainer = make_trainer(
        tmp_path, model=model, eval_dataset=pairs, per_device_eval_batch_size=3,
        predict_with_generate=generates, compute_metrics=token_match if generates else None,
    )  # fmt: skip
    assert trainer.evaluate()["eval_loss"] == pytest.approx(wanted, rel=1e-6)
    assert given == [False] * 3


def test_a_language_model_is_evaluated_without_logits(tmp_path: Path, tiny_tokenizer: Any) -> None:
    torch.manual_seed(0)
    model = VanillaTransformerForMaskedLM(toy_model(vocab_size=len(tiny_tokenizer)).config)
    collator = TextCollator(tiny_tokenizer, Masking(tiny_tokenizer, seed=1))
    rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in copy_pairs(6)]
    given = logits_beside_the_loss(model)
    args = toy_arguments(tmp_path, predict_with_generate=True)
    VanillaTransformerTrainer(model, args, collator, eval_dataset=rows).evaluate()
    assert given == [False]


def test_who_reads_logits_gets_them(tmp_path: Path) -> None:
    class WithPenalty(VanillaTransformerTrainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            loss = loss + outputs.logits.square().mean()
            return (loss, outputs) if return_outputs else loss

    def own_loss(outputs: Any, labels: Any, num_items_in_batch: Any) -> torch.Tensor:
        return outputs.logits.square().mean()

    pairs = copy_pairs(5)
    width = toy_model().config.vocab_size
    scored = make_trainer(
        tmp_path, eval_dataset=pairs, compute_metrics=lambda found: {"width": found.predictions[0].shape[-1]}
    )
    assert scored.evaluate()["eval_width"] == width
    assert make_trainer(tmp_path).predict(pairs).predictions[0].shape[-1] == width
    args = toy_arguments(tmp_path)
    penalised = WithPenalty(toy_model(), args, collate, eval_dataset=pairs)
    assert penalised.evaluate()["eval_loss"] > make_trainer(tmp_path).evaluate(pairs)["eval_loss"]
    free = VanillaTransformerTrainer(
        toy_model(), args, collate, eval_dataset=pairs, compute_loss_func=own_loss
    )
    assert free.evaluate()["eval_loss"] > 0


def test_the_stock_trainer_with_its_label_smoother_gives_the_same_gradients(tmp_path: Path) -> None:
    pairs = copy_pairs(12, seed=3)
    ours, theirs = Recorder(), Recorder()
    one_update = {"tokens_per_update": 200, "tokens_per_device": 200, "max_steps": 1}
    trainer = make_trainer(tmp_path, data=pairs, callbacks=[ours], **one_update)
    trainer.train()
    stock = Seq2SeqTrainer(
        model=toy_model(),
        args=stock_arguments(
            tmp_path, max_steps=1, per_device_train_batch_size=12, label_smoothing_factor=0.1
        ),
        data_collator=collate,
        train_dataset=pairs,
        callbacks=[theirs],
    )
    assert stock.label_smoother is not None
    stock.train()
    assert losses(trainer) == pytest.approx(losses(stock), rel=1e-6)
    # In float32 only: `LabelSmoother` sums in float32 whatever the model.
    for name, gradient in theirs.gradients[0].items():
        difference = (ours.gradients[0][name] - gradient).abs().max()
        assert difference <= 1e-5 * gradient.abs().max(), name


def test_the_stock_trainer_reports_the_loss_of_our_model(tmp_path: Path) -> None:
    trainer = Seq2SeqTrainer(model=toy_model(), args=stock_arguments(tmp_path), data_collator=collate)
    assert trainer.label_names == ["labels"]
    with torch.no_grad():
        wanted = float(toy_model().eval()(**collate(copy_pairs(4))).loss)
    assert trainer.evaluate(copy_pairs(4))["eval_loss"] == pytest.approx(wanted, rel=1e-5)


def test_the_stock_trainer_adds_noise_to_the_embeddings(tmp_path: Path) -> None:
    """NEFTune (Jain et al., 2023) hooks `get_input_embeddings()`, which must be what is called."""

    def first_loss(alpha: float | None) -> float:
        args = stock_arguments(tmp_path, max_steps=1, neftune_noise_alpha=alpha)
        trainer = Seq2SeqTrainer(
            model=toy_model(), args=args, data_collator=collate, train_dataset=copy_pairs(8)
        )
        trainer.train()
        return losses(trainer)[0]

    assert abs(first_loss(50.0) - first_loss(None)) > 1e-3


def test_the_stock_trainer_trains_evaluates_and_saves_our_model(tmp_path: Path) -> None:
    args = stock_arguments(
        tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2, eval_strategy="steps",
        eval_steps=2, save_strategy="steps", save_steps=2, predict_with_generate=True,
        load_best_model_at_end=True,
    )  # fmt: skip
    trainer = Seq2SeqTrainer(
        model=toy_model(), args=args, data_collator=collate, train_dataset=copy_pairs(20),
        eval_dataset=copy_pairs(4), processing_class=None,
        compute_metrics=lambda prediction: {"sentences": len(prediction.predictions)},
    )  # fmt: skip
    trainer.train()
    assert len(losses(trainer)) == 4
    assert {"eval_loss", "eval_sentences"} <= set(trainer.evaluate())
    assert (tmp_path / "checkpoint-4" / "model.safetensors").is_file()


def test_a_model_without_label_smoothing_keeps_the_label_smoother(tmp_path: Path) -> None:
    config = MarianConfig(
        vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=0, eos_token_id=2,
        decoder_start_token_id=1, max_position_embeddings=64, dropout=0.0,
    )  # fmt: skip
    pairs = copy_pairs(6)
    model = MarianMTModel(config)
    trainer = make_trainer(tmp_path, model=model, data=pairs, eval_dataset=pairs, max_steps=1)
    assert trainer.label_smoother is not None
    batch = collate(pairs)
    with torch.no_grad():
        outputs = model.eval()(**batch)
    smoothed = float(LabelSmoother(epsilon=0.1)(outputs, batch["labels"]))
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(outputs.loss), rel=1e-5)
    assert trainer.label_smoother is not None
    trainer.train()
    assert losses(trainer) == [pytest.approx(smoothed, rel=1e-5)]
    assert smoothed != pytest.approx(float(outputs.loss), rel=1e-5)


# The model that is made


def test_targets_begin_as_those_of_the_model_that_is_made(tmp_path: Path, tiny_tokenizer: Any) -> None:
    """Converted models begin with </s>, and many a tokenizer has no <s>."""
    without_bos = copy.deepcopy(tiny_tokenizer)
    without_bos.bos_token = None
    for tokenizer in (tiny_tokenizer, without_bos):
        trainer = VanillaTransformerTrainer(
            args=toy_arguments(tmp_path),
            processing_class=tokenizer,
            model_init=lambda: toy_model(decoder_start_token_id=2),
        )
        collator: Any = trainer.data_collator
        assert collator(copy_pairs(1))["decoder_input_ids"][0, 0] == 2


def test_what_a_target_begins_with_must_be_known(tmp_path: Path, tiny_tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.bos_token = None
    model = toy_model()
    model.config.decoder_start_token_id = None
    with pytest.raises(InputError, match="nothing says what a target begins with"):
        VanillaTransformerTrainer(model, toy_arguments(tmp_path), processing_class=tokenizer)


def test_each_model_that_is_made_can_be_sharded(tmp_path: Path) -> None:
    trainer = VanillaTransformerTrainer(
        args=toy_arguments(tmp_path), data_collator=collate, train_dataset=copy_dataset(9),
        model_init=lambda: toy_model(),
    )  # fmt: skip
    trainer.is_fsdp_enabled = True
    parts = trainer.call_model_init().model
    assert parts.encoder.embed_tokens is parts.decoder.embed_tokens is parts.shared


@pytest.mark.parametrize(
    ("metrics", "wanted"),
    [
        ({"eval_bleu": 30.0, "eval_chrf": 50.0, "eval_loss": 2.0, "eval_perplexity": 7.4, "epoch": 1}, 80.0),
        ({"eval_loss": 2.0, "eval_perplexity": 7.4, "eval_model_preparation_time": 0.1}, 2.0),
        ({"eval_a_bleu": 30.0, "eval_a_perplexity": 7.4, "eval_runtime": 3.0}, 30.0),
    ],
)
def test_a_search_sums_the_scores_and_not_the_perplexity(
    metrics: dict[str, float], wanted: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objectives: list[Any] = []
    monkeypatch.setattr(
        Seq2SeqTrainer, "hyperparameter_search", lambda self, space, objective: objectives.append(objective)
    )
    make_trainer(tmp_path).hyperparameter_search()
    make_trainer(tmp_path).hyperparameter_search(compute_objective=len)
    assert objectives == [sum_of_scores, len]
    assert objectives[0](metrics) == wanted


# Schedule and log


def test_updates_have_the_papers_learning_rate_from_the_first_on(tmp_path: Path) -> None:
    recorder = Recorder()
    make_trainer(tmp_path, max_steps=6, warmup_steps=3, learning_rate_scale=2.0, callbacks=[recorder]).train()
    assert recorder.rates == [paper_learning_rate(step, 16, 3, 2.0) for step in range(1, 7)]


def test_the_papers_schedule_for_a_model_of_two_configurations(tmp_path: Path) -> None:
    """Such a one has no `d_model`; the decoder's width counts."""
    small: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    halves = [BertConfig(vocab_size=40, hidden_size=width, **small) for width in (32, 16)]
    config = EncoderDecoderConfig.from_encoder_decoder_configs(*halves)
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    trainer = make_trainer(tmp_path, model=EncoderDecoderModel(config))
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert rates == [paper_learning_rate(step, 16, 10) for step in (1, 2, 3, 4)]


def test_the_papers_schedule_can_be_switched_off(tmp_path: Path) -> None:
    recorder = Recorder()
    make_trainer(
        tmp_path, paper_schedule=False, learning_rate=0.5, warmup_steps=0, lr_scheduler_type="constant",
        callbacks=[recorder],
    ).train()  # fmt: skip
    assert recorder.rates == [0.5] * 4


def test_the_log_tells_speed_padding_and_rate(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, logging_steps=2)
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in entries] == [2, 4]
    for entry in entries:
        assert entry["target_tokens_per_second"] > 0
        assert 0 <= entry["padding_share"] < 1
        assert entry["learning_rate"] == paper_learning_rate(int(entry["step"]), 16, 10)
        assert entry["epoch"] > 0
        assert "grad_norm" not in entry


def test_padding_share_counts_source_and_target(tmp_path: Path) -> None:
    pairs = [{"input_ids": [5] * 3 + [2], "labels": [5, 2]}, {"input_ids": [5, 2], "labels": [5, 2]}]
    trainer = make_trainer(tmp_path, data=pairs, tokens_per_update=20, tokens_per_device=20, max_steps=1)
    trainer.train()
    # Source 4 + 2 of 8, target 4 of 4.
    assert trainer.state.log_history[0]["padding_share"] == round(1 - 10 / 12, 4)


def test_padding_share_does_not_count_what_a_masked_model_need_not_predict(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    rows = [{"input_ids": ids, "labels": ids} for ids in ([5, 6, 7, 2], [5, 2])]
    model = VanillaTransformerForMaskedLM(toy_model(vocab_size=len(tiny_tokenizer)).config)
    trainer = VanillaTransformerTrainer(
        model,
        toy_arguments(tmp_path, tokens_per_update=20, tokens_per_device=20, max_steps=1),
        TextCollator(tiny_tokenizer, Masking(tiny_tokenizer)),
        train_dataset=rows,
    )
    trainer.train()
    assert trainer.state.log_history[0]["padding_share"] == 0.25


def test_a_loss_that_is_nan_stops_with_a_clear_error(tmp_path: Path) -> None:
    model = toy_model()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="training loss is nan at step 1"):
        make_trainer(tmp_path, model=model).train()


# Evaluation


def token_match(prediction: EvalPrediction) -> dict[str, float]:
    return {"sentences": len(prediction.predictions), "bleu": float(len(prediction.predictions))}


def test_evaluation_decodes_up_to_fifty_tokens_past_each_source(tmp_path: Path, monkeypatch: Any) -> None:
    model = toy_model(tie_word_embeddings=False)
    model.generation_config.suppress_tokens = [0, 2]  # translations never end by themselves
    limits = []
    generate: Any = model.generate

    def spy(**kwargs: Any) -> Any:
        tokens = generate(**kwargs)
        sources = kwargs["attention_mask"].sum(-1)
        limits.append((sources.max().item(), tokens[:, 1:].ne(0).sum(-1).sub(sources), kwargs["num_beams"]))
        return tokens

    monkeypatch.setattr(model, "generate", spy)
    trainer = make_trainer(
        tmp_path, model=model, eval_dataset=copy_pairs(5), predict_with_generate=True,
        compute_metrics=token_match, per_device_eval_batch_size=2,
    )  # fmt: skip
    metrics = trainer.evaluate()
    assert metrics["eval_sentences"] == 5
    assert all(torch.equal(beyond, torch.full_like(beyond, 50)) for _, beyond, _ in limits)
    assert {beams for *_, beams in limits} == {1}
    assert len(limits) == 3


def test_evaluation_begins_with_the_longest_where_the_order_is_nothing_to_the_scores(
    tmp_path: Path,
) -> None:
    trainer = make_trainer(tmp_path, eval_dataset=copy_pairs(9), per_device_eval_batch_size=2)
    widths = [batch["labels"].shape[1] for batch in trainer.get_eval_dataloader()]
    assert widths == sorted(widths, reverse=True) and len(set(widths)) > 1


@pytest.mark.parametrize(("asked_for", "penalty"), [({}, 1.0), ({"num_beams": 3}, 0.6)])
def test_a_search_that_is_asked_for_is_the_models_own(
    asked_for: dict[str, int], penalty: float, tmp_path: Path, monkeypatch: Any
) -> None:
    """Greedy validation, the default, sets the settings of beam search aside, and nothing else does."""
    model = toy_model()
    model.generation_config.length_penalty = 0.6
    penalties = []
    generate: Any = model.generate

    def spy(**kwargs: Any) -> Any:
        penalties.append(model.generation_config.length_penalty)
        return generate(**kwargs)

    monkeypatch.setattr(model, "generate", spy)
    trainer = make_trainer(
        tmp_path, model=model, eval_dataset=copy_pairs(3), predict_with_generate=True,
        compute_metrics=token_match,
    )  # fmt: skip
    trainer.evaluate(**asked_for)
    assert set(penalties) == {penalty}


@pytest.mark.parametrize(
    ("fields", "longest"),
    [({"max_length": 4}, 4), ({"max_new_tokens": 2}, 3), ({"max_length_beyond_source": 0}, 6), ({}, 56)],
)
def test_translations_end_where_the_generation_config_says(
    fields: dict[str, int], longest: int, tmp_path: Path
) -> None:
    """In every batch: the Trainer writes a limit of its own between them."""
    widths = []
    model = toy_model()
    model.generation_config.update(**{"max_length_beyond_source": None} | fields)
    model.generation_config.suppress_tokens = [model.config.eos_token_id]
    model.generation_config.return_dict_in_generate = True
    generate: Any = model.generate

    def spy(**kwargs: Any) -> Any:
        found = generate(**kwargs)
        widths.append(found.shape[1])
        return found

    model.generate = spy
    data = [{"input_ids": [5, 6, 7, 8, 2], "labels": [5, 6, 2]}] * 6
    make_trainer(
        tmp_path, model=model, eval_dataset=data, predict_with_generate=True, per_device_eval_batch_size=2,
        compute_metrics=token_match,
    ).evaluate()  # fmt: skip
    assert widths == [longest] * 3


@pytest.mark.parametrize("beams", [1, 4])
def test_each_sentence_is_scored_by_one_translation(beams: int, tmp_path: Path) -> None:
    """Whatever the model's own config asks for."""

    def evaluated(returned: int) -> dict[str, float]:
        model = toy_model()
        model.generation_config.num_return_sequences = returned
        return make_trainer(
            tmp_path, model=model, eval_dataset=copy_pairs(5), predict_with_generate=True,
            generation_num_beams=beams,
            compute_metrics=lambda found: {
                "tokens": float(sum(place * row.sum() for place, row in enumerate(found.predictions)))
            },
        ).evaluate()  # fmt: skip

    assert evaluated(2)["eval_tokens"] == evaluated(1)["eval_tokens"] > 0


def test_evaluation_leaves_the_generation_defaults_as_they_are(tmp_path: Path) -> None:
    model = toy_model()
    model.generation_config = GenerationConfig(
        num_beams=4, length_penalty=0.6, pad_token_id=0, eos_token_id=2, decoder_start_token_id=1
    )
    before = model.generation_config.to_dict()
    make_trainer(
        tmp_path,
        model=model,
        eval_dataset=copy_pairs(5),
        predict_with_generate=True,
        compute_metrics=token_match,
    ).evaluate()
    assert model.generation_config.to_dict() == before


@pytest.mark.parametrize("bf16", [False, True])
def test_evaluation_changes_nothing_in_the_training_around_it(tmp_path: Path, bf16: bool) -> None:
    seen = []
    for validates in ({}, {"eval_strategy": "steps", "eval_steps": 1, "eval_dataset": copy_pairs(5)}):
        trainer = make_trainer(tmp_path, model=toy_model(dropout=0.3), max_steps=4, bf16=bf16, **validates)
        trainer.train()
        seen.append(losses(trainer))
    assert seen[0] == seen[1]


def test_evaluation_is_in_float32_where_training_is_in_bfloat16(tmp_path: Path) -> None:
    model, under_autocast = toy_model(), set()

    def note(module: torch.nn.Module, args: Any) -> None:
        under_autocast.add((module.training, torch.is_autocast_enabled("cpu")))

    model.model.encoder.register_forward_pre_hook(note)
    trainer = make_trainer(
        tmp_path, model=model, max_steps=2, bf16=True, predict_with_generate=True,
        eval_strategy="steps", eval_steps=1, eval_dataset=copy_pairs(5), compute_metrics=token_match,
    )  # fmt: skip
    trainer.evaluate()  # before any training, too
    assert under_autocast == {(False, False)}
    trainer.train()
    assert under_autocast == {(True, True), (False, False)}


def test_flash_attention_is_evaluated_in_the_type_that_it_knows(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, bf16=True)
    for kernel, casts in (("sdpa", False), ("flash_attention_2", True)):
        trainer.model.config._attn_implementation_internal = kernel
        with trainer._without_autocast():
            assert torch.is_autocast_enabled("cpu") is casts


def test_each_training_makes_the_batches_that_the_arguments_ask_for(tmp_path: Path) -> None:
    """As in a search for hyper-parameters, which sets the arguments of one trainer again and again."""
    trainer = make_trainer(tmp_path, tokens_per_update=80, tokens_per_device=40)
    seen = []
    for changes in ({}, {"tokens_per_update": 160}, {"tokens_per_device": 80}, {"seed": 3}, {}):
        for name, value in changes.items():
            setattr(trainer.args, name, value)
        batches = [batch["input_ids"].tolist() for batch in trainer.get_train_dataloader()]
        seen.append((trainer.args.gradient_accumulation_steps, trainer.updates_per_epoch, batches))
    assert [steps for steps, *_ in seen] == [2, 4, 2, 2, 2]
    updates = [count or 0 for _, count, _ in seen]
    assert updates[1] <= updates[0] / 2 + 1 and updates[2] <= updates[0]
    batches = [found for *_, found in seen]
    assert max(len(rows) * len(rows[0]) for rows in batches[1]) <= 40
    assert 40 < max(len(rows) * len(rows[0]) for rows in batches[2]) <= 80
    assert batches[2] != batches[3] == batches[4]


def test_a_causal_model_is_evaluated_over_what_it_predicts(tmp_path: Path) -> None:
    """Nothing predicts the first label of a row, here of short rows and long ones in batches of one kind."""
    config = VanillaTransformerConfig(**toy_model().config.to_dict() | {"is_encoder_decoder": False})
    torch.manual_seed(0)
    model = VanillaTransformerForCausalLM(config).eval()
    rows = [{"input_ids": row, "labels": row} for row in ([5, 6], [7, 8], [9, 6, 7, 5, 8, 9, 6], [6] * 7)]

    def batch(rows: Any) -> dict[str, torch.Tensor]:
        return {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")}

    arguments = toy_arguments(tmp_path, per_device_eval_batch_size=2, tokens_per_update=None)
    trainer = VanillaTransformerTrainer(model, arguments, batch)
    with torch.no_grad():
        logits = [model(torch.tensor([row["input_ids"]])).logits[0, :-1] for row in rows]
    wanted = torch.nn.functional.cross_entropy(
        torch.cat(logits), torch.tensor([token for row in rows for token in row["labels"][1:]])
    )
    found = trainer.evaluate(Dataset.from_list(rows))["eval_loss"]
    assert found == pytest.approx(float(wanted), rel=1e-5)


def test_what_is_paused_within_a_pause_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("vanilla_transformer.training.callbacks.time.perf_counter", lambda: now[0])
    counts = IntervalCounts(_started=0.0)
    now[0] = 5.0
    with counts.paused():
        now[0] = 7.0
        assert counts.elapsed() == 5.0
        with counts.paused():
            now[0] = 8.0
        now[0] = 9.0
        assert counts.state()[-1] == 5.0
    now[0] = 10.0
    assert counts.elapsed() == 6.0


# Checkpoints


def test_checkpoints_keep_the_models_own_use_cache(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, save_strategy="steps", save_steps=2, max_steps=2)
    trainer.train()
    config = VanillaTransformerConfig.from_pretrained(tmp_path / "checkpoint-2")
    assert config.use_cache is True


def scripted_scores(values: list[float]) -> Callable[[EvalPrediction], dict[str, float]]:
    remaining = iter(values)
    return lambda prediction: {"bleu": next(remaining)}


SCORED = {
    "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 6,
    "predict_with_generate": True, "metric_for_best_model": "bleu",
}  # fmt: skip


def test_the_last_and_the_best_checkpoints_are_kept(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path, eval_dataset=copy_pairs(2), compute_metrics=scripted_scores([1, 9, 2, 8, 3, 4]),
        save_total_limit=1, keep_best_checkpoints=2, **SCORED,
    )  # fmt: skip
    trainer.train()
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-6",
    ]
    state = read_state(tmp_path / "checkpoint-6")
    assert state["best_global_step"] == 2
    assert state["best_model_checkpoint"] == str(tmp_path / "checkpoint-2")
    assert best_steps(state["log_history"], "bleu", greater_is_better=True, count=1) == [2]


def test_a_best_checkpoint_names_its_lasting_place(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path,
        eval_dataset=copy_pairs(2),
        compute_metrics=scripted_scores([1, 2]),
        **(SCORED | {"max_steps": 2}),
    )
    trainer.train()
    assert read_state(tmp_path / "checkpoint-2")["best_model_checkpoint"] == str(tmp_path / "checkpoint-2")


def test_early_stopping_on_bleu_saves_a_last_checkpoint(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path, eval_dataset=copy_pairs(2), compute_metrics=scripted_scores([5, 6, 4, 6, 9, 9]),
        callbacks=[StopWithoutImprovement(2)], **(SCORED | {"save_steps": 100}),
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 4
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-4"]


@pytest.mark.parametrize("logging_steps", [1, 3])
@pytest.mark.parametrize("stop", [2, 4, 5])
def test_a_resumed_run_logs_the_losses_of_an_uninterrupted_one(
    tmp_path: Path, stop: int, logging_steps: int
) -> None:
    settings: dict[str, Any] = {"max_steps": 9, "logging_steps": logging_steps, "save_strategy": "steps"}

    def run(folder: Path, resume: bool, steps: int) -> VanillaTransformerTrainer:
        trainer = make_trainer(folder, model=toy_model(dropout=0.3), save_steps=stop, **settings)
        trainer.args.max_steps = steps
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = run(tmp_path / "whole", False, 9)
    assert whole.updates_per_epoch is not None
    assert whole.updates_per_epoch < 5  # so that some of the stops are in the second epoch
    run(tmp_path / "parts", False, stop)
    resumed = run(tmp_path / "parts", True, 9)
    assert losses(resumed) == losses(whole)
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_stream_goes_on_behind_what_it_saw(tmp_path: Path, workers: int) -> None:
    def run(folder: Path, resume: bool, steps: int) -> VanillaTransformerTrainer:
        data = copy_dataset(30).to_iterable_dataset()
        trainer = make_trainer(
            folder, model=toy_model(dropout=0.3), data=data, save_strategy="steps", save_steps=5,
            max_steps=steps, dataloader_num_workers=workers,
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = run(tmp_path / "whole", False, 12)
    run(tmp_path / "parts", False, 5)
    assert losses(run(tmp_path / "parts", True, 12)) == losses(whole)


def test_resuming_from_a_damaged_checkpoint_is_refused_and_the_last_whole_one_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    make_trainer(tmp_path, save_strategy="steps", save_steps=1, max_steps=2).train()
    weights = tmp_path / "checkpoint-2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    trainer = make_trainer(tmp_path, max_steps=3)
    with pytest.raises(InputError, match=r"model\.safetensors` is cut short"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    trainer.train(resume_from_checkpoint=True)
    assert "missing keys" not in caplog.text  # a tied matrix is saved once
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [1, 2, 3]


@pytest.mark.parametrize(
    ("length", "stream"),
    [({}, False), ({}, True), ({"num_train_epochs": 0.5, "max_steps": -1}, False)],
)
def test_a_finished_run_is_not_trained_further(
    length: dict[str, Any], stream: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def run(**resume: Any) -> Any:
        data = copy_dataset(30).to_iterable_dataset() if stream else None
        trainer = make_trainer(
            tmp_path, data=data, save_strategy="steps", save_steps=1, **({"max_steps": 3} | length)
        )
        result = trainer.train(**resume)
        assert result.global_step == trainer.state.global_step
        return result.global_step, trainer.model.state_dict()

    steps, weights = run()
    assert "nothing more to train" not in caplog.text
    folders = list_checkpoints(tmp_path)
    for resume in (True, True, str(folders[-1])):
        again, same = run(resume_from_checkpoint=resume)
        assert again == steps
        assert all(torch.equal(same[name], weights[name]) for name in weights)
        assert list_checkpoints(tmp_path) == folders
        assert f"nothing more to train: the {steps} steps of the run are done." in caplog.text


def test_resuming_without_any_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no whole checkpoint"):
        make_trainer(tmp_path).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("lost", "message"),
    [("optimizer.pt", "has no optimizer state"), ("scheduler.pt", r"has no scheduler\.pt")],
)
@pytest.mark.parametrize("named", [True, False])
def test_resuming_without_optimizer_or_learning_rate_is_refused(
    named: bool, lost: str, message: str, tmp_path: Path
) -> None:
    make_trainer(tmp_path, save_strategy="steps", save_steps=1, max_steps=1).train()
    checkpoint = tmp_path / "checkpoint-1"
    (checkpoint / lost).unlink()
    with pytest.raises(InputError, match=f"`{checkpoint}` {message}, without which training"):
        make_trainer(tmp_path).train(resume_from_checkpoint=str(checkpoint) if named else True)


def test_weights_of_wrapped_modules_are_loaded_by_their_own_names(tmp_path: Path) -> None:
    """As FSDP trains them with torch.compile, or with activations computed again."""
    make_trainer(tmp_path, save_strategy="steps", save_steps=4).train()
    trainer = make_trainer(tmp_path)
    layers = trainer.model.model.encoder.layers
    layers[0] = checkpoint_wrapper(layers[0])
    trainer.model = torch.compile(trainer.model)
    trainer.is_fsdp_enabled = True
    trainer.load_weights(tmp_path / "checkpoint-4")
    names = dict(trainer.model.named_parameters())
    saved = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    inside = "model.encoder.layers.0.{}fc1.weight"
    loaded = names["_orig_mod." + inside.format("_checkpoint_wrapped_module.")]
    assert torch.equal(loaded, saved[inside.format("")])


def test_a_checkpoint_holds_the_models_weights(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, save_strategy="steps", save_steps=4)
    trainer.train()
    saved = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    for name, value in trainer.model.state_dict().items():
        if name in saved:
            assert torch.equal(saved[name], value)
    assert not list((tmp_path / ".incomplete").iterdir())


# Sharding


@pytest.mark.parametrize(
    "kind",
    [
        VanillaTransformerForConditionalGeneration,
        VanillaTransformerForCausalLM,
        VanillaTransformerForMaskedLM,
        VanillaTransformerForSequenceClassification,
        VanillaTransformerForTokenClassification,
    ],
)
def test_every_model_has_the_layers_that_fsdp_shards_it_by(kind: Any) -> None:
    """Accelerate refuses a model that lacks a class of `_no_split_modules`, its own or that of a part."""
    for part in kind(toy_model().config).modules():
        names = getattr(part, "_no_split_modules", None) or ()
        classes = {type(module).__name__ for module in part.modules()}
        assert set(names) <= classes, type(part).__name__
        assert set(getattr(type(part), "_no_split_modules", None) or ()) == set(names)


def row_lengths(predictions: Any, pad: int = 0) -> list[int]:
    """Tokens of each row behind its start token."""
    rows = torch.as_tensor(predictions)
    return [int((row[1:].ne(pad) & row[1:].ne(IGNORED)).sum()) for row in rows]


def endless(model: Any) -> Any:
    """The model never ends a translation by itself."""
    model.generation_config.update(suppress_tokens=[0, 2])
    return model


@pytest.mark.parametrize("tokens_per_update", [None, 80])
def test_no_batch_is_cut_at_the_librarys_length(tokens_per_update: int | None, tmp_path: Path) -> None:
    args = toy_arguments(
        tmp_path,
        tokens_per_update=tokens_per_update,
        predict_with_generate=True,
        per_device_eval_batch_size=2,
    )
    data = copy_dataset(5)
    trainer = VanillaTransformerTrainer(
        endless(toy_model()), args, collate, compute_metrics=lambda _: {}, eval_dataset=data
    )
    lengths = row_lengths(trainer.predict(data).predictions)
    assert lengths == [50 + length for length in data["source_length"]]


def test_the_stock_trainer_leaves_the_length_of_translations_alone(tmp_path: Path) -> None:
    """It writes `max_length` = 20 into the generation config, which would be saved with the model."""
    args = Seq2SeqTrainingArguments(
        str(tmp_path),
        predict_with_generate=True,
        per_device_eval_batch_size=2,
        use_cpu=True,
        report_to="none",
    )
    model, data = endless(toy_model()), copy_dataset(5).remove_columns(["source_length", "target_length"])
    trainer = Seq2SeqTrainer(model, args, collate)
    expected = [50 + len(row) for row in data["input_ids"]]
    assert row_lengths(trainer.predict(data).predictions) == expected
    trainer.save_model(str(tmp_path / "saved"))
    saved = type(model).from_pretrained(tmp_path / "saved")
    ids = torch.tensor([data[0]["input_ids"]])
    assert saved.generation_config.max_length == 20
    assert row_lengths(saved.generate(ids)) == expected[:1]
    assert row_lengths(saved.generate(ids, max_length=20)) == [19]


def test_scores_of_ones_own_see_the_sentences_in_their_order(tmp_path: Path) -> None:
    data, seen = copy_dataset(9), []

    def note(prediction: Any) -> dict[str, float]:
        seen.extend(row_lengths(prediction.label_ids, pad=IGNORED))
        return {}

    args = toy_arguments(tmp_path, per_device_eval_batch_size=4)
    trainer = VanillaTransformerTrainer(toy_model(), args, collate, compute_metrics=note, eval_dataset=data)
    trainer.evaluate()
    assert seen == [length - 1 for length in data["target_length"]]


def test_a_model_that_is_lost_is_not_saved(tmp_path: Path) -> None:
    args = toy_arguments(
        tmp_path, learning_rate_scale=1e30, logging_steps=100, save_strategy="steps", save_steps=4
    )
    trainer = VanillaTransformerTrainer(toy_model(), args, collate, train_dataset=copy_dataset(40))
    with pytest.raises(InputError, match="after step 4 the weights are nan or infinite: lower"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_columns_that_no_model_takes_stay_out_of_batches(tmp_path: Path) -> None:
    """As in the library's own scripts, which leave the texts beside the tokens."""
    data = copy_dataset(40)
    data = data.add_column("source", ["a text"] * len(data))

    def strictly(rows: Sequence[Any]) -> dict[str, torch.Tensor]:
        flat = rows[0] if isinstance(rows[0], list) else rows
        assert "source" not in flat[0]
        return collate(flat)

    trainer = VanillaTransformerTrainer(toy_model(), toy_arguments(tmp_path), strictly, train_dataset=data)
    assert trainer.train().global_step == 4


def test_other_batches_than_before_are_told_when_a_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_trainer(tmp_path, max_steps=2, save_strategy="steps", save_steps=2).train()
    assert "not on the same batches" not in caplog.text
    make_trainer(tmp_path, max_steps=4, tokens_per_update=160).train(resume_from_checkpoint=True)
    assert "not on the same batches" in caplog.text
