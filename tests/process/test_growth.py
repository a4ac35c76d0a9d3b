"""A map that is full grows for everybody; a disk that is full is an error of the sender alone."""

import errno
import hashlib
import os
import pathlib
import random
import resource
import subprocess
import time
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
    received: list[bytes] = []
    with Environment(path) as env:
        sub = env.new_subscriber(identifier)
        here.tell("ready")
        # A reader that is always there: it has to follow the map whenever that grows.
        while len(received) < PUBLISHERS * MESSAGES:
            sub.peek()
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


@pytest.mark.parametrize("durability", [Durability.FULL, Durability.PROCESS])
def test_subscriber_is_removed_after_another_process_grew_the_map(
    tmp_path: pathlib.Path, children: Children, durability: Durability
) -> None:
    path = tmp_path / "queue"
    with Environment(path) as env:
        control = env.new_control({"quick", "idle"}, durability=durability, map_size=MIB, lock_timeout=1.0)
        env.new_publisher().send(b"before")
        children.new().do(grow, path)
        # This process learns of it while it keeps its own transactions out.
        assert control.remove_subscriber("idle")
        assert control.subscriber_ids == {"quick"}
    support.assert_sound(path)


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
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path | None]:
    """Give a folder on a small disk of its own, or nothing where this user may not mount one."""
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
    # Each commit waits for the disk: so small ones are sent by the hundred.
    batch = 1 if size > 1000 else 100
    while True:
        try:
            here.pub.send_many([b"%d " % (number + index) + bytes(size) for index in range(batch)])
        except StorageFullError as error:
            if error.errno == errno.ENOSPC and "disk is full" in str(error):
                return number
            raise
        number += batch


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


def take_all(here: Here, path: pathlib.Path) -> list[int]:
    """Take in every manner, from the disk as it is."""
    here.env = Environment(path)
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


#: A file with a writable map is as long as its map from the beginning: a limit on files does not bound it.
WITHOUT_WRITABLE_MAP = [Durability.FULL, Durability.COMMIT]


def judge_full_disk(
    children: Children, path: pathlib.Path, durability: Durability, size: int, limit: int | None
) -> None:
    with Environment(path) as env:
        env.new_control({"sub"}, durability=durability, deduplication_window=0)
    child, other = children.new(), children.new()
    if limit is not None:
        child.do(limit_files, limit)
        other.do(limit_files, limit)
    number = child.do(fill, path, size)
    assert number > 20
    # Nothing of what was refused is there, and all of what was stored.
    assert child.do(figures_of) == (number, number, number)
    assert child.do(is_full)
    assert child.do(check_queue) == []
    # Reading and acknowledging go on, also for one that opens the queue only now.
    assert other.do(take_all, path) == list(range(number))
    other.do(support.close)
    assert child.do(figures_of) == (0, number, 0)
    # And there is room again, for about as many.
    assert child.do(fill, path, size) > number // 2
    assert child.do(take_all, path) is not None
    assert not child.do(is_full)
    assert child.do(check_queue) == []
    child.do(support.close)
    support.assert_sound(path)


@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize("size", [100, 100_000])
def test_full_disk(
    disk: pathlib.Path | None, tmp_path: pathlib.Path, children: Children, durability: Durability, size: int
) -> None:
    if disk is None:
        durability = Durability.FULL if durability is Durability.PROCESS else durability
        judge_full_disk(children, tmp_path / "queue", durability, size, SIZE)
        return
    if size < 1000:
        # Let there be less to fill.
        (disk / "ballast").write_bytes(bytes(SIZE - 8 * MIB))
    judge_full_disk(children, disk / "queue", durability, size, None)


def publish_patiently(here: Here, path: pathlib.Path, first: int, number: int) -> int:
    """Send, and try again when the disk is full; tell when it was so first, and return how often it was."""
    source = random.Random(first)
    refused = 0
    with Environment(path) as env:
        pub = env.new_publisher()
        for index in range(first, first + number):
            data = b"%d " % index + bytes(source.randrange(600_000))
            deadline = time.monotonic() + support.BOUND
            while True:
                try:
                    pub.send(data)
                    break
                except StorageFullError:
                    if time.monotonic() > deadline:
                        raise
                    if not refused:
                        here.tell("full")
                    refused += 1
    if not refused:
        here.tell("never full")
    return refused


def consume(here: Here, path: pathlib.Path, number: int) -> list[int]:
    seen: list[int] = []
    with Environment(path) as env, env.new_subscriber("sub").messages(batch=5, timeout=support.BOUND) as messages:
        for message in messages:
            seen.append(int(message.data.partition(b" ")[0]))
            if len(seen) == number:
                message.ack()
                break
    return seen


@pytest.mark.parametrize("durability", list(Durability))
def test_processes_get_on_though_the_disk_is_full_again_and_again(
    disk: pathlib.Path | None, tmp_path: pathlib.Path, children: Children, durability: Durability
) -> None:
    if disk is None and durability is Durability.PROCESS:
        durability = Durability.FULL
    path = (disk or tmp_path) / "queue"
    with Environment(path) as env:
        env.new_control({"sub"}, durability=durability)
    publishers, consumer = [children.new(), children.new()], children.new()
    if disk is None:
        for child in (*publishers, consumer):
            child.do(limit_files, SIZE)
    for index, child in enumerate(publishers):
        child.start(publish_patiently, path, index * 100, 100)
    support.wait_until(lambda: not all(child.is_busy() for child in publishers), "the disk fills")
    consumer.start(consume, path, 200)
    for child in publishers:
        child.told(2 * support.BOUND)
    refused = [child.returned(2 * support.BOUND) for child in publishers]
    assert sorted(consumer.returned()) == list(range(200))
    assert sum(refused) > 0
    support.assert_sound(path)


@pytest.mark.parametrize("durability", WITHOUT_WRITABLE_MAP)
def test_limit_on_files_is_a_full_disk(tmp_path: pathlib.Path, children: Children, durability: Durability) -> None:
    judge_full_disk(children, tmp_path / "queue", durability, 100_000, SIZE)


@pytest.mark.parametrize("size", [100, 100_000])
def test_limit_on_files_stops_a_writable_map(tmp_path: pathlib.Path, children: Children, size: int) -> None:
    path = tmp_path / "queue"
    with Environment(path) as env:
        env.new_control({"sub"}, durability=Durability.PROCESS, map_size=4 * MIB)
    child = children.new()
    child.do(limit_files, 8 * MIB)
    number = child.do(fill, path, size)
    assert number > 20
    assert child.do(figures_of) == (number, number, number)
    # Acknowledging goes on, also for one that opens the queue only now; and then there is room again.
    other = children.new()
    other.do(limit_files, 8 * MIB)
    assert other.do(take_all, path) == list(range(number))
    other.do(support.close)
    assert child.do(fill, path, size) > number // 2
    child.do(limit_files, 4 * SIZE)
    assert not child.do(is_full)
    assert child.do(check_queue) == []
    child.do(support.close)
    support.assert_sound(path)


@pytest.mark.parametrize("durability", list(Durability))
def test_full_disk_gets_larger(
    disk: pathlib.Path | None, tmp_path: pathlib.Path, children: Children, durability: Durability
) -> None:
    if disk is None and durability is Durability.PROCESS:
        durability = Durability.FULL
    path = (disk or tmp_path) / "queue"
    with Environment(path) as env:
        env.new_control({"sub"}, durability=durability)
    child = children.new()
    if disk is None:
        child.do(limit_files, SIZE)
    number = child.do(fill, path, 100_000)
    if disk is None:
        child.do(limit_files, 2 * SIZE)
    else:
        remount = ["mount", "-o", f"remount,size={2 * SIZE}", str(disk)]
        subprocess.run(remount, check=True, capture_output=True)
    assert not child.do(is_full)
    assert child.do(figures_of) == (number + 1, number + 1, number + 1)
    child.do(support.close)
    support.assert_sound(path)


@pytest.mark.parametrize("durability", list(Durability))
def test_mark_holds_on_a_small_disk(
    disk: pathlib.Path | None, tmp_path: pathlib.Path, children: Children, durability: Durability
) -> None:
    """Pruning makes room by itself, before the disk is full."""
    path = (disk or tmp_path) / "queue"
    with Environment(path) as env:
        env.new_control({"sub"}, HighWaterMark(max_bytes=4 * MIB), Strategy.PRUNE_FIRST, durability=durability)
    child = children.new()
    if disk is None:
        child.do(limit_files, SIZE)
    child.do(support.open_publisher, path)
    for _ in range(4 * SIZE // MIB):
        child.do(support.send, bytes(MIB))
    child.do(support.close)
    support.assert_sound(path)
