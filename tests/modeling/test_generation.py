"""Decoding as in the paper: scores worked out by hand, exhaustive search, limits, and any batch alike."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from vanilla_transformer import VanillaTransformerConfig
from vanilla_transformer import VanillaTransformerForConditionalGeneration as Model
from vanilla_transformer.modeling.generation_vanilla_transformer import (
    CTRANSLATE2_DECODING,
    PAPER_DECODING,
    LengthPenalty,
    set_decoding,
)

from .toy import SOURCES, pad, toy_model, translating_model

PAD, START, END, A, B = range(5)
# Probability of the next token (column) after the last one (row); what is not named is next to impossible.
BIGRAMS = {
    START: {A: 0.6, B: 0.3, END: 0.1},
    A: {END: 0.5, B: 0.38, A: 0.12},
    B: {END: 0.7, A: 0.2, B: 0.1},
}


def gnmt(length: int, alpha: float = 0.6) -> float:
    return ((5 + length) / 6) ** alpha


@pytest.fixture(scope="module")
def bigrams() -> Model:
    """A model that predicts `BIGRAMS`: nothing reaches the projection but the last token's embedding."""
    config = VanillaTransformerConfig(
        vocab_size=5, d_model=6, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=2, decoder_ffn_dim=2, dropout=0.0,
        position_embedding="none", tie_word_embeddings=False, share_encoder_decoder_embeddings=False,
    )  # fmt: skip
    model = Model(config).double().eval()
    set_decoding(model.generation_config, **PAPER_DECODING)
    layer = model.model.decoder.layers[0]
    with torch.no_grad():
        for silenced in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
            silenced.weight.zero_()
        model.model.decoder.embed_tokens.weight.copy_(torch.eye(5, 6))
        table = torch.full((5, 5), -40.0, dtype=torch.float64)
        for last, following in BIGRAMS.items():
            for token, probability in following.items():
                table[last, token] = math.log(probability)
        states = model.model(
            torch.tensor([[A, END]]), decoder_input_ids=torch.arange(5)[None]
        ).last_hidden_state[0]
        model.lm_head.weight.copy_(torch.linalg.lstsq(states, table).solution.T)
    return model


def search(model: Model, sources: torch.Tensor, **settings: Any) -> Any:
    """`generate()` with all that can be returned about scores."""
    return model.generate(sources, return_dict_in_generate=True, output_scores=True, **settings)


def test_a_beam_search_worked_out_by_hand(bigrams: Model) -> None:
    """Two beams, alpha 0.6, a source of 2 tokens and 2 beyond it, so that |Y| is at most 4.

    Step 1: a .6, b .3 go on (</s> .1 is third).
    Step 2: a </s> .30 ends; a b .228 and a a .072 go on (b </s> .21 is third).
    Step 3: a b </s> .1596 ends; a b a .0456 and a a b .02736 go on. At the limit, a b a could score
    log .0456 / ((5 + 4) / 6)^.6 at best, less than the worst ended hypothesis: the search is over.
    """
    ended = [math.log(0.30) / gnmt(2), math.log(0.1596) / gnmt(3)]
    assert math.log(0.0456) / gnmt(4) < ended[1]
    found = search(
        bigrams, torch.tensor([[A, END]]), num_beams=2, num_return_sequences=2, max_length_beyond_source=2
    )
    assert found.sequences.tolist() == [[START, A, END, END], [START, A, B, END]]
    assert found.sequences_scores.tolist() == pytest.approx(ended, rel=1e-6)
    assert found.beam_indices.tolist() == [[0, 0, -1], [0, 0, 0]]
    # What the model was asked at each step: the two open hypotheses, the better one first.
    asked = [(START, START), (A, B), (B, A)]
    assert len(found.scores) == len(asked)
    for scores, lasts in zip(found.scores, asked, strict=True):
        for row, last in zip(scores, lasts, strict=True):
            expected = [math.log(BIGRAMS[last][token]) for token in (END, A, B)]
            assert row[[END, A, B]].tolist() == pytest.approx(expected, rel=1e-5)


def test_a_search_goes_on_while_the_bound_allows(bigrams: Model) -> None:
    """At a limit of 40 tokens, a b a could come to log .0456 / (45 / 6)^.6 = -0.92, better than -1.10."""
    assert math.log(0.0456) / gnmt(40) > math.log(0.30) / gnmt(2)
    settings: dict[str, Any] = {"num_beams": 2, "max_length_beyond_source": 38}
    steps = {
        stop: len(search(bigrams, torch.tensor([[A, END]]), early_stopping=stop, **settings).scores)
        for stop in (True, False, "never")
    }
    assert steps[True] == steps[False] == 3
    assert steps["never"] > 3


@pytest.mark.parametrize(("alpha", "best"), [(0.0, [A, END]), (0.6, [A, END]), (8.0, [A, B, A, END])])
@pytest.mark.parametrize("kind", ["gnmt", "power"])
def test_the_length_penalty(bigrams: Model, kind: str, alpha: float, best: list[int]) -> None:
    """log p / ((5 + |Y|) / 6)^alpha or log p / |Y|^alpha, with </s> counted and <s> not."""
    found = search(
        bigrams, torch.tensor([[A, END]]), num_beams=20, length_penalty=alpha, length_penalty_type=kind,
        max_length_beyond_source=2,
    )  # fmt: skip
    probabilities = [BIGRAMS[last][token] for last, token in itertools.pairwise([START, *best])]
    log_probability = sum(map(math.log, probabilities))
    divisor = gnmt(len(best), alpha) if kind == "gnmt" else len(best) ** alpha
    assert found.sequences[0, 1 : 1 + len(best)].tolist() == best
    assert found.sequences_scores.item() == pytest.approx(log_probability / divisor, rel=1e-6)


def test_the_penalty_in_numbers() -> None:
    penalty = LengthPenalty(0.6, "gnmt", torch.tensor([[7], [1]]))
    assert penalty(1) == 1
    assert penalty(7) == pytest.approx(2**0.6)
    assert penalty.at_best(1, "never").tolist() == [[pytest.approx(2**0.6)], [1.0]]
    assert penalty.at_best(1, False) == 1
    assert LengthPenalty(-1.0, "power", torch.tensor([[9]])).at_best(2, "never") == 0.5


def enumerated(model: Model, source: list[int], limit: int, alpha: float) -> list[tuple[float, list[int]]]:
    """Every hypothesis of at most `limit` tokens with its score, the best first."""
    words = [token for token in range(model.config.vocab_size) if token != END]
    bodies = [list(body) for n in range(limit + 1) for body in itertools.product(words, repeat=n)]
    hypotheses = [body if len(body) == limit else [*body, END] for body in bodies]
    hypotheses += [[*body, END] for body in bodies if len(body) == limit - 1]
    unique = sorted({tuple(row) for row in hypotheses if row})
    targets, mask = pad([list(row) for row in unique])
    inputs = torch.cat([torch.full((len(unique), 1), START), targets[:, :-1]], dim=1)
    with torch.no_grad():
        logits = model(torch.tensor([source] * len(unique)), decoder_input_ids=inputs).logits
    log_probs = logits.float().log_softmax(-1).gather(2, targets[..., None])[..., 0]
    totals = (log_probs * mask).sum(-1).tolist()
    return sorted(
        ((total / gnmt(len(row), alpha), list(row)) for total, row in zip(totals, unique, strict=True)),
        reverse=True,
    )


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_wide_beam_finds_what_exhaustive_search_finds(alpha: float) -> None:
    model = toy_model(vocab_size=6, seed=2, tie_word_embeddings=False)
    for source in ([4, 5, 2], [5, 3, 3, 2]):
        limit = 4
        best = enumerated(model, source, limit, alpha)
        found = search(
            model, torch.tensor([source]), num_beams=6**4 // 2, num_return_sequences=5, length_penalty=alpha,
            max_length_beyond_source=limit - len(source),
        )  # fmt: skip
        rows = [row[1:] for row in found.sequences.tolist()]
        for row, score, (expected, hypothesis) in zip(rows, found.sequences_scores, best, strict=False):
            assert score.item() == pytest.approx(expected, rel=1e-5)
            assert row[: len(hypothesis)] == hypothesis


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_beam_is_greedy_search(side: str) -> None:
    """Greedy decoding takes the likeliest token of each step, and so does a beam search of width 1."""
    model = translating_model()
    ids, mask = pad(SOURCES, side)
    settings: dict[str, Any] = {"attention_mask": mask, "num_beams": 1, "max_length_beyond_source": 5}
    greedy = model.generate(ids, **settings)
    beam = model.generate(ids, early_stopping=True, custom_generate=Model._beam_search, **settings)
    for number, source in enumerate(SOURCES):
        row = until_end(greedy[number].tolist())
        logits = model(torch.tensor([source]), decoder_input_ids=torch.tensor([row[:-1]])).logits[0]
        assert logits.argmax(-1).tolist() == row[1:]
        assert until_end(beam[number].tolist())[: len(row)] == row
        assert greedy[number, len(row) :].eq(PAD).all()


def until_end(row: list[int]) -> list[int]:
    """A row up to its </s> or padding."""
    ends = [place for place, token in enumerate(row) if token in (PAD, END)]
    return row[: ends[0] + (row[ends[0]] == END)] if ends else row


@pytest.fixture
def silent() -> Model:
    """A model that never says </s>: translations are as long as they may be."""
    model = toy_model(dtype=torch.float32, tie_word_embeddings=False)
    model.generation_config.suppress_tokens = [END]
    return model


def lengths(sequences: torch.Tensor) -> list[int]:
    """Tokens of each row behind <s>; a beam search fills up with </s>, as transformers does if pad is 0."""
    return (sequences[:, 1:].ne(PAD) & sequences[:, 1:].ne(END)).sum(-1).tolist()


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("side", ["left", "right"])
def test_each_row_has_the_limit_of_its_own_source(silent: Model, side: str, beams: int) -> None:
    silent.generation_config.suppress_tokens = [PAD, END]
    ids, mask = pad(SOURCES, side, extra=2)
    settings: dict[str, Any] = {"attention_mask": mask, "num_beams": beams}
    assert lengths(silent.generate(ids, **settings)) == [7 + 50, 4 + 50, 2 + 50]
    assert lengths(silent.generate(ids, max_length_beyond_source=3, **settings)) == [10, 7, 5]
    assert lengths(silent.generate(ids, max_length_beyond_source=0, **settings)) == [7, 4, 2]
    outputs = silent.get_encoder()(ids, attention_mask=mask)
    found = silent.generate(encoder_outputs=outputs, max_length_beyond_source=3, **settings)
    assert lengths(found) == [10, 7, 5]
    embeddings = silent.get_input_embeddings()(ids)
    found = silent.generate(inputs_embeds=embeddings, max_length_beyond_source=3, **settings)
    assert lengths(found) == [10, 7, 5]


def test_without_a_mask_all_columns_are_source_tokens(silent: Model) -> None:
    silent.generation_config.suppress_tokens = [PAD, END]
    ids, _ = pad(SOURCES)
    assert lengths(silent.generate(ids, num_beams=1, max_length_beyond_source=3)) == [10, 10, 10]
    outputs = silent.get_encoder()(ids)
    found = silent.generate(encoder_outputs=outputs, num_beams=2, max_length_beyond_source=3)
    assert lengths(found) == [10, 10, 10]


def test_sampled_sequences_have_the_limit_of_their_source(silent: Model) -> None:
    silent.generation_config.suppress_tokens = [PAD, END]
    ids, mask = pad(SOURCES)
    found = silent.generate(
        ids,
        attention_mask=mask,
        num_beams=1,
        do_sample=True,
        num_return_sequences=2,
        max_length_beyond_source=1,
    )
    assert lengths(found) == [8, 8, 5, 5, 3, 3]


@pytest.mark.parametrize(
    ("own", "asked", "length"),
    [
        ({}, {"max_new_tokens": 60}, 60),
        ({}, {"max_length": 61}, 60),
        ({}, {"generation_config": GenerationConfig(max_new_tokens=60)}, 60),
        ({}, {"max_new_tokens": 60, "max_length_beyond_source": 2}, 9),
        ({}, {"max_new_tokens": 6, "max_length_beyond_source": 2}, 6),
        ({}, {"generation_config": GenerationConfig(max_length_beyond_source=2)}, 9),
        ({"max_new_tokens": 3}, {}, 3),
        ({"max_new_tokens": 3}, {"max_length_beyond_source": 2}, 9),
        ({"max_length": 4}, {"max_length_beyond_source": 2}, 9),
        ({"max_length": 4}, {}, 3),
        ({"max_length_beyond_source": None, "max_new_tokens": 30}, {"max_length": 6}, 5),
        ({"max_new_tokens": 30}, {"generation_config": GenerationConfig(max_length=6)}, 5),
        ({"max_length_beyond_source": None}, {}, 57),
        ({"max_length_beyond_source": None, "max_new_tokens": 60}, {}, 60),
        ({"max_length_beyond_source": 4}, {"max_length_beyond_source": None}, 11),
    ],
    ids=str,
)
def test_which_limit_counts(silent: Model, own: dict[str, Any], asked: dict[str, Any], length: int) -> None:
    silent.generation_config.update(**own)
    assert silent.generate(torch.tensor([SOURCES[0]]), num_beams=1, **asked).shape[1] == 1 + length


def test_patience_is_switched_off_by_name(silent: Model) -> None:
    set_decoding(silent.generation_config, **CTRANSLATE2_DECODING)
    for options, patience in (({}, 1.0), ({"patience": None}, None), ({"patience": 2.0}, 2.0)):
        config, _ = silent._prepare_generation_config(None, **PAPER_DECODING, **options)
        assert config.patience == patience


def test_learned_positions_bound_the_limit() -> None:
    model = toy_model(position_embedding="learned", max_position_embeddings=9, tie_word_embeddings=False)
    model.generation_config.suppress_tokens = [PAD, END]
    ids, mask = pad(SOURCES)
    assert lengths(model.generate(ids, attention_mask=mask, max_length_beyond_source=5)) == [8, 8, 7]
    for asked in ({"max_length": 20}, {"max_new_tokens": 20}):
        assert lengths(model.generate(ids, attention_mask=mask, **asked)) == [8, 8, 8]


def test_a_new_model_is_greedy_as_in_transformers_and_limited_as_in_the_paper() -> None:
    model = translating_model()
    ids, mask = pad(SOURCES)
    by_config = search(model, ids, attention_mask=mask)
    model.generation_config = Model(model.config).generation_config
    assert "sequences_scores" not in search(model, ids, attention_mask=mask)
    assert model.generation_config.max_length_beyond_source == 50
    by_keywords = search(model, ids, attention_mask=mask, **PAPER_DECODING)
    assert torch.equal(by_keywords.sequences_scores, by_config.sequences_scores)


def test_the_fields_are_saved_and_read_again(tmp_path: Path) -> None:
    model = translating_model()
    assert {name: getattr(model.generation_config, name) for name in PAPER_DECODING} == PAPER_DECODING
    model.generation_config.update(length_penalty_type="power", max_length_beyond_source=5)
    model.save_pretrained(tmp_path)
    config = GenerationConfig.from_pretrained(tmp_path)
    assert (config.length_penalty_type, config.max_length_beyond_source) == ("power", 5)
    loaded = Model.from_pretrained(tmp_path)
    ids, mask = pad(SOURCES)
    found = search(loaded, ids, attention_mask=mask)
    expected = search(
        translating_model(), ids, attention_mask=mask, length_penalty_type="power", max_length_beyond_source=5
    )
    assert torch.equal(found.sequences, expected.sequences)
    assert torch.equal(found.sequences_scores, expected.sequences_scores)
    default = search(translating_model(), ids, attention_mask=mask)
    assert not torch.equal(found.sequences_scores, default.sequences_scores)


def test_a_generation_config_without_the_fields() -> None:
    """What was saved before they existed: transformers' penalty, source + 50, and both keywords work."""
    model = translating_model()
    fields = {
        name: value
        for name, value in vars(model.generation_config).items()
        if name in vars(GenerationConfig())
    }
    model.generation_config = GenerationConfig(**fields)
    assert not hasattr(model.generation_config, "length_penalty_type")
    ids, mask = pad(SOURCES)
    old = search(model, ids, attention_mask=mask)
    power = search(translating_model(), ids, attention_mask=mask, length_penalty_type="power")
    assert torch.equal(old.sequences_scores, power.sequences_scores)
    asked = search(model, ids, attention_mask=mask, length_penalty_type="gnmt", max_length_beyond_source=2)
    assert not torch.equal(asked.sequences_scores, old.sequences_scores)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"length_penalty_type": "google"},
            "`length_penalty_type` must be one of gnmt, power, but is 'google'",
        ),
        (
            {"max_length_beyond_source": -1},
            "`max_length_beyond_source` must be a whole number, .* but is -1 instead",
        ),
        ({"length_penalty": 400.0}, "`length_penalty` must be from -20 to 20, but is 400.0 instead"),
        ({"max_length_beyond_source": 2.5}, "`max_length_beyond_source` must be a whole number"),
        ({"length_penalty_kind": "gnmt"}, "not used by the model: .'length_penalty_kind'"),
    ],
)
def test_what_cannot_be_asked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy_model().generate(torch.tensor([SOURCES[0]]), **settings)


@pytest.fixture(scope="module")
def trained() -> Model:
    """A float32 model that has learnt to write numbers backwards: its distributions are those of use."""
    torch.manual_seed(0)
    config = VanillaTransformerConfig(
        vocab_size=20, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, dropout=0.0,
    )  # fmt: skip
    model = Model(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(120):
        sources = random_sources(32, seed=step)
        ids, mask = pad(sources)
        labels, kept = pad([[*reversed(row[:-1]), END] for row in sources])
        model(input_ids=ids, attention_mask=mask, labels=labels.masked_fill(kept == 0, -100)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def random_sources(count: int, *, seed: int) -> list[list[int]]:
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 9, (count,), generator=draw).tolist()
    return [[*torch.randint(5, 20, (size,), generator=draw).tolist(), END] for size in sizes]


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_translation_does_not_depend_on_its_batch(trained: Model, side: str, beams: int) -> None:
    sources = random_sources(24, seed=1000)
    ids, mask = pad(sources, side, extra=1)
    together = search(trained, ids, attention_mask=mask, num_beams=beams)
    translations = set()
    for number, source in enumerate(sources):
        alone = search(trained, torch.tensor([source]), num_beams=beams)
        row, other = (until_end(found.tolist()) for found in (alone.sequences[0], together.sequences[number]))
        translations.add(tuple(row))
        if beams > 1:
            score = alone.sequences_scores.item()
            assert together.sequences_scores[number].item() == pytest.approx(score, rel=1e-5, abs=1e-5)
        if row != other:
            scores = [log_probability(trained, source, one) for one in (row, other)]
            assert scores[0] == pytest.approx(scores[1], rel=1e-5), "not a tie"
    assert len(translations) > 10


def log_probability(model: Model, source: list[int], hypothesis: list[int]) -> float:
    """The log-probability of a hypothesis, by teacher forcing in float64."""
    row = torch.tensor([until_end(hypothesis)])
    with torch.no_grad():
        logits = model.double()(torch.tensor([source]), decoder_input_ids=row[:, :-1]).logits
    model.float()
    return logits.log_softmax(-1).gather(2, row[:, 1:, None]).sum().item()


@pytest.mark.parametrize("beams", [1, 3])
def test_each_sentence_has_its_limit_where_no_token_ends(beams: int) -> None:
    model = translating_model()
    ids, mask = pad(SOURCES)
    settings: dict[str, Any] = {"num_beams": beams, "eos_token_id": None, "max_length_beyond_source": 3}
    found = model.generate(ids, attention_mask=mask, **settings)
    lengths = [len(source) + 3 for source in SOURCES]
    assert found.shape == (len(SOURCES), 1 + max(lengths)) and found.min() >= 0
    for row, length, source in zip(found, lengths, SOURCES, strict=True):
        (alone,) = model.generate(torch.tensor([source]), **settings)
        assert torch.equal(row[: length + 1], alone)
        assert (row[length + 1 :] == 0).all()
