"""ONNX: both graphs in onnxruntime, driven by `generate()`, side by side with the model they come from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from vanilla_transformer import InputError, pipeline
from vanilla_transformer.interop import from_marian, save_onnx
from vanilla_transformer.modeling.engines import load_engine
from vanilla_transformer.modeling.generation_vanilla_transformer import PAPER_DECODING

from ..modeling.toy import VOCABULARY, assert_parity, padded_batch, toy_model, translating_model
from .foreign import marian_model

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "pre-norm-biases": {"norm_position": "pre", "attention_bias": True, "lm_head_bias": True},
    "learned-gelu": {"position_embedding": "learned", "activation_function": "gelu", "final_norm": True},
    "no-positions": {"position_embedding": "none", "scale_embedding": False},
    "two-vocabularies": {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 31},
    "unequal-heads": {"head_dim": 5, "value_head_dim": 3, "sinusoidal_layout": "tensor2tensor"},
}
SEARCHES: list[dict[str, Any]] = [
    {"num_beams": 1},
    PAPER_DECODING,
    {"num_beams": 3, "num_return_sequences": 2, "length_penalty_type": "power", "patience": 2.0},
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_translations_are_the_models(variant: str, tmp_path: Path) -> None:
    """Logits to 1e-5 in sizes other than the exported ones, greedy and beam token by token."""
    model = translating_model(dtype=torch.float32, **VARIANTS[variant])
    save_onnx(model, tmp_path)
    engine = load_engine("onnx", tmp_path)
    batch = padded_batch("left")
    del batch["decoder_attention_mask"]
    for rows in (slice(0, 3), slice(1, 2)):
        some = {name: values[rows] for name, values in batch.items()}
        with torch.no_grad():
            assert_parity(engine(**some).logits, model(**some).logits)
    del batch["decoder_input_ids"]
    options: dict[str, Any] = {"num_beams": 1, "max_new_tokens": 3}
    expected = model.generate(**batch, **options)
    for kind in (torch.bool, torch.float32, torch.int32):
        other = {"attention_mask": batch["attention_mask"].to(kind), "input_ids": batch["input_ids"].int()}
        assert torch.equal(engine.generate(**other, **options), expected)
    for search in SEARCHES:
        options = search | {"max_length_beyond_source": 9}
        assert torch.equal(engine.generate(**batch, **options), model.generate(**batch, **options))


def test_a_long_sentence_has_its_positions(tmp_path: Path) -> None:
    """Beyond what was exported, and without a mask."""
    model = translating_model(dtype=torch.float32)
    save_onnx(model, tmp_path)
    ids = torch.randint(5, VOCABULARY, (2, 150), generator=torch.Generator().manual_seed(0))
    options = {"num_beams": 1, "max_new_tokens": 60, "suppress_tokens": [2]}
    found = load_engine("onnx", tmp_path).generate(ids, **options)
    assert torch.equal(found, model.generate(ids, **options))
    assert found.shape == (2, 61)


def test_a_cache_of_fixed_size_is_read_as_far_as_it_is_filled(tmp_path: Path) -> None:
    model = translating_model(dtype=torch.float32)
    save_onnx(model, tmp_path)
    engine, batch = load_engine("onnx", tmp_path), padded_batch()
    sources = {name: batch[name] for name in ("input_ids", "attention_mask")}
    for beams in (1, 3):
        options: dict[str, Any] = {"num_beams": beams, "max_new_tokens": 9}
        found = engine.generate(**sources, **options, cache_implementation="static")
        assert torch.equal(found, model.generate(**sources, **options))


def test_a_marian_goes_through_to_onnx(tmp_path: Path) -> None:
    ours = from_marian(marian_model(VOCABULARY))
    save_onnx(ours, tmp_path)
    batch = padded_batch()
    sources = {name: batch[name] for name in ("input_ids", "attention_mask")}
    found = load_engine("onnx", tmp_path).generate(**sources)
    assert torch.equal(found, ours.generate(**sources))


def test_the_graphs_are_whole_and_their_dimensions_named(tmp_path: Path) -> None:
    save_onnx(toy_model(dtype=torch.bfloat16), tmp_path)
    for name in ("encoder", "decoder"):
        graph = onnx.load(tmp_path / f"{name}.onnx")
        onnx.checker.check_model(graph, full_check=True)
        free = {
            axis.dim_param
            for one in graph.graph.input
            for axis in one.type.tensor_type.shape.dim
            if not axis.dim_value
        }
        assert free == ({"N", "T"} if name == "encoder" else {"N", "S", "T", "P"})


def test_the_pipeline_runs_an_exported_folder(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = translating_model(dtype=torch.float32, vocab_size=len(tiny_tokenizer))
    save_onnx(model, tmp_path, tiny_tokenizer)
    texts = ["w1 w2 w3", "", "w4 w5 n1 w7 w8"]
    options = {"num_beams": 3, "num_return_sequences": 2, "max_length_beyond_source": 4}
    expected: Any = pipeline("translation", model, tiny_tokenizer, device="cpu")(texts, **options)
    translator: Any = pipeline("translation", tmp_path, backend="onnx")
    ids = torch.tensor([[5, 2]])
    # As `stop_strings` needs it.
    tokens = translator.model.generate(ids, tokenizer=tiny_tokenizer, max_new_tokens=3)
    assert torch.equal(tokens, model.generate(ids, max_new_tokens=3))
    with pytest.raises(ValueError, match="`output_attentions` is not available with ONNX"):
        translator.model.generate(
            torch.tensor([[5, 2]]), output_attentions=True, return_dict_in_generate=True
        )
    found: Any = translator(texts, **options)
    for one, other in zip(found, expected, strict=True):
        assert [record["translation_text"] for record in one] == [r["translation_text"] for r in other]
        assert [record["score"] for record in one] == pytest.approx([r["score"] for r in other], abs=1e-4)
    greedy: Any = translator(texts[0], num_beams=1, return_scores=True)
    assert greedy[0]["score"] < 0
    with pytest.raises(InputError, match="`attention` weights are not available with ONNX."):
        translator(texts[0], return_attention=True)
    with pytest.raises(InputError, match="`compute_type` is not available with ONNX."):
        pipeline("translation", tmp_path, backend="onnx", compute_type="int8")
    with pytest.raises(InputError, match="`device` must be cpu for ONNX, but is 'cuda' instead."):
        pipeline("translation", tmp_path, backend="onnx", device=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_layers": 0}, "`decoder_layers` must be positive for ONNX, but is 0 instead."),
    ],
)
def test_what_has_no_place_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        save_onnx(toy_model(**changes), tmp_path)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("decoder.onnx", lambda data: data[: len(data) // 2], "cannot be loaded by onnxruntime: "),
        ("encoder.onnx", lambda data: b"garbage" * 99, "cannot be loaded by onnxruntime: "),
        ("encoder.onnx", None, "must take input_ids, attention_mask, but does not."),
        ("config.json", lambda data: data[:99], "cannot be loaded: "),
    ],
)
def test_a_damaged_folder_is_one_line(
    name: str, damage: Callable[[bytes], bytes] | None, message: str, tmp_path: Path
) -> None:
    save_onnx(toy_model(), tmp_path)
    path = tmp_path / name
    other = (tmp_path / "decoder.onnx").read_bytes()
    path.write_bytes(damage(path.read_bytes()) if damage else other)
    with pytest.raises(InputError, match=message) as caught:
        load_engine("onnx", tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
