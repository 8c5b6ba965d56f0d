"""Converted models of every source: each trains on, is published whole, and runs in the pipeline."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from training_toy import toy_arguments
from transformers import AutoTokenizer

from vanilla_transformer import FairseqTokenizer, VanillaTransformerTrainer, pipeline
from vanilla_transformer.modeling.hub_vanilla_transformer import check_contents, files_to_send
from vanilla_transformer.scripts import convert
from vanilla_transformer.training.publishing import staged

from ..modeling.toy import toy_model
from .foreign import SENTENCES, fsmt_model, fsmt_tokenizer, marian_model, marian_tokenizer, randomize
from .test_fairseq import FIXTURES

MARIAN_FILES = {"source.spm", "target.spm", "vocab.json"}
# The files that a tokenizer must not lose on its way to the Hub.
SOURCES: dict[str, set[str]] = {
    "marian": MARIAN_FILES,
    "marian-separate": MARIAN_FILES | {"target_vocab.json"},
    "fsmt": {"vocab-src.json", "vocab-tgt.json", "merges.txt"},
    "torch": {"tokenizer.json"},
    "fairseq-codes": {"vocab.json", "target_vocab.json", "merges.txt"},
    "fairseq-words": {"vocab.json"},
    "fairseq-sentencepiece": MARIAN_FILES | {"target_vocab.json"},
}
FAIRSEQ = {"codes": "args-separate", "words": "first-names", "sentencepiece": "cfg-sentencepiece"}


def marian(folder: Path, kind: str) -> list[str]:
    separate = kind == "separate"
    tokenizer: Any = marian_tokenizer(folder, separate=separate)
    target = {"decoder_vocab_size": len(tokenizer.target_encoder)} if separate else {}
    changes = {"pad_token_id": tokenizer.pad_token_id, "share_encoder_decoder_embeddings": not separate}
    marian_model(len(tokenizer.encoder), **changes, **target).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ["--from", "marian", str(folder)]


def fsmt(folder: Path, kind: str) -> list[str]:
    tokenizer: Any = fsmt_tokenizer(folder)
    model = fsmt_model(tokenizer.src_vocab_size, tokenizer.tgt_vocab_size)
    randomize(model, seed=6)  # which translates different sentences differently
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ["--from", "fsmt", str(folder)]


def from_torch(folder: Path, kind: str) -> list[str]:
    from helpers import word_tokenizer

    tokenizer = word_tokenizer(SENTENCES)
    model = toy_model(dtype=torch.float32, vocab_size=len(tokenizer))
    model.save_pretrained(folder / "ours")
    tokenizer.save_pretrained(folder / "ours")
    assert convert.main(["--to", "torch", str(folder / "ours"), "--output", str(folder / "torch")]) == 0
    config = str(folder / "torch" / "config.json")
    return ["--from", "torch", str(folder / "torch" / "model.pt"), "--config", config]


def fairseq(folder: Path, kind: str) -> list[str]:
    return ["--from", "fairseq", str(FIXTURES / FAIRSEQ[kind])]


@pytest.mark.parametrize("source", SOURCES)
def test_a_converted_model_trains_on_is_published_and_translates(source: str, tmp_path: Path) -> None:
    name, _, kind = source.partition("-")
    make = {"marian": marian, "fsmt": fsmt, "torch": from_torch, "fairseq": fairseq}[name]
    (tmp_path / "foreign").mkdir()
    words = [*make(tmp_path / "foreign", kind), "--output", str(tmp_path / "ours")]
    assert convert.main(words) == 0
    sentences = SENTENCES
    if name == "fairseq":
        expected = json.loads((FIXTURES / FAIRSEQ[kind] / "expected.json").read_text("utf-8"))
        sentences = expected["sentences"]
    translator: Any = pipeline("translation", str(tmp_path / "ours"))
    before = translations(translator, sentences)
    assert len(set(before)) > 1

    trained = tmp_path / "trained"
    losses = train(translator, sentences, trained)
    assert losses[-1] < losses[0]
    after = translations(pipeline("translation", str(trained)), sentences)

    with staged(trained, "me/converted") as ready:
        sent = files_to_send(ready)
        check_contents(ready, sent)
        assert SOURCES[source] | {"config.json", "model.safetensors", "tokenizer_config.json"} <= set(sent)
        (tmp_path / "hub").mkdir()
        for file in sent:
            shutil.copyfile(ready / file, tmp_path / "hub" / file)
    loaded: Any = pipeline("translation", str(tmp_path / "hub"), trust_remote_code=True)
    if isinstance(translator.tokenizer, FairseqTokenizer):
        # The copy that travelled with the model; of models, transformers takes the package's own class.
        assert type(loaded.tokenizer).__module__.startswith("transformers_modules.")
    assert translations(loaded, sentences) == after


def translations(translator: Any, sentences: list[str]) -> list[str]:
    return [one["translation_text"] for one in translator(sentences, max_new_tokens=12)]


def train(translator: Any, sentences: list[str], folder: Path) -> list[float]:
    """A few updates on sentences and the same in another order; the loss of each."""
    words = translator.tokenizer
    encoded = words(sentences, text_target=sentences[::-1])
    columns = {name: encoded[name] for name in ("input_ids", "labels")}
    trainer = VanillaTransformerTrainer(
        model=translator.model.float(),
        args=toy_arguments(
            folder, max_steps=5, learning_rate=0.02, tokens_per_update=400, tokens_per_device=400
        ),
        processing_class=words,
        train_dataset=Dataset.from_dict(columns),
    )
    trainer.train()
    trainer.save_model(str(folder))
    assert AutoTokenizer.from_pretrained(folder)(sentences)["input_ids"] == encoded["input_ids"]
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
