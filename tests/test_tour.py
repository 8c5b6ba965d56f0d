"""The tour leads where it says, in both languages alike, and its worked example is right."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from vanilla_transformer.modeling.modeling_vanilla_transformer import eager_attention_forward
from vanilla_transformer.scripts.cli import COMMANDS

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {name: (DOCS / name).read_text(encoding="utf-8") for name in ("tour.md", "tour.zh-CN.md")}
LINK = re.compile(r"\]\(([^)]+)\)")


@pytest.fixture(scope="module")
def number_lines() -> ModuleType:
    spec = importlib.util.spec_from_file_location("number_lines", DOCS / "number_lines.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_worked_example() -> None:
    """q . k is 112 and 96 at d_k = 64: 14 and 12 after scaling, softmax 0.88 and 0.12."""
    query = torch.full((1, 1, 1, 64), 1.0, dtype=torch.float64)
    key = torch.stack([torch.full((64,), 112 / 64), torch.full((64,), 96 / 64)])[None, None].double()
    products = query @ key.transpose(-2, -1)
    assert products.flatten().tolist() == [112, 96]
    assert (products / np.sqrt(64)).flatten().tolist() == [14, 12]
    value = torch.eye(2, dtype=torch.float64)[None, None]
    module = torch.nn.Identity().eval()
    output, weights = eager_attention_forward(module, query, key, value, None)
    assert [round(weight, 2) for weight in weights.flatten().tolist()] == [0.88, 0.12]
    np.testing.assert_allclose(weights.flatten(), [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))], rtol=1e-12)
    np.testing.assert_allclose(output.flatten(), weights.flatten(), rtol=1e-12)
    _, unscaled = eager_attention_forward(module, query, key, value, None, scaling=1.0)
    assert [round(weight, 7) for weight in unscaled.flatten().tolist()] == [0.9999999, 0.0000001]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str, number_lines: ModuleType) -> None:
    targets = LINK.findall(PAGES[page])
    assert len(targets) > 12
    for target in targets:
        if not target.startswith("https://"):
            assert (DOCS / target.partition("#")[0]).is_file(), target
    assert number_lines.numbered(PAGES[page]) == PAGES[page], "run `python docs/number_lines.py`"


def test_a_definition_that_is_gone_is_named(number_lines: ModuleType) -> None:
    with pytest.raises(ValueError, match="must define or hold `no_such_name`"):
        number_lines.numbered("[`no_such_name`](../modeling/translation_vanilla_transformer.py#L3)")


def test_both_languages_lead_to_the_same_lines_and_commands() -> None:
    def links(page: str) -> list[str]:
        return [link for link in LINK.findall(PAGES[page]) if not link.startswith("tour")]

    def commands(page: str) -> list[str]:
        return re.findall(r"^(?:make|vanilla-transformer) [^#\n]*", PAGES[page], re.MULTILINE)

    def sections(page: str) -> list[str]:
        return re.findall(r"^## (\d+)\.", PAGES[page], re.MULTILINE)

    english, chinese = PAGES
    assert links(english) == links(chinese)
    assert [one.strip() for one in commands(english)] == [one.strip() for one in commands(chinese)]
    assert sections(english) == sections(chinese)
    assert {
        word for line in commands(english) for word in re.findall(r"vanilla-transformer ([\w-]+)", line)
    } <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_has_its_command_beside_it(page: str) -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGES[page])
    assert len(pictures) == len(set(pictures)) >= 5
    for picture in pictures:
        assert re.search(
            rf"^vanilla-transformer plot-.* --output {picture}\n```\n\n!\[", PAGES[page], re.M
        ), picture
        assert (DOCS / picture).read_bytes().startswith(b"\x89PNG")
