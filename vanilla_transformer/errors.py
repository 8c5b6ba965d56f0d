"""The one error that means: what the user gave is wrong; and what other errors say, in one line."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

# Packages whose module has another name.
_PACKAGES = {"yaml": "pyyaml"}


class InputError(ValueError):
    """A file, a line, a recipe key or an option given by the user cannot be used.

    Its message is one line that names the file, line or field. Scripts print it after `error: ` and
    exit with status 2; in Python it is an ordinary `ValueError`.
    """


def first_line(error: Exception) -> str:
    """The first line of an error's message that says something, or else the error's kind.

    A line that announces a list, as its colon says, is followed by what is in the list.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines) if lines[0].endswith(":") else lines[0]


def import_extra(module: str, extra: str) -> Any:
    """A module that only an extra of this package brings.

    Raises:
        InputError: it is not installed, and the message names the extra; or it does not work here.
    """
    try:
        return import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            raise InputError(missing_package(module, extra)) from None
        raise InputError(f"the package {module} cannot be imported: {first_line(error)}") from error


def missing_package(module: str, extra: str | None) -> str:
    """What a user is told who has not installed a module, which an extra of this package may bring."""
    remedy = extra and f": it comes with the extra `{extra}` (pip install '.[{extra}]' in a clone)"
    return f"this needs the package {module}, which is not installed{remedy or ''}."


def extra_with(module: str) -> str | None:
    """The first extra of this package that brings a module, if one does."""
    from packaging.requirements import Requirement

    try:
        about = metadata("vanilla-transformer")
    except PackageNotFoundError:
        return None
    package = _PACKAGES.get(module, module).lower()
    for line in about.get_all("Requires-Dist") or []:
        requirement = Requirement(line)
        if requirement.name.lower() == package and requirement.marker:
            extras = about.get_all("Provides-Extra") or []
            return next((one for one in extras if requirement.marker.evaluate({"extra": one})), None)
    return None
