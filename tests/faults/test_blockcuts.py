"""Power cuts below the filesystem.

``python -m tests.soak --rows block-images`` looks longer. Where nothing can be mounted these tests fail: they say so.
"""

import os
import pathlib
import random
from collections.abc import Iterator

import pytest

from persipubsub import Durability
from tests.faults import blockcuts
from tests.faults.blockdisk import BlockDisk, NotPermittedError, Record, own_mounts
from tests.faults.crew import Hand
from tests.faults.powercut import MANNERS


@pytest.fixture
def hand() -> Iterator[Hand]:
    one = Hand(bound=100)
    yield one
    one.end()


@pytest.mark.parametrize("durability", list(Durability))
def test_what_was_promised_is_left_on_the_disk(memory: pathlib.Path, hand: Hand, durability: Durability) -> None:
    verdict = hand.do(blockcuts.trial, memory, durability, 4, 15, 16)
    assert verdict.findings == []
    assert verdict.cuts == 16
    assert verdict.absent < verdict.cuts


@pytest.mark.parametrize("durability", [Durability.FULL, Durability.COMMIT])
def test_a_flush_that_is_left_out_is_seen(memory: pathlib.Path, hand: Hand, durability: Durability) -> None:
    verdict = hand.do(blockcuts.trial, memory, durability, 4, 15, 12, float("inf"), {"sync": False})
    assert verdict.findings


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(65_534)
    os.setuid(65_534)


def test_who_may_not_mount_is_told(memory: pathlib.Path) -> None:
    hand = Hand(become_nobody)
    try:
        with pytest.raises(NotPermittedError, match="mounting is not permitted here"):
            hand.do(blockcuts.trial, memory, Durability.FULL, 4, 1, 1)
    finally:
        hand.end()


def write_a_file(folder: pathlib.Path) -> tuple[int, int, list[Record]]:
    """Write a file and sync it, on a recorded disk; return where its record begins and ends, and all of them."""
    own_mounts()
    disk = BlockDisk(folder)
    with open(disk.path / "file", "wb") as stream:
        begun = disk.count()
        stream.write(b"precious" * 512)
        stream.flush()
        os.fsync(stream.fileno())
        done = disk.count()
    disk.end()
    return begun, done, list(disk.records())


def test_the_disk_keeps_what_it_was_given_in_order(memory: pathlib.Path, hand: Hand) -> None:
    begun, done, records = hand.do(write_a_file, memory)
    written = [number for number, record in enumerate(records) if record.data == b"precious" * 512]
    flushes = [number for number, record in enumerate(records) if not record.data]
    assert begun <= written[0] < done
    assert any(written[0] < flush < done for flush in flushes)


def test_what_is_left_is_torn_in_all_manners() -> None:
    records = [Record(at * 4096, bytes([at]) * 4096) for at in range(1, 9)]
    source = random.Random(1)
    left = {manner: [list(blockcuts.pieces(records, manner, source)) for _ in range(20)] for manner in MANNERS}
    assert left["dropped"] == [[]] * 20
    assert left["kept"] == [records] * 20
    assert {len(record.data) for some in left["sectors"] for record in some} == {512}
    for manner in ("pages", "beginning", "few missing"):
        assert len({len(some) for some in left[manner]}) > 1
    assert all(some == records[: len(some)] for some in left["beginning"])
