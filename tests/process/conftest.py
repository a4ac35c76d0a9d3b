"""Fixtures of the tests with several processes."""

import pathlib
from collections.abc import Iterator

import pytest

from persipubsub import Environment
from tests.process.support import Children, assert_sound


@pytest.fixture
def children() -> Iterator[Children]:
    """Give a source of processes; all of them end with the test."""
    source = Children()
    yield source
    source.end()


@pytest.fixture
def path(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give the path of a queue, with the subscriber "sub", which is sound to the end."""
    folder = tmp_path / "queue"
    with Environment(folder) as env:
        env.new_control({"sub"})
    yield folder
    assert_sound(folder)


@pytest.fixture
def env(path: pathlib.Path) -> Iterator[Environment]:
    """Give the queue, open in the test's own process."""
    with Environment(path) as environment:
        yield environment
