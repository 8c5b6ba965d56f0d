"""A small untrained model in a folder, as the scripts take it, and an output that nobody reads."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration


@pytest.fixture
def model_folder(
    tmp_path: Path, tiny_config_kwargs: dict[str, Any], tiny_tokenizer: PreTrainedTokenizerFast
) -> str:
    """A folder with a model of random weights that knows the synthetic sentences of seed 0."""
    torch.manual_seed(0)
    changed = {"vocab_size": len(tiny_tokenizer), "tie_word_embeddings": False}
    model = VanillaTransformerForConditionalGeneration(
        VanillaTransformerConfig(**tiny_config_kwargs | changed)
    )
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def unread_stream() -> Iterator[TextIO]:
    """A pipe whose reader went away."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield stream
