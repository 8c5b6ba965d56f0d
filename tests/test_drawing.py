"""Pictures: in which fonts they are drawn, and that none is left half-written."""

import logging
from pathlib import Path

import pytest

from vanilla_transformer import InputError, drawing


def test_characters_that_no_font_has_name_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import font_manager

    drawing.fonts_with.cache_clear()
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    with (
        pytest.raises(InputError, match="characters '我有': .* packages `fonts-noto-cjk`"),
        drawing.fonts_for(["有 我\n", "cat"]),
    ):
        pass
    with drawing.fonts_for(["我"], required=False):
        pass
    drawing.fonts_with.cache_clear()


def test_chinese_is_drawn_in_a_font_that_has_it() -> None:
    from matplotlib.font_manager import findSystemFonts

    families, missing = drawing.fonts_with(frozenset(map(ord, "我猫")))
    if missing:
        wanted = frozenset(map(ord, missing))
        assert not [path for path in findSystemFonts() if wanted & drawing._characters(path)]
        pytest.skip("no font with Chinese characters is installed, such as fonts-noto-cjk")
    from matplotlib.font_manager import findfont, get_font

    assert {ord("我"), ord("猫")} <= get_font(findfont(families[0])).get_charmap().keys()


def test_the_weight_of_a_font_is_not_told_and_all_else_is(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("matplotlib.font_manager")
    weight = "findfont: Failed to find font weight %s for %s, now using %s."
    with drawing.fonts_for(["cat"]), drawing.fonts_for(["dog"]):
        logger.warning(weight, "normal", "WenQuanYi Zen Hei", 500)
        logger.warning("findfont: Font family %s not found.", "None")
    logger.warning(weight, "normal", "WenQuanYi Zen Hei", 500)  # a figure is drawn later
    assert caplog.messages == ["findfont: Font family None not found."]


def test_a_picture_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be a .png or .svg"):
        drawing.save_figure(drawing.new_figure(1, 1), tmp_path / "x.pdf")
    assert not list(tmp_path.iterdir())


def test_a_picture_makes_its_folder_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.png"
    assert drawing.save_figure(drawing.new_figure(1, 1), path) == path
    folder = tmp_path / "y.png"
    folder.mkdir()
    with pytest.raises(InputError, match=rf"`{folder}` cannot be written: "):
        drawing.save_figure(drawing.new_figure(1, 1), folder)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["new", "y.png"]
