"""Looking at the files of a queue that is in doubt, before anybody uses it."""

import logging
import os
import pathlib

from persipubsub.engine.local import doubt, files, locks
from persipubsub.engine.local.board import SIZE, Board
from persipubsub.engine.local.check import CHECKSUM, check
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.writelock import WriteLock
from persipubsub.errors import QueueDamagedError, StorageError
from persipubsub.limits import Durability

logger = logging.getLogger("persipubsub")

_CHUNK = 1 << 20
_TIMEOUT = 30.0


def verify(path: pathlib.Path, why: str) -> None:
    """Verify the pages of a queue that this process has not opened yet, while nobody writes.

    Then they are written once more: after a failed sync the system may have forgotten that the disk lacks them.

    :raise QueueDamagedError: LMDB must not open it
    :raise StorageError: the disk fails again
    :raise QueueBusyError: somebody else keeps the write lock
    """
    byte_locks = locks.ByteLocks(files.open_own(path / files.LOCKS, os.O_RDWR))
    try:
        board = Board(files.map_own(path / files.BOARD, SIZE))
        lock = WriteLock(path, byte_locks, board.page)
        try:
            lock.acquire(_TIMEOUT)
            try:
                findings = files.verify_pages(path)
                if findings:
                    raise _damaged(path, why, findings)
                _write_again(path)
            finally:
                lock.release()
        finally:
            board.close()
    finally:
        byte_locks.close()


def _write_again(path: pathlib.Path) -> None:
    descriptor = files.open_own(path / files.DATA, os.O_RDWR)
    try:
        _, end, _ = files.extent(path / files.DATA)
        at = 0
        while data := os.pread(descriptor, min(_CHUNK, end - at), at):
            at += os.pwrite(descriptor, data, at)
        os.fsync(descriptor)
    except OSError as error:
        raise StorageError(
            error.errno, f"Queue {path}: the disk fails ({error}); replace it, or restore a backup"
        ) from None
    finally:
        os.close(descriptor)


def dispel(store: Store, why: str) -> None:
    """Check what is stored, now that the pages can be trusted, and end the doubt.

    Damaged payloads are no obstacle: they never reach a subscriber, but its dead letters.

    :raise QueueDamagedError: the records contradict each other
    """
    findings = check(store)
    grave = [f"{finding.where}: {finding.what}" for finding in findings if finding.what != CHECKSUM]
    if grave:
        raise _damaged(store.path, why, grave)
    logger.warning(
        "Queue %s was checked, for %s: it is sound, but for %d messages that go to the dead letters.",
        store.path,
        why,
        len(findings),
    )
    if store.durability is Durability.PROCESS:
        with store.writer.locked():  # others may write the note as well
            doubt.note_boot(store.path)
    else:
        doubt.forget(store.path)


def _damaged(path: pathlib.Path, why: str, findings: list[str]) -> QueueDamagedError:
    return QueueDamagedError(
        f"Queue {path} is damaged; {why}: {findings[0]} ({len(findings)} findings). Restore it from a backup, "
        "or save what can be read with `persipubsub check --repair`."
    )
