"""Fixtures of the tests of crashes."""

from collections.abc import Iterator

import pytest

from tests.process.support import Children


@pytest.fixture
def children() -> Iterator[Children]:
    """Give a source of processes; all of them end with the test."""
    source = Children()
    yield source
    source.end()
