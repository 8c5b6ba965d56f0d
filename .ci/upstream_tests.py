"""Obtain transformers' own common tests, as its source distribution carries them, and print their folder.

They match the transformers that is installed, and are kept in `$XDG_CACHE_HOME/vanilla-transformer` (by
default below `~/.cache`), so that they are downloaded once. None of their text is part of this project.

    python .ci/upstream_tests.py
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

PACKAGE = "transformers_tests"
# Lets tests/upstream/stand_ins supply, under the same package name, what the distribution left out.
INIT = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"


def cache_folder(version: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the tests of one version are kept."""
    cache = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "vanilla-transformer", f"transformers-{version}")


def download(version: str, folder: Path) -> Path:
    """Download the source distribution of one version into `folder` and return its path.

    Raises:
        RuntimeError: pip could not get it; the message ends in pip's own last word.
    """
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    # Only transformers itself from source: what pip needs to read its metadata may come built.
    options = ["--no-binary", "transformers", "-d", str(folder), f"transformers=={version}"]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    archives = list(folder.glob("*.tar.gz"))
    if result.returncode or not archives:
        errors = result.stderr.strip().splitlines() or ["pip said nothing"]
        raise RuntimeError(
            f"transformers' own tests, version {version}, are not in {cache_folder(version)} and cannot be"
            f" downloaded: {errors[-1]}"
        )
    return archives[0]


def unpack(archive: Path, folder: Path) -> None:
    """Write the modules directly below `tests/` of a source distribution into a package in `folder`.

    Raises:
        RuntimeError: there are none.
    """
    with tarfile.open(archive) as distribution:
        for member in distribution:
            parts = PurePosixPath(member.name).parts
            if len(parts) == 3 and parts[1] == "tests" and parts[2].endswith(".py"):
                member.name = parts[2]
                distribution.extract(member, folder / PACKAGE, filter="data")
    if not (folder / PACKAGE).is_dir():
        raise RuntimeError(f"{archive.name} has no tests.")
    (folder / PACKAGE / "__init__.py").write_text(INIT, encoding="utf-8")


def obtain(version: str, cache: Path) -> None:
    """Make sure that the tests of one version lie in `cache`, whole or not at all.

    Raises:
        RuntimeError: they are not there and cannot be downloaded.
    """
    if cache.is_dir():
        return
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as folder:
        unpack(download(version, Path(folder)), Path(folder, "whole"))
        shutil.move(Path(folder, "whole"), cache)


def main() -> int:
    """Print the folder to put on Python's path; on failure one line, and status 2."""
    version = importlib.metadata.version("transformers")
    cache = cache_folder(version)
    try:
        obtain(version, cache)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    print(cache)
    return 0


if __name__ == "__main__":
    sys.exit(main())
