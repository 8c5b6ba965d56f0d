"""Marian, in and out: logits, translations and files, side by side with transformers' own class."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, MarianMTModel, MarianTokenizer
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from vanilla_transformer import (
    InputError,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.interop import from_marian, load_marian, save_marian, to_marian
from vanilla_transformer.interop.marian import SHARED_FIELDS
from vanilla_transformer.modeling.generation_vanilla_transformer import set_decoding
from vanilla_transformer.scripts import convert

from ..modeling.toy import assert_parity, padded_batch, toy_model, translating_model
from .foreign import SENTENCES, marian_model, marian_tokenizer

VARIANTS: dict[str, dict[str, Any]] = {
    "opus": {},
    "relu": {"activation_function": "relu", "scale_embedding": False},
    "pad-first": {"pad_token_id": 1, "eos_token_id": 3},
    "untied": {"tie_word_embeddings": False},
    "two-vocabularies": {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 41},
    "two-untied": {
        "share_encoder_decoder_embeddings": False,
        "decoder_vocab_size": 41,
        "tie_word_embeddings": False,
    },
}
VOCABULARY = 37


def batch(model: Any) -> dict[str, torch.Tensor]:
    """Sources of three lengths behind masks, and beginnings of targets that start as Marian's do."""
    pad = model.config.pad_token_id
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(4, VOCABULARY - 1, (4, 7), generator=generator)
    mask = torch.ones_like(source)
    for row, length in enumerate((7, 4, 2, 5)):
        source[row, length:], mask[row, length:] = pad, 0
    target = torch.randint(4, VOCABULARY - 1, (4, 5), generator=generator)
    target[:, 0] = pad
    return {"input_ids": source, "attention_mask": mask, "decoder_input_ids": target}


def assert_same(ours: Any, theirs: Any) -> None:
    """Logits to 1e-5 on a padded batch; greedy and beam translations token by token."""
    inputs = batch(theirs)
    with torch.no_grad():
        expected = theirs(**inputs).logits
        assert_parity(ours(**inputs).logits, expected)
    # All targets begin alike: what differs there comes from the sources.
    assert expected[:, 0].std(0).max() > 0.1
    del inputs["decoder_input_ids"]
    for settings in ({}, {"num_beams": 1}, {"num_beams": 3, "length_penalty": 0.6, "early_stopping": True}):
        assert torch.equal(ours.generate(**inputs, **settings), theirs.generate(**inputs, **settings))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_marian_becomes_ours(variant: str) -> None:
    marian = marian_model(VOCABULARY, **VARIANTS[variant])
    ours = from_marian(marian)
    assert_same(ours, marian)
    assert ours.config.num_parameters == ours.num_parameters()


@pytest.mark.parametrize("variant", VARIANTS)
def test_and_goes_back_to_the_same_marian(variant: str) -> None:
    marian = marian_model(VOCABULARY, **VARIANTS[variant])
    again = to_marian(from_marian(marian))
    expected = {name: tensor for name, tensor in marian.state_dict().items() if "shared" not in name}
    found = again.state_dict()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert_same(again, marian)
    assert again.generation_config == marian.generation_config


def test_a_logits_bias_of_zeros_is_none() -> None:
    marian: Any = marian_model(VOCABULARY)
    marian.final_logits_bias.zero_()
    ours = from_marian(marian)
    assert not ours.config.lm_head_bias
    assert_same(ours, marian)


def test_files_come_in_train_on_and_are_loaded_by_the_auto_classes(tmp_path: Path) -> None:
    tokenizer = marian_tokenizer(tmp_path)
    marian = marian_model(tokenizer.vocab_size).half().float()
    # As early checkpoints are: pickled, in half precision, with the table of positions.
    marian.config.save_pretrained(tmp_path)
    marian.generation_config.save_pretrained(tmp_path)
    torch.save({k: v.half() for k, v in marian.state_dict().items()}, tmp_path / "pytorch_model.bin")
    ours = load_marian(tmp_path)
    assert ours.dtype == torch.float16
    ours = ours.float()
    folder = tmp_path / "ours"
    ours.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    loaded: Any = AutoModelForSeq2SeqLM.from_pretrained(folder)
    words: Any = AutoTokenizer.from_pretrained(folder)
    assert isinstance(loaded, VanillaTransformerForConditionalGeneration)
    assert isinstance(words, MarianTokenizer)
    inputs = words(SENTENCES, text_target=SENTENCES[::-1], return_tensors="pt", padding=True)
    labels = inputs.pop("labels")
    expected = tokenizer.batch_decode(marian.generate(**inputs), skip_special_tokens=True)
    assert words.batch_decode(loaded.generate(**inputs), skip_special_tokens=True) == expected
    assert len(set(expected)) > 1

    before = {name: parameter.detach().clone() for name, parameter in loaded.named_parameters()}
    labels[labels == words.pad_token_id] = -100
    losses = [step(loaded, inputs, labels) for _ in range(3)]
    assert losses[2] < losses[0]
    # A key bias shifts all scores of a row alike and has no gradient.
    still = [name for name, parameter in loaded.named_parameters() if torch.equal(parameter, before[name])]
    assert not [name for name in still if not name.endswith("k_proj.bias")]
    loaded.save_pretrained(folder)
    assert step(AutoModelForSeq2SeqLM.from_pretrained(folder), inputs, labels) < losses[2]


def step(model: Any, inputs: Any, labels: torch.Tensor) -> float:
    """One update on a batch, with the loss alone as the trainer asks for it; the loss before it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    loss: torch.Tensor = model(**inputs, labels=labels, return_logits=False).loss
    torch.testing.assert_close(loss, model(**inputs, labels=labels).loss)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def test_separate_vocabularies_keep_their_tokenizer(tmp_path: Path) -> None:
    tokenizer: Any = marian_tokenizer(tmp_path, separate=True)
    tokenizer.save_pretrained(tmp_path)
    marian: Any = marian_model(
        len(tokenizer.encoder),
        decoder_vocab_size=len(tokenizer.target_encoder),
        share_encoder_decoder_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    marian.save_pretrained(tmp_path)
    ours = load_marian(tmp_path)
    ours.save_pretrained(tmp_path / "ours")
    tokenizer.save_pretrained(tmp_path / "ours")
    words: Any = AutoTokenizer.from_pretrained(tmp_path / "ours")
    inputs = words(SENTENCES, return_tensors="pt", padding=True)
    translator: Any = ours
    assert words.batch_decode(translator.generate(**inputs)) == tokenizer.batch_decode(
        marian.generate(**inputs)
    )


def test_a_folder_as_the_first_opus_mt_models_are(tmp_path: Path) -> None:
    """How to generate is in config.json, the projection in no file, the tokenizer known by its files."""
    tokenizer = marian_tokenizer(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"source_lang": "xa", "target_lang": "xb"}')
    marian: Any = marian_model(tokenizer.vocab_size)
    fields = {name: getattr(marian.config, name) for name in SHARED_FIELDS if name != "decoder_vocab_size"}
    del fields["share_encoder_decoder_embeddings"], fields["tie_word_embeddings"]
    fields |= {"model_type": "marian", "architectures": ["MarianMTModel"], "num_hidden_layers": 2}
    fields |= {"add_bias_logits": False, "add_final_layer_norm": False, "extra_pos_embeddings": 1}
    fields |= {"normalize_before": False, "normalize_embedding": False, "static_position_embeddings": True}
    fields |= {"max_length": 24, "num_beams": 6, "bad_words_ids": [[tokenizer.pad_token_id]]}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    state = {name: tensor for name, tensor in marian.state_dict().items() if name != "lm_head.weight"}
    torch.save(state, tmp_path / "pytorch_model.bin")
    theirs: Any = MarianMTModel.from_pretrained(tmp_path)
    assert theirs.generation_config.num_beams == 6 and theirs.generation_config.bad_words_ids
    assert convert.main(["--from", "marian", str(tmp_path), "--output", str(tmp_path / "ours")]) == 0
    ours: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours")
    assert_same(ours, theirs)
    assert ours.generation_config.num_beams == 6 and ours.generation_config.bad_words_ids
    words: Any = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert isinstance(words, MarianTokenizer)


@pytest.mark.parametrize("layout", ["interleaved", "split"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_bias": True, "lm_head_bias": True},
        {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 29},
    ],
)
def test_ours_becomes_a_marian(changes: dict[str, Any], layout: str) -> None:
    model = toy_model(dtype=torch.float32, sinusoidal_layout=layout, **changes)
    marian: Any = to_marian(model)
    inputs = padded_batch()
    real = inputs["decoder_attention_mask"].bool()
    with torch.no_grad():
        assert_parity(model(**inputs).logits[real], marian(**inputs).logits[real])
        assert_parity(from_marian(marian)(**inputs).logits[real], marian(**inputs).logits[real])


def test_a_saved_marian_translates_as_ours(tmp_path: Path, tiny_tokenizer: Any) -> None:
    model = translating_model(dtype=torch.float32)
    model.generation_config.max_new_tokens = 9
    set_decoding(model.generation_config, length_penalty_type="power")
    save_marian(model, tmp_path, tiny_tokenizer)
    marian: Any = MarianMTModel.from_pretrained(tmp_path)
    inputs = {name: padded_batch()[name] for name in ("input_ids", "attention_mask")}
    assert torch.equal(marian.generate(**inputs), model.generate(**inputs))
    words = AutoTokenizer.from_pretrained(tmp_path)
    assert words("w1 w2")["input_ids"] == tiny_tokenizer("w1 w2")["input_ids"]
    # Marian has a table of positions, ours none.
    assert words.model_max_length == marian.config.max_position_embeddings
    assert tiny_tokenizer.model_max_length > 10**9


def test_a_saved_tokenizer_of_ours_is_a_plain_one_with_its_settings(tmp_path: Path) -> None:
    ours = VanillaTransformerTokenizer.train_from_iterator(["a cat", "a dog"] * 3, vocab_size=270)
    ours.add_special_tokens({"extra_special_tokens": ["<zh>"]})
    ours.model_max_length, ours.truncation_side, ours.padding_side = 6, "left", "left"
    ours.chat_template = "{{ messages }}"

    ours.save_pretrained(tmp_path / "hub")
    # The code beside a model on the Hub is a class of its own.
    name = "tokenization_vanilla_transformer.VanillaTransformerTokenizer"
    kind: Any = get_class_from_dynamic_module(name, str(tmp_path / "hub"))
    copied = kind.from_pretrained(tmp_path / "hub")
    assert not isinstance(copied, type(ours))
    for number, tokenizer in enumerate((ours, copied)):
        folder = tmp_path / str(number)
        save_marian(translating_model(dtype=torch.float32), folder, tokenizer)
        assert "auto_map" not in (folder / "tokenizer_config.json").read_text()
        saved = AutoTokenizer.from_pretrained(folder)
        assert not isinstance(saved, type(ours))
        for text in ("a cat", "<zh> a dog and many other things"):
            options: dict[str, Any] = {"truncation": True, "padding": "max_length"}
            # Marian counts padding among its positions.
            expected = tokenizer(text, **options, padding_side="right").input_ids
            assert saved(text, **options).input_ids == expected
        assert saved.extra_special_tokens == ["<zh>"]
        assert saved.chat_template == tokenizer.chat_template == ours.chat_template


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_position": "pre"}, "`norm_position` must be 'post' for Marian, but is 'pre' instead."),
        ({"final_norm": True}, "`final_norm` must be None or False for Marian, but is True instead."),
        ({"position_embedding": "learned"}, "`position_embedding` must be 'sinusoidal' for Marian"),
        (
            {"sinusoidal_layout": "tensor2tensor"},
            "`sinusoidal_layout` must be 'interleaved' or 'split' for Marian",
        ),
        ({"sinusoidal_offset": 2}, "`sinusoidal_offset` must be 0 for Marian"),
        ({"layer_norm_eps": 1e-6}, "`layer_norm_eps` must be 1e-05 for Marian"),
        ({"head_dim": 5}, "`head_dim` must be 3 for Marian, but is 5 instead."),
        ({"value_head_dim": 6, "head_dim": 3}, "`value_head_dim` must be 3 for Marian, but is 6 instead."),
    ],
)
def test_what_marian_cannot_be_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        to_marian(toy_model(dtype=torch.float32, **changes))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_marian_of_half_precision_comes_in(dtype: torch.dtype, tmp_path: Path) -> None:
    """Its table of positions is rounded like the rest."""
    marian: Any = marian_model(VOCABULARY)
    marian.to(dtype).save_pretrained(tmp_path)
    assert load_marian(tmp_path).dtype == dtype


def test_a_saved_marian_is_not_cut_at_the_library_s_20_tokens(tmp_path: Path) -> None:
    model = toy_model(dtype=torch.float32)
    ids = torch.tensor([[5, 9, 14, 7, 2]])
    for number, length in enumerate((None, 20)):  # `Seq2SeqTrainer` writes 20 when it evaluates
        model.generation_config.max_length = length
        set_decoding(model.generation_config, max_length_beyond_source=50)
        save_marian(model, tmp_path / str(number))
        marian: Any = MarianMTModel.from_pretrained(tmp_path / str(number))
        found = marian.generate(ids, suppress_tokens=[2])
        assert found.shape[1] == model.config.max_position_embeddings


def test_positions_that_are_no_sinusoids_are_refused() -> None:
    marian: Any = marian_model(VOCABULARY)
    marian.model.encoder.embed_positions.weight.data[3, 5] += 0.01
    with pytest.raises(InputError, match=r"`model\.encoder\.embed_positions\.weight` must be sinusoids"):
        from_marian(marian)


def test_a_marian_that_ours_cannot_be_is_refused() -> None:
    marian = marian_model(VOCABULARY)
    marian.config.dropout = 1.0
    with pytest.raises(InputError, match="`dropout` must be"):
        from_marian(marian)
