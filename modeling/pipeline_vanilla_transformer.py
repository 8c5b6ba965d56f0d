"""The translation pipeline, for our model and for any other sequence-to-sequence model of transformers."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Pipeline

from .hub_vanilla_transformer import SharedOnHub, short_card
from .saving_vanilla_transformer import custom_pipelines
from .translation_vanilla_transformer import Translation, returned_sequences, translations

# Options of `translations` under the names that a pipeline gives them.
_RENAMED = {"return_scores": "scores"}
# Pairs of languages that a copy of the tokenizer is kept for.
_COPIES = 8


class TranslationPipeline(SharedOnHub, Pipeline):
    """Translates sentences: `pipe("我有一只猫。")` gives `[{"translation_text": "I have a cat."}]`.

    A string, or a dictionary with one, gives a list of its translations. A list gives a list with a
    dictionary for each sentence, or with a list of them where `num_return_sequences` asks for several.
    Anything else that can be iterated over, a generator or a data set, gives an iterator of the same, which
    reads `window` sentences ahead. Blank sentences are translated to the empty string.

    Args (of the pipeline, or of one call):
        column (`str`): the sentence's key where the input's elements are dictionaries.
        src_lang, tgt_lang (`str`): languages, for tokenizers that take them (mBART, NLLB).
        prefix (`str`): what stands before each sentence, as T5 is told what to do.
        return_scores (`bool`): a `score` for each translation; by default where there are several.
        return_attention (`bool`, defaults to `False`): the `attention` of the decoder to the source, a tensor
            (layers, heads, target, source), with `source_tokens` and `target_tokens`.
        return_alignment (`bool`, defaults to `False`): pairs (source, target) of token indices, each target
            token with the source token that it attends to most over all layers and heads, and the tokens.
        progress (`bool`, defaults to `False`): a progress bar on standard error.
        long_sentences (`str`, *optional*): `"error"`, `"truncate"` or `"split"`, with `max_source_length`.
        batch_size, tokens_per_batch, window: how sentences are batched, by length.
        kwargs: all else goes to `generate()`: `num_beams`, `num_return_sequences`, `max_length` ... A
            translation may have 50 tokens more than its source unless told otherwise.

    Raises:
        ValueError: an input or an option that cannot be used.
    """

    _load_tokenizer = True  # type: ignore[assignment]
    _load_processor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]

    def __call__(self, inputs: Any, *args: Any, **options: Any) -> Any:
        """Translate a string, or many, see the class."""
        if args:
            raise ValueError("the options of a translation pipeline must be given by name.")
        options = {
            **self._forward_params,
            "batch_size": self._batch_size,
            **self._sanitize_parameters(**options)[1],
        }
        if isinstance(inputs, (str, Mapping)):
            return next(self._records([inputs], 1, options))
        if isinstance(inputs, bytes) or not any(
            hasattr(inputs, name) for name in ("__iter__", "__getitem__")
        ):
            raise ValueError(
                "the input must be a string, or something that gives strings or dictionaries, but is of type"
                f" {type(inputs).__name__} instead."
            )
        total = len(inputs) if hasattr(inputs, "__len__") else None
        records = self._records(inputs, total, options)
        single = (one[0] if len(one) == 1 else one for one in records)
        return list(single) if isinstance(inputs, (list, tuple)) else single

    def _records(self, inputs: Iterable[Any], total: int | None, options: dict[str, Any]) -> Iterator[Any]:
        """The translations of each input, as `postprocess` gives them."""
        options = dict(options)
        sentences = self.preprocess(inputs, column=options.pop("column", None))
        shown = {name: options.pop(name, False) for name in ("return_attention", "return_alignment")}
        options["attention"] = any(shown.values())
        options.setdefault("scores", returned_sequences(self.model, options) > 1)
        found = self._forward(sentences, total=total, **options)
        return (self.postprocess(one, **shown) for one in found)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """All options go to one place: what is not ours is known to `generate()` alone."""
        options.pop("num_workers", None)
        return {}, {_RENAMED.get(name, name): value for name, value in options.items()}, {}

    def preprocess(self, inputs: Iterable[Any], column: str | None = None) -> Iterator[str]:  # type: ignore[override]
        """The sentences of the input."""
        for number, item in enumerate(inputs, start=1):
            if isinstance(item, Mapping):
                if column not in item:
                    raise ValueError(
                        f"`column` must be one of {', '.join(map(str, item))} for sentence {number}, but is"
                        f" {column!r} instead."
                    )
                item = item[column]
            yield item

    def _forward(  # type: ignore[override]
        self,
        sentences: Iterable[str],
        *,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        **options: Any,
    ) -> Iterator[list[Translation]]:
        """The translations of each sentence."""
        given = known_languages(self.tokenizer, src_lang=src_lang, tgt_lang=tgt_lang)
        options = {**language_generate_kwargs(self.tokenizer, given), **options}
        tokenizer = self._tokenizer_in(given) if given else self.tokenizer
        return translations(self.model, tokenizer, sentences, **options)  # type: ignore[arg-type]

    def _tokenizer_in(self, given: dict[str, str]) -> Any:
        """A copy of the tokenizer that is set to the languages.

        A copy, as sentences are encoded in a thread, and for as long as the caller takes to read what comes.
        """
        original: Any = self.tokenizer
        languages = {name: getattr(original, name, None) for name in ("src_lang", "tgt_lang")} | given
        # Copies are kept: one of 250,000 tokens takes seconds. The rest of the key is what may have changed.
        key = (*languages.values(), len(original), original.model_max_length)
        copies: dict[Any, tuple[Any, Any]] = self.__dict__.setdefault("_copies", {})
        found = copies.get(key)
        if found is None or found[0] is not original:
            found = (original, copy.deepcopy(original))
            for name, language in given.items():
                setattr(found[1], name, language)
            copies[key] = found
            if len(copies) > _COPIES:
                copies.pop(next(iter(copies)), None)
        return found[1]

    def postprocess(  # type: ignore[override]
        self, found: Sequence[Translation], return_attention: bool = False, return_alignment: bool = False
    ) -> list[dict[str, Any]]:
        """The translations of a sentence as dictionaries, best first."""
        return [translation_record(one, return_attention, return_alignment) for one in found]

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Save model and tokenizer with the code of this pipeline beside them, for a foreign model too."""
        self.model.config.update({"custom_pipelines": custom_pipelines()})
        super().save_pretrained(save_directory, *args, **kwargs)

    def _card(self, repo_id: str, tags: Sequence[str] = ()) -> str | None:
        return short_card(self.model, repo_id, tags)


def known_languages(tokenizer: Any, **languages: str | None) -> dict[str, str]:
    """Those of `src_lang` and `tgt_lang` that are not `None`.

    Raises:
        ValueError: the tokenizer takes no languages, or does not know one of them.
    """
    given = {name: language for name, language in languages.items() if language is not None}
    for name, language in given.items():
        if not _knows_language(tokenizer, name, language):
            raise ValueError(
                f"`{name}` must be a language of the tokenizer, but {type(tokenizer).__name__} does not know"
                f" {language!r}."
            )
    return given


def language_generate_kwargs(tokenizer: Any, languages: Mapping[str, str]) -> dict[str, Any]:
    """Keywords of `generate()` for translations into the `tgt_lang` of `known_languages`."""
    if "tgt_lang" not in languages or not takes_languages(tokenizer):
        return {}
    token = _language_token(tokenizer, languages["tgt_lang"])
    return {"forced_bos_token_id": tokenizer.convert_tokens_to_ids(token)}


def takes_languages(tokenizer: Any) -> bool:
    """Whether it puts a token for the language into a text; FSMT's has but the names of its two."""
    return hasattr(tokenizer, "tgt_lang") and hasattr(tokenizer, "set_src_lang_special_tokens")


def _knows_language(tokenizer: Any, name: str, language: str) -> bool:
    if not takes_languages(tokenizer):
        return language == getattr(tokenizer, name, None)
    return hasattr(tokenizer, name) and _language_token(tokenizer, language) is not None


def _language_token(tokenizer: Any, language: str) -> str | None:
    """The token of a language, or `None` for one that the tokenizer does not know.

    A piece of text may be spelled like a language, so that the vocabulary does not tell.
    """
    # M2M100 writes its languages otherwise than their tokens.
    tokens: Mapping[str, str] | None = getattr(tokenizer, "lang_code_to_token", None)
    if tokens is not None:
        return tokens.get(language)
    known = {*getattr(tokenizer, "lang_code_to_id", ()), *tokenizer.all_special_tokens}
    return language if language in known else None


def translation_record(
    one: Translation, with_attention: bool = False, with_alignment: bool = False
) -> dict[str, Any]:
    """A translation as the dictionary that a pipeline gives."""
    record: dict[str, Any] = {"translation_text": one.text}
    if one.score is not None:
        record["score"] = one.score
    if with_attention or with_alignment:
        record |= {"source_tokens": list(one.source_tokens), "target_tokens": list(one.target_tokens)}
    if with_attention:
        record["attention"] = one.attention
    if with_alignment:
        record["alignment"] = alignment(one.attention)
    return record


def alignment(attention: torch.Tensor | None) -> list[tuple[int, int]]:
    """Pairs (source, target) from attention weights (layers, heads, target, source); none without weights."""
    if attention is None:
        return []
    best = attention.mean(dim=(0, 1)).argmax(dim=-1)  # (target,)
    return [(source, target) for target, source in enumerate(best.tolist())]
