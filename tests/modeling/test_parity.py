"""The model against independent references: numpy by the formulas, `torch.nn.Transformer`, and Marian."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import MarianConfig, MarianMTModel
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

from vanilla_transformer import (
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerPreTrainedModel,
)
from vanilla_transformer.modeling.modeling_vanilla_transformer import VanillaTransformerPositionalEncoding

from .numpy_transformer import SINUSOIDS, NumpyTransformer, label_smoothed_loss
from .toy import (
    FIELDS,
    SOURCES,
    assert_gradients_equal,
    assert_parity,
    gradients,
    pad,
    padded_batch,
    toy_config,
    toy_head,
    toy_model,
)

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "bias": {"attention_bias": True},
    "pre-norm": {"norm_position": "pre"},
    "pre-norm-bias": {"norm_position": "pre", "attention_bias": True},
    "wide-keys": {"head_dim": 5, "value_head_dim": 3},
    "wide-values": {"head_dim": 2, "value_head_dim": 7, "attention_bias": True},
    "learned": {"position_embedding": "learned"},
    "no-positions": {"position_embedding": "none"},
    "split": {"sinusoidal_layout": "split"},
    "tensor2tensor": {"sinusoidal_layout": "tensor2tensor"},
    "two-vocabularies": {
        "share_encoder_decoder_embeddings": False,
        "tie_word_embeddings": False,
        "decoder_vocab_size": 29,
    },
    "unscaled": {"scale_embedding": False, "layer_norm_eps": 1e-2},
}
TORCH_VARIANTS = ("paper", "bias", "pre-norm", "pre-norm-bias", "two-vocabularies")
DTYPES = [pytest.param(torch.float64, id="float64"), pytest.param(torch.float32, id="float32")]
LABELS = torch.tensor(
    [[13, 6, 19, 8, 2, -100, -100], [22, 10, -100, 16, 12, 7, 2], [18, 9, 2, -100, -100, -100, -100]]
)

Model = VanillaTransformerForConditionalGeneration


def numpy_weights(model: Model) -> dict[str, Any]:
    return {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}


def numpy_logits(model: Model, batch: dict[str, torch.Tensor], weights: dict[str, Any] | None = None) -> Any:
    reference = NumpyTransformer(model.config, weights or numpy_weights(model))
    return reference.logits(
        batch["input_ids"].numpy(),
        batch["attention_mask"].numpy(),
        batch["decoder_input_ids"].numpy(),
        batch["decoder_attention_mask"].numpy(),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_the_formulas(variant: str, dtype: torch.dtype) -> None:
    model = toy_model(dtype=dtype, **VARIANTS[variant])
    batch = padded_batch()
    real = batch["decoder_attention_mask"].bool()
    with torch.no_grad():
        ours = model(**batch).logits
    assert_parity(ours[real], torch.from_numpy(numpy_logits(model, batch))[real])


def test_the_toy_attends_where_it_likes() -> None:
    """Uniform attention would hide errors: of four tokens seen, one gets several times another's weight."""
    outputs = toy_model(attention="eager")(**padded_batch(), output_attentions=True)
    for layers in (outputs.encoder_attentions, outputs.decoder_attentions, outputs.cross_attentions):
        for weights in layers:
            seen = weights[1, :, 3, :4]
            assert seen.max() > 4 * seen.min()


@pytest.mark.parametrize("variant", ["paper", "bias", "pre-norm", "wide-keys", "learned", "two-vocabularies"])
def test_gradients_equal_the_complex_step_derivatives(variant: str) -> None:
    model = toy_model(**VARIANTS[variant])
    batch = padded_batch()
    model(**batch, labels=LABELS, label_smoothing=0.1).loss.backward()
    weights, step = numpy_weights(model), 1e-30
    names = model.state_dict(keep_vars=True)
    generator = np.random.default_rng(0)
    for parameter_name, parameter in model.named_parameters():
        direction = generator.normal(size=tuple(parameter.shape))
        moved = {
            name: weights[name] + 1j * step * direction
            for name, tensor in names.items()
            if tensor is parameter
        }
        logits = numpy_logits(model, batch, weights | moved)
        derivative = label_smoothed_loss(logits, LABELS.numpy(), 0.1).imag / step
        assert parameter.grad is not None
        ours = (parameter.grad.numpy() * direction).sum()
        if parameter_name.endswith("k_proj.bias"):
            # A key bias adds the same to all scores of a row, which the softmax does not see.
            assert abs(ours) < 1e-14 and abs(derivative) < 1e-14
        else:
            np.testing.assert_allclose(ours, derivative, rtol=1e-9, err_msg=parameter_name)


class TorchTransformer(nn.Module):
    """`torch.nn.Transformer`, with the weights of `model`, between its embeddings and its projection."""

    def __init__(self, model: Model):
        super().__init__()
        config = model.config
        norm_first = config.norm_position == "pre"
        common: dict[str, Any] = {
            "dropout": 0.0,
            "batch_first": True,
            "norm_first": norm_first,
            "layer_norm_eps": config.layer_norm_eps,
        }
        encoder_layer = nn.TransformerEncoderLayer(
            config.d_model, config.encoder_attention_heads, config.encoder_ffn_dim, **common
        )
        decoder_layer = nn.TransformerDecoderLayer(
            config.d_model, config.decoder_attention_heads, config.decoder_ffn_dim, **common
        )
        norms = [
            nn.LayerNorm(config.d_model, config.layer_norm_eps) if norm_first else None for _ in range(2)
        ]
        self.transformer = nn.Transformer(
            config.d_model,
            batch_first=True,
            custom_encoder=nn.TransformerEncoder(
                encoder_layer, config.encoder_layers, norms[0], enable_nested_tensor=False
            ),
            custom_decoder=nn.TransformerDecoder(decoder_layer, config.decoder_layers, norms[1]),
        )
        self.source = nn.Parameter(model.model.encoder.embed_tokens.weight.detach().clone())
        self.target = nn.Parameter(model.model.decoder.embed_tokens.weight.detach().clone())
        self.projection = nn.Parameter(model.lm_head.weight.detach().clone())
        self.d_model = config.d_model
        self.to(self.source.dtype).eval()
        self.places = dict(torch_places(model, self.transformer))
        with torch.no_grad():
            for parameter in self.transformer.parameters():
                parameter.zero_()
            for name, (parameter, part) in self.places.items():
                parameter[part] = model.get_parameter(name)

    def embed(self, matrix: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        positions = [SINUSOIDS["interleaved"](position, self.d_model) for position in range(ids.shape[1])]
        return F.embedding(ids, matrix) * self.d_model**0.5 + torch.tensor(np.array(positions)).to(matrix)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        length = batch["decoder_input_ids"].shape[1]
        source_padding = batch["attention_mask"] == 0
        hidden_states = self.transformer(
            self.embed(self.source, batch["input_ids"]),
            self.embed(self.target, batch["decoder_input_ids"]),
            tgt_mask=torch.ones(length, length, dtype=torch.bool).triu(1),
            src_key_padding_mask=source_padding,
            memory_key_padding_mask=source_padding,
            tgt_key_padding_mask=batch["decoder_attention_mask"] == 0,
        )
        return hidden_states @ self.projection.t()


def torch_places(model: VanillaTransformerPreTrainedModel, transformer: nn.Module) -> Any:
    """Yield our parameter names, each with the parameter of `transformer` and the slice of it that it is."""
    ours = {name for name, _ in model.named_parameters()}
    attentions = {"self_attn": "self_attn", "encoder_attn": "multihead_attn"}
    plain = {"fc1": "linear1", "fc2": "linear2"}
    crossed = model.config.is_encoder_decoder
    norms = {
        "encoder": {"self_attn_layer_norm": "norm1", "final_layer_norm": "norm2"},
        "decoder": {
            "self_attn_layer_norm": "norm1",
            "encoder_attn_layer_norm": "norm2",
            "final_layer_norm": "norm3" if crossed else "norm2",
        },
    }
    d_model, everything = model.config.d_model, slice(None)
    for name in sorted(ours):
        if "embed" in name or "shared" in name or "lm_head" in name:
            continue
        _, stack, *rest = name.split(".")
        kind = rest[-1]
        if rest[0] == "layer_norm":
            yield name, (transformer.get_parameter(f"{stack}.norm.{kind}"), everything)
            continue
        prefix = f"{stack}.layers.{rest[1]}"
        if rest[2] not in attentions:
            theirs = (plain | norms[stack])[rest[2]]
            yield name, (transformer.get_parameter(f"{prefix}.{theirs}.{kind}"), everything)
        elif rest[3] == "out_proj":
            yield (
                name,
                (transformer.get_parameter(f"{prefix}.{attentions[rest[2]]}.out_proj.{kind}"), everything),
            )
        else:
            packed = transformer.get_parameter(f"{prefix}.{attentions[rest[2]]}.in_proj_{kind}")
            start = d_model * ["q_proj", "k_proj", "v_proj"].index(rest[3])
            yield name, (packed, slice(start, start + d_model))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", TORCH_VARIANTS)
def test_logits_and_gradients_equal_torch(variant: str, dtype: torch.dtype) -> None:
    model = toy_model(dtype=dtype, **VARIANTS[variant])
    reference = TorchTransformer(model)
    batch = padded_batch()
    real = batch["decoder_attention_mask"].bool()
    outputs = model(**batch, labels=LABELS, label_smoothing=0.1)
    expected = reference(batch)
    assert_parity(outputs.logits[real], expected[real], "logits")
    outputs.loss.backward()
    F.cross_entropy(expected.flatten(0, 1), LABELS.flatten(), label_smoothing=0.1).backward()
    assert_gradients_equal(gradients(model), torch_gradients(model, reference))


def torch_gradients(model: Model, reference: TorchTransformer) -> dict[str, torch.Tensor]:
    """The gradients of `reference` under our names, those of shared matrices summed."""
    found = gradients(reference)
    theirs = {id(parameter): found[name] for name, parameter in reference.named_parameters()}
    expected = {name: theirs[id(parameter)][part] for name, (parameter, part) in reference.places.items()}
    if model.config.share_encoder_decoder_embeddings:
        expected["model.shared.weight"] = found["source"] + found["target"] + found["projection"]
    else:
        expected["model.encoder.embed_tokens.weight"] = found["source"]
        expected["model.decoder.embed_tokens.weight"] = found["target"]
        expected["lm_head.weight"] = found["projection"]
    return expected


class TorchStack(nn.Module):
    """`torch.nn.TransformerEncoder` with the weights of one stack and its tied projection.

    With a causal mask it is a decoder without attention to an encoder.
    """

    def __init__(self, model: VanillaTransformerPreTrainedModel, stack: str):
        super().__init__()
        config, norm_first = model.config, model.config.norm_position == "pre"
        layer = nn.TransformerEncoderLayer(
            config.d_model,
            getattr(config, f"{stack}_attention_heads"),
            getattr(config, f"{stack}_ffn_dim"),
            dropout=0.0,
            batch_first=True,
            norm_first=norm_first,
        )
        norm = nn.LayerNorm(config.d_model) if norm_first else None
        layers = nn.TransformerEncoder(
            layer, getattr(config, f"{stack}_layers"), norm, enable_nested_tensor=False
        )
        self.stack, self.d_model = stack, config.d_model
        self.transformer = nn.ModuleDict({stack: layers})
        self.matrix = nn.Parameter(model.get_parameter("model.shared.weight").detach().clone())
        self.to(self.matrix.dtype).eval()
        self.places = dict(torch_places(model, self.transformer))
        with torch.no_grad():
            for parameter in self.transformer.parameters():
                parameter.zero_()
            for name, (parameter, part) in self.places.items():
                parameter[part] = model.get_parameter(name)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        length = ids.shape[1]
        positions = [SINUSOIDS["interleaved"](position, self.d_model) for position in range(length)]
        embedded = F.embedding(ids, self.matrix) * self.d_model**0.5
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        hidden_states: torch.Tensor = self.transformer[self.stack](
            embedded + torch.tensor(np.array(positions)).to(embedded),
            mask=later if self.stack == "decoder" else None,
            src_key_padding_mask=mask == 0,
        )
        return hidden_states


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", ["paper", "bias", "pre-norm", "pre-norm-bias"])
@pytest.mark.parametrize(
    ("kind", "stack"),
    [(VanillaTransformerForMaskedLM, "encoder"), (VanillaTransformerForCausalLM, "decoder")],
)
def test_one_stack_alone_equals_torch(kind: Any, stack: str, variant: str, dtype: torch.dtype) -> None:
    model = toy_head(kind, dtype=dtype, **VARIANTS[variant])
    reference = TorchStack(model, stack)
    ids, mask = pad(SOURCES)
    real = mask.bool()
    outputs = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(~real, -100))
    expected = reference(ids, mask) @ reference.matrix.t()
    assert_parity(outputs.logits[real], expected[real], "logits")
    outputs.loss.backward()
    if stack == "encoder":
        F.cross_entropy(expected[real], ids[real]).backward()
    else:
        F.cross_entropy(expected[:, :-1][real[:, 1:]], ids[:, 1:][real[:, 1:]]).backward()
    found = gradients(reference)
    theirs = {id(parameter): found[name] for name, parameter in reference.named_parameters()}
    places = reference.places.items()
    ours = gradients(model)
    assert_parity(ours.pop("model.shared.weight"), found["matrix"], "shared")
    assert_gradients_equal(ours, {name: theirs[id(parameter)][part] for name, (parameter, part) in places})


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("num_items", [None, 31])
def test_loss_equals_the_formula(num_items: int | None, epsilon: float) -> None:
    model = toy_model()
    inputs = padded_batch()
    settings: dict[str, Any] = {"label_smoothing": epsilon, "num_items_in_batch": num_items}
    outputs = model(**inputs, labels=LABELS, **settings)
    expected = label_smoothed_loss(numpy_logits(model, inputs), LABELS.numpy(), epsilon, num_items)
    np.testing.assert_allclose(outputs.loss.item(), expected, rtol=1e-9)
    alone = model(**inputs, labels=LABELS, return_logits=False, **settings)
    np.testing.assert_allclose(alone.loss.item(), expected, rtol=1e-9)


@pytest.mark.parametrize("d_model", [4, 6, 64, 512])
@pytest.mark.parametrize("layout", SINUSOIDS)
def test_sinusoids_equal_the_formulas(layout: str, d_model: int) -> None:
    config = toy_config(d_model=d_model, head_dim=1, value_head_dim=1, sinusoidal_layout=layout)
    encode = VanillaTransformerPositionalEncoding(config)
    positions = [0, 1, 2, 17, 511, 1023, 5000]
    expected = torch.tensor(np.array([SINUSOIDS[layout](position, d_model) for position in positions]))
    # Angles of thousands of radians carry a rounding error of about 1e-12 of their own in both.
    torch.testing.assert_close(
        encode(torch.tensor(positions), torch.float64), expected, rtol=1e-9, atol=1e-11
    )
    torch.testing.assert_close(
        encode(torch.tensor([positions]), torch.float32)[0], expected.float(), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("layout", SINUSOIDS)
@pytest.mark.parametrize("offset", [1, 7, 500])
def test_a_later_position_is_a_linear_map_of_an_earlier_one(offset: int, layout: str) -> None:
    """PE(pos + k) is a linear function of PE(pos) (section 3.5): each pair of sine and cosine is rotated."""
    encode = VanillaTransformerPositionalEncoding(toy_config(sinusoidal_layout=layout))
    earlier = torch.arange(0, 300, 3)
    shift = encode(torch.tensor([offset]), torch.float64)[0]
    sine, cosine = (0, 1) if layout == "interleaved" else (0, 6)
    rotation = torch.zeros(12, 12, dtype=torch.float64)
    for pair in range(6):
        first = 2 * pair if layout == "interleaved" else pair
        s, c = first + sine, first + cosine
        rotation[s, s] = rotation[c, c] = shift[c]
        rotation[s, c], rotation[c, s] = shift[s], -shift[s]
    moved = encode(earlier, torch.float64) @ rotation.t()
    torch.testing.assert_close(moved, encode(earlier + offset, torch.float64), rtol=0, atol=1e-12)


def test_split_sinusoids_equal_marians() -> None:
    encode = VanillaTransformerPositionalEncoding(toy_config(d_model=64, sinusoidal_layout="split"))
    marian = MarianSinusoidalPositionalEmbedding(700, 64).create_weight()
    torch.testing.assert_close(encode(torch.arange(700), torch.float32), marian, rtol=0, atol=1e-7)


def marian_twin(model: Model) -> MarianMTModel:
    """Marian with the same weights, its sinusoids as exact as the dtype."""
    names = ("dropout", "scale_embedding", "activation_function", *FIELDS.keys() - {"dropout"})
    config = MarianConfig(
        **{name: getattr(model.config, name) for name in names},
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=1,
        decoder_start_token_id=1,
        forced_eos_token_id=None,
    )
    marian: Any = MarianMTModel._from_config(config, attn_implementation="eager", dtype=model.dtype).eval()
    missing, unexpected = marian.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected and all("embed_positions" in name or "final_logits" in name for name in missing)
    sinusoids = [SINUSOIDS["split"](position, config.d_model) for position in range(64)]
    for stack in (marian.model.encoder, marian.model.decoder):
        stack.embed_positions.weight.data = torch.tensor(np.array(sinusoids)).to(model.dtype)
    return marian


@pytest.mark.parametrize("activation", ["relu", "swish"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_and_loss_equal_marians(dtype: torch.dtype, activation: str) -> None:
    model = toy_model(
        dtype=dtype, sinusoidal_layout="split", attention_bias=True, activation_function=activation
    )
    marian = marian_twin(model)
    batch = padded_batch()
    real = batch["decoder_attention_mask"].bool()
    with torch.no_grad():
        ours, theirs = model(**batch, labels=LABELS), marian(**batch, labels=LABELS)
    assert_parity(ours.logits[real], theirs.logits[real])
    assert_parity(ours.loss[None], theirs.loss[None])


@pytest.mark.parametrize("beams", [1, 4])
def test_translations_equal_marians(beams: int) -> None:
    model = toy_model(sinusoidal_layout="split", attention_bias=True)
    input_ids, attention_mask = pad(SOURCES)
    settings = {"num_beams": beams, "max_new_tokens": 9, "length_penalty": 1.0, "do_sample": False}
    translators: list[Any] = [model, marian_twin(model)]
    generated = [each.generate(input_ids, attention_mask=attention_mask, **settings) for each in translators]
    assert torch.equal(*generated)
    assert len({tuple(row) for row in generated[0].tolist()}) == len(SOURCES)


def test_teacher_forcing_shifts_labels_behind_the_start_token() -> None:
    model: Any = toy_model()
    source, mask = pad(SOURCES)
    shifted = torch.tensor([[1, 13, 6, 19, 8, 2, 0], [1, 22, 10, 0, 16, 12, 7], [1, 18, 9, 2, 0, 0, 0]])
    assert torch.equal(model.prepare_decoder_input_ids_from_labels(LABELS), shifted)
    inputs = {"input_ids": source, "attention_mask": mask, "labels": LABELS}
    assert torch.equal(model(**inputs).logits, model(**inputs, decoder_input_ids=shifted).logits)
