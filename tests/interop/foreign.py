"""Models of other architectures with weights large enough to show errors of attention, and their files."""

import json
import os
import random
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import nn
from transformers import (
    FSMTConfig,
    FSMTForConditionalGeneration,
    FSMTTokenizer,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
)

SENTENCES = ["bado keli ruta", "ke", "nabo deku sita romi la", "tasi"]
# Encoder and decoder differ wherever they can, so that a field read for the wrong stack shows.
SIZES: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 20,
    "decoder_ffn_dim": 28,
}


def randomize(model: nn.Module, *, seed: int = 0, keep: str = "embed_positions") -> None:
    """Draws every parameter with deviation 0.3 (norm weights around 1), but those with `keep` in the name.

    Attention to the encoder is stronger, so that different sources are translated differently.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if keep not in name:
            drawn = (1.0 if "encoder_attn" in name else 0.3) * torch.randn(
                parameter.shape, generator=generator
            )
            parameter.data = drawn + 1 if name.endswith("norm.weight") else drawn


def words(number: int, seed: int) -> list[str]:
    """Invented words of consonants and vowels in turn."""
    draw = random.Random(seed)
    letters = ("bdklmnrst", "aeiou")
    return ["".join(draw.choice(letters[i % 2]) for i in range(draw.randint(2, 7))) for _ in range(number)]


def marian_tokenizer(folder: Path, *, separate: bool = False) -> MarianTokenizer:
    """A tokenizer of two SentencePiece models, trained on invented words, and their vocabularies."""
    sides = ("source", "target")
    pieces: dict[str, list[str]] = {}
    for seed, side in enumerate(sides):
        prefix = folder / side
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(words(900, seed)),
            model_prefix=str(prefix),
            vocab_size=50 + 10 * seed,
            bos_id=-1,
            minloglevel=2,
        )
        os.replace(f"{prefix}.model", f"{prefix}.spm")
        model = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.spm")
        pieces[side] = [model.IdToPiece(number) for number in range(len(model))]
    if not separate:
        pieces = {"source": [piece for side in sides for piece in pieces[side]]}
    for side, own in pieces.items():
        texts = dict.fromkeys(["</s>", "<unk>", *own, "<pad>"])
        vocabulary = {
            text: number for number, text in enumerate([*[t for t in texts if t != "<pad>"], "<pad>"])
        }
        (folder / f"{side}.json").write_text(json.dumps(vocabulary))
    return MarianTokenizer(
        str(folder / "source.spm"),
        str(folder / "target.spm"),
        str(folder / "source.json"),
        target_vocab_file=str(folder / "target.json") if separate else None,
        separate_vocabs=separate,
    )


def marian_model(vocab_size: int, *, seed: int = 0, **changes: Any) -> MarianMTModel:
    """A Marian as the OPUS-MT models are: swish, scaled embeddings, a bias on the logits, pad starts."""
    pad = changes.get("pad_token_id", vocab_size - 1)
    fields = {
        "vocab_size": vocab_size,
        "activation_function": "swish",
        "scale_embedding": True,
        "max_position_embeddings": 64,
        "pad_token_id": pad,
        "decoder_start_token_id": pad,
        "eos_token_id": 0,
        "bos_token_id": 0,
    }
    model: Any = MarianMTModel(MarianConfig(**SIZES | fields | changes)).eval()
    randomize(model, seed=seed)
    bias = model.final_logits_bias
    bias.copy_(torch.randn(bias.shape, generator=torch.Generator().manual_seed(seed)))
    model.generation_config = GenerationConfig(
        num_beams=4,
        max_length=24,
        bad_words_ids=[[pad]],
        forced_eos_token_id=0,
        decoder_start_token_id=pad,
        pad_token_id=pad,
        eos_token_id=0,
        bos_token_id=0,
    )
    translator: MarianMTModel = model
    return translator


def fsmt_tokenizer(folder: Path) -> FSMTTokenizer:
    """A tokenizer of invented merges, with a vocabulary for each side."""
    letters = "abdeiklmnorstu"
    merges = ["b a", "k e", "l i</w>", "t a</w>", "ke li</w>"]
    (folder / "merges.txt").write_text("".join(f"{merge}\n" for merge in merges))
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(merge.replace(" ", "") for merge in merges),
    ]
    for side, own in (("src", tokens), ("tgt", tokens[::-1] + ["x", "x</w>"])):
        vocabulary = {token: number for number, token in enumerate([*specials, *own])}
        (folder / f"vocab-{side}.json").write_text(json.dumps(vocabulary))
    return FSMTTokenizer(
        langs=["en", "de"],
        src_vocab_file=str(folder / "vocab-src.json"),
        tgt_vocab_file=str(folder / "vocab-tgt.json"),
        merges_file=str(folder / "merges.txt"),
    )


def fsmt_model(src_vocab_size: int, tgt_vocab_size: int, **changes: Any) -> FSMTForConditionalGeneration:
    """An FSMT with random weights."""
    fields = {
        "src_vocab_size": src_vocab_size,
        "tgt_vocab_size": tgt_vocab_size,
        "num_beams": 4,
        "max_length": 24,
    }
    model: Any = FSMTForConditionalGeneration(
        FSMTConfig(**SIZES | fields | {"max_position_embeddings": 64} | changes)
    )
    randomize(model)
    translator: FSMTForConditionalGeneration = model.eval()
    return translator
