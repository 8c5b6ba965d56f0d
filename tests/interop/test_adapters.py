"""Adapters of PEFT on their way out: merged into a copy, exactly, or refused in a line; packed weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import word_tokenizer
from peft import IA3Config, PrefixTuningConfig, TrainableTokensConfig, get_peft_model
from torch import nn
from transformers import AutoModelForSeq2SeqLM

from vanilla_transformer import InputError, pipeline
from vanilla_transformer.interop import (
    load_marian,
    load_torch,
    save_ctranslate2,
    save_marian,
    save_onnx,
    save_torch,
    to_ctranslate2,
    to_marian,
    to_torch,
)
from vanilla_transformer.interop.adapters import plain_model
from vanilla_transformer.modeling.engines import load_engine
from vanilla_transformer.modeling.half_weights import HalfWeightsConfig, half_weights_run_here
from vanilla_transformer.scripts import convert
from vanilla_transformer.scripts.support.models import load_model
from vanilla_transformer.training import lora_config

from ..modeling.toy import assert_parity, padded_batch, toy_model, translating_model

SIZES = {"decoder_attention_heads": 4}
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
EXPORTS: list[Callable[..., Any]] = [to_ctranslate2, to_marian, to_torch]


def adapted(model: Any, **changes: Any) -> Any:
    """A `PeftModel` whose adapters change the translations."""
    model = get_peft_model(model, lora_config(model, **{"r": 4, "target_modules": ALL_LINEAR} | changes))
    return strong(model)


def strong(model: Any, seed: int = 0) -> Any:
    """Adapters as they are after training, and not the nothing that they begin with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(**padded_batch("right")).logits
    return result


def translated(model: Any) -> torch.Tensor:
    batch = padded_batch("right")
    names = ("input_ids", "attention_mask")
    options = {"num_beams": 1, "max_new_tokens": 12}
    found: torch.Tensor = model.generate(**{name: batch[name] for name in names}, **options)
    return found


def ctranslate2(model: Any, folder: Path) -> Any:
    save_ctranslate2(model, folder)
    return load_engine("ctranslate2", folder, compute_type="float32")


def onnx(model: Any, folder: Path) -> Any:
    save_onnx(model, folder)
    return load_engine("onnx", folder)


def marian(model: Any, folder: Path) -> Any:
    save_marian(model, folder)
    return load_marian(folder)


def of_torch(model: Any, folder: Path) -> Any:
    save_torch(model, folder)
    return load_torch(folder / "model.pt", folder / "config.json")


@pytest.fixture(scope="module")
def adapter_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What PEFT saves: the adapters alone, and the name of the model that they are for."""
    base, folder = (tmp_path_factory.mktemp(name) for name in ("base", "adapter"))
    translating_model(dtype=torch.float32, **SIZES).save_pretrained(base)
    adapted(AutoModelForSeq2SeqLM.from_pretrained(base)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("export", [ctranslate2, onnx, marian, of_torch])
def test_an_adapted_model_translates_alike_everywhere(
    export: Any, adapter_folder: Path, tmp_path: Path
) -> None:
    """Loaded from the folder of its adapter, and in PEFT's wrapper; neither is changed."""
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(adapter_folder)
    wrapped = adapted(translating_model(dtype=torch.float32, **SIZES))
    expected = translated(model)
    assert not torch.equal(expected, translated(translating_model(dtype=torch.float32, **SIZES)))
    for number, one in enumerate((model, wrapped)):
        before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
        (tmp_path / str(number)).mkdir()
        assert torch.equal(translated(export(one, tmp_path / str(number))), expected)
        assert before.keys() == one.state_dict().keys()
        assert all(tensor.equal(before[name]) for name, tensor in one.state_dict().items())
        assert torch.equal(translated(one), expected)


def test_a_folder_of_adapters_translates_by_its_name(adapter_folder: Path, tmp_path: Path) -> None:
    """PEFT saves no tokenizer: it is the base model's, until the folder has one of its own."""
    base = json.loads((adapter_folder / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"]
    words = word_tokenizer(["one two three"])
    words.save_pretrained(base)
    expected = translated(AutoModelForSeq2SeqLM.from_pretrained(adapter_folder))
    model, tokenizer = load_model(str(adapter_folder), device="cpu")
    assert torch.equal(translated(model), expected)
    assert tokenizer.get_vocab() == words.get_vocab()
    pipe: Any = pipeline("translation", adapter_folder, device="cpu")
    assert torch.equal(translated(pipe.model), expected)
    options = ["--to", "ctranslate2", str(adapter_folder), "--output", str(tmp_path / "exported")]
    assert convert.main(options) == 0
    engine = load_engine("ctranslate2", tmp_path / "exported", compute_type="float32")
    assert torch.equal(translated(engine), expected)
    own = shutil.copytree(adapter_folder, tmp_path / "own")
    word_tokenizer(["another"]).save_pretrained(own)
    assert "another" in load_model(str(own), device="cpu")[1].get_vocab()


KINDS: dict[str, Callable[[Any], Any]] = {
    "dora": lambda model: adapted(model, use_dora=True),
    "ia3": lambda model: get_peft_model(
        model, IA3Config(target_modules=["k_proj", "v_proj", "fc2"], feedforward_modules=["fc2"])
    ),
    "whole-projection": lambda model: adapted(model, modules_to_save=["lm_head"]),
    "embeddings": lambda model: adapted(model, target_modules=["embed_tokens", "lm_head", "embed_positions"]),
    "tokens": lambda model: get_peft_model(
        model, TrainableTokensConfig(target_modules=["decoder.embed_tokens"], token_indices=[3, 5])
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_adapter_is_merged_exactly(kind: str) -> None:
    """Where no embeddings are tied, so that each has weights of its own."""
    untied = {"tie_word_embeddings": False, "share_encoder_decoder_embeddings": False}
    base = toy_model(position_embedding="learned", **untied)
    before = logits(base)
    model = strong(KINDS[kind](base))
    merged = plain_model(model)
    assert type(merged) is type(base)
    assert merged.state_dict().keys() == toy_model(position_embedding="learned", **untied).state_dict().keys()
    assert_parity(logits(merged), logits(model))
    assert not torch.allclose(logits(model), before, atol=1e-3)


def test_several_adapters_are_merged_as_they_are_active() -> None:
    model = adapted(toy_model())
    model.add_adapter("second", model.peft_config["default"])
    found = []
    for seed, name in enumerate(("default", "second")):
        model.set_adapter(name)
        strong(model, seed)
        found.append(plain_model(model))
        assert_parity(logits(found[-1]), logits(model))
    assert not torch.allclose(logits(found[0]), logits(found[1]), atol=1e-3)


def test_what_is_merged_is_not_rounded() -> None:
    """Weights of half precision are float32 afterwards."""
    model = adapted(toy_model(dtype=torch.bfloat16))
    merged = plain_model(model)
    assert merged.dtype == torch.float32 and model.dtype == torch.bfloat16
    assert_parity(logits(merged), logits(model.float()))
    plain = toy_model(dtype=torch.bfloat16)
    assert plain_model(plain) is plain


@pytest.mark.parametrize("changes", [{"target_modules": ["lm_head"]}, {"modules_to_save": ["lm_head"]}])
def test_adapters_of_tied_embeddings_are_refused(changes: dict[str, Any]) -> None:
    model = adapted(toy_model(), **changes)
    for export in EXPORTS:
        with pytest.raises(InputError, match=r"`lm_head` .* layers share its weights.*merge_and_unload"):
            export(model)


def test_adapters_that_are_off_are_refused() -> None:
    model = adapted(toy_model())
    with (
        model.disable_adapter(),
        pytest.raises(InputError, match=r"fc1` is switched off.*merge_and_unload"),
    ):
        plain_model(model)


def test_adapters_that_cannot_be_merged_are_refused() -> None:
    model = adapted(toy_model())
    with torch.no_grad():
        model.base_model.model.model.encoder.layers[0].fc1.lora_A["default"].weight.fill_(float("nan"))
    with pytest.raises(InputError, match=r"cannot be merged \(NaNs .*merge_and_unload") as caught:
        plain_model(model)
    assert "\n" not in str(caught.value)


def test_a_prefix_is_refused() -> None:
    model: Any = translating_model(**SIZES)
    model = get_peft_model(model, PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3))
    for export in EXPORTS:
        with pytest.raises(InputError, match="a model with PrefixTuning cannot be exported"):
            export(model)


@pytest.mark.skipif(not half_weights_run_here(), reason="there are no such kernels here")
def test_packed_weights_are_refused(tmp_path: Path) -> None:
    toy_model(dtype=torch.float32).save_pretrained(tmp_path)
    options: Any = {"quantization_config": HalfWeightsConfig()}
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, **options)
    for export in (*EXPORTS, lambda model: save_onnx(model, tmp_path)):
        with pytest.raises(InputError, match="must be a plain Linear .* is a HalfWeightsLinear") as caught:
            export(model)
        assert "\n" not in str(caught.value)


class Packed(torch.Tensor):
    """A tensor whose numbers are stored in a way of its own, as torchao's are."""


def test_other_layers_and_tensors_are_refused() -> None:
    model = toy_model()
    model.model.decoder.layers[0].final_layer_norm = nn.RMSNorm(12)
    with pytest.raises(InputError, match=r"0.final_layer_norm` must be a plain LayerNorm .* is a RMSNorm"):
        plain_model(model)
    model = toy_model()
    weight = model.model.encoder.layers[0].fc1.weight.detach()
    model.model.encoder.layers[0].fc1.weight = nn.Parameter(weight.as_subclass(Packed))
    with pytest.raises(InputError, match=r"0.fc1.weight` must be a plain tensor .* is a Packed"):
        plain_model(model)
