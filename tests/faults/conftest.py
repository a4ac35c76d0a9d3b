"""Fixtures of the tests of faults."""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from tests.process.support import Children


@pytest.fixture
def memory(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a folder in memory where there is one: queues are rebuilt there by the thousand, and nothing waits."""
    shared = pathlib.Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    folder = pathlib.Path(tempfile.mkdtemp(prefix="persipubsub-test-", dir=shared))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def children() -> Iterator[Children]:
    """Give a source of processes; all of them end with the test."""
    source = Children()
    yield source
    source.end()
