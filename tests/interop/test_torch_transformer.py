"""State dicts around `torch.nn.Transformer`, in and out, beside the module itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vanilla_transformer import InputError
from vanilla_transformer.interop import from_torch, load_torch, save_torch, to_torch, torch_transformer
from vanilla_transformer.modeling.modeling_vanilla_transformer import VanillaTransformerPositionalEncoding

from ..modeling.toy import assert_parity, padded_batch, toy_config, toy_model
from .foreign import randomize

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "torch": {"attention_bias": True, "final_norm": True},
    "pre-norm": {"norm_position": "pre", "attention_bias": True, "activation_function": "gelu"},
    "learned": {"position_embedding": "learned", "layer_norm_eps": 1e-3},
    "two-vocabularies": {
        "share_encoder_decoder_embeddings": False,
        "tie_word_embeddings": False,
        "decoder_vocab_size": 29,
        "lm_head_bias": True,
    },
}


def torch_logits(
    weights: dict[str, torch.Tensor], config: Any, batch: dict[str, torch.Tensor]
) -> torch.Tensor:
    """What a `torch.nn.Transformer` with these weights predicts, embeddings and projection done by hand."""
    transformer = torch_transformer(config).eval()
    body = {
        name.removeprefix("transformer."): tensor
        for name, tensor in weights.items()
        if "transformer." in name
    }
    transformer.load_state_dict(body)

    def embed(side: str, ids: torch.Tensor) -> torch.Tensor:
        embedded = F.embedding(ids, weights[f"{side}_embedding.weight"]) * config.d_model**0.5
        places = torch.arange(ids.shape[1])
        if f"{side}_positions.weight" in weights:
            return embedded + weights[f"{side}_positions.weight"][places]
        return embedded + VanillaTransformerPositionalEncoding(config)(places, torch.float32)

    length, padding = batch["decoder_input_ids"].shape[1], batch["attention_mask"] == 0
    hidden = transformer(
        embed("source", batch["input_ids"]),
        embed("target", batch["decoder_input_ids"]),
        tgt_mask=torch.ones(length, length, dtype=torch.bool).triu(1),
        src_key_padding_mask=padding,
        memory_key_padding_mask=padding,
        tgt_key_padding_mask=batch["decoder_attention_mask"] == 0,
    )
    return F.linear(hidden, weights["projection.weight"], weights.get("projection.bias"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_ours_goes_out_and_comes_back(variant: str) -> None:
    model = toy_model(dtype=torch.float32, **VARIANTS[variant])
    batch = padded_batch()
    real = batch["decoder_attention_mask"].bool()
    weights = to_torch(model)
    with torch.no_grad():
        expected = torch_logits(weights, model.config, batch)
        assert_parity(model(**batch).logits[real], expected[real])
        again = from_torch(weights, **model.config.to_dict())
        assert_parity(again(**batch).logits[real], expected[real])
    assert {name: getattr(again.config, name) for name in VARIANTS[variant]} == VARIANTS[variant]
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


class Tutorial(nn.Module):
    """A module as people write it: names of their own, a table of sinusoids, a bias on the logits."""

    def __init__(self, **options: Any):
        super().__init__()
        self.src_tok_emb, self.tgt_tok_emb = nn.Embedding(19, 16), nn.Embedding(23, 16)
        self.transformer = nn.Transformer(16, 4, 2, 3, 20, dropout=0.0, batch_first=True, **options)
        self.generator = nn.Linear(16, 23)
        table = VanillaTransformerPositionalEncoding(toy_config(d_model=16))(torch.arange(50), torch.float32)
        self.register_buffer("pos_embedding", table[None])

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        source, target = batch["input_ids"], batch["decoder_input_ids"]
        padding = batch["attention_mask"] == 0
        table: Any = self.pos_embedding
        hidden = self.transformer(
            self.src_tok_emb(source) * 4 + table[:, : source.shape[1]],
            self.tgt_tok_emb(target) * 4 + table[:, : target.shape[1]],
            tgt_mask=torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1),
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_key_padding_mask=batch["decoder_attention_mask"] == 0,
        )
        logits: torch.Tensor = self.generator(hidden)
        return logits


NAMES = {
    "source_embedding.weight": "src_tok_emb.weight",
    "target_embedding.weight": "tgt_tok_emb.weight",
    "projection.weight": "generator.weight",
    "projection.bias": "generator.bias",
}


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {}),
        ({"norm_first": True, "bias": False}, {"norm_position": "pre"}),
        (
            {"activation": "gelu", "layer_norm_eps": 1e-3},
            {"activation_function": "gelu", "layer_norm_eps": 1e-3},
        ),
    ],
)
def test_a_module_with_names_of_its_own_comes_in(
    options: dict[str, Any], fields: dict[str, Any], tmp_path: Path
) -> None:
    module = Tutorial(**options).eval()
    randomize(module)
    torch.save(module.state_dict(), tmp_path / "model.pt")
    (tmp_path / "fields.json").write_text(
        json.dumps({"encoder_attention_heads": 4, "names": NAMES, **fields})
    )
    model = load_torch(tmp_path / "model.pt", tmp_path / "fields.json")
    batch = {name: ids % 19 for name, ids in padded_batch().items()}
    real = batch["decoder_attention_mask"].bool()
    with torch.no_grad():
        assert_parity(model(**batch).logits[real], module(batch)[real])


def test_a_table_of_positions_may_be_of_half_precision() -> None:
    given: dict[str, Any] = {"names": NAMES, "encoder_attention_heads": 4}
    weights = Tutorial().to(torch.bfloat16).state_dict()
    assert from_torch(weights, **given).dtype == torch.bfloat16
    weights["pos_embedding"] += 0.1
    with pytest.raises(InputError, match=r"`pos_embedding` have no place"):
        from_torch(weights, **given)


def changed(**changes: Any) -> dict[str, torch.Tensor]:
    """The tutorial's state dict, tensors replaced, added or (None) taken away."""
    state = Tutorial().state_dict() | changes
    return {name: tensor for name, tensor in state.items() if tensor is not None}


NORM = "transformer.decoder.norm.weight"


@pytest.mark.parametrize(
    ("changes", "fields", "message"),
    [
        ({}, {}, "`encoder_attention_heads` must be given: no tensor tells it."),
        ({}, {"encoder_attention_heads": 3}, "`d_model` must be divisible by `encoder_attention_heads`"),
        (
            {"extra": torch.ones(3)},
            {"encoder_attention_heads": 4},
            "weights `extra` have no place in the model",
        ),
        (
            {"pos_embedding": torch.ones(50, 16)},
            {"encoder_attention_heads": 4},
            "weights `pos_embedding` have no",
        ),
        (
            {NORM: None},
            {"encoder_attention_heads": 4},
            "the weights of the `torch.nn.Transformer` lack `decoder.norm",
        ),
        (
            {NORM: torch.ones(7)},
            {"encoder_attention_heads": 4},
            "weights `model.decoder.layer_norm.weight` must have",
        ),
        (
            {"tgt_tok_emb.weight": None},
            {"encoder_attention_heads": 4},
            "the state dict has no tensor 'tgt_tok_emb",
        ),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        from_torch(changed(**changes), names=NAMES, **fields)
    assert str(caught.value).startswith(message)


def test_what_is_dropped_out_is_what_ours_drops_out() -> None:
    config = toy_config(dropout=0.1, attention_dropout=0.2, activation_dropout=0.3)
    module = torch_transformer(config)
    for layer in (*module.encoder.layers, *module.decoder.layers):
        assert layer.dropout.p == 0.3  # between the two maps of the feed-forward network
        assert layer.self_attn.dropout == 0.2
        assert (layer.dropout1.p, layer.dropout2.p) == (0.1, 0.1)
    assert module.decoder.layers[0].multihead_attn.dropout == 0.2


def test_no_transformer_and_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="must hold one `torch.nn.Transformer`, but holds 0"):
        from_torch({"source_embedding.weight": torch.ones(5, 4)}, encoder_attention_heads=1)
    with pytest.raises(
        InputError, match="`names` must be of source_embedding.weight, .* but has 'embedding'"
    ):
        from_torch({}, names={"embedding": "x"})
    with pytest.raises(InputError, match="`names` must say which tensor is `source_embedding.weight`"):
        from_torch({}, encoder_attention_heads=1)


def test_heads_of_other_widths_do_not_go_out(tmp_path: Path) -> None:
    model = toy_model(dtype=torch.float32, head_dim=5)
    with pytest.raises(InputError, match="`head_dim` must be 3 for torch.nn.Transformer, but is 5 instead"):
        save_torch(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_saved_files_come_back(tmp_path: Path) -> None:
    model = toy_model(dtype=torch.float32, **VARIANTS["torch"])
    model.generation_config.update(num_beams=3, length_penalty=1.2, length_penalty_type="gnmt")
    save_torch(model, tmp_path / "new")
    again = load_torch(tmp_path / "new" / "model.pt", tmp_path / "new" / "config.json")
    found: Any = again.generation_config
    assert (found.num_beams, found.length_penalty, found.length_penalty_type) == (3, 1.2, "gnmt")
    assert torch.equal(again(**padded_batch()).logits, model(**padded_batch()).logits)
