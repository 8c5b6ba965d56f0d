"""What the heads compute: padding, causality, caches, losses, pooling, attention kernels, compilation."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import GenerationConfig, StoppingCriteriaList
from transformers.cache_utils import Cache, DynamicCache, StaticCache
from transformers.utils import logging

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerDecoderModel,
    VanillaTransformerEncoderModel,
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
)

from .toy import (
    DECODERS,
    ENCODERS,
    FIELDS,
    PROMPTS,
    SIDES,
    SOURCES,
    VOCABULARY,
    WHOLE,
    assert_gradients_equal,
    assert_parity,
    gradients,
    pad,
    toy_config,
    toy_head,
)

ALONE = ENCODERS + DECODERS
LANGUAGE_MODELS = [VanillaTransformerForCausalLM, VanillaTransformerForMaskedLM]
CLASSES: dict[str, Any] = {"num_labels": 5}


def per_token(kind: Any) -> bool:
    return kind is not VanillaTransformerForSequenceClassification


def outputs_of(model: Any, **inputs: Any) -> list[torch.Tensor]:
    """What each text of the batch gets: a row for each of its real tokens, or one row."""
    with torch.no_grad():
        found = model(**inputs)[0]
    if not per_token(type(model)):
        return list(found)
    mask = inputs.get("attention_mask", torch.ones(found.shape[:2]))
    return [row[real.bool()] for row, real in zip(found, mask, strict=True)]


def alone(model: Any, rows: list[list[int]]) -> list[torch.Tensor]:
    return [outputs_of(model, input_ids=torch.tensor([row]))[0] for row in rows]


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", ALONE)
def test_outputs_alone_and_in_a_padded_batch_agree(kind: Any, side: str, positions: str) -> None:
    for attention in ("eager", "sdpa"):
        model = toy_head(kind, position_embedding=positions, attention=attention)
        for filler in (0, 15):
            ids, mask = pad(SOURCES, side, extra=2, filler=filler)
            together = outputs_of(model, input_ids=ids, attention_mask=mask)
            for padded, single in zip(together, alone(model, SOURCES), strict=True):
                assert_parity(padded, single)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", ALONE)
def test_embeddings_and_positions_may_be_given(kind: Any, side: str) -> None:
    model = toy_head(kind)
    ids, mask = pad(SOURCES, side)
    expected = outputs_of(model, input_ids=ids, attention_mask=mask)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    given = {"inputs_embeds": model.get_input_embeddings()(ids), "position_ids": positions}
    for one, other in zip(outputs_of(model, attention_mask=mask, **given), expected, strict=True):
        assert_parity(one, other)
    moved = outputs_of(model, input_ids=ids, attention_mask=mask, position_ids=3 * positions)
    assert (moved[0] - expected[0]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_masks_of_four_dimensions(kind: Any, side: str) -> None:
    model = toy_head(kind)
    ids, mask = pad(SOURCES, side)
    whole = mask[:, None, None].bool().expand(-1, 1, ids.shape[1], -1)
    lowest = torch.finfo(torch.float64).min
    for given in (whole, torch.zeros(whole.shape, dtype=torch.float64).masked_fill(~whole, lowest)):
        with torch.no_grad():
            found, expected = model(ids, given)[0], model(ids, mask)[0]
        if per_token(kind):
            found, expected = found[mask.bool()], expected[mask.bool()]
        assert_parity(found, expected)


@pytest.mark.parametrize("bias", [None, -0.5])
@pytest.mark.parametrize("kind", DECODERS)
def test_a_prefix_that_sees_all_of_itself_keeps_its_order(kind: Any, bias: float | None) -> None:
    """A position is the number of tokens before it, whatever is seen behind it; a bias hides none."""
    model = toy_head(kind)
    ids = torch.tensor([SOURCES[0]])
    length = ids.shape[1]
    shown = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    shown[..., :3] = True
    given = shown
    if bias is not None:
        given = torch.full(shown.shape, bias, dtype=torch.float64)
        given = given.masked_fill(~shown, torch.finfo(torch.float64).min)
    with torch.no_grad():
        found, expected = (
            model(input_ids=ids, attention_mask=given, **places)[0]
            for places in ({}, {"position_ids": torch.arange(length)[None]})
        )
    assert_parity(found, expected)


@pytest.mark.parametrize("mask", [None, "left", "right"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", DECODERS)
def test_no_position_sees_a_later_one(kind: Any, attention: str, mask: str | None) -> None:
    model = toy_head(kind, attention=attention)
    ids, real = pad([SOURCES[0], SOURCES[1]], mask or "right")
    inputs = {"attention_mask": real} if mask else {}
    before = model(input_ids=ids, **inputs)[0]
    for changed in range(1, ids.shape[1]):
        other = ids.clone()
        other[:, changed] = (other[:, changed] + 3) % VOCABULARY
        after = model(input_ids=other, **inputs)[0]
        assert_parity(after[0, :changed], before[0, :changed])
        assert (after[0, changed] - before[0, changed]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_sees_later_tokens(kind: Any) -> None:
    model = toy_head(kind, pooling="first")
    ids = torch.tensor([SOURCES[0]])
    other = ids.clone()
    other[0, -2] += 1
    change = outputs_of(model, input_ids=other)[0] - outputs_of(model, input_ids=ids)[0]
    assert (change if change.ndim == 1 else change[0]).abs().max() > 1e-3


def static_cache(config: VanillaTransformerConfig) -> Cache:
    return StaticCache(config=config, max_cache_len=9)


def dynamic_cache(config: VanillaTransformerConfig) -> Cache:
    return DynamicCache(config=config)


@pytest.mark.parametrize("changes", [{}, {"norm_position": "pre", "position_embedding": "learned"}], ids=str)
@pytest.mark.parametrize("side", [None, *SIDES])
@pytest.mark.parametrize("make_cache", [None, dynamic_cache, static_cache])
@pytest.mark.parametrize("kind", DECODERS)
def test_steps_equal_the_whole(
    kind: Any, make_cache: Callable[..., Cache] | None, side: str | None, changes: dict[str, Any]
) -> None:
    ids, mask = pad(SOURCES, side or "right")
    for attention in ("eager", "sdpa"):
        model = toy_head(kind, attention=attention, **changes)
        for chunks in ([1] * 7, [4, 1, 2]):
            cache, steps, end = make_cache(model.config) if make_cache else None, [], 0
            with torch.no_grad():
                whole = model(input_ids=ids, attention_mask=mask if side else None)[0]
                for size in chunks:
                    start, end = end, end + size
                    seen = mask[:, :end] if side else None
                    outputs = model(
                        input_ids=ids[:, start:end],
                        attention_mask=seen,
                        past_key_values=cache,
                        use_cache=True,
                    )
                    cache = outputs.past_key_values
                    steps.append(outputs[0])
            real = mask.bool() if side else torch.ones_like(mask).bool()
            assert_parity(torch.cat(steps, 1)[real], whole[real])


def test_the_cache_has_a_layer_for_each_of_the_decoder() -> None:
    model = toy_head(VanillaTransformerForCausalLM)
    ids = torch.tensor([SOURCES[0]])
    assert len(model(ids).past_key_values) == FIELDS["decoder_layers"] == model.config.num_hidden_layers
    assert model.config.num_attention_heads == FIELDS["decoder_attention_heads"]
    assert model(ids, use_cache=False).past_key_values is None
    assert model(ids, labels=ids).past_key_values is None


def test_the_configuration_given_stays_as_it_is() -> None:
    config = toy_config(share_encoder_decoder_embeddings=False, decoder_vocab_size=29)
    before = config.to_dict()
    for kind in ALONE + WHOLE:
        model = kind(config)
        assert config.to_dict() == before
        assert model.config.is_encoder_decoder == (kind in WHOLE)
        assert model.config.is_decoder == (kind in DECODERS)
        assert model.config.vocab_size == (29 if kind in DECODERS else 23)
        configs = {id(module.config) for module in model.modules() if hasattr(module, "config")}
        assert configs == {id(model.config)}


def test_a_decoder_alone_has_no_attention_to_an_encoder() -> None:
    model = toy_head(VanillaTransformerForCausalLM)
    assert not any("encoder" in name for name, _ in model.named_parameters())
    ids = torch.tensor([SOURCES[0]])
    with pytest.raises(
        ValueError, match="`encoder_hidden_states` must not be given to a decoder that stands"
    ):
        model(ids, encoder_hidden_states=torch.zeros(1, 2, 12))
    model(ids, labels=ids).loss.backward()
    gradients(model)


@pytest.mark.parametrize("kind", ALONE)
def test_learned_positions_past_the_table_are_refused(kind: Any) -> None:
    model = toy_head(kind, position_embedding="learned", max_position_embeddings=6)
    model(torch.full((1, 6), 5))
    with pytest.raises(ValueError, match=r"must be below `max_position_embeddings` \(6\).* but reach 6\."):
        model(torch.full((1, 7), 5))


@pytest.mark.parametrize("kind", ALONE)
def test_sinusoids_reach_past_any_table(kind: Any) -> None:
    short, long = (toy_head(kind, max_position_embeddings=length) for length in (4, 64))
    assert torch.equal(
        *(outputs_of(model, input_ids=torch.tensor([SOURCES[0]]))[0] for model in (short, long))
    )
    assert outputs_of(short, input_ids=torch.randint(5, VOCABULARY, (1, 1500)))[0].isfinite().all()


LABELS = torch.tensor(
    [[5, 9, -100, 7, 20, 11, 2], [8, 21, 6, 2, -100, -100, -100], [17, 2, -100, -100, -100, -100, -100]]
)


def predicted(kind: Any, labels: torch.Tensor) -> torch.Tensor:
    """What to predict at each place: for a causal model the next token."""
    return F.pad(labels[:, 1:], (0, 1), value=-100) if kind is VanillaTransformerForCausalLM else labels


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("num_items", [None, 31, torch.tensor(31)], ids=str)
@pytest.mark.parametrize("return_logits", [True, False])
@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_the_loss_of_a_language_model(kind: Any, return_logits: bool, num_items: Any, epsilon: float) -> None:
    model = toy_head(kind)
    ids, mask = pad(SOURCES)
    logits, targets = model(ids, mask).logits, predicted(kind, LABELS)
    expected = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="sum", label_smoothing=epsilon
    ) / (num_items or targets.ne(-100).sum())
    settings = {
        "label_smoothing": epsilon,
        "num_items_in_batch": num_items,
        "return_logits": return_logits,
    }
    found = model(ids, mask, labels=LABELS, **settings)
    assert_parity(found.loss[None], expected[None])
    assert (found.logits is None) == (not return_logits)


def test_shifted_labels_take_the_place_of_labels() -> None:
    model = toy_head(VanillaTransformerForCausalLM)
    ids, mask = pad(SOURCES)
    shifted = predicted(VanillaTransformerForCausalLM, LABELS)
    expected = model(ids, mask, labels=LABELS).loss
    for labels in (None, LABELS, torch.zeros_like(LABELS)):
        assert torch.equal(model(ids, mask, labels=labels, shift_labels=shifted).loss, expected)


@pytest.mark.parametrize("kept", [2, 3, torch.tensor([0, 4])], ids=str)
def test_logits_to_keep(kept: Any) -> None:
    model = toy_head(VanillaTransformerForCausalLM)
    ids, mask = pad(SOURCES)
    where = slice(-kept, None) if isinstance(kept, int) else kept
    whole = model(ids, mask, use_cache=False).logits  # as with labels
    found = model(ids, mask, logits_to_keep=kept, labels=ids)
    assert_parity(found.logits, whole[:, where])
    targets = predicted(VanillaTransformerForCausalLM, ids)[:, where]
    assert_parity(found.loss[None], F.cross_entropy(whole[:, where].flatten(0, 1), targets.flatten())[None])


def numbers(*shape: int) -> torch.Tensor:
    return torch.linspace(-1, 2, torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)


SEQUENCE_LABELS: dict[str, tuple[int, torch.Tensor]] = {
    "single_label_classification": (5, torch.tensor([4, 0, 2])),
    "multi_label_classification": (5, (numbers(3, 5) > 0).double()),
    "regression": (1, numbers(3)),
    "regression of several": (5, numbers(3, 5)),
}


@pytest.mark.parametrize("problem", SEQUENCE_LABELS)
def test_the_losses_of_a_classifier_of_sequences(problem: str) -> None:
    classes, labels = SEQUENCE_LABELS[problem]
    named = problem.split()[0]
    changes: dict[str, Any] = {"problem_type": named} if problem.endswith("several") else {}
    model = toy_head(VanillaTransformerForSequenceClassification, num_labels=classes, **changes)
    ids, mask = pad(SOURCES)
    outputs = model(ids, mask, labels=labels)
    expected = {
        "single_label_classification": lambda: F.cross_entropy(outputs.logits, labels),
        "multi_label_classification": lambda: F.binary_cross_entropy_with_logits(outputs.logits, labels),
        "regression": lambda: ((outputs.logits.squeeze(-1) - labels) ** 2).mean(),
    }[named]()
    assert model.config.problem_type == named
    assert_parity(outputs.loss[None], expected[None])
    counted = model(ids, mask, labels=labels, num_items_in_batch=torch.tensor(2 * labels.numel())).loss
    assert_parity(counted[None], expected[None] / 2)


def test_a_number_of_minus_hundred_is_a_number_like_any_other() -> None:
    model = toy_head(VanillaTransformerForSequenceClassification, num_labels=1)
    ids, mask = pad(SOURCES)
    labels = torch.tensor([-100.0, 1.0, 2.0], dtype=torch.float64)
    outputs = model(ids, mask, labels=labels)
    assert_parity(outputs.loss[None], ((outputs.logits.squeeze(-1) - labels) ** 2).mean()[None])


@pytest.mark.parametrize("problem", SEQUENCE_LABELS)
def test_a_classifier_of_sequences_learns_alike_from_accumulated_batches(problem: str) -> None:
    classes, labels = SEQUENCE_LABELS[problem]
    named = problem.split()[0]
    results = []
    for rows in (3, 1):
        model = toy_head(VanillaTransformerForSequenceClassification, num_labels=classes, problem_type=named)
        for ids, mask, target in zip(*(t.split(rows) for t in (*pad(SOURCES), labels)), strict=True):
            model(ids, mask, labels=target, num_items_in_batch=labels.numel()).loss.backward()
        results.append(gradients(model))
    assert_gradients_equal(*results)


def test_the_loss_of_a_classifier_of_tokens() -> None:
    model = toy_head(VanillaTransformerForTokenClassification, **CLASSES)
    ids, mask = pad(SOURCES)
    labels = (LABELS % 5).masked_fill(LABELS == -100, -100)
    outputs = model(ids, mask, labels=labels)
    assert outputs.logits.shape == (*ids.shape, 5)
    expected = F.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten())
    assert_parity(outputs.loss[None], expected[None])
    assert_parity(model(ids, mask, labels=labels, num_items_in_batch=6).loss[None], expected[None] * 12 / 6)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_pooling_over_real_tokens(pooling: str, side: str) -> None:
    model = toy_head(VanillaTransformerForSequenceClassification, pooling=pooling, **CLASSES)
    ids, mask = pad(SOURCES, side, extra=1)
    hidden = model.model(ids, mask).last_hidden_state
    rows = [states[real.bool()] for states, real in zip(hidden, mask, strict=True)]
    pooled = torch.stack([row.mean(0) if pooling == "mean" else row[0] for row in rows])
    expected = pooled @ model.classifier.weight.t() + model.classifier.bias
    assert_parity(model(ids, mask).logits, expected)


def test_the_features_of_a_classifier_are_dropped_out() -> None:
    model = toy_head(VanillaTransformerForTokenClassification, dtype=torch.float32, dropout=0.4, **CLASSES)
    seen: list[torch.Tensor] = []
    model.classifier.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    torch.manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (8, 50))
    model.train()(ids)
    assert seen[0].eq(0).float().mean().item() == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("kind", ALONE)
def test_attention_kernels_agree_and_weights_are_shown(kind: Any) -> None:
    model = toy_head(kind, attention="sdpa")
    ids, mask = pad(SOURCES, "left")
    expected = outputs_of(model, input_ids=ids, attention_mask=mask)
    model.set_attn_implementation("eager")
    for one, other in zip(outputs_of(model, input_ids=ids, attention_mask=mask), expected, strict=True):
        assert_parity(one, other)
    outputs = model(ids, mask, output_attentions=True, output_hidden_states=True)
    stack = "decoder" if kind in DECODERS else "encoder"
    assert len(outputs.attentions) == FIELDS[f"{stack}_layers"] == len(outputs.hidden_states) - 1
    heads = FIELDS[f"{stack}_attention_heads"]
    assert all(weights.shape == (3, heads, 7, 7) for weights in outputs.attentions)
    assert all(states.shape == (3, 7, FIELDS["d_model"]) for states in outputs.hidden_states)
    assert torch.equal(model(ids, mask, return_dict=False)[0], outputs[0])


def training_batch(kind: Any) -> dict[str, torch.Tensor]:
    ids, mask = pad(SOURCES)
    labels = LABELS
    if kind is VanillaTransformerForSequenceClassification:
        labels = torch.tensor([1, 0, 1])
    elif kind is VanillaTransformerForTokenClassification:
        labels = (LABELS % 2).masked_fill(LABELS == -100, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


TRAINED = [
    VanillaTransformerForCausalLM,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
]


@pytest.mark.parametrize("kind", TRAINED)
def test_gradient_checkpointing_changes_no_gradient(kind: Any) -> None:
    results = []
    for checkpointing in (False, True):
        model = toy_head(kind).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**training_batch(kind)).loss.backward()
        results.append(gradients(model))
    assert_gradients_equal(*results)


@pytest.mark.parametrize("kind", TRAINED)
def test_training_compiles_without_graph_breaks(kind: Any) -> None:
    plain, model = (toy_head(kind, encoder_layers=1, decoder_layers=1).train() for _ in range(2))
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    inputs = training_batch(kind) | {"num_items_in_batch": torch.tensor(9)}
    expected, loss = plain(**inputs).loss, compiled(**inputs).loss
    assert_parity(loss[None], expected[None])
    expected.backward()
    loss.backward()
    assert_gradients_equal(gradients(model), gradients(plain))


@pytest.mark.parametrize("kind", [VanillaTransformerEncoderModel, VanillaTransformerDecoderModel])
def test_a_base_model_compiles_without_graph_breaks(kind: Any) -> None:
    model = toy_head(kind, encoder_layers=1, decoder_layers=1)
    ids, mask = pad(SOURCES, "left")
    torch.compiler.reset()
    with torch.no_grad():
        found = torch.compile(model, fullgraph=True, backend="eager")(ids, mask)[0]
        assert_parity(found[mask.bool()], model(ids, mask)[0][mask.bool()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", TRAINED)
def test_half_precision(kind: Any, dtype: torch.dtype) -> None:
    batch = training_batch(kind)
    model = toy_head(kind, dtype=dtype)
    outputs = model(**batch)
    outputs.loss.backward()
    assert outputs.logits.dtype == dtype and outputs.loss.dtype == torch.float32
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())
    assert outputs.loss.item() == pytest.approx(toy_head(kind)(**batch).loss.item(), rel=2**-4)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("implementation", [None, "static"])
def test_padded_prompts_continue_as_alone(implementation: str | None, beams: int) -> None:
    model = toy_head(VanillaTransformerForCausalLM, tie_word_embeddings=False)
    settings: dict[str, Any] = {
        "num_beams": beams,
        "max_new_tokens": 8,
        "do_sample": False,
        "eos_token_id": 99,
    }
    ids, mask = pad(PROMPTS, "left")
    expected = model.generate(ids, attention_mask=mask, use_cache=False, **settings)
    found = model.generate(ids, attention_mask=mask, cache_implementation=implementation, **settings)
    assert torch.equal(found, expected)
    assert len({tuple(row) for row in found[:, -8:].tolist()}) > 1
    for prompt, row in zip(PROMPTS, found, strict=True):
        assert torch.equal(model.generate(torch.tensor([prompt]), **settings)[0], row[-len(prompt) - 8 :])


def test_greedy_continuation_is_the_argmax_of_the_full_forward() -> None:
    model = toy_head(VanillaTransformerForCausalLM)
    ids = torch.tensor([PROMPTS[0]])
    generated = model.generate(ids, do_sample=False, max_new_tokens=9, eos_token_id=99)
    assert torch.equal(model(generated[:, :-1]).logits.argmax(-1)[:, 2:], generated[:, 3:])


def test_a_prompt_longer_than_the_field_of_positions_continues() -> None:
    model = toy_head(VanillaTransformerForCausalLM, max_position_embeddings=8)
    assert model.generate(torch.tensor([SOURCES[0] * 3]), eos_token_id=99).shape[1] == 21 + 20


@pytest.mark.parametrize("kind", [VanillaTransformerForCausalLM, VanillaTransformerForConditionalGeneration])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_only_learned_positions_have_a_longest_text(
    kind: Any, positions: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.get_logger("transformers"), "propagate", True)
    warn_once: Any = logging.warning_once
    warn_once.cache_clear()
    model = toy_head(kind, position_embedding=positions, max_position_embeddings=4)
    config, _ = model._prepare_generation_config(GenerationConfig(max_length=9))
    model._prepare_special_tokens(config)
    criteria = model._get_stopping_criteria(config, StoppingCriteriaList())
    criteria(torch.ones(1, 6, dtype=torch.long), None)
    assert ("friendly reminder" in caplog.text) == (positions == "learned")
