"""Every number of an explanation, against the formulas in plain numpy and against the model's own outputs."""

import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from helpers import parallel_sentences, word_tokenizer
from peft import PrefixTuningConfig, get_peft_model

from vanilla_transformer import (
    FairseqTokenizer,
    InputError,
    VanillaTransformerForCausalLM,
    VanillaTransformerModel,
)
from vanilla_transformer.inspection import Explanation, explain
from vanilla_transformer.inspection.explanation import Attention, Layer
from vanilla_transformer.inspection.recording import record
from vanilla_transformer.training import lora_config

from ..modeling.numpy_transformer import SINUSOIDS, feed_forward, layer_norm, linear, softmax
from ..modeling.toy import assert_parity, toy_model

PAIRS = parallel_sentences(4)
SOURCE, TARGET = PAIRS[0]
SHAPES: list[dict[str, Any]] = [
    {},
    {"norm_position": "pre"},
    {"position_embedding": "learned"},
    {"head_dim": 5, "value_head_dim": 2},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return word_tokenizer(text for pair in PAIRS for text in pair)


def model_for(tokenizer: Any, **changes: Any) -> Any:
    return toy_model(vocab_size=len(tokenizer), **changes)


@pytest.fixture(scope="module", params=SHAPES, ids=lambda changes: "-".join(changes) or "paper")
def explained(request: pytest.FixtureRequest, tokenizer: Any) -> Iterator[tuple[Any, Explanation]]:
    model = model_for(tokenizer, **request.param)
    yield model, explain(model, tokenizer, SOURCE, target=TARGET)


def parity(ours: torch.Tensor, reference: Any, name: str = "") -> None:
    assert_parity(ours, torch.as_tensor(np.ascontiguousarray(reference)), name)


@pytest.mark.parametrize("scaled", [True, False])
def test_the_title_tells_what_embeddings_are_multiplied_by(tokenizer: Any, scaled: bool) -> None:
    model = model_for(tokenizer, scale_embedding=scaled)
    explanation = explain(model, tokenizer, SOURCE, target=TARGET)
    factor = model.config.d_model**0.5 if scaled else 1.0
    weights = model.model.shared.weight[explanation.source_embedding.ids]
    assert_parity(explanation.source_embedding.scaled, weights * factor)
    assert (f"Embedding times sqrt({model.config.d_model}) = {factor:.2f}" in explanation.text()) == scaled


def check_attention(
    ours: Attention, queries: Any, memory: Any, visible: Any, weights: Any, name: str, heads: int
) -> Any:
    """Hold each stage against numpy; returns what the attention gives."""
    query, key, value = (
        np.stack(np.split(linear(states, weights, f"{name}.{part}_proj"), heads, axis=-1))
        for part, states in (("q", queries), ("k", memory), ("v", memory))
    )
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    shares = softmax(np.where(visible, scores, -1e30))
    sums = shares @ value
    together = np.concatenate(list(sums), axis=-1)
    projected = linear(together, weights, f"{name}.out_proj")
    assert ours.visible.tolist() == visible.tolist()
    for stage, reference in {
        "query": query,
        "key": key,
        "value": value,
        "scores": scores,
        "weights": shares,
        "heads": sums,
        "concatenated": together,
        "projected": projected,
    }.items():
        parity(getattr(ours, stage), reference, f"{name}: {stage}")
    return projected


def check_layer(ours: Layer, x: Any, memory: Any, model: Any, weights: Any, name: str, heads: int) -> Any:
    """Hold each stage of a layer against numpy; returns its output."""
    eps, pre_norm = model.config.layer_norm_eps, model.config.norm_position == "pre"
    residuals = iter(ours.residuals)

    def sublayer(x: Any, norm: str, function: Any) -> Any:
        residual = next(residuals)
        read = layer_norm(x, weights, norm, eps) if pre_norm else x
        added = x + function(read)
        normed = read if pre_norm else layer_norm(added, weights, norm, eps)
        parity(residual.added, added, norm)
        parity(residual.normed, normed, norm)
        return added if pre_norm else normed

    def attend(attention: Attention, read: Any, memory: Any, visible: Any, part: str) -> Any:
        return check_attention(attention, read, memory, visible, weights, f"{name}.{part}", heads)

    def transform(read: Any) -> Any:
        inner = linear(read, weights, f"{name}.fc1")
        parity(ours.feed_forward.inner, np.where(inner > 0, inner, 0), name)
        parity(ours.feed_forward.output, feed_forward(read, weights, name), name)
        return feed_forward(read, weights, name)

    everything = np.ones((len(x), len(x)), dtype=bool)
    seen = everything if memory is None else np.tril(everything)
    x = sublayer(
        x,
        f"{name}.self_attn_layer_norm",
        lambda read: attend(ours.self_attention, read, read, seen, "self_attn"),
    )
    if memory is not None:
        cross = ours.cross_attention
        assert cross is not None
        all_of_it = np.ones((len(x), len(memory)), dtype=bool)
        x = sublayer(
            x,
            f"{name}.encoder_attn_layer_norm",
            lambda read: attend(cross, read, memory, all_of_it, "encoder_attn"),
        )
    x = sublayer(x, f"{name}.final_layer_norm", transform)
    parity(ours.output, x, name)
    return x


def test_every_stage_is_what_the_formulas_give(explained: tuple[Any, Explanation]) -> None:
    model, explanation = explained
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    config, memory = model.config, None
    for stack, embedding, layers, heads in (
        ("model.encoder", explanation.source_embedding, explanation.encoder, config.encoder_attention_heads),
        ("model.decoder", explanation.target_embedding, explanation.decoder, config.decoder_attention_heads),
    ):
        x = weights[f"{stack}.embed_tokens.weight"][embedding.ids] * np.sqrt(config.d_model)
        places = range(len(x))
        if config.position_embedding == "learned":
            positions = weights[f"{stack}.embed_positions.weight"][places]
        else:
            positions = np.array([SINUSOIDS["interleaved"](place, config.d_model) for place in places])
        parity(embedding.scaled, x)
        assert embedding.positions is not None
        torch.testing.assert_close(embedding.positions, torch.tensor(positions), rtol=1e-9, atol=1e-15)
        parity(embedding.total, x + positions)
        x = x + positions
        for number, layer in enumerate(layers):
            x = check_layer(layer, x, memory, model, weights, f"{stack}.layers.{number}", heads)
        if config.norm_position == "pre":
            x = layer_norm(x, weights, f"{stack}.layer_norm", config.layer_norm_eps)
        if memory is None:
            memory = x
            parity(explanation.memory, memory)
    parity(explanation.decoding.forced, softmax(x @ weights["lm_head.weight"].T))


def test_step_by_step_and_at_once_are_the_same(explained: tuple[Any, Explanation]) -> None:
    decoding = explained[1].decoding
    assert len(decoding.steps) == len(decoding.stepwise) > 5
    assert_parity(decoding.stepwise, decoding.forced)


def test_the_numbers_are_those_of_the_models_outputs(explained: tuple[Any, Explanation]) -> None:
    model, explanation = explained
    model.set_attn_implementation("eager")
    outputs = model(
        input_ids=explanation.source_embedding.ids[None],
        decoder_input_ids=explanation.target_embedding.ids[None],
        output_attentions=True,
    )
    model.set_attn_implementation("sdpa")
    for attentions, ours in (
        (outputs.encoder_attentions, [layer.self_attention for layer in explanation.encoder]),
        (outputs.decoder_attentions, [layer.self_attention for layer in explanation.decoder]),
        (outputs.cross_attentions, [layer.cross_attention for layer in explanation.decoder]),
    ):
        for theirs, attention in zip(attentions, ours, strict=True):
            assert torch.equal(attention.weights, theirs[0])  # type: ignore[union-attr]
    assert torch.equal(explanation.memory, outputs.encoder_last_hidden_state[0])
    assert torch.equal(explanation.decoding.forced, outputs.logits[0].softmax(-1))


def test_the_models_own_translation_is_greedy(tokenizer: Any) -> None:
    model = model_for(tokenizer, tie_word_embeddings=False)
    explanation = explain(model, tokenizer, SOURCE, max_new_tokens=7)
    batch = tokenizer([SOURCE], return_tensors="pt")
    batch.pop("token_type_ids", None)
    ids = model.generate(**batch, num_beams=1, max_new_tokens=7)[0, 1:]
    steps = explanation.decoding.steps
    assert [step.chosen.id for step in steps] == ids.tolist()
    assert explanation.translation == tokenizer.decode(ids, skip_special_tokens=True)
    for number, step in enumerate(steps):
        probabilities = [candidate.probability for candidate in step.candidates]
        assert len(probabilities) == 5
        assert probabilities == sorted(explanation.decoding.stepwise[number].tolist(), reverse=True)[:5]
        assert step.chosen == step.candidates[0]
        assert step.read == ("<s>", *(earlier.chosen.piece for earlier in steps[:number]))


def test_a_target_is_followed(explained: tuple[Any, Explanation]) -> None:
    explanation = explained[1]
    assert explanation.translation == TARGET
    assert [step.chosen.piece for step in explanation.decoding.steps] == [*TARGET.split(), "</s>"]


def test_the_text_names_every_stage(explained: tuple[Any, Explanation]) -> None:
    explanation = explained[1]
    text = explanation.text(layer=-1, head=1)
    for part in (
        "sqrt(12) = 3.46",
        "Encoder layer 2, self-attention: head 2 of 4",
        "Decoder layer 3, self-attention (masked): head 2 of 2",
        "attention to the encoder's output",
        "Mask (1: visible)",
        "Scaled scores",
        "side by side",
        "times W^O",
        "Add: x + Sublayer(x)",
        "feed-forward",
        "becomes K and V",
        "Decoding step by step",
        "Teacher forcing",
    ):
        assert part in text
    weights = explanation.encoder[-1].self_attention.weights[1, 0]
    assert f"{float(weights[1]):6.2f}" in text
    assert str(explanation) == explanation.text()


def test_the_text_counts_the_layers_that_it_shows(explained: tuple[Any, Explanation]) -> None:
    """Two in the encoder, three in the decoder; a stack with fewer than asked for shows its last."""
    for layer, encoder, decoder in ((0, 1, 1), (2, 2, 3), (9, 2, 3), (-1, 2, 3), (-2, 1, 2), (-9, 1, 1)):
        text = explained[1].text(layer=layer)
        assert f"Encoder layer {encoder}, self-attention" in text
        assert f"Encoder layer {encoder}, feed-forward" in text
        assert f"Decoder layer {decoder}, self-attention" in text
        assert f"Decoder layer {decoder}, attention to the encoder" in text
        assert set(re.findall(r"layer (-?\d+)", text)) == {str(encoder), str(decoder)}


def test_a_model_in_the_wrapper_of_peft_is_explained_with_its_adapter(tokenizer: Any) -> None:
    model = model_for(tokenizer)
    plain = explain(model, tokenizer, SOURCE, target=TARGET)
    adapted: Any = get_peft_model(model, lora_config(model, r=4, init_lora_weights=False)).eval()
    explanation = explain(adapted, tokenizer, SOURCE, target=TARGET)
    inputs = tokenizer(SOURCE, text_target=TARGET, return_tensors="pt")
    with torch.no_grad():
        logits = adapted(**inputs).logits
    parity(explanation.decoding.forced, logits[0].softmax(dim=-1))
    assert not torch.allclose(explanation.decoding.forced, plain.decoding.forced, atol=1e-3)
    prefix = PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=2)
    prefixed: Any = get_peft_model(model_for(tokenizer, decoder_attention_heads=4), prefix)
    with pytest.raises(InputError, match="a model with PrefixTuning cannot be explained"):
        explain(prefixed, tokenizer, SOURCE)


def test_nothing_of_the_model_is_changed(tokenizer: Any) -> None:
    model = model_for(tokenizer).train()
    explain(model, tokenizer, SOURCE, max_new_tokens=2)
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with pytest.raises(RuntimeError, match="stop"), record(model):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_an_error_leaves_the_model_in_its_mode(tokenizer: Any) -> None:
    model = model_for(tokenizer, position_embedding="learned", max_position_embeddings=4).train()
    with pytest.raises(ValueError, match="position"):
        explain(model, tokenizer, " ".join(["w1"] * 9))
    assert model.training


def test_what_other_threads_compute_is_not_recorded(tokenizer: Any) -> None:
    """A sentence that another thread reads with the same model, and a recording that ends before this one."""
    model = model_for(tokenizer)
    inputs = {"input_ids": torch.tensor([[5, 6, 2]]), "decoder_input_ids": torch.tensor([[1, 5]])}

    def other() -> None:
        with record(model):
            model(**{name: ids.repeat(4, 1) for name, ids in inputs.items()})

    with record(model) as recording:
        model(**inputs)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == "sdpa"
    assert recording.outputs["model.encoder.layers.0"].shape == (1, 3, 12)
    assert len(recording.operations["model.encoder.layers.0", "add"]) == 2


def test_the_source_has_the_names_of_its_own_vocabulary() -> None:
    special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    words = FairseqTokenizer(
        vocab=special | {"the": 4, "cat": 5}, target_vocab=special | {"le": 4, "chat": 5, "court": 6}
    )
    model = toy_model(vocab_size=6, decoder_vocab_size=7, share_encoder_decoder_embeddings=False)
    explanation = explain(model, words, "the cat", target="le chat court")
    assert explanation.source_embedding.pieces == ("the", "cat", "</s>")
    assert explanation.target_embedding.pieces == ("<pad>", "le", "chat", "court")


def test_the_text_names_the_activation_function(tokenizer: Any) -> None:
    texts = {
        name: explain(model_for(tokenizer, activation_function=name), tokenizer, SOURCE, target=TARGET).text()
        for name in ("relu", "gelu")
    }
    assert "feed-forward: max(0, x W1 + b1)" in texts["relu"]
    assert "feed-forward: gelu(x W1 + b1)" in texts["gelu"] and "max(0" not in texts["gelu"]


def test_learned_positions_end_a_decoding(tokenizer: Any) -> None:
    model = model_for(tokenizer, position_embedding="learned", max_position_embeddings=16)
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    assert len(explain(model, tokenizer, SOURCE).decoding.steps) == 16


def test_only_a_model_that_translates_is_explained(tokenizer: Any) -> None:
    for kind in (VanillaTransformerForCausalLM, VanillaTransformerModel):
        with pytest.raises(InputError, match=f"only a model that translates .* no {kind.__name__}"):
            explain(kind(model_for(tokenizer).config), tokenizer, SOURCE)


@pytest.mark.parametrize("number", [0, -1])
def test_at_least_one_piece_is_decoded(tokenizer: Any, number: int) -> None:
    with pytest.raises(InputError, match=f"`max_new_tokens` must be positive, but is {number} instead."):
        explain(model_for(tokenizer), tokenizer, SOURCE, max_new_tokens=number)


@pytest.mark.parametrize(
    ("changes", "source", "target", "message"),
    [
        ({}, " ", None, "`source` must be a sentence, but is empty"),
        ({}, "w1", "", "`target` must be a sentence, but is empty"),
        ({"decoder_layers": 0}, "w1", None, "needs layers in encoder and decoder"),
    ],
)
def test_what_cannot_be_explained(
    tokenizer: Any, changes: dict[str, Any], source: str, target: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        explain(model_for(tokenizer, **changes), tokenizer, source, target=target)


def test_a_notebook_shows_the_text(explained: tuple[Any, Explanation]) -> None:
    explanation = explained[1]
    assert repr(explanation) == str(explanation) == explanation.text()


def test_the_models_own_translation_has_nothing_that_generate_forbids(tokenizer: Any) -> None:
    model = model_for(tokenizer, tie_word_embeddings=False)
    first = explain(model, tokenizer, SOURCE, max_new_tokens=7).decoding.steps
    banned = [first[0].chosen.id, first[1].chosen.id]
    model.generation_config.update(
        suppress_tokens=banned[:1], bad_words_ids=[banned[1:], [5, 6]], min_new_tokens=5
    )
    batch = tokenizer([SOURCE], return_tensors="pt")
    batch.pop("token_type_ids", None)
    ids = model.generate(**batch, num_beams=1, max_new_tokens=7)[0, 1:].tolist()
    steps = explain(model, tokenizer, SOURCE, max_new_tokens=7).decoding.steps
    assert [step.chosen.id for step in steps] == ids
    assert steps[0].candidates[0].id == banned[0] != ids[0]
