"""Fixtures: a queue on either engine, whose clock the test turns; queues by name; other processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from persipubsub import QueueManager
from tests.contract.conftest import clock, queue
from tests.contract.support import FakeClock
from tests.process.support import Children

__all__ = ["children", "clock", "manager", "queue"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let every test that asks for a queue run over the engines that need no server."""
    if "queue" in metafunc.fixturenames:
        metafunc.parametrize("queue", ["memory", "local"], indirect=True)


@pytest.fixture
def manager(clock: FakeClock, tmp_path: Path) -> QueueManager:
    """Return a manager of queues that live by the test's clock."""
    return QueueManager(tmp_path / "queues")


@pytest.fixture
def children() -> Iterator[Children]:
    """Give a source of processes; all of them end with the test."""
    source = Children()
    yield source
    source.end()
