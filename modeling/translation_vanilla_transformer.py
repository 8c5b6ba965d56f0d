"""Translation of any number of sentences with any sequence-to-sequence model of transformers.

Shapes in trailing comments: N sentences, R translations of each, S target length, T source length.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from .generation_vanilla_transformer import MAX_LENGTH_BEYOND_SOURCE
from .projections_vanilla_transformer import forget_copies
from .splitting_vanilla_transformer import joined, split_text

logger = logging.get_logger(__name__)

LONG_SENTENCES = ("error", "truncate", "split")
# Sentences that are read, sorted by length and translated together.
WINDOW = 2048
# How OPUS-MT is told the language to translate into.
_LANGUAGE_CODE = re.compile(r"(>>[^<\s]+<<)\s*")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Translation:
    """One translation of a sentence.

    Attributes:
        text: the translation.
        score: where asked for, what a beam search ranks it by, else its log-probability in nats.
        source_tokens, target_tokens: where attention is asked for, the tokens that it is between.
        attention: (layers, heads, S, T) weights with which the decoder, predicting each target token, attends
            to the source tokens.
    """

    text: str
    score: float | None = None
    source_tokens: tuple[str, ...] = ()
    target_tokens: tuple[str, ...] = ()
    attention: torch.Tensor | None = None


def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Iterable[str],
    *,
    tokens_per_batch: int = 4096,
    window: int = WINDOW,
    progress: bool = False,
    total: int | None = None,
    done: int = 0,
    **generate_kwargs: Any,
) -> Iterator[str]:
    """Translate sentences, one translation for each, in their order.

    Sentences are read `window` at a time, sorted by length inside the window and cut into batches, so that
    endless input needs little memory. While one window is translated, the next is read and encoded in a
    thread, unless windows are of one sentence. A sentence of nothing but white space becomes the empty
    string. How to search comes from `model.generation_config` and `generate_kwargs`; how many translations
    of a sentence a generation config asks for does not count.

    Args:
        model: a model with an encoder and `generate()`; it is in evaluation mode while a batch is translated.
        tokenizer: its tokenizer.
        sentences: source sentences. They are read in another thread: what is bound to the thread that made
            it, as a cursor of sqlite3 is, must be made a list, or be read with `window=1`.
        tokens_per_batch: most source tokens of a batch, padding counted, hypotheses of the beam not counted;
            a longer sentence is a batch of its own.
        window: how many sentences are read before the first is translated.
        progress: show a progress bar on standard error.
        total: number of sentences, for the progress bar.
        done: sentences before these, which were translated by another call: numbers of sentences in messages
            and the progress bar go on from there.
        generate_kwargs: arguments of `generate()`. Without `max_length` and `max_new_tokens`, our model
            limits each translation as its generation config says (source + 50 tokens), any other model its
            batch to the tokens of the longest source + 50.

    Raises:
        ValueError: a size that is not positive, one string instead of several, or several translations of a
            sentence asked for.
    """
    if generate_kwargs.get("num_return_sequences", 1) != 1:
        raise ValueError(
            "`num_return_sequences` must be 1 to translate line by line, but is"
            f" {generate_kwargs['num_return_sequences']} instead."
        )
    found = translations(
        model,
        tokenizer,
        sentences,
        tokens_per_batch=tokens_per_batch,
        window=window,
        progress=progress,
        total=total,
        done=done,
        **generate_kwargs | {"num_return_sequences": 1},
    )
    return (one[0].text for one in found)


def translations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Iterable[str],
    *,
    tokens_per_batch: int = 4096,
    batch_size: int | None = None,
    window: int = WINDOW,
    progress: bool = False,
    total: int | None = None,
    done: int = 0,
    long_sentences: str | None = None,
    max_source_length: int | None = None,
    scores: bool = False,
    attention: bool = False,
    prefix: str = "",
    **generate_kwargs: Any,
) -> Iterator[list[Translation]]:
    """Translate sentences: for each, in their order, as many translations as `num_return_sequences` says.

    Args:
        batch_size: most sentences of a batch; by default `tokens_per_batch` is the only limit.
        long_sentences: what becomes of a sentence of more than `max_source_length` tokens: "error" refuses
            it, "truncate" cuts it, "split" translates it in parts, cut at sentence ends where there are any,
            and joins their translations. By default it is translated as it is, unless the model cannot: what
            is beyond the model's positions is cut off with a warning.
        max_source_length: most tokens of a source, the end token counted, for `long_sentences`, without which
            it does nothing; by default what the model can take. Where positions are computed it takes sources
            of any length, and `long_sentences` needs this.
        scores: give the score of each translation.
        attention: give the tokens, and the attention between them.
        prefix: stands before each sentence, and each part of one that is split, as T5 is told what to do.
        model, tokenizer, sentences, tokens_per_batch, window, progress, total, done, generate_kwargs: as in
            `translate`.

    Raises:
        ValueError: a size that is not positive, one string instead of several, something that is no string,
            an unknown choice, one without its length, or (while translating) a sentence that is refused.
    """
    sizes = {"tokens_per_batch": tokens_per_batch, "window": window}
    optional = {"batch_size": batch_size, "max_source_length": max_source_length}
    sizes |= {name: size for name, size in optional.items() if size is not None}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"`{name}` must be positive, but is {size} instead.")
    if isinstance(sentences, str):
        raise ValueError("`sentences` must be an iterable of strings, but is one string instead.")
    if long_sentences not in (None, *LONG_SENTENCES):
        raise ValueError(
            f"`long_sentences` must be one of {', '.join(LONG_SENTENCES)}, but is {long_sentences!r} instead."
        )
    if attention and long_sentences == "split":
        raise ValueError("`attention` cannot be given for sentences that are split.")
    if long_sentences and max_source_length is None and longest_source(model, tokenizer) is None:
        raise ValueError(
            "`long_sentences` needs `max_source_length`: this model takes sources of any length."
        )
    translator = _Translator(
        model=model,
        tokenizer=tokenizer,
        long_sentences=long_sentences,
        max_source_length=max_source_length,
        scores=scores,
        attention=attention,
        prefix=prefix,
        generate_kwargs=generate_kwargs,
    )
    windows = translator.encoded_windows(sentences, window, done)
    windows = windows if window == 1 else _made_ahead(windows)
    run = partial(translator.run, windows, tokens_per_batch, batch_size)
    return _with_progress(run, total, done) if progress else run()


def _with_progress(
    run: Callable[[Callable[[int], Any]], Iterator[list[Translation]]], total: int | None, done: int
) -> Iterator[list[Translation]]:
    with logging.tqdm(total=total, initial=done, unit=" sentences", desc="translating") as bar:
        yield from run(bar.update)


def _made_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each of which is made in a thread while the one before it is in use."""
    end: Any = object()

    def make(item: Future[Item]) -> None:
        try:
            item.set_result(next(items, end))
        except BaseException as error:
            item.set_exception(error)

    def started() -> Future[Item]:
        item: Future[Item] = Future()
        # A daemon, as it may wait for input that never comes when the program ends.
        threading.Thread(target=make, args=(item,), daemon=True).start()
        return item

    coming = started()
    while (item := coming.result()) is not end:
        coming = started()
        yield item


def token_batches(
    lengths: Sequence[int], tokens_per_batch: int, batch_size: int | None = None
) -> list[list[int]]:
    """Indices of similar lengths, longest first: rows times longest row of a batch is at most the limit.

    Indices of length 0 are in no batch; one longer than the limit is a batch of its own.

    Args:
        lengths: tokens of each row.
        tokens_per_batch: most tokens of a batch, padding counted.
        batch_size: most rows of a batch; by default any number.
    """
    most_rows = batch_size or len(lengths)
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        if not lengths[index]:
            break
        rows = len(batches[-1]) if batches else most_rows
        if rows < most_rows and (rows + 1) * longest <= tokens_per_batch:
            batches[-1].append(index)
        else:
            batches.append([index])
            longest = lengths[index]
    return batches


@dataclass(frozen=True, kw_only=True)
class _Translator:
    """One call of `translations`: its settings, and what is done with them."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    long_sentences: str | None
    max_source_length: int | None
    scores: bool
    attention: bool
    prefix: str
    generate_kwargs: dict[str, Any]

    def encoded_windows(
        self, sentences: Iterable[str], window: int, done: int
    ) -> Iterator[list[list[list[int]]]]:
        """The token ids of `window` sentences at a time, as `_encode` gives them."""
        remaining, first_number = iter(sentences), done + 1
        while read := list(islice(remaining, window)):
            yield self._encode(read, first_number)
            first_number += len(read)

    def run(
        self,
        windows: Iterator[list[list[list[int]]]],
        tokens_per_batch: int,
        batch_size: int | None,
        advance: Callable[[int], Any] = lambda sentences: None,
    ) -> Iterator[list[Translation]]:
        """Translate a window and give it out, until nothing is left; tell `advance` of each batch."""
        for parts in windows:
            # Each part with the number of its sentence; a blank sentence has none.
            owners = [number for number, one in enumerate(parts) for _ in one]
            encoded = [ids for one in parts for ids in one]
            translated: list[list[Translation]] = [[] for _ in encoded]
            finished = told = 0
            for batch in token_batches([len(ids) for ids in encoded], tokens_per_batch, batch_size):
                with evaluation_mode(self.model):
                    found = self._translate_batch([encoded[k] for k in batch])
                for index, one in zip(batch, found, strict=True):
                    translated[index] = one
                finished += len(batch)
                reached = len(parts) * finished // len(encoded)
                advance(reached - told)
                told = reached
            advance(len(parts) - told)  # where all are blank, there was no batch
            yield from self._whole(len(parts), owners, translated)

    def _whole(
        self, count: int, owners: list[int], translated: list[list[Translation]]
    ) -> Iterator[list[Translation]]:
        """The translations of each sentence, put together from those of its parts."""
        of_sentence: list[list[list[Translation]]] = [[] for _ in range(count)]
        for owner, one in zip(owners, translated, strict=True):
            of_sentence[owner].append(one)
        each = returned_sequences(self.model, self.generate_kwargs)
        blank = [Translation("", score=0.0 if self.scores else None)] * each
        for parts in of_sentence:
            if len(parts) == 1:
                yield parts[0]
            else:
                yield [_join_parts(ranked) for ranked in zip(*parts, strict=True)] if parts else blank

    def _encode(self, sentences: list[str], first_number: int) -> list[list[list[int]]]:
        """Token ids of each sentence's parts: one part of most sentences, none of a blank one."""
        for number, sentence in enumerate(sentences, start=first_number):
            if not isinstance(sentence, str):
                raise ValueError(
                    f"sentence {number} must be a string, but is a {type(sentence).__name__} instead."
                )
        filled = [k for k, sentence in enumerate(sentences) if sentence.strip()]
        parts: list[list[list[int]]] = [[] for _ in sentences]
        if not filled:
            return parts
        limit = self._limit()
        texts = [self.prefix + sentences[k] for k in filled]
        encode = getattr(self.tokenizer, "encode_ids", None)  # of ours, which is faster
        # One thread cuts by a setting of the tokenizer, which another would see.
        with _lock_of(self.tokenizer):
            all_ids = encode(texts) if encode else self.tokenizer(texts, verbose=False)["input_ids"]
            for index, ids in zip(filled, all_ids, strict=True):
                parts[index] = [ids]
                if limit is not None and len(ids) > limit:
                    parts[index] = self._shortened(sentences[index], len(ids), limit, first_number + index)
        return parts

    def _limit(self) -> int | None:
        """The most tokens of a source that is translated as it is."""
        longest = longest_source(self.model, self.tokenizer)
        if self.max_source_length is None or self.long_sentences is None:
            return longest
        return min(self.max_source_length, longest or self.max_source_length)

    def _shortened(self, text: str, length: int, limit: int, number: int) -> list[list[int]]:
        """Token ids of the parts of a sentence of `length` tokens, none longer than `limit`."""
        if self.long_sentences == "error":
            raise ValueError(f"sentence {number} must have at most {limit} tokens, but has {length} instead.")
        if self.long_sentences == "split":
            lead, text = self._target_language(text)
            texts = split_text(
                text, lambda part: len(self.tokenizer(self.prefix + lead + part)["input_ids"]) <= limit
            )
            return [self._cut(lead + part, limit) for part in texts]
        reason = "as asked for" if self.long_sentences else "all that the model takes"
        logger.warning(f"sentence {number} has {length} tokens; it is cut to {limit}, {reason}.")
        return [self._cut(text, limit)]

    def _target_language(self, text: str) -> tuple[str, str]:
        """(what says the language to translate into, the sentence): OPUS-MT reads ">>fra<< A dog runs."."""
        match = _LANGUAGE_CODE.match(text)
        known = getattr(self.tokenizer, "supported_language_codes", ())
        return (match[0], text[match.end() :]) if match and match[1] in known else ("", text)

    def _cut(self, text: str, limit: int) -> list[int]:
        return list(self.tokenizer(self.prefix + text, truncation=True, max_length=limit)["input_ids"])

    def _translate_batch(self, encoded: list[list[int]]) -> list[list[Translation]]:
        """The translations of each source, given as its token ids."""
        inputs = self.tokenizer.pad({"input_ids": encoded}, return_tensors="pt").to(self.model.device)
        sources = {name: inputs[name] for name in ("input_ids", "attention_mask")}  # (N, T)
        limit = _default_length_limit(self.model, inputs["input_ids"].shape[1], self.generate_kwargs)
        options = limit | self.generate_kwargs
        if _setting(self.model, self.generate_kwargs, "stop_strings", None):
            options["tokenizer"] = self.tokenizer
        if self.scores or self.attention:
            options |= {"return_dict_in_generate": True, "output_scores": self.scores}
        if self.scores and _setting(self.model, self.generate_kwargs, "do_sample", False):
            options["output_logits"] = True  # a sample's scores are of what is left to draw from
        generated = self.model.generate(**sources, **options)  # type: ignore[operator]
        # A checkpoint's generation config may ask for more than the tokens, too.
        tokens = generated if isinstance(generated, torch.Tensor) else generated.sequences  # (N * R, S)
        found = [Translation(text) for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        if self.scores:
            scores = sequence_scores(self.model, generated, self.generate_kwargs)
            found = [replace(one, score=score) for one, score in zip(found, scores, strict=True)]
        each = len(found) // len(encoded)
        if self.attention:
            lengths = translation_lengths(self.model, generated, self.generate_kwargs)
            found = self._with_attention(found, sources, tokens, lengths)
        return [found[k : k + each] for k in range(0, len(found), each)]

    def _with_attention(
        self,
        found: list[Translation],
        sources: dict[str, torch.Tensor],
        tokens: torch.Tensor,
        lengths: list[int],
    ) -> list[Translation]:
        each = len(found) // len(sources["input_ids"])
        sources = {name: values.repeat_interleave(each, dim=0) for name, values in sources.items()}
        weights = cross_attention(self.model, sources, tokens)
        completed = []
        for row, one in enumerate(found):
            target = tokens[row, 1 : lengths[row] + 1]
            real = sources["attention_mask"][row].bool()
            completed.append(
                replace(
                    one,
                    source_tokens=tuple(self._source_names(sources["input_ids"][row, real].tolist())),
                    target_tokens=tuple(self.tokenizer.convert_ids_to_tokens(target.tolist())),
                    attention=weights[row, :, :, : len(target)][..., real].cpu(),
                )
            )
        return completed

    @cached_property
    def _source_names(self) -> Callable[[Sequence[int]], list[str]]:
        return source_names(self.tokenizer)


def side_vocabulary(tokenizer: PreTrainedTokenizerBase, *, target: bool) -> dict[str, int]:
    """The tokens of one side with their ids.

    The two sides differ in tokenizers with a vocabulary for each: Marian's, FSMT's and fairseq's.
    """
    if target:
        for name in ("target_encoder", "target_vocab"):
            vocabulary = getattr(tokenizer, name, None)
            if vocabulary and isinstance(vocabulary, dict):
                return dict(vocabulary)
        # FSMT's keeps the target's the other way round.
        if hasattr(tokenizer, "tgt_vocab_size"):
            return {token: number for number, token in tokenizer.decoder.items()}
    return tokenizer.get_vocab()


def source_names(tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[int]], list[str]]:
    """What names the ids of a source: `convert_ids_to_tokens` takes those of two vocabularies for targets."""
    names = {number: token for token, number in side_vocabulary(tokenizer, target=False).items()}

    def named(ids: Sequence[int]) -> list[str]:
        return [names[k] if k in names else str(tokenizer.convert_ids_to_tokens(k)) for k in ids]

    return named


def source_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of a source's ids: `decode` is for targets where each side has a vocabulary of its own."""
    source, target = (side_vocabulary(tokenizer, target=side) for side in (False, True))
    if source == target:
        return str(tokenizer.decode(list(ids), skip_special_tokens=True))
    special = set(tokenizer.all_special_tokens)
    words = [token for token in source_names(tokenizer)(ids) if token not in special]
    return str(tokenizer.convert_tokens_to_string(words))


def returned_sequences(model: PreTrainedModel, generate_kwargs: Mapping[str, Any]) -> int:
    """How many translations of a sentence `generate()` gives."""
    return int(_setting(model, generate_kwargs, "num_return_sequences", 1))


def _join_parts(parts: Sequence[Translation]) -> Translation:
    scores = [part.score for part in parts if part.score is not None]
    return Translation(joined([part.text for part in parts]), score=sum(scores) if scores else None)


def translation_lengths(
    model: PreTrainedModel, generated: Any, generate_kwargs: Mapping[str, Any]
) -> list[int]:
    """How many tokens of each row are of the translation, end token counted, start token and filling not.

    Args:
        generated: what `generate` returned with `return_dict_in_generate`, sequences (N * R, S).
        generate_kwargs: what it was called with: they may name other tokens that end and fill up.
    """
    tokens = generated.sequences
    beams = getattr(generated, "beam_indices", None)  # (N * R, S - prompt), -1 behind the end
    if beams is not None:
        written = tokens.shape[1] - beams.shape[1] + beams.ge(0).sum(-1)
        return (written - 1).tolist()
    ends = torch.as_tensor(_setting(model, generate_kwargs, "eos_token_id", -1), device=tokens.device)
    is_end = torch.isin(tokens[:, 1:], ends)
    pad = _setting(model, generate_kwargs, "pad_token_id", -1)
    filling = tokens[:, 1:].eq(pad).flip(-1).cumprod(-1).flip(-1)  # the run of padding at the end
    before = is_end.long().cumsum(-1) - is_end.long()  # 0 up to the first end token
    up_to_end, up_to_filling = before.eq(0).sum(-1), filling.eq(0).sum(-1)
    # What a row's own length ended has no end token.
    return torch.where(is_end.any(-1), up_to_end, up_to_filling).tolist()


def _setting(model: PreTrainedModel, generate_kwargs: Mapping[str, Any], name: str, default: Any) -> Any:
    """A setting as `generate` finds it: given by name, or in a given generation config, or in the model's."""
    configs = (generate_kwargs.get("generation_config"), getattr(model, "generation_config", None))
    found = [generate_kwargs.get(name), *(getattr(config, name, None) for config in configs)]
    return next((value for value in found if value is not None), default)


def sequence_scores(
    model: PreTrainedModel, generated: Any, generate_kwargs: Mapping[str, Any]
) -> list[float]:
    """The score of each sequence that `generate` returned together with its scores.

    That of a beam search where there was one, else the log-probability of the sequence in nats; of a sample,
    that under the model itself where its logits were asked for.

    Args:
        generated, generate_kwargs: as in `translation_lengths`.
    """
    ranked = getattr(generated, "sequences_scores", None)
    if ranked is not None:
        return ranked.tolist()
    logits = getattr(generated, "logits", None) or generated.scores  # (N * R, V) of each step
    # A prefix that was given has no scores: they belong to the last tokens.
    given = generated.sequences.shape[1] - 1 - len(logits)
    chosen = generated.sequences[:, given + 1 :, None]
    steps = [step.float().log_softmax(-1).gather(1, chosen[:, k]) for k, step in enumerate(logits)]
    lengths = translation_lengths(model, generated, generate_kwargs)
    rows = torch.cat(steps, dim=1)  # (N * R, S - 1 - given)
    return [row[: length - given].sum().item() for row, length in zip(rows, lengths, strict=True)]


@torch.no_grad()
def cross_attention(
    model: PreTrainedModel, sources: dict[str, torch.Tensor], tokens: torch.Tensor
) -> torch.Tensor:
    """(N, layers, heads, S - 1, T) attention weights from target tokens, which are read by teacher forcing.

    Args:
        model: any sequence-to-sequence model.
        sources: `input_ids` and `attention_mask`, (N, T).
        tokens: (N, S) decoder inputs and outputs, start token first.
    """
    with eager_attention(model):
        outputs = model(**sources, decoder_input_ids=tokens[:, :-1], output_attentions=True, use_cache=False)
    return torch.stack(outputs.cross_attentions, dim=1)


def evaluation_mode(model: PreTrainedModel) -> AbstractContextManager[None]:
    """The model is in evaluation mode meanwhile, then each module in its mode before; threads may overlap."""

    def set_training(modules: list[torch.nn.Module]) -> None:
        model.eval()
        for module in modules:
            module.training = True
        if modules:  # its matrices will change: copies of them would be of no more use
            forget_copies(model)

    return _held(
        model, "training", lambda: [one for one in model.modules() if one.training], set_training, []
    )


def eager_attention(model: PreTrainedModel) -> AbstractContextManager[None]:
    """The model attends by the plain formula meanwhile, which alone gives weights; threads may overlap."""
    return _held(
        model,
        "attention",
        lambda: model.config._attn_implementation,
        model.set_attn_implementation,
        "eager",
    )


_LOCKS: WeakKeyDictionary[PreTrainedTokenizerBase, threading.Lock] = WeakKeyDictionary()


def _lock_of(tokenizer: PreTrainedTokenizerBase) -> threading.Lock:
    with _HELD_LOCK:
        return _LOCKS.setdefault(tokenizer, threading.Lock())


# Of each model: what is held at another value, by how many, and the value before.
_HELD: WeakKeyDictionary[torch.nn.Module, dict[str, tuple[int, Any]]] = WeakKeyDictionary()
_HELD_LOCK = threading.Lock()


@contextmanager
def _held(
    model: PreTrainedModel, name: str, get: Callable[[], Any], set_to: Callable[[Any], Any], value: Any
) -> Iterator[None]:
    """A setting of a model is `value` until the last of all that hold it at the same time has ended."""
    with _HELD_LOCK:
        holds = _HELD.setdefault(model, {})
        holders, before = holds.get(name) or (0, get())
        if not holders:
            set_to(value)
        holds[name] = (holders + 1, before)
    try:
        yield
    finally:
        with _HELD_LOCK:
            holders, before = holds.pop(name)
            if holders > 1:
                holds[name] = (holders - 1, before)
            else:
                set_to(before)


def longest_source(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The most source tokens that the model takes, or None if there is no limit."""
    limits = [learned_positions(model.config), tokenizer.model_max_length]
    # transformers writes 1e30 for a tokenizer without a limit.
    return min((int(limit) for limit in limits if limit is not None and limit < 1e9), default=None)


def learned_positions(config: Any) -> int | None:
    """How many positions a model of this configuration has, or None if they are computed for any length."""
    if getattr(config, "position_embedding", None) in ("sinusoidal", "none"):
        # An engine may have been given a table of them.
        return getattr(config, "exported_positions", None)
    return getattr(config, "max_position_embeddings", None)


def _default_length_limit(
    model: PreTrainedModel, longest: int, generate_kwargs: dict[str, Any]
) -> dict[str, Any]:
    config = generate_kwargs.get("generation_config")
    given = {**({} if config is None else vars(config)), **generate_kwargs}
    limited = any(given.get(name) is not None for name in ("max_length", "max_new_tokens"))
    if limited or getattr(model, "limits_output_by_source", False):
        return {}
    return length_limit(model, longest)


def length_limit(model: PreTrainedModel, longest: int) -> dict[str, Any]:
    """Keywords of `generate()` that end translations 50 tokens past the longest source (section 6.1).

    For models that do not count the tokens of each source themselves, as ours do.
    """
    positions = learned_positions(model.config)
    limit = longest + MAX_LENGTH_BEYOND_SOURCE
    return {"max_length": limit if positions is None else min(limit, positions), "max_new_tokens": None}
