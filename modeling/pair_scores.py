"""How probable a model holds given translations: for ranking, filtering and comparing them.

Shapes in trailing comments: N pairs, S target length, V vocabulary.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from .loss_vanilla_transformer import IGNORED
from .modeling_vanilla_transformer import shift_tokens_right
from .translation_vanilla_transformer import WINDOW, evaluation_mode, learned_positions, token_batches

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class PairScore:
    """How probable a model holds a target, given its source.

    Attributes:
        log_probability: log P(target | source) in nats, that of the end token counted, and that of a
            language's token where the tokenizer of a multilingual model puts one first; nan where a side has
            more tokens than the model has positions, of which a warning tells.
        tokens: tokens of the target, the end token counted.
    """

    log_probability: float
    tokens: int


def score_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Iterable[tuple[str, str]],
    *,
    tokens_per_batch: int = 2048,
) -> Iterator[PairScore]:
    """Score the target of each pair by teacher forcing, in the order of the pairs.

    Pairs are read 2,048 at a time and sorted by length inside, so that endless input needs little memory.

    Args:
        model: any sequence-to-sequence model of transformers; it is in evaluation mode while a batch is
            scored.
        tokenizer: its tokenizer.
        pairs: sources with their targets.
        tokens_per_batch: most tokens of a batch on its longer side, padding counted; a longer pair is a batch
            of its own. For each of them there are logits of the size of the vocabulary.

    Raises:
        ValueError: `tokens_per_batch` is not positive.
    """
    if tokens_per_batch < 1:
        raise ValueError(f"`tokens_per_batch` must be positive, but is {tokens_per_batch} instead.")
    return _scores(model, tokenizer, iter(pairs), tokens_per_batch)


def _scores(
    model: Any, tokenizer: Any, pairs: Iterator[tuple[str, str]], tokens_per_batch: int
) -> Iterator[PairScore]:
    done = 0
    while window := list(islice(pairs, WINDOW)):
        sources, targets = map(list, zip(*window, strict=True))
        encoded = list(
            zip(
                tokenizer(sources, verbose=False)["input_ids"],
                tokenizer(text_target=targets, verbose=False)["input_ids"],
                strict=True,
            )
        )
        lengths = [max(map(len, pair)) for pair in encoded]
        positions = learned_positions(model.config)
        unfit = [k for k, length in enumerate(lengths) if positions is not None and length > positions]
        found = {k: PairScore(math.nan, len(encoded[k][1])) for k in unfit}
        for k in unfit:
            logger.warning(
                f"pair {done + k + 1} has {lengths[k]} tokens on a side, but the model takes at most"
                f" {positions}: it has no score (nan)."
            )
        # A target without a token, not even an end token, is certain.
        found |= {
            k: PairScore(0.0, 0) for k, (_, target) in enumerate(encoded) if not target and k not in found
        }
        lengths = [0 if k in found else length for k, length in enumerate(lengths)]
        for batch in token_batches(lengths, tokens_per_batch):
            with evaluation_mode(model):
                scores = _score_batch(model, tokenizer, [encoded[k] for k in batch])
            found |= dict(zip(batch, scores, strict=True))
        yield from (found[k] for k in range(len(window)))
        done += len(window)


@torch.no_grad()
def _score_batch(model: Any, tokenizer: Any, pairs: list[tuple[list[int], list[int]]]) -> Iterator[PairScore]:
    padded = tokenizer.pad({"input_ids": [source for source, _ in pairs]}, return_tensors="pt")
    inputs = {name: padded[name].to(model.device) for name in ("input_ids", "attention_mask")}
    longest = max(len(target) for _, target in pairs)
    labels = torch.tensor(
        [[*target, *[IGNORED] * (longest - len(target))] for _, target in pairs], device=model.device
    )  # (N, S)
    decoder_inputs = _shifted(model, labels.clone())  # which some models fill up in place
    logits = model(**inputs, decoder_input_ids=decoder_inputs, use_cache=False).logits  # (N, S, V)
    losses = cross_entropy(logits.float().mT, labels, ignore_index=IGNORED, reduction="none")  # (N, S)
    sums = (-losses.cpu().double().sum(-1)).tolist()  # Apple's devices have no float64
    return (PairScore(found, len(target)) for found, (_, target) in zip(sums, pairs, strict=True))


def _shifted(model: Any, labels: torch.Tensor) -> torch.Tensor:
    """(N, S) decoder inputs: the labels behind the start token, as the model makes them, if it does."""
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        prepared: torch.Tensor = model.prepare_decoder_input_ids_from_labels(labels=labels)
        return prepared
    config = model.config
    return shift_tokens_right(labels, config.pad_token_id, config.decoder_start_token_id)
