"""What may get in the way of a map that grows or an environment that is opened anew: the error says so, all goes on."""

import errno
import os
import pathlib
import struct
from collections.abc import Iterator
from typing import Any

import lmdb
import pytest

from persipubsub import Durability, Environment, PersipubsubError, QueueBusyError, StorageError
from persipubsub.engine.local import mapped, open_local
from persipubsub.engine.local.store import Store
from persipubsub.errors import StorageFailedError
from tests.process.conftest import children
from tests.process.support import Children, Here, assert_sound
from tests.unit.failing import Failing, with_code

__all__ = ["children"]

MIB = 1 << 20


def send_much(here: Here, path: pathlib.Path) -> None:
    """Let the map grow."""
    with Environment(path) as env:
        env.new_publisher().send_many([bytes(MIB)] * 3)


def remove_subscriber(here: Here, path: pathlib.Path, identifier: str) -> None:
    with Environment(path) as env:
        env.open_control().remove_subscriber(identifier)


def stay(here: Here, path: pathlib.Path) -> None:
    """Have the queue open, and read it to the end of the process."""
    here.env = Environment(path)
    here.view = here.env.new_subscriber("a").receive_view(timeout=0)
    here.view.__enter__()


def store_of(env: Environment) -> Store:
    engine: Any = env.new_publisher()._engine()
    store: Store = engine._store
    return store


#: With a map that is written to, and one that is not.
BOTH = pytest.mark.parametrize("env", [Durability.FULL, Durability.PROCESS], indirect=True)


@pytest.fixture
def env(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> Iterator[Environment]:
    """Give a queue with one message and a small map, which is sound to the end."""
    with Environment(tmp_path / "queue") as env:
        env.new_control({"a"}, durability=getattr(request, "param", Durability.PROCESS), map_size=2 * MIB)
        env.new_publisher().send(b"1")
        yield env
    assert_sound(env.path)


def sent(env: Environment) -> list[bytes]:
    return [message.data for message in env.browse()]


# -- opening -----------------------------------------------------------------------------------------


def test_a_map_that_grows_while_it_is_opened_is_opened(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    env.close()
    monkeypatch.setattr(mapped, "lmdb", Failing(lmdb, "open", lmdb.MapResizedError("grown"), 5))
    with Environment(env.path) as again:
        assert sent(again) == [b"1"]


@pytest.mark.parametrize(
    ("error", "kind", "said", "times"),
    [
        (lmdb.MapResizedError("grown"), QueueBusyError, "another process keeps growing the map.*try again", 1000),
        (with_code(lmdb.MemoryError("mmap"), errno.ENOMEM), StorageError, "no memory or address space left", 1),
    ],
)
def test_what_cannot_be_opened_leaves_nothing_open(
    env: Environment,
    monkeypatch: pytest.MonkeyPatch,
    error: lmdb.Error,
    kind: type[PersipubsubError],
    said: str,
    times: int,
) -> None:
    env.close()
    before = os.listdir("/dev/fd")
    with monkeypatch.context() as patch:
        patch.setattr(mapped, "lmdb", Failing(lmdb, "open", error, times))
        with pytest.raises(kind, match=said):
            open_local(env.path)
    assert os.listdir("/dev/fd") == before
    with Environment(env.path) as again:
        assert again.new_publisher().send(b"2") == 2


def test_places_of_a_dead_process_that_had_our_id_are_freed(env: Environment, children: Children) -> None:
    """Else old pages would never be used again, for LMDB takes the dead one for us."""
    env.new_publisher().send(b"2")
    env.close()
    dead, living = children.new("forkserver"), children.new("forkserver")
    for child in (living, dead):
        child.do(stay, env.path)
    dead.kill()
    table = env.path / "lock.mdb"
    theirs, ours = struct.pack("=i", dead.pid), struct.pack("=i", os.getpid())
    content = table.read_bytes()
    assert content.count(theirs) == 1
    with table.open("r+b") as stream:  # the living one has it mapped
        stream.seek(content.index(theirs))
        stream.write(ours)
    with Environment(env.path) as again:
        readers = store_of(again).env.readers()
        assert [line.split()[0] for line in readers.splitlines()[1:]] == [str(living.pid)]
    living.kill()


def test_what_cannot_be_opened_anew_is_used_no_more(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "FIRST_MAX_DBS", 10)
    env.close()
    again = Environment(env.path)
    control = again.open_control()
    control.add_subscriber("b")
    assert control.check() == []  # all are open
    with monkeypatch.context() as patch:
        patch.setattr(mapped, "lmdb", Failing(lmdb, "open", with_code(lmdb.MemoryError("mmap"), errno.ENOMEM)))
        with pytest.raises(StorageError, match="no memory or address space left"):
            control.add_subscriber("c")
    with pytest.raises(StorageFailedError, match="close the queue and open it again"):
        again.new_publisher().send(b"2")
    again.close()
    with Environment(env.path) as again:
        again.open_control().add_subscriber("c")
        assert again.new_publisher().send(b"2") == 2
        assert again.open_control().subscriber_ids == {"a", "b", "c"}


@BOTH
def test_a_map_that_finds_no_address_space_stays_as_it_was(env: Environment) -> None:
    store, publisher, file = store_of(env), env.new_publisher(), env.path / "data.mdb"
    length = file.stat().st_size
    store.env = Failing(store.env, "set_mapsize", with_code(lmdb.MemoryError("mmap"), errno.ENOMEM))  # type: ignore[assignment]
    with pytest.raises(StorageError, match="no memory or address space left"):
        publisher.send(bytes(3 * MIB))
    if env.open_control().settings.durability is Durability.PROCESS:
        assert file.stat().st_size == length, "a file that is longer than the map would be cut off"
    publisher.send(b"2")
    publisher.send(bytes(3 * MIB))
    assert sent(env) == [b"1", b"2", bytes(3 * MIB)]


@BOTH
def test_a_map_that_was_lost_is_used_no_more(env: Environment) -> None:
    store, publisher = store_of(env), env.new_publisher()
    store.env = Failing(store.env, "set_mapsize", with_code(lmdb.Error("mmap"), errno.EINVAL))  # type: ignore[assignment]
    with pytest.raises(StorageError, match="the storage failed"):
        publisher.send(bytes(3 * MIB))
    for operation in (lambda: publisher.send(b"2"), lambda: sent(env)):
        with pytest.raises(StorageFailedError, match="close the queue and open it again"):
            operation()
    env.close()
    with Environment(env.path) as again:
        assert sent(again) == [b"1"]


# -- while something is read -------------------------------------------------------------------------


@BOTH
def test_a_map_cannot_grow_while_this_thread_reads(env: Environment) -> None:
    publisher = env.new_publisher()
    with env.new_subscriber("a").receive_view(timeout=0) as data:
        with pytest.raises(QueueBusyError, match=r"cannot grow while this process reads.*leave the block first"):
            publisher.send(bytes(3 * MIB))
        assert bytes(data or b"") == b"1"
    assert publisher.send(bytes(3 * MIB)) == 2


@BOTH
def test_a_map_that_others_have_grown_cannot_be_followed_while_this_thread_reads(
    env: Environment, children: Children
) -> None:
    publisher = env.new_publisher()
    with env.new_subscriber("a").receive_view(timeout=0) as data:
        children.new("forkserver").do(send_much, env.path)
        with pytest.raises(QueueBusyError, match=r"cannot follow while it reads.*leave the block first"):
            publisher.send(b"2")
        assert bytes(data or b"") == b"1"
    assert publisher.send(b"2") == 5


@BOTH
def test_no_more_subscribers_are_used_while_this_thread_reads(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "FIRST_MAX_DBS", 10)
    env.close()
    with Environment(env.path) as again:
        control = again.open_control()
        with again.new_subscriber("a").receive_view(timeout=0):
            control.add_subscriber("b")
            with pytest.raises(QueueBusyError, match=r"no more than 2 subscribers while it reads.*leave the block"):
                control.add_subscriber("c")
            assert control.subscriber_ids == {"a", "b"}
        for identifier in ("c", "d"):
            control.add_subscriber(identifier)
        assert again.new_subscriber("c").get(timeout=0) is None
        assert control.check() == []


def test_a_subscriber_that_others_have_removed_is_not_added_while_this_thread_reads(
    env: Environment, children: Children
) -> None:
    control = env.open_control()
    control.add_subscriber("b")
    publisher = env.new_publisher()
    with env.new_subscriber("a").receive_view(timeout=0):
        children.new("forkserver").do(remove_subscriber, env.path, "b")
        with pytest.raises(QueueBusyError, match=r"another process has removed a subscriber.*leave the block first"):
            control.add_subscriber("b")
        publisher.send(b"2")
    control.add_subscriber("b")
    assert env.new_subscriber("b").get(timeout=0) is None
    publisher.send(b"3")
    assert env.new_subscriber("b").get(timeout=0) is not None
