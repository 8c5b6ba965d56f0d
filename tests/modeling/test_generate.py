"""What `generate()` of transformers offers, for both generating heads: every way leads to the greedy text."""

from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from vanilla_transformer import (
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
)

from .toy import FIELDS, PROMPTS, SOURCES, VOCABULARY, pad, toy_head

HEADS: list[Any] = [VanillaTransformerForConditionalGeneration, VanillaTransformerForCausalLM]
STEPS = 6
GREEDY: dict[str, Any] = {"num_beams": 1, "do_sample": False, "max_new_tokens": STEPS, "eos_token_id": 99}


@pytest.fixture(params=HEADS)
def model(request: pytest.FixtureRequest) -> Any:
    return toy_head(request.param, dtype=torch.float32, attention="eager", tie_word_embeddings=False)


def inputs(model: Any, rows: int = 3) -> dict[str, torch.Tensor]:
    """Padded sources, or prompts padded on the left."""
    whole = model.config.is_encoder_decoder
    ids, mask = pad(SOURCES if whole else PROMPTS, "right" if whole else "left")
    return {"input_ids": ids[:rows], "attention_mask": mask[:rows]}


def prompt_length(model: Any) -> int:
    return 1 if model.config.is_encoder_decoder else inputs(model)["input_ids"].shape[1]


@pytest.mark.parametrize("seed", [0, 1], ids=["of itself", "of another model"])
def test_assisted_decoding_is_greedy(model: Any, seed: int) -> None:
    assistant = toy_head(
        type(model), seed=seed, dtype=torch.float32, attention="eager", tie_word_embeddings=False
    )
    assistant.generation_config.num_assistant_tokens = 2
    given = inputs(model, rows=1)
    expected = model.generate(**given, **GREEDY)
    assert torch.equal(model.generate(**given, assistant_model=assistant, **GREEDY), expected)


def test_prompt_lookup_is_greedy(model: Any) -> None:
    given = {"input_ids": torch.tensor([SOURCES[0][:3] * 3])}
    expected = model.generate(**given, **GREEDY)
    assert torch.equal(model.generate(**given, prompt_lookup_num_tokens=3, **GREEDY), expected)


@pytest.mark.parametrize("guesses", ["assistant", "source"])
def test_guesses_end_at_the_limit_of_the_sentence(guesses: str) -> None:
    """The padding of the source is not counted."""
    model = toy_head(HEADS[0], dtype=torch.float32, tie_word_embeddings=False)
    ids, mask = pad([SOURCES[0][:3] * 2], extra=4)
    settings: dict[str, Any] = {"attention_mask": mask, "max_length_beyond_source": 3, "suppress_tokens": [2]}
    options = {"assistant_model": model} if guesses == "assistant" else {"prompt_lookup_num_tokens": 3}
    expected = model.generate(ids, **settings)
    assert expected.shape[1] == 1 + 6 + 3
    assert torch.equal(model.generate(ids, **settings, **options), expected)


def test_a_text_goes_on_from_its_cache(model: Any) -> None:
    given = inputs(model)
    expected = model.generate(**given, **GREEDY)
    first = model.generate(**given, **GREEDY | {"max_new_tokens": 2}, return_dict_in_generate=True)
    # The library takes the whole text, and knows by a mask as long that part of it is in the cache.
    prefix = "decoder_" if model.config.is_encoder_decoder else ""
    mask = torch.ones_like(first.sequences)
    if not prefix:
        mask[:, : given["attention_mask"].shape[1]] = given["attention_mask"]
    given |= {f"{prefix}input_ids": first.sequences, f"{prefix}attention_mask": mask}
    found = model.generate(
        **given, **GREEDY | {"max_new_tokens": STEPS - 2}, past_key_values=first.past_key_values
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("cache", [True, False])
def test_scores_attentions_and_hidden_states(model: Any, cache: bool, beams: int) -> None:
    outputs = model.generate(
        **inputs(model),
        **GREEDY | {"num_beams": beams},
        use_cache=cache,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        output_attentions=True,
        output_hidden_states=True,
    )
    start, rows = prompt_length(model), 3 * beams
    assert outputs.sequences.shape == (3, start + STEPS)
    assert [len(outputs.scores), len(outputs.logits)] == [STEPS, STEPS]
    assert all(step.shape == (rows, VOCABULARY) for step in (*outputs.scores, *outputs.logits))
    prefix = "decoder_" if model.config.is_encoder_decoder else ""
    layers, heads = FIELDS["decoder_layers"], FIELDS["decoder_attention_heads"]
    for step in range(STEPS):
        seen = start + step
        read = 1 if cache and step else seen
        attentions, states = (outputs[f"{prefix}{kind}"][step] for kind in ("attentions", "hidden_states"))
        assert [tuple(weights.shape) for weights in attentions] == [(rows, heads, read, seen)] * layers
        assert [tuple(s.shape) for s in states] == [(rows, read, FIELDS["d_model"])] * (layers + 1)
    if prefix:
        sources = inputs(model)["input_ids"].shape[1]
        assert outputs.cross_attentions[1][0].shape == (rows, heads, 1 if cache else 2, sources)
        assert outputs.encoder_hidden_states[-1].shape[1] == sources


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": True, "top_k": 5},
        {"do_sample": True, "top_p": 0.8, "num_return_sequences": 3},
        {"num_beams": 4, "num_return_sequences": 3},
        {"num_beams": 2, "do_sample": True},
        {"no_repeat_ngram_size": 2, "repetition_penalty": 1.3},
        {"cache_implementation": "static", "do_sample": True},
    ],
    ids=str,
)
def test_ways_to_generate(model: Any, settings: dict[str, Any]) -> None:
    texts = []
    for seed in (0, 0, 1, 2):
        torch.manual_seed(seed)
        texts.append(model.generate(**inputs(model), **GREEDY | settings))
    assert texts[0].shape == (3 * settings.get("num_return_sequences", 1), prompt_length(model) + STEPS)
    assert torch.equal(texts[0], texts[1])
    varied = len({tuple(text.flatten().tolist()) for text in texts}) > 1
    assert varied == bool(settings.get("do_sample"))


def test_a_prefix_can_be_forced(model: Any) -> None:
    start = prompt_length(model)

    def allowed(row: int, ids: torch.Tensor) -> list[int]:
        forced = [13, 6, 19][len(ids) - start : len(ids) - start + 1]
        return forced or list(range(VOCABULARY))

    for beams in (1, 3):
        found = model.generate(
            **inputs(model), **GREEDY | {"num_beams": beams}, prefix_allowed_tokens_fn=allowed
        )
        assert found[:, start : start + 3].tolist() == [[13, 6, 19]] * 3
        if model.config.is_encoder_decoder and beams == 1:
            prefix = torch.tensor([[1, 13, 6, 19]] * 3)
            settings = GREEDY | {"max_new_tokens": STEPS - 3}
            assert torch.equal(model.generate(**inputs(model), decoder_input_ids=prefix, **settings), found)


def test_a_limit_in_a_configuration_of_its_own(model: Any) -> None:
    config = GenerationConfig(**GREEDY | {"max_new_tokens": 2})
    assert model.generate(**inputs(model), generation_config=config).shape[1] == prompt_length(model) + 2


def test_embeddings_continue_like_ids() -> None:
    model = toy_head(VanillaTransformerForCausalLM)
    given = inputs(model)
    embeddings = model.get_input_embeddings()(given["input_ids"])
    expected = model.generate(**given, **GREEDY)[:, given["input_ids"].shape[1] :]
    found = model.generate(inputs_embeds=embeddings, attention_mask=given["attention_mask"], **GREEDY)
    assert torch.equal(found, expected)
