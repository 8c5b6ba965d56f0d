"""CTranslate2: what its own library makes of our exported models, token by token and score by score."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ctranslate2
import pytest
import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from vanilla_transformer import FairseqTokenizer, FsmtTokenizer, InputError, pipeline
from vanilla_transformer.interop import from_marian, save_ctranslate2, to_ctranslate2
from vanilla_transformer.interop.ctranslate2_export import token_names
from vanilla_transformer.modeling.ctranslate2_engine import is_exact
from vanilla_transformer.modeling.engines import load_engine
from vanilla_transformer.modeling.generation_vanilla_transformer import (
    CTRANSLATE2_DECODING,
    PAPER_DECODING,
    set_decoding,
)
from vanilla_transformer.modeling.pipelines import _exported

from ..modeling.toy import VOCABULARY, pad, toy_model, translating_model
from .foreign import fsmt_tokenizer, marian_model, marian_tokenizer

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "pre-norm": {"norm_position": "pre"},
    "post-norm-final-norm": {"final_norm": True},
    "pre-norm-no-final-norm": {"norm_position": "pre", "final_norm": False},
    "split-offset": {"sinusoidal_layout": "split", "sinusoidal_offset": 2},
    "tensor2tensor": {"sinusoidal_layout": "tensor2tensor"},
    "computed-positions": {"sinusoidal_layout": "tensor2tensor", "sinusoidal_offset": 1},
    "learned": {"position_embedding": "learned"},
    "no-positions": {"position_embedding": "none", "layer_norm_eps": 0.1},
    "gelu-biases": {"activation_function": "gelu", "attention_bias": True, "lm_head_bias": True},
    "gelu-tanh": {"activation_function": "gelu_new", "scale_embedding": False},
    "quick-gelu": {"activation_function": "quick_gelu"},
    "swish": {"activation_function": "swish"},
    "tanh": {"activation_function": "tanh"},
    "sigmoid": {"activation_function": "sigmoid"},
    "two-vocabularies": {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 31},
    "wide-keys": {"head_dim": 5, "value_head_dim": 3, "attention_bias": True},
    "wide-values": {"head_dim": 2, "value_head_dim": 7},
}
NAMES = token_names(None, 64, target=True)


def sources(number: int = 30) -> list[list[int]]:
    """Sentences of 2 to 13 tokens."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 13, (number,), generator=draw).tolist()
    return [torch.randint(5, VOCABULARY, (n,), generator=draw).tolist() + [2] for n in lengths]


def batch() -> dict[str, torch.Tensor]:
    ids, mask = pad(sources())
    return {"input_ids": ids, "attention_mask": mask}


def exported(model: Any, folder: Path, **options: Any) -> Any:
    folder.mkdir(exist_ok=True)
    save_ctranslate2(model, folder)
    return load_engine("ctranslate2", folder, **options)


def of_library(folder: Path, **options: Any) -> tuple[list[list[int]], list[float]]:
    """All hypotheses and their scores, from CTranslate2 itself."""
    found = ctranslate2.Translator(str(folder), intra_threads=1).translate_batch(
        [[NAMES[token] for token in one] for one in sources()],
        max_decoding_length=25,
        min_decoding_length=0,
        return_end_token=True,
        return_scores=True,
        **options,
    )
    tokens = [[NAMES.index(name) for name in one] for result in found for one in result.hypotheses]
    return tokens, [score for result in found for score in result.scores]


def of_ours(model: Any, **options: Any) -> tuple[list[list[int]], Any]:
    """The same from `generate()`, without start token and padding."""
    found = model.generate(
        **batch(), max_new_tokens=25, return_dict_in_generate=True, output_scores=True, **options
    )
    rows = [row[1:] for row in found.sequences.tolist()]
    tokens = [row[: row.index(2) + 1] if 2 in row else row for row in rows]
    return tokens, getattr(found, "sequences_scores", None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_architecture_translates_alike(variant: str, tmp_path: Path) -> None:
    """Greedily, and with a beam under CTranslate2's rules; its library called directly."""
    model = translating_model(dtype=torch.float32, **VARIANTS[variant])
    save_ctranslate2(model, tmp_path)
    assert of_ours(model, num_beams=1)[0] == of_library(tmp_path, beam_size=1)[0]
    tokens, scores = of_ours(model, num_beams=4, length_penalty=0.6, **CTRANSLATE2_DECODING)
    theirs, expected = of_library(tmp_path, beam_size=4, length_penalty=0.6)
    assert tokens == theirs
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-4, atol=1e-5)


RULES = [(4, 1.0, 0.6, 1), (4, 2.0, 0.6, 4), (4, 0.5, 0.6, 2), (3, 1.5, 1.0, 3), (4, 1.0, 0.0, 1)]
RULES += [(4, 1.0, 0.0, 3), (4, 1.0, -0.5, 2), (12, 1.0, 1.0, 2)]


@pytest.mark.parametrize(("beams", "patience", "alpha", "returned"), RULES)
def test_its_rules_are_a_mode_of_ours(
    beams: int, patience: float, alpha: float, returned: int, translating_folder: Path
) -> None:
    model = translating_model(dtype=torch.float32)
    theirs, expected = of_library(
        translating_folder,
        beam_size=beams,
        patience=patience,
        length_penalty=alpha,
        num_hypotheses=returned,
    )
    mode = CTRANSLATE2_DECODING | {
        "num_beams": beams,
        "patience": patience,
        "length_penalty": alpha,
        "num_return_sequences": returned,
    }
    engine = load_engine("ctranslate2", translating_folder)
    for system, options in ((model, {}), (model, {"fast": False}), (engine, {})):
        tokens, scores = of_ours(system, **mode, **options)
        assert tokens == theirs
        torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def translating_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ctranslate2")
    save_ctranslate2(translating_model(dtype=torch.float32), folder)
    return folder


@pytest.mark.parametrize("value", [0, -1.0, "2", True, float("nan")])
def test_patience_is_a_positive_number(value: Any) -> None:
    with pytest.raises(ValueError, match="`patience` must be a positive number, but is"):
        toy_model().generate(torch.tensor([[5, 2]]), num_beams=2, patience=value)


def test_as_many_hypotheses_as_end_can_be_returned() -> None:
    with pytest.raises(ValueError, match="must be at most `num_beams` \\* `patience`, 2, but is 3 instead"):
        toy_model().generate(torch.tensor([[5, 2]]), num_beams=4, patience=0.5, num_return_sequences=3)


@pytest.mark.parametrize(
    "options",
    [
        {"bad_words_ids": [[6], [15, 15]]},
        {"suppress_tokens": [6, 7]},
        {"no_repeat_ngram_size": 2, "suppress_tokens": [1]},
        {"min_new_tokens": 6},
        {"min_length": 7},
        {"bad_words_ids": [[2], [6]]},
        {"forced_bos_token_id": 7},
    ],
)
def test_options_that_it_has_do_the_same(options: dict[str, Any], translating_folder: Path) -> None:
    model, engine = (
        translating_model(dtype=torch.float32),
        load_engine("ctranslate2", translating_folder),
    )
    settings: list[dict[str, Any]] = [{"num_beams": 1}]
    if "forced_bos_token_id" not in options:
        settings.append({"num_beams": 4, **CTRANSLATE2_DECODING})
    for one in settings:
        tokens = [system.generate(**batch(), **one, **options) for system in (model, engine)]
        assert torch.equal(*tokens)
        assert not torch.equal(tokens[0], model.generate(**batch(), **one))


@pytest.mark.parametrize("name", ["min_length", "min_new_tokens"])
def test_a_least_length_makes_a_search_inexact_unless_probabilities_are_shared_out(name: str) -> None:
    rules: dict[str, Any] = {"num_beams": 4, "patience": 1.0, "length_penalty_type": "power", name: 6}
    assert not is_exact(GenerationConfig(**rules))
    assert is_exact(GenerationConfig(**rules, renormalize_logits=True))
    assert is_exact(GenerationConfig(**rules | {name: 0}))


def test_each_sentence_has_its_own_limit(translating_folder: Path) -> None:
    model, engine = (
        translating_model(dtype=torch.float32),
        load_engine("ctranslate2", translating_folder),
    )
    patient = CTRANSLATE2_DECODING | {"num_beams": 3, "patience": 2.0}
    for options in ({"num_beams": 1}, patient, patient | {"fast": False}):
        tokens = [
            system.generate(**batch(), max_length_beyond_source=2, **options) for system in (model, engine)
        ]
        assert torch.equal(*tokens)
        cut = [
            row
            for row, source in zip(tokens[0][:, 1:].tolist(), sources(), strict=True)
            if 2 not in row[: len(source) + 2]
        ]
        assert len({len(row) - row.count(0) - row.count(2) for row in cut}) > 3


def test_the_papers_search_is_its_n_best_ranked_anew(
    translating_folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores are the GNMT form's of the model's log-probabilities; most translations are the exact ones."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    warn_once: Any = transformers_logging.warning_once
    warn_once.cache_clear()  # another test may have been warned
    model, engine = (
        translating_model(dtype=torch.float32),
        load_engine("ctranslate2", translating_folder),
    )
    exact, _ = of_ours(model, **PAPER_DECODING)
    tokens, scores = of_ours(engine, **PAPER_DECODING)
    assert "this beam search is approximate" in caplog.text
    assert sum(one == other for one, other in zip(exact, tokens, strict=True)) >= 0.8 * len(exact)
    for source, target, score in zip(sources(), tokens, scores.tolist(), strict=True):
        with torch.no_grad():
            logits = model(
                input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[1, *target[:-1]]])
            ).logits[0]
        log_prob = logits.log_softmax(-1)[torch.arange(len(target)), torch.tensor(target)].sum()
        expected = float(log_prob / ((5 + len(target)) / 6) ** 0.6)
        assert score == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_marian_goes_through_to_ctranslate2(tmp_path: Path) -> None:
    """Bias of the logits, swish, split sinusoids, a pad that starts, banned pads."""
    ours = from_marian(marian_model(VOCABULARY))
    engine = exported(ours, tmp_path)
    pad_id: Any = ours.config.pad_token_id
    ids, mask = pad([[*one[:-1], 0] for one in sources()], filler=pad_id)
    assert engine.generation_config.forced_eos_token_id is None
    # CTranslate2 forces no end token where a translation is cut.
    ours.generation_config.forced_eos_token_id = None
    for options in ({"num_beams": 1}, {"num_beams": 4, **CTRANSLATE2_DECODING}):
        found = engine.generate(ids, mask, max_new_tokens=20, **options)
        assert torch.equal(found, ours.generate(ids, attention_mask=mask, max_new_tokens=20, **options))


@pytest.mark.parametrize("kind", ["int8", "int8_float32"])
def test_int8_weights_are_rounded_row_by_row(kind: str, tmp_path: Path) -> None:
    """Computed in float32, they translate as ours do once each row is brought to 127 steps and back."""
    model = translating_model(dtype=torch.float32)
    save_ctranslate2(model, tmp_path, quantization=kind)
    exact = translating_model(dtype=torch.float32).state_dict()
    assert all(torch.equal(tensor, exact[name]) for name, tensor in model.state_dict().items())
    stored: Any = load_engine("ctranslate2", tmp_path)
    assert stored.translator.compute_type.startswith("int8")
    for parameter in model.parameters():
        if parameter.ndim == 2:
            steps = 127 / parameter.data.abs().amax(-1, keepdim=True)
            parameter.data = (parameter.data * steps).round() / steps
    computed = load_engine("ctranslate2", tmp_path, compute_type="float32")
    assert of_ours(computed, num_beams=1)[0] == of_ours(model, num_beams=1)[0]


def test_half_precision_weights_are_stored_in_full(tmp_path: Path) -> None:
    model = translating_model(dtype=torch.bfloat16)
    engine = exported(model, tmp_path)
    assert of_ours(model.float(), num_beams=1)[0] == of_ours(engine, num_beams=1)[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_function": "mish"}, "`activation_function` must be one of relu"),
        ({"encoder_layers": 0}, "`encoder_layers` must be positive for CTranslate2, but is 0 instead."),
        ({"eos_token_id": [2, 3]}, r"`eos_token_id` must be one token for CTranslate2, but is \[2, 3\]"),
        ({"pad_token_id": None}, "`pad_token_id` must be one token for CTranslate2, but is None instead."),
    ],
)
def test_what_has_no_place_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_ctranslate2(toy_model(**changes))


def test_another_end_token_of_the_generation_config_is_refused() -> None:
    model = toy_model()
    model.generation_config.eos_token_id = 3
    with pytest.raises(InputError, match="`eos_token_id` of the generation config must be the model's, 2"):
        to_ctranslate2(model)
    with pytest.raises(InputError, match="`quantization` must be one of float32"):
        save_ctranslate2(toy_model(), "nowhere", quantization="int4")


def test_vocabularies_of_another_export_go(tmp_path: Path) -> None:
    two = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 31}
    for changes, there in (({}, {"shared"}), (two, {"source", "target"}), ({}, {"shared"})):
        save_ctranslate2(toy_model(**changes), tmp_path)
        found = {path.name.removesuffix("_vocabulary.json") for path in tmp_path.glob("*_vocabulary.json")}
        assert found == there
    assert not list(tmp_path.glob(".*"))


def test_names_of_tokens_are_all_different(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    size = len(tiny_tokenizer) + 3
    names = token_names(tiny_tokenizer, size, target=False)
    assert names[: len(tiny_tokenizer)] == tiny_tokenizer.convert_ids_to_tokens(
        list(range(len(tiny_tokenizer)))
    )
    assert len(set(names)) == size


def test_each_side_is_named_by_its_vocabulary(tmp_path: Path) -> None:
    special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    sides = [special | {"the": 4, "cat": 5}, special | {"le": 4, "chat": 5}]
    fairseq = FairseqTokenizer(vocab=sides[0], target_vocab=sides[1])
    theirs = fsmt_tokenizer(tmp_path)
    theirs.save_pretrained(tmp_path)
    marian: Any = marian_tokenizer(tmp_path, separate=True)
    tokenizers: list[tuple[Any, list[dict[str, int]]]] = [
        (fairseq, sides),
        (marian, [marian.encoder, marian.target_encoder]),
    ]
    for one in (theirs, FsmtTokenizer.from_pretrained(tmp_path)):
        tokenizers.append((one, [one.encoder, {token: number for number, token in one.decoder.items()}]))
    for tokenizer, (source, target) in tokenizers:
        assert source != target
        for vocabulary, is_target in ((source, False), (target, True)):
            names = token_names(tokenizer, len(vocabulary), target=is_target)
            assert {name: number for number, name in enumerate(names)} == vocabulary


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (1, ("cuda", 1)),
        ("cuda:1", ("cuda", 1)),
        (torch.device("cuda:3"), ("cuda", 3)),
        ("cuda", ("cuda", 0)),
        (0, ("cuda", 0)),
        (-1, ("cpu", 0)),
        ("cpu", ("cpu", 0)),
    ],
)
def test_one_gpu_of_several_is_chosen(
    device: Any, expected: tuple[str, int], translating_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(ctranslate2, "Translator", lambda folder, **options: given.update(options))
    engine, options = _exported(translating_folder, {"backend": "ctranslate2", "device": device})
    assert (given["device"], given["device_index"]) == expected
    assert options == {"device": engine.device}
    assert engine.to(f"{expected[0]}:{expected[1]}") is engine
    assert engine.to(expected[0] if expected[1] == 0 else engine.device) is engine
    with pytest.raises(InputError, match="`device` must be chosen when a model of CTranslate2 is loaded"):
        engine.to(torch.device("cuda", 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"do_sample": True}, "`do_sample` True is not available with CTranslate2."),
        ({"temperature": 0.5}, "`temperature` 0.5 is not available with CTranslate2."),
        ({"decoder_input_ids": 3}, "`decoder_input_ids` 3 is not available"),
        ({"eos_token_id": 7}, "`eos_token_id` 7 is not available"),
    ],
)
def test_an_option_that_it_lacks_is_named(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = translating_model(dtype=torch.float32, position_embedding="learned")
    engine = exported(model, tmp_path)
    with pytest.raises(InputError, match=message):
        engine.generate(torch.tensor([[5, 2]]), num_beams=1, suppress_tokens=[2], **options)


def test_learned_positions_bound_what_is_written_as_they_do_in_the_model(tmp_path: Path) -> None:
    model = translating_model(dtype=torch.float32, position_embedding="learned", max_position_embeddings=9)
    options: dict[str, Any] = {"num_beams": 1, "suppress_tokens": [2], "max_new_tokens": 3000}
    found = exported(model, tmp_path).generate(torch.tensor([[5, 2]]), **options)
    assert torch.equal(found, model.generate(torch.tensor([[5, 2]]), **options))
    assert found.shape == (1, 9)


def test_a_table_of_positions_limits_what_is_read_and_written(tmp_path: Path) -> None:
    model = translating_model(dtype=torch.float32)
    save_ctranslate2(model, tmp_path, positions=9)
    engine = load_engine("ctranslate2", tmp_path)
    assert engine.config.exported_positions == 9
    found = engine.generate(torch.tensor([[5, 9, 2]]), num_beams=1, suppress_tokens=[2])
    assert found.shape == (1, 10)
    with pytest.raises(InputError, match="No position encodings are defined for positions >= 9"):
        engine.generate(torch.full((1, 10), 5), num_beams=1)
    with pytest.raises(InputError, match=r"`input_ids` must be below `vocab_size` \(23\), but reach 99."):
        engine.generate(torch.tensor([[99, 2]]))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.bin", lambda data: data[: len(data) // 2], "cannot be loaded by CTranslate2: "),
        ("model.bin", lambda data: b"garbage" * 99, "cannot be loaded by CTranslate2: "),
        ("config.json", lambda data: data[:99], "cannot be loaded: "),
        ("generation_config.json", lambda data: b"[", "cannot be loaded: "),
        (
            "shared_vocabulary.json",
            lambda data: b'["a"]',
            "must be a list of 23 different tokens, but is not.",
        ),
        ("shared_vocabulary.json", lambda data: b"[", "shared_vocabulary.json` cannot be read: "),
        (
            "config.json",
            lambda data: data.replace(b'"decoder_start_token": "<1>"', b'"decoder_start_token": null'),
            "`decoder_start_token` in `.*config.json` must be that of the generation config.",
        ),
    ],
)
def test_a_damaged_folder_is_one_line(
    name: str, damage: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    save_ctranslate2(toy_model(), tmp_path)
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        load_engine("ctranslate2", tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_the_pipeline_runs_an_exported_folder(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """Without the original: tokenizer and configuration lie beside the weights."""
    model = translating_model(dtype=torch.float32, vocab_size=len(tiny_tokenizer))
    set_decoding(model.generation_config, num_beams=2, **CTRANSLATE2_DECODING)
    save_ctranslate2(model, tmp_path, tiny_tokenizer)
    texts = ["w1 w2 w3", "", "w4 w5 n1 w7 w8"]
    options = {"num_return_sequences": 2, "max_length_beyond_source": 4}
    expected: Any = pipeline("translation", model, tiny_tokenizer, device="cpu")(texts, **options)
    translator = pipeline("translation", tmp_path, backend="ctranslate2", compute_type="float32")
    found: Any = translator(texts, **options)
    for one, other in zip(found, expected, strict=True):
        assert [record["translation_text"] for record in one] == [r["translation_text"] for r in other]
        assert [record["score"] for record in one] == pytest.approx([r["score"] for r in other], abs=1e-4)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "vanilla_transformer"
    with pytest.raises(InputError, match="`attention` weights are not available with CTranslate2."):
        translator(texts[0], return_attention=True)
    with pytest.raises(InputError, match="cannot be saved; copy its folder"):
        translator.save_pretrained(tmp_path / "copy")
    with pytest.raises(ValueError, match="`dtype` is not available with `backend='ctranslate2'`."):
        pipeline("translation", tmp_path, backend="ctranslate2", dtype="float16")
    with pytest.raises(ValueError, match="`backend` needs an exported folder, but `model` is a"):
        pipeline("translation", model, tiny_tokenizer, backend="ctranslate2")
