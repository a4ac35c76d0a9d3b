"""What a queue needs is taken away while it is open: an error that says so, in time, and nothing is lost."""

import os
import pathlib
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from persipubsub import (
    Durability,
    Environment,
    OpenError,
    PersipubsubError,
    QueueBusyError,
    QueueReplacedError,
)
from persipubsub.engine.local import files, mapped, opening, store
from tests.process import support
from tests.process.support import Children, Here


def send_until(env: Environment, kind: type[Exception]) -> None:
    """Send until an error comes, which must be soon, also on a busy machine."""
    pub = env.new_publisher()
    deadline = time.monotonic() + support.BOUND / 3
    while True:
        try:
            pub.send(b"lost")
        except kind:
            return
        assert time.monotonic() < deadline, "it sends on"


def delete_data(path: pathlib.Path) -> None:
    (path / files.DATA).unlink()


def delete_lock(path: pathlib.Path) -> None:
    (path / files.LMDB_LOCK).unlink()


def replace_data(path: pathlib.Path) -> None:
    shutil.copy(path / files.DATA, path / "copy")
    os.replace(path / "copy", path / files.DATA)


def move_away(path: pathlib.Path) -> None:
    path.rename(path.with_name("elsewhere"))


@pytest.mark.parametrize("take_away", [delete_data, delete_lock, replace_data, move_away, shutil.rmtree])
def test_a_queue_that_is_deleted_or_replaced_is_an_error(
    queue_path: pathlib.Path, take_away: Callable[[pathlib.Path], None]
) -> None:
    env = Environment(queue_path)
    env.new_control({"a"})
    env.new_publisher().send(b"1")
    sub = env.new_subscriber("a")
    take_away(queue_path)
    send_until(env, QueueReplacedError)
    for operation in (sub.peek, lambda: sub.get(timeout=0), env.open_control().statistics):
        with pytest.raises(QueueReplacedError):
            operation()
    env.close()


@pytest.mark.parametrize("name", [files.DATA, files.LMDB_LOCK])
def test_the_other_processes_notice_as_well(queue_path: pathlib.Path, children: Children, name: str) -> None:
    with Environment(queue_path) as env:
        env.new_control({"sub"})
        child = children.new()
        child.do(support.open_subscriber, queue_path)
        assert child.do(support.get, 0) is None
        (queue_path / name).unlink()
        send_until(env, QueueReplacedError)
        support.wait_until(lambda: fails_with(child, "QueueReplacedError"), "the child notices", support.BOUND / 3)


def fails_with(child: support.Child, name: str) -> bool:
    try:
        child.do(support.get, 0)
    except support.ChildError as error:
        return str(error).startswith(name)
    return False


def test_the_folder_of_the_bells_is_deleted(queue_path: pathlib.Path, children: Children) -> None:
    with Environment(queue_path) as env:
        env.new_control({"sub"})
        child = children.new()
        child.do(support.open_subscriber, queue_path)
        child.start(support.get_and_ack, support.BOUND)
        support.wait_until_asleep(child, queue_path)
        shutil.rmtree(queue_path / files.BELLS)
        env.new_publisher().send(b"1")
        # Not woken, perhaps; but every sleep is bounded.
        assert child.returned(2 * support.BOUND)[0] == b"1"
        assert env.open_control().check() == []
    child.do(support.close)
    support.assert_sound(queue_path)


def test_a_full_table_of_readers_is_an_error_and_passes(
    queue_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_READERS", 3)
    monkeypatch.setattr(mapped, "MAX_READERS", 3)
    with Environment(queue_path) as env:
        control = env.new_control({"a"})
        pub, sub = env.new_publisher(), env.new_subscriber("a")
        pub.send(b"1")
        mine = opening._stores[files.identity(queue_path)]
        with mine.reader.bare(), mine.reader.bare(), mine.reader.bare():
            with pytest.raises(QueueBusyError, match="too many processes and threads read at once"):
                control.statistics()
            # Who writes needs no place.
            pub.send(b"2")
        message = sub.get(timeout=0)
        assert message is not None
        message.ack()
        assert control.statistics().messages == 1
        assert control.check() == []


def run_out_of_descriptors(here: Here, path: pathlib.Path) -> list[str]:
    with Environment(path) as env:
        pub, sub = env.new_publisher(), env.new_subscriber("sub")
        pub.send(b"1")
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 2, 4096))
        hogs = []
        try:
            while True:
                hogs.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        problems = []
        try:
            with Environment(path.with_name("other")) as other:
                other.open_control()
        except PersipubsubError as error:
            problems.append(str(error))
        # What is open goes on; a wait without a bell polls.
        pub.send(b"2")
        for expected in (b"1", b"2"):
            message = sub.get(timeout=0)
            assert message is not None
            assert message.data == expected
            message.ack()
        assert sub.get(timeout=0.05) is None
        for hog in hogs:
            os.close(hog)
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        with Environment(path.with_name("other")) as other:
            other.open_control()
        return problems


def test_no_descriptors_are_left(queue_path: pathlib.Path, children: Children) -> None:
    for path in (queue_path, queue_path.with_name("other")):
        with Environment(path) as env:
            env.new_control({"sub"})
    (problem,) = children.new().do(run_out_of_descriptors, queue_path)
    assert "Too many open files" in problem


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=True, capture_output=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("durability", list(Durability))
def test_a_disk_that_may_not_be_written_any_more(disk: pathlib.Path, durability: Durability) -> None:
    path = disk / "queue"
    with Environment(path) as env:
        env.new_control({"a"}, durability=durability)
        env.new_publisher().send(b"1")
    read_only = ["mount", "-o", "remount,ro", str(disk)]
    subprocess.run(read_only, check=True, capture_output=True)
    with pytest.raises(OpenError, match=r"(?i)read-only|needs to read, write|cannot be"), Environment(path) as env:
        env.open_control()
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True, capture_output=True)
    with Environment(path) as env:
        assert env.open_control().check() == []
        assert env.new_publisher().send(b"2") == 2


def test_a_consumer_that_is_stopped_for_long_goes_on(queue_path: pathlib.Path, children: Children) -> None:
    with Environment(queue_path) as env:
        control = env.new_control({"sub"})
        stopped, other = children.new(), children.new()
        stopped.do(support.open_subscriber, queue_path)
        other.do(support.open_subscriber, queue_path)
        pub = env.new_publisher()
        for number in range(3):
            pub.send(b"%d" % number)
        assert stopped.do(support.get, 0)[0] == b"0"
        stopped.stop()
        # It lives: what it holds stays its own, and everybody else goes on.
        assert [other.do(support.get_and_ack, 0)[0] for _ in range(2)] == [b"1", b"2"]
        pages = lmdb_pages(queue_path)
        for _ in range(2000):
            pub.send(b"x" * 100)
            with env.new_subscriber("sub").receive(timeout=0) as data:
                assert data is not None
        assert lmdb_pages(queue_path) < pages + 200
        assert control.statistics().subscribers[0].leased == 1
        stopped.signal(signal.SIGCONT)
        stopped.do(support.ack)
        assert control.statistics().subscribers[0].lag == 0
        assert control.check() == []


def lmdb_pages(path: pathlib.Path) -> int:
    return opening._stores[files.identity(path)].env.info()["last_pgno"]
