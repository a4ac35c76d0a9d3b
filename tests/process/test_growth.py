"""A map that is full grows for everybody; a disk that is full is an error of the sender alone."""

import errno
import hashlib
import os
import pathlib
import random
import resource
import subprocess
from collections.abc import Iterator

import pytest

from persipubsub import Control, Durability, Environment, HighWaterMark, StorageFullError, Strategy
from tests.process import support
from tests.process.support import Children, Here

MIB = 1 << 20

# -- the map ------------------------------------------------------------------------------------------------

PUBLISHERS = 3
MESSAGES = 25


def publish_large(here: Here, path: pathlib.Path, seed: int) -> list[bytes]:
    source = random.Random(seed)
    with Environment(path) as env:
        pub = env.new_publisher()
        here.tell("ready")
        sent = []
        for _ in range(MESSAGES):
            data = source.randbytes(source.randrange(700_000))
            pub.send(data)
            sent.append(hashlib.sha256(data).digest())
        return sent


def consume_large(here: Here, path: pathlib.Path, identifier: str) -> list[bytes]:
    received = []
    with Environment(path) as env:
        sub = env.new_subscriber(identifier)
        here.tell("ready")
        # A reader that is always there: it has to follow the map whenever that grows.
        while len(received) < PUBLISHERS * MESSAGES:
            with sub.receive(timeout=support.BOUND) as data:
                assert data is not None
                received.append(hashlib.sha256(data).digest())
    return received


@pytest.mark.parametrize("durability", [Durability.FULL, Durability.PROCESS])
def test_map_grows_for_all_processes(tmp_path: pathlib.Path, children: Children, durability: Durability) -> None:
    path = tmp_path / "queue"
    with Environment(path) as env:
        control = env.new_control({"quick", "idle"}, durability=durability, map_size=MIB)
        quick, *publishers = [children.new() for _ in range(1 + PUBLISHERS)]
        quick.start(consume_large, path, "quick")
        for seed, child in enumerate(publishers):
            child.start(publish_large, path, seed)
        for child in (quick, *publishers):
            assert child.told() == "ready"
        sent = sorted(digest for child in publishers for digest in child.returned())
        assert sorted(quick.returned()) == sent
        # All of it is still there for the one that was idle, more than ten times the first map.
        figures = control.statistics()
        assert figures.payload_bytes > 10 * MIB
        idle = env.new_subscriber("idle")
        received = []
        for message in idle.messages(batch=7, timeout=0):
            received.append(hashlib.sha256(message.data).digest())
        assert sorted(received) == sent
        assert control.check() == []
    support.assert_sound(path)


def grow(here: Here, path: pathlib.Path) -> None:
    with Environment(path) as env:
        env.new_publisher().send(bytes(3 * MIB))


def test_view_is_left_alone_while_the_map_grows(tmp_path: pathlib.Path, children: Children) -> None:
    path = tmp_path / "queue"
    with Environment(path) as env:
        env.new_control({"sub"}, map_size=MIB)
        sub = env.new_subscriber("sub")
        data = random.Random(1).randbytes(300_000)
        env.new_publisher().send(data)
        with sub.receive_view(timeout=0) as view:
            assert view is not None
            children.new().do(grow, path)
            assert bytes(view) == data
        with sub.receive(timeout=0) as large:
            assert large == bytes(3 * MIB)
    support.assert_sound(path)


# -- the disk -----------------------------------------------------------------------------------------------

SIZE = 24 * MIB


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path | None]:
    """Give a folder on a disk of its own, or nothing where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def limit_files(here: Here, limit: int) -> None:
    """Let no file of this process grow any more: the next best thing to a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def fill(here: Here, path: pathlib.Path, size: int) -> int:
    """Send until the disk is full; return how many messages got in."""
    here.env = Environment(path)
    here.pub = here.env.new_publisher()
    number = 0
    while True:
        try:
            here.pub.send(b"%d " % number + bytes(size))
        except StorageFullError as error:
            assert error.errno == errno.ENOSPC
            assert "disk is full" in str(error)
            return number
        number += 1


def is_full(here: Here) -> bool:
    try:
        here.pub.send(bytes(1_000_000))
    except StorageFullError:
        return True
    return False


def figures_of(here: Here) -> tuple[int, int, int]:
    figures = here.env.open_control().statistics()
    (subscriber,) = figures.subscribers
    return figures.messages, figures.published, subscriber.lag


def take_all(here: Here) -> list[int]:
    """Take in every manner."""
    sub = here.env.new_subscriber("sub")
    numbers = []

    def seen(data: bytes) -> None:
        numbers.append(int(data.partition(b" ")[0]))

    message = sub.get(timeout=0)
    assert message is not None
    message.nack(reason="not now")
    with sub.receive(timeout=0) as data:
        assert data is not None
        seen(data)
    popped = sub.pop(timeout=0)
    assert popped is not None
    seen(popped.data)
    for message in sub.get_many(10, timeout=0):
        seen(message.data)
        message.ack()
    for message in sub.messages(timeout=0):
        seen(message.data)
    return numbers


def check_queue(here: Here) -> list[str]:
    control: Control = here.env.open_control()
    return [f"{finding.where}: {finding.what}" for finding in control.check()]


@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize("size", [100, 100_000])
def test_full_disk(
    tmp_path: pathlib.Path,
    small_disk: pathlib.Path | None,
    children: Children,
    durability: Durability,
    size: int,
) -> None:
    path = (small_disk or tmp_path) / "queue"
    with Environment(path) as env:
        env.new_control({"sub"}, durability=durability, deduplication_window=0)
    if size < 1000 and small_disk is not None:
        # Small messages come one by one: let there be less to fill.
        (small_disk / "ballast").write_bytes(bytes(SIZE - 8 * MIB))
    child = children.new()
    if small_disk is None:
        child.do(limit_files, SIZE if size > 1000 else 8 * MIB)
    number = child.do(fill, path, size)
    assert number > 20
    # Nothing of what was refused is there, and all of what was stored.
    assert child.do(figures_of) == (number, number, number)
    assert child.do(is_full)
    assert child.do(check_queue) == []
    # Reading and acknowledging go on, for the same process and for others.
    assert child.do(take_all) == list(range(number))
    assert child.do(figures_of) == (0, number, 0)
    # And there is room again.
    assert not child.do(is_full)
    assert child.do(check_queue) == []
    child.do(support.close)
    support.assert_sound(path)


@pytest.mark.parametrize("durability", list(Durability))
def test_full_disk_gets_larger(
    tmp_path: pathlib.Path, small_disk: pathlib.Path | None, children: Children, durability: Durability
) -> None:
    path = (small_disk or tmp_path) / "queue"
    with Environment(path) as env:
        env.new_control({"sub"}, durability=durability)
    child = children.new()
    if small_disk is None:
        child.do(limit_files, SIZE)
    number = child.do(fill, path, 100_000)
    if small_disk is None:
        child.do(limit_files, 2 * SIZE)
    else:
        remount = ["mount", "-o", f"remount,size={2 * SIZE}", str(small_disk)]
        subprocess.run(remount, check=True, capture_output=True)
    assert not child.do(is_full)
    assert child.do(figures_of) == (number + 1, number + 1, number + 1)
    child.do(support.close)
    support.assert_sound(path)


@pytest.mark.parametrize("durability", list(Durability))
def test_mark_holds_on_a_full_disk(
    tmp_path: pathlib.Path, small_disk: pathlib.Path | None, children: Children, durability: Durability
) -> None:
    """Pruning makes room by itself, before the disk is full."""
    path = (small_disk or tmp_path) / "queue"
    with Environment(path) as env:
        env.new_control({"sub"}, HighWaterMark(max_bytes=4 * MIB), Strategy.PRUNE_FIRST, durability=durability)
    child = children.new()
    if small_disk is None:
        child.do(limit_files, SIZE)
    child.do(support.open_publisher, path)
    for _ in range(8 * SIZE // MIB):
        child.do(support.send, bytes(MIB))
    child.do(support.close)
    support.assert_sound(path)
