"""The package as a whole: its imports, its wheel, its pins, its type check, its Makefile, its card."""

import importlib.metadata
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]
LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".venv", ".build", "runs", "build", "dist", "*.egg-info", ".*_cache", "__pycache__", ".hypothesis"
)


def run(command: Sequence[str | Path], *, cwd: Path, status: int = 0) -> str:
    """Run a command, hold it to its exit status and return its two outputs together."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MAKEFLAGS")
    }
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == status, result.stdout
    return result.stdout


def test_the_import_brings_nothing_that_transformers_own_classes_do_not(tmp_path: Path) -> None:
    """Of other packages; transformers itself imports accelerate with any of its models."""
    code = """
import sys
from transformers import AutoModel, AutoTokenizer, FSMTTokenizer, MarianMTModel, PreTrainedTokenizerFast
before = set(sys.modules)
import vanilla_transformer
added = set(sys.modules) - before
print(sorted({name.partition(".")[0] for name in added} - sys.stdlib_module_names))
print(sorted({"transformers.trainer", "vanilla_transformer.training", "vanilla_transformer.scripts"} & added))
"""
    assert run([sys.executable, "-c", code], cwd=tmp_path).split("\n") == [
        "['vanilla_transformer']",
        "[]",
        "",
    ]


@pytest.fixture(scope="module")
def face() -> dict[str, Any]:
    """Return what a fresh interpreter sees of the package: its version, its imports, its public names."""
    code = """
import json, sys, vanilla_transformer as package
loaded = sorted(sys.modules)
missing = [name for name in package.__all__ if not hasattr(package, name)]
unlisted = sorted(set(package.__all__) - set(dir(package)))
print(json.dumps(dict(version=package.__version__, loaded=loaded, missing=missing, unlisted=unlisted)))
"""
    seen: dict[str, Any] = json.loads(run([sys.executable, "-c", code], cwd=ROOT / "tests").splitlines()[-1])
    return seen


def test_the_import_leaves_the_training_libraries_alone(face: dict[str, Any]) -> None:
    heavy = {"datasets", "evaluate", "matplotlib", "pandas", "sacrebleu", "sacremoses", "tensorboard"}
    assert not heavy & set(face["loaded"])


def test_every_public_name_is_there(face: dict[str, Any]) -> None:
    assert face["missing"] == []
    assert face["unlisted"] == []


def test_the_version_is_the_same_everywhere(face: dict[str, Any]) -> None:
    assert face["version"] == PROJECT["project"]["version"]


def folder_of(package: str) -> str:
    """Where setuptools finds a package: a folder of its own, or one in that of the package above."""
    above, _, name = package.rpartition(".")
    return FOLDERS.get(package) or f"{folder_of(above)}/{name}"


def test_every_folder_with_a_package_in_it_is_installed() -> None:
    found = (path.parent for depth in ("*", "[!.]*/*") for path in ROOT.glob(f"{depth}/__init__.py"))
    with_package = {folder.relative_to(ROOT).as_posix() for folder in found} - {"tests", "benchmarks"}
    assert {folder_of(name) for name in PACKAGES} == with_package
    deep = (path.relative_to(ROOT) for path in ROOT.glob("[!.]*/*/*/__init__.py"))
    assert not [path for path in deep if path.parts[0] not in ("build", "dist", "runs")]  # what is made there


def requirements_of(name: str, extras: frozenset[str], seen: dict[str, frozenset[str]]) -> Iterator[str]:
    """Yield the names of all that `name` with `extras` needs here, from the metadata of what is installed."""
    if extras <= seen.get(name, frozenset()) and name in seen:
        return
    seen[name] = extras | seen.get(name, frozenset())
    yield name
    for line in importlib.metadata.requires(name) or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield from requirements_of(
                canonicalize_name(requirement.name), frozenset(requirement.extras), seen
            )


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    matches = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines if not line.startswith("#")]
    assert all(matches), "constraints.txt must hold nothing but comments and name==version"
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


def test_constraints_pin_all_that_is_installed_with_us() -> None:
    needed = set(requirements_of("vanilla-transformer", frozenset({"dev"}), {})) - {"vanilla-transformer"}
    from_torch = {name for name in needed if re.match("nvidia-|cuda-|triton", name)}
    assert needed - from_torch <= pins().keys()


def test_constraints_allow_what_pyproject_asks_for() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    for line in [
        *PROJECT["project"]["dependencies"],
        *extras["train"],
        *extras["demo"],
        *extras["docs"],
        *extras["dev"],
    ]:
        requirement = Requirement(line)
        if requirement.name != "vanilla-transformer":
            assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)]), line


@pytest.fixture
def project_copy(tmp_path: Path) -> Path:
    copy = tmp_path / "project"
    shutil.copytree(ROOT, copy, ignore=LEFT_BEHIND)
    return copy


def check_types(project: Path, *, status: int) -> str:
    return run(
        [sys.executable, ROOT / ".ci" / "check_types.py", "--root", project], cwd=project, status=status
    )


def test_the_type_check_follows_types_from_folder_to_folder(tmp_path: Path) -> None:
    """In a skeleton of the project, each folder misuses what the one before it defines and is blamed."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in FOLDERS.values():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    chain = ("configuration", "tokenization", "modeling", "training", "scripts")
    definition = "def width() -> int:\n    return 512\n"
    (tmp_path / chain[0] / "probe.py").write_text(definition)
    for before, folder in itertools.pairwise(chain):
        misuse = f"from ..{before}.probe import width as narrow\n\nname: str = narrow()\n\n"
        (tmp_path / folder / "probe.py").write_text(misuse + definition)
    report = check_types(tmp_path, status=1)
    for folder in chain[1:]:
        assert f"{folder}/probe.py:3: error: Incompatible types in assignment" in report
    assert "Found 4 errors in 4 files" in report


@pytest.mark.slow
def test_the_type_check_sees_through_our_own_classes(project_copy: Path) -> None:
    """An error in one folder about a class of another, imported as the sources do it, fails the check."""
    wrong = {
        "modeling": "from ..configuration import VanillaTransformerConfig\n\n"
        "name: str = VanillaTransformerConfig().d_model\n",
        "training": "from ..modeling import VanillaTransformerForConditionalGeneration\n\n"
        "name: str = VanillaTransformerForConditionalGeneration\n",
        "scripts": "from ..tokenization import VanillaTransformerTokenizer\n\n"
        "VanillaTransformerTokenizer.train_from_iterator([], vocab_size='many')\n",
        "benchmarks": "from vanilla_transformer import InputError\n\nnumber: int = InputError('x')\n",
    }
    if (ROOT / ".mypy_cache").is_dir():
        shutil.copytree(ROOT / ".mypy_cache", project_copy / ".mypy_cache")
    for folder, text in wrong.items():
        (project_copy / folder / "probe.py").write_text(text)
    report = check_types(project_copy, status=1)
    for folder in wrong:
        assert f"{folder}/probe.py:3: error:" in report, report
    assert f"Found {len(wrong)} errors in {len(wrong)} files" in report


def make_interpreter(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_stops_with_one_line_that_names_an_old_interpreter(tmp_path: Path) -> None:
    old = make_interpreter(
        tmp_path, "python-old", 'case "$2" in *platform*) echo 3.10.13 ;; *) exit 1 ;; esac'
    )
    shim = make_interpreter(tmp_path, "python-shim", "echo 'command not found' >&2; exit 127")
    venv = tmp_path / "venv"
    output = run(["make", "-s", f"VENV={venv}", f"PYTHON={shim} {old}", "venv"], cwd=ROOT, status=2)
    # Called from `make test`, make calls itself make[1].
    lines = [line for line in output.splitlines() if not re.match(r"make(\[\d+\])?: \*\*\*", line)]
    assert lines == [f"Python 3.11 or newer with its venv module is needed, but found: {old} 3.10.13."]
    assert not venv.exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_passes_over_shims_and_old_interpreters(tmp_path: Path) -> None:
    old = make_interpreter(
        tmp_path, "python-old", 'case "$2" in *platform*) echo 3.10.13 ;; *) exit 1 ;; esac'
    )
    good = make_interpreter(tmp_path, "python-good", f'exec "{sys.executable}" "$@"')
    venv = tmp_path / "venv"
    run(["make", "-s", f"VENV={venv}", f"PYTHON=no-such-python {old} {good}", f"{venv}/bin/python"], cwd=ROOT)
    assert run([venv / "bin" / "python", "-c", "print(1)"], cwd=tmp_path) == "1\n"


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built from a copy of the sources, so that nothing is left in the project."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "project", ignore=LEFT_BEHIND)
    options = ["--wheel", "--no-isolation", "--outdir", str(folder)]
    run([sys.executable, "-m", "build", *options, folder / "project"], cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of an environment with the wheel in it, which takes the rest from this one."""
    folder = tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], cwd=folder)
    binaries = folder / "venv" / "bin"
    site = run(
        [binaries / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], cwd=folder
    )
    options = ["--python", str(binaries / "python"), "install", "-q", "--no-deps", "--no-index"]
    run([sys.executable, "-m", "pip", *options, wheel], cwd=folder)
    Path(site.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return binaries


@pytest.mark.slow
def test_python_in_a_clone_finds_the_sub_packages(installed: Path) -> None:
    """The folder of the package is found there before what is installed, and holds no sub-package."""
    code = "import vanilla_transformer.training as training; print(training.__file__)"
    found = run([installed / "python", "-c", code], cwd=ROOT)
    assert found.splitlines()[-1] == str(ROOT / "training" / "__init__.py")


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {
        f"{name.replace('.', '/')}/{path.name}"
        for name in PACKAGES
        for path in (ROOT / folder_of(name)).iterdir()
        if path.suffix in (".py", ".yaml") or path.name in ("py.typed", "model_card.md")
    } | {
        f"vanilla_transformer/recipes/accelerate/{path.name}"
        for path in (ROOT / "recipes" / "accelerate").iterdir()
    }
    info = f"vanilla_transformer-{PROJECT['project']['version']}.dist-info"
    assert {name for name in names if not name.startswith(info)} == sources
    assert f"{info}/licenses/LICENSE" in names
    assert "vanilla_transformer/py.typed" in names


@pytest.mark.slow
def test_the_wheel_works_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    code = """
import importlib, json, pkgutil, vanilla_transformer as package
names = [module.name for module in pkgutil.walk_packages(package.__path__, "vanilla_transformer.")]
print(json.dumps({name: importlib.import_module(name).__file__ for name in names}))
"""
    modules = json.loads(run([installed / "python", "-c", code], cwd=tmp_path).splitlines()[-1])
    assert set(PACKAGES) - {"vanilla_transformer"} <= modules.keys()
    assert all(str(installed.parent) in file for file in modules.values())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_of_the_wheel_works_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    help_text = run([installed / "vanilla-transformer", "--help"], cwd=tmp_path)
    for command in (
        "train",
        "translate",
        "evaluate",
        "train-tokenizer",
        "average-checkpoints",
        "recipes",
        "demo",
    ):
        assert command in help_text
    listed = run([installed / "vanilla-transformer", "recipes"], cwd=tmp_path)
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        assert recipe.stem in listed
    assert not list(tmp_path.iterdir())
