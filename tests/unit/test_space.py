"""Disk space that is reserved ahead, also where the system has no call for it."""

import errno
import os
import pathlib
from collections.abc import Callable

import pytest

from persipubsub import Durability, Environment, Publisher, StorageError, StorageFullError
from persipubsub.engine.local import create_local, open_local
from persipubsub.engine.local.space import Space
from persipubsub.engine.local.store import Store
from persipubsub.engine.messages import Entry
from persipubsub.limits import Settings, SubscriberSettings


@pytest.mark.parametrize("durability", list(Durability))
def test_without_posix_fallocate(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, durability: Durability
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    with Environment(tmp_path / "queue") as env:
        control = env.new_control({"a"}, durability=durability, map_size=1 << 20)
        publisher, subscriber = env.new_publisher(), env.new_subscriber("a")
        kept = [bytes((number,)) * 300_000 for number in range(30)]
        for data in kept:
            publisher.send(data)
            publisher.send(b"in between")
        reserved = os.stat(tmp_path / "queue" / "data.mdb").st_blocks * 512
        assert reserved > sum(map(len, kept))
        for data in kept:
            assert subscriber.get(timeout=0).data == data  # type: ignore[union-attr]
            assert subscriber.get(timeout=0).data == b"in between"  # type: ignore[union-attr]
        assert control.check() == []


def test_full_without_posix_fallocate(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")

    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    with Environment(tmp_path / "queue") as env:
        env.new_control({"a"}, durability=Durability.PROCESS)
        publisher, subscriber = env.new_publisher(), env.new_subscriber("a")
        publisher.send(b"before")
        monkeypatch.setattr(os, "pwrite", full)
        mebibyte = bytes(1 << 20)
        with pytest.raises(StorageFullError):  # noqa: PT012 - what was reserved before is used up first
            for _ in range(100):
                publisher.send(mebibyte)
        with subscriber.receive(timeout=0) as data:
            assert data == b"before"


def test_large_messages_into_pages_never_used(tmp_path: pathlib.Path) -> None:
    """Zeros are written where a message is going to be: they must not come over anything that is there."""
    sizes = [16 * 1024, 100, 1 << 20, 3 << 20, 70_000, 1, 17_000, 5 << 20]
    messages = [bytes((number % 255 + 1,)) * sizes[number % len(sizes)] for number in range(40)]
    with Environment(tmp_path / "queue") as env:
        control = env.new_control({"a", "late"}, durability=Durability.PROCESS)
        publisher, subscriber, late = env.new_publisher(), env.new_subscriber("a"), env.new_subscriber("late")
        for number, data in enumerate(messages):
            publisher.send(data)
            if number % 3 == 0:  # holes inside of the file, which large messages use, too
                with subscriber.receive(timeout=0) as taken, late.receive(timeout=0) as too:
                    assert taken == too == messages[number // 3]
        assert len(list(iter(lambda: late.get(timeout=0), None))) == len(messages) - 14
        left = [message.data for message in iter(lambda: subscriber.get(timeout=0), None)]
        assert left == messages[len(messages) - len(left) :]
        assert control.check() == []


def test_a_disk_that_fails_under_a_large_message(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(5, "Input/output error")

    with Environment(tmp_path / "queue") as env:
        control = env.new_control({"a"}, durability=Durability.PROCESS)
        publisher, subscriber = env.new_publisher(), env.new_subscriber("a")
        publisher.send(b"before")
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", fail)
            with pytest.raises(StorageError, match="Input/output error"):
                publisher.send(bytes(1 << 20))
        publisher.send(b"after")
        assert [subscriber.get(timeout=0).data for _ in range(2)] == [b"before", b"after"]  # type: ignore[union-attr]
        assert subscriber.get(timeout=0) is None
        assert control.check() == []


def refuse(number: int) -> Callable[..., None]:
    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def fill(publisher: Publisher, data: bytes) -> int:
    """Send until there is no room; return how often."""
    number = 0
    with pytest.raises(StorageFullError, match="nothing was stored; reading and acknowledging go on"):  # noqa: PT012
        while True:
            publisher.send(data)
            number += 1
    return number


@pytest.mark.parametrize(("call", "map_size"), [("ftruncate", 16 << 20), ("posix_fallocate", 64 << 20)])
def test_room_inside_is_used_where_the_file_cannot_become_longer(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, call: str, map_size: int
) -> None:
    data = b"x" * 200_000
    with Environment(tmp_path / "queue") as env:
        control = env.new_control({"a", "b"}, durability=Durability.PROCESS, map_size=map_size)
        publisher, subscriber = env.new_publisher(), env.new_subscriber("a")
        publisher.send_many([data] * 40)
        monkeypatch.setattr(os, call, refuse(errno.ENOSPC))
        sent = 40 + fill(publisher, data)
        size = (tmp_path / "queue" / "data.mdb").stat().st_size
        control.purge("b")
        for _ in range(sent):
            with subscriber.receive(timeout=0) as received:
                assert received == data
        publisher.send(b"small")
        if call == "posix_fallocate":
            # To use pages that the disk may have no room for, the map has to be opened anew.
            with env.new_subscriber("b").receive_view(timeout=0) as view:
                with pytest.raises(StorageFullError, match="nothing was stored"):
                    publisher.send(bytes(2_000_000))
                assert bytes(view or b"") == b"small"
        publisher.send(bytes(2_000_000))
        assert fill(publisher, data) > 10
        assert (tmp_path / "queue" / "data.mdb").stat().st_size == size
        monkeypatch.undo()
        publisher.send_many([data] * 50)
        assert control.check() == []


@pytest.mark.parametrize("call", ["posix_fallocate", "ftruncate"])
@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EROFS, "its filesystem has become read-only.*nothing was stored"), (errno.EIO, "no space can be reserved")],
)
def test_a_disk_that_refuses_otherwise_than_for_lack_of_room(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, said: str
) -> None:
    with Environment(tmp_path / "queue") as env:
        control = env.new_control({"a"}, durability=Durability.PROCESS, map_size=4 << 20)
        publisher = env.new_publisher()
        publisher.send(b"before")
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse(number))
            with pytest.raises(StorageError, match=said) as caught:
                publisher.send(bytes(8 << 20))
        assert caught.value.errno == number
        publisher.send(bytes(8 << 20))
        assert [len(message.data) for message in env.browse()] == [6, 8 << 20]
        assert control.check() == []


def test_where_there_is_no_room_none_of_several_is_said_to_be_stored(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "queue"
    create_local(path, Settings(durability=Durability.PROCESS), {"sub": SubscriberSettings()})
    engine = open_local(path)
    engine.put([Entry(b"x", 1)])

    def full(*asked: object) -> None:
        raise StorageFullError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Space, "covers", lambda *asked: False)
        patch.setattr(Store, "has_room", lambda *asked: False)
        patch.setattr(Store, "reserve", full)
        outcomes = engine.put_each([[Entry(b"1", 1)], [Entry(b"2", 1)]])
    assert [type(outcome) for outcome in outcomes] == [StorageFullError, StorageFullError]
    assert engine.put_each([[Entry(b"1", 1)], [Entry(b"2", 1)]]) == [[2], [3]]
    engine.close()


@pytest.mark.parametrize(
    ("durability", "batch", "touches"),
    [
        (Durability.PROCESS, [bytes(128)], False),
        (Durability.PROCESS, [bytes(128)] * 1000, True),
        (Durability.PROCESS, [bytes(70_000)], True),
        (Durability.FULL, [bytes(128)] * 1000, False),
    ],
    ids=["small", "batch", "large", "without a writable map"],
)
def test_pages_are_touched_for_what_takes_many(
    queue_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, durability: Durability, batch: list[bytes], touches: bool
) -> None:
    with Environment(queue_path) as env:
        control = env.new_control({"a"}, durability=durability)
        publisher, subscriber = env.new_publisher(), env.new_subscriber("a")
        publisher.send(b"the first")
        written: list[int] = []
        pwrite = os.pwrite

        def note(descriptor: int, data: bytes, offset: int) -> int:
            written.append(len(data))
            return pwrite(descriptor, data, offset)

        monkeypatch.setattr(os, "pwrite", note)
        publisher.send_many(batch)
        assert (sum(written) >= sum(map(len, batch))) is touches
        assert bool(written) is touches
        publisher.send_many(batch)
        assert sum(written) <= 1 << 20, "written over twice"
        with subscriber.receive_many(5000, timeout=0) as messages:
            assert list(messages) == [b"the first", *batch, *batch]
        assert control.check() == []
