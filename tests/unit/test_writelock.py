"""The lock that keeps writers apart, with other processes played by bytes on the page they share."""

import os
import pathlib
import time
from collections.abc import Iterator

import pytest

from persipubsub.engine.local import locks
from persipubsub.engine.local.board import SIZE, WRITERS, WRITERS_AT, Slots
from persipubsub.engine.local.locks import ByteLocks
from persipubsub.engine.local.writelock import WriteLock
from persipubsub.errors import QueueBusyError
from tests.process.support import BOUND

#: Where another process announces itself, and its number.
PLACE, PID = 77, 4711
SLOW = WRITERS_AT + WRITERS - 1


class Page(bytearray):
    """The page, in which something may happen right before it is looked at."""

    happens = staticmethod(lambda: None)

    def find(self, *arguments: object) -> int:
        self.happens()
        return super().find(*arguments)  # type: ignore[arg-type]


@pytest.fixture
def page() -> Page:
    return Page(SIZE)


@pytest.fixture
def byte_locks(tmp_path: pathlib.Path) -> Iterator[ByteLocks]:
    found = ByteLocks(os.open(tmp_path / "locks", os.O_RDWR | os.O_CREAT, 0o600))
    yield found
    found.close()


@pytest.fixture
def lock(page: Page, byte_locks: ByteLocks) -> WriteLock:
    return WriteLock("/a/queue", byte_locks, page)  # type: ignore[arg-type]


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch, page: Page) -> None:
    """Let the other process be alive, and announced."""
    page[WRITERS_AT + PLACE] = 1
    monkeypatch.setattr(ByteLocks, "holder", lambda _, at: PID if at == locks.WRITERS + PLACE else None)


def is_free(page: Page) -> bool:
    return page.count(1, WRITERS_AT) == 0


def test_what_a_dead_process_left_is_nobodys(lock: WriteLock, page: Page) -> None:
    page[WRITERS_AT + PLACE] = 1
    lock.acquire(0.0)
    assert page[SLOW] == 1  # those who come now see that somebody writes
    lock.release()
    assert is_free(page)
    page[WRITERS_AT + PLACE] = 1
    assert lock.try_acquire()
    lock.release()
    assert is_free(page)
    assert lock.try_acquire()


@pytest.mark.usefixtures("alive")
def test_who_writes_too_long_is_named(lock: WriteLock, page: Page) -> None:
    assert not lock.try_acquire()
    with pytest.raises(QueueBusyError, match=r"/a/queue: process 4711 has kept the write lock for 0\.01 s; .*kill it"):
        lock.acquire(0.01)
    # It stands in nobody's way.
    assert page.count(1, WRITERS_AT) == page[WRITERS_AT + PLACE] == 1
    page[WRITERS_AT + PLACE] = 0
    lock.acquire(0.0)
    lock.release()
    assert is_free(page)


@pytest.mark.usefixtures("alive")
def test_one_waits_until_the_other_has_written(lock: WriteLock, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 100:
            page[WRITERS_AT + PLACE] = 0

    monkeypatch.setattr(time, "sleep", sleep)
    lock.acquire(BOUND)
    assert len(sleeps) == 100
    assert sleeps == sorted(sleeps)
    assert sleeps[-1] == pytest.approx(0.002)
    lock.release()
    assert is_free(page)


def test_who_waits_under_the_kernels_lock_keeps_others_out(
    lock: WriteLock, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    page[SLOW] = 1
    taken: list[int] = []

    def try_exclusive(_: ByteLocks, at: int) -> bool:
        taken.append(at)
        return False

    monkeypatch.setattr(ByteLocks, "holder", lambda _, at: PID if at == locks.WRITER else None)
    with monkeypatch.context() as patch:
        patch.setattr(ByteLocks, "try_exclusive", try_exclusive)
        assert not lock.try_acquire()
        with pytest.raises(QueueBusyError, match="process 4711 has kept"):
            lock.acquire(0.0)
    assert set(taken) == {locks.WRITER}
    page[SLOW] = 0
    assert lock.try_acquire()


def test_where_all_places_are_taken_one_goes_the_slow_way(
    page: Page, byte_locks: ByteLocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slots, "claim", lambda _: None)
    lock = WriteLock("/a/queue", byte_locks, page)  # type: ignore[arg-type]
    for acquire in (lambda: lock.acquire(0.0), lock.try_acquire):
        acquire()
        assert (page[SLOW], page.count(1, WRITERS_AT)) == (1, 1)
        lock.release()
        assert is_free(page)


@pytest.mark.parametrize("waits", [False, True], ids=["try", "wait"])
@pytest.mark.parametrize("slowly", [False, True], ids=["announced", "the slow way"])
def test_an_interrupt_leaves_nothing_claimed(lock: WriteLock, page: Page, waits: bool, slowly: bool) -> None:
    page[WRITERS_AT + PLACE] = slowly

    def interrupt() -> None:
        if page[SLOW] == slowly:
            raise KeyboardInterrupt

    page.happens = interrupt
    with pytest.raises(KeyboardInterrupt):
        lock.acquire(0.0) if waits else lock.try_acquire()
    page[WRITERS_AT + PLACE] = 0
    assert is_free(page)
    del page.happens
    assert lock.try_acquire()
