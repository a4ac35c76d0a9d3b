"""Fixtures of the tests of single parts: what belongs to the ``engine`` of a module, and its clock."""

import pytest

from persipubsub.engine.local import opening
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.writing import Writer
from tests.contract.support import FakeClock


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
