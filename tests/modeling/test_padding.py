"""Padding changes nothing: left, right or absent, in encoder and decoder, in logits and translations."""

from typing import Any

import pytest
import torch

from vanilla_transformer import VanillaTransformerForCausalLM, VanillaTransformerForConditionalGeneration

from .toy import (
    PROMPTS,
    SIDES,
    SOURCES,
    TARGETS,
    VOCABULARY,
    assert_gradients_equal,
    assert_parity,
    gradients,
    pad,
    padded_batch,
    toy_head,
    toy_model,
    translating_model,
)

POSITIONS = ("sinusoidal", "learned", "none")


def real_logits(
    model: VanillaTransformerForConditionalGeneration, batch: dict[str, torch.Tensor]
) -> list[Any]:
    """The logits of each sentence at its real positions."""
    with torch.no_grad():
        logits = model(**batch).logits
    return [row[mask.bool()] for row, mask in zip(logits, batch["decoder_attention_mask"], strict=True)]


def logits_alone(model: VanillaTransformerForConditionalGeneration) -> list[torch.Tensor]:
    """The logits of each sentence by itself, without any mask."""
    with torch.no_grad():
        return [
            model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([target])).logits[0]
            for source, target in zip(SOURCES, TARGETS, strict=True)
        ]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("target_side", SIDES)
@pytest.mark.parametrize("source_side", SIDES)
def test_logits_alone_and_in_a_padded_batch_agree(
    source_side: str, target_side: str, positions: str, attention: str
) -> None:
    model = toy_model(position_embedding=positions, attention=attention)
    batch = padded_batch(source_side, target_side, extra=2)
    for padded, alone in zip(real_logits(model, batch), logits_alone(model), strict=True):
        assert_parity(padded, alone)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_mask_of_the_source_has_one_row(attention: str) -> None:
    """So its memory grows with the source, not with the square of it; without padding there is none."""
    model = toy_model(attention=attention)
    layers = model.model
    shapes: list[Any] = []
    for module in (layers.encoder.layers[0].self_attn, layers.decoder.layers[0].encoder_attn):
        module.register_forward_pre_hook(
            lambda module, inputs, named: shapes.append(getattr(named["attention_mask"], "shape", None)),
            with_kwargs=True,
        )
    batch = padded_batch()
    model(**batch)
    assert shapes == [(len(SOURCES), 1, 1, batch["input_ids"].shape[1])] * 2
    shapes.clear()
    model(**batch | {"attention_mask": torch.ones_like(batch["attention_mask"])})
    assert shapes == [None] * 2


@pytest.mark.parametrize(
    ("side", "hole", "cached", "spread"),
    [
        ("right", 0, False, False),
        ("left", 0, False, True),
        ("right", 1, False, True),
        ("right", 0, True, True),  # what is cached goes on behind the padding, from what that saw
    ],
)
def test_padding_on_the_right_of_the_target_needs_no_mask(
    side: str, hole: int, cached: bool, spread: bool
) -> None:
    """The causal mask hides it; so memory grows with the target, not with the square of it."""
    model = toy_model(attention="sdpa", use_cache=cached)
    masks: list[Any] = []
    model.model.decoder.layers[0].self_attn.register_forward_pre_hook(
        lambda module, inputs, named: masks.append(named["attention_mask"]), with_kwargs=True
    )
    batch = padded_batch("right", side)
    batch["decoder_attention_mask"][:, 1] -= hole
    found = real_logits(model, batch)
    assert (masks[0] is not None) == spread
    model.set_attn_implementation("eager")
    for logits, expected in zip(found, real_logits(model, batch), strict=True):
        assert_parity(logits, expected)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("side", SIDES)
def test_float32_agrees_too(side: str, norm: str) -> None:
    model = toy_model(dtype=torch.float32, norm_position=norm)
    for padded, alone in zip(real_logits(model, padded_batch(side, side)), logits_alone(model), strict=True):
        assert_parity(padded, alone)


@pytest.mark.parametrize("side", SIDES)
def test_what_stands_at_padding_is_never_seen(side: str) -> None:
    model = toy_model()
    batches = [padded_batch(side, side, filler=filler) for filler in (0, 15)]
    assert not torch.equal(batches[0]["input_ids"], batches[1]["input_ids"])
    for one, other in zip(*(real_logits(model, batch) for batch in batches), strict=True):
        assert_parity(one, other)


def test_without_a_mask_the_padding_is_seen() -> None:
    """The test above can fail."""
    model = toy_model()
    batch = padded_batch()
    seen = model(input_ids=batch["input_ids"], decoder_input_ids=batch["decoder_input_ids"]).logits[2, 0]
    masked = model(**batch).logits[2, 0]
    assert (seen - masked).abs().max() > 0.1


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_no_position_sees_a_later_one(attention: str, mask: bool) -> None:
    model = toy_model(attention=attention)
    source, target = torch.tensor([SOURCES[0]]), torch.tensor([TARGETS[1]])
    masks = {"decoder_attention_mask": torch.ones_like(target)} if mask else {}
    before = model(input_ids=source, decoder_input_ids=target, **masks).logits
    for changed in range(1, target.shape[1]):
        other = target.clone()
        other[0, changed] = (other[0, changed] + 3) % VOCABULARY
        after = model(input_ids=source, decoder_input_ids=other, **masks).logits
        assert_parity(after[:, :changed], before[:, :changed])
        assert (after[:, changed] - before[:, changed]).abs().max() > 1e-3


def translate(
    model: VanillaTransformerForConditionalGeneration,
    rows: list[list[int]],
    side: str,
    beams: int,
    **kwargs: Any,
) -> list[list[int]]:
    """The translations of `rows`, up to their end or 12 tokens."""
    ids, mask = pad(rows, side)
    generated = model.generate(
        ids, attention_mask=mask, num_beams=beams, max_new_tokens=12, **kwargs
    ).tolist()
    return [row[: row.index(2, 1)] if 2 in row[1:] else row for row in generated]


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_translations_alone_and_in_a_padded_batch_agree(positions: str, beams: int) -> None:
    model = translating_model(position_embedding=positions)
    rows = [*SOURCES, [12, 6, 19, 19, 5, 2]]
    alone = [translate(model, [row], "right", beams)[0] for row in rows]
    assert len({tuple(row) for row in alone}) > 1
    for side in SIDES:
        assert translate(model, rows, side, beams) == alone


def test_a_padded_prompt_of_the_decoder_changes_no_translation() -> None:
    model = translating_model()
    alone: list[list[int]] = []
    for source, prompt in zip(SOURCES, PROMPTS, strict=True):
        alone.append(translate(model, [source], "right", 1, decoder_input_ids=torch.tensor([prompt]))[0])
    ids, mask = pad(PROMPTS, "left")
    together = translate(model, SOURCES, "left", 1, decoder_input_ids=ids, decoder_attention_mask=mask)
    for prompt, row, padded in zip(PROMPTS, alone, together, strict=True):
        assert padded[ids.shape[1] - len(prompt) :] == row


@pytest.mark.parametrize("side", SIDES)
def test_embeddings_are_scaled_like_ids(side: str) -> None:
    model = toy_model(share_encoder_decoder_embeddings=False, decoder_vocab_size=29)
    batch = padded_batch(side, side)
    embedded = {
        "inputs_embeds": model.model.encoder.embed_tokens(batch["input_ids"]),
        "decoder_inputs_embeds": model.model.decoder.embed_tokens(batch["decoder_input_ids"]),
        "attention_mask": batch["attention_mask"],
        "decoder_attention_mask": batch["decoder_attention_mask"],
    }
    for ids, embeddings in zip(real_logits(model, batch), real_logits(model, embedded), strict=True):
        assert torch.equal(ids, embeddings)


def test_embeddings_translate_like_ids() -> None:
    model = translating_model()
    ids, mask = pad(SOURCES)
    embeddings = model.get_input_embeddings()(ids)
    settings = {"attention_mask": mask, "num_beams": 2, "max_new_tokens": 8}
    assert torch.equal(model.generate(ids, **settings), model.generate(inputs_embeds=embeddings, **settings))


def test_ids_and_embeddings_together_are_refused() -> None:
    model = toy_model()
    ids = torch.tensor([[5, 2]])
    with pytest.raises(ValueError, match="Exactly one of `input_ids` and `inputs_embeds`"):
        model(input_ids=ids, inputs_embeds=model.get_input_embeddings()(ids), decoder_input_ids=ids)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("side", SIDES)
def test_positions_given_equal_positions_counted(side: str, positions: str) -> None:
    model = toy_model(position_embedding=positions)
    batch = padded_batch(side, side)
    given = {
        name: torch.zeros_like(mask).masked_scatter(
            mask.bool(), torch.cat([torch.arange(n) for n in mask.sum(1)])
        )
        for name, mask in (
            ("position_ids", batch["attention_mask"]),
            ("decoder_position_ids", batch["decoder_attention_mask"]),
        )
    }
    counted = real_logits(model, batch)
    for one, other in zip(counted, real_logits(model, batch | given), strict=True):
        assert_parity(one, other)
    for name, ids in given.items():
        moved = real_logits(model, batch | given | {name: 3 * ids + 2})
        assert all((one - other).abs().max() > 1e-3 for one, other in zip(counted, moved, strict=True))


def test_positions_beside_a_mask_hide_nothing() -> None:
    """Where no mask is given, positions that start anew begin another sequence; where one is, it decides."""
    model, eager = toy_model(attention="sdpa"), toy_model(attention="eager")
    batch = padded_batch()
    batch["decoder_position_ids"] = torch.tensor([[0, 3, 4, 0, 1, 9, 2]] * len(TARGETS))
    for one, other in zip(real_logits(model, batch), real_logits(eager, batch), strict=True):
        assert_parity(one, other)
    with torch.no_grad():
        uncached = model(**batch, use_cache=False).logits[batch["decoder_attention_mask"].bool()]
    assert_parity(uncached, torch.cat(real_logits(eager, batch)))


@pytest.mark.parametrize("beams", [1, 4])
def test_a_prompt_padded_on_the_right_goes_on_alike_everywhere(beams: int) -> None:
    """What its padding sees is the prompt alone: with every attention, cache and loop."""
    ids, mask = pad(SOURCES)
    prompt, prompt_mask = pad(PROMPTS, "right")
    given: dict[str, Any] = {"attention_mask": mask, "decoder_input_ids": prompt}
    given |= {"decoder_attention_mask": prompt_mask, "num_beams": beams, "max_new_tokens": 6}
    for seed in range(5):
        expected = toy_model(attention="eager", seed=seed).generate(ids, **given, fast=False)
        model = toy_model(attention="sdpa", seed=seed)
        for ways in ({}, {"fast": False}):
            assert torch.equal(model.generate(ids, **given, **ways), expected)


def test_without_positions_the_order_of_the_source_is_not_seen() -> None:
    model = toy_model(position_embedding="none")
    target = torch.tensor([TARGETS[0]])
    one = model(input_ids=torch.tensor([SOURCES[0]]), decoder_input_ids=target).logits
    other = model(input_ids=torch.tensor([SOURCES[0][::-1]]), decoder_input_ids=target).logits
    assert_parity(one, other)


def test_sinusoids_reach_past_any_table() -> None:
    short, long = (toy_model(max_position_embeddings=length) for length in (4, 64))
    for one, other in zip(logits_alone(short), logits_alone(long), strict=True):
        assert torch.equal(one, other)
    source = torch.randint(5, VOCABULARY, (1, 1500))
    assert short(input_ids=source, decoder_input_ids=source[:, :5]).logits.isfinite().all()


@pytest.mark.parametrize("too_long", ["input_ids", "decoder_input_ids"])
def test_learned_positions_past_the_table_are_refused(too_long: str) -> None:
    model = toy_model(position_embedding="learned", max_position_embeddings=6)
    inputs = {"input_ids": torch.full((1, 6), 5), "decoder_input_ids": torch.full((1, 6), 5)}
    assert model(**inputs).logits.isfinite().all()
    inputs[too_long] = torch.full((1, 7), 5)
    with pytest.raises(ValueError, match=r"must be below `max_position_embeddings` \(6\).* but reach 6\."):
        model(**inputs)


def test_a_decoder_that_may_look_ahead_never_sees_the_padding() -> None:
    """With transformers' switch `is_causal=False`, what stands on the right is no longer out of sight."""
    model = toy_head(VanillaTransformerForCausalLM)
    ids, mask = pad(SOURCES, "right", extra=2)
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        logits = model(ids, attention_mask=mask, is_causal=False, use_cache=False).logits
        for row, source in zip(logits, SOURCES, strict=True):
            alone = model(torch.tensor([source]), is_causal=False, use_cache=False).logits[0]
            assert_parity(row[: len(source)], alone)


def test_padding_past_the_learned_table_is_allowed() -> None:
    """Only real tokens take a position: a batch may be padded wider than the table."""
    model = toy_model(position_embedding="learned", max_position_embeddings=7)
    for side in SIDES:
        batch = padded_batch(side, side, extra=4)
        for padded, alone in zip(real_logits(model, batch), logits_alone(model), strict=True):
            assert_parity(padded, alone)


@pytest.mark.parametrize("side", SIDES)
def test_gradients_alone_and_in_a_padded_batch_agree(side: str) -> None:
    model = toy_model()
    batch = padded_batch(side, side, extra=1)
    labels = batch["decoder_input_ids"].masked_fill(batch["decoder_attention_mask"] == 0, -100)
    count = int((labels != -100).sum())
    model(**batch, labels=labels).loss.backward()
    together = gradients(model)
    model.zero_grad()
    for source, target in zip(SOURCES, TARGETS, strict=True):
        inputs = {name: torch.tensor([row]) for name, row in (("input_ids", source), ("labels", target))}
        inputs["decoder_input_ids"] = inputs["labels"]
        model(**inputs, num_items_in_batch=count).loss.backward()
    assert_gradients_equal(together, gradients(model))
