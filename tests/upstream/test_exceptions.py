"""The list of exceptions names tests that there are, and every file of transformers' that is not used."""

import os
from pathlib import Path

import pytest
from transformers_tests.test_configuration_common import ConfigTester

from . import test_modeling_upstream, test_tokenization_upstream
from .exceptions import EXCEPTIONS, MODULES

ADAPTERS = vars(test_modeling_upstream) | vars(test_tokenization_upstream)


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_what_is_left_out_exists(name: str) -> None:
    adapter, test = name.split(".")
    assert callable(getattr(ADAPTERS[adapter], test))


def test_every_file_of_transformers_is_used_or_left_out_for_a_reason() -> None:
    folder = Path(os.environ["VT_UPSTREAM_TESTS"], "transformers_tests")
    files = {file.stem for file in folder.glob("test_*.py")}
    bases = {base for adapter in ADAPTERS.values() for base in getattr(adapter, "__mro__", ())}
    used = files & {base.__module__.removeprefix("transformers_tests.") for base in bases}
    used.add(ConfigTester.__module__.removeprefix("transformers_tests."))
    assert files == used | MODULES.keys()
    assert not used & MODULES.keys()
