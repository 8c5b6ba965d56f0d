"""Translation of any number of sentences with any sequence-to-sequence model of transformers."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from .generation_vanilla_transformer import MAX_LENGTH_BEYOND_SOURCE

logger = logging.get_logger(__name__)


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
        generate_kwargs: arguments of `generate()`. Without `max_length` and `max_new_tokens`, our model
            limits each translation as its generation config says (source + 50 tokens), any other model its
            batch to the tokens of the longest source + 50.

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
    config = generate_kwargs.get("generation_config")
    given = {**({} if config is None else vars(config)), **generate_kwargs}
    limited = any(given.get(name) is not None for name in ("max_length", "max_new_tokens"))
    if limited or getattr(model, "limits_output_by_source", False):
        return {}
    return length_limit(model, longest)


def length_limit(model: PreTrainedModel, longest: int) -> dict[str, Any]:
    """Keywords of `generate()` that end translations 50 tokens past their source (section 6.1).

    Our model counts them for each sentence; any other one is told `longest`, those of the longest source.
    """
    if getattr(model, "limits_output_by_source", False):
        set_by_model = getattr(model.generation_config, "max_length_beyond_source", None)
        return {
            "max_length_beyond_source": MAX_LENGTH_BEYOND_SOURCE if set_by_model is None else set_by_model
        }
    positions = _positions(model)
    limit = longest + MAX_LENGTH_BEYOND_SOURCE
    return {"max_length": limit if positions is None else min(limit, positions), "max_new_tokens": None}
