"""Weights in float16 and arithmetic in float32 on a CPU, asked for at loading."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSeq2SeqLM,
    LongT5Config,
    LongT5ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

from vanilla_transformer import HalfWeightsConfig, VanillaTransformerForConditionalGeneration, pipeline
from vanilla_transformer.modeling.half_weights import HalfWeightsLinear, half_weights_run_here

from .toy import assert_fast_is_plain, assert_parity, padded_batch, saved_float32_model

if not half_weights_run_here():
    pytest.skip("this PyTorch has no kernels for half-precision weights", allow_module_level=True)

Model = VanillaTransformerForConditionalGeneration


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_float32_model(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def half(saved: Path) -> Any:
    return Model.from_pretrained(saved, quantization_config=HalfWeightsConfig()).eval()


def with_rounded_weights(model: Any) -> Any:
    """Return a copy in float32 whose linear layers hold what float16 leaves of their weights.

    Those that T5 keeps in float32 are left alone.
    """
    model = copy.deepcopy(model).eval()
    kept = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and not kept & set(name.split(".")):
            module.weight = nn.Parameter(module.weight.detach().half().float())
    return model


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3), (70,), (0,)])
def test_the_product_is_that_of_rounded_weights(bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(48, 33, bias=bias)
    states = torch.randn(*shape, 48)
    expected = with_rounded_weights(linear)(states)
    torch.testing.assert_close(HalfWeightsLinear(linear)(states), expected, rtol=1e-5, atol=1e-5)


def test_columns_of_a_turned_matrix_are_read_as_they_are() -> None:
    linear, turned = nn.Linear(48, 33), torch.randn(48, 5).t()
    expected = with_rounded_weights(linear)(turned)
    torch.testing.assert_close(HalfWeightsLinear(linear)(turned), expected, rtol=1e-5, atol=1e-5)


def test_every_projection_is_packed_and_nothing_else_changes(saved: Path, half: Any) -> None:
    whole = Model.from_pretrained(saved)
    linear = {name for name, module in whole.named_modules() if isinstance(module, nn.Linear)}
    assert linear == {name for name, module in half.named_modules() if type(module) is HalfWeightsLinear}
    assert "lm_head" in linear
    kept = dict(half.named_parameters())
    assert kept.keys() == {
        name for name, _ in whole.named_parameters() if name.rpartition(".")[0] not in linear
    }
    for name, parameter in kept.items():
        assert torch.equal(parameter, whole.get_parameter(name)), name
    assert half.dtype == torch.float32


def test_it_predicts_what_rounded_weights_predict(saved: Path, half: Any) -> None:
    rounded, batch = with_rounded_weights(Model.from_pretrained(saved)), padded_batch()
    with torch.no_grad():
        assert_parity(half(**batch).logits, rounded(**batch).logits)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("beams", [1, 4])
def test_the_fast_loop_gives_what_transformers_gives(half: Any, rows: int, beams: int) -> None:
    assert_fast_is_plain(half, rows, beams)


@pytest.mark.parametrize("dtype", ["auto", torch.float16, torch.bfloat16])
def test_all_else_is_float32_whatever_type_is_asked_for(saved: Path, half: Any, dtype: Any) -> None:
    other = Model.from_pretrained(saved, dtype=dtype, quantization_config=HalfWeightsConfig()).eval()
    assert {parameter.dtype for parameter in other.parameters()} == {torch.float32}
    with torch.no_grad():
        assert torch.equal(other(**padded_batch()).logits, half(**padded_batch()).logits)


def test_pipelines_load_them(saved: Path, tiny_tokenizer: Any) -> None:
    tiny_tokenizer.save_pretrained(saved)
    found = pipeline("translation", str(saved), quantization_config=HalfWeightsConfig())
    assert type(found.model.lm_head) is HalfWeightsLinear


def test_a_dictionary_names_them_too(saved: Path) -> None:
    found: Any = Model.from_pretrained(saved, quantization_config=HalfWeightsConfig().to_dict())
    assert type(found.lm_head) is HalfWeightsLinear
    with pytest.raises(TypeError, match="bits"):
        HalfWeightsConfig(bits=8)  # type: ignore[call-arg]


def foreign_model(kind: str) -> Any:
    shared: dict[str, Any] = {"vocab_size": 50, "d_model": 16, "decoder_start_token_id": 0}
    if kind == "t5":
        return T5ForConditionalGeneration(T5Config(**shared, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    if kind == "longt5":
        return LongT5ForConditionalGeneration(
            LongT5Config(**shared, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        )
    sizes = {"layers": 1, "ffn_dim": 32, "attention_heads": 2}
    fields: dict[str, Any] = {
        f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in sizes.items()
    }
    return MarianMTModel(MarianConfig(**shared, **fields, pad_token_id=0))


@pytest.mark.parametrize("kind", ["marian", "t5", "longt5"])
def test_other_models_of_transformers_have_them_too(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = foreign_model(kind)
    whole.save_pretrained(tmp_path)
    half = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, quantization_config=HalfWeightsConfig()).eval()
    assert any(type(module) is HalfWeightsLinear for module in half.modules())
    ids = torch.tensor([[5, 6, 7, 1]])
    with torch.no_grad():
        found = half(input_ids=ids, decoder_input_ids=ids).logits
        expected = with_rounded_weights(whole)(input_ids=ids, decoder_input_ids=ids).logits
    assert_parity(found, expected)


def test_it_is_neither_saved_nor_trained_nor_moved(saved: Path, half: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not serializable"):
        half.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="does not require grad"):
        half(**padded_batch(), labels=padded_batch()["input_ids"]).loss.backward()
    with pytest.raises(ValueError, match="`device_map` must be 'cpu'"):
        Model.from_pretrained(saved, quantization_config=HalfWeightsConfig(), device_map="meta")


def test_without_the_kernels_it_is_refused_in_a_line(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise RuntimeError("Didn't find engine for operation quantized::linear_prepack_fp16 NoQEngine")

    monkeypatch.setattr(torch.ops.quantized, "linear_prepack_fp16", refuse)
    assert not half_weights_run_here()
    with pytest.raises(ValueError, match="need the x86 build of PyTorch"):
        Model.from_pretrained(saved, quantization_config=HalfWeightsConfig())
