"""Damaged files: a clear error or what was sent, never a hang, a signal, or something else silently.

``python -m tests.soak --rows damaged-files`` looks longer.
"""

import os
import pathlib
import random
import shutil
import struct
from collections.abc import Iterator

import lmdb
import pytest

from persipubsub import Durability, Environment, QueueDamagedError
from persipubsub.engine.local import board, doubt, files, format, pages
from tests.faults.crew import Hand
from tests.fuzz import damage
from tests.process import support
from tests.process.support import Children

SEEDS = 40


@pytest.fixture
def hand() -> Iterator[Hand]:
    hand = Hand(damage.prepare)
    yield hand
    hand.end()


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> damage.Pattern:
    return damage.make(tmp_path_factory.mktemp("pattern") / "queue", 1)


def test_a_damaged_data_file_gives_an_error_or_what_was_sent(
    pattern: damage.Pattern, memory: pathlib.Path, hand: Hand
) -> None:
    told = 0
    for seed in range(SEEDS):
        what, result, findings = damage.trial(pattern, memory, seed, hand)
        assert findings == []
        assert result is not None, what
        told += bool(result.error or result.checked)
    # Some damage hits pages that hold nothing.
    assert SEEDS / 2 < told < SEEDS


def test_trust_in_a_file_that_was_changed_is_seen(
    pattern: damage.Pattern, memory: pathlib.Path, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubt, "_is_sealed", lambda path: True)
    assert any(damage.trial(pattern, memory, seed, hand, by_command=False)[2] for seed in range(1000))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (files.BOARD, 200_000),  # one that is too short is refused
        *[(name, size) for name in (files.LOCKS, files.LMDB_LOCK, files.SEAL, files.BOOT) for size in (0, 1, 200_000)],
    ],
)
def test_foreign_bytes_beside_the_data_do_no_harm(
    pattern: damage.Pattern, memory: pathlib.Path, hand: Hand, name: str, size: int
) -> None:
    copy = memory / "copy"
    shutil.copytree(pattern.path, copy)
    noise = random.Random(size).randbytes(size)
    (copy / name).write_bytes(noise if size != 1 else b"\1")
    result: damage.Result = hand.do(damage.use, copy, pattern.sent)
    assert (result.error, result.checked, result.wrong) == ("", [], [])
    assert result.received == len(pattern.sent)


def test_foreign_bytes_on_the_board_of_an_open_queue_do_no_harm(queue_path: pathlib.Path, children: Children) -> None:
    source = random.Random(1)
    with Environment(queue_path) as env:
        env.new_control({"sub"})
        child = children.new()
        child.do(support.open_subscriber, queue_path)
        pub = env.new_publisher()
        for number in range(20):
            child.start(support.get_and_ack, support.BOUND)
            with open(queue_path / files.BOARD, "r+b") as stream:
                # Not where the bells are: a bell that is not armed is found by the bounded wait, later.
                stream.seek(board.SLOTS)
                stream.write(source.randbytes(board.SIZE - board.SLOTS))
            pub.send(b"%d" % number)
            assert child.returned()[0] == b"%d" % number
        assert env.open_control().check() == []


def test_foreign_bytes_in_a_fifo_wake_nobody_for_good(queue_path: pathlib.Path, children: Children) -> None:
    with Environment(queue_path) as env:
        env.new_control({"sub"})
        child = children.new()
        child.do(support.open_subscriber, queue_path)
        child.start(support.get, support.BOUND)
        support.wait_until_asleep(child, queue_path)
        for path in (queue_path / files.BELLS).iterdir():
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
            for _ in range(20):
                try:
                    os.write(descriptor, os.urandom(4096))
                except BlockingIOError:
                    break  # it is full
            os.close(descriptor)
        support.wait_until_asleep(child, queue_path)
        env.new_publisher().send(b"at last")
        assert child.returned()[0] == b"at last"


def mislead(path: pathlib.Path) -> int:
    """Change the signpost to the second page of messages: the first one there, whose id is returned, is not found."""
    with open(path / files.DATA, "r+b", buffering=0) as stream:
        found = pages.Pages(stream.fileno())
        root = found.databases(found.metas[0])[format.META_DB]
        page = found.page(root)
        low, high, _, size = struct.unpack_from("<HHHH", page, offset := found._offsets(page, root, "")[1])
        first = next(iter(found.walk(low | high << 16, "the second page")))
        stream.seek(root * found.size + offset + 8)
        stream.write((int.from_bytes(first.key, "big") + 1).to_bytes(size, "big"))
        return int.from_bytes(first.key, "big")


@pytest.mark.parametrize("trusted", [False, True])
def test_a_message_that_is_not_where_its_id_leads_to_is_no_endless_loop(
    pattern: damage.Pattern, memory: pathlib.Path, hand: Hand, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    copy = memory / "copy"
    shutil.copytree(pattern.path, copy)
    lost = mislead(copy)
    monkeypatch.setattr(doubt, "_is_sealed", lambda path: trusted)
    result: damage.Result = hand.do(damage.use, copy, pattern.sent)
    assert result.error.startswith("QueueDamagedError")
    assert f"message {lost}" in result.error
    assert result.checked == ([f"message {lost}: it is not where its id leads to"] if trusted else [])


def test_a_subscriber_whose_name_was_overwritten_is_found(queue_path: pathlib.Path) -> None:
    """As a power cut leaves it with durability "process": a sector of zeros, where LMDB sees an empty key."""
    with Environment(queue_path) as env:
        env.new_control({"the-one", "yours"}, durability=Durability.PROCESS)
    data = queue_path / "data.mdb"
    content = bytearray(data.read_bytes())
    # A node of a leaf page: sizes and flags (8 bytes), the key, the value.
    at = content.find(b"the-one")
    while at >= 0:
        node = at - 8
        if int.from_bytes(content[at - 2 : at], "little") == len("the-one"):
            content[node + 6 : at] = bytes(2)
        at = content.find(b"the-one", at + 1)
    data.write_bytes(content)
    with pytest.raises(QueueDamagedError, match="its record was overwritten"), Environment(queue_path) as env:
        env.open_control()


def test_a_subscriber_whose_sub_database_is_missing_is_found(queue_path: pathlib.Path) -> None:
    """So it is where a power cut has left an older page of the subscribers' records."""
    with Environment(queue_path) as env:
        env.new_control({"a", "b"}, durability=Durability.PROCESS)
        env.new_publisher().send(b"1")
    with lmdb.open(str(queue_path), max_dbs=32) as raw, raw.begin(write=True) as txn:
        txn.drop(raw.open_db(b"queue/b", txn, create=False))
    (queue_path / files.SEAL).unlink()
    with pytest.raises(QueueDamagedError, match="its sub-database is not there"), Environment(queue_path) as env:
        env.open_control()


def test_settings_that_cannot_be_read_are_damage(queue_path: pathlib.Path) -> None:
    with Environment(queue_path) as env:
        env.new_control({"a"}, durability=Durability.PROCESS)
    with lmdb.open(str(queue_path), max_dbs=32) as raw, raw.begin(write=True) as txn:
        key = format.SETTING_PREFIX + b"durability"
        txn.put(key, format.encode("procgss"), db=raw.open_db(format.QUEUE_DB, txn, create=False))
    with pytest.raises(QueueDamagedError, match="a record cannot be read"), Environment(queue_path) as env:
        env.open_control()
