"""The README's table of parameters is what the code counts, and the commands that it shows exist."""

import re
from pathlib import Path

import pytest

from vanilla_transformer.configuration import PRESETS, VanillaTransformerConfig
from vanilla_transformer.scripts.cli import COMMANDS

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
ROWS = re.findall(r"^\| `(\w+)` \|[^|]*\| (\d*) \| ([\d.]+) \| (.*) \|$", README, re.MULTILINE)


def test_every_row_of_table_3_is_in_the_readme() -> None:
    assert [row[0] for row in ROWS] == [name for name in PRESETS if name != "big_en_fr"]


@pytest.mark.parametrize("name, paper, ours, difference", ROWS)
def test_parameters_in_the_readme(name: str, paper: str, ours: str, difference: str) -> None:
    millions = VanillaTransformerConfig.from_preset(name).num_parameters / 1e6
    printed = PRESETS[name].paper_parameters
    assert ours == f"{millions:.1f}"
    assert paper == (str(printed) if printed else "")
    assert difference.strip() == (f"{100 * (millions / printed - 1):+.1f}%" if printed else "")


def test_commands_in_the_readme() -> None:
    shown = set(re.findall(r"vanilla-transformer ([a-z][a-z-]+)", README))
    assert shown <= set(COMMANDS), shown - set(COMMANDS)
    scripts = set(re.findall(r"scripts/(\w+\.py)", README))
    assert scripts and all((Path(__file__).parents[1] / "scripts" / name).is_file() for name in scripts)
