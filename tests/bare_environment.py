"""A Python that has what we depend on, and not us."""

import subprocess
import sys
from pathlib import Path

HIDDEN = ("vanilla_transformer", "__editable__", "__pycache__")


def bare_python(folder: Path) -> Path:
    """Make a virtual environment in `folder` whose packages are links to those here, ours left out.

    A path to the folder of packages would not do: what an editable installation leaves there finds us again.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    for place in sys.path:
        if place and any(Path(place).glob("*.dist-info")):
            for entry in Path(place).iterdir():
                if not entry.name.startswith(HIDDEN) and entry.suffix != ".pth":
                    link = site / entry.name
                    if not link.exists():
                        link.symlink_to(entry.resolve())
    return folder / "venv" / "bin" / "python"
