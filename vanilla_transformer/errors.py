"""The one error that means: what the user gave is wrong; and what other errors say, in one line."""


class InputError(ValueError):
    """A file, a line, a recipe key or an option given by the user cannot be used.

    Its message is one line that names the file, line or field. Scripts print it after `error: ` and
    exit with status 2; in Python it is an ordinary `ValueError`.
    """


def first_line(error: Exception) -> str:
    """The first line of an error's message that says something, or else the error's kind."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
