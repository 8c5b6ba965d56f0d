"""Two senses of one word: 苹果 is a fruit and a company, and only its sentence says which.

The sentences are made from the frames below with words of the embedded corpus. A task learns from those of
the first frames and is asked about the others, which have other words around 苹果. In all frames together it
stands first, last and in the middle in either sense; of the first ones, only the company stands first.
"""

import itertools
import random
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .elmo import BidirectionalLanguageModel, LayerMix

WORD = "苹果"
SHOWN_FRAMES = {
    "fruit": (
        "{who}吃了{amount}苹果。",
        "{place}有{amount}苹果。",
        "{who}的苹果很{taste}。",
        "{who}喜欢吃苹果。",
    ),
    "company": (
        "{who}在苹果工作。",
        "{who}买了苹果的{device}。",
        "苹果的{staff}很{mood}。",
        "很多{staff}喜欢苹果。",
    ),
}
HELD_OUT_FRAMES = {
    "fruit": ("{who}洗了{amount}苹果。", "苹果和{fruit}都很{taste}。"),
    "company": ("{who}喜欢苹果的{device}。", "苹果卖了很多{device}。"),
}
FILLERS = {
    "who": ("我", "你", "他", "她", "我们", "他们", "老师", "医生", "学生", "王芳", "小明", "李华"),
    "amount": ("一个", "两个", "四个", "三袋", "五箱", "很多"),
    "place": ("桌子上", "椅子上", "箱子里", "包里", "商店里"),
    "taste": ("好吃", "便宜", "大", "小"),
    "fruit": ("香蕉", "橙子"),
    "device": ("手机", "电脑", "相机", "手表", "新手机", "新电脑"),
    "staff": ("工程师", "司机", "警察", "医生"),
    "mood": ("忙", "累", "高兴", "年轻", "聪明"),
}
SENSES = tuple(SHOWN_FRAMES)
Labelled = tuple[str, str]


def sense_sentences(frames: Mapping[str, Sequence[str]]) -> Iterator[Labelled]:
    """Every sentence that the frames make, with the sense that 苹果 has in it."""
    for sense, of_sense in frames.items():
        for frame in of_sense:
            slots = [name for _, name, _, _ in string.Formatter().parse(frame) if name]
            for words in itertools.product(*(FILLERS[slot] for slot in slots)):
                yield frame.format(**dict(zip(slots, words, strict=True))), sense


def split_sentences(tokenizer: Any) -> tuple[list[Labelled], list[Labelled]]:
    """The sentences for training and those for looking at; none where 苹果 is no piece of its own."""
    piece = tokenizer.get_vocab().get(WORD)
    shown, held_out = (
        [pair for pair in sense_sentences(frames) if piece in tokenizer(pair[0]).input_ids]
        for frames in (SHOWN_FRAMES, HELD_OUT_FRAMES)
    )
    random.Random(0).shuffle(held_out)  # a picture names the first ones that have room
    return shown, held_out


@torch.no_grad()
def vectors_in_context(
    model: BidirectionalLanguageModel, tokenizer: Any, sentences: Sequence[str]
) -> torch.Tensor:
    """What each layer makes of the first 苹果 of each sentence: (layers + 1, N, 2 E)."""
    batch = tokenizer(list(sentences), padding=True, return_tensors="pt").to(model.device)
    layers = torch.stack(model.layers(batch.input_ids, batch.attention_mask))
    places = batch.input_ids.eq(tokenizer.get_vocab()[WORD]).int().argmax(-1)  # (N,)
    return layers[:, torch.arange(len(places)), places].cpu()


def sense_cosines(vectors: torch.Tensor, senses: Sequence[str]) -> dict[str, float]:
    """Mean cosine of two different vectors of (N, E) of one sense ("within") and of two ("across")."""
    vectors = F.normalize(vectors, dim=-1)
    cosines = vectors @ vectors.T  # (N, N)
    same = torch.tensor([[one == other for other in senses] for one in senses])
    pairs = ~torch.eye(len(senses), dtype=torch.bool)
    return {"within": float(cosines[same & pairs].mean()), "across": float(cosines[~same].mean())}


class SenseClassifier(nn.Module):
    """A task for ELMo: names the sense by a linear layer over a mix of the word's vectors.

    Args:
        layers: how many vectors each word has.
        width: of each.
    """

    def __init__(self, layers: int, width: int):
        super().__init__()
        self.mix = LayerMix(layers)
        self.output = nn.Linear(width, len(SENSES))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(layers, N, E) -> (N, senses), logits."""
        return self.output(self.mix(vectors))

    def accuracy(self, vectors: torch.Tensor, senses: Sequence[str]) -> float:
        """The share of N words, (layers, N, E), whose sense it names."""
        named = self(vectors).argmax(-1).tolist()
        return sum(SENSES[one] == sense for one, sense in zip(named, senses, strict=True)) / len(senses)


def learn_senses(
    vectors: torch.Tensor, senses: Sequence[str], *, steps: int = 300, rate: float = 0.01
) -> SenseClassifier:
    """Train a classifier on the vectors (layers, N, E) of N words; the language model stays as it is.

    All N are in each of the `steps` of Adam. Nothing is random: all weights start at zero or alike.
    """
    classifier = SenseClassifier(len(vectors), vectors.shape[-1])
    nn.init.zeros_(classifier.output.weight)
    nn.init.zeros_(classifier.output.bias)
    wanted = torch.tensor([SENSES.index(sense) for sense in senses])
    optimizer = torch.optim.Adam(classifier.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(classifier(vectors), wanted).backward()
        optimizer.step()
    return classifier.requires_grad_(False)
