"""Compaction: it gives the disk back, refuses while others use the queue, and survives a kill anywhere."""

import os
import pathlib
import shutil
import threading
from typing import Any

import msgspec
import pytest

from persipubsub import Control, Durability, Environment, QueueBusyError
from persipubsub.engine.local import files
from tests.care.support import killed_at, picture
from tests.process.support import Children, open_subscriber


@pytest.fixture
def wasteful(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a queue whose file is mostly free pages."""
    path = tmp_path / "wasteful"
    with Environment(path) as env:
        env.new_control({"a"})
        env.new_publisher().send_many([b"x" * 50_000] * 200)
        with env.new_subscriber("a") as subscriber:
            subscriber.ack([message.id for message in subscriber.get_many(195, timeout=0)])
    return path


def test_it_gives_back(wasteful: pathlib.Path) -> None:
    before = picture(wasteful)
    with Environment(wasteful) as env:
        done = env.open_control().compact()
        assert done.before > 8 << 20
        assert done.after < 1 << 20
        # This process goes on, with whatever it had open.
        assert env.new_publisher().send(b"next") == 201
        assert env.open_control().check() == []
    assert picture(wasteful)["messages"][:-1] == before["messages"]
    assert sorted(os.listdir(wasteful)) == ["bells", "board", "data.mdb", "lock.mdb", "locks", "posts", "seal"]


@pytest.mark.parametrize("durability", Durability)
def test_everything_is_kept(queue: pathlib.Path, durability: Durability) -> None:
    with Environment(queue) as env:
        env.open_control().configure(durability=durability)
    before = picture(queue)
    with Environment(queue) as env, env.open_control() as control:
        held = env.new_subscriber("a").get_many(2, timeout=0)
        statistics = control.statistics()
        control.compact()
        control.compact()
        after = control.statistics()
        assert msgspec.structs.replace(after, file_bytes=0, oldest_age=0.0) == msgspec.structs.replace(
            statistics, file_bytes=0, oldest_age=0.0
        )
        for message in held:
            message.ack()  # a lease outlives it
    assert picture(queue)["messages"] == before["messages"]


def test_others_keep_it_from_happening(queue: pathlib.Path, children: Children) -> None:
    child = children.new()
    child.do(open_subscriber, queue, "a")
    with Environment(queue) as env, env.open_control() as control:
        with pytest.raises(QueueBusyError, match=f"process {child.pid} has"):
            control.compact()
        child.kill()
        control.compact()
        env.new_publisher().send(b"x")
        with env.new_subscriber("a").receive_view(timeout=0), pytest.raises(QueueBusyError, match="receive_view"):
            control.compact()


def _hammer(here: Any, path: pathlib.Path, rounds: int) -> int:
    """Open, send, close, again and again; return how many messages were sent."""
    sent = 0
    for _ in range(rounds):
        with Environment(path) as env:
            env.new_publisher().send(b"y" * 1000)
            sent += 1
    return sent


def test_who_opens_meanwhile_waits(queue: pathlib.Path, children: Children) -> None:
    """Nobody ever writes into the file that was exchanged."""
    with Environment(queue) as env:
        before = env.open_control().statistics().published
    hammering = [children.new() for _ in range(3)]
    for child in hammering:
        child.start(_hammer, queue, 40)
    compacted = 0
    while any(child.is_busy() for child in hammering):
        with Environment(queue) as env:
            try:
                env.open_control().compact()
                compacted += 1
            except QueueBusyError:
                pass
    assert [child.returned() for child in hammering] == [40] * 3
    with Environment(queue) as env:
        env.open_control().compact()
        assert env.open_control().statistics().published == before + 120
        assert env.open_control().check() == []


def test_threads_of_this_process_wait(wasteful: pathlib.Path) -> None:
    with Environment(wasteful) as env, env.new_publisher() as pub:
        ended = threading.Event()
        sent = []

        def send() -> None:
            while not ended.is_set():
                sent.append(pub.send(b"more"))

        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                env.open_control().compact()
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert [message.id for message in env.browse(201)] == sorted(sent)
        assert env.open_control().check() == []


# -- kill -9, before any line ----------------------------------------------------------------------


def test_a_kill_leaves_the_old_file_or_the_new_one(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    before = picture(queue)
    copy = pathlib.Path(shutil.copytree(queue, tmp_path / "copy"))

    def compact(control: Control) -> None:
        control.compact()

    lines = killed_at(0, copy, compact)
    assert lines > 100
    inodes = set()
    old = os.stat(copy / "data.mdb").st_ino
    for number in range(1, lines, max(1, lines // 80)):
        killed_at(number, copy, compact)
        assert picture(copy) == before, number
        assert not (copy / "compacting").exists(), number
        new = os.stat(copy / "data.mdb").st_ino
        inodes.add(new == old)
        old = new
    assert inodes == {True, False}  # kills before the exchange, and after it


def test_a_failed_exchange_changes_nothing(queue: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = picture(queue)
    with Environment(queue) as env, env.open_control() as control:
        real = os.replace

        def refuse(source: Any, target: Any) -> None:
            if pathlib.Path(target).name == files.DATA:
                raise OSError(28, "No space left on device")
            real(source, target)

        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="not compacted"):
            control.compact()
        monkeypatch.undo()
        assert control.check() == []
        env.new_publisher().send(b"next")
        assert control.compact().after > 0
    assert picture(queue)["messages"][:-1] == before["messages"]
