"""Durability "process" and power cuts: a note that stays behind if the machine stops while a queue is open."""

import pathlib
import time

from persipubsub.engine.local import files
from persipubsub.errors import QueueDamagedError


def _boot_id() -> str:
    """Return what is the same until the machine is started anew."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # Without boot ids (macOS): the minute in which the machine was started.
        return str(int(time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)) // 60)


def note(path: pathlib.Path) -> None:
    """Leave the note, durably."""
    file = path / files.BOOT
    if not file.exists() or file.read_text() != _boot_id():
        files.write_durably(file, _boot_id())


def forget(path: pathlib.Path) -> None:
    """Take the note away: everything was synced."""
    (path / files.BOOT).unlink(missing_ok=True)


def check_after_power_cut(path: pathlib.Path) -> None:
    """Verify a queue whose last user was stopped with the machine, before LMDB trusts its pages.

    :raise QueueDamagedError: something is wrong with it
    """
    try:
        unclean = (path / files.BOOT).read_text() != _boot_id()
    except FileNotFoundError:
        return
    findings = files.verify_pages(path) if unclean else []
    if findings:
        raise QueueDamagedError(
            f"Queue {path} was open with durability 'process' when the machine stopped, and is damaged: "
            f"{findings[0]} ({len(findings)} findings). Restore it from a backup."
        )
