"""Whose turn it is among the threads of one process, and what they tell each other."""

import pathlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.jobs import Job, Turn
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.work import Work
from persipubsub.engine.local.writing import Writer
from persipubsub.engine.messages import Entry
from persipubsub.errors import QueueBusyError
from tests.process.support import BOUND, wait_until
from tests.unit.engines import created, opened, send, stored


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[LocalEngine]:
    with opened(created(tmp_path / "queue")) as engine:
        yield engine
        assert not engine._store.writer._jobs


def test_the_turn_is_not_waited_for_by_who_has_it(engine: LocalEngine, writer: Writer) -> None:
    with writer.turn:
        with pytest.raises(QueueBusyError, match="in the middle of a call of the same thread"):
            writer.turn.acquire(timeout=1.0)
        found: list[bool] = []
        thread = threading.Thread(target=lambda: found.append(writer.turn.acquire(timeout=0.01)))
        thread.start()
        thread.join(BOUND)
        assert found == [False]
    assert send(engine, b"free") == 1


class Late:
    """The lock of the turn; before it is taken, something happens once."""

    def __init__(self, lock: threading.Lock, happens: Callable[[], object]) -> None:
        self._lock = lock
        self._happens: list[Callable[[], object]] = [happens]

    def acquire(self, timeout: float = -1) -> bool:
        if self._happens:
            self._happens.pop()()
        return self._lock.acquire(timeout=timeout)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)


def test_what_another_thread_has_carried_meanwhile_is_not_carried_again(
    engine: LocalEngine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = store.writer
    before = store.last_transaction()
    monkeypatch.setattr(writer.turn, "lock", Late(writer.turn.lock, writer._lead))
    assert send(engine, b"1") == 1
    monkeypatch.setattr(writer.turn, "lock", Late(writer.turn.lock, writer._lead))
    assert engine.put_each([[Entry(b"2", 1)], [Entry(b"3", 1)]]) == [[2], [3]]
    assert store.last_transaction() == before + 2
    assert stored(engine) == [b"1", b"2", b"3"]


def test_who_waits_looks_for_itself_now_and_then(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wake-up between threads that is lost costs a moment."""
    looks: list[Job[Any]] = []
    wait_for = Writer._wait_for

    def count(writer: Writer, job: Job[Any]) -> None:
        looks.append(job)
        wait_for(writer, job)

    monkeypatch.setattr(Writer, "_wait_for", count)
    ids: list[int] = []
    thread = threading.Thread(target=lambda: ids.append(send(engine, b"of the thread")))
    writer = engine._store.writer
    writer.turn.lock.acquire()
    thread.start()
    wait_until(lambda: len(looks) > 2, "it looks again")
    writer.turn.lock.release()  # and tell nobody
    thread.join(BOUND)
    assert ids == [1]


def test_nobody_waits_for_what_is_done(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persipubsub.engine.local.writing._PATIENCE", BOUND)
    job = Job(lambda work: None, 0, False, done=True)
    with writer.turn:
        began = time.monotonic()
        writer._wait_for(job)
    assert time.monotonic() - began < BOUND


def test_each_event_is_logged_once(engine: LocalEngine, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that comes by while another one logs, finds what is left; none, nothing twice."""
    logged: list[object] = []

    class Told:
        def log(self, path: object) -> None:
            logged.append(self)
            if len(logged) == 1:
                writer._log_events()

    told = [Told(), Told(), Told()]
    writer.events.extend(told)  # type: ignore[arg-type]
    send(engine, b"")
    assert logged == told
    assert not writer.events


def test_events_are_logged_after_every_kind_of_commit(
    engine: LocalEngine, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    """And in none: a handler may use this very queue."""
    engine.remove_subscriber("sub")
    assert engine.put_each([[Entry(b"1", 1)], [Entry(b"2", 1)]]) == [[1], [2]]
    assert "no subscriber" in caplog.text
    held: list[bool] = []

    class Told:
        def log(self, path: object) -> None:
            held.append(writer.turn.lock.locked())

    def tell(work: Work, alone: bool) -> None:
        work.events.append(Told())  # type: ignore[arg-type]

    writer.write_alone(tell)
    assert held == [False]
    assert not writer.events


def test_a_job_may_be_told_twice() -> None:
    """Once that the turn is free, and once that it is done, before its thread has looked."""
    job: Job[None] = Job(lambda work: None, 0, False)
    job.wake()
    job.wait = threading.Lock()
    job.wait.acquire()
    job.wake()
    job.wake()
    assert job.wait.acquire(timeout=0)
    assert not job.wait.acquire(timeout=0)


def test_the_turn_is_offered_to_nobody_where_somebody_carries_the_job_already() -> None:
    class Vanishing(deque[Job[None]]):
        """What waits, taken by another thread right after it was seen."""

        def __bool__(self) -> bool:
            self.clear()
            return True

    turn = Turn("/a/queue", Vanishing([Job(lambda work: None, 0, False)]))
    with turn:
        assert turn.lock.locked()
    assert turn.acquire(timeout=0)
