"""Type-check the package as it is imported, not as its folders lie.

setuptools maps `vanilla_transformer.modeling` to `modeling/` and so on; mypy does not know such a mapping,
and would treat what one folder imports from another as unknown. So this script builds the import tree out of
symbolic links (`.build/types/vanilla_transformer/modeling -> modeling`), read from
`[tool.setuptools.package-dir]`, and checks that.

    python .ci/check_types.py [--root FOLDER] [--link-only]
"""

import argparse
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

TREE = Path(".build", "types")
OUTSIDE_THE_PACKAGE = ("tests", "benchmarks", "docs", ".ci")


def package_folders(root: Path) -> dict[str, str]:
    """Return import name -> folder, as pyproject.toml tells setuptools."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    folders: dict[str, str] = settings["tool"]["setuptools"]["package-dir"]
    return folders


def link_tree(root: Path, folders: Mapping[str, str]) -> list[Path]:
    """Bring the import tree below `root` up to date and return its top packages, relative to `root`."""
    links = _wanted_links(root, folders)
    for entry in [*(root / TREE).glob("*"), *(root / TREE).glob("*/*")]:
        if entry.is_symlink() and links.get(entry) != entry.resolve():
            entry.unlink()
    for link, target in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(target, link.parent))
    return [TREE / name for name in folders if "." not in name]


def _wanted_links(root: Path, folders: Mapping[str, str]) -> dict[Path, Path]:
    links = {}
    for name, folder in folders.items():
        if "." in name:
            links[root / TREE.joinpath(*name.split("."))] = root / folder
        else:  # the package that holds the others must be a folder of its own
            links |= {root / TREE / name / file.name: file for file in (root / folder).glob("*.py*")}
    # What lies in these folders is imported by its bare name, by pytest's `pythonpath` or a script beside it.
    files = (file for folder in ("tests", "benchmarks") for file in (root / folder).glob("*.py"))
    helpers = (file for file in files if not file.name.startswith(("test_", "conf")))
    return links | {root / TREE / file.name: file for file in helpers}


def name_real_files(report: str, folders: Mapping[str, str]) -> str:
    """Replace the paths of the import tree in mypy's report by those of the files themselves."""
    for name, folder in sorted([*folders.items(), ("", "tests")], key=lambda item: -len(item[0])):
        report = report.replace(f"{TREE.joinpath(*name.split('.'))}{os.sep}", f"{folder}{os.sep}")
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Run mypy over the whole project and return its exit status."""
    here = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description="Type-check the package as it is imported.")
    parser.add_argument("--root", type=Path, default=here, help="the project (default: this one)")
    parser.add_argument("--link-only", action="store_true", help="make the import tree, check nothing")
    args = parser.parse_args(argv)
    root = args.root.resolve()
    folders = package_folders(root)
    if args.link_only:
        link_tree(root, folders)
        return 0
    outside = [Path(name) for name in OUTSIDE_THE_PACKAGE if (root / name).is_dir()]
    checked = [*link_tree(root, folders), *outside]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *map(str, checked)],
        cwd=root,
        env={**os.environ, "MYPYPATH": str(TREE)},
        capture_output=True,
        text=True,
        check=False,
    )
    print(name_real_files(result.stdout, folders), end="")
    print(result.stderr, end="", file=sys.stderr)
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
