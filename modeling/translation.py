"""Translation of any number of sentences with any sequence-to-sequence model of transformers.

Imports nothing but transformers.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

logger = logging.get_logger(__name__)

# Section 6.1 of the paper: a translation may have 50 tokens more than its source.
EXTRA_LENGTH = 50


def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Iterable[str],
    *,
    tokens_per_batch: int = 4096,
    window: int = 2048,
    progress: bool = False,
    total: int | None = None,
    **generate_kwargs: Any,
) -> Iterator[str]:
    """Translate sentences, one translation for each, in their order.

    Sentences are read `window` at a time, sorted by length inside the window and cut into batches, so that
    endless input needs little memory. A sentence of nothing but white space becomes the empty string. How to
    search comes from `model.generation_config` and `generate_kwargs`.

    Args:
        model: a model with an encoder and `generate()`; it is in evaluation mode while translating.
        tokenizer: its tokenizer.
        sentences: source sentences.
        tokens_per_batch: most source tokens of a batch, padding counted, hypotheses of the beam not counted;
            a longer sentence is a batch of its own.
        window: how many sentences are read before the first is translated.
        progress: show a progress bar on standard error.
        total: number of sentences, for the progress bar.
        generate_kwargs: arguments of `generate()`. Without `max_length` and `max_new_tokens`, a batch may
            grow to the tokens of its longest source + 50.

    Raises:
        ValueError: a size that is not positive, one string instead of several, or several translations of a
            sentence asked for.
    """
    for name, size in (("tokens_per_batch", tokens_per_batch), ("window", window)):
        if size < 1:
            raise ValueError(f"`{name}` must be positive, but is {size} instead.")
    if isinstance(sentences, str):
        raise ValueError("`sentences` must be an iterable of strings, but is one string instead.")
    if generate_kwargs.get("num_return_sequences", 1) != 1:
        raise ValueError(
            "`num_return_sequences` must be 1 to translate line by line, but is"
            f" {generate_kwargs['num_return_sequences']} instead."
        )
    translated = _translate_windows(model, tokenizer, sentences, tokens_per_batch, window, generate_kwargs)
    return _with_progress(translated, total) if progress else translated


def _with_progress(translations: Iterator[str], total: int | None) -> Iterator[str]:
    yield from logging.tqdm(translations, total=total, unit=" sentences", desc="translating")


def _translate_windows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Iterable[str],
    tokens_per_batch: int,
    window: int,
    generate_kwargs: dict[str, Any],
) -> Iterator[str]:
    remaining = iter(sentences)
    first_line = 1
    was_training = model.training
    model.eval()
    try:
        while read := list(islice(remaining, window)):
            encoded = _encode(model, tokenizer, read, first_line)
            translations = [""] * len(read)
            for batch in token_batches([len(ids) for ids in encoded], tokens_per_batch):
                texts = _translate_batch(model, tokenizer, [encoded[k] for k in batch], generate_kwargs)
                for index, text in zip(batch, texts, strict=True):
                    translations[index] = text
            yield from translations
            first_line += len(read)
    finally:
        model.train(was_training)


def token_batches(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Indices of similar lengths, longest first: rows times longest row of a batch is at most the limit.

    Indices of length 0 are in no batch; one longer than the limit is a batch of its own.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        if not lengths[index]:
            break
        if batches and (len(batches[-1]) + 1) * longest <= tokens_per_batch:
            batches[-1].append(index)
        else:
            batches.append([index])
            longest = lengths[index]
    return batches


def _encode(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentences: list[str], first_line: int
) -> list[list[int]]:
    """Token ids of each sentence; none for a blank one."""
    filled = [k for k, sentence in enumerate(sentences) if sentence.strip()]
    encoded: list[list[int]] = [[] for _ in sentences]
    if not filled:
        return encoded
    longest = _longest_source(model, tokenizer)
    texts = [sentences[k] for k in filled]
    all_ids = tokenizer(texts, verbose=False)["input_ids"]
    for index, text, ids in zip(filled, texts, all_ids, strict=True):
        if longest is not None and len(ids) > longest:
            logger.warning(
                f"sentence {first_line + index} has {len(ids)} tokens; it is cut to {longest}, all that the"
                " model takes."
            )
            ids = tokenizer(text, truncation=True, max_length=longest)["input_ids"]
        encoded[index] = ids
    return encoded


def _longest_source(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The most source tokens that the model takes, or None if there is no limit."""
    limits = [_positions(model), tokenizer.model_max_length]
    # transformers writes 1e30 for a tokenizer without a limit.
    return min((int(limit) for limit in limits if limit is not None and limit < 1e9), default=None)


def _positions(model: PreTrainedModel) -> int | None:
    """How many positions the model has, or None if positions are computed for any length."""
    if getattr(model.config, "position_embedding", None) in ("sinusoidal", "none"):
        return None
    return getattr(model.config, "max_position_embeddings", None)


def _translate_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: list[list[int]],
    generate_kwargs: dict[str, Any],
) -> list[str]:
    inputs = tokenizer.pad({"input_ids": encoded}, return_tensors="pt").to(model.device)
    longest = inputs["input_ids"].shape[1]
    tokens = model.generate(  # type: ignore[operator]
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        **(_length_limit(model, longest, generate_kwargs) | generate_kwargs),
    )
    return list(tokenizer.batch_decode(tokens, skip_special_tokens=True))


def _length_limit(model: PreTrainedModel, longest: int, generate_kwargs: dict[str, Any]) -> dict[str, Any]:
    given = generate_kwargs.get("generation_config") or model.generation_config
    if any(generate_kwargs.get(name) is not None for name in ("max_length", "max_new_tokens")):
        return {}
    if "generation_config" in generate_kwargs and (given.max_length or given.max_new_tokens):
        return {}
    positions = _positions(model)
    limit = longest + EXTRA_LENGTH
    return {"max_length": limit if positions is None else min(limit, positions), "max_new_tokens": None}
