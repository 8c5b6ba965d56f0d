"""Checkpoints of each head, and weights that move from one head to another; the Auto classes."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
)
from transformers.utils import logging as transformers_logging

from vanilla_transformer import (
    VanillaTransformerDecoderModel,
    VanillaTransformerEncoderModel,
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
    VanillaTransformerModel,
)

from .toy import (
    DECODERS,
    ENCODERS,
    SOURCES,
    WHOLE,
    assert_parity,
    assert_same_weights,
    pad,
    padded_batch,
    toy_config,
    toy_head,
    toy_model,
)

ALL = ENCODERS + DECODERS + WHOLE
TIES = [(True, True), (True, False), (False, True), (False, False)]
BASES = {
    VanillaTransformerForConditionalGeneration: VanillaTransformerModel,
    VanillaTransformerForCausalLM: VanillaTransformerDecoderModel,
    VanillaTransformerForMaskedLM: VanillaTransformerEncoderModel,
    VanillaTransformerForSequenceClassification: VanillaTransformerEncoderModel,
    VanillaTransformerForTokenClassification: VanillaTransformerEncoderModel,
}
AUTO_CLASSES: dict[Any, Any] = {
    AutoModelForSeq2SeqLM: VanillaTransformerForConditionalGeneration,
    AutoModelForCausalLM: VanillaTransformerForCausalLM,
    AutoModelForMaskedLM: VanillaTransformerForMaskedLM,
    AutoModelForSequenceClassification: VanillaTransformerForSequenceClassification,
    AutoModelForTokenClassification: VanillaTransformerForTokenClassification,
    AutoModelForTextEncoding: VanillaTransformerEncoderModel,
}
# Whole and in shards; with every parameter that a variant adds.
VARIANTS: list[Any] = [
    ("50GB", {}),
    ("2KB", {"norm_position": "pre", "position_embedding": "learned", "attention_bias": True}),
]
CLASSIFIER = {"classifier.weight", "classifier.bias"}


def loaded(kind: Any, folder: Path, **settings: Any) -> tuple[Any, set[str], set[str]]:
    """The model in eval mode, the names of what is new in it, and of what it had no use for."""
    model, info = kind.from_pretrained(folder, output_loading_info=True, **settings)
    assert not info["mismatched_keys"] and not info["error_msgs"]
    return model.eval(), set(info["missing_keys"]), set(info["unexpected_keys"])


@pytest.mark.parametrize("shard_size", ["50GB", "2KB"])
@pytest.mark.parametrize(("shared", "tied"), TIES)
@pytest.mark.parametrize("kind", ALL)
def test_a_checkpoint_comes_back_bit_for_bit(
    kind: Any, shared: bool, tied: bool, shard_size: str, tmp_path: Path
) -> None:
    model = toy_head(
        kind, dtype=torch.float32, share_encoder_decoder_embeddings=shared, tie_word_embeddings=tied
    )
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    files = list(tmp_path.glob("*.safetensors"))
    assert (len(files) > 1) == (shard_size == "2KB")
    assert sum(t.numel() for file in files for t in load_file(file).values()) == model.num_parameters()
    back, missing, unexpected = loaded(kind, tmp_path)
    assert not missing and not unexpected
    assert_same_weights(back, model)
    assert back.num_parameters() == model.num_parameters()
    assert back.config.is_encoder_decoder == (kind in WHOLE)
    assert back.config.is_decoder == (kind in DECODERS)


@pytest.mark.parametrize(("shard_size", "changes"), VARIANTS)
@pytest.mark.parametrize(("shared", "tied"), TIES)
@pytest.mark.parametrize("kind", ENCODERS)
def test_the_encoder_of_a_translation_model_arrives(
    kind: Any, shared: bool, tied: bool, shard_size: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    source = toy_model(share_encoder_decoder_embeddings=shared, tie_word_embeddings=tied, **changes)
    source.save_pretrained(tmp_path, max_shard_size=shard_size)
    model, missing, _ = loaded(kind, tmp_path)
    head = {
        VanillaTransformerEncoderModel: set(),
        VanillaTransformerForMaskedLM: set() if tied else {"mlm_head.weight"},
    }
    assert missing == head.get(kind, CLASSIFIER)
    ids, mask = pad(SOURCES, "left")
    with torch.no_grad():
        expected = source.model.encoder(ids, mask).last_hidden_state
        assert_parity(model.base_model(ids, mask).last_hidden_state, expected)
    if kind is VanillaTransformerForMaskedLM and tied:
        projected = expected @ source.model.encoder.embed_tokens.weight.t()
        assert_parity(model(ids, mask).logits, projected)


@pytest.mark.parametrize(("shard_size", "changes"), VARIANTS)
@pytest.mark.parametrize(("shared", "tied"), TIES)
@pytest.mark.parametrize("kind", DECODERS)
def test_the_decoder_of_a_translation_model_arrives(
    kind: Any, shared: bool, tied: bool, shard_size: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    changes = changes | ({} if shared else {"decoder_vocab_size": 29})
    source = toy_model(share_encoder_decoder_embeddings=shared, tie_word_embeddings=tied, **changes)
    source.save_pretrained(tmp_path, max_shard_size=shard_size)
    model, missing, _ = loaded(kind, tmp_path)
    assert not missing and model.config.vocab_size == (23 if shared else 29)
    # Without its attention to the encoder, the decoder of the source is the one that stands alone.
    for layer in source.model.decoder.layers:
        for parameter in layer.encoder_attn.out_proj.parameters():
            parameter.data.zero_()
        layer.encoder_attn_layer_norm = torch.nn.Identity()
    ids, mask = pad(SOURCES, "left")
    inputs = {"decoder_input_ids": ids, "decoder_attention_mask": mask}
    with torch.no_grad():
        expected = source(input_ids=torch.tensor([[5, 2]] * 3), output_hidden_states=True, **inputs)
    found = model(ids, mask)
    if kind is VanillaTransformerForCausalLM:
        assert_parity(found.logits, expected.logits)
    else:
        assert_parity(found.last_hidden_state, expected.decoder_hidden_states[-1])


def test_an_encoder_and_a_decoder_make_a_translation_model(tmp_path: Path) -> None:
    """Warm start: what one stack cannot bring is named, and the other stack brings it."""
    encoder, decoder = (
        toy_head(VanillaTransformerForMaskedLM),
        toy_head(VanillaTransformerForCausalLM, seed=1),
    )
    encoder.save_pretrained(tmp_path / "encoder")
    decoder.save_pretrained(tmp_path / "decoder")
    model, missing, _ = loaded(VanillaTransformerForConditionalGeneration, tmp_path / "encoder")
    assert {name.split(".")[1] for name in missing} == {"decoder"}
    assert model.config.is_encoder_decoder and not model.config.is_decoder
    batch = padded_batch()
    assert_parity(
        model(**batch).encoder_last_hidden_state,
        encoder.model(batch["input_ids"], batch["attention_mask"]).last_hidden_state,
    )
    model, missing, _ = loaded(VanillaTransformerForConditionalGeneration, tmp_path / "decoder")
    assert any(name.startswith("model.encoder.layers.0") for name in missing)
    assert all(name.startswith("model.encoder.") or ".encoder_attn" in name for name in missing)


@pytest.fixture
def report(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What transformers warns of."""
    logger = logging.getLogger("transformers")
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_warning()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
    transformers_logging.set_verbosity(verbosity)


@pytest.mark.parametrize(
    ("saved", "wanted", "new"),
    [
        (VanillaTransformerForCausalLM, VanillaTransformerForConditionalGeneration, "model.encoder.layers"),
        (VanillaTransformerForCausalLM, VanillaTransformerForMaskedLM, "model.encoder.layers"),
        (VanillaTransformerForMaskedLM, VanillaTransformerForCausalLM, "model.decoder.layers"),
        (VanillaTransformerForMaskedLM, VanillaTransformerForConditionalGeneration, "model.decoder.layers"),
        (VanillaTransformerForMaskedLM, VanillaTransformerModel, "decoder.layers"),
        (VanillaTransformerForConditionalGeneration, VanillaTransformerForTokenClassification, "classifier"),
    ],
)
def test_what_is_new_is_named(
    saved: Any, wanted: Any, new: str, report: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Never random layers unannounced: what a checkpoint of another class lacks is listed on loading."""
    toy_head(saved).save_pretrained(tmp_path)
    _, missing, _ = loaded(wanted, tmp_path)
    assert any(name.startswith(new) for name in missing)
    lines = [line for line in report.text.splitlines() if "MISSING" in line]
    assert any(line.lstrip().startswith(new) for line in lines), report.text


def test_the_projection_of_one_stack_is_never_taken_for_the_other(tmp_path: Path) -> None:
    untied: dict[str, Any] = {"tie_word_embeddings": False}
    toy_head(VanillaTransformerForCausalLM, **untied).save_pretrained(tmp_path / "causal")
    toy_head(VanillaTransformerForMaskedLM, **untied).save_pretrained(tmp_path / "masked")
    toy_model(**untied).save_pretrained(tmp_path / "whole")
    for folder in ("causal", "whole"):
        _, missing, unexpected = loaded(VanillaTransformerForMaskedLM, tmp_path / folder)
        assert "mlm_head.weight" in missing and "lm_head.weight" in unexpected
    _, missing, unexpected = loaded(VanillaTransformerForCausalLM, tmp_path / "masked")
    assert "lm_head.weight" in missing and "mlm_head.weight" in unexpected


@pytest.mark.parametrize("kind", ALL)
def test_the_base_class_follows_from_the_architecture(kind: Any, tmp_path: Path) -> None:
    model = toy_head(kind)
    model.save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)
    assert type(base) is BASES.get(kind, kind)
    assert_same_weights(base, model.base_model)
    assert type(AutoModel.from_config(AutoConfig.from_pretrained(tmp_path))) is BASES.get(kind, kind)
    base.save_pretrained(tmp_path / "base")
    assert AutoConfig.from_pretrained(tmp_path / "base").architectures == [type(base).__name__]
    assert type(AutoModel.from_pretrained(tmp_path / "base")) is type(base)
    assert_same_weights(kind.from_pretrained(tmp_path / "base").base_model, base)


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({}, VanillaTransformerModel),
        ({"is_encoder_decoder": False}, VanillaTransformerEncoderModel),
        ({"is_encoder_decoder": False, "is_decoder": True}, VanillaTransformerDecoderModel),
    ],
)
def test_the_base_class_follows_from_the_flags_where_no_architecture_is_named(
    flags: dict[str, bool], kind: Any
) -> None:
    config = toy_config(**flags)
    assert type(AutoModel.from_config(config)) is kind
    assert all(
        isinstance(auto_class.from_config(config), AUTO_CLASSES[auto_class]) for auto_class in AUTO_CLASSES
    )


@pytest.mark.parametrize("auto_class", AUTO_CLASSES)
def test_auto_classes(auto_class: Any, tmp_path: Path) -> None:
    kind = AUTO_CLASSES[auto_class]
    model = toy_head(kind, num_labels=3)
    model.save_pretrained(tmp_path)
    assert type(auto_class.from_config(model.config)) is kind
    back = auto_class.from_pretrained(tmp_path)
    assert type(back) is kind
    assert_same_weights(back, model)


@pytest.mark.parametrize("kind", ENCODERS + DECODERS)
def test_the_vocabulary_can_be_resized(kind: Any, tmp_path: Path) -> None:
    ids, mask = pad(SOURCES)
    for shared, tied in TIES:
        model = toy_head(kind, share_encoder_decoder_embeddings=shared, tie_word_embeddings=tied)
        before = model(ids, mask)[0]
        model.resize_token_embeddings(31)
        after = model(ids, mask)[0]
        assert_parity(after[..., : before.shape[-1]], before)
        assert model.config.vocab_size == model.config.decoder_vocab_size == 31
        assert model.get_input_embeddings().weight.shape[0] == 31
        if (projection := model.get_output_embeddings()) is not None:
            assert after.shape[-1] == 31
            assert (projection.weight is model.get_input_embeddings().weight) == tied
        model.save_pretrained(tmp_path)
        assert_same_weights(kind.from_pretrained(tmp_path), model)


@pytest.mark.parametrize("kind", ALL)
def test_embeddings_can_be_replaced(kind: Any) -> None:
    model = toy_head(kind)
    new = torch.nn.Embedding(23, 12, dtype=torch.float64)
    model.set_input_embeddings(new)
    model.tie_weights()
    assert model.get_input_embeddings() is new
    named = [name for name, tensor in model.named_parameters(remove_duplicate=False) if tensor is new.weight]
    expected = (
        1 + (kind not in DECODERS) + (kind not in ENCODERS) + (model.get_output_embeddings() is not None)
    )
    assert len(named) == expected


@pytest.mark.parametrize("device_map", ["cpu", "auto"])
@pytest.mark.parametrize("kind", ALL)
def test_loading_by_device_map_dtype_and_attention(kind: Any, device_map: str, tmp_path: Path) -> None:
    model = toy_head(kind, dtype=torch.float32)
    model.save_pretrained(tmp_path)
    settings: dict[str, Any] = {"device_map": device_map, "attn_implementation": "eager"}
    back, missing, _ = loaded(kind, tmp_path, **settings)
    assert not missing and back.config._attn_implementation == "eager"
    assert_same_weights(back, model)
    assert loaded(kind, tmp_path, dtype=torch.bfloat16)[0].dtype == torch.bfloat16
    assert back(**back.dummy_inputs, output_attentions=True)[0].isfinite().all()
