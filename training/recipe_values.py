"""What recipes of every kind share: keys with meaning and limits, checked values, YAML, and overrides."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import math
import re
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from ..errors import InputError


def recipe_key(
    default: Any,
    meaning: str,
    *,
    section: str = "",
    choices: Sequence[str] = (),
    minimum: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field whose metadata hold what help, comments and validation are made of."""
    metadata = {
        "help": meaning,
        "section": section,
        "choices": tuple(choices),
        "minimum": minimum,
        "below": below,
    }
    if isinstance(default, dict | list):
        return field(default_factory=lambda: copy.copy(default), metadata=metadata | {"default": default})
    return field(default=default, metadata=metadata | {"default": default})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings as a frozen dataclass whose fields are made by `recipe_key`; subclasses add them.

    Raises:
        InputError: a value of the wrong type or outside its limits, or keys that contradict each other.
    """

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = _checked(item, key_types(type(self))[item.name], getattr(self, item.name))
            object.__setattr__(self, item.name, value)
        self.check()

    def check(self) -> None:
        """Check what concerns several keys; each class adds its own."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A recipe from plain values; keys that are absent have their defaults.

        Raises:
            InputError: an unknown key (the closest known one is named) or a value that cannot be used.
        """
        check_known(values, prefix="", known=key_types(cls))
        return cls(**dict(values))

    def to_dict(self) -> dict[str, Any]:
        """All keys with their values, in the order of the file."""
        return dataclasses.asdict(self)

    def to_yaml(self, *, comments: bool = False) -> str:
        """The recipe as YAML that `load_recipe` reads back to an equal one.

        Args:
            comments: write meaning, choices and default above each key, and a title above each section.
        """
        if not comments:
            return _dump(self.to_dict(), sort_keys=False)
        return "".join(self._commented_keys()).lstrip("\n")

    def _commented_keys(self) -> Iterable[str]:
        for item in dataclasses.fields(self):
            if item.metadata["section"]:
                yield f"\n\n## {item.metadata['section']}"
            dumped = _dump({item.name: getattr(self, item.name)}, sort_keys=False)
            yield "\n" + "\n".join(comment_lines(item.name, type(self))) + "\n" + dumped

    def differences(self, other: Recipe) -> list[str]:
        """Names of the keys in which two recipes differ, in the order of the file."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [name for name in mine if mine[name] != theirs[name]]


def key_types(kind: type[Recipe]) -> dict[str, Any]:
    """The type of each key of a kind of recipe."""
    hints = typing.get_type_hints(kind)
    return {item.name: hints[item.name] for item in dataclasses.fields(kind)}


def comment_lines(name: str, kind: type[Recipe]) -> list[str]:
    """The comment above a key: meaning, choices and default, wrapped, each line with `# ` in front."""
    metadata = kind.__dataclass_fields__[name].metadata
    choices = f" Choices: {', '.join(metadata['choices'])}." if metadata["choices"] else ""
    text = f"{metadata['help']}{choices} Default: {as_yaml(metadata['default'])}."
    return textwrap.wrap(
        text,
        width=108,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def parse_overrides(words: Sequence[str], kind: type[Recipe]) -> dict[str, Any]:
    """Command-line words to values: `["--seed", "3", "--model.d_model=256"]` -> `{"seed": 3, ...}`.

    A dash inside a key stands for an underscore. Values are YAML; those of string keys stay as typed, so that
    `--target_lang no` is Norwegian, and only `null` is nothing.

    Raises:
        InputError: a word that is no `--key`, a key without a value, or an unknown key.
    """
    values: dict[str, Any] = {}
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--") or word == "--":
            raise InputError(f"expected `--key value`, but found {word!r}.")
        key, equals, text = word[2:].partition("=")
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise InputError(f"`--{key}` needs a value.")
            text = remaining.pop(0)
        name, dot, inner = key.partition(".")
        name = name.replace("-", "_")
        check_known([name], prefix="", known=key_types(kind))
        # Elsewhere an inner key names parts of the model, such as encoder.layers.0-1.
        key = f"{name}{dot}{inner.replace('-', '_') if name in ('model', 'generation') else inner}"
        values[key] = _override_value(key, text, kind)
    return values


# Keys that say the same in two ways.
_ALTERNATIVES = (
    (("max_steps",), ("num_train_epochs",)),
    (("train_file",), ("train_source", "train_target")),
    (("valid_file",), ("valid_source", "valid_target")),
)


def apply_overrides(values: dict[str, Any], overrides: Mapping[str, Any], kind: type[Recipe]) -> None:
    """Replace keys of a recipe's values; what is given sets to null what says the same in another way."""
    known = key_types(kind)
    for pair in _ALTERNATIVES:
        for given, others in (pair, pair[::-1]):
            if any(overrides.get(key) is not None for key in given):
                values.update({key: None for key in others if key in known and key not in overrides})
    for key, value in overrides.items():
        name, dot, inner = key.partition(".")
        if not dot:
            values[name] = value
        elif not isinstance(values.setdefault(name, dict(default_of(name, kind))), dict):
            raise InputError(f"`{name}` must be a mapping, but is {values[name]!r} instead.")
        else:
            values[name] = values[name] | {inner: value}


def _override_value(key: str, text: str, kind: type[Recipe]) -> Any:
    name, dot, inner = key.partition(".")
    if dot and (_plain_type(key_types(kind)[name]) is not dict or not inner):
        raise InputError(f"`{name}` has no keys of its own, so `--{key}` cannot be set.")
    if not dot and _plain_type(key_types(kind)[name]) is str:
        return None if text in ("null", "~") else text
    try:
        return yaml.load(text, Loader=_RecipeLoader)
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError):  # a date that is none is a ValueError
        raise InputError(f"`--{key}` has the value {text!r}, which is not YAML.") from None


class _RecipeLoader(yaml.SafeLoader):
    """YAML that reads 1e-9 as a number, as YAML 1.2 does, and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue  # no key at all, as the base class says
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                raise InputError(f"line {line}: `{key_node.value}` is given twice.")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


class _RecipeDumper(yaml.SafeDumper):
    """YAML that the loader reads back: a string `1e-9` in quotes."""


for _kind in (_RecipeLoader, _RecipeDumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def _dump(value: Any, **style: Any) -> str:
    return yaml.dump(value, Dumper=_RecipeDumper, allow_unicode=True, **style)


def read_recipe_file(path: Path) -> str:
    """The text of a recipe file; an `InputError` names a file that cannot be read."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"recipe {path} is not UTF-8: {error.reason} at byte {error.start}.") from None
    except OSError as error:
        raise InputError(f"recipe {path} cannot be read: {error.strerror}.") from None


def parse_mapping(text: str, source: str) -> dict[str, Any]:
    """The keys and values of a recipe's text; an `InputError` names `source` and the line."""
    try:
        values = yaml.load(text, Loader=_RecipeLoader)
    except InputError as error:
        raise InputError(f"recipe {source}, {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"recipe {source}{_yaml_problem(error)}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"recipe {source} is not YAML: {error}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"recipe {source} must be a YAML mapping of keys to values.")
    return values


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}" if mark is not None else ""
    return f"{where} is not YAML: {getattr(error, 'problem', None) or 'unreadable characters'}."


# What torch and the libraries below it count with is smaller.
_TOO_LARGE = 2**63
_KIND_NAMES = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of strings",
    dict: "a mapping of keys to values",
}


def _checked(item: dataclasses.Field[Any], annotation: Any, value: Any) -> Any:
    """`value`, converted to the field's type; an `InputError` if it does not fit."""
    if value is None and _is_optional(annotation):
        return None
    value = converted(item.name, _plain_type(annotation), value)
    if value == "":
        nothing = ": null is none" if _is_optional(annotation) else ""
        raise InputError(f"`{item.name}` must not be empty{nothing}.")
    choices = item.metadata["choices"]
    if choices and value not in choices:
        raise InputError(f"`{item.name}` must be one of {', '.join(choices)}, but is {value!r} instead.")
    _check_limits(item, value)
    return value


def converted(name: str, kind: type, value: Any) -> Any:
    """`value` as one of the types that a key may have; an `InputError` if it is of another type."""
    if kind in (int, float) and isinstance(value, int) and abs(value) >= _TOO_LARGE:
        raise InputError(f"`{name}` must be below 2^63, but has {len(str(abs(value)))} digits.")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is dict and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    if kind is list and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return list(value)
    if kind not in (list, dict) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    hint = " (put it in quotes)" if kind is str and not isinstance(value, Mapping) else ""
    raise InputError(f"`{name}` must be {_KIND_NAMES[kind]}{hint}, but is {as_yaml(value)} instead.")


def _check_limits(item: dataclasses.Field[Any], value: Any) -> None:
    minimum, below = item.metadata["minimum"], item.metadata["below"]
    if minimum is None:
        return
    if math.isfinite(value) and value >= minimum and (below is None or value < below):
        return
    if below is not None:
        rule = f"at least {minimum} and below {below}"
    elif minimum == 1 and isinstance(value, int):
        rule = "positive"
    else:
        rule = "finite and not negative" if minimum == 0 else f"finite and at least {minimum}"
    raise InputError(f"`{item.name}` must be {rule}, but is {value} instead.")


def check_pair(recipe: Recipe, first: str, second: str) -> None:
    """Refuse one of two keys without the other."""
    for given, missing in ((first, second), (second, first)):
        if getattr(recipe, given) is not None and getattr(recipe, missing) is None:
            raise InputError(f"`{given}` is given without `{missing}`.")


def check_at_most_one(recipe: Recipe, names: Sequence[str]) -> None:
    """Refuse two keys of which only one may be given."""
    given = [name for name in names if getattr(recipe, name) is not None]
    if len(given) > 1:
        raise InputError(f"`{given[0]}` and `{given[1]}` must not both be given: set one to null.")


def check_known(keys: Iterable[str], *, prefix: str, known: Iterable[str]) -> None:
    """Refuse a key that is not `known`, and name the closest that is."""
    names = set(known)
    for key in keys:
        if key not in names:
            raise InputError(f"unknown key `{prefix}{key}`{closest(str(key), names, prefix)}")


def closest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a message about an unknown word: the closest known one, or a full stop."""
    matches = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean `{prefix}{matches[0]}`?" if matches else "."


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a library says of a wrong value into an `InputError` of one line."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (ValueError, AttributeError, StrictDataclassError) as error:
        raise InputError(" ".join(str(error).split())) from None


def default_of(name: str, kind: type[Recipe]) -> Any:
    """The default of a key."""
    return kind.__dataclass_fields__[name].metadata["default"]


def as_yaml(value: Any) -> str:
    """A value in one line of YAML."""
    dumped = _dump(value, default_flow_style=True, width=math.inf)
    return dumped.removesuffix("\n").removesuffix("\n...")


def _is_optional(annotation: Any) -> bool:
    return isinstance(annotation, types.UnionType) and type(None) in typing.get_args(annotation)


def _plain_type(annotation: Any) -> type:
    """`str | None` -> str, `dict[str, Any]` -> dict."""
    inner = typing.get_args(annotation)[0] if _is_optional(annotation) else annotation
    return typing.get_origin(inner) or inner
