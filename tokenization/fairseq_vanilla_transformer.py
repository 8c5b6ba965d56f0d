"""The tokenizer of models that come from fairseq: words, byte-pair encoding of words, a vocabulary a side.

A text becomes words, by Moses' rules or at spaces; words become pieces by the merges of subword-nmt (Sennrich
et al., 2016) or fastBPE, each but a word's last with a separator behind it; pieces are looked up.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers import FSMTTokenizer, PreTrainedTokenizer
from transformers.utils import requires_backends

from ..modeling.hub_vanilla_transformer import SharedOnHub

_END_OF_WORD = "</w>"
# Words whose pieces are remembered at a time.
REMEMBERED_WORDS = 100_000
_VERSION = "#version:"
FILES = {"vocab_file": "vocab.json", "target_vocab_file": "target_vocab.json", "merges_file": "merges.txt"}


class FairseqTokenizer(SharedOnHub, PreTrainedTokenizer):
    """Words, byte-pair encoding of words, and a vocabulary for each side, as fairseq translates with them.

    Texts are encoded as sources, and with `text_target=` as targets; token ids are decoded as targets. Both
    sides end in `</s>`. A text that spells a special token is plain text, but for a word of its own where
    there are no merges, as in fairseq.

    Args:
        vocab_file, target_vocab_file, merges_file: files of the three that follow.
        vocab: the source's tokens with their ids.
        target_vocab: the target's, where they are others.
        merges: lines of codes as subword-nmt or fastBPE writes them, in the order in which they are merged;
            without them words are not split.
        separator: stands behind a piece that does not end its word.
        moses: words are those of Moses' tokenizer, by the package `sacremoses`; else what spaces part.
        moses_dash_splits, moses_escape: options of that tokenizer.
        source_lang, target_lang: languages, for Moses' rules.
        files: those of the three files without which it is not what was saved; saving notes them.
        kwargs: as transformers' tokenizers take them.

    Raises:
        ValueError: there is no vocabulary, a line of `merges` is no pair, or a file is missing.
    """

    vocab_files_names = FILES
    model_input_names = ["input_ids", "attention_mask"]
    _auto_map = {"AutoTokenizer": ["fairseq_vanilla_transformer.FairseqTokenizer", None]}

    def __init__(
        self,
        vocab_file: str | None = None,
        target_vocab_file: str | None = None,
        merges_file: str | None = None,
        *,
        vocab: dict[str, int] | None = None,
        target_vocab: dict[str, int] | None = None,
        merges: Sequence[str] | None = None,
        separator: str = "@@",
        moses: bool = False,
        moses_dash_splits: bool = True,
        moses_escape: bool = True,
        source_lang: str | None = None,
        target_lang: str | None = None,
        files: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        self.vocab = vocab or _json(vocab_file)
        if not self.vocab:
            raise ValueError("`vocab` must be given.")
        self.target_vocab = target_vocab or _json(target_vocab_file)
        if merges is None and merges_file is not None:
            merges = Path(merges_file).read_text("utf-8").removesuffix("\n").split("\n")
        self.merges = merges
        for name in set(files) - self._held().keys():
            raise ValueError(f"`{FILES[name]}` is missing, which this tokenizer was saved with.")
        self.ranks = _ranks(merges or [])
        self.separator = separator
        self.moses = moses
        self.moses_options = {"aggressive_dash_splits": moses_dash_splits, "escape": moses_escape}
        self.source_lang = source_lang
        self.target_lang = target_lang
        self._pieces: dict[str, list[str]] = {}
        self._is_target = False
        if moses:
            requires_backends(self, "sacremoses")
        kwargs.setdefault("split_special_tokens", True)
        special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
        super().__init__(
            separator=separator,
            moses=moses,
            moses_dash_splits=moses_dash_splits,
            moses_escape=moses_escape,
            source_lang=source_lang,
            target_lang=target_lang,
            files=sorted(self._held()),
            **special | kwargs,
        )
        # transformers would save with the tokenizer how this instance was loaded.
        for name in ("is_local", "local_files_only"):
            self.init_kwargs.pop(name, None)

    @property
    def vocab_size(self) -> int:
        """Entries of the source's vocabulary."""
        return len(self.vocab)

    def get_vocab(self) -> dict[str, int]:
        """The source's tokens with their ids, those that were added among them."""
        return self.vocab | self.added_tokens_encoder

    def __getstate__(self) -> dict[str, Any]:
        # What use leaves behind is no part of a tokenizer: the cache of `datasets` goes by its pickle.
        left_behind = ("_pieces", "_texts", "_Moses")
        state = {name: value for name, value in self.__dict__.items() if not name.startswith(left_behind)}
        return state | {"_pieces": {}}

    @cached_property
    def _texts(self) -> dict[int, str]:
        """The target's tokens by their ids."""
        return {number: token for token, number in (self.target_vocab or self.vocab).items()}

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """See transformers; an added token has one id for both sides, behind the source's vocabulary if new.

        Raises:
            ValueError: to the target, that id is another token.
        """
        known = self.get_vocab()
        for token in map(str, new_tokens if isinstance(new_tokens, list | tuple) else [new_tokens]):
            number = known.get(token, len(known))
            if self._texts.get(number, token) != token:
                raise ValueError(
                    f"{token!r} cannot be added: its id, {number}, is {self._texts[number]!r} for the target."
                )
        added: int = super().add_tokens(new_tokens, special_tokens)
        return added

    def _switch_to_input_mode(self) -> None:
        self._is_target = False

    def _switch_to_target_mode(self) -> None:
        self._is_target = True

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        # transformers looks for none of its added tokens where special ones are text.
        added = [
            re.escape(token.content) for token in self._added_tokens_decoder.values() if not token.special
        ]
        if not added:
            return self._pieces_of(text)
        parts = re.split(f"({'|'.join(sorted(added, key=len, reverse=True))})", text)
        return [
            piece
            for number, part in enumerate(parts)
            for piece in ([part] if number % 2 else self._pieces_of(part))
        ]

    def _pieces_of(self, text: str) -> list[str]:
        words = (self._moses_words(text) if self.moses else text).split(" ")
        pieces = [piece for word in words if word for piece in self._split(word)]
        # What other white space there is parts pieces as it parts words.
        return " ".join(pieces).split()

    def _split(self, word: str) -> list[str]:
        """The pieces of a word, their separators behind them."""
        if not self.merges:
            return [word]
        if word not in self._pieces:
            if len(self._pieces) >= REMEMBERED_WORDS:
                self._pieces.clear()
            *front, last = self._merged(word)
            self._pieces[word] = [*(piece + self.separator for piece in front), last]
        return self._pieces[word]

    def _merged(self, word: str) -> list[str]:
        """The pieces of a word after all merges, the earliest learned first."""
        joined = self._is_versioned
        pieces = [*word[:-1], word[-1] + _END_OF_WORD] if joined else [*word, _END_OF_WORD]
        while len(pieces) > 1:
            best = min(pairwise(pieces), key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            pieces = list(_with_pair_joined(pieces, best))
        *front, last = pieces
        last = last.removesuffix(_END_OF_WORD)
        return [*front, last] if last else front

    @property
    def _is_versioned(self) -> bool:
        """Whether the mark of a word's end is part of its last letter: not so in subword-nmt before 0.2."""
        first = self.merges[0] if self.merges else ""
        return first.startswith(_VERSION) or first.count(" ") == 2

    def _moses_words(self, text: str) -> str:
        language = self.target_lang if self._is_target else self.source_lang
        words: str = self._moses_tool("MosesTokenizer", language).tokenize(
            text, return_str=True, **self.moses_options
        )
        return words

    def _moses_tool(self, name: str, language: str | None) -> Any:
        key = f"_{name}_{language}"
        if key not in self.__dict__:
            self.__dict__[key] = getattr(import_module("sacremoses"), name)(language or "en")
        return self.__dict__[key]

    def _convert_token_to_id(self, token: str) -> int:
        vocab = self.target_vocab if self._is_target and self.target_vocab else self.vocab
        return vocab.get(token, self.vocab[str(self.unk_token)])

    def _convert_id_to_token(self, index: int) -> str:
        return self._texts.get(index, str(self.unk_token))

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text that tokens of a target are."""
        text = " ".join(tokens)
        if self.merges:
            text = f"{text} ".replace(f"{self.separator} ", "").rstrip()
        if self.moses:
            text = self._moses_tool("MosesDetokenizer", self.target_lang).detokenize(text.split())
        return text

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """A sequence, or two as one, and the end token."""
        return [*token_ids_0, *(token_ids_1 or []), self.eos_token_id]

    def get_special_tokens_mask(
        self,
        token_ids_0: list[int],
        token_ids_1: list[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 for each special token of a sequence, 0 for each other."""
        if not already_has_special_tokens:
            token_ids_0 = self.build_inputs_with_special_tokens(token_ids_0, token_ids_1)
        special = {self.pad_token_id, self.bos_token_id, self.eos_token_id}
        return [int(token in special) for token in token_ids_0]

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        legacy_format: bool | None = None,
        filename_prefix: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """See transformers; what the folder holds of another vocabulary goes."""
        saved = super().save_pretrained(save_directory, legacy_format, filename_prefix, **kwargs)
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        for name in FILES.keys() - self._held().keys():
            Path(save_directory, prefix + FILES[name]).unlink(missing_ok=True)
        return saved

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Writes the vocabularies and merges that there are; returns the names of the files."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        written = []
        for name, content in self._held().items():
            text = "\n".join(content) if name == "merges_file" else json.dumps(content, ensure_ascii=False)
            path = Path(save_directory, prefix + FILES[name])
            path.write_text(text + "\n", "utf-8")
            written.append(str(path))
        return tuple(written)

    def _held(self) -> dict[str, Any]:
        """Those of the vocabularies and merges that there are, by the keys of `FILES`."""
        contents = {
            "vocab_file": self.vocab,
            "target_vocab_file": self.target_vocab,
            "merges_file": self.merges,
        }
        return {name: content for name, content in contents.items() if content}


class FsmtTokenizer(SharedOnHub, FSMTTokenizer):  # type: ignore[misc]
    """The FSMT tokenizer of transformers, which here encodes targets too: `text_target=` by their vocabulary.

    transformers' own encodes every text as a source. See there for the arguments.
    """

    _auto_map = {"AutoTokenizer": ["fairseq_vanilla_transformer.FsmtTokenizer", None]}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Sentences end in its separator, which training asks for by this name.
        kwargs.setdefault("eos_token", kwargs.get("sep_token", "</s>"))
        super().__init__(*args, **kwargs)
        for name in ("is_local", "local_files_only"):
            self.init_kwargs.pop(name, None)
        self._of_source = (self.encoder, self.src_lang)
        self._of_target = ({token: number for number, token in self.decoder.items()}, self.tgt_lang)

    def _switch_to_input_mode(self) -> None:
        self.encoder, self.src_lang = self._of_source

    def _switch_to_target_mode(self) -> None:
        self.encoder, self.src_lang = self._of_target


def _json(path: str | None) -> dict[str, int]:
    return {} if path is None else json.loads(Path(path).read_text("utf-8"))


def _ranks(lines: Sequence[str]) -> dict[tuple[str, str], int]:
    """Each pair with its place among the merges, the first one if it is there twice."""
    ranks: dict[tuple[str, str], int] = {}
    for number, line in enumerate(lines, start=1):
        if number == 1 and line.startswith(_VERSION):
            continue
        parts = line.strip("\r\n ").split(" ")
        # fastBPE writes a third part, the pair's frequency.
        if len(parts) not in (2, 3) or (len(parts) == 3 and not parts[2].isdecimal()):
            raise ValueError(f"line {number} of `merges` must be a pair of pieces, but is {line!r} instead.")
        ranks.setdefault((parts[0], parts[1]), len(ranks))
    return ranks


def _with_pair_joined(pieces: Sequence[str], pair: tuple[str, str]) -> Iterator[str]:
    """Yields pieces, wherever the two of `pair` stand side by side as one."""
    position = 0
    while position < len(pieces):
        joined = tuple(pieces[position : position + 2]) == pair
        yield "".join(pair) if joined else pieces[position]
        position += 2 if joined else 1
