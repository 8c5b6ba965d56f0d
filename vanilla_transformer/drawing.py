"""Figures without pyplot, saved whole or not at all, in fonts that have the characters to be drawn."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .files import replaced_when_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
DEFAULT_FONT = "DejaVu Sans"
# Families that are tried first; any other font that has the characters will do.
PREFERRED = ("Noto Sans CJK", "Noto Sans SC", "Source Han Sans", "WenQuanYi", "PingFang", "Microsoft YaHei")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches; pyplot and its backend are left alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Save `figure` as the suffix of `path` says, written beside first, then renamed; returns `path`.

    Raises:
        InputError: the suffix is neither .png nor .svg, or the file cannot be written.
    """
    path = Path(path)
    check_format(path)
    with replaced_when_whole(path) as beside:
        figure.savefig(beside, format=path.suffix[1:].lower(), dpi=100)
    return path


def check_format(path: str | Path) -> None:
    """Refuse a file that is neither .png nor .svg with an `InputError`."""
    if Path(path).suffix[1:].lower() not in FORMATS:
        raise InputError(f"a picture must be a .png or .svg, but `{path}` is to be written.")


@contextmanager
def fonts_for(texts: Iterable[str], *, required: bool = True) -> Iterator[None]:
    """Within the context, matplotlib writes in fonts that have the characters of `texts`.

    Args:
        texts: what is going to be written.
        required: refuse to draw what no font has; otherwise boxes stand in its place.

    Raises:
        InputError: no installed font has some character; the message names packages that do.
    """
    from matplotlib import rc_context

    written = {ord(char) for text in texts for char in text if char.isprintable() and not char.isspace()}
    families, missing = fonts_with(frozenset(written - _characters(_default_path())))
    if missing and required:
        raise InputError(
            f"no installed font has the characters {missing[:8]!r}: install one that does, such as those of"
            " Debian's packages `fonts-noto-cjk` and `fonts-noto-core`."
        )
    settings: dict[Any, Any] = {
        "font.family": [DEFAULT_FONT, *families],
        "text.parse_math": False,  # a piece may hold dollar signs
        "svg.fonttype": "path",  # outlines look the same where the font is not installed
    }
    # For good, as a figure looks for its fonts when it is drawn; a filter is added once.
    logging.getLogger("matplotlib.font_manager").addFilter(_is_not_about_weights)
    with rc_context(settings):
        yield


def _is_not_about_weights(record: logging.LogRecord) -> bool:
    """False for the warning that a font lacks a weight: it may be the only one with these characters."""
    return not record.getMessage().startswith("findfont: Failed to find font weight")


@cache
def _known_family(path: str) -> str:
    """Tell matplotlib of a font, once, as it would note it each time; the name of its family."""
    from matplotlib.font_manager import fontManager, get_font

    fontManager.addfont(path)
    return str(get_font(path).family_name)


@lru_cache(maxsize=256)
def fonts_with(characters: frozenset[int]) -> tuple[tuple[str, ...], str]:
    """Families of installed fonts that have `characters` (code points), and the characters that none has."""
    from matplotlib.font_manager import findSystemFonts

    families: list[str] = []
    for path in sorted(findSystemFonts(), key=_rank) if characters else []:
        if not characters & _characters(path):
            continue
        families.append(_known_family(path))
        characters -= _characters(path)
        if not characters:
            break
    return tuple(families), "".join(map(chr, sorted(characters)))


def _rank(path: str) -> tuple[bool, bool, str]:
    name = Path(path).name.replace("-", "").lower()
    preferred = any(name.startswith(family.replace(" ", "").lower()) for family in PREFERRED)
    return not preferred, "regular" not in name, name


@cache
def _characters(path: str) -> frozenset[int]:
    from matplotlib.font_manager import get_font

    try:
        return frozenset(get_font(path).get_charmap())
    except (RuntimeError, OSError):  # a font of a kind that matplotlib cannot read
        return frozenset()


def _default_path() -> str:
    from matplotlib.font_manager import findfont

    return findfont(DEFAULT_FONT)
