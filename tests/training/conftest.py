"""What the tests of training share: one server for the processes that train."""

from collections.abc import Iterator

import pytest
from training_toy import ProcessRunner


@pytest.fixture(scope="session")
def run() -> Iterator[ProcessRunner]:
    """Return what trains a recipe in a process of its own; see `ProcessRunner`."""
    runner = ProcessRunner()
    yield runner
    runner.close()
