"""Int8 weights by torchao, asked for at loading as of any model of transformers: `make test-quant`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TorchAoConfig

from vanilla_transformer import VanillaTransformerForConditionalGeneration

from .toy import assert_fast_is_plain, padded_batch, saved_float32_model

# Where torchao is installed, every import of a model loads it and tells on stderr what it could not load, so
# it is not among the requirements of development.
quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed: make test-quant")
Model = VanillaTransformerForConditionalGeneration


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_float32_model(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def quantized(saved: Path) -> Any:
    return Model.from_pretrained(
        saved, quantization_config=TorchAoConfig(quantization.Int8WeightOnlyConfig())
    ).eval()


def test_weights_are_within_half_a_step_of_what_they_were(saved: Path, quantized: Any) -> None:
    """The largest weight of a row is 127 or 128 steps from zero, so none is further off than 1/254 of it."""
    whole = dict(Model.from_pretrained(saved).named_parameters())
    weights = {
        name: weight for name, weight in quantized.named_parameters() if "Int8" in type(weight).__name__
    }
    assert weights.keys() == {
        name for name, weight in whole.items() if ".layers." in name and weight.ndim == 2
    }
    for name, weight in weights.items():
        error = (weight.dequantize() - whole[name]).abs().amax(-1)
        assert error.max() > 0
        assert (error <= whole[name].abs().amax(-1) / 254 * 1.01).all(), name


def test_the_embeddings_stay_whole_and_tied(saved: Path, quantized: Any) -> None:
    shared = quantized.model.shared.weight
    assert quantized.lm_head.weight is shared
    assert (
        quantized.model.encoder.embed_tokens.weight is quantized.model.decoder.embed_tokens.weight is shared
    )
    assert torch.equal(shared, Model.from_pretrained(saved).model.shared.weight)


def test_it_predicts_and_generates_nearly_as_before(saved: Path, quantized: Any) -> None:
    whole, batch = Model.from_pretrained(saved).eval(), padded_batch()
    with torch.no_grad():
        before, after = whole(**batch).logits.softmax(-1), quantized(**batch).logits.softmax(-1)
    assert 0 < (before - after).abs().max() < 0.15
    source = {name: batch[name] for name in ("input_ids", "attention_mask")}
    generated = quantized.generate(**source, max_new_tokens=6)
    assert generated.shape[0] == len(source["input_ids"])
    assert set(generated[:, 0].tolist()) == {1}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("beams", [1, 4])
def test_the_fast_loop_gives_what_transformers_gives(quantized: Any, rows: int, beams: int) -> None:
    assert_fast_is_plain(quantized, rows, beams)


def test_it_is_saved_small_and_loads_as_it_was(saved: Path, quantized: Any, tmp_path: Path) -> None:
    quantized.save_pretrained(tmp_path)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path, saved)]
    assert sizes[0] < sizes[1] / 2
    loaded, batch = Model.from_pretrained(tmp_path).eval(), padded_batch()
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, quantized(**batch).logits)
    assert loaded.lm_head.weight is loaded.model.shared.weight
