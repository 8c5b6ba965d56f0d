"""The one error that means: what the user gave is wrong."""


class InputError(ValueError):
    """A file, a line, a recipe key or an option given by the user cannot be used.

    Its message is one line that names the file, line or field. Scripts print it after `error: ` and
    exit with status 2; in Python it is an ordinary `ValueError`.
    """
