"""Fixtures of tests of single parts: a queue, its engine (a module may have others), what belongs to it, a clock."""

import pathlib
from collections.abc import Iterator

import pytest

from persipubsub.engine.local import opening
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.writing import Writer
from tests.contract.support import FakeClock
from tests.unit.engines import opened, with_a_message


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a queue with one message, that nobody has open."""
    return with_a_message(tmp_path / "queue")


@pytest.fixture
def engine(path: pathlib.Path) -> Iterator[LocalEngine]:
    """Return the engine of that queue, which is sound in the end."""
    with opened(path) as engine:
        yield engine


@pytest.fixture
def store(engine: LocalEngine) -> Store:
    """Return the store of the engine."""
    return engine._store


@pytest.fixture
def writer(store: Store) -> Writer:
    """Return what writes to it."""
    return store.writer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Return the clock of all queues that are opened from now on."""
    clock = FakeClock()
    monkeypatch.setattr(opening, "clock", clock)
    return clock
