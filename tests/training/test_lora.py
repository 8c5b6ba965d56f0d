"""LoRA adapters of PEFT: trained, saved, loaded, merged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from training_toy import collate, copy_dataset, copy_pairs, toy_arguments, toy_model
from transformers import Trainer, TrainingArguments

from vanilla_transformer.training import TranslationCollator, VanillaTransformerTrainer, lora_config
from vanilla_transformer.training.lora import LORA_TARGET_MODULES

BATCH = collate(copy_pairs(6, seed=3))


def adapted(**changes: Any) -> Any:
    """Return the toy model with adapters whose effect is not nothing, as they are at the start."""
    model = toy_model()
    settings = {"r": 4, "init_lora_weights": False} | changes
    return get_peft_model(model, lora_config(model, **settings)).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.double().eval()(**BATCH).logits


def test_the_default_targets_are_queries_and_values_of_every_attention() -> None:
    model = adapted()
    targets = {name.rpartition(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A." in name}
    attentions = ["encoder.layers.0.self_attn", "decoder.layers.0.self_attn", "decoder.layers.0.encoder_attn"]
    assert targets == {
        f"base_model.model.model.{attention}.{projection}"
        for attention in attentions
        for projection in LORA_TARGET_MODULES
    }
    assert model.peft_config["default"].task_type == "SEQ_2_SEQ_LM"


def test_a_merged_model_computes_what_its_adapters_did(tmp_path: Path) -> None:
    model = adapted()
    wanted = logits(model)
    assert not torch.allclose(wanted, logits(toy_model()), atol=1e-3), "the adapters do something"
    merged = model.merge_and_unload()
    assert type(merged) is type(toy_model())
    torch.testing.assert_close(logits(merged), wanted, rtol=1e-9, atol=1e-12)
    merged.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(type(merged).from_pretrained(tmp_path)), wanted, rtol=1e-9, atol=1e-12)


def test_a_merged_model_is_not_saved_over_its_adapter(tmp_path: Path) -> None:
    """Wherever PEFT is installed, the adapter would be applied to it once more."""
    model = adapted()
    model.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=f"`{tmp_path}` holds an adapter, which would be applied once more"):
        model.merge_and_unload().save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "adapter_config.json").unlink()
    model.merge_and_unload().save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize("untied", [{}, {"target_modules": ["lm_head"]}, {"modules_to_save": ["lm_head"]}])
def test_the_fused_loss_sees_an_adapter_on_the_projection(untied: dict[str, Any]) -> None:
    model: Any = toy_model(tie_word_embeddings=not untied)
    model = get_peft_model(model, lora_config(model, **({"init_lora_weights": False} | untied))).train()
    if "modules_to_save" in untied:
        torch.nn.init.normal_(model.base_model.model.lm_head.modules_to_save["default"].weight)
    gradients = []
    for return_logits in (True, False):
        model.zero_grad()
        loss = model(**BATCH, return_logits=return_logits, label_smoothing=0.1).loss
        loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None] + [loss])
    assert len(gradients[0]) > 2
    for whole, fused in zip(*gradients, strict=True):
        torch.testing.assert_close(fused, whole, rtol=1e-4, atol=1e-6)


def test_adapters_train_with_our_trainer_resume_and_load_again(tiny_tokenizer: Any, tmp_path: Path) -> None:
    def trainer_of(model: Any) -> VanillaTransformerTrainer:
        settings: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps"}
        args = toy_arguments(tmp_path, eval_steps=2, predict_with_generate=True, **settings)
        return VanillaTransformerTrainer(
            model, args, train_dataset=copy_dataset(60), eval_dataset=copy_dataset(4),
            processing_class=tiny_tokenizer,
        )  # fmt: skip

    model = adapted()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    trainer = trainer_of(model)
    trainer.train()
    changed = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    assert changed == {name for name in before if ".lora_" in name}
    resumed = trainer_of(adapted())
    resumed.train(str(tmp_path / "checkpoint-2"))
    wanted = logits(trainer.model)
    assert logits(resumed.model).equal(wanted)
    trainer.save_model(str(tmp_path / "adapters"))
    assert not (tmp_path / "adapters" / "model.safetensors").exists()
    again = PeftModel.from_pretrained(toy_model(), str(tmp_path / "adapters"))
    torch.testing.assert_close(logits(again), wanted, rtol=1e-6, atol=1e-6)


def test_adapters_train_with_the_plain_trainer(tiny_tokenizer: Any, tmp_path: Path) -> None:
    model = adapted()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    args = TrainingArguments(
        str(tmp_path), max_steps=2, report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    trainer = Trainer(
        model, args, data_collator=TranslationCollator(tiny_tokenizer), train_dataset=copy_dataset(40)
    )
    trainer.train()
    changed = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    assert changed == {name for name in before if ".lora_" in name}
