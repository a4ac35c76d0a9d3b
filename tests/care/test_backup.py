"""Backups of queues in use, and queues restored from them."""

import asyncio
import functools
import os
import pathlib
import resource
import shutil
import stat
import threading

import pytest

from persipubsub import (
    Control,
    Durability,
    Environment,
    NotAQueueError,
    QueueBusyError,
    QueueDamagedError,
    QueueExistsError,
    QueueNotFoundError,
    StorageFullError,
    UnsupportedByEngineError,
    aio,
    care,
)
from tests.care.support import deliveries, killed_at, left_over, picture
from tests.process.support import Children


def backup(queue: pathlib.Path, target: pathlib.Path) -> int:
    with Environment(queue) as env:
        return env.open_control().backup(target)


def test_a_backup_is_the_same_queue(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "deep" / "backup"
    size = backup(queue, target)
    assert size == os.stat(target / "data.mdb").st_size > 0
    assert picture(target) == picture(queue)
    assert left_over(target.parent) == []
    assert stat.S_IMODE(os.stat(target).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(target / "data.mdb").st_mode) == 0o600


@pytest.mark.parametrize("durability", Durability)
def test_a_queue_in_use_is_backed_up(tmp_path: pathlib.Path, durability: Durability) -> None:
    """What the backup holds is a beginning of what was sent, and whole batches of it."""
    with Environment(tmp_path / "queue") as env:
        control = env.new_control({"a"}, durability=durability)
        ended = threading.Event()

        def send() -> None:
            with env.new_publisher() as pub:
                while not ended.is_set():
                    pub.send_many([b"x" * 300] * 10)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            for number in range(3):
                control.backup(tmp_path / f"backup-{number}")
        finally:
            ended.set()
            sender.join()
        published = control.statistics().published
    counts = []
    for number in range(3):
        messages = [message[0] for message in picture(tmp_path / f"backup-{number}")["messages"]]
        assert messages == list(range(1, len(messages) + 1))
        assert len(messages) % 10 == 0
        counts.append(len(messages))
    assert counts == sorted(counts)
    assert counts[-1] <= published


def test_what_is_there_is_left_alone(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    backup(queue, tmp_path / "backup")
    before = picture(tmp_path / "backup")
    with pytest.raises(QueueExistsError, match="another path"):
        backup(queue, tmp_path / "backup")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(NotAQueueError):
        backup(queue, tmp_path / "other")
    with pytest.raises(NotAQueueError, match="inside"):
        backup(queue, queue / "backup")
    assert picture(tmp_path / "backup") == before
    assert left_over(tmp_path) == []


def test_a_damaged_queue_makes_no_backup(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    damaged = pathlib.Path(shutil.copytree(queue, tmp_path / "damaged"))
    data = (damaged / "data.mdb").read_bytes()
    (damaged / "data.mdb").write_bytes(data.replace(b"\xff\x00 bytes", b"\xff\x01 bytes"))
    with pytest.raises(QueueDamagedError, match="checksum"):
        backup(damaged, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()
    assert left_over(tmp_path) == []


def test_restored_with_an_identity_of_its_own(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    backup(queue, tmp_path / "backup")
    with Environment(queue) as env:
        identity = env.open_control().statistics().identity
    assert care.restore(tmp_path / "backup", tmp_path / "restored") == tmp_path / "restored"
    care.restore(tmp_path / "backup", tmp_path / "moved", keep_identity=True)
    for name, same in (("restored", False), ("moved", True)):
        with Environment(tmp_path / name) as env:
            assert (env.open_control().statistics().identity == identity) is same
        assert picture(tmp_path / name) == picture(queue)


def test_what_was_held_comes_back(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Owners of the original do not live in the restored queue, and bounded leases do not count there."""
    with Environment(queue) as env:
        a, b = env.new_subscriber("a"), env.new_subscriber("b")
        held = a.get_many(2, timeout=0)
        mine = b.get(timeout=0)
        assert len(held) == 2
        assert mine is not None
        env.open_control().backup(tmp_path / "backup")
        care.restore(tmp_path / "backup", tmp_path / "restored")
        with Environment(tmp_path / "restored") as restored:
            statistics = restored.open_control().statistics()
        assert [subscriber.leased for subscriber in statistics.subscribers] == [0, 0, 0]
        found = deliveries(tmp_path / "restored", "a")
        assert found[:2] == [(m.id, m.data, 2, "restored from a backup") for m in held]
        assert (mine.id, mine.data, mine.delivery_count + 1, "restored from a backup") in deliveries(
            tmp_path / "restored", "b"
        )
        for message in [*held, mine]:
            message.ack()  # the original is not disturbed


def test_restore_refuses(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    backup(queue, tmp_path / "backup")
    with pytest.raises(QueueExistsError):
        care.restore(tmp_path / "backup", queue)
    with pytest.raises(QueueNotFoundError):
        care.restore(tmp_path / "missing", tmp_path / "restored")
    with pytest.raises(NotAQueueError):
        care.restore(tmp_path, tmp_path / "restored")
    with Environment(tmp_path / "backup") as env:
        env.open_control()
        with pytest.raises(QueueBusyError, match=str(os.getpid())):
            care.restore(tmp_path / "backup", tmp_path / "restored")
    data = (tmp_path / "backup" / "data.mdb").read_bytes()
    (tmp_path / "backup" / "data.mdb").write_bytes(data[: 3 * 4096])
    with pytest.raises(QueueDamagedError):
        care.restore(tmp_path / "backup", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
    assert left_over(tmp_path) == []


def test_a_backup_on_a_read_only_disk(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    backup(queue, tmp_path / "backup")
    for path in [*(tmp_path / "backup").iterdir(), tmp_path / "backup"]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    before = sorted(os.listdir(tmp_path / "backup"))
    care.restore(tmp_path / "backup", tmp_path / "restored")
    assert sorted(os.listdir(tmp_path / "backup")) == before
    assert picture(tmp_path / "restored") == picture(queue)
    for path in [tmp_path / "backup", *(tmp_path / "backup").iterdir()]:
        path.chmod(0o700 if path.is_dir() else 0o600)


def test_a_kill_leaves_a_whole_backup_or_none(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    before = picture(queue)
    lines = killed_at(0, queue, lambda control: control.backup(tmp_path / "whole"))
    assert lines > 100
    there = set()
    # Spread over all of it, and the last ones, by which it stands.
    for number in sorted({*range(1, lines + 1, lines // 40), *range(lines - 3, lines + 1)}):
        target = tmp_path / f"backup-{number}"
        killed_at(number, queue, functools.partial(Control.backup, path=target))
        there.add(target.exists())
        if target.exists():
            assert picture(target) == before
    assert there == {True, False}


def test_the_group_may_read_it(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with Environment(queue) as env:
        env.open_control().configure(group_access=True)
    backup(queue, tmp_path / "backup")
    care.restore(tmp_path / "backup", tmp_path / "restored")
    for name in ("backup", "restored"):
        assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o2770
        assert stat.S_IMODE(os.stat(tmp_path / name / "data.mdb").st_mode) == 0o660


def _send_much(here: object, path: pathlib.Path) -> None:
    with Environment(path) as env:
        env.new_publisher().send_many([b"x" * 100_000] * 50)


def test_a_map_that_others_have_grown(tmp_path: pathlib.Path, children: Children) -> None:
    with Environment(tmp_path / "queue") as env:
        control = env.new_control({"a"}, map_size=2**20)
        env.new_publisher().send(b"x")
        children.new().do(_send_much, tmp_path / "queue")
        control.backup(tmp_path / "backup")
    assert len(picture(tmp_path / "backup")["messages"]) == 51


def test_a_full_disk_leaves_nothing(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    backup(queue, tmp_path / "backup")
    before = sorted(os.listdir(tmp_path))
    with Environment(queue) as env, env.open_control() as control:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
        try:
            with pytest.raises(StorageFullError, match="second"):
                control.backup(tmp_path / "second")
            with pytest.raises(StorageFullError, match="disk is full"):
                control.compact()
            with pytest.raises(StorageFullError, match="restored"):
                care.restore(tmp_path / "backup", tmp_path / "restored")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert control.check() == []
        control.compact()
    assert sorted(os.listdir(tmp_path)) == before


def test_nothing_in_memory_can_be_backed_up(tmp_path: pathlib.Path) -> None:
    with Environment("memory:") as env:
        control = env.new_control({"a"})
        with pytest.raises(UnsupportedByEngineError, match="directory"):
            control.backup(tmp_path / "backup")
        with pytest.raises(UnsupportedByEngineError):
            control.compact()
        with pytest.raises(UnsupportedByEngineError), (tmp_path / "export").open("wb") as stream:
            control.export(stream)


async def _in_asyncio(queue: pathlib.Path, folder: pathlib.Path) -> None:
    async with aio.Environment(queue) as env:
        control = await env.open_control()
        assert await control.backup(folder / "backup") > 0
        assert (await control.compact()).after > 0
        with (folder / "export").open("wb") as stream:
            assert await control.export(stream) > 0


def test_in_asyncio(queue: pathlib.Path, tmp_path: pathlib.Path) -> None:

    asyncio.run(_in_asyncio(queue, tmp_path))
