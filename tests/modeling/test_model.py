"""Initialisation, tied weights, checkpoints, training, dtypes, compilation and generation."""

import copy
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerModel,
)
from vanilla_transformer.modeling import modeling_vanilla_transformer as modeling

from .toy import (
    SOURCES,
    assert_gradients_equal,
    assert_parity,
    assert_same_weights,
    gradients,
    pad,
    padded_batch,
    toy_config,
    toy_model,
    translating_model,
)

Model = VanillaTransformerForConditionalGeneration


def training_batch() -> dict[str, torch.Tensor]:
    """Eight padded pairs, as a collator gives them."""
    input_ids, attention_mask = pad([[5 + i, *SOURCES[i % 3]] for i in range(8)])
    labels, _ = pad([[6 + i, *SOURCES[(i + 1) % 3]] for i in range(8)], filler=-100)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_initialisation(positions: str) -> None:
    torch.manual_seed(0)
    config = VanillaTransformerConfig(
        vocab_size=400,
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        head_dim=24,
        value_head_dim=16,
        encoder_ffn_dim=200,
        position_embedding=positions,
        norm_position="pre",
        attention_bias=True,
    )
    model = Model(config)
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert module.weight.eq(1).all() and module.bias.eq(0).all()
        elif isinstance(module, nn.Embedding):
            assert module.weight[1:].std().item() == pytest.approx(64**-0.5, rel=0.05), name
            if module.padding_idx is not None:
                assert module.padding_idx == 0 and module.weight[0].eq(0).all()
        elif isinstance(module, nn.Linear) and name != "lm_head":
            bound = (6 / (module.in_features + module.out_features)) ** 0.5
            assert module.weight.abs().max() <= bound
            assert module.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05), name
            assert module.bias.eq(0).all()


def test_an_untied_projection_is_drawn_like_the_embeddings() -> None:
    torch.manual_seed(0)
    model = Model(toy_config(vocab_size=400, d_model=64, tie_word_embeddings=False))
    assert model.lm_head.weight.std().item() == pytest.approx(1 / 8, rel=0.05)


def test_scaled_embeddings_are_about_as_large_as_sinusoids() -> None:
    torch.manual_seed(0)
    model = Model(toy_config(vocab_size=400, d_model=64))
    scaled = model.model.encoder.embed(torch.arange(5, 300)[None], None)
    assert scaled.std().item() == pytest.approx(1, rel=0.05)


def test_initialisation_follows_the_seed() -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(Model(toy_config()).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["lm_head.weight"], states[2]["lm_head.weight"])


TIES = [(True, True), (True, False), (False, True), (False, False)]


def tied_groups(model: Model) -> set[frozenset[str]]:
    """Which of source embedding, target embedding and projection are one parameter."""
    named = {
        "source": model.model.encoder.embed_tokens.weight,
        "target": model.model.decoder.embed_tokens.weight,
        "projection": model.lm_head.weight,
    }
    return {frozenset(n for n, w in named.items() if w is weight) for weight in named.values()}


def expected_groups(shared: bool, tied: bool) -> set[frozenset[str]]:
    if shared and tied:
        return {frozenset(("source", "target", "projection"))}
    if shared:
        return {frozenset(("source", "target")), frozenset(("projection",))}
    if tied:
        return {frozenset(("source",)), frozenset(("target", "projection"))}
    return {frozenset((name,)) for name in ("source", "target", "projection")}


@pytest.mark.parametrize(("shared", "tied"), TIES)
def test_ties_and_checkpoints(shared: bool, tied: bool, tmp_path: Path) -> None:
    model = toy_model(share_encoder_decoder_embeddings=shared, tie_word_embeddings=tied)
    assert tied_groups(model) == expected_groups(shared, tied)
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert sum(tensor.numel() for tensor in stored.values()) == model.config.num_parameters
    loaded, info = Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(
        info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
    )
    assert tied_groups(loaded) == expected_groups(shared, tied)
    assert loaded.dtype == torch.float64
    assert_same_weights(loaded, model)
    batch = padded_batch()
    assert_parity(loaded.eval()(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("shared", [True, False])
def test_weights_can_be_tied_later(shared: bool) -> None:
    model = toy_model(share_encoder_decoder_embeddings=shared, tie_word_embeddings=False)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    assert tied_groups(model) == expected_groups(shared, True)


@pytest.mark.parametrize("shared", [True, False])
def test_weights_that_differ_stay_apart_on_loading(shared: bool, tmp_path: Path) -> None:
    """A checkpoint is never overwritten by what a changed configuration says."""
    model = toy_model(share_encoder_decoder_embeddings=shared, tie_word_embeddings=False)
    model.save_pretrained(tmp_path)
    loaded = Model.from_pretrained(tmp_path, tie_word_embeddings=True)
    assert tied_groups(loaded) == expected_groups(shared, False)
    assert_same_weights(loaded, model)
    batch = padded_batch()
    assert_parity(loaded.eval()(**batch).logits, model(**batch).logits)


def test_the_base_model_and_the_whole_exchange_checkpoints(tmp_path: Path) -> None:
    model, batch = toy_model(), padded_batch()
    expected = model.model(**batch).last_hidden_state
    model.save_pretrained(tmp_path / "whole")
    loaded: Any = VanillaTransformerModel.from_pretrained(tmp_path / "whole", output_loading_info=True)
    base, info = loaded
    assert not info["missing_keys"]
    assert_parity(base.eval()(**batch).last_hidden_state, expected)
    base.save_pretrained(tmp_path / "base")
    whole, info = Model.from_pretrained(tmp_path / "base", output_loading_info=True)
    assert not info["missing_keys"]
    assert_same_weights(whole, model)
    assert_parity(whole.eval()(**batch).logits, model(**batch).logits)


def test_embeddings_can_be_replaced() -> None:
    model = toy_model()
    model.set_input_embeddings(nn.Embedding(23, 12, dtype=torch.float64))
    model.tie_weights()
    assert tied_groups(model) == expected_groups(True, True)
    untied = toy_model(share_encoder_decoder_embeddings=False)
    target = untied.model.decoder.embed_tokens.weight
    untied.set_input_embeddings(nn.Embedding(23, 12))
    assert untied.model.decoder.embed_tokens.weight is target


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", [40, 11])
def test_the_vocabulary_can_be_resized(size: int, tied: bool, tmp_path: Path) -> None:
    model = toy_model(dtype=torch.float32, tie_word_embeddings=tied)
    source = torch.tensor([[5, 9, 2]])
    kept = min(size, 23)
    before = model(input_ids=source, decoder_input_ids=source).logits[..., :kept]
    model.resize_token_embeddings(size)
    assert model.config.vocab_size == model.config.decoder_vocab_size == size
    assert tied_groups(model) == expected_groups(True, tied)
    after = model(input_ids=source, decoder_input_ids=source).logits
    assert after.shape[-1] == size
    assert_parity(after[..., :kept], before)
    model.save_pretrained(tmp_path)
    assert_same_weights(Model.from_pretrained(tmp_path), model)


def test_two_vocabularies_are_not_resized_together() -> None:
    model = toy_model(share_encoder_decoder_embeddings=False)
    with pytest.raises(ValueError, match="`resize_token_embeddings` needs one vocabulary"):
        model.resize_token_embeddings(40)
    assert model.resize_token_embeddings() is model.get_input_embeddings()


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(reentrant: bool) -> None:
    model, batch = toy_model(), training_batch()
    model.train()
    model(**batch).loss.backward()
    expected = gradients(model)
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    calls = []
    model.model.encoder.layers[0].fc1.register_forward_hook(lambda *args: calls.append(args))
    model(**batch).loss.backward()
    assert len(calls) == 2  # forward, and once more in the backward pass
    assert_gradients_equal(gradients(model), expected)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_repeats_the_dropout(reentrant: bool) -> None:
    results = []
    for checkpointing in (False, True):
        model = toy_model(dropout=0.3, activation_dropout=0.1, attention_dropout=0.1).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        torch.manual_seed(5)
        model(**training_batch(), label_smoothing=0.1).loss.backward()
        results.append(gradients(model))
    assert_gradients_equal(*results)


def test_attention_weights_are_dropped_out_in_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = toy_model(attention_dropout=0.2), training_batch()
    told: list[float] = []
    attend = modeling.eager_attention_forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        told.append(kwargs["dropout"])
        return attend(*args, **kwargs)

    monkeypatch.setattr(modeling, "eager_attention_forward", watched)
    model.set_attn_implementation("eager")
    model.train()(**batch)
    in_training, told[:] = set(told), []
    model.eval()(**batch)
    assert (in_training, set(told)) == ({0.2}, {0.0})


def test_dropout_works_in_training_alone() -> None:
    model, batch = toy_model(dropout=0.3), training_batch()
    assert torch.equal(model(**batch).logits, model(**batch).logits)
    model.train()
    assert not torch.equal(model(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize(
    ("field", "count"),
    # Two embedding sums; two sub-layers in each of 2 encoder layers and three in each of 3 decoder layers.
    [("dropout", 2 + 2 * 2 + 3 * 3), ("activation_dropout", 5)],
)
def test_places_of_dropout(field: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from vanilla_transformer.modeling import modeling_vanilla_transformer as module

    seen: list[float] = []

    def spy(inputs: torch.Tensor, probability: float, training: bool) -> torch.Tensor:
        seen.append(probability)
        return inputs

    monkeypatch.setattr(module, "dropout", spy)
    changes: dict[str, Any] = {field: 0.25}
    toy_model(**changes).train()(**training_batch())
    assert seen.count(0.25) == count


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("logits", [False, True])
def test_accumulation_gives_the_gradient_of_one_batch(logits: bool, as_tensor: bool, epsilon: float) -> None:
    model, batch = toy_model(), training_batch()
    count: Any = batch["labels"].ne(-100).sum()
    count = count if as_tensor else int(count)
    totals, results = [], []
    for parts in (1, 2, 8):
        model.zero_grad()
        total = 0.0
        for part in zip(*(tensor.chunk(parts) for tensor in batch.values()), strict=True):
            inputs = dict(zip(batch, part, strict=True))
            loss = model(
                **inputs, num_items_in_batch=count, label_smoothing=epsilon, return_logits=logits
            ).loss
            loss.backward()
            total += loss.item()
        totals.append(total)
        results.append(gradients(model))
    plain = model(**batch, label_smoothing=epsilon, return_logits=logits).loss.item()
    assert totals == pytest.approx([plain] * 3, rel=1e-12)
    for accumulated in results[1:]:
        assert_gradients_equal(accumulated, results[0])


def test_the_loss_without_logits_has_the_same_gradients() -> None:
    results = []
    for logits in (True, False):
        model = toy_model()
        outputs = model(**training_batch(), label_smoothing=0.1, return_logits=logits)
        assert (outputs.logits is None) == (not logits)
        outputs.loss.backward()
        results.append((outputs.loss, gradients(model)))
    assert results[0][0].item() == pytest.approx(results[1][0].item(), rel=1e-12)
    assert_gradients_equal(results[1][1], results[0][1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_any_dtype(norm: str, dtype: torch.dtype) -> None:
    model, batch = toy_model(dtype=dtype, norm_position=norm), training_batch()
    outputs = model(**batch, label_smoothing=0.1)
    outputs.loss.backward()
    assert outputs.logits.dtype == dtype and outputs.logits.isfinite().all()
    assert outputs.loss.dtype == (dtype if dtype == torch.float64 else torch.float32)
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())
    exact = toy_model(norm_position=norm)(**batch, label_smoothing=0.1).loss
    precision = {torch.bfloat16: 2**-5, torch.float16: 2**-8}.get(dtype, 1e-5)
    assert outputs.loss.item() == pytest.approx(exact.item(), rel=precision)
    assert model.generate(batch["input_ids"], max_new_tokens=3).shape[0] == 8


def test_autocast() -> None:
    model, batch = toy_model(dtype=torch.float32), training_batch()
    exact = model(**batch).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=2**-5)


def test_a_checkpoint_is_loaded_in_the_dtype_asked_for(tmp_path: Path) -> None:
    toy_model(dtype=torch.float32).save_pretrained(tmp_path)
    assert Model.from_pretrained(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert Model.from_pretrained(tmp_path, dtype="auto").dtype == torch.float32


INFERENCE: dict[str, Callable[[], dict[str, Any]]] = {
    "masks-and-cache": padded_batch,
    "neither": lambda: (
        {k: v for k, v in padded_batch().items() if not k.endswith("mask")} | {"use_cache": False}
    ),
}


def small_model(**changes: Any) -> Model:
    """One layer of each kind: tracing takes most of the time of these tests."""
    return toy_model(**{"encoder_layers": 1, "decoder_layers": 1} | changes)


def compiled(model: nn.Module) -> Any:
    """The model traced as a whole: a graph break is an error."""
    torch.compiler.reset()
    return torch.compile(model, fullgraph=True, backend="eager")


@pytest.mark.parametrize("inputs", INFERENCE.values(), ids=INFERENCE)
def test_compiles_without_graph_breaks(inputs: Callable[[], dict[str, Any]]) -> None:
    model, batch = small_model(), inputs()
    real = batch.get("decoder_attention_mask", torch.ones_like(batch["decoder_input_ids"])).bool()
    with torch.no_grad():
        assert_parity(compiled(model)(**inputs()).logits[real], model(**batch).logits[real])


def test_a_variant_compiles_without_graph_breaks() -> None:
    inputs = padded_batch()
    model = small_model(norm_position="pre", attention="eager", position_embedding="learned")
    with torch.no_grad():
        assert_parity(compiled(model)(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize(("logits", "epsilon"), [(True, 0.0), (False, 0.1)])
def test_training_compiles_without_graph_breaks(logits: bool, epsilon: float) -> None:
    plain, model = small_model().train(), small_model().train()
    batch = training_batch() | {"label_smoothing": epsilon, "return_logits": logits}
    count = torch.tensor(50)
    expected, loss = (m(**batch, num_items_in_batch=count).loss for m in (plain, compiled(model)))
    assert_parity(loss[None], expected[None])
    expected.backward()
    loss.backward()
    assert_gradients_equal(gradients(model), gradients(plain))


@pytest.mark.slow
def test_new_lengths_compile_once_more_and_no_further() -> None:
    """The second shape makes lengths dynamic; later ones reuse that graph."""
    model = compiled(small_model())
    torch._dynamo.utils.counters.clear()
    with torch.no_grad():
        for length in (5, 6, 9):
            ids = torch.randint(5, 23, (3, length))
            model(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=ids[:, 1:])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


@pytest.fixture
def silent() -> Model:
    """A model that never says </s>: translations are as long as they may be."""
    model = toy_model(dtype=torch.float32, tie_word_embeddings=False)
    model.generation_config.suppress_tokens = [2]
    return model


@pytest.mark.parametrize("side", ["left", "right"])
def test_default_length_is_the_longest_source_and_fifty(silent: Model, side: str) -> None:
    ids, mask = pad(SOURCES, side)
    assert silent.generate(ids, attention_mask=mask, num_beams=1).shape == (3, 1 + 7 + 50)


def test_default_length_with_embeddings_or_encoder_outputs(silent: Model) -> None:
    ids = torch.tensor([SOURCES[0]])
    embeddings = silent.get_input_embeddings()(ids)
    assert silent.generate(inputs_embeds=embeddings, num_beams=1).shape[1] == 1 + 7 + 50
    outputs = silent.get_encoder()(ids)
    assert silent.generate(encoder_outputs=outputs, num_beams=1).shape[1] == 1 + 7 + 50


@pytest.mark.parametrize(
    ("limits", "length"),
    [
        ({"max_length": 9}, 9),
        ({"max_new_tokens": 9}, 10),
        ({"generation_config": GenerationConfig(max_length=11, suppress_tokens=[2])}, 11),
        ({"generation_config": GenerationConfig(max_new_tokens=11, suppress_tokens=[2])}, 12),
    ],
    ids=str,
)
def test_a_limit_of_the_caller_is_respected(silent: Model, limits: dict[str, Any], length: int) -> None:
    limits = copy.deepcopy(limits)
    assert silent.generate(torch.tensor([SOURCES[0]]), num_beams=1, **limits).shape[1] == length


def test_a_limit_of_the_saved_generation_config_is_respected(silent: Model, tmp_path: Path) -> None:
    silent.generation_config.max_new_tokens = 6
    silent.save_pretrained(tmp_path)
    assert Model.from_pretrained(tmp_path).generate(torch.tensor([SOURCES[0]])).shape[1] == 7


def test_generation_defaults_are_saved(tmp_path: Path) -> None:
    model = toy_model()
    for _ in range(2):
        found = model.generation_config
        assert (found.num_beams, found.length_penalty, found.do_sample or False) == (4, 0.6, False)
        assert (found.pad_token_id, found.bos_token_id, found.eos_token_id) == (0, 1, 2)
        assert found.decoder_start_token_id == 1 and found.max_length != 20
        model.save_pretrained(tmp_path)
        model = Model.from_pretrained(tmp_path)


def test_four_beams_by_default() -> None:
    model = translating_model()
    ids, mask = pad(SOURCES)
    default = model.generate(ids, attention_mask=mask, max_new_tokens=9)
    assert torch.equal(
        model.generate(ids, attention_mask=mask, max_new_tokens=9, num_beams=4, length_penalty=0.6), default
    )
    assert not torch.equal(model.generate(ids, attention_mask=mask, max_new_tokens=9, num_beams=1), default)


def test_the_decoder_must_read_something() -> None:
    model, ids = toy_model(), torch.tensor([[5, 2]])
    with pytest.raises(ValueError, match="`labels` or `decoder_input_ids` must be given"):
        model(input_ids=ids)
    with pytest.raises(ValueError, match="`decoder_input_ids` or `decoder_inputs_embeds` must be given"):
        model.model(inputs_embeds=model.get_input_embeddings()(ids))
    shifted = torch.tensor([[1, 5]])
    assert torch.equal(
        model.model(input_ids=ids).last_hidden_state,
        model.model(input_ids=ids, decoder_input_ids=shifted).last_hidden_state,
    )


def test_logits_to_keep() -> None:
    model, batch = toy_model(), padded_batch()
    whole = model(**batch).logits
    assert_parity(model(**batch, logits_to_keep=1).logits, whole[:, -1:])
    kept = torch.tensor([0, 3])
    assert_parity(model(**batch, logits_to_keep=kept).logits, whole[:, kept])


def test_encoder_outputs_stand_in_for_the_source() -> None:
    model, batch = toy_model(), padded_batch()
    expected = model(**batch).logits
    source = {name: batch.pop(name) for name in ("input_ids", "attention_mask")}
    encoder_outputs = model.get_encoder()(**source)
    states = encoder_outputs.last_hidden_state
    others = (BaseModelOutputWithPooling(states), (states, None, None, "of no use"))
    for given in (encoder_outputs, tuple(encoder_outputs.values()), *others):
        found = model(encoder_outputs=given, attention_mask=source["attention_mask"], **batch)
        assert_parity(found.logits, expected)


@pytest.mark.parametrize(("encoder_layers", "decoder_layers"), [(3, 2), (2, 3)])
def test_the_last_hidden_state_of_stacks_of_different_depth(encoder_layers: int, decoder_layers: int) -> None:
    model = toy_model(encoder_layers=encoder_layers, decoder_layers=decoder_layers)
    every = model(**padded_batch(), output_hidden_states=True)
    last = model(**padded_batch(), output_hidden_states=-1)
    for name in ("encoder_hidden_states", "decoder_hidden_states"):
        assert all(state is None for state in last[name][:-1])
        assert torch.equal(last[name][-1], every[name][-1])


def test_interface_of_a_sequence_to_sequence_model() -> None:
    model = toy_model()
    assert model.get_encoder() is model.model.encoder and model.get_decoder() is model.model.decoder
    assert model.get_output_embeddings() is model.lm_head
    assert model.base_model is model.model and model.main_input_name == "input_ids"
    assert model.can_generate() and model.config.is_encoder_decoder
    assert model(**model.dummy_inputs).logits.isfinite().all()
    labels = torch.tensor([[5, 2, -100]])
    assert model.prepare_decoder_input_ids_from_labels(labels=labels).tolist() == [[1, 5, 2]]
    assert labels.tolist() == [[5, 2, -100]]


def test_masks_of_four_dimensions() -> None:
    """What transformers calls a custom mask is taken as it is: added to the scores."""
    model, batch = toy_model(), padded_batch()
    expected = model(**batch).logits[batch["decoder_attention_mask"].bool()]
    source, target = batch["attention_mask"].bool(), batch["decoder_attention_mask"].bool()
    causal = target[:, None, None] & torch.ones(7, 7).tril().bool()
    custom = batch | {"decoder_attention_mask": causal, "attention_mask": source[:, None, None]}
    for as_numbers in (False, True):
        given = dict(custom)
        if as_numbers:
            lowest = torch.finfo(torch.float64).min
            for name in ("decoder_attention_mask", "attention_mask"):
                given[name] = torch.zeros(given[name].shape, dtype=torch.float64).masked_fill(
                    ~given[name], lowest
                )
        encoder_outputs = model.get_encoder()(
            batch["input_ids"], given["attention_mask"].expand(-1, -1, 7, -1)
        )
        given["attention_mask"] = given["attention_mask"].expand(-1, -1, 7, -1)
        found = model(encoder_outputs=encoder_outputs, **{k: v for k, v in given.items() if k != "input_ids"})
        assert_parity(found.logits[target], expected)


def test_state_dict_names_are_those_of_bart() -> None:
    names = set(toy_model(attention_bias=True).state_dict())
    layer = {"fc1", "fc2", "final_layer_norm", "self_attn_layer_norm"}
    attention = {f"self_attn.{p}_proj" for p in ("q", "k", "v", "out")}
    cross = {"encoder_attn_layer_norm", *(name.replace("self", "encoder") for name in attention)}
    expected = {"model.shared.weight", "lm_head.weight"}
    for stack, count, parts in (("encoder", 2, layer | attention), ("decoder", 3, layer | attention | cross)):
        expected.add(f"model.{stack}.embed_tokens.weight")
        for number in range(count):
            expected |= {f"model.{stack}.layers.{number}.{p}.{k}" for p in parts for k in ("weight", "bias")}
    assert names == expected


def test_auto_classes_in_a_new_process(tmp_path: Path) -> None:
    model, batch = toy_model(dtype=torch.float32), padded_batch()
    model.save_pretrained(tmp_path / "model")
    torch.save((batch, model(**batch).logits), tmp_path / "expected.pt")
    program = """
        import sys
        import torch
        import vanilla_transformer
        from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

        folder = sys.argv[1]
        batch, logits = torch.load(folder + "/expected.pt", weights_only=True)
        assert type(AutoConfig.from_pretrained(folder + "/model")).__name__ == "VanillaTransformerConfig"
        assert type(AutoModel.from_pretrained(folder + "/model")).__name__ == "VanillaTransformerModel"
        model = AutoModelForSeq2SeqLM.from_pretrained(folder + "/model").eval()
        assert torch.equal(model(**batch).logits, logits)
        print(type(model).__name__)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "VanillaTransformerForConditionalGeneration"


def test_the_meta_device() -> None:
    with torch.device("meta"):
        model = Model(toy_config(position_embedding="learned"))
        ids = torch.zeros(2, 5, dtype=torch.long)
        assert model(input_ids=ids, decoder_input_ids=ids).logits.shape == (2, 5, 23)
