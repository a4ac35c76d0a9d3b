"""A queue on a disk that is recorded below the filesystem, and power cuts there: a second opinion on ``powerloss``.

Nothing is assumed of the filesystem: it is the kernel's, and its journal is replayed by mounting what is left. Assumed
of the disk is what one with a volatile cache promises: after a flush, what was written before it is there; of the rest,
each sector (512 bytes) is, or is not. The block with ext4's superblock is written whole: ext4 itself relies on that.
"""

import os
import pathlib
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import lmdb

from persipubsub import Durability
from persipubsub.engine.local import files
from tests.faults import blockdisk, judging, powerloss
from tests.faults.blockdisk import BlockDisk, Record
from tests.faults.crew import Hand
from tests.faults.powercut import MANNERS, Cut
from tests.faults.powerloss import Life, Verdict

_SECTOR, _BLOCK = 512, 4096


class Marks:
    """Marks in the records of a disk where operations of the user begin and return."""

    def __init__(self, disk: BlockDisk, data: pathlib.Path, seed: int) -> None:
        """Now and then let the system write out ``data``."""
        self._disk = disk
        self._data = data
        self._source = random.Random(seed)
        self.begun: list[int] = []
        self.returned: list[int] = []
        #: What is recorded afterwards belongs to nobody.
        self.end = 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note the end of the block."""
        yield
        self.end = self._disk.count()

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Mark an operation of the user."""
        self.begun.append(self._disk.count())
        yield
        self.returned.append(self._disk.count())
        if self._data.exists() and not self._source.randrange(4):
            descriptor = os.open(self._data, os.O_RDONLY)
            blockdisk.write_out(descriptor)
            os.close(descriptor)


def pieces(records: Sequence[Record], manner: str, source: random.Random) -> Iterator[Record]:
    """Return what a power cut leaves of the writes since the last flush."""
    end = source.randrange(len(records) + 1)
    missing = set(source.sample(range(len(records)), min(len(records), source.randrange(1, 4))))
    for number, record in enumerate(records):
        if manner == "sectors" and record.offset >= _BLOCK:
            for at in range(0, len(record.data), _SECTOR):
                if source.randrange(2):
                    yield Record(record.offset + at, record.data[at : at + _SECTOR])
        elif (
            manner == "kept"
            or (manner in ("pages", "sectors") and source.randrange(2))
            or (manner == "beginning" and number < end)
            or (manner == "few missing" and number not in missing)
        ):
            yield record


def _write(image: bytearray, records: Sequence[Record]) -> None:
    for offset, data in records:
        image[offset : offset + len(data)] = data


def trial(
    folder: pathlib.Path,
    durability: Durability,
    seed: int,
    operations: int,
    cuts: int,
    until: float = float("inf"),
    flags: dict[str, bool] | None = None,
) -> Verdict:
    """Lead a life on a recorded disk, cut it off ``cuts`` times, and judge.

    To be done in a process of its own: what it mounts ends with it.

    :param folder: is there, and empty
    :param until: a moment of the monotonic clock at which it ends
    :param flags: a bug to be planted: LMDB's, which are not what they should be
    :raise NotPermittedError: the process may not mount
    """
    blockdisk.own_mounts()
    disk = BlockDisk(folder)
    root = disk.path / "life"
    root.mkdir()
    files.sync_folder(disk.path)
    life = Life(durability)
    marks = Marks(disk, root / powerloss.WHERE / files.DATA, seed)
    first = disk.count()
    try:
        with mock.patch.object(lmdb, "open", powerloss.without_sync(**flags or {})):
            powerloss.lead(life, root, marks, seed, operations)
    finally:
        disk.end()
    if life.errors:
        return Verdict(findings=[f"{type(error).__name__}: {error}" for error in life.errors])
    source = random.Random(seed)
    verdict = Verdict()
    records = list(disk.records())
    possible = range(first + 1, marks.end + 1)
    image, applied = bytearray(disk.image), 0
    hand = Hand(judging.another_boot)
    mounted = folder / "left"
    mounted.mkdir()
    try:
        for number in sorted(source.sample(possible, min(len(possible), cuts))):
            if time.monotonic() > until:
                break
            flushed = max((at + 1 for at in range(applied, number) if not records[at].data), default=applied)
            _write(image, records[applied:flushed])
            applied = flushed
            manner = source.choice(MANNERS)
            left = bytearray(image)
            _write(left, list(pieces(records[flushed:number], manner, source)))
            (folder / "image").write_bytes(left)
            done = sum(at <= number for at in marks.returned)
            cut = Cut(number, "block", manner, sum(at <= number for at in marks.begun), done)
            verdict.cuts += 1
            blockdisk.mount_image(folder / "image", mounted)
            try:
                path = mounted / "life" / powerloss.WHERE
                verdict.findings += [f"{cut}: {finding}" for finding in powerloss.judge(life, cut, path, hand, verdict)]
            finally:
                hand.end()
                blockdisk.unmount(mounted)
    finally:
        hand.end()
    return verdict
