"""Two queues, of every pair of engines on this machine."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from persipubsub import Durability, Environment

_NUMBERS = itertools.count()
PAIRS = [("memory", "local"), ("local", "memory"), ("local", "local"), ("memory", "memory")]


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]} to {pair[1]}")
def locations(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Return where the two queues are; they are not deployed."""
    source, target = [
        f"memory:relay-{next(_NUMBERS)}" if kind == "memory" else str(tmp_path / f"queue-{next(_NUMBERS)}")
        for kind in request.param
    ]
    return source, target


@pytest.fixture
def queues(locations: tuple[str, str]) -> Iterator[tuple[Environment, Environment]]:
    """Return the two queues; the target has a reader. In the end both are sound."""
    with Environment(locations[0]) as source, Environment(locations[1]) as target:
        source.new_control(durability=Durability.PROCESS)
        target.new_control({"reader"}, durability=Durability.PROCESS)
        yield source, target
        assert source.open_control().check() == target.open_control().check() == []


@pytest.fixture
def source(queues: tuple[Environment, Environment]) -> Environment:
    """Return the queue that messages are taken from."""
    return queues[0]


@pytest.fixture
def target(queues: tuple[Environment, Environment]) -> Environment:
    """Return the queue that messages go to."""
    return queues[1]
