"""What a language model writes, printed while it learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class PrintSamples(TrainerCallback):
    """Prints samples of a language model with each evaluation; the training's random numbers are left alone.

    A causal model continues the prompts in turn, as its generation config says. A masked one fills what is
    hidden in given rows: "the [cat] sat", or "the [dog, not cat] sat" where it is wrong.

    Args:
        tokenizer: that of the model.
        count: how many samples.
        prompts: what a causal model continues; none is one empty prompt.
        rows: rows with hidden tokens ("input_ids" and "labels") for a masked model; `None` for a causal one.
        seed: of the samples; another step draws others.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        count: int,
        prompts: Sequence[str] = (),
        rows: Any = None,
        seed: int = 0,
    ):
        self.tokenizer = tokenizer
        self.count = count
        self.prompts = list(prompts) or [""]
        self.rows = rows
        self.seed = seed

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        model = kwargs["model"].eval()
        devices = [model.device] if model.device.type == "cuda" else []
        # Every process computes them: where weights are split, all must take part in gathering them.
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(self.seed + state.global_step)
            texts = self.samples(model)
        if state.is_world_process_zero:
            for text in texts:
                print(f"step {state.global_step}: {' '.join(text.split())}", flush=True)

    def samples(self, model: Any) -> list[str]:
        """The samples as text."""
        if self.rows is None:
            return [self._continued(model, self.prompts[k % len(self.prompts)]) for k in range(self.count)]
        return [self._filled(model, self.rows[k]) for k in range(min(self.count, len(self.rows)))]

    def _continued(self, model: Any, prompt: str) -> str:
        ids = [self.tokenizer.bos_token_id]
        ids += self.tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
        inputs = torch.tensor([ids], device=model.device)
        output = model.generate(inputs, attention_mask=torch.ones_like(inputs), use_cache=True)
        return str(self.tokenizer.decode(output[0], skip_special_tokens=True))

    def _filled(self, model: Any, row: Any) -> str:
        inputs = torch.tensor([row["input_ids"]], device=model.device)
        predicted = model(inputs).logits[0].argmax(-1).tolist()
        parts = []
        for read, right, guess in zip(row["input_ids"], row["labels"], predicted, strict=True):
            if right < 0:
                parts.append(self.tokenizer.decode([read], skip_special_tokens=True))
            elif guess == right:
                parts.append(f"[{self.tokenizer.decode([guess])}]")
            else:
                parts.append(f"[{self.tokenizer.decode([guess])}, not {self.tokenizer.decode([right])}]")
        return "".join(parts)
