"""Decoding step by step with a cache gives what one forward pass over the whole target gives."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import CompileConfig
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache, StaticCache

from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration

from .toy import PROMPTS, SOURCES, assert_parity, pad, padded_batch, toy_model, translating_model

LENGTH = 12


def both_dynamic(config: VanillaTransformerConfig) -> Cache:
    return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))


def own_static(config: VanillaTransformerConfig) -> Cache:
    own = StaticCache(config=config.get_text_config(decoder=True), max_cache_len=LENGTH)
    return EncoderDecoderCache(own, DynamicCache(config=config))


def both_static(config: VanillaTransformerConfig) -> Cache:
    decoder = config.get_text_config(decoder=True)
    own = StaticCache(config=decoder, max_cache_len=LENGTH)
    return EncoderDecoderCache(own, StaticCache(config=decoder, max_cache_len=max(map(len, SOURCES))))


CACHES: list[Any] = [None, both_dynamic, own_static, both_static]
CHUNKS = {"single": [1] * 7, "prefill": [4, 1, 1, 1], "two-blocks": [3, 4]}


def decode_in_chunks(
    model: VanillaTransformerForConditionalGeneration,
    batch: dict[str, torch.Tensor],
    cache: Cache | None,
    chunks: list[int],
) -> torch.Tensor:
    """Logits (N, S, V) of the target, read `chunks` tokens at a time over encoder outputs computed once."""
    encoder_outputs = model.get_encoder()(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    )
    logits, end = [], 0
    for size in chunks:
        start, end = end, end + size
        inputs = {"decoder_input_ids": batch["decoder_input_ids"][:, start:end]}
        if "decoder_attention_mask" in batch:
            inputs["decoder_attention_mask"] = batch["decoder_attention_mask"][:, :end]
        outputs = model(
            encoder_outputs=encoder_outputs,
            attention_mask=batch["attention_mask"],
            past_key_values=cache,
            use_cache=True,
            **inputs,
        )
        cache = outputs.past_key_values
        assert isinstance(cache, EncoderDecoderCache) and int(cache.get_seq_length()) == end
        logits.append(outputs.logits)
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("make_cache", CACHES, ids=["default", "dynamic", "static", "static-cross"])
@pytest.mark.parametrize("source_side", ["left", "right"])
def test_steps_equal_the_whole(
    source_side: str, make_cache: Callable[..., Cache] | None, chunks: list[int], attention: str
) -> None:
    model = toy_model(attention=attention)
    for target_side in ("left", "right"):
        batch = padded_batch(source_side, target_side)
        real = batch["decoder_attention_mask"].bool()
        with torch.no_grad():
            whole = model(**batch).logits
            cache = make_cache(model.config) if make_cache else None
            steps = decode_in_chunks(model, batch, cache, chunks)
        assert_parity(steps[real], whole[real])


@pytest.mark.parametrize("make_cache", CACHES, ids=["default", "dynamic", "static", "static-cross"])
@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": torch.float32},
        {"norm_position": "pre", "attention_bias": True},
        {"position_embedding": "learned"},
        {"head_dim": 5, "value_head_dim": 3},
        {"encoder_layers": 1, "decoder_layers": 4},
        {"encoder_layers": 3, "decoder_layers": 1},
    ],
    ids=str,
)
def test_steps_equal_the_whole_without_a_mask_of_the_target(
    changes: dict[str, Any], make_cache: Callable[..., Cache] | None
) -> None:
    model = toy_model(**changes)
    batch = padded_batch()
    mask = batch.pop("decoder_attention_mask").bool()
    with torch.no_grad():
        whole = model(**batch).logits
        cache = make_cache(model.config) if make_cache else None
        steps = decode_in_chunks(model, batch, cache, CHUNKS["prefill"])
    assert_parity(steps[mask], whole[mask])


def test_the_cache_is_read() -> None:
    """A second target over the same cache sees the first one's keys: the tests above can fail."""
    model, batch = toy_model(), padded_batch()
    cache = both_dynamic(model.config)
    inputs = {"input_ids": batch["input_ids"], "decoder_input_ids": batch["decoder_input_ids"][:, :3]}
    first = model(**inputs, past_key_values=cache).logits
    second = model(**inputs, past_key_values=cache).logits
    assert (first - second).abs().max() > 0.1


def test_the_encoder_is_projected_once() -> None:
    model, batch = toy_model(), padded_batch()
    outputs = model(**batch, use_cache=True)
    calls = []
    model.model.decoder.layers[0].encoder_attn.k_proj.register_forward_hook(lambda *args: calls.append(args))
    encoder_outputs = (outputs.encoder_last_hidden_state,)
    for _ in range(2):
        model(
            encoder_outputs=encoder_outputs,
            attention_mask=batch["attention_mask"],
            decoder_input_ids=batch["decoder_input_ids"][:, :1],
            past_key_values=outputs.past_key_values,
        )
    assert not calls


def test_a_cache_of_the_decoder_alone_is_refused() -> None:
    model, batch = toy_model(), padded_batch()
    with pytest.raises(ValueError, match="must be an `EncoderDecoderCache`.* `DynamicCache` instead"):
        model(**batch, past_key_values=DynamicCache(config=model.config))


def test_no_cache_unless_wanted() -> None:
    model, batch = toy_model(), padded_batch()
    assert isinstance(model(**batch).past_key_values, EncoderDecoderCache)
    assert model(**batch, use_cache=False).past_key_values is None
    assert model(**batch, labels=batch["decoder_input_ids"]).past_key_values is None


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_translations_do_not_depend_on_the_cache(side: str, positions: str, beams: int) -> None:
    model = translating_model(position_embedding=positions, head_dim=5, value_head_dim=3)
    ids, mask = pad(SOURCES, side)
    settings = {"attention_mask": mask, "num_beams": beams, "max_new_tokens": 10}
    expected = model.generate(ids, use_cache=False, **settings)
    assert len({tuple(row) for row in expected.tolist()}) > 1
    assert torch.equal(model.generate(ids, use_cache=True, **settings), expected)
    assert torch.equal(model.generate(ids, cache_implementation="static", **settings), expected)


def test_decoding_compiles_as_a_whole_and_four_times_at_most() -> None:
    """transformers compiles the steps over a static cache on a GPU, and elsewhere when it is told to.

    One graph for the first shape, one for each size that is found to change, one for a single row.
    """
    model = translating_model(encoder_layers=1, decoder_layers=1)
    compilation = CompileConfig(backend="eager", mode=None, fullgraph=True)
    compilation._compile_all_devices = True
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    for rows, extra, beams in ((3, 0, 1), (3, 2, 1), (2, 4, 1), (3, 5, 1), (1, 0, 1), (3, 1, 4)):
        ids, mask = pad(SOURCES[:rows], extra=extra)
        settings = {"attention_mask": mask, "num_beams": beams, "max_new_tokens": 10}
        found = model.generate(ids, cache_implementation="static", compile_config=compilation, **settings)
        assert torch.equal(found, model.generate(ids, **settings))
    assert 1 <= torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 4


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("implementation", [None, "static"])
def test_a_padded_prompt_with_each_cache(implementation: str | None, attention: str) -> None:
    model = toy_model(attention=attention)
    ids, mask = pad(SOURCES, "left")
    prompts, prompt_mask = pad(PROMPTS, "left")
    settings: dict[str, Any] = {
        "attention_mask": mask,
        "decoder_input_ids": prompts,
        "decoder_attention_mask": prompt_mask,
        "num_beams": 3,
        "max_new_tokens": 8,
    }
    expected = model.generate(ids, use_cache=False, **settings)
    assert torch.equal(model.generate(ids, cache_implementation=implementation, **settings), expected)


def test_greedy_translation_is_the_argmax_of_the_full_forward() -> None:
    model = toy_model()
    ids, mask = pad(SOURCES)
    generated = model.generate(ids, attention_mask=mask, num_beams=1, max_new_tokens=9, eos_token_id=99)
    logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=generated[:, :-1]).logits
    assert torch.equal(logits.argmax(-1), generated[:, 1:])
