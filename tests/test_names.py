"""Names of files: no script hides a module, each runs by its path, none names the folders of one machine."""

import fnmatch
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    path
    for folder in ("scripts", "benchmarks")
    for path in (ROOT / folder).glob("*.py")
    if "def main(" in path.read_text(encoding="utf-8")
)
ABSOLUTE_PATH = re.compile(
    r"""(?<![\w.:/$}\\-])/(?:home|root|Users|work|workspace|workdir|tmp|mnt|scratch|var/tmp)/[\w.-]"""
    r"""|\b[A-Z]:\\+(?:Users|home|work|temp)\b"""
)


def ours(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("script", SCRIPTS, ids=ours)
def test_no_script_hides_a_module(script: Path) -> None:
    """A script's own folder comes first on its path, so `evaluate.py` would take the place of `evaluate`."""
    assert script.stem not in sys.stdlib_module_names
    assert script.stem not in packages_distributions()


@pytest.mark.parametrize("script", SCRIPTS, ids=ours)
def test_a_script_explains_itself_when_run_by_its_path(script: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(script), "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: ")
    assert len(result.stdout.splitlines()) > 3
    assert not list(tmp_path.iterdir())


def project_files() -> Iterator[Path]:
    """Yield the files of the project: by git, or without it all that .gitignore does not name."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0 and listed.stdout:
        yield from (path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())
        return
    patterns = [
        line.rstrip("/")
        for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]

    def wanted(name: str) -> bool:
        return name != ".git" and not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)

    for folder, subfolders, files in os.walk(ROOT):
        subfolders[:] = filter(wanted, subfolders)
        yield from (Path(folder, name) for name in files if wanted(name))


def test_no_file_names_a_folder_of_one_machine() -> None:
    found = []
    for path in project_files():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if ABSOLUTE_PATH.search(line):
                found.append(f"{ours(path)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("cd /ho" + "me/ann/project", True),
        ('Path("/tm' + 'p/x")', True),
        ("C:\\Us" + "ers\\ann", True),
        ("https://example.org/home/page", False),
        ("runs/tmp/x and ./work/y", False),
        ("/dev/full", False),
    ],
)
def test_the_search_for_such_folders_finds_them(text: str, is_one: bool) -> None:
    assert bool(ABSOLUTE_PATH.search(text)) is is_one
