"""fairseq: logits, translations and texts are those of its own classes; see `fairseq_fixture`."""

import argparse
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, MarianTokenizer

from vanilla_transformer import FairseqTokenizer, InputError, pipeline
from vanilla_transformer.interop import from_fairseq, load_fairseq
from vanilla_transformer.interop.fairseq import SAFE_CLASSES
from vanilla_transformer.interop.fairseq_text import read_dictionary
from vanilla_transformer.interop.weights import read_foreign_file
from vanilla_transformer.scripts import convert

from ..modeling.toy import assert_parity
from .test_weights import hostile_file

FIXTURES = Path(__file__).parent / "fairseq_fixture"
VARIANTS = sorted(path.parent.name for path in FIXTURES.glob("*/expected.json"))
PAD, EOS = 1, 2


def expected_of(variant: str) -> dict[str, Any]:
    """What fairseq computed."""
    expected: dict[str, Any] = json.loads((FIXTURES / variant / "expected.json").read_text("utf-8"))
    return expected


def batch_of(expected: dict[str, Any], steps: int | None = None) -> dict[str, torch.Tensor]:
    """fairseq's own padded batch: sources behind padding, the first `steps` tokens of targets before it."""
    source, target = (torch.tensor(expected[name]) for name in ("src_tokens", "prev_output_tokens"))
    target = target[:, :steps]
    return {
        "input_ids": source,
        "attention_mask": source.ne(PAD).long(),
        "decoder_input_ids": target,
        "decoder_attention_mask": target.ne(PAD).long(),
    }


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> tuple[Any, Any, dict[str, Any]]:
    """Our model and tokenizer out of a checkpoint, and what fairseq computed with it."""
    model, tokenizer = load_fairseq(FIXTURES / request.param)
    return model, tokenizer, expected_of(request.param)


def test_all_eras_are_there() -> None:
    assert len(VARIANTS) == 9
    assert {expected_of(name)["fairseq"][:7] for name in VARIANTS} == {"e642252", "df2f84c", "3d262bb"}


def test_logits_are_those_of_fairseq(variant: tuple[Any, Any, dict[str, Any]]) -> None:
    model, _, expected = variant
    reference = torch.tensor(expected["logits"])  # of the first tokens
    batch = batch_of(expected, reference.shape[1])
    real = batch["decoder_attention_mask"].bool()
    with torch.no_grad():
        assert_parity(model(**batch).logits[real], reference[real])
    # All targets begin alike: what differs there comes from the sources.
    assert not batch["attention_mask"].bool().all() and reference[:, 0].std(0).max() > 0.1


def test_translations_and_scores_are_those_of_fairseq(variant: tuple[Any, Any, dict[str, Any]]) -> None:
    model, _, expected = variant
    batch = batch_of(expected)
    for search in expected["searches"]:
        found = model.generate(
            **{name: batch[name] for name in ("input_ids", "attention_mask")},
            num_beams=search["beam"],
            length_penalty=search["lenpen"],
            max_new_tokens=search["max_len_b"] + 1,
            return_dict_in_generate=True,
            output_scores=True,
        )
        best = [each[0] for each in search["tokens"]]
        tokens = [row[1:][: len(one)] for row, one in zip(found.sequences.tolist(), best, strict=True)]
        assert tokens == best, search
        if search["beam"] > 1:
            scores = torch.tensor([each[0] for each in search["scores"]])
            torch.testing.assert_close(found.sequences_scores, scores, rtol=1e-5, atol=1e-5)


def test_by_itself_a_model_generates_as_fairseq_generate(variant: tuple[Any, Any, dict[str, Any]]) -> None:
    config = variant[0].generation_config
    assert (config.num_beams, config.length_penalty, config.early_stopping) == (5, 1.0, True)
    longest = 40 if variant[0].config.position_embedding == "learned" else 201
    assert (config.min_new_tokens, config.max_new_tokens) == (1, longest)


def test_texts_are_those_of_fairseq(variant: tuple[Any, Any, dict[str, Any]], tmp_path: Path) -> None:
    _, tokenizer, expected = variant
    tokenizer.save_pretrained(tmp_path)
    again: Any = AutoTokenizer.from_pretrained(tmp_path)
    sources = [[token for token in row if token != PAD] for row in expected["src_tokens"]]
    targets = [[*(token for token in row[1:] if token != PAD), EOS] for row in expected["prev_output_tokens"]]
    for words in (tokenizer, again):
        encoded = words(expected["sentences"], text_target=expected["targets"])
        assert encoded["input_ids"] == sources
        assert encoded["labels"] == targets
        for search in expected["searches"]:
            best = [each[0] for each in search["tokens"]]
            assert words.batch_decode(best, skip_special_tokens=True) == search["texts"]
    assert any(3 in row for row in sources)  # a word of unknown letters


def test_what_is_converted_translates_in_the_pipeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, kind in (("args-separate", FairseqTokenizer), ("cfg-sentencepiece", MarianTokenizer)):
        output = tmp_path / name
        assert convert.main(["--from", "fairseq", str(FIXTURES / name), "--output", str(output)]) == 0
        assert isinstance(AutoTokenizer.from_pretrained(output), kind)
        expected = expected_of(name)
        search = next(one for one in expected["searches"] if one["beam"] == 4)
        translator: Any = pipeline("translation", str(output))
        found = translator(expected["sentences"], num_beams=4)
        assert [one["translation_text"] for one in found] == search["texts"]
    capsys.readouterr()


def test_settings_that_a_checkpoint_lacks_can_be_given(tmp_path: Path) -> None:
    variant = "args-separate"
    shutil.copytree(FIXTURES / variant, tmp_path / "data")
    (tmp_path / "data" / "model.pt").rename(tmp_path / "checkpoint_best.pt")
    codes = (tmp_path / "data" / "bpecodes").rename(tmp_path / "codes.txt")
    with pytest.raises(InputError, match=r"dict\.xa\.txt` cannot be read"):
        load_fairseq(tmp_path)
    changes = {"data": str(tmp_path / "data"), "bpe": "subword_nmt", "bpe_codes": str(codes)}
    _, words = load_fairseq(tmp_path / "checkpoint_best.pt", changes)
    with pytest.raises(InputError, match="`bpe` must be given beside `bpe_codes`"):
        load_fairseq(tmp_path, {name: value for name, value in changes.items() if name != "bpe"})
    expected = expected_of(variant)
    sources = [[token for token in row if token != PAD] for row in expected["src_tokens"]]
    assert words(expected["sentences"])["input_ids"] == sources
    assert load_fairseq(tmp_path, with_tokenizer=False)[1] is None


def changed(variant: str, settings: dict[str, Any], **tensors: Any) -> dict[str, Any]:
    """What the checkpoint of `variant` holds, settings and tensors changed, or tensors (None) taken away."""
    state: dict[str, Any] = read_foreign_file(FIXTURES / variant / "model.pt", safe_classes=SAFE_CLASSES)
    args = state["args"] if state.get("args") else state["cfg"]["model"]
    vars(args).update(settings)
    weights = dict(state["model"]) | tensors
    state["model"] = {name: tensor for name, tensor in weights.items() if tensor is not None}
    return state


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layernorm_embedding": True}, "`layernorm_embedding` must be None or False for this architecture"),
        (
            {"adaptive_softmax_cutoff": "10,20"},
            "`adaptive_softmax_cutoff` must be None for this architecture",
        ),
        ({"no_cross_attention": True}, "`no_cross_attention` must be"),
        ({"cross_self_attention": True}, "`cross_self_attention` must be"),
        ({"encoder_layers_to_keep": "0"}, "`encoder_layers_to_keep` must be None"),
        ({"quant_noise_pq": 0.1}, "`quant_noise_pq` must be None or 0"),
        ({"decoder_embed_dim": 32}, "`decoder_embed_dim` must be `encoder_embed_dim` (16)"),
        (
            {"decoder_normalize_before": False},
            "`decoder_normalize_before` must be `encoder_normalize_before`",
        ),
        ({"decoder_learned_pos": True}, "`decoder_learned_pos` must be `encoder_learned_pos` (False)"),
        ({"activation_fn": "swish"}, "`activation_fn` must be one of relu, gelu"),
        ({"encoder_attention_heads": 3}, "`d_model` must be divisible by `encoder_attention_heads`"),
        ({"encoder_attention_heads": "four"}, ""),
        ({"dropout": None}, ""),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        from_fairseq(changed("args-separate", settings))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert next(iter(settings)) in str(caught.value)


def test_settings_of_a_stack_may_be_a_group_of_their_own() -> None:
    state = changed("cfg-shared", {})
    expected = from_fairseq(state).config.to_dict()
    settings = vars(state["cfg"]["model"])
    groups: dict[str, Any] = {"encoder": {}, "decoder": {}}
    for name in list(settings):
        stack, _, rest = name.partition("_")
        if stack in groups and rest:
            groups[stack][rest] = settings.pop(name)
    state["cfg"]["model"] = settings | groups
    assert from_fairseq(state).config.to_dict() == expected


@pytest.mark.parametrize(
    ("variant", "tensors", "message"),
    [
        ("args-separate", {"decoder.layer_norm.weight": None}, "`no_decoder_final_norm` must be False"),
        ("args-separate", {"decoder.embed_out": None}, "weights `lm_head.weight` must be a matrix"),
        ("args-separate", {"encoder.embed_tokens.weight": torch.ones(3)}, "weights `model.encoder.embed_tok"),
        ("args-separate", {"encoder.extra": torch.ones(3)}, "weights `model.encoder.extra` are not known."),
        (
            "args-separate",
            {"decoder.layers.0.fc2.bias": torch.ones(3)},
            "weights `model.decoder.layers.0.fc2",
        ),
        (
            "args-separate",
            {"decoder.layers.1.fc2.bias": None},
            "weights `model.decoder.layers.1.fc2.bias` are m",
        ),
        (
            "first-names",
            {"encoder.layers.0.self_attn.in_proj_weight": torch.ones(1)},
            "weights `model.encoder.",
        ),
        ("first-names", {"encoder.layers.0.layer_norms.7.bias": torch.ones(1)}, "weights `model.encoder."),
        (
            "args-learned",
            {"decoder.embed_positions.weight": torch.ones(5, 16)},
            "`max_target_positions` must be",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(variant: str, tensors: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        from_fairseq(changed(variant, {}, **tensors))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([1], "a checkpoint must be a dict, but is a list instead."),
        ({"model": {}}, "the settings of a checkpoint must be its `args` or its `cfg`, but it has neither."),
        (
            {"args": argparse.Namespace(), "model": 3},
            "`model` must be tensors by name, but is a int instead.",
        ),
    ],
)
def test_files_of_something_else_are_refused(state: Any, message: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(InputError) as caught:
        load_fairseq(tmp_path)
    assert str(caught.value) == f"`{tmp_path / 'model.pt'}`: {message}"


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_hostile_checkpoint_runs_nothing(kind: str, tmp_path: Path) -> None:
    mark = hostile_file(tmp_path / "model.pt", kind)
    with pytest.raises(InputError, match="model.pt` is damaged or holds more than weights") as caught:
        load_fairseq(tmp_path)
    assert "\n" not in str(caught.value) and not mark.exists()


def test_a_checkpoint_cut_short_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (FIXTURES / "args-separate" / "model.pt").read_bytes()
    for size in (0, 1, 1000, len(whole) // 2, -1):
        (tmp_path / "model.pt").write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"model\.pt` is damaged") as caught:
            load_fairseq(tmp_path)
        assert "\n" not in str(caught.value)
    words = ["--from", "fairseq", str(tmp_path), "--output", str(tmp_path / "out")]
    assert convert.main(words) == 2
    assert capsys.readouterr().err.startswith("error: ") and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "content", "changes", "message"),
    [
        ("dict.xa.txt", "a 1\nb\n", {}, "line 2, must be a token and its count, but is 'b'."),
        ("dict.xa.txt", "a 1\nb x\n", {}, "line 2, must be a token and its count, but is 'b x'."),
        ("dict.xa.txt", "a 1\na 1\n", {}, "line 2, repeats the token 'a'."),
        ("dict.xa.txt", "a 1\n", {}, "dict.xa.txt` has 5 tokens, but the model has 48."),
        ("dict.xa.txt", b"\xff 1\n", {}, "dict.xa.txt` is not UTF-8."),
        (
            "bpecodes",
            "#version: 0.2\na b\na\n",
            {},
            "line 3 of `merges` must be a pair of pieces, but is 'a'",
        ),
        ("bpecodes", b"\xff", {}, "bpecodes` is not UTF-8."),
        (
            "none",
            "",
            {"bpe": "gpt2"},
            "`bpe` must be None or one of subword_nmt, fastbpe, sentencepiece, but",
        ),
        (
            "none",
            "",
            {"bpe": "sentencepiece"},
            "`sentencepiece_model` must be a file for `bpe` 'sentencepiece'",
        ),
        ("none", "", {"tokenizer": "nltk"}, "`tokenizer` must be None, 'space' or 'moses', but is 'nltk'"),
        ("none", "", {"source_lang": None}, "`source_lang` must be given: the checkpoint does not tell it."),
        ("none", "", {"colour": 1}, "but have 'colour'."),
        (
            "sentencepiece.bpe.model",
            b"spm",
            {"bpe": "sentencepiece"},
            "sentencepiece.bpe.model` cannot be loaded",
        ),
    ],
)
def test_texts_files_that_do_not_fit_are_named(
    file: str, content: str | bytes, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(FIXTURES / "args-separate", folder)
    (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as caught:
        load_fairseq(folder, changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "dropout"),
    [({"relu_dropout": 0.2}, 0.2), ({"relu_dropout": 0.2, "activation_dropout": 0.3}, 0.3), ({}, 0.0)],
)
def test_the_first_name_of_activation_dropout_is_known(settings: dict[str, Any], dropout: float) -> None:
    state = changed("first-names", settings)
    assert from_fairseq(state).config.activation_dropout == dropout


def test_pieces_without_codes_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    """A checkpoint often does not say how words are split, and the file may have any name."""
    monkeypatch.setattr(logging.getLogger("vanilla_transformer"), "propagate", True)
    folder = tmp_path / "data"
    shutil.copytree(FIXTURES / "args-separate", folder)
    load_fairseq(folder)
    assert "codes" not in caplog.text
    (folder / "bpecodes").rename(folder / "codes.30000")
    load_fairseq(folder, {"bpe": None})
    assert "no codes were found that split words into them: give `bpe` and its file" in caplog.text


def test_a_word_that_overwrites_a_symbol_has_the_later_number(tmp_path: Path) -> None:
    """fairseq keeps the entry of the first and looks up the second."""
    path = tmp_path / "dict.txt"
    path.write_text("a 9\n</s> 3 #fairseq:overwrite\na 2 #fairseq:overwrite\nb 1\n")
    found = read_dictionary(path)
    # Its own special tokens it means by their first numbers.
    assert (found["</s>"], found["a"], found["b"]) == (2, 6, 7)
    assert sorted(found.values()) == list(range(8))


def test_settings_of_a_text_that_is_not_read_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--from", "fairseq", "nowhere", "--config", "x.json", "--tokenizer", "other"]
    assert convert.main([*words, "--output", str(tmp_path / "out")]) == 2
    assert "leave `--tokenizer` out" in capsys.readouterr().err
