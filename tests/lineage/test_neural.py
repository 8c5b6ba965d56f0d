"""The neural models: each by its formula, and each learns; ELMo tells two senses of a word apart."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SPECIAL_TOKENS, write_parallel_files
from torch.nn import functional as F

from vanilla_transformer.lineage import road
from vanilla_transformer.lineage.config import LineageConfig
from vanilla_transformer.lineage.elmo import (
    BidirectionalLanguageModel,
    Highway,
    LayerMix,
    characters_of,
    reverse,
)
from vanilla_transformer.lineage.nnlm import NeuralLanguageModel
from vanilla_transformer.lineage.recurrent import AdditiveAttention, RecurrentTranslator
from vanilla_transformer.lineage.senses import learn_senses, sense_cosines

VOCABULARY = 12
SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "embedding_dim": 16, "hidden_dim": 24, "dropout": 0.0}


def copies(count: int = 48, length: int = 4) -> dict[str, torch.Tensor]:
    """Sources of four words whose target is the source backwards, every other row one word shorter."""
    words = torch.randint(5, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(0))
    source = F.pad(words, (0, 1), value=2)
    target = F.pad(words.flip(1), (0, 1), value=2)
    source[::2, -2:] = torch.tensor([2, 0])
    target[::2] = torch.cat(
        (words[::2, :-1].flip(1), torch.tensor([[2, 0]]).expand(len(words[::2]), 2)), dim=1
    )
    return {
        "input_ids": source,
        "attention_mask": source.ne(0).long(),
        "decoder_input_ids": F.pad(target[:, :-1], (1, 0), value=1),
        "labels": target.masked_fill(target == 0, -100),
    }


def learn(model: Any, batch: dict[str, torch.Tensor], steps: int, rate: float = 0.01) -> tuple[float, float]:
    """The loss before and after some steps of Adam on one batch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses[0], losses[-1]


def test_nnlm_is_bengios_formula() -> None:
    torch.manual_seed(0)
    model = NeuralLanguageModel(LineageConfig(**SIZES)).double()
    batch = copies(2)
    logits = model(batch["decoder_input_ids"]).logits
    for row, place in itertools.product(range(2), range(5)):
        seen = [1, 1, 1, *batch["decoder_input_ids"][row].tolist()][place : place + 4]
        x = torch.cat([model.embed_tokens.weight[word] for word in seen])
        hidden = torch.tanh(model.hidden.bias + model.hidden.weight @ x)
        y = model.output.bias + model.direct.weight @ x + model.output.weight @ hidden
        assert torch.allclose(logits[row, place], y, rtol=1e-9)


def test_nnlm_learns() -> None:
    torch.manual_seed(0)
    first, last = learn(NeuralLanguageModel(LineageConfig(**SIZES)), copies(), 60)
    assert first > 2 and last < first / 2


def test_additive_attention_is_bahdanaus_formula_and_sees_no_padding() -> None:
    torch.manual_seed(0)
    attention = AdditiveAttention(3, 4, 5).double()
    query, values = torch.randn(1, 3).double(), torch.randn(1, 6, 4).double()
    mask = torch.tensor([[True] * 4 + [False] * 2])
    context, weights = attention(query, attention.key(values), values, mask)
    w, u, v = attention.query, attention.key.weight, attention.score.weight[0]
    scores = torch.stack([v @ torch.tanh(w.weight @ query[0] + w.bias + u @ h) for h in values[0, :4]])
    assert torch.allclose(weights[0, :4], scores.softmax(0), rtol=1e-9)
    assert torch.equal(weights[0, 4:], torch.zeros(2).double())
    assert torch.allclose(context[0], scores.softmax(0) @ values[0, :4], rtol=1e-9)


@pytest.mark.parametrize(("cell", "attention"), list(itertools.product(("gru", "lstm"), (True, False))))
def test_a_recurrent_translator_learns_and_generates_what_it_learned(cell: str, attention: bool) -> None:
    torch.manual_seed(0)
    model = RecurrentTranslator(LineageConfig(**SIZES | {"hidden_dim": 48}, cell=cell, attention=attention))
    batch = copies(16)
    _, last = learn(model, batch, 120)
    assert last < 0.1
    found = model.generate(batch["input_ids"], batch["attention_mask"])
    assert found[:, 0].eq(1).all()
    wanted = batch["labels"].clamp(min=0)
    assert found[:, 1:].eq(wanted[:, : found.shape[1] - 1]).float().mean() > 0.95


def test_padding_of_the_source_changes_nothing() -> None:
    torch.manual_seed(0)
    model = RecurrentTranslator(LineageConfig(**SIZES)).double()
    batch = copies(4)
    padded = batch | {name: F.pad(batch[name], (0, 3)) for name in ("input_ids", "attention_mask")}
    assert torch.allclose(model(**batch).logits, model(**padded).logits, rtol=1e-9)


def test_characters_and_reversal_by_hand() -> None:
    assert characters_of(["ab", "b", ""]).tolist() == [[1, 2], [2, 0], [0, 0]]
    table = characters_of(["</s>", "<0x61>", "a", "s" * 60], symbols=("</s>", "<0x61>"))
    assert table.shape == (4, 50) and table[:3, 1:].eq(0).all(), "a symbol is one character, 50 are read"
    assert len({*table[:3, 0].tolist(), int(table[3, 0])}) == 4
    states = torch.arange(8.0).view(2, 4, 1)
    assert reverse(states, torch.tensor([4, 2])).squeeze(-1).tolist() == [[3, 2, 1, 0], [5, 4, 6, 7]]


# The two senses of 苹果: the fruit is bought, eaten and washed, the company makes, sells and announces.
FRUIT = [(who, verb) for who in ("我", "你", "她") for verb in ("吃", "买", "洗")]
COMPANY = [(verb, what) for verb in ("发布", "生产", "销售") for what in ("手机", "电脑", "软件")]
OTHERS = [[who, verb, fruit] for (who, verb), fruit in itertools.product(FRUIT, ("香蕉", "葡萄"))]
OTHERS += [[firm, verb, what] for firm, (verb, what) in itertools.product(("华为", "微软"), COMPANY)]


def test_elmo_learns_and_tells_two_senses_of_a_word_apart() -> None:
    sentences = [[who, verb, "苹果"] for who, verb in FRUIT] + [
        ["苹果", verb, what] for verb, what in COMPANY
    ]
    sentences += OTHERS
    words = sorted({word for sentence in sentences for word in sentence})
    pieces = [*SPECIAL_TOKENS, *words]
    ids = torch.tensor([[*(pieces.index(word) for word in sentence), 2] for sentence in sentences])
    torch.manual_seed(0)
    config = LineageConfig(**SIZES | {"vocab_size": len(pieces)})
    model = BidirectionalLanguageModel.of_pieces(config, characters_of(pieces, SPECIAL_TOKENS))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    first, last = learn(model, batch, 80)
    assert last < first / 2
    apple = pieces.index("苹果")
    senses = ["fruit"] * len(FRUIT) + ["company"] * len(COMPANY)
    with torch.no_grad():
        layers = torch.stack(model.layers(**batch))[:, ids == apple]
    found = sense_cosines(layers[0], senses)
    assert found["within"] == pytest.approx(found["across"], abs=1e-5), "without context no senses"
    found = sense_cosines(layers[-1], senses)
    assert found["within"] > found["across"] + 0.3
    classifier = learn_senses(layers, senses)
    assert classifier.accuracy(layers, senses) == 1.0
    word, _, last = classifier.mix.weights.tolist()
    assert word < last - 1, "a task that asks for senses weighs the layer that knows them"


MODELS: dict[str, Any] = {
    "nnlm": lambda: NeuralLanguageModel(LineageConfig(**SIZES)),
    "gru": lambda: RecurrentTranslator(LineageConfig(**SIZES, cell="gru", attention=False)),
    "lstm": lambda: RecurrentTranslator(LineageConfig(**SIZES, cell="lstm")),
    "elmo": lambda: BidirectionalLanguageModel.of_pieces(
        LineageConfig(**SIZES), characters_of([*SPECIAL_TOKENS, *"abcdefg"][:VOCABULARY], SPECIAL_TOKENS)
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_saved_is_loaded(name: str, tmp_path: Path) -> None:
    model = MODELS[name]().eval()
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    written, read = model.state_dict(), loaded.state_dict()
    assert written.keys() == read.keys() and all(torch.equal(written[name], read[name]) for name in written)
    batch = copies(3)
    assert torch.allclose(loaded(**batch).logits, model(**batch).logits, atol=1e-6)


def test_a_highway_is_srivastavas_formula() -> None:
    torch.manual_seed(0)
    layer, x = Highway(3).double(), torch.randn(3).double()
    t = torch.sigmoid(layer.gate.weight @ x + layer.gate.bias)
    h = torch.relu(layer.transform.weight @ x + layer.transform.bias)
    assert torch.allclose(layer(x), h * t + x * (1 - t), rtol=1e-9)


def test_the_second_layer_of_elmo_adds_to_the_first() -> None:
    model = MODELS["elmo"]().eval()
    for lstm in (model.onward[1], model.back[1]):
        for weight in lstm.parameters():
            torch.nn.init.zeros_(weight)  # says nothing
    _, first, second = model.layers(*(copies(3)[name] for name in ("input_ids", "attention_mask")))
    assert torch.equal(first, second) and first.any()


def test_a_mix_of_layers_is_peters_formula() -> None:
    layers = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    mix = LayerMix(3)
    assert torch.allclose(mix(layers), layers.mean(0)), "equal weights and a gamma of one at the start"
    mix.requires_grad_(False)
    mix.weights.copy_(torch.tensor([0.0, 1.0, 2.0]))
    mix.gamma.fill_(0.5)
    shares = [math.exp(k) / (1 + math.e + math.e**2) for k in range(3)]
    assert torch.allclose(mix(layers), 0.5 * sum(s * h for s, h in zip(shares, layers, strict=True)))


def test_the_perplexity_of_elmo_is_per_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all pieces predicted in both directions, whatever batches they are evaluated in."""
    names = ("train_source", "train_target", "valid_source", "valid_target")
    paths = (*write_parallel_files(tmp_path, 40), *write_parallel_files(tmp_path, 9, seed=1))
    files = {name: str(path) for name, path in zip(names, paths, strict=True)}
    experiment = road.prepare(
        files, tmp_path, vocab_size=300, steps=1, tokens_per_update=200, width=8, seed=1, language="en"
    )
    model = road.build_elmo(experiment)
    monkeypatch.setattr(road, "build_elmo", lambda experiment: model)
    row = road.elmo_row(experiment)
    total, count = 0.0, 0
    for ids in experiment.valid["input_ids"]:
        batch = torch.tensor([ids])
        with torch.no_grad():
            loss = model(batch, torch.ones_like(batch)).loss
        total, count = total + float(loss) * (len(ids) - 1), count + len(ids) - 1
    assert row["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)
