"""The fast loop gives what transformers' own gives, runs where it should, and steps aside elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import training_toy
from helpers import parallel_sentences
from peft import PrefixTuningConfig, get_peft_model
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    EosTokenCriteria,
    LogitsProcessor,
    LogitsProcessorList,
    MaxLengthCriteria,
    MaxTimeCriteria,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from vanilla_transformer import VanillaTransformerForConditionalGeneration as Model
from vanilla_transformer import pipeline, translate
from vanilla_transformer.modeling import generation_vanilla_transformer as generation
from vanilla_transformer.modeling import projections_vanilla_transformer as projections
from vanilla_transformer.modeling.generation_vanilla_transformer import (
    BeamSearch,
    IncrementalDecoder,
    RowLengthCriteria,
)
from vanilla_transformer.modeling.modeling_vanilla_transformer import (
    VanillaTransformerAttention,
    VanillaTransformerDecoder,
    VanillaTransformerDecoderLayer,
)
from vanilla_transformer.training import VanillaTransformerTrainer, lora_config

from .toy import PROMPTS, SOURCES, assert_parity, pad, padded_batch, toy_head, translating_model

MORE_SOURCES = [*SOURCES, [6, 7, 8, 2], [12, 2], [9, 5, 19, 21, 2]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each step of the fast loop, as they are taken."""
    taken: list[int] = []
    step = IncrementalDecoder.step

    def counted(self: IncrementalDecoder, tokens: torch.Tensor, parents: torch.Tensor | None) -> torch.Tensor:
        taken.append(len(tokens))
        return step(self, tokens, parents)

    monkeypatch.setattr(IncrementalDecoder, "step", counted)
    return taken


def assert_fast_equals_plain(model: Model, ids: torch.Tensor, steps: list[int], **settings: Any) -> None:
    """Equal tokens, scores, scores of every step and beam indices, and equal tokens where sentences leave.

    Steps behind a sentence's own limit are not compared: what is open there scores -1e9 and is all one tie.
    """
    detailed = settings | {"return_dict_in_generate": True, "output_scores": True}
    plain = model.generate(ids, fast=False, **detailed)
    assert not steps
    fast = model.generate(ids, **detailed)
    assert steps
    assert torch.equal(fast.sequences, plain.sequences)
    assert len(fast.scores) == len(plain.scores)
    beyond = settings.get("max_length_beyond_source", 1000)
    limits = settings.get("attention_mask", torch.ones_like(ids)).sum(-1) + beyond
    for step, (ours, theirs) in enumerate(zip(fast.scores, plain.scores, strict=True)):
        open_rows = (limits > step).repeat_interleave(len(ours) // len(ids))
        torch.testing.assert_close(ours[open_rows], theirs[open_rows], rtol=1e-5, atol=1e-5)
    if settings.get("num_beams", 4) > 1:
        torch.testing.assert_close(fast.sequences_scores, plain.sequences_scores, rtol=1e-5, atol=1e-6)
        assert torch.equal(fast.beam_indices, plain.beam_indices)
    assert torch.equal(model.generate(ids, **settings), plain.sequences)
    steps.clear()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_position": "pre", "position_embedding": "learned", "attention_bias": True},
        {"head_dim": 5, "value_head_dim": 3, "attention": "eager"},
        {"dtype": torch.float32, "position_embedding": "none"},
    ],
    ids=str,
)
@pytest.mark.parametrize("beams", [1, 4])
def test_fast_equals_plain(changes: dict[str, Any], beams: int, steps: list[int]) -> None:
    model = translating_model(**changes)
    for side in ("left", "right"):
        ids, mask = pad(MORE_SOURCES, side, extra=1)
        settings = {"attention_mask": mask, "num_beams": beams, "max_length_beyond_source": 6}
        assert_fast_equals_plain(model, ids, steps, **settings)
    assert_fast_equals_plain(model, ids[:2], steps, num_beams=beams, max_new_tokens=5)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_return_sequences": 3},
        {"early_stopping": True, "length_penalty_type": "power"},
        {"early_stopping": False, "length_penalty": 2.0},
        {"length_penalty": -1.0},
        {"eos_token_id": [2, 9, 14]},
        {"num_beams": 1, "eos_token_id": [2, 9, 14]},
        {"min_new_tokens": 4, "suppress_tokens": [7], "no_repeat_ngram_size": 2},
        {"num_beams": 1, "min_length": 4, "begin_suppress_tokens": [7, 13], "bad_words_ids": [[5, 6], [8]]},
        {"forced_bos_token_id": 8, "forced_eos_token_id": 2},
        {"max_new_tokens": 1},
        {"num_beams": 12},
    ],
    ids=str,
)
def test_fast_equals_plain_with(settings: dict[str, Any], steps: list[int]) -> None:
    ids, mask = pad(MORE_SOURCES)
    defaults: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 9}
    model = translating_model()
    if settings.get("max_new_tokens") == 1:
        return_of_one_step(model, ids, defaults | settings)
        return
    assert_fast_equals_plain(model, ids, steps, **(defaults | settings))


def return_of_one_step(model: Model, ids: torch.Tensor, settings: dict[str, Any]) -> None:
    """The prompt alone predicts it."""
    assert torch.equal(model.generate(ids, **settings), model.generate(ids, fast=False, **settings))


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_forced_prefixes(beams: int, positions: str, steps: list[int]) -> None:
    model = translating_model(position_embedding=positions)
    ids, mask = pad(SOURCES, "left")
    prompts, prompt_mask = pad(PROMPTS, "left")
    settings: dict[str, Any] = {"attention_mask": mask, "num_beams": beams, "max_new_tokens": 6}
    assert_fast_equals_plain(
        model, ids, steps, decoder_input_ids=prompts, decoder_attention_mask=prompt_mask, **settings
    )
    assert_fast_equals_plain(model, ids, steps, decoder_input_ids=torch.tensor([[1, 13, 6]] * 3), **settings)
    one, hidden = torch.tensor([[1], [7], [1]]), torch.tensor([[0], [1], [1]])
    assert_fast_equals_plain(
        model, ids, steps, decoder_input_ids=one, decoder_attention_mask=hidden, **settings
    )


def test_encoder_outputs_and_embeddings(steps: list[int]) -> None:
    model = translating_model()
    ids, mask = pad(SOURCES)
    expected = model.generate(ids, attention_mask=mask, max_new_tokens=6, fast=False)
    outputs = model.get_encoder()(ids, attention_mask=mask)
    embeddings = model.get_input_embeddings()(ids)
    for inputs in ({"encoder_outputs": outputs}, {"inputs_embeds": embeddings}):
        assert torch.equal(model.generate(attention_mask=mask, max_new_tokens=6, **inputs), expected)
    assert steps


def test_a_mask_of_four_dimensions_takes_the_plain_loop(steps: list[int]) -> None:
    model = translating_model()
    ids, mask = pad(SOURCES)
    expected = model.generate(ids, attention_mask=mask, max_new_tokens=6, fast=False)
    embeddings = model.get_input_embeddings()(ids)
    whole = mask.bool()[:, None, None]
    assert torch.equal(
        model.generate(inputs_embeds=embeddings, attention_mask=whole, max_new_tokens=6), expected
    )
    assert not steps


@pytest.mark.parametrize("part", ["", "layers.1", "layers.0.encoder_attn"])
def test_a_decoder_that_drops_takes_the_plain_loop(part: str, steps: list[int]) -> None:
    """As for uncertainties by dropout: the fast loop has none."""
    model = translating_model(dropout=0.0, attention_dropout=0.5)
    model.model.decoder.get_submodule(part).training = True
    ids, mask = pad(SOURCES)
    model.generate(ids, attention_mask=mask, max_new_tokens=3)
    assert not steps


def test_scores_may_have_gradients(steps: list[int]) -> None:
    model = translating_model()
    ids, mask = pad(SOURCES)
    settings: dict[str, Any] = {"max_new_tokens": 3, "return_dict_in_generate": True, "output_scores": True}
    with_gradients: Any = vars(Model.generate)["__wrapped__"]
    with_gradients(model, ids, attention_mask=mask, **settings).scores[-1].logsumexp(-1).sum().backward()
    assert model.lm_head.weight.grad is not None and model.lm_head.weight.grad.abs().sum() > 0
    assert not steps


@pytest.mark.parametrize("beams", [1, 3])
def test_a_prompt_of_small_integers(beams: int, steps: list[int]) -> None:
    model = translating_model()
    ids, mask = pad(SOURCES)
    prompt = torch.tensor([[1, 13]] * len(SOURCES))
    settings: dict[str, Any] = {"attention_mask": mask, "num_beams": beams, "max_new_tokens": 6}
    expected = model.generate(ids, decoder_input_ids=prompt, **settings)
    steps.clear()
    found = model.generate(ids, decoder_input_ids=prompt.int(), **settings)
    assert steps and torch.equal(found, expected) and found.dtype == torch.int64


def test_a_mask_of_a_prompt_in_floats(steps: list[int]) -> None:
    model = translating_model(position_embedding="learned")
    ids, mask = pad(SOURCES)
    prompts, prompt_mask = pad(PROMPTS, "left")
    settings: dict[str, Any] = {"attention_mask": mask, "decoder_input_ids": prompts, "max_new_tokens": 6}
    expected = model.generate(ids, decoder_attention_mask=prompt_mask, **settings)
    steps.clear()
    found = model.generate(ids, decoder_attention_mask=prompt_mask.float(), **settings)
    assert steps and torch.equal(found, expected)


@pytest.mark.parametrize("fast", [True, False])
def test_a_length_without_a_limit(fast: bool, steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a tokenizer that has none, 10^30; and room is made as it is needed."""
    model = translating_model()
    ids, mask = pad(SOURCES)
    ends = StoppingCriteriaList([RowLengthCriteria(torch.tensor([9] * len(SOURCES)))])
    settings: dict[str, Any] = {"attention_mask": mask, "num_beams": 1, "stopping_criteria": ends}
    expected = model.generate(ids, max_length=20, **settings)
    monkeypatch.setattr(generation, "FIRST_ROOM", 1)
    steps.clear()
    assert torch.equal(model.generate(ids, max_length=10**30, fast=fast, **settings), expected)
    assert bool(steps) == fast


@pytest.mark.parametrize("beams", [1, 4])
def test_sentences_that_end_at_lengths_of_their_own(beams: int, steps: list[int]) -> None:
    model = translating_model()
    ids, mask = pad(MORE_SOURCES)
    lengths = torch.tensor([3, 9, 5, 4, 8, 6])
    criteria = StoppingCriteriaList([RowLengthCriteria(lengths)])
    settings = {"attention_mask": mask, "max_new_tokens": 20, "suppress_tokens": [0, 2], "num_beams": beams}
    plain = model.generate(ids, fast=False, stopping_criteria=criteria, **settings)
    assert not steps
    fast = model.generate(ids, stopping_criteria=criteria, **settings)
    assert torch.equal(fast, plain)
    # A beam search fills up with the end token, as transformers' does.
    assert torch.isin(fast, torch.tensor([0, 2]), invert=True).sum(-1).tolist() == lengths.tolist()
    assert steps[0] == len(ids) > steps[-1]


@pytest.mark.parametrize("beams", [1, 4])
def test_a_length_that_is_reached_at_once_leaves_one_token(beams: int) -> None:
    model = translating_model()
    ids, mask = pad(SOURCES)
    criteria = StoppingCriteriaList([RowLengthCriteria(torch.tensor([1, 0, 1]))])
    settings = {"attention_mask": mask, "num_beams": beams, "stopping_criteria": criteria}
    plain = model.generate(ids, fast=False, **settings)
    assert plain.shape == (3, 2)
    assert torch.equal(model.generate(ids, **settings), plain)


@pytest.mark.parametrize("beams", [1, 4])
def test_finished_sentences_leave_the_batch(beams: int, steps: list[int]) -> None:
    ids, mask = pad(MORE_SOURCES)
    translating_model().generate(ids, attention_mask=mask, num_beams=beams)
    assert steps[0] == len(MORE_SOURCES) > steps[-1]
    assert steps == sorted(steps, reverse=True)


class Silencer(LogitsProcessor):
    """Forbids one token."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores.index_fill(1, torch.tensor([7]), -torch.inf)


class Listener:
    """A streamer that hears the tokens."""

    def __init__(self) -> None:
        self.heard = 0

    def put(self, value: torch.Tensor) -> None:
        self.heard += 1

    def end(self) -> None:
        assert self.heard > 1


@pytest.mark.parametrize(
    "settings",
    [
        lambda: {"do_sample": True, "num_beams": 1},
        lambda: {"do_sample": True},
        lambda: {"output_attentions": True, "return_dict_in_generate": True},
        lambda: {"output_hidden_states": True, "return_dict_in_generate": True},
        lambda: {"output_logits": True, "return_dict_in_generate": True},
        lambda: {"logits_processor": LogitsProcessorList([Silencer()])},
        lambda: {"stopping_criteria": StoppingCriteriaList([MaxTimeCriteria(60.0)])},
        lambda: {"prefix_allowed_tokens_fn": lambda batch, ids: list(range(2, 23))},
        lambda: {"repetition_penalty": 1.2},
        lambda: {"num_beams": 1, "streamer": Listener()},
        lambda: {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())},
        lambda: {"use_cache": False},
        lambda: {"cache_implementation": "static"},
        lambda: {"fast": False},
    ],
)
def test_what_takes_transformers_own_loop(settings: Callable[[], dict[str, Any]], steps: list[int]) -> None:
    ids, mask = pad(SOURCES)
    translating_model().generate(ids, attention_mask=mask, max_new_tokens=4, **settings())
    assert not steps


class Overriding(Model):
    """A subclass with a forward pass of its own."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().forward(*args, **kwargs)
        outputs.logits[..., 7] = -torch.inf
        return outputs


class Predicting(Model):
    """A subclass with a projection of its own."""

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        loss, logits = super().predict(*args, **kwargs)
        assert logits is not None
        logits[..., 7] = -torch.inf
        return loss, logits


class Renamed(Model):
    """A subclass that changes nothing of the computation."""


@pytest.mark.parametrize(("kind", "fast"), [(Overriding, False), (Predicting, False), (Renamed, True)])
def test_subclasses(kind: type[Model], fast: bool, steps: list[int]) -> None:
    model = toy_head(kind)
    generated = model.generate(torch.tensor(SOURCES[:1]), max_new_tokens=4)
    assert bool(steps) is fast
    assert fast or not (generated == 7).any()


class Negating(VanillaTransformerDecoder):
    """A decoder with a forward pass of its own."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().forward(*args, **kwargs)
        outputs.last_hidden_state = -outputs.last_hidden_state
        return outputs


class RenamedDecoder(VanillaTransformerDecoder):
    """A decoder that changes nothing of the computation."""


@pytest.mark.parametrize(("kind", "fast"), [(Negating, False), (RenamedDecoder, True)])
def test_a_decoder_of_the_users_own(
    kind: type[VanillaTransformerDecoder], fast: bool, steps: list[int]
) -> None:
    model: Any = translating_model()
    ids = torch.tensor(SOURCES[:1])
    before = model.generate(ids, max_new_tokens=4)
    steps.clear()
    decoder = kind(model.config).to(model.dtype).eval()
    decoder.load_state_dict(model.model.decoder.state_dict())
    model.model.decoder = decoder
    found = model.generate(ids, max_new_tokens=4)
    assert bool(steps) is fast and torch.equal(found, before) is fast
    assert torch.equal(found, model.generate(ids, max_new_tokens=4, fast=False))


def test_a_hook_of_all_modules_is_called(steps: list[int]) -> None:
    layers: list[Any] = []
    handle = register_module_forward_hook(
        lambda module, *given: layers.append(module) if module is model.model.decoder.layers[0] else None
    )
    model: Any = translating_model()
    try:
        model.generate(torch.tensor(SOURCES[:1]), max_new_tokens=4)
    finally:
        handle.remove()
    assert len(layers) > 1 and not steps


def test_a_beam_search_reads_no_more_from_the_device_as_sentences_grow_in_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU each reading waits: a few a step are enough, however many sentences there are and end."""
    model, readings = translating_model(), []
    for sources in (MORE_SOURCES * 2, MORE_SOURCES * 14):
        ids, mask = pad(sources)
        with Readings() as found, monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "tolist", found.counted(torch.Tensor.tolist))
            model.generate(ids, attention_mask=mask, num_beams=4, max_new_tokens=8)
        readings.append(found.count)
    assert 0 < readings[1] <= readings[0] + 8 <= 8 * 8, readings


@pytest.mark.parametrize("beams", [1, 3])
def test_scores_that_are_not_returned_are_not_kept(
    beams: int, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As transformers has it: without them, finished sentences leave the batch."""
    kept: list[Any] = []
    monkeypatch.setattr(BeamSearch, "_leave", spy(BeamSearch._leave, kept))
    monkeypatch.setattr(IncrementalDecoder, "keep", spy(IncrementalDecoder.keep, kept))
    ids, mask = pad(MORE_SOURCES)
    options: dict[str, Any] = {"num_beams": beams, "max_new_tokens": 12, "output_scores": True}
    translating_model().generate(ids, attention_mask=mask, **options)
    assert kept and steps


def spy(method: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    """The method, which notes that it is called."""

    def called(*args: Any) -> Any:
        calls.append(args)
        return method(*args)

    return called


class Readings(TorchDispatchMode):
    """Counts what waits for the device: numbers one by one, the places of some, and whole lists."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
        return func(*args, **(kwargs or {}))

    def counted(self, read: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
        def reading(tensor: torch.Tensor) -> Any:
            self.count += 1
            return read(tensor)

        return reading


def test_a_hook_on_the_model_is_called(steps: list[int]) -> None:
    calls: list[Any] = []
    for module in (lambda model: model, lambda model: model.model, lambda model: model.model.decoder):
        model = translating_model()
        module(model).register_forward_hook(lambda *args: calls.append(args))
        model.generate(torch.tensor(SOURCES[:1]), max_new_tokens=4)
        assert len(calls) > 1 and not steps
        calls.clear()


class Adapted(nn.Module):
    """A linear map and a low-rank one beside it, as LoRA puts it in the place of a projection."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, 2, bias=False, dtype=base.weight.dtype)
        self.up = nn.Linear(2, base.out_features, bias=False, dtype=base.weight.dtype)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.base(states) + self.up(self.down(states))


@torch.no_grad()
def test_the_fast_loop_sees_every_change_of_the_model(steps: list[int]) -> None:
    """Weights, in place or replaced, dtype and adapters: each changes what comes out."""
    model: Any = translating_model()
    ids, mask = pad(SOURCES)
    layer = model.model.decoder.layers[1]
    seen = []

    def adapt() -> None:
        layer.self_attn.q_proj = Adapted(layer.self_attn.q_proj)

    def unload() -> None:
        layer.self_attn.q_proj = layer.self_attn.q_proj.base

    def train() -> None:
        for parameter in model.parameters():
            parameter.grad = parameter.sin()
        torch.optim.SGD(model.parameters(), lr=0.1).step()

    changes: list[Callable[[], Any]] = [
        lambda: None,
        lambda: [parameter.add_(0.1 * parameter.sin()) for parameter in model.parameters()],
        lambda: layer.fc1.weight.data.mul_(-1),
        lambda: model.load_state_dict(translating_model().state_dict()),
        adapt,
        unload,
        train,
        lambda: layer.self_attn.k_proj.weight.data.add_(layer.self_attn.q_proj.weight.data),  # as LoRA merges
        lambda: model.to(torch.float32),
    ]
    for change in changes:
        change()
        settings: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 6}
        detailed = settings | {"return_dict_in_generate": True, "output_scores": True}
        assert_fast_equals_plain(model, ids, steps, **settings)
        seen.append(model.generate(ids, **detailed).sequences_scores.float())
        steps.clear()
    differs = [not torch.allclose(one, other) for one, other in zip(seen, seen[1:], strict=False)]
    assert differs == [True] * 7 + [False]
    assert torch.allclose(seen[3], seen[0]) and torch.allclose(seen[5], seen[0])


@pytest.mark.parametrize("place", ["layers.1", "layers.1.self_attn", "layers.0.fc1", "layer_norm", "lm_head"])
def test_a_hook_in_the_decoder_sees_a_row_for_each_hypothesis(place: str, steps: list[int]) -> None:
    """As in transformers' loop: it may look at places, as one that steers the last position does."""
    model: Any = translating_model(norm_position="pre")
    ids, mask = pad(SOURCES)
    settings: dict[str, Any] = {"attention_mask": mask, "num_beams": 4, "max_new_tokens": 6}
    before = model.generate(ids, **settings)
    assert steps
    steps.clear()
    rows: list[int] = []

    def steer(module: nn.Module, inputs: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        rows.append(len(states))
        states[:, -1] += torch.linspace(-2, 2, states.shape[-1], dtype=states.dtype)

    module = model.lm_head if place == "lm_head" else model.model.decoder.get_submodule(place)
    handle = module.register_forward_hook(steer)
    steered = model.generate(ids, **settings)
    assert not steps and set(rows) == {12}
    assert not torch.equal(steered, before)
    handle.remove()
    assert torch.equal(model.generate(ids, **settings), before)
    assert steps


def test_the_loop_stays_fast_where_outputs_have_been_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What captures them is left on the layers by transformers."""
    model: Any = translating_model()
    ids = torch.tensor(SOURCES[:1])
    model(input_ids=ids, decoder_input_ids=ids, output_attentions=True, output_hidden_states=True)
    assert model.model.decoder.layers[0]._forward_hooks
    stepped: list[Any] = []
    step = IncrementalDecoder._layer

    def counted(*given: Any) -> torch.Tensor:
        stepped.append(given)
        return step(*given)

    monkeypatch.setattr(IncrementalDecoder, "_layer", counted)
    model.generate(ids, max_new_tokens=4)
    assert len(stepped) >= len(model.model.decoder.layers)


class OtherLayer(nn.Module):
    """A layer of the user's own in the place of one of the decoder's, which looks along the target."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        states = self.layer(*args, **kwargs)
        return states + states.mean(1, keepdim=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda layers: setattr(layers[0], "forward", layers[0].forward),  # as Accelerate wraps it
        lambda layers: setattr(layers[2].encoder_attn, "forward", layers[2].encoder_attn.forward),
        lambda layers: layers.__setitem__(1, OtherLayer(layers[1])),
    ],
)
def test_layers_that_are_wrapped_or_replaced_take_transformers_own_loop(
    change: Callable[[Any], None], steps: list[int]
) -> None:
    model: Any = translating_model()
    change(model.model.decoder.layers)
    ids, mask = pad(SOURCES)
    settings = {"attention_mask": mask, "max_new_tokens": 6, "num_beams": 4}
    found = model.generate(ids, **settings)
    assert not steps
    assert torch.equal(found, model.generate(ids, fast=False, **settings))


@pytest.mark.parametrize("kind", [Model, VanillaTransformerDecoderLayer, VanillaTransformerAttention])
def test_a_forward_pass_exchanged_in_its_class_is_seen(
    kind: Any, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = kind.forward
    monkeypatch.setattr(kind, "forward", lambda *args, **kwargs: forward(*args, **kwargs))
    translating_model().generate(torch.tensor(SOURCES[:1]), max_new_tokens=4)
    assert not steps


@pytest.mark.parametrize("beams", [1, 4])
def test_layers_that_were_taken_out_are_not_missed(beams: int, steps: list[int]) -> None:
    model: Any = translating_model()
    del model.model.decoder.layers[0]
    ids, mask = pad(SOURCES)
    settings = {"attention_mask": mask, "num_beams": beams, "max_new_tokens": 6}
    found = model.generate(ids, **settings)
    assert steps
    # transformers' cache is asked how long it is by the number 0, which no layer bears any more.
    assert torch.equal(found, model.generate(ids, use_cache=False, **settings))


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("criterion", [MaxLengthCriteria(4), EosTokenCriteria([6, 16, 2])])
def test_criteria_that_say_otherwise_than_the_config_are_followed(
    criterion: StoppingCriteria, beams: int, steps: list[int]
) -> None:
    ids, mask = pad(SOURCES)
    settings: dict[str, Any] = {"attention_mask": mask, "num_beams": beams, "max_new_tokens": 9}
    settings["stopping_criteria"] = StoppingCriteriaList([criterion])
    found = translating_model().generate(ids, **settings)
    assert not steps
    assert torch.equal(found, translating_model().generate(ids, fast=False, **settings))


@pytest.mark.parametrize("penalty", [1.0, -1.0])
def test_a_search_without_a_way_out_ends_as_transformers_ends_it(penalty: float, steps: list[int]) -> None:
    """No two equal tokens, and but two tokens to take: soon nothing is allowed any more."""
    ids, mask = pad(SOURCES)
    settings: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 12, "no_repeat_ngram_size": 1}
    settings |= {"suppress_tokens": [*range(5), *range(7, 23)], "length_penalty": penalty}
    detailed = {"return_dict_in_generate": True, "output_scores": True}
    plain = translating_model().generate(ids, fast=False, **settings, **detailed)
    fast = translating_model().generate(ids, **settings, **detailed)
    assert steps
    # All hypotheses score -1e9 there, so that transformers takes any of them.
    assert torch.equal(fast.sequences.sort().values, plain.sequences.sort().values)
    torch.testing.assert_close(fast.sequences_scores, plain.sequences_scores)


def test_the_type_of_new_tensors_is_nothing_to_the_search() -> None:
    ids, mask = pad(SOURCES)
    settings: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 6, "num_beams": 4}
    settings |= {"return_dict_in_generate": True, "output_scores": True}
    model = translating_model(dtype=torch.float32)
    expected = model.generate(ids, **settings)
    torch.set_default_dtype(torch.float16)
    try:
        found = model.generate(ids, **settings)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.sequences_scores.dtype == torch.float32
    assert torch.equal(found.sequences_scores, expected.sequences_scores)


def test_a_source_that_is_all_padding_is_left_to_transformers(steps: list[int]) -> None:
    ids, mask = pad(SOURCES)
    mask[0] = 0
    settings: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 6}
    found = translating_model().generate(ids, **settings)
    assert not steps
    assert torch.equal(found, translating_model().generate(ids, fast=False, **settings))


@pytest.mark.parametrize("beams", [1, 4])
def test_lengths_for_other_sentences_are_refused(beams: int) -> None:
    ids, mask = pad(MORE_SOURCES[:4])
    criteria = StoppingCriteriaList([RowLengthCriteria(torch.tensor([3, 4]))])
    with pytest.raises(ValueError, match="must have a length for each of 4 sentences, but has 2"):
        translating_model().generate(
            ids, attention_mask=mask, num_beams=beams, max_new_tokens=6, stopping_criteria=criteria
        )


@pytest.mark.parametrize("beams", [1, 4])
def test_the_loop_goes_on_with_turned_products(beams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "MANY_ENTRIES", 1)
    model, batch = translating_model(), padded_batch()
    sources = {name: batch[name][:2] for name in ("input_ids", "attention_mask")}
    settings: dict[str, Any] = {"num_beams": beams, "max_new_tokens": 6}
    assert torch.equal(
        model.generate(**sources, **settings), model.generate(**sources, **settings, fast=False)
    )


def attached(model: Any) -> Any:
    """The model with LoRA adapters of PEFT, whose effect is not nothing."""
    torch.manual_seed(1)
    found = get_peft_model(model, lora_config(model, r=4, init_lora_weights=False)).eval()
    for name, parameter in found.named_parameters():
        if "lora_" in name:
            parameter.data *= 2
    return found


def trained(model: Any) -> Any:
    """The model after an update with gradients that it computed itself."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    model(input_ids=torch.tensor(SOURCES[:1]), labels=torch.tensor(SOURCES[:1])).loss.backward()
    optimizer.step()
    return model


def loaded(model: Any) -> Any:
    model.load_state_dict({name: -tensor for name, tensor in model.state_dict().items()})
    return model


def resized(model: Any) -> Any:
    """The model with seven new tokens, one of which it likes."""
    model.resize_token_embeddings(30, mean_resizing=False)
    model.lm_head.weight.data[29] = -3 * model.lm_head.weight.data[7]
    return model


def hooked(model: Any) -> Any:
    model.model.decoder.layers[0].fc2.register_forward_hook(lambda module, inputs, output: -2 * output)
    return model


# What becomes of a model, and whether it then translates differently.
CHANGES: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "optimizer.step": (trained, True),
    "load_state_dict": (loaded, True),
    "resize_token_embeddings": (resized, True),
    "to": (lambda model: model.to(torch.float64), False),
    "to bfloat16 and back": (lambda model: model.to(torch.bfloat16).to(torch.float32), False),
    "LoRA attached": (attached, True),
    "LoRA merged": (lambda model: attached(model).merge_and_unload(), True),
    "LoRA unloaded": (lambda model: attached(model).unload(), False),
    "forward hook": (hooked, True),
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("entries", [1, projections.MANY_ENTRIES])
@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_has_generated_and_then_is_changed(
    change: str, entries: int, tied: bool, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever might be derived from the weights is in place by then, and none of it may be stale."""
    monkeypatch.setattr(projections, "MANY_ENTRIES", entries)
    model = translating_model(dtype=torch.float32, tie_word_embeddings=tied)
    changed, differs = CHANGES[change]
    ids, mask = pad(SOURCES)
    calls: list[dict[str, Any]] = [
        {"input_ids": ids[1:2, :4], "num_beams": 1},
        {"input_ids": ids, "attention_mask": mask, "num_beams": 1},
        {"input_ids": ids, "attention_mask": mask, "num_beams": 4},
    ]
    settings: dict[str, Any] = {"min_new_tokens": 3, "max_new_tokens": 6}
    details = {"return_dict_in_generate": True, "output_scores": True}
    before = [model.generate(**call, **settings, **details).scores[0] for call in calls]
    model = changed(model)
    steps.clear()
    after = [model.generate(**call, **settings, **details, fast=False) for call in calls]
    assert not steps
    for call, plain, earlier in zip(calls, after, before, strict=True):
        assert model.generate(**call, **settings).tolist() == plain.sequences.tolist()
        assert bool(steps) is (change != "forward hook")
        steps.clear()
        found = model.generate(**call, **settings, **details)
        torch.testing.assert_close(found.scores[0], plain.scores[0], rtol=1e-4, atol=1e-4)
        scores, rounding = plain.scores[0].float(), 0.3 if "bfloat16" in change else 1e-3
        same = scores.shape == earlier.shape and torch.allclose(scores, earlier, rtol=0, atol=rounding)
        assert same is not differs


@pytest.mark.parametrize("beams", [1, 4])
def test_it_runs_in_translate_and_in_the_pipeline(beams: int, steps: list[int], tiny_tokenizer: Any) -> None:
    model = translating_model(vocab_size=len(tiny_tokenizer), dtype=torch.float32)
    sentences = [source for source, _ in parallel_sentences(6)]
    options: dict[str, Any] = {"num_beams": beams, "max_length": 9}
    expected = list(translate(model, tiny_tokenizer, sentences, fast=False, **options))
    assert len(set(expected)) > 2 and not steps
    assert list(translate(model, tiny_tokenizer, sentences, **options)) == expected
    assert steps
    steps.clear()
    pipe = pipeline("translation", model, tiny_tokenizer, device="cpu", **options)
    assert [found["translation_text"] for found in pipe(sentences)] == expected
    assert steps


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(("stock", "bf16"), [(False, False), (True, False), (False, True), (True, True)])
def test_it_runs_in_evaluation_during_training(
    stock: bool, bf16: bool, beams: int, steps: list[int], tmp_path: Path
) -> None:
    """By our trainer and by transformers' own, each of which trains a little before it evaluates.

    But for transformers' own in bf16: Accelerate then puts a `forward` of its own into the model.
    """
    settings: dict[str, Any] = {"predict_with_generate": True, "eval_strategy": "steps", "eval_steps": 1}
    settings |= {"max_steps": 1, "generation_num_beams": beams, "bf16": bf16}
    ours = training_toy.toy_arguments(tmp_path, **settings)
    theirs = Seq2SeqTrainingArguments(
        str(tmp_path), report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no", **settings
    )
    trainer: Any = Seq2SeqTrainer if stock else VanillaTransformerTrainer
    evaluated: list[int] = []

    def counted(prediction: Any) -> dict[str, float]:
        evaluated.append(len(steps))
        return {}

    trainer(
        model=training_toy.toy_model(),
        args=theirs if stock else ours,
        data_collator=training_toy.collate,
        train_dataset=training_toy.copy_pairs(8) if stock else training_toy.copy_dataset(8),
        eval_dataset=training_toy.copy_pairs(3),
        compute_metrics=counted,
    ).train()
    assert evaluated and bool(evaluated[0]) is not (stock and bf16)


@pytest.mark.parametrize("beams", [1, 4])
def test_a_prefix_that_peft_learns_is_seen(beams: int, steps: list[int]) -> None:
    """PEFT brings it in through `prepare_inputs_for_generation`, which the fast loop does not call."""
    model = translating_model(
        dtype=torch.float32, encoder_layers=2, decoder_layers=2, decoder_attention_heads=4
    )
    ids, mask = pad(SOURCES)
    settings: dict[str, Any] = {"attention_mask": mask, "num_beams": beams, "max_new_tokens": 6}
    before = model.generate(ids, **settings).tolist()
    tuned: Any = get_peft_model(model, PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3))
    generator = torch.Generator().manual_seed(0)
    for parameter in tuned.prompt_encoder.parameters():
        parameter.data = 5 * torch.randn(parameter.shape, generator=generator)
    steps.clear()
    generated = tuned.eval().generate(input_ids=ids, **settings).tolist()
    assert generated == tuned.generate(input_ids=ids, fast=False, **settings).tolist() != before
    assert not steps


@pytest.mark.parametrize("beams", [1, 4])
def test_each_sentence_may_have_an_adapter_of_its_own(beams: int) -> None:
    """PEFT counts rows: those of transformers' own loop."""
    model: Any = translating_model(dtype=torch.float32)
    options: dict[str, Any] = {"r": 4, "init_lora_weights": False}
    torch.manual_seed(0)
    adapted = get_peft_model(model, lora_config(model, **options), adapter_name="a").eval()
    adapted.add_adapter("b", lora_config(model, **options))
    ids, mask = pad(SOURCES)
    given: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": mask,
        "num_beams": beams,
        "max_new_tokens": 6,
    }
    mixed = adapted.generate(**given, adapter_names=["a", "b", "a"])
    for name, rows in (("a", [0, 2]), ("b", [1])):
        adapted.set_adapter(name)
        alone = adapted.generate(**given)
        width = max(mixed.shape[1], alone.shape[1])
        padded = [torch.nn.functional.pad(found, (0, width - found.shape[1])) for found in (mixed, alone)]
        assert torch.equal(padded[0][rows], padded[1][rows])


def test_nothing_of_the_fast_loop_is_kept(steps: list[int]) -> None:
    model = translating_model()
    names, attributes = list(model.state_dict()), [sorted(vars(module)) for module in model.modules()]
    model.generate(torch.tensor(SOURCES[:1]), max_new_tokens=4)
    assert steps
    assert list(model.state_dict()) == names
    assert [sorted(vars(module)) for module in model.modules()] == attributes


def test_the_first_step_is_computed_once_for_all_beams() -> None:
    """The source is projected once for a sentence, whatever the number of beams."""
    model = translating_model()
    shapes: list[torch.Size] = []
    projection = model.model.decoder.layers[0].encoder_attn.k_proj
    forward = projection.forward

    def counted(states: torch.Tensor) -> torch.Tensor:
        shapes.append(states.shape)
        found: torch.Tensor = forward(states)
        return found

    projection.forward = counted
    ids, mask = pad(SOURCES)
    model.generate(ids, attention_mask=mask, num_beams=4, max_new_tokens=5)
    assert [shape[:2] for shape in shapes] == [(3, 7)]


def test_a_greedy_search_goes_on_from_its_keys_and_values(steps: list[int]) -> None:
    """As transformers' does; the mask tells it that the whole sequence is given, not what is new."""
    ids, mask = pad(SOURCES)
    model = translating_model()
    # Nothing ends, so that the second call has something to add to every row.
    settings: dict[str, Any] = {"num_beams": 1, "eos_token_id": 22, "return_dict_in_generate": True}
    whole = model.generate(ids, attention_mask=mask, max_new_tokens=7, **settings)
    half = model.generate(ids, attention_mask=mask, max_new_tokens=4, **settings)
    assert steps
    plain = model.generate(ids, attention_mask=mask, max_new_tokens=4, fast=False, **settings)
    fast, slow = (found.past_key_values.self_attention_cache.layers for found in (half, plain))
    for one, other in zip(fast, slow, strict=True):
        assert_parity(one.keys, other.keys)
        assert_parity(one.values, other.values)
    on = model.generate(
        ids, attention_mask=mask, max_new_tokens=3, past_key_values=half.past_key_values, **settings,
        decoder_input_ids=half.sequences, decoder_attention_mask=torch.ones_like(half.sequences),
    )  # fmt: skip
    assert torch.equal(on.sequences, whole.sequences)
