"""Bells wake whom they are to wake, whatever is done to their FIFOs; and where there is none, one polls."""

import errno
import fcntl
import os
import pathlib
import select
import stat
import threading
from collections.abc import Iterator

import pytest

from persipubsub import Environment, PersipubsubError
from persipubsub.engine.local import bells, create_local, files, open_local
from persipubsub.engine.local.bells import Bell, Bells
from persipubsub.engine.local.board import FOR_MESSAGES, IDLE, SIZE, Board, Slots
from persipubsub.engine.local.locks import ByteLocks
from persipubsub.limits import Settings, SubscriberSettings
from tests.unit.failing import failing

#: What a pipe is to take; to silence it takes more than one read.
ROOM = 8192


class Place:
    """A folder of bells and the board, used by what passes for two processes."""

    def __init__(self, folder: pathlib.Path, count: int = 20) -> None:
        self.folder = folder / "bells"
        self.folder.mkdir()
        (folder / "board").write_bytes(bytes(SIZE))
        (folder / "locks").touch()
        self.board = Board(files.map_own(folder / "board", SIZE))
        self.locks = ByteLocks(files.open_own(folder / "locks", os.O_RDWR))
        self.slots = Slots(self.locks, 0, count)
        self.bells = Bells(self.folder, self.board, self.slots)
        self.others = Bells(self.folder, self.board, Slots(self.locks, 100, count))

    def claim(self) -> Bell:
        bell = self.bells.claim()
        assert bell is not None
        return bell

    def close(self) -> None:
        self.bells.close()
        self.others.close()
        self.board.close()
        self.locks.close()


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Iterator[Place]:
    before = set(os.listdir("/dev/fd"))
    place = Place(tmp_path)
    yield place
    place.close()
    assert set(os.listdir("/dev/fd")) <= before, "a descriptor was left open"


def rings(bell: Bell) -> bool:
    """Tell whether a bell was rung, and silence it."""
    readable = bool(select.select([bell.descriptor], [], [], 0)[0])
    bell.silence()
    assert not select.select([bell.descriptor], [], [], 0)[0]
    return readable


# -- ringing -----------------------------------------------------------------------------------------


def test_a_bell_that_is_full_of_rings_is_silenced_all_the_same(place: Place) -> None:
    bell = place.claim()
    fcntl.fcntl(bell.descriptor, fcntl.F_SETPIPE_SZ, ROOM)
    before = len(os.listdir("/dev/fd"))
    for ring in (bell.ring, lambda: place.bells.ring_one(bell.slot), lambda: place.others.ring_one(bell.slot)):
        for _ in range(ROOM + 1):
            ring()
        assert rings(bell)
        assert not rings(bell)
    assert len(os.listdir("/dev/fd")) == before + 1, "the other process keeps it open"


def test_only_those_are_rung_who_wait_and_once(place: Place) -> None:
    waiting, idle = place.claim(), place.claim()
    waiting.arm(FOR_MESSAGES)
    place.others.ring(FOR_MESSAGES)
    assert [rings(waiting), rings(idle)] == [True, False]
    place.others.ring(FOR_MESSAGES)
    assert not rings(waiting)


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE])
def test_a_ring_that_fails_is_tried_anew_the_next_time(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    bell = place.claim()
    place.others.ring_one(bell.slot)
    assert rings(bell)
    before = len(os.listdir("/dev/fd"))
    with failing(monkeypatch, "write", number) as asked:
        place.others.ring_one(bell.slot)
    assert asked
    assert len(os.listdir("/dev/fd")) == before - 1
    place.others.ring_one(bell.slot)
    assert rings(bell)


def test_who_has_died_and_was_swept_is_not_rung(place: Place) -> None:
    (place.folder / "3").symlink_to(place.folder.parent / "locks")
    for slot in (3, 7):
        place.others.ring_one(slot)
    assert (place.folder.parent / "locks").stat().st_size == 0


def test_many_others_are_rung_with_few_descriptors(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "_MOST_CACHED", 2)
    claimed = [place.claim() for _ in range(6)]
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        for bell in claimed:
            place.others.ring_one(bell.slot)
        assert all(rings(bell) for bell in claimed)
    assert len(os.listdir("/dev/fd")) == before + 2


def test_a_fifo_that_was_made_anew_is_rung(place: Place) -> None:
    bell = place.claim()
    place.others.ring_one(bell.slot)
    assert rings(bell)
    (place.folder / str(bell.slot)).unlink()
    bell.close()
    fresh = place.claim()
    assert fresh.slot == bell.slot
    place.others.ring_one(fresh.slot)
    assert rings(fresh)


# -- claiming ----------------------------------------------------------------------------------------


def test_bells_that_were_used_are_used_again(place: Place) -> None:
    claimed = [place.claim() for _ in range(10)]
    before = len(os.listdir("/dev/fd"))
    for bell in claimed:
        bell.arm(FOR_MESSAGES)
        bell.close()
        bell.close()
    assert not place.board.is_anybody_waiting(FOR_MESSAGES)
    assert len(os.listdir("/dev/fd")) == before - 2, "of the ten, eight are kept"
    again = [place.claim() for _ in range(12)]
    assert len({bell.slot for bell in again}) == len({bell.descriptor for bell in again}) == 12
    assert {bell.slot for bell in again} >= {bell.slot for bell in claimed}


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_was_planted_in_the_place_of_a_fifo_is_removed(place: Place, kind: str) -> None:
    planted, victim = place.folder / "0", place.folder.parent / "locks"
    if kind == "link":
        planted.symlink_to(victim)
    else:
        planted.write_bytes(b"planted")
    bell = place.claim()
    assert bell.slot == 0
    assert stat.S_ISFIFO(planted.lstat().st_mode)
    assert victim.exists()
    place.others.ring_one(0)
    assert rings(bell)


def test_where_somebody_keeps_planting_there_is_no_bell(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkfifo", lambda path, mode: path.write_bytes(b""))
        assert place.bells.claim() is None
    assert place.claim().slot == 0


def test_where_no_fifo_can_be_made_there_is_no_bell(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with failing(monkeypatch, "mkfifo", errno.ENOSPC):
        assert place.bells.claim() is None
    assert place.claim().slot == 0, "the place is free again"


def test_what_a_killed_process_waited_for_is_forgotten(place: Place) -> None:
    place.board.set_bell(0, FOR_MESSAGES)
    assert place.claim().slot == 0
    assert not place.board.is_anybody_waiting(FOR_MESSAGES)


def test_who_closes_does_not_wait_any_more(place: Place) -> None:
    armed, idle = place.claim(), place.claim()
    idle.close()
    armed.arm(FOR_MESSAGES)
    for _ in range(2):
        place.bells.close()
    assert not place.board.is_anybody_waiting(FOR_MESSAGES)
    assert place.claim().slot == 0


def test_a_child_that_was_forked_leaves_bells_armed(place: Place) -> None:
    armed, idle = place.claim(), place.claim()
    idle.close()
    armed.arm(FOR_MESSAGES)
    other = place.others
    other.ring_one(armed.slot)
    before = len(os.listdir("/dev/fd"))
    for one in (place.bells, other):
        one.abandon()
    assert len(os.listdir("/dev/fd")) == before - 3
    assert place.board.waiting(FOR_MESSAGES) == [armed.slot]
    for bell in (armed, idle):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(bell.descriptor)
    place.board.set_bell(armed.slot, IDLE)


# -- as users see it ---------------------------------------------------------------------------------


def test_without_a_place_one_polls(tmp_path: pathlib.Path) -> None:
    with Environment(tmp_path / "queue") as env:
        env.new_control({"a"})
        subscriber, publisher = env.new_subscriber("a"), env.new_publisher()
        first = open_local(tmp_path / "queue")
        first._store.bells._slots._count = 0
        waiter = first.waiter("a")
        with pytest.raises(PersipubsubError, match="no more places for waiting; close other waiters"):
            waiter.fileno()
        waiter.arm()
        waiter.close()
        later = threading.Timer(0.1, publisher.send, [b"x"])
        later.start()
        message = subscriber.get(timeout=100)
        later.join()
        assert message is not None
        first.close()


def test_where_the_folder_cannot_be_brought_back_one_polls(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "queue"
    create_local(path, Settings(), {"a": SubscriberSettings()})
    (path / "bells").rmdir()
    with failing(monkeypatch, "mkdir", errno.EROFS) as asked:
        engine = open_local(path)
        assert engine._store.bells.claim() is None
    assert len(asked) == 1
    engine.close()
    engine = open_local(path)
    bell = engine._store.bells.claim()
    assert bell is not None
    assert stat.S_IMODE((path / "bells").stat().st_mode) == 0o700
    bell.close()
    engine.close()
