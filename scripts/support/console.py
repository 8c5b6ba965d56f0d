"""How a script ends: errors in one line, exit statuses, and streams that are closed or lack letters."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper

from vanilla_transformer.errors import InputError, extra_with, first_line, missing_package


def run_script(body: Callable[[], int | None]) -> int:
    """Run the body of a script and turn what the user can mend into one line on standard error.

    Standard streams that the caller closed hold nothing and take everything. What `body` prints is written
    when this returns or raises.

    Returns:
        The exit status: 0, or what `body` returns; 2 for wrong input, files that cannot be read or written,
        and what a device's memory does not hold; 130 after Ctrl-C; 141 when the reader of the output went
        away.
    """
    _open_absent_streams()
    escape_unknown_letters()
    try:
        try:
            return body() or 0
        finally:
            sys.stdout.flush()
    except InputError as error:
        return fail(str(error))
    except ImportError as error:
        if error.name is None:  # a library that misses another one, and says so
            return fail(first_line(error))
        package = error.name.partition(".")[0]
        if not isinstance(error, ModuleNotFoundError) or package == __name__.partition(".")[0]:
            raise
        return fail(missing_package(package, extra_with(package)))
    except RuntimeError as error:
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(error, torch.OutOfMemoryError):
            raise
        return fail(
            "the device has not enough memory: take fewer tokens or sentences at a time"
            " (`--tokens_per_device` and `--eval_batch_size` of a training, `--tokens_per_batch` of a"
            " translation)."
        )
    except BrokenPipeError:
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return fail(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        print_error("interrupted")
        return 130
    finally:
        _close_broken_streams()


def _open_absent_streams() -> None:
    # In the order of their numbers: each gets its own back, which no file that is opened later then takes.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (for good)


def escape_unknown_letters() -> None:
    """Print an escape such as \\u732b for a letter that the encoding of the output lacks."""
    for stream in (sys.stdout, sys.stderr):
        # What else the user or Python chose stays.
        if isinstance(stream, TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _close_broken_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Python would try to flush once more at exit, and complain.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fail(message: str) -> int:
    """Print `error: ` and the message, in a line of its own, on standard error; the exit status 2."""
    print_error("error: " + " ".join(message.split()))
    return 2


def _end_progress_bars() -> None:
    """End the line of each open progress bar, so that what is printed next begins on a new one."""
    # Only who draws bars has imported tqdm; their list is shared by all kinds of them, and a private name.
    bars = getattr(getattr(sys.modules.get("tqdm"), "tqdm", None), "_instances", ())
    for bar in list(bars):
        with suppress(OSError, ValueError):  # as in `tell`
            bar.close()


def print_error(line: str) -> None:
    """Print a line on standard error, behind the progress bars."""
    _end_progress_bars()
    # Where nobody reads the errors, the exit status tells.
    with suppress(OSError):
        print(line, file=sys.stderr)


def print_title(title: str) -> None:
    """A title of what follows, seen at once."""
    print(f"\n{title}", flush=True)
