"""Makes transformers' own common tests importable as `transformers_tests`, with stand-ins for what they lack.

`make test-upstream` names the folder they are in as VT_UPSTREAM_TESTS; without it nothing here is collected.
"""

import os
import sys
from pathlib import Path

import pytest

from .exceptions import EXCEPTIONS

FOLDER = os.environ.get("VT_UPSTREAM_TESTS")
STAND_INS = Path(__file__).parent / "stand_ins"
collect_ignore_glob = ["stand_ins/*"] if FOLDER else ["*"]

if FOLDER:
    # The package in the first folder takes in what the second has under its name (.ci/upstream_tests.py).
    sys.path += [FOLDER, str(STAND_INS)]
    # What transformers calls slow is slow on the Hub's models; on ours it takes a moment.
    os.environ["RUN_SLOW"] = "1"

MARKS = (
    "accelerate_tests",
    "flash_attn_test",
    "flash_attn_3_test",
    "flash_attn_4_test",
    "generate",
    "is_expert_parallel_test",
    "is_fsdp_test",
    "is_tensor_parallel_test",
    "is_training_test",
    "torch_compile_test",
)


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marks that transformers' tests bear."""
    for mark in MARKS:
        config.addinivalue_line("markers", f"{mark}: given by transformers to its own tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is listed as an exception, for the reason given there."""
    for item in items:
        if item.parent and (reason := EXCEPTIONS.get(f"{item.parent.name}.{item.name}")):
            item.add_marker(pytest.mark.skip(reason=reason))
