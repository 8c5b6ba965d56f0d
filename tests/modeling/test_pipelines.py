"""The pipelines of transformers with each head and our tokenizer, from a folder that both are saved in."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import parallel_sentences
from peft import get_peft_model
from transformers import pipeline

from vanilla_transformer import (
    InputError,
    VanillaTransformerConfig,
    VanillaTransformerDecoderModel,
    VanillaTransformerEncoderModel,
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
    VanillaTransformerModel,
    VanillaTransformerTokenizer,
    translate,
)
from vanilla_transformer.modeling.loading import check_vocabulary
from vanilla_transformer.modeling.pipelines import pipeline as own_pipeline
from vanilla_transformer.training import lora_config

from .toy import assert_parity, toy_head, translating_model

TEXTS = [source for source, _ in parallel_sentences(40)]
PAIR = [TEXTS[0], TEXTS[1]]


@pytest.fixture(scope="module")
def tokenizer() -> VanillaTransformerTokenizer:
    return VanillaTransformerTokenizer.train_from_iterator(TEXTS, vocab_size=300, min_frequency=1)


def saved_pipeline(task: str, kind: Any, tokenizer: Any, folder: Path, **changes: Any) -> Any:
    model = toy_head(kind, dtype=torch.float32, vocab_size=len(tokenizer), **changes)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    make: Any = pipeline
    found = make(task, model=str(folder))
    assert type(found.model) is kind and type(found.tokenizer) is VanillaTransformerTokenizer
    return found


def logits(found: Any, texts: list[str]) -> torch.Tensor:
    inputs = found.tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        result: torch.Tensor = found.model(**inputs).logits
    return result


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_text_classification(problem: str, tokenizer: Any, tmp_path: Path) -> None:
    labels = {0: "news", 1: "sport", 2: "weather"}
    found = saved_pipeline(
        "text-classification",
        VanillaTransformerForSequenceClassification,
        tokenizer,
        tmp_path,
        id2label=labels,
        problem_type=problem,
    )
    raw = logits(found, PAIR)
    expected = raw.softmax(-1) if problem.startswith("single") else raw.sigmoid()
    for results, row in zip(found(PAIR, top_k=None, batch_size=2), expected, strict=True):
        scores = {result["label"]: result["score"] for result in results}
        assert [scores[name] for name in labels.values()] == pytest.approx(row.tolist(), rel=1e-4)


def test_token_classification(tokenizer: Any, tmp_path: Path) -> None:
    found = saved_pipeline(
        "token-classification", VanillaTransformerForTokenClassification, tokenizer, tmp_path, num_labels=3
    )
    entities = found(TEXTS[0], ignore_labels=[])
    best = logits(found, PAIR[:1])[0].argmax(-1).tolist()
    ids = found.tokenizer(TEXTS[0])["input_ids"]
    assert [entity["entity"] for entity in entities] == [f"LABEL_{k}" for k in best[: len(ids) - 1]]
    assert "".join(TEXTS[0][entity["start"] : entity["end"]] for entity in entities) == TEXTS[0]


@pytest.mark.parametrize(
    "kind", [VanillaTransformerEncoderModel, VanillaTransformerDecoderModel, VanillaTransformerModel]
)
def test_feature_extraction(kind: Any, tokenizer: Any, tmp_path: Path) -> None:
    found = saved_pipeline("feature-extraction", kind, tokenizer, tmp_path)
    ids = found.tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        expected = found.model(**ids)[0]
    assert_parity(found(TEXTS[0], return_tensors=True), expected)


def test_fill_mask(tmp_path: Path) -> None:
    """The tokenizer takes a text as it stands until it is told that `<mask>` in it is the mask."""
    masked = VanillaTransformerTokenizer.train_from_iterator(TEXTS, vocab_size=300, min_frequency=1)
    masked.add_special_tokens({"mask_token": "<mask>"})
    found = saved_pipeline("fill-mask", VanillaTransformerForMaskedLM, masked, tmp_path)
    texts = [f"{TEXTS[0]} <mask>", f"<mask> {TEXTS[1]}"]
    raw = logits(found, texts)
    for text, results, row in zip(texts, found(texts, top_k=3), raw, strict=True):
        ids = found.tokenizer(text)["input_ids"]
        assert ids.count(4) == 1
        scores, tokens = row[ids.index(4)].softmax(-1).topk(3)
        assert [result["token"] for result in results] == tokens.tolist()
        assert [result["score"] for result in results] == pytest.approx(scores.tolist(), rel=1e-4)


def test_text_generation(tmp_path: Path) -> None:
    """A prompt begins with <s> and does not end: two switches of the tokenizer, which it keeps."""
    prompts: Any = VanillaTransformerTokenizer.train_from_iterator(TEXTS, vocab_size=300, min_frequency=1)
    prompts.add_bos_token, prompts.add_eos_token = True, False
    prompts.update_post_processor()
    found = saved_pipeline("text-generation", VanillaTransformerForCausalLM, prompts, tmp_path)
    settings: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False}
    together = found(PAIR, batch_size=2, return_tensors=True, **settings)
    for text, (result,) in zip(PAIR, together, strict=True):
        ids = found.tokenizer(text, return_tensors="pt")["input_ids"]
        assert ids[0, 0] == 1 and ids[0, -1] != 2
        alone = found.model.generate(ids, **settings)[0].tolist()
        assert [token for token in result["generated_token_ids"] if token != 0] == alone
    (result,) = found(TEXTS[0], **settings)
    assert result["generated_text"].startswith(TEXTS[0])


def test_an_adapted_model_has_the_tokenizer_of_its_folder(tokenizer: Any, tmp_path: Path) -> None:
    """In PEFT's wrapper, which is no class of transformers."""
    translating_model(dtype=torch.float32, vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    kind: Any = VanillaTransformerForConditionalGeneration
    base = kind.from_pretrained(tmp_path)
    before: Any = own_pipeline("translation", base, device="cpu")(TEXTS[:4], max_new_tokens=6)
    torch.manual_seed(0)
    adapted: Any = get_peft_model(base, lora_config(base, r=4, init_lora_weights=False)).eval()
    found: Any = own_pipeline("translation", adapted, device="cpu")
    assert type(found.tokenizer) is VanillaTransformerTokenizer
    after: Any = found(TEXTS[:4], max_new_tokens=6)
    assert len(after) == 4 and after != before
    base.name_or_path = ""
    anything: Any = object()
    for model in (base, adapted, anything):
        with pytest.raises(ValueError, match="`tokenizer` must be given, as the model was not loaded"):
            own_pipeline("translation", model)


def test_options_of_loading_reach_the_model(tokenizer: Any, tmp_path: Path) -> None:
    toy_head(
        VanillaTransformerForConditionalGeneration,
        vocab_size=len(tokenizer),
        decoder_vocab_size=len(tokenizer),
    ).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    kinds: tuple[dict[str, Any], ...] = (
        {"dtype": torch.bfloat16, "attn_implementation": "eager"},
        {"torch_dtype": torch.bfloat16, "model_kwargs": {"attn_implementation": "eager"}},
    )
    for options in kinds:
        found: Any = own_pipeline("translation", str(tmp_path), device="cpu", num_beams=1, **options)
        assert found.model.dtype == torch.bfloat16
        assert found.model.config._attn_implementation == "eager"
        (expected,) = translate(found.model, tokenizer, TEXTS[:1], num_beams=1, max_length=4)
        assert found(TEXTS[0], max_length=4)[0]["translation_text"] == expected
    assert kinds[1]["model_kwargs"] == {"attn_implementation": "eager"}  # the caller's, as it was


def test_a_tokenizer_larger_than_the_model_is_refused(tiny_tokenizer: Any) -> None:
    config = VanillaTransformerConfig(vocab_size=len(tiny_tokenizer))
    check_vocabulary(tiny_tokenizer, config)
    config.vocab_size -= 1
    with pytest.raises(InputError, match=f"has {len(tiny_tokenizer)} entries, but `vocab_size` of the model"):
        check_vocabulary(tiny_tokenizer, config)


def test_options_of_loading_reach_the_tokenizer_in_either_place(tokenizer: Any, tmp_path: Path) -> None:
    translating_model(dtype=torch.float32, vocab_size=len(tokenizer)).save_pretrained(tmp_path / "inner")
    tokenizer.save_pretrained(tmp_path / "inner")
    places: tuple[dict[str, Any], ...] = ({"subfolder": "inner"}, {"model_kwargs": {"subfolder": "inner"}})
    for options in places:
        found: Any = own_pipeline("translation", str(tmp_path), device="cpu", **options)
        assert found.tokenizer.get_vocab() == tokenizer.get_vocab()
    with pytest.raises(ValueError, match="`subfolder` is not available with `backend='onnx'`"):
        own_pipeline("translation", str(tmp_path), backend="onnx", **places[1])
