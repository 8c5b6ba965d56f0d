"""Parsers of command lines, and the types of their values."""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any

from vanilla_transformer.scripts.support.console import escape_unknown_letters


class Parser(argparse.ArgumentParser):
    """Takes `--num-beams` for `--num_beams`, and the other way round."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse."""
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._spelt(word) for word in words], namespace)

    def _spelt(self, word: str) -> str:
        name, equals, value = word.partition("=")
        spellings = (name, f"--{name[2:].replace('-', '_')}", f"--{name[2:].replace('_', '-')}")
        known = (one for one in spellings if name.startswith("--") and one in self._option_string_actions)
        return f"{next(known, name)}{equals}{value}"


def parser_of(doc: str | None, **options: Any) -> argparse.ArgumentParser:
    """A parser whose help begins with a module's docstring."""
    escape_unknown_letters()  # the help is printed before `run_script` begins
    return Parser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **options,
    )


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, but is {text!r} instead.")
    return number


def not_negative(text: str) -> int:
    """A whole number, 0 or more, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, but is {text!r} instead.")
    return int(text)


def random_seed(text: str) -> int:
    """A seed that NumPy takes, for argparse."""
    number = int(text) if text.isdecimal() else -1
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 0 to 2^32 - 1, but is {text!r} instead."
        )
    return number


def positive_number(text: str) -> float:
    """A finite number above 0, for argparse."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, but is {text!r} instead.")
    return number


def _number(text: str) -> float:
    """What a text says as a number; nan, which is in no range, where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def at_least_two(text: str) -> int:
    """A whole number above 1, for argparse."""
    if (number := positive(text)) == 1:
        raise argparse.ArgumentTypeError("must be 2 or more, as the token that starts a translation counts.")
    return number


def penalty_exponent(text: str) -> float:
    """A length penalty that `generate()` takes, for argparse."""
    from vanilla_transformer.modeling.generation_vanilla_transformer import MAX_ALPHA

    number = _number(text)
    if not -MAX_ALPHA <= number <= MAX_ALPHA:
        raise argparse.ArgumentTypeError(
            f"must be a number from -{MAX_ALPHA} to {MAX_ALPHA}, but is {text!r} instead."
        )
    return number


def sentence(text: str) -> str:
    """Text of the command line, for argparse; Python hands on bytes that are not UTF-8 as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"must be UTF-8, but is {text!r} instead.") from None
    return text
