"""Errors of what the user gave, and of packages that are not there or do not work."""

from pathlib import Path

import pytest

from vanilla_transformer.errors import InputError, import_extra


def test_a_package_that_is_there_and_does_not_work_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_broken_one.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="the package a_broken_one cannot be imported: No module named"):
        import_extra("a_broken_one", "demo")
    with pytest.raises(InputError, match=r"needs the package not_there_at_all, .*pip install '\.\[demo\]'"):
        import_extra("not_there_at_all", "demo")
