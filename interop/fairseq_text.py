"""fairseq's way from a text to numbers: dictionaries, codes of byte-pair encoding, Moses' words."""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import MarianTokenizer
from transformers.utils import logging

from ..errors import InputError, first_line
from ..tokenization import FairseqTokenizer

logger = logging.get_logger(__name__)

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
# Where a checkpoint does not say how words are split, one of these files does, by the names of fairseq's hub.
CODES = {"sentencepiece.bpe.model": "sentencepiece", "bpecodes": "subword_nmt", "code": "subword_nmt"}
FILE_SETTINGS = {
    "subword_nmt": ("bpe_codes",),
    "fastbpe": ("bpe_codes",),
    "sentencepiece": ("sentencepiece_model", "sentencepiece_vocab"),
}
TOKENIZERS = (None, "space", "moses")
OVERWRITE = "#fairseq:overwrite"
TEXT_SETTINGS = (
    *("data", "source_lang", "target_lang", "tokenizer", "moses_source_lang", "moses_target_lang"),
    *("moses_no_dash_splits", "moses_no_escape", "bpe", "bpe_codes", "bpe_separator", "sentencepiece_model"),
)


def load_text(settings: Mapping[str, Any], changes: Mapping[str, Any], sizes: Sequence[int]) -> Any:
    """The tokenizer of a model of fairseq, which AutoTokenizer loads again.

    It is a `MarianTokenizer` for SentencePiece, else a `FairseqTokenizer`.

    Args:
        settings: the checkpoint's, and `data`, the folder of `dict.*.txt` and codes. A file that the
            checkpoint names is looked for there alone, whatever its path was.
        changes: of `TEXT_SETTINGS`, what replaces them; their paths are taken as they are.
        sizes: how many tokens the model knows, of the source and of the target.

    Raises:
        InputError: a file is missing or damaged, does not fit the model, or a setting is not known.
    """
    for name in changes.keys() - set(TEXT_SETTINGS):
        raise InputError(f"the settings to change must be of {', '.join(TEXT_SETTINGS)}, but have {name!r}.")
    chosen = {**settings, **changes}
    folder = Path(chosen["data"])
    vocabularies = [
        _vocabulary(folder, f"{side}_lang", chosen, size)
        for side, size in zip(("source", "target"), sizes, strict=True)
    ]
    bpe, codes = _codes(chosen, changes, folder)
    if codes is None and any(map(_holds_pieces, vocabularies)):
        logger.warning(
            "The vocabulary holds pieces of words, but no codes were found that split words into them: give"
            " `bpe` and its file, unless the text comes split."
        )
    if chosen.get("tokenizer") not in TOKENIZERS:
        raise InputError(
            f"`tokenizer` must be None, 'space' or 'moses', but is {chosen['tokenizer']!r} instead."
        )
    if bpe == "sentencepiece" and codes is not None:
        return _sentencepiece_tokenizer(codes, vocabularies, chosen)
    return _word_tokenizer(codes, vocabularies, chosen)


def _holds_pieces(vocabulary: Iterable[str]) -> bool:
    """Whether tokens of a vocabulary are marked as pieces of words, as byte-pair encodings mark them."""
    return any(token.endswith("@@") or token.startswith("\u2581") for token in vocabulary)


def _vocabulary(folder: Path, side: str, settings: Mapping[str, Any], size: int) -> dict[str, int]:
    language = settings.get(side)
    if not isinstance(language, str):
        raise InputError(f"`{side}` must be given: the checkpoint does not tell it.")
    path = folder / f"dict.{Path(language).name}.txt"
    vocabulary = read_dictionary(path)
    if len(vocabulary) != size:
        raise InputError(f"`{path}` has {len(vocabulary)} tokens, but the model has {size}.")
    return vocabulary


def read_dictionary(path: Path) -> dict[str, int]:
    """The tokens of a `dict.txt` with their numbers, fairseq's special ones first.

    Raises:
        InputError: it cannot be read, or a line is not a token and its count, or repeats a token.
    """
    tokens = {token: number for number, token in enumerate(SPECIAL_TOKENS)}
    for number, line in enumerate(_lines(path), start=1):
        token, _, count = line.removesuffix(f" {OVERWRITE}").rpartition(" ")
        if not token or not count.isdecimal():
            raise InputError(f"`{path}`, line {number}, must be a token and its count, but is {line!r}.")
        if token in tokens and line.endswith(OVERWRITE):
            # fairseq means the later entry by the word, and by its own special tokens the first one still.
            former = tokens[token]
            if token in SPECIAL_TOKENS:
                token = f"{token}#{len(tokens)}"
            else:
                tokens[f"{token}#{former}"] = tokens.pop(token)
        if token in tokens:
            raise InputError(f"`{path}`, line {number}, repeats the token {token!r}.")
        tokens[token] = len(tokens)
    return tokens


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise InputError(f"`{path}` is not UTF-8.") from None
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error.strerror or error}.") from None


def _codes(
    settings: Mapping[str, Any], changes: Mapping[str, Any], folder: Path
) -> tuple[str | None, Path | None]:
    """The kind of byte-pair encoding and its file."""
    kind = settings.get("bpe")
    if kind is None:
        lone = [name for names in FILE_SETTINGS.values() for name in names if name in changes]
        if lone:
            raise InputError(f"`bpe` must be given beside `{lone[0]}`: one of {', '.join(FILE_SETTINGS)}.")
        found = next((name for name in CODES if (folder / name).is_file()), None)
        return (CODES[found], folder / found) if found else (None, None)
    if kind not in FILE_SETTINGS:
        known = ", ".join(FILE_SETTINGS)
        raise InputError(f"`bpe` must be None or one of {known}, but is {kind!r} instead.")
    names = FILE_SETTINGS[kind]
    given = [Path(changes[name]) for name in names if name in changes]
    named = [folder / Path(str(settings[name])).name for name in names if settings.get(name)]
    usual = [
        folder / name for name, of in CODES.items() if (of == "sentencepiece") == (kind == "sentencepiece")
    ]
    for path in given or [*named, *usual]:
        if path.is_file():
            return kind, path
    raise InputError(f"`{names[0]}` must be a file for `bpe` {kind!r}, but none is in `{folder}`.")


def _sentencepiece_tokenizer(
    model: Path, vocabularies: list[dict[str, int]], settings: Mapping[str, Any]
) -> MarianTokenizer:
    if settings.get("tokenizer") == "moses":
        raise InputError(
            "`tokenizer` must be None or 'space' where `bpe` is 'sentencepiece', but is 'moses' instead."
        )
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{side}.json") for side in ("source", "target")]
        for path, vocabulary in zip(paths, vocabularies, strict=True):
            path.write_text(json.dumps(vocabulary), "utf-8")
        try:
            return MarianTokenizer(
                *(str(model), str(model), str(paths[0])),
                target_vocab_file=str(paths[1]),
                separate_vocabs=vocabularies[0] != vocabularies[1],
                source_lang=settings["source_lang"],
                target_lang=settings["target_lang"],
                **_limit(settings),
            )
        except Exception as error:  # what a damaged model of SentencePiece raises is of many kinds
            raise InputError(f"`{model}` cannot be loaded: {first_line(error)}") from None


def _word_tokenizer(
    codes: Path | None, vocabularies: list[dict[str, int]], settings: Mapping[str, Any]
) -> FairseqTokenizer:
    source, target = vocabularies
    try:
        return FairseqTokenizer(
            vocab=source,
            target_vocab=None if target == source else target,
            merges=None if codes is None else _lines(codes),
            separator=settings.get("bpe_separator") or "@@",
            moses=settings.get("tokenizer") == "moses",
            moses_dash_splits=not settings.get("moses_no_dash_splits"),
            moses_escape=not settings.get("moses_no_escape"),
            source_lang=settings.get("moses_source_lang") or settings["source_lang"],
            target_lang=settings.get("moses_target_lang") or settings["target_lang"],
            **_limit(settings),
        )
    except ValueError as error:
        raise InputError(f"`{codes}`: {first_line(error)}") from None


def _limit(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The longest source, which fairseq refuses to exceed."""
    longest = settings.get("max_source_positions")
    return {"model_max_length": longest} if isinstance(longest, int) else {}
