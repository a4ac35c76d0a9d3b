"""Whether LMDB may trust the files of a queue: it believes every byte of them.

A small file in the queue's folder casts doubt on the others. With durability "process" it is there as long as the
queue is open, and names the boot of the machine: found after another boot, it tells of a power cut. It is also left
behind when the disk has failed. Who opens the queue then looks at everything first.
"""

import os
import pathlib
import time

from persipubsub.engine.local import files
from persipubsub.errors import NotAQueueError

_FAILED = "failed: "
_LONGEST = 4096
#: Queues of this process, by device and inode, whose disk would not even take the note.
_failed: dict[tuple[int, int], str] = {}


def _boot_id() -> str:
    """Return what is the same until the machine is started anew."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # Without boot ids (macOS): the minute in which the machine was started.
        return str(int(time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)) // 60)


def note_boot(path: pathlib.Path) -> None:
    """Say that the queue is open with durability "process" since this boot, durably."""
    if _read(path) != _boot_id():
        files.write_durably(path / files.BOOT, _boot_id())


def note_failure(path: pathlib.Path, what: str) -> None:
    """Say that the disk has failed, as durably as it can be had."""
    try:
        _failed[files.identity(path)] = what
        files.write_durably(path / files.BOOT, _FAILED + what)
    except OSError:
        pass  # this process knows; others will meet the failing disk themselves


def forget(path: pathlib.Path) -> None:
    """Take the note away: everything was synced, and looked at if there was doubt."""
    try:
        _failed.pop(files.identity(path), None)
        (path / files.BOOT).unlink(missing_ok=True)
    except OSError:
        pass  # a look too many does no harm


def reason(path: pathlib.Path) -> str | None:
    """Return why the files are in doubt, ``None`` if they are not."""
    text = _read(path)
    if text is None or text == _boot_id():
        return _failed.get(files.identity(path))
    if text.startswith(_FAILED):
        return f"the disk failed while it was open ({text.removeprefix(_FAILED)})"
    return "it was open with durability 'process' when the machine stopped"


def _read(path: pathlib.Path) -> str | None:
    try:
        descriptor = files.open_own(path / files.BOOT, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return os.read(descriptor, _LONGEST).decode(errors="replace")
    except BlockingIOError:
        raise NotAQueueError(f"{path / files.BOOT} is no file, which does not belong to a queue; remove it.") from None
    finally:
        os.close(descriptor)
