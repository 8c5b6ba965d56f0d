"""Results files: figures with the command and the machine that made them, and the table they are shown in."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from ..errors import InputError
from ..files import changed_keys, read_json, write_text
from ..tables import markdown_table


def machine(device: str | None = None) -> dict[str, Any]:
    """What computes here: the GPU or the processor, how many of them, and the versions of the libraries.

    Args:
        device: "cpu" where the GPU of this machine has no part in it; default: the GPU where there is one.
    """
    if torch.cuda.is_available() and device != "cpu":
        hardware = {"device": torch.cuda.get_device_name(), "devices": torch.cuda.device_count()}
    else:
        hardware = {"device": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    return hardware | {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def command_line() -> str:
    """How this program was called, as one would type it: a script with python, a command by its name."""
    program, *words = sys.argv
    called = ["python", program] if program.endswith(".py") else Path(program).name.split()
    return shlex.join([*called, *words])


def check_settings(path: str | Path, settings: Mapping[str, Any], *, begun: bool = True) -> None:
    """Note in a file how the results beside it are made, or refuse to mix them with others.

    Args:
        path: the file.
        settings: what decides the results, as JSON holds it.
        begun: whether there are results yet; without them a note of before is replaced.

    Raises:
        InputError: the file is there and notes another value of a setting.
    """
    path = Path(path)
    if not (begun and path.is_file()):
        write_text(path, json.dumps(settings, indent=2))
        return
    noted, given = read_json(path), json.loads(json.dumps(settings))
    # What an earlier version did not note had no other value yet.
    if changed := changed_keys(noted, {name: given.get(name) for name in noted}):
        raise InputError(
            f"`{path.parent}` holds results made otherwise ({', '.join(changed)} differ):"
            " give another `output_dir`."
        )


def write_report(
    path: str | Path,
    *,
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    device: str | None = None,
    **content: Any,
) -> dict[str, Any]:
    """Write a results file whole: its table as it is shown, and everything that the table was made of.

    Args:
        path: the JSON file.
        titles, rows: the table, every cell a string.
        device: what computed, see `machine`.
        content: what else belongs to it, values that JSON knows.

    Returns:
        What was written.
    """
    report = {
        "command": command_line(),
        "machine": machine(device),
        **content,
        "table": {"titles": list(titles), "rows": [list(row) for row in rows]},
    }
    write_text(Path(path), json.dumps(report, indent=2, ensure_ascii=False))
    return report


def show_report(
    path: str | Path | None,
    *,
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    device: str | None = None,
    **content: Any,
) -> None:
    """Print a table and, where a path is given, write its results file; see `write_report`."""
    print(markdown_table(titles, rows))
    if path:
        write_report(path, titles=titles, rows=rows, device=device, **content)
