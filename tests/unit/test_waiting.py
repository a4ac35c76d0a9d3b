"""Who waits by a descriptor finds out what no bell of another tells."""

import os
import pathlib
import select
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from persipubsub.engine.local import create_local, format, open_local, owners, waiting
from persipubsub.engine.local.bells import Bells
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.waiting import Horizon
from persipubsub.engine.local.work import Work
from persipubsub.engine.messages import Entry
from persipubsub.errors import PersipubsubError
from persipubsub.limits import Durability, Settings, SubscriberSettings
from tests.contract.support import SECOND, FakeClock
from tests.process.support import BOUND, PATIENT, eventually, wait_until


def test_the_descriptor_of_a_removed_subscriber_is_readable(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "queue"
    create_local(path, Settings(durability=Durability.PROCESS), {"a": SubscriberSettings()})
    engine = open_local(path)
    waiter = engine.waiter("a")
    descriptor = waiter.fileno()
    waiter.arm()
    engine.remove_subscriber("a")
    waiter.arm()
    assert select.select([descriptor], [], [], BOUND)[0]
    waiter.close()
    engine.close()


# -- at the engine -----------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: pathlib.Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEngine]:
    monkeypatch.setattr(waiting, "LONGEST", PATIENT)
    path = tmp_path / "queue"
    create_local(path, Settings(durability=Durability.PROCESS), {"a": SubscriberSettings()})
    engine = open_local(path)
    yield engine
    assert engine.check() == []
    engine.close()


def horizon(engine: LocalEngine) -> tuple[float, int]:
    """Return how long a subscriber may sleep, and how many processes it watches meanwhile."""
    found = Horizon(engine._store, "a")
    number = len(found.descriptors)
    found.close()
    return found.seconds, number


def test_one_sleeps_until_something_is_due(engine: LocalEngine, clock: FakeClock) -> None:
    assert horizon(engine) == (PATIENT, 0)
    engine.put([Entry(b"1", 1, delay_ns=30 * SECOND), Entry(b"2", 1), Entry(b"3", 1)])
    assert [each.data for each in engine.take("a", 1, 20 * SECOND)] == [b"2"]
    assert horizon(engine) == (20, 0)
    assert [each.data for each in engine.take("a", 1, None)] == [b"3"]
    clock.go(25)
    assert horizon(engine) == (0, 0)
    (again,) = engine.take("a", 1, None)
    assert again.data == b"2"
    assert horizon(engine) == (5, 0)
    clock.go(25)
    assert horizon(engine) == (0, 0)


@pytest.mark.parametrize("lost", [(format.DUE, format.ENDING), None], ids=["the index", "all"])
def test_what_is_lost_leaves_one_to_look_now_and_then(engine: LocalEngine, lost: tuple[bytes, ...] | None) -> None:
    """Whatever the record of the subscriber promises."""
    engine.put([Entry(b"1", 1, delay_ns=30 * SECOND), Entry(b"2", 1)])
    (taken,) = engine.take("a", 1, 20 * SECOND)
    database = format.subscriber_db(b"a")
    kept: dict[bytes, bytes] = {}

    def lose(work: Work) -> None:
        for key, value in work.txn.cursor(db=work.handle(database)):
            if lost is None or bytes(key[:1]) in lost:
                kept[bytes(key)] = bytes(value)
        for lost_key in kept:
            work.txn.delete(lost_key, db=work.handle(database))
        work.touched = True

    def mend(work: Work) -> None:
        for key, value in kept.items():
            work.txn.put(key, value, db=work.handle(database))
        work.touched = True

    engine._store.write(lose)
    assert len(kept) >= 2
    assert horizon(engine) == (PATIENT, 0)
    engine._store.write(mend)
    assert horizon(engine) == (20, 0)
    engine.settle("a", [taken.receipt])


def test_a_holder_that_cannot_be_watched_is_looked_at_often(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.put([Entry(b"1", 1)])
    other = open_local(engine._store.path)
    (taken,) = other.take("a", 1, None)
    monkeypatch.setattr(type(engine._store.owners), "is_mine", lambda *_: False)
    with monkeypatch.context() as patch:
        patch.setattr(owners, "watch", lambda who: None)
        assert horizon(engine) == (waiting.GLANCE, 0)
    assert horizon(engine) == (PATIENT, 1)
    # Had it died before it was watched, its number might be another's by then.
    with monkeypatch.context() as patch:
        patch.setattr(type(engine._store.owners), "is_alive", lambda *_: False)
        assert horizon(engine) == (0, 1)
    other.settle("a", [taken.receipt])
    other.close()


def test_without_a_bell_one_looks_often(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all places are taken a wait is short, whatever was asked for, and can be ended; it has no descriptor."""
    monkeypatch.setattr(Bells, "claim", lambda _: None)
    waiter = engine.waiter("a")
    waiter.arm()
    began = time.monotonic()
    waiter.wait(None)
    waiter.wait(PATIENT)
    assert time.monotonic() - began < BOUND
    with pytest.raises(PersipubsubError, match="has no more places for waiting; close other waiters"):
        waiter.fileno()
    monkeypatch.setattr(waiting, "GLANCE", PATIENT)
    waiter.wake()
    began = time.monotonic()
    waiter.wait(None)
    assert time.monotonic() - began < BOUND
    waiter.close()
    waiter.close()


def test_a_watcher_that_is_told_too_often_loses_nothing(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe holds so much; more than "look again" cannot be said."""
    waiter = engine.waiter("a")
    descriptor = waiter.fileno()
    watcher = waiter._watcher
    assert watcher is not None

    def full(*_: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        watcher.look_again()
    assert not select.select([descriptor], [], [], 0)[0]
    engine.put([Entry(b"1", 1)])
    waiter.arm()
    engine.put([Entry(b"2", 1)])
    assert select.select([descriptor], [], [], BOUND)[0]
    waiter.close()


def test_a_descriptor_is_readable_when_something_becomes_due(engine: LocalEngine, clock: FakeClock) -> None:
    waiter = engine.waiter("a")
    descriptor = waiter.fileno()
    engine.put([Entry(b"1", 1, delay_ns=SECOND // 50)])
    assert engine.take("a", 1, None) == []
    waiter.arm()
    assert select.select([descriptor], [], [], BOUND)[0]
    waiter.close()


class Looks:
    """Counts how often a thread looks what is to come."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.number = 0
        whole = Horizon.__init__

        def count(horizon: Horizon, *arguments: Any) -> None:
            self.number += 1
            whole(horizon, *arguments)

        patch.setattr(Horizon, "__init__", count)

    def beyond(self, number: int) -> bool:
        return self.number > number


def test_who_watches_a_removed_subscriber_tells_it_once(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not spin until somebody has looked."""
    looks = Looks(monkeypatch)
    waiter = engine.waiter("a")
    waiter.fileno()
    engine.remove_subscriber("a")
    for _ in range(2):
        before = looks.number
        waiter.arm()
        wait_until(partial(looks.beyond, before), "it looks")
    assert not eventually(partial(looks.beyond, before + 10), 0.1)
    waiter.close()


def test_who_has_not_looked_is_told_again(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring may be lost on its way."""
    monkeypatch.setattr(waiting, "LONGEST", 0.002)
    waiter = engine.waiter("a")
    descriptor = waiter.fileno()
    engine.remove_subscriber("a")
    for _ in range(2):
        assert select.select([descriptor], [], [], BOUND)[0]
        assert waiter._bell is not None
        waiter._bell.silence()
    waiter.close()


def test_where_nothing_happens_nobody_is_woken(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LONGEST", 0.002)
    looks = Looks(monkeypatch)
    waiter = engine.waiter("a")
    descriptor = waiter.fileno()
    assert waiter.fileno() == descriptor
    wait_until(lambda: looks.number > 5, "it has looked")
    assert not select.select([descriptor], [], [], 0)[0]
    waiter.close()


def test_a_watcher_may_be_closed_by_its_own_thread(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a finalizer does that happens to run there: it must not wait for itself."""
    before = len(os.listdir("/proc/self/fd"))
    waiter = engine.waiter("a")
    waiter.fileno()
    watcher = waiter._watcher
    assert watcher is not None
    whole, closed = Horizon.__init__, threading.Event()

    def close_in_between(self: Horizon, *arguments: Any) -> None:
        whole(self, *arguments)
        if threading.current_thread() is watcher._thread and not closed.is_set():
            waiter.close()
            closed.set()

    monkeypatch.setattr(Horizon, "__init__", close_in_between)
    watcher.look_again()
    assert closed.wait(BOUND)
    watcher._thread.join(BOUND)
    assert not watcher._thread.is_alive()
    engine.waiter("a").close()
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # a bell is kept for the next


def test_what_is_no_subscriber_waits_for_bells_only(engine: LocalEngine) -> None:
    found = Horizon(engine._store, None)
    assert (found.seconds, found.descriptors) == (PATIENT, [])
    waiter = engine.room_waiter()
    descriptor = waiter.fileno()
    waiter.wake()
    assert select.select([descriptor], [], [], BOUND)[0]
    waiter.close()
