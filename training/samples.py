"""What a model writes, printed while it learns."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import InputError
from ..modeling.translation_vanilla_transformer import learned_positions, source_text


class PrintSamples(TrainerCallback, ABC):
    """Prints samples with each evaluation; the training's random numbers are left alone.

    Args:
        seed: of the samples; another step draws others.
    """

    def __init__(self, seed: int = 0):
        self.seed = seed

    @abstractmethod
    def samples(self, model: Any) -> list[str]:
        """The samples as text."""

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Print a line for each sample."""
        model = kwargs["model"].eval()
        devices = [model.device] if model.device.type == "cuda" else []
        # Every process computes them: where weights are split, all must take part in gathering them.
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(self.seed + state.global_step)
            texts = self.samples(model)
        if state.is_world_process_zero:
            for text in texts:
                # Above the progress bar of the steps.
                tqdm.write(f"step {state.global_step}: {' '.join(text.split())}")
            sys.stdout.flush()


class PrintTranslations(PrintSamples):
    """Prints translations of the first of the given rows: "source → translation (reference: ...)".

    Args:
        tokenizer: that of the model.
        rows: rows of token ids ("input_ids" and "labels").
        count: how many of them.
        num_beams: beams of the search; 1 is greedy.
    """

    def __init__(self, tokenizer: Any, *, rows: Any, count: int, num_beams: int = 1):
        super().__init__()
        self.tokenizer = tokenizer
        self.rows = [rows[k] for k in range(min(count, len(rows)))]
        self.num_beams = num_beams

    def samples(self, model: Any) -> list[str]:
        """The samples as text."""
        inputs = self.tokenizer.pad(
            {"input_ids": [list(row["input_ids"]) for row in self.rows]}, return_tensors="pt"
        ).to(model.device)
        sources = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        # Greedy decoding would warn of what only a beam search uses.
        greedy = {"length_penalty": 1.0, "early_stopping": False} if self.num_beams == 1 else {}
        output = model.generate(
            **sources,
            use_cache=True,
            num_beams=self.num_beams,
            num_return_sequences=1,
            return_dict_in_generate=False,
            **greedy,
        )
        return [
            f"{source_text(self.tokenizer, row['input_ids'])} → {self._text(ids)}"
            f" (reference: {self._text(row['labels'])})"
            for row, ids in zip(self.rows, output, strict=True)
        ]

    def _text(self, ids: Any) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


class PrintTexts(PrintSamples):
    """Prints what a language model writes.

    A causal model continues the prompts in turn, as its generation config says, up to the last of its learned
    positions if it has such. A masked one fills what is hidden in given rows: "the [cat] sat", or "the [dog,
    not cat] sat" where it is wrong.

    Args:
        tokenizer: that of the model.
        count: how many samples.
        prompts: what a causal model continues; none is one empty prompt.
        rows: rows with hidden tokens ("input_ids" and "labels") for a masked model; `None` for a causal one.
        seed: as in `PrintSamples`.
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
        super().__init__(seed)
        self.tokenizer = tokenizer
        self.count = count
        self.prompts = list(prompts) or [""]
        self.rows = rows

    def check_prompts(self, positions: int | None) -> None:
        """Refuse a prompt after which nothing can be written; `positions` limit what the model reads.

        Raises:
            InputError: names the prompt and its length.
        """
        for prompt in self.prompts:
            length = len(self._prompt_ids(prompt))
            if positions is not None and length >= positions:
                raise InputError(
                    f"each of `prompts` must be shorter than `max_position_embeddings` ({positions}) for"
                    f" learned positions, but {prompt!r} has {length} tokens, <s> counted."
                )

    def samples(self, model: Any) -> list[str]:
        """The samples as text."""
        if self.rows is None:
            return [self._continued(model, self.prompts[k % len(self.prompts)]) for k in range(self.count)]
        return [self._filled(model, self.rows[k]) for k in range(min(self.count, len(self.rows)))]

    def _continued(self, model: Any, prompt: str) -> str:
        inputs = torch.tensor([self._prompt_ids(prompt)], device=model.device)
        limit = _within_positions(model, inputs.shape[1])
        output = model.generate(inputs, attention_mask=torch.ones_like(inputs), use_cache=True, **limit)
        return str(self.tokenizer.decode(output[0], skip_special_tokens=True))

    def _prompt_ids(self, prompt: str) -> list[int]:
        words = self.tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
        return [self.tokenizer.bos_token_id, *words]

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


def _within_positions(model: Any, length: int) -> dict[str, int]:
    """Keyword of `generate()` that ends what follows a prompt of `length` tokens at the learned positions."""
    positions, config = learned_positions(model.config), model.generation_config
    if positions is None:
        return {}
    if config.max_new_tokens is not None:
        return {"max_new_tokens": min(config.max_new_tokens, positions - length)}
    # Without either limit, transformers minds the positions itself.
    return {} if config.max_length is None else {"max_length": min(config.max_length, positions)}
