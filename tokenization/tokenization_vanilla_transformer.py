"""The tokenizer: byte-pair encoding over one vocabulary for source and target (paper: sections 3.4, 5.1).

How a text comes back exactly as it was, up to Unicode's canonical composition (NFC):

- A space belongs to the piece that follows it and is stored as a space; no other character stands for it.
- A character without a piece of its own becomes the bytes of its UTF-8 form, `<0x00>` to `<0xFF>`, which are
  ordinary entries of the vocabulary. Nothing is ever `<unk>`.
- Words are told apart in training only. Whether a word may end between two characters depends on these two
  alone, so no merge can reach across such a place and encoding has nothing to split: it merges whole texts.
- `<` is always a token of its own, found before everything else. As it is never in one piece with what
  follows, no text spells a special token or a byte token: `</s>` and `<0x41>` are the characters one reads.
"""

import copy
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NoReturn

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import BatchEncoding, TokenizersBackend
from transformers.utils import logging

from ..modeling.hub_vanilla_transformer import SharedOnHub

logger = logging.get_logger(__name__)

# In the order of their ids, from 0.
SPECIAL_TOKENS = {
    "pad_token": "<pad>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
GUARD = "<"
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + len(BYTE_TOKENS) + 1

# What training takes for a word: letters, or punctuation and symbols, or one digit, each with the space in
# front; Chinese and Japanese characters without it, so that a space changes nothing about them.
_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}ーｰ"
_WORDS = rf"[{_CJK}]+|<| ?[^\s\p{{P}}\p{{S}}\p{{Nd}}{_CJK}]+| ?[\p{{P}}\p{{S}}&&[^<{_CJK}]]+| ?\p{{Nd}}|\s"
# From this many texts on it pays to set up a faster encoder for them, unless it needs more added tokens.
LARGE_BATCH = 32
# Takes the place of a rare character in training: it is a word of its own and merges with nothing.
_GAP = "0"


class VanillaTransformerTokenizer(SharedOnHub, TokenizersBackend):  # type: ignore[misc]
    """Byte-pair encoding with byte fallback, lossless, shared by source and target (sections 3.4 and 5.1).

    `decode(encode(text), skip_special_tokens=True)` is `text` in NFC, for every text; of a tokenizer that was
    asked to lower-case, in lower case. Source and target alike end in `</s>`; nothing stands in front, since
    the model supplies the `<s>` that the decoder starts with. A text that spells a special token is plain
    text; who wants `<mask>` in a text to be the mask says so once, with
    `tokenizer.add_special_tokens({"mask_token": "<mask>"})`; so with `eos_token` for a chat template that
    writes `</s>`.

    Make one with `train_from_iterator` or `from_pretrained`. An instance made from nothing knows bytes only
    and can be asked to `train_new_from_iterator`.

    Args:
        pad_token: id 0.
        bos_token: id 1, with which the decoder starts.
        eos_token: id 2, which ends source and target.
        unk_token: id 3; no text is ever encoded as it.
        mask_token: id 4.
        vocab: every token with its id; needs the five above, the 256 byte tokens and `<`.
        merges: pairs of tokens, in the order in which they are merged.
        kwargs: as transformers' `TokenizersBackend` takes them.

    Raises:
        ValueError: `vocab` lacks one of the tokens it needs.
    """

    vocab_files_names = {"tokenizer_file": "tokenizer.json"}
    model_input_names = ["input_ids", "attention_mask"]
    padding_side = "right"
    # Written into tokenizer_config.json; the second place would be that of a slow tokenizer's fast twin.
    _auto_map = {"AutoTokenizer": ["tokenization_vanilla_transformer.VanillaTransformerTokenizer", None]}
    model = BPE  # type: ignore[assignment]  # the base class says None

    def __init__(
        self,
        *,
        pad_token: str | AddedToken = SPECIAL_TOKENS["pad_token"],
        bos_token: str | AddedToken = SPECIAL_TOKENS["bos_token"],
        eos_token: str | AddedToken = SPECIAL_TOKENS["eos_token"],
        unk_token: str | AddedToken = SPECIAL_TOKENS["unk_token"],
        mask_token: str | AddedToken = SPECIAL_TOKENS["mask_token"],
        vocab: dict[str, int] | None = None,
        merges: Sequence[tuple[str, str]] | None = None,
        **kwargs: Any,
    ) -> None:
        special = [str(token) for token in (pad_token, bos_token, eos_token, unk_token, mask_token)]
        if not any(kwargs.get(source) for source in ("tokenizer_object", "tokenizer_file", "gguf_file")):
            vocab = vocab or _vocabulary(special, [GUARD])
            kwargs["tokenizer_object"] = _backend(special, vocab, merges or [])
        # Saved, so that a plain PreTrainedTokenizerFast returns no `token_type_ids` either.
        kwargs.setdefault("model_input_names", self.model_input_names)
        # Given to transformers, one of them would have the other forget what was saved.
        asked = {name: kwargs.pop(name) for name in ("add_bos_token", "add_eos_token") if name in kwargs}
        super().__init__(
            pad_token=pad_token,
            bos_token=bos_token,
            eos_token=eos_token,
            unk_token=unk_token,
            mask_token=mask_token,
            **kwargs,
        )
        # What stands around a text is known to the backend alone.
        around = self.backend_tokenizer.encode("").ids
        self._add_bos_token = self.bos_token_id in around
        self._add_eos_token = self.eos_token_id in around
        for switch, value in asked.items():
            if getattr(self, switch) != value:
                setattr(self, switch, value)
        # transformers would save with the tokenizer how this instance was loaded.
        for name in ("is_local", "local_files_only"):
            self.init_kwargs.pop(name, None)

    @classmethod
    def _from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Refuse a folder without a tokenizer, of which one would be made that knows bytes only."""
        files, name, *_ = args
        if not any(files.get(kind) for kind in ("tokenizer_file", "vocab_file")):
            raise OSError(f"`{name}` holds no tokenizer: there is no `tokenizer.json`.")
        return super()._from_pretrained(*args, **kwargs)

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Load `tokenizer.json` as it is; of a class with an `__init__` the library would keep half of it."""
        if kwargs.get("tokenizer_file"):
            return kwargs
        return super().convert_to_native_format(trust_remote_code=trust_remote_code, **kwargs)

    @classmethod
    def train_from_iterator(
        cls,
        lines: Iterable[str] | Iterable[list[str]],
        *,
        vocab_size: int = 37_000,
        min_frequency: int = 2,
        max_token_length: int | None = None,
        lowercase: bool = False,
        show_progress: bool = False,
    ) -> "VanillaTransformerTokenizer":
        """Train a tokenizer on text of source and target together.

        The same lines give the same tokenizer. They are read twice; what can be read only once, such as a
        generator, is kept in memory.

        Args:
            lines: sentences, or lists of sentences.
            vocab_size: entries of the vocabulary, special and byte tokens among them (5.1: about 37,000).
                There are exactly that many, unless the text runs out of pairs to merge.
            min_frequency: how often a pair must occur to be merged, and a character to have its own piece.
                Rarer characters, and the rarest where the others are too many, are spelled in bytes.
            max_token_length: longest piece, in characters; None for any length.
            lowercase: lower-case every text, character by character, before all else, now and for good.
            show_progress: draw a progress bar on standard error.

        Raises:
            ValueError: `vocab_size` is too small, or `lines` hold no text, or something that is not a text.
        """
        blank = cls()
        if lowercase:
            blank.backend_tokenizer.normalizer = normalizers.Sequence(
                [normalizers.Lowercase(), normalizers.NFC()]
            )
        return blank.train_new_from_iterator(
            lines,
            vocab_size,
            min_frequency=min_frequency,
            max_token_length=max_token_length,
            show_progress=show_progress,
        )

    def train_new_from_iterator(
        self,
        text_iterator: Iterable[str] | Iterable[list[str]],
        vocab_size: int,
        length: int | None = None,
        new_special_tokens: Sequence[str | AddedToken] | None = None,
        special_tokens_map: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> "VanillaTransformerTokenizer":
        """Train a tokenizer with this one's settings on other text; see `train_from_iterator`.

        Args:
            text_iterator: sentences, or lists of sentences.
            vocab_size: entries of the vocabulary, all special tokens among them.
            length: how many items `text_iterator` has, for the progress bar.
            new_special_tokens: further special tokens; their ids come last.
            special_tokens_map: new names for special tokens, by their present ones. One without a `<` is
                found in a text that spells it.
            kwargs: `min_frequency`, `max_token_length` and `show_progress` of `train_from_iterator`.

        Raises:
            ValueError: as `train_from_iterator`, or a special token has the name of a piece.
        """
        renamed = special_tokens_map or {}
        tokens = {name: getattr(self, name) or default for name, default in SPECIAL_TOKENS.items()}
        names = {name: renamed.get(token, token) for name, token in tokens.items()}
        extra = [renamed.get(str(token), token) for token in self.extra_special_tokens]
        extra += map(_as_special, new_special_tokens or [])
        smallest = SMALLEST_VOCABULARY + len(extra)
        if vocab_size < smallest:
            raise ValueError(f"`vocab_size` must be at least {smallest}, but is {vocab_size} instead.")
        normalizer = self.backend_tokenizer.normalizer
        trainer = _trainer(vocab_size=vocab_size - smallest + 1, **kwargs)
        pieces, merges = _learn(_Lines(text_iterator, normalizer), trainer, length=length)
        found = smallest - 1 + len(pieces)
        if found < vocab_size:
            logger.warning(f"The text is enough for {found} entries of the vocabulary, not for {vocab_size}.")
        else:
            _warn_of_many_characters(pieces)
        special = list(names.values())
        for name in sorted({str(token) for token in (*special, *extra)} & set(pieces)):
            raise ValueError(f"a special token must not be called {name!r}, which is a piece of the text.")
        backend = _backend(special, _vocabulary(special, pieces), merges)
        backend.normalizer = normalizer
        settings = {**self.init_kwargs, **names, "extra_special_tokens": extra}
        settings.pop("added_tokens_decoder", None)  # of a tokenizer that was loaded: its ids are not these
        trained = type(self)(**settings, tokenizer_object=backend)
        for name in ("add_bos_token", "add_eos_token"):  # of which transformers saves none
            if getattr(trained, name) != getattr(self, name):
                setattr(trained, name, getattr(self, name))
        return trained

    @contextmanager
    def bpe_dropout(self, p: float) -> Iterator[None]:
        """Leave out each merge with probability `p`, at random and anew each time: BPE-dropout, for training.

        What is encoded inside the `with` block still decodes to its text. Nothing outside it is affected, and
        what is saved inside it has no dropout. The `tokenizers` library draws these numbers itself and takes
        no seed: this is the one thing in the package that no seed makes repeatable.

        Raises:
            ValueError: `p` is not a probability.
        """
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"`p` must lie between 0 and 1, but is {p} instead.")
        model = self.backend_tokenizer.model
        before = model.dropout
        model.dropout = p or None
        try:
            yield
        finally:
            model.dropout = before

    def _save_pretrained(self, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        with self.bpe_dropout(0.0):
            return super()._save_pretrained(*args, **kwargs)

    def _add_tokens(self, new_tokens: Sequence[str | AddedToken], special_tokens: bool = False) -> int:
        return super()._add_tokens(
            [_found_before_guard(token, special_tokens) for token in new_tokens],
            special_tokens=special_tokens,
        )

    def _encode_plus(self, text: Any, text_pair: Any = None, *args: Any, **kwargs: Any) -> BatchEncoding:
        normalized = text_pair is None and _is_large_nfc_batch(text)
        encoder = self._without_normalizer() if normalized else self
        try:
            return super(VanillaTransformerTokenizer, encoder)._encode_plus(text, text_pair, *args, **kwargs)
        except TypeError:
            _reject_surrogates([text, text_pair])
            raise

    def encode_ids(self, texts: list[str], *, add_special_tokens: bool = True) -> list[list[int]]:
        """Return `self(texts)["input_ids"]`, of several texts, in less time: ids and nothing else.

        Nothing is padded or cut.

        Raises:
            ValueError: a text has a lone surrogate.
        """
        encoder = self._without_normalizer() if _is_large_nfc_batch(texts) else self
        backend = encoder.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = self.split_special_tokens
        try:
            encodings = backend.encode_batch_fast(texts, add_special_tokens=add_special_tokens)
        except TypeError:
            _reject_surrogates(texts)
            raise
        return [encoding.ids for encoding in encodings]

    def _without_normalizer(self) -> "VanillaTransformerTokenizer":
        """Return a twin with the same model, for texts that are in NFC: to find that out again is slow."""
        backend = self.backend_tokenizer
        added = [token for _, token in sorted(self.added_tokens_decoder.items())]
        # Tokens are normalized by it, too.
        in_nfc = all(unicodedata.is_normalized("NFC", token.content) for token in added)
        if not isinstance(backend.normalizer, normalizers.NFC) or len(added) > LARGE_BATCH or not in_nfc:
            return self
        bare = Tokenizer(backend.model)
        bare.pre_tokenizer = backend.pre_tokenizer
        bare.post_processor = backend.post_processor
        for special, tokens in groupby(added, key=lambda token: token.special):
            (bare.add_special_tokens if special else bare.add_tokens)(list(tokens))
        twin = copy.copy(self)
        twin._tokenizer = bare
        return twin

    def decode(self, token_ids: Any, skip_special_tokens: bool = False, **kwargs: Any) -> str | list[str]:
        """Return the text of a sequence of ids, or the texts of several sequences.

        Raises:
            ValueError: an id is negative, such as the -100 that pads labels.
        """
        is_batch = isinstance(token_ids, list) and bool(token_ids) and isinstance(token_ids[0], list)
        try:
            if not is_batch or any(kwargs.values()):
                return super().decode(token_ids, skip_special_tokens=skip_special_tokens, **kwargs)
            texts: list[str] = self.backend_tokenizer.decode_batch(
                token_ids, skip_special_tokens=skip_special_tokens
            )
        except OverflowError:
            raise ValueError(
                "token ids must not be negative: replace the -100 of labels and predictions by"
                " `pad_token_id` first."
            ) from None
        return texts


class _Lines:
    """Checked and normalized sentences, as often as they are asked for."""

    def __init__(self, lines: Iterable[str] | Iterable[list[str]], normalizer: Any) -> None:
        if isinstance(lines, str):
            raise ValueError("`lines` must be several texts, but are a single one instead.")
        self._lines: Iterable[Any] = list(lines) if isinstance(lines, Iterator) else lines
        plain = normalizer is None or isinstance(normalizer, normalizers.NFC)
        self._normalize: Callable[[str], str] = _nfc if plain else normalizer.normalize_str

    def __iter__(self) -> Iterator[str]:
        flat = (line for item in self._lines for line in ([item] if isinstance(item, str) else _items(item)))
        for number, line in enumerate(flat, start=1):
            if not isinstance(line, str):
                raise ValueError(f"text {number} must be a str, but is a {type(line).__name__} instead.")
            _reject_surrogates(line)
            yield self._normalize(line)


def _items(item: Any) -> Iterable[Any]:
    return item if isinstance(item, (list, tuple)) else [item]


def _found_before_guard(token: str | AddedToken, special: bool) -> str | AddedToken:
    """A new token; one with the guard in it is looked for in the text as it stands, before the guard is.

    Special tokens that are given whole stay as they are: a text that spells one is plain text.
    """
    if GUARD not in str(token):
        return token
    if isinstance(token, str):
        return AddedToken(token, normalized=False, special=special)
    if special or token.special:
        return token
    return _changed(token, normalized=False)


def _as_special(token: str | AddedToken) -> str | AddedToken:
    """A new special token, which is one whatever it says of itself."""
    return token if isinstance(token, str) else _changed(token, special=True)


def _changed(token: AddedToken, **changes: bool) -> AddedToken:
    """The same token but for `changes`."""
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(token.content, **{name: getattr(token, name) for name in names} | changes)


def _is_large_nfc_batch(text: Any) -> bool:
    return (
        isinstance(text, (list, tuple))
        and len(text) >= LARGE_BATCH
        and all(isinstance(line, str) and unicodedata.is_normalized("NFC", line) for line in text)
    )


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _reject_surrogates(text: Any) -> None:
    """Raise for the first lone surrogate in a text or nested lists of texts."""
    if isinstance(text, (list, tuple)):
        for item in text:
            _reject_surrogates(item)
    elif isinstance(text, str):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            _raise_surrogate(error)


def _raise_surrogate(error: UnicodeEncodeError) -> NoReturn:
    code = ord(error.object[error.start])
    raise ValueError(
        f"a text must be valid Unicode, but has the lone surrogate U+{code:04X} at position {error.start}."
    ) from None


def _vocabulary(special_tokens: Sequence[str], pieces: Iterable[str]) -> dict[str, int]:
    return {token: index for index, token in enumerate([*special_tokens, *BYTE_TOKENS, *pieces])}


def _backend(
    special_tokens: Sequence[str], vocab: dict[str, int], merges: Sequence[tuple[str, str]]
) -> Tokenizer:
    """Return the whole pipeline; `special_tokens` in the order of `SPECIAL_TOKENS`."""
    for token in (*special_tokens, *BYTE_TOKENS, GUARD):
        if token not in vocab:
            raise ValueError(f"`vocab` must hold the token {token!r}, but does not.")
    _, _, eos, unk, _ = special_tokens
    merges = [(left, right) for left, right in merges]
    backend = Tokenizer(BPE(vocab=vocab, merges=merges, unk_token=unk, byte_fallback=True))
    backend.normalizer = normalizers.NFC()
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", pair=f"$A {eos} $B:1 {eos}:1", special_tokens=[(eos, vocab[eos])]
    )
    # The guard parts `<` from a stroke that NFC would have joined with it; the last step makes up for this.
    joined = decoders.Replace(GUARD + "\u0338", _nfc(GUARD + "\u0338"))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), joined])
    # Normalized tokens are looked for last, between the guards, where none can be.
    backend.add_special_tokens([AddedToken(token, normalized=True, special=True) for token in special_tokens])
    backend.add_tokens([AddedToken(GUARD, normalized=False)])
    return backend


def _trainer(
    *,
    vocab_size: int,
    min_frequency: int = 2,
    max_token_length: int | None = None,
    show_progress: bool = False,
) -> BpeTrainer:
    return BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        # The library's own bound is exclusive.
        max_token_length=None if max_token_length is None else max_token_length + 1,
        show_progress=show_progress,
    )


def _learn(
    lines: _Lines, trainer: BpeTrainer, *, length: int | None
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the pieces, single characters first, and the merges that make the longer ones."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line)
    if not counts:
        raise ValueError("there is no text to train on.")
    characters = _alphabet(counts, limit=trainer.vocab_size, min_frequency=trainer.min_frequency)
    trainer.initial_alphabet = characters
    trainer.limit_alphabet = len(characters)
    gaps = dict.fromkeys(map(ord, counts.keys() - set(characters)), _GAP)
    learner = Tokenizer(BPE())
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), "isolated")
    learner.train_from_iterator((line.translate(gaps) for line in lines), trainer, length=length)
    model = json.loads(learner.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].__getitem__), [tuple(pair) for pair in model["merges"]]


def _warn_of_many_characters(pieces: Sequence[str]) -> None:
    """Say so where more than half of the pieces are single characters, as Chinese text may have thousands."""
    characters = sum(len(piece) == 1 for piece in pieces)
    if 2 * characters > len(pieces):
        logger.warning(
            f"Single characters take {characters} of the {len(pieces)} entries of the vocabulary that are"
            f" neither special nor byte tokens, which leaves {len(pieces) - characters} for longer pieces: a"
            " larger `vocab_size` helps (characters without an entry are spelled in bytes either way)."
        )


def _alphabet(counts: Counter[str], *, limit: int, min_frequency: int) -> list[str]:
    """Return the characters that get their own pieces: the guard and the `limit - 1` most frequent others."""
    frequent = [
        character
        for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if count >= min_frequency and character != GUARD
    ]
    return [GUARD, *frequent[: limit - 1]]
