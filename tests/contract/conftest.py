"""The queue that each test gets, once for each engine."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from persipubsub import Durability
from persipubsub.engine.local import opening
from persipubsub.engine.memory import queue as memory_queue
from tests.contract.support import FakeClock, Queue

_NUMBERS = itertools.count()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Return the clock of every queue that the test creates."""
    clock = FakeClock()
    monkeypatch.setattr(opening, "clock", clock)
    monkeypatch.setattr(memory_queue, "Clock", lambda: clock)
    return clock


@pytest.fixture(params=["memory", "local"])
def queue(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Iterator[Queue]:
    """Return a queue that is not deployed yet; at the end it is checked and closed."""
    location = f"memory:contract-{next(_NUMBERS)}" if request.param == "memory" else str(tmp_path / "queue")
    found = Queue(request.param, location, clock, Durability.PROCESS)
    yield found
    found.close()


@pytest.fixture(params=[Durability.FULL, Durability.COMMIT, Durability.PROCESS])
def durable(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Iterator[Queue]:
    """Return a queue on disk for each durability."""
    found = Queue("local", str(tmp_path / "queue"), clock, request.param)
    yield found
    found.close()
