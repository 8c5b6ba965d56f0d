"""The page of results: its tables are those of the results files, its pictures and links are there."""

import json
import re
from pathlib import Path

import pytest
from helpers import load_benchmark

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"
TEXT = PAGE.read_text(encoding="utf-8")
FILES = sorted({PAGE.parent / name for name in re.findall(r"<!-- table: (\S+) -->", TEXT)})


def test_the_tables_are_those_of_the_results_files() -> None:
    assert FILES
    assert load_benchmark("tables").main(["--check", "--document", str(PAGE)]) == 0


def test_links_lead_somewhere_and_pictures_have_their_command() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert target.startswith("https://") or (PAGE.parent / target).is_file(), target
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    assert len(pictures) == len(set(pictures)) >= 3
    for section in TEXT.split("\n## ")[1:]:
        if "![" in section:
            assert re.search(r"^(vanilla-transformer|python benchmarks/)", section, re.MULTILINE), section[
                :40
            ]
    for picture in pictures:
        data = (PAGE.parent / picture).read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) < 100_000, picture


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_results_file_tells_how_it_was_made(path: Path) -> None:
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["command"].startswith(("python benchmarks/", "vanilla-transformer "))
    assert {"device", "torch", "transformers"} <= set(report["machine"])
    assert "seed" in report["settings"] or "seeds" in report["settings"]
