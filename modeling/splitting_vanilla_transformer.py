"""Texts too long for a model: cut where a sentence ends, or else a clause, or a word, and joined again."""

import re
from collections.abc import Callable, Sequence

# Where a text may be cut, best first. Chinese and Japanese put no space behind their marks.
_CUTS = (
    re.compile(r"[.!?…]+[\"'”’»)\]]*\s+|[。！？｡…]+[”’」』）]*\s*"),
    re.compile(r"[,;:]\s+|[，；：、]\s*"),
    re.compile(r"\s+"),
)
# Characters of scripts without spaces between words, and the marks of such scripts. Korean has spaces.
_UNSPACED = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff60]")


def split_text(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The parts of a text, each as long as it may be, white space around them removed.

    Args:
        text: a text that does not fit.
        fits: whether a part is short enough. A single character counts as short enough in any case.
    """
    for cut in _CUTS:
        pieces = _pieces(text, cut)
        if len(pieces) > 1:
            return [part for group in _packed(pieces, fits) for part in _split_further(group, fits)]
    middle = len(text) // 2
    return [part for half in (text[:middle], text[middle:]) for part in _split_further(half, fits)]


def _split_further(text: str, fits: Callable[[str], bool]) -> list[str]:
    text = text.strip()
    if not text:
        return []
    return [text] if len(text) == 1 or fits(text) else split_text(text, fits)


def _pieces(text: str, cut: re.Pattern[str]) -> list[str]:
    """The text in pieces that end where `cut` does; put together they are the text."""
    ends = [match.end() for match in cut.finditer(text) if match.end() < len(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def _packed(pieces: Sequence[str], fits: Callable[[str], bool]) -> list[str]:
    """Neighbouring pieces put together as long as they fit."""
    groups = [pieces[0]]
    for piece in pieces[1:]:
        if fits((groups[-1] + piece).strip()):
            groups[-1] += piece
        else:
            groups.append(piece)
    return groups


def joined(texts: Sequence[str]) -> str:
    """Translated parts as one text, with a space between them unless their script has none."""
    whole = ""
    for text in filter(None, texts):
        spaced = whole and not (_UNSPACED.match(whole[-1]) or _UNSPACED.match(text[0]))
        whole += f" {text}" if spaced else text
    return whole
