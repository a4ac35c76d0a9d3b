"""Whether LMDB may trust the files of a queue: it believes every byte of them.

A small file in the queue's folder casts doubt on the others. With durability "process" it is there as long as the
queue is open, and names the boot of the machine: found after another boot, it tells of a power cut. It is also left
behind when the disk has failed. Another one, the seal, is what the last user saw of the data file when it closed the
queue: if the file has changed since then without a commit, or is a copy, something else has written it. Who opens the
queue in such a case looks at everything first. (A process that is killed leaves no seal, but commits.)
"""

import os
import pathlib
import time

from persipubsub.engine.local import files
from persipubsub.errors import NotAQueueError, OpenError

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
    if _read(path, files.BOOT) != _boot_id():
        files.write_durably(path / files.BOOT, _boot_id())


def note_failure(path: pathlib.Path, what: str) -> None:
    """Say that the disk has failed, as durably as it can be had."""
    try:
        _failed[files.identity(path)] = what
        files.write_durably(path / files.BOOT, _FAILED + what)
    except OSError:
        pass  # this process knows; others will meet the failing disk themselves


def leave(path: pathlib.Path) -> None:
    """Take away the note that the queue is open, for everything was synced; another doubt stays."""
    if _read(path, files.BOOT) == _boot_id():
        forget(path)


def forget(path: pathlib.Path) -> None:
    """Take the note away: everything was synced, and looked at if there was doubt."""
    try:
        _failed.pop(files.identity(path), None)
        (path / files.BOOT).unlink(missing_ok=True)
    except OSError:
        pass  # a look too many does no harm


def seal(path: pathlib.Path) -> None:
    """Note how the data file is, now that nobody has it open; where that fails, there will be doubt."""
    try:
        files.write_small(path / files.SEAL, " ".join(map(str, _picture(path))))
    except (OSError, OpenError):
        pass


def _picture(path: pathlib.Path) -> list[int]:
    status = os.stat(path / files.DATA)
    return [files.extent(path / files.DATA)[2], status.st_ino, status.st_size, status.st_mtime_ns]


def _is_sealed(path: pathlib.Path) -> bool:
    """Tell whether nothing but commits can have changed the data file since it was sealed."""
    found = _picture(path)
    try:
        sealed = [int(number) for number in (_read(path, files.SEAL) or "").split()]
    except ValueError:
        return False
    return sealed == found or (len(sealed) == len(found) and found[1] == sealed[1] and found[0] > sealed[0])


def reason(path: pathlib.Path, *, alone: bool) -> str | None:
    """Return why the files are in doubt, ``None`` if they are not.

    :param alone: nobody else has the queue open, so that the data file does not change
    """
    text = _read(path, files.BOOT)
    if text is None or text == _boot_id():
        failed = _failed.get(files.identity(path))
        if failed is None and alone and not _is_sealed(path):
            return "its data file was changed or copied while nobody had it open"
        return failed
    if text.startswith(_FAILED):
        return f"the disk failed while it was open ({text.removeprefix(_FAILED)})"
    return "it was open with durability 'process' when the machine stopped"


def unsynced(path: pathlib.Path) -> str | None:
    """Return why commits may be missing of which the files show nothing, ``None`` if that is not so."""
    try:
        text = _read(path, files.BOOT)
        return None if text is None or text == _boot_id() else reason(path, alone=False)
    except (OSError, NotAQueueError):
        return None


def _read(path: pathlib.Path, name: str) -> str | None:
    try:
        descriptor = files.open_own(path / name, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return os.read(descriptor, _LONGEST).decode(errors="replace")
    except BlockingIOError:
        raise NotAQueueError(f"{path / name} is no file, which does not belong to a queue; remove it.") from None
    finally:
        os.close(descriptor)
