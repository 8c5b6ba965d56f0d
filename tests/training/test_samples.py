"""Samples of language models: every process computes them, one prints them, and no random number is lost."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from training_toy import of_one_stack, quiet_environment, toy_model, write_recipe
from transformers import TrainerControl, TrainerState, TrainingArguments

from vanilla_transformer import VanillaTransformerForCausalLM, VanillaTransformerForMaskedLM
from vanilla_transformer.errors import InputError
from vanilla_transformer.training.samples import PrintSamples, PrintTexts

FSDP_CHILD = Path(__file__).with_name("fsdp_texts_on_cpu.py")
FSDP_CONFIG = Path(__file__).parents[2] / "recipes" / "accelerate" / "fsdp.yaml"
# The keys of `write_recipe` that texts do not have.
PAIR_KEYS = ("train_source", "train_target", "valid_source", "valid_target")


def evaluated(samples: PrintSamples, model: Any, step: int, process: int) -> list[str]:
    """The samples that a process computes at a step; what it prints, the caller sees."""
    computed: list[str] = []
    original = samples.samples

    def kept(model: Any) -> list[str]:
        computed.extend(original(model))
        return computed

    samples.samples = kept  # type: ignore[method-assign]
    state = TrainerState(global_step=step, is_world_process_zero=process == 0)
    samples.on_evaluate(TrainingArguments("unused"), state, TrainerControl(), model=model)
    return computed


@pytest.mark.parametrize("masked", [False, True])
def test_every_process_computes_the_same_samples_and_one_prints_them(
    tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str], masked: bool
) -> None:
    kind = VanillaTransformerForMaskedLM if masked else VanillaTransformerForCausalLM
    model: Any = kind(toy_model().config)
    rows = [{"input_ids": [5, 6, 2], "labels": [-100, 7, -100]}] * 2 if masked else None
    if not masked:
        model.generation_config.update(do_sample=True, max_new_tokens=8)
    settings: dict[str, Any] = {"count": 2, "rows": rows, "seed": 3}
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = evaluated(PrintTexts(tiny_tokenizer, **settings), model, step=5, process=0)
    shown = capsys.readouterr().out
    assert shown == "".join(f"step 5: {' '.join(text.split())}\n" for text in first)
    torch.manual_seed(2)
    assert evaluated(PrintTexts(tiny_tokenizer, **settings), model, step=5, process=1) == first
    assert capsys.readouterr().out == ""
    torch.manual_seed(1)
    evaluated(PrintTexts(tiny_tokenizer, **settings), model, step=6, process=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("limit", ["max_new_tokens", "max_length"])
def test_samples_end_with_the_learned_positions(tiny_tokenizer: Any, limit: str) -> None:
    model: Any = VanillaTransformerForCausalLM(
        toy_model(
            position_embedding="learned", max_position_embeddings=8, vocab_size=len(tiny_tokenizer)
        ).config
    )
    # No sample ends by itself.
    model.generation_config.update(do_sample=False, eos_token_id=None, **{limit: 40})
    samples = PrintTexts(tiny_tokenizer, count=2, prompts=["w1 w2", "w1 w2 w3 w4 w5 w6"])
    samples.check_prompts(8)
    assert [
        len(tiny_tokenizer(text, add_special_tokens=False).input_ids) for text in samples.samples(model)
    ] == [7, 7]
    with pytest.raises(
        InputError, match=r"shorter than .* \(7\) for .*, but 'w1 w2 w3 w4 w5 w6' has 7 tokens"
    ):
        samples.check_prompts(7)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_a_language_model_trains_and_shows_samples_where_its_weights_are_split(
    tmp_path: Path, objective: str
) -> None:
    recipe = write_recipe(
        tmp_path, max_steps=2, eval_steps=1, save_steps=1, objective=objective, samples=2,
        generation={"do_sample": True, "max_new_tokens": 5},
    )  # fmt: skip
    values = yaml.safe_load(recipe.read_text())
    files = {"train_text": values["train_source"], "valid_text": values["valid_source"]}
    kept = {key: value for key, value in values.items() if key not in PAIR_KEYS}
    kept["model"] = of_one_stack(values["model"], masked=objective == "masked")
    recipe.write_text(yaml.safe_dump(kept | files))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(FSDP_CONFIG)]
    command += ["--num_processes", "2", "--main_process_port", "0", str(FSDP_CHILD), str(recipe)]
    done = subprocess.run(
        command, env=quiet_environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    shown = [line.partition(":")[0] for line in done.stdout.splitlines() if line.startswith("step ")]
    assert shown == ["step 1", "step 1", "step 2", "step 2"]
    assert (tmp_path / "run" / "model.safetensors").is_file()
