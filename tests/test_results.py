"""The pages of results and speed: tables are those of the results files, pictures and links are there."""

import json
import re
from pathlib import Path

import pytest
from helpers import load_benchmark

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = ("results.md", "speed.md")


def results_files(page: str) -> list[Path]:
    """The files whose tables a page shows."""
    names = re.findall(r"<!-- table: ([^\s#]+)(?:#\w+)? -->", (DOCS / page).read_text("utf-8"))
    return sorted({DOCS / name for name in names})


def anchors(page: Path) -> set[str]:
    """What a link to a title of a page ends in, as GitHub makes it."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_are_those_of_the_results_files(page: str) -> None:
    assert results_files(page)
    assert load_benchmark("tables").main(["--check", "--document", str(DOCS / page)]) == 0


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere_and_pictures_have_their_command(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, part = target.partition("#")
        assert target.startswith("https://") or (DOCS / path).is_file(), target
        assert not part or part in anchors(DOCS / path)
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(pictures) == len(set(pictures)) >= 1
    for section in text.split("\n## ")[1:]:
        if "![" in section:
            assert re.search(r"^(vanilla-transformer|python benchmarks/)", section, re.MULTILINE), section[
                :40
            ]
    for picture in pictures:
        data = (DOCS / picture).read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) < 120_000, picture


@pytest.mark.parametrize("path", results_files("results.md"), ids=lambda path: path.stem)
def test_a_results_file_tells_how_it_was_made(path: Path) -> None:
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["command"].startswith(("python benchmarks/", "vanilla-transformer "))
    assert {"device", "torch", "transformers"} <= set(report["machine"])
    assert "seed" in report["settings"] or "seeds" in report["settings"]
