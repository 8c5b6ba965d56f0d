"""The API reference: whatever a package offers is described on one of its pages."""

import re
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {path.name: path.read_text("utf-8") for path in (DOCS / "api").glob("*.md")}
MODULES = [name for page in PAGES.values() for name in re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE)]


@pytest.mark.parametrize(
    "package", ["", ".configuration", ".tokenization", ".modeling", ".training", ".inspection", ".interop"]
)
def test_every_public_name_is_in_a_module_with_a_page(package: str) -> None:
    found = import_module(f"vanilla_transformer{package}")
    offered = {name: getattr(found, name) for name in getattr(found, "__all__", ())}
    homes = {name: getattr(value, "__module__", None) for name, value in offered.items()}
    lost = {name: home for name, home in homes.items() if home and home not in MODULES}
    assert not lost


def test_every_page_is_in_the_menu_and_every_module_exists() -> None:
    menu = re.findall(r"^  - (\w+\.md)$", (DOCS / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(menu) == sorted(PAGES)
    assert len(MODULES) == len(set(MODULES))
    for name in MODULES:
        import_module(name)
