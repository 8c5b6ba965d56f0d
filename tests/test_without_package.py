"""A published model in an environment without our package, over a server that speaks the Hub's protocol."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from bare_environment import bare_python
from foreign_toy import enlarged
from helpers import word_tokenizer
from hub_client import hub_client
from hub_server import TOKEN, running_hub
from transformers import MarianConfig, MarianMTModel

import vanilla_transformer as package
from vanilla_transformer import VanillaTransformerTokenizer, pipeline
from vanilla_transformer.modeling.saving_vanilla_transformer import auto_classes, source_files
from vanilla_transformer.training.publishing import publish

TEXT = "a cat sleeps"
TRUST = "trust_remote_code=True"
HEADS = {
    "VanillaTransformerModel": "AutoModel",
    "VanillaTransformerEncoderModel": "AutoModelForTextEncoding",
    "VanillaTransformerDecoderModel": "AutoModel",
    "VanillaTransformerForCausalLM": "AutoModelForCausalLM",
    "VanillaTransformerForMaskedLM": "AutoModelForMaskedLM",
    "VanillaTransformerForSequenceClassification": "AutoModelForSequenceClassification",
    "VanillaTransformerForTokenClassification": "AutoModelForTokenClassification",
}


def tiny(cls: Any, size: int) -> Any:
    """A small model with weights large enough for its translations to differ."""
    torch.manual_seed(0)
    config = package.VanillaTransformerConfig(
        vocab_size=size, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, dropout=0.0,
        tie_word_embeddings=False,
    )  # fmt: skip
    return enlarged(cls(config), seed=1)


def marian(size: int) -> Any:
    config = MarianConfig(
        vocab_size=size, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
        pad_token_id=0, eos_token_id=2, decoder_start_token_id=0, forced_eos_token_id=None,
    )  # fmt: skip
    return enlarged(MarianMTModel(config), seed=1)


def save_heads(folder: Path) -> tuple[dict[str, str], dict[str, list[float]]]:
    """Every head in a folder of its own with its Auto class, and the first numbers that each gives."""
    places, numbers = {}, {}
    for name, auto in HEADS.items():
        model = tiny(getattr(package, name), 30)
        model.save_pretrained(folder / name)
        places[str(folder / name)] = auto
        with torch.no_grad():
            values = model(input_ids=torch.tensor([[5, 6, 7, 2]]))[0].flatten()[:4].tolist()
        numbers[f"{auto} {name}"] = [round(value, 4) for value in values]
    return places, numbers


def test_every_class_of_the_family_is_tried() -> None:
    models = {cls.__name__ for auto, classes in auto_classes().items() for cls in classes if "Model" in auto}
    assert models == {*HEADS, "VanillaTransformerForConditionalGeneration"}


@pytest.mark.slow
def test_somebody_without_our_package_uses_tunes_and_publishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = VanillaTransformerTokenizer.train_from_iterator([TEXT] * 3, vocab_size=276)
    pipe = pipeline(
        "translation",
        tiny(package.VanillaTransformerForConditionalGeneration, len(tokenizer)),
        tokenizer,
        device="cpu",
    )
    pipe.save_pretrained(tmp_path / "run")
    words = word_tokenizer([TEXT])
    foreign = pipeline("translation", marian(len(words)), words, device="cpu")
    foreign.model.save_pretrained(tmp_path / "marian")
    words.save_pretrained(tmp_path / "marian")
    foreign.save_pretrained(tmp_path / "marian-with-code")
    places, numbers = save_heads(tmp_path / "heads")
    expected = pipe(TEXT, max_length=8)
    with running_hub() as hub:
        with hub_client(hub, monkeypatch):
            publish(tmp_path / "run", "me/zh-en", token=TOKEN)
        repository = hub.repositories["me/zh-en"]
        given = {
            "repo": "me/zh-en", "revision": repository.branches["main"], "text": TEXT,
            "marian": str(tmp_path / "marian"), "marian with code": str(tmp_path / "marian-with-code"),
            "folder": str(tmp_path / "run"), "tuned": str(tmp_path / "tuned"), "heads": places,
        }  # fmt: skip
        found = run_child(tmp_path, hub.endpoint, given)
        tuned = set(hub.repositories["me/tuned"].files())
    assert found["hidden"]
    assert found["module"] == "transformers_modules"
    assert found["generate"] == expected[0]["translation_text"] != ""
    assert found["pipeline"] == expected
    assert found["fast steps"].pop("plain") == 0 < min(found["fast steps"].values())
    assert found["tuned"][1] == [{"translation_text": found["tuned"][0]}]
    assert found["marian with code"] == foreign(TEXT, max_length=8)
    assert found["heads"] == numbers
    assert found["files"] == sorted(path.name for path in (tmp_path / "run").iterdir())
    assert {*found["files"], "README.md"} <= tuned
    assert {path.name for path in source_files()} <= set(repository.files())
    check_refusals(found)


def run_child(folder: Path, endpoint: str, given: dict[str, Any]) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home"), "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    child = Path(__file__).with_name("child_without_package.py")
    result = subprocess.run(
        [bare_python(folder), str(child)],
        input=json.dumps(given), cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def check_refusals(found: dict[str, Any]) -> None:
    """Without trust the error says what to do; what transformers cannot do at all is a KeyError."""
    for name in ("model", "tokenizer", "path"):
        assert TRUST in found["refusals"][name].replace("option `", "").replace("`", ""), name
    for name in ("marian path", "marian path, trust", "marian object", "marian object, trust"):
        assert found["refusals"][name].startswith("KeyError"), found["refusals"][name]
    assert found["object, trust"].startswith("KeyError")
