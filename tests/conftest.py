"""What all tests share: small fixtures, a cache of their own, and when a CI run stops starting slow tests."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("tests", deadline=None)  # a busy machine is no failure
settings.load_profile("tests")

# What the libraries cache stays out of the user's own cache, and every test off the network. They read this
# when they are imported, so nothing above imports them.
CACHE = tempfile.mkdtemp(prefix="vanilla-transformer-tests-")
os.environ["HF_HOME"] = CACHE
os.environ["HF_DATASETS_CACHE"] = CACHE
os.environ["HF_HUB_OFFLINE"] = "1"
# As `make test` has it: sums in another order, and toys that learn otherwise, are not what is tested.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_unconfigure() -> None:
    """Remove the cache of this run."""
    shutil.rmtree(CACHE, ignore_errors=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a slow test, in the open, when the time that `.ci/run` grants them is used up."""
    deadline = os.environ.get("VT_TEST_DEADLINE")
    if deadline and "slow" in item.keywords and time.time() > float(deadline):
        pytest.skip("the time for slow tests is used up")


@pytest.fixture
def parallel_files(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Return `make(n, seed=0)`: it writes two aligned files of `n` synthetic sentences each."""

    from helpers import write_parallel_files

    def make(n: int, *, seed: int = 0) -> tuple[Path, Path]:
        return write_parallel_files(tmp_path, n, seed=seed)

    return make


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """Return a tokenizer that knows every word of the first 1,000 synthetic pairs of seed 0."""
    from helpers import parallel_sentences, word_tokenizer

    return word_tokenizer(text for pair in parallel_sentences(1000) for text in pair)


@pytest.fixture
def tiny_config_kwargs() -> dict[str, Any]:
    """Return the fields of a configuration that a test can train in a moment; change what you like."""
    return {
        "vocab_size": 64,
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "dropout": 0.0,
    }


@pytest.fixture
def tiny_model(tiny_config_kwargs: dict[str, Any]) -> Any:
    """Return a model of `tiny_config_kwargs` in eval mode, its weights fixed by seed 0."""
    import torch

    from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration

    torch.manual_seed(0)
    return VanillaTransformerForConditionalGeneration(VanillaTransformerConfig(**tiny_config_kwargs)).eval()
