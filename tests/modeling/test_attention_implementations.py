"""Eager, sdpa, flex and flash attention agree, padding and all; what is recorded; switching at run time."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import masking_utils
from transformers import modeling_flash_attention_utils as flash_utils
from transformers.integrations import flex_attention as flex_integration

from vanilla_transformer import (
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
)

from .toy import (
    FIELDS,
    PROMPTS,
    SIDES,
    SOURCES,
    assert_gradients_equal,
    assert_parity,
    gradients,
    pad,
    padded_batch,
    toy_head,
    toy_model,
    translating_model,
)

SHAPES: list[Any] = [
    pytest.param({}, id="paper"),
    pytest.param(
        {"norm_position": "pre", "attention_bias": True, "position_embedding": "learned"}, id="pre-norm"
    ),
]
UNEQUAL_HEADS: list[Any] = [
    pytest.param({"head_dim": 5, "value_head_dim": 3}, id="wide-keys"),
    pytest.param({"head_dim": 2, "value_head_dim": 6}, id="wide-values"),
]

Model = VanillaTransformerForConditionalGeneration


def switched(model: Any, implementation: str) -> Any:
    """A copy that attends by `implementation`, whether or not the library finds it installed."""
    twin = copy.deepcopy(model)
    twin.config._attn_implementation = implementation
    assert {id(module.config) for module in twin.modules() if hasattr(module, "config")} == {id(twin.config)}
    return twin


def naive_flash(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """What flash-attn's `flash_attn_func` computes from (N, S, H, K), causal from the lower right corner."""
    scores = torch.einsum("nshk,nthk->nhst", q, k) * (softmax_scale or q.shape[-1] ** -0.5)
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + k.shape[1] - q.shape[1])
        scores = scores.masked_fill(later, -torch.inf)
    return torch.einsum("nhst,nthk->nshk", scores.softmax(-1), v)


def naive_varlen_flash(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """What `flash_attn_varlen_func` computes from sentences laid end to end, (total, H, K)."""
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert cu_seqlens_q[-1] == len(q) and cu_seqlens_k[-1] == len(k) == len(v)
    assert cu_seqlens_q.diff().max() <= max_seqlen_q and cu_seqlens_k.diff().max() <= max_seqlen_k
    results = []
    for (q0, q1), (k0, k1) in zip(
        cu_seqlens_q.unfold(0, 2, 1).tolist(), cu_seqlens_k.unfold(0, 2, 1).tolist(), strict=True
    ):
        parts = (q[q0:q1][None], k[k0:k1][None], v[k0:k1][None])
        results.append(naive_flash(*parts, softmax_scale=softmax_scale, causal=causal)[0])
    return torch.cat(results)


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's whole path to flash-attn 2, which runs on no CPU, with naive kernels in its place."""
    kernels = (naive_flash, naive_varlen_flash, None, flash_utils._pad_input, flash_utils._unpad_input)
    monkeypatch.setattr(flash_utils, "_lazy_imports", lambda *args, **kwargs: kernels)
    monkeypatch.setattr(flash_utils, "_loaded_implementation", None)
    for name in ("_flash_fn", "_flash_varlen_fn", "_pad_fn", "_unpad_fn", "_process_flash_kwargs_fn"):
        monkeypatch.setattr(flash_utils, name, None)


@pytest.fixture
def flex(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """flex_attention by its plain definition in torch: compiling it for a CPU takes a minute."""
    from torch.nn.attention import flex_attention

    monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(
        masking_utils,
        "create_block_mask",
        lambda *args, _compile=False, **kwargs: flex_attention.create_block_mask(*args, **kwargs),
    )
    monkeypatch.setattr(
        flex_integration.WrappedFlexAttention, "__call__", lambda self: flex_attention.flex_attention
    )
    yield


@pytest.fixture(params=["sdpa", "flex_attention", "flash_attention_2"])
def implementation(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name != "sdpa":
        request.getfixturevalue(name.split("_")[0])
    return name


def loss_and_logits(model: Model, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss over, and the logits at, the real positions."""
    real = batch["decoder_attention_mask"].bool()
    labels = batch["decoder_input_ids"].masked_fill(~real, -100)
    outputs = model(**batch, labels=labels)
    return outputs.loss, outputs.logits[real]


@pytest.mark.parametrize("changes", SHAPES)
@pytest.mark.parametrize("target_side", SIDES)
@pytest.mark.parametrize("source_side", SIDES)
def test_logits_and_gradients_equal_eager(
    source_side: str, target_side: str, changes: dict[str, Any], implementation: str
) -> None:
    eager = toy_model(attention="eager", **changes)
    model = switched(eager, implementation)
    batch = padded_batch(source_side, target_side)
    with torch.set_grad_enabled(implementation != "flex_attention"):  # which has no gradient on a CPU
        expected, found = loss_and_logits(eager, batch), loss_and_logits(model, batch)
    assert_parity(found[1], expected[1])
    if implementation == "flex_attention":
        return
    expected[0].backward()
    found[0].backward()
    assert_gradients_equal(gradients(model), gradients(eager))


def test_source_and_target_of_one_length(implementation: str) -> None:
    """The padding of the source must not be taken for the target's where both masks have one shape."""
    eager = toy_model(attention="eager")
    source, source_mask = pad(SOURCES)
    target, target_mask = pad([[*row[:-1], 6, 9] for row in SOURCES[1:] + SOURCES[:1]])
    batch = {
        "input_ids": source,
        "attention_mask": source_mask,
        "decoder_input_ids": target[:, : source.shape[1]],
        "decoder_attention_mask": target_mask[:, : source.shape[1]],
    }
    with torch.no_grad():
        expected = loss_and_logits(eager, batch)
        assert_parity(loss_and_logits(switched(eager, implementation), batch)[1], expected[1])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", [VanillaTransformerForMaskedLM, VanillaTransformerForCausalLM])
def test_one_stack_alone_equals_eager(kind: Any, side: str, implementation: str) -> None:
    eager = toy_head(kind, attention="eager")
    ids, mask = pad(SOURCES, side)
    real = mask.bool()
    with torch.no_grad():
        expected, found = (model(ids, mask).logits for model in (eager, switched(eager, implementation)))
    assert_parity(found[real], expected[real])


def test_packed_texts_do_not_see_each_other(implementation: str) -> None:
    """In one row without padding, where positions begin anew: as `DataCollatorWithFlattening` lays them."""
    texts = SOURCES[:3]
    model = switched(toy_head(VanillaTransformerForCausalLM, attention="eager"), implementation)
    packed = {
        "input_ids": torch.tensor([[token for text in texts for token in text]]),
        "position_ids": torch.tensor([[place for text in texts for place in range(len(text))]]),
    }
    with torch.no_grad():
        found = model(**packed, use_cache=False).logits[0]
        apart = [model(torch.tensor([text]), use_cache=False).logits[0] for text in texts]
    assert_parity(found, torch.cat(apart))


@pytest.mark.parametrize("name", ["sdpa", "flex_attention"])
@pytest.mark.parametrize("changes", UNEQUAL_HEADS)
def test_keys_and_values_of_different_width(
    changes: dict[str, Any], name: str, request: pytest.FixtureRequest
) -> None:
    if name == "flex_attention":
        request.getfixturevalue("flex")
    eager = toy_model(attention="eager", **changes)
    batch = padded_batch("left", "right")
    with torch.no_grad():
        expected = loss_and_logits(eager, batch)
        assert_parity(loss_and_logits(switched(eager, name), batch)[1], expected[1])


@pytest.mark.parametrize("changes", UNEQUAL_HEADS)
def test_flash_attention_refuses_keys_and_values_of_different_width(
    changes: dict[str, Any], flash: None
) -> None:
    model = switched(toy_model(**changes), "flash_attention_2")
    widths = f"{changes['head_dim']} and {changes['value_head_dim']}"
    message = (
        f"`flash_attention_2` needs `head_dim` equal to `value_head_dim`, but they are {widths}; use `sdpa`"
    )
    with pytest.raises(ValueError, match=message):
        model(**padded_batch())


@pytest.mark.parametrize("name", ["sdpa", "flash_attention_2"])
@pytest.mark.parametrize("beams", [1, 4])
def test_translations_equal_those_of_eager(beams: int, name: str, flash: None) -> None:
    eager = translating_model(attention="eager")
    ids, mask = pad(SOURCES)
    # Fast decoding has an attention of its own.
    settings = {"attention_mask": mask, "num_beams": beams, "max_new_tokens": 8, "fast": False}
    expected = eager.generate(ids, **settings)
    assert torch.equal(switched(eager, name).generate(ids, **settings), expected)


@pytest.mark.parametrize("name", ["sdpa", "flash_attention_2"])
def test_a_padded_prompt_translates_as_with_eager(name: str, flash: None) -> None:
    eager = translating_model(attention="eager")
    ids, mask = pad(SOURCES, "left")
    prompts, prompt_mask = pad(PROMPTS, "left")
    settings = {"decoder_input_ids": prompts, "decoder_attention_mask": prompt_mask, "max_new_tokens": 6}
    settings["fast"] = False  # which has an attention of its own
    expected = eager.generate(ids, attention_mask=mask, **settings)
    assert torch.equal(switched(eager, name).generate(ids, attention_mask=mask, **settings), expected)


def test_a_padded_prompt_translates_with_flex_attention(flex: None) -> None:
    eager = translating_model(attention="eager")
    ids, mask = pad(SOURCES, "left")
    prompts, prompt_mask = pad(PROMPTS, "left")
    settings: dict[str, Any] = {
        "attention_mask": mask,
        "decoder_input_ids": prompts,
        "decoder_attention_mask": prompt_mask,
        "max_new_tokens": 4,
        "num_beams": 2,
    }
    with torch.no_grad():
        expected = eager.generate(ids, **settings)
        found = switched(eager, "flex_attention").generate(ids, **settings)
    assert torch.equal(found, expected)


@pytest.fixture
def kernel_types(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The types of the queries that PyTorch's fused attention is given, one for each call."""
    found: list[torch.dtype] = []
    fused = F.scaled_dot_product_attention

    def watched(query: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        found.append(query.dtype)
        return fused(query, *args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    return found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("additive", [True, False])
def test_half_precision_trains_with_attention_in_float32(
    dtype: torch.dtype, autocast: bool, additive: bool, kernel_types: list[torch.dtype]
) -> None:
    model = toy_model(dtype=torch.float32 if autocast else dtype)
    exact, batch = copy.deepcopy(model).double(), padded_batch()
    labels = batch["decoder_input_ids"]
    exact(**batch, labels=labels).loss.backward()
    if additive:
        batch["attention_mask"] = torch.zeros(len(labels), 1, 1, batch["input_ids"].shape[1], dtype=dtype)
        batch["attention_mask"].masked_fill_(padded_batch()["attention_mask"][:, None, None] == 0, -torch.inf)
    kernel_types.clear()
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        model(**batch, labels=labels).loss.backward()
        assert set(kernel_types) == {torch.float32}
        kernel_types.clear()
        with torch.no_grad():
            model(**batch)
    assert set(kernel_types) == {dtype}, "only training gains"
    tolerance = 0.1 if dtype == torch.bfloat16 else 0.02  # three bits more
    for name, expected in gradients(exact).items():
        found = gradients(model)[name].double()
        assert (found - expected).norm() <= tolerance * expected.norm() + 1e-4, name


@pytest.mark.slow
def test_compiled_flex_attention_equals_sdpa() -> None:
    model = toy_model(dtype=torch.float32)
    batch = padded_batch("left", "left")
    real = batch["decoder_attention_mask"].bool()
    with torch.no_grad():
        expected = model(**batch).logits
        model.set_attn_implementation("flex_attention")
        assert_parity(model(**batch).logits[real], expected[real])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="flash attention runs on CUDA alone")
@pytest.mark.parametrize("side", SIDES)
def test_real_flash_attention_is_near_sdpa(side: str) -> None:
    pytest.importorskip("flash_attn", reason="flash-attn is not installed, which needs CUDA")
    model: Any = toy_model(dtype=torch.bfloat16, d_model=64)
    model.to("cuda")
    batch = {name: tensor.cuda() for name, tensor in padded_batch(side, side).items()}
    real = batch["decoder_attention_mask"].bool()
    with torch.no_grad():
        expected = model(**batch).logits[real]
        model.set_attn_implementation("flash_attention_2")
        found = model(**batch).logits[real]
    assert (found - expected).abs().max() <= 0.05 * expected.abs().max()  # bfloat16 has 8 bits


def test_the_implementation_can_be_switched_at_run_time() -> None:
    model = toy_model(attention="sdpa")
    batch = padded_batch()
    assert model.config._attn_implementation == "sdpa"
    logits = {}
    for name in ("eager", "sdpa", "eager"):
        model.set_attn_implementation(name)
        attentions = model(**batch, output_attentions=name == "eager").encoder_attentions
        assert (attentions is not None) == (name == "eager")
        logits[name] = model(**batch).logits
    real = batch["decoder_attention_mask"].bool()
    assert_parity(logits["eager"][real], logits["sdpa"][real])


@pytest.mark.parametrize("changes", [{}, UNEQUAL_HEADS[0].values[0]], ids=["paper", "wide-keys"])
def test_attention_weights(changes: dict[str, Any]) -> None:
    batch = padded_batch("left", "right")
    outputs = toy_model(attention="eager", **changes)(**batch, output_attentions=True)
    (n, t), s = batch["input_ids"].shape, batch["decoder_input_ids"].shape[1]
    kinds = {
        "encoder_attentions": ("encoder", (t, t), batch["attention_mask"]),
        "decoder_attentions": ("decoder", (s, s), batch["decoder_attention_mask"]),
        "cross_attentions": ("decoder", (s, t), batch["attention_mask"]),
    }
    for kind, (stack, shape, visible) in kinds.items():
        assert len(outputs[kind]) == FIELDS[f"{stack}_layers"]
        for weights in outputs[kind]:
            assert weights.shape == (n, FIELDS[f"{stack}_attention_heads"], *shape)
            queries = batch[
                "attention_mask" if kind == "encoder_attentions" else "decoder_attention_mask"
            ].bool()
            rows = weights.transpose(1, 2)[queries]  # (real queries, H, T)
            torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]))
            assert not rows.masked_select(
                visible[:, None, None].expand_as(weights).transpose(1, 2)[queries] == 0
            ).any()
            if kind == "decoder_attentions":
                assert not weights[queries.all(1)].triu(1).any()


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_hidden_states(norm: str) -> None:
    batch = padded_batch()
    model = toy_model(norm_position=norm)
    outputs = model(**batch, output_hidden_states=True)
    for stack, ids in (("encoder", batch["input_ids"]), ("decoder", batch["decoder_input_ids"])):
        states = outputs[f"{stack}_hidden_states"]
        assert len(states) == FIELDS[f"{stack}_layers"] + 1
        assert all(state.shape == (*ids.shape, FIELDS["d_model"]) for state in states)
    assert torch.equal(outputs.encoder_hidden_states[-1], outputs.encoder_last_hidden_state)
    assert torch.equal(model.lm_head(outputs.decoder_hidden_states[-1]), outputs.logits)


def test_what_is_recorded_in_translation() -> None:
    model = translating_model(attention="eager")
    ids, mask = pad(SOURCES)
    settings: dict[str, Any] = {"num_beams": 1, "max_new_tokens": 3, "eos_token_id": 99}
    outputs: Any = model.generate(
        ids,
        attention_mask=mask,
        return_dict_in_generate=True,
        output_attentions=True,
        output_scores=True,
        **settings,
    )
    assert len(outputs.scores) == len(outputs.cross_attentions) == 3
    assert outputs.cross_attentions[2][0].shape == (len(SOURCES), 2, 1, ids.shape[1])
    assert outputs.decoder_attentions[2][0].shape == (len(SOURCES), 2, 1, 3)


def test_no_target_sees_its_future_where_another_thread_asks_for_weights() -> None:
    """It switches to the plain formula while a pass of `sdpa` goes on, which has no mask."""
    model, batch = toy_model(), padded_batch()
    expected = model(**batch, use_cache=False).logits

    def switch(*args: Any) -> None:
        model.set_attn_implementation("eager")

    model.model.decoder.layers[0].register_forward_pre_hook(switch)
    real = batch["decoder_attention_mask"].bool()
    assert_parity(model(**batch, use_cache=False).logits[real], expected[real])
    assert model.config._attn_implementation == "eager"


def test_outputs_as_a_tuple() -> None:
    model, batch = toy_model(), padded_batch()
    outputs = model(**batch)
    assert torch.equal(model(**batch, return_dict=False)[0], outputs.logits)


def test_a_config_that_asks_for_tuples() -> None:
    outputs = toy_model()(**padded_batch(), output_hidden_states=True)
    model = toy_model(return_dict=False)
    found = model(**padded_batch(), output_hidden_states=True)
    assert isinstance(found, tuple) and len(found) == len(outputs.to_tuple())
    assert torch.equal(found[0], outputs.logits)
    assert torch.equal(model(**padded_batch(), return_dict=True).logits, outputs.logits)
