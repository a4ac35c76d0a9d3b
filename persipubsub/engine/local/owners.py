"""Liveness: an owner is alive as long as its process holds the owner's lock."""

import os
import pathlib
import secrets
import sys
import threading

from persipubsub.engine.local import locks
from persipubsub.engine.local.format import OwnerRecord

_LONGEST_COMMAND = 200


class Owners:
    """Owners of one queue, as this process sees them."""

    def __init__(self, byte_locks: locks.ByteLocks) -> None:
        """Lock with ``byte_locks``."""
        self._locks = byte_locks
        self._mine: set[int] = set()
        self._guard = threading.Lock()

    def new(self) -> int:
        """Return a new owner, alive until ``end`` or the end of the process."""
        with self._guard:
            while True:
                owner = secrets.randbelow(locks.OWNER_IDS - 1) + 1
                if owner not in self._mine and self._locks.try_exclusive(locks.OWNERS + owner):
                    self._mine.add(owner)
                    return owner

    def end(self, owner: int) -> None:
        """Let an owner of this process be dead."""
        with self._guard:
            if owner in self._mine:
                self._mine.discard(owner)
                self._locks.unlock(locks.OWNERS + owner)

    def is_mine(self, owner: int) -> bool:
        """Tell whether an owner belongs to this process, and lives."""
        return owner in self._mine

    def is_alive(self, owner: int) -> bool:
        """Tell whether an owner lives, in whatever process."""
        return owner in self._mine or self._locks.holder(locks.OWNERS + owner) is not None


def pid_namespace() -> int:
    """Return the inode of this process's pid namespace; 0 where there is no such thing."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def this_process(now_ns: int) -> OwnerRecord:
    """Return what others should know of this process."""
    command = " ".join([pathlib.Path(sys.executable or "python").name, *sys.argv])
    return OwnerRecord(os.getpid(), pid_namespace(), now_ns, command[:_LONGEST_COMMAND])


def is_elsewhere(record: OwnerRecord) -> bool:
    """Tell whether an owner's pid is one of another namespace, where it means nothing here."""
    return record.pid_namespace != pid_namespace()


def watch(record: OwnerRecord) -> int | None:
    """Return a descriptor that is readable once the process has died, ``None`` if there is no such thing."""
    if not hasattr(os, "pidfd_open") or is_elsewhere(record) or not record.pid_namespace:
        return None
    try:
        return os.pidfd_open(record.pid)
    except OSError:
        return None
