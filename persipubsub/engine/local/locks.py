"""Byte-range locks on one file: who writes, who has the queue open, which owner is alive.

They are POSIX record locks: the kernel drops them when the process dies, however it dies, and a
forked child does not inherit them. They belong to the process, not to a thread, and *any* close of
*any* descriptor of the file in the process drops them all: hence one file that nothing else is kept
in, opened once per process.
"""

import errno
import fcntl
import os
import struct
import sys

#: Held by a writer that found others writing; see ``writelock``.
WRITER = 0
#: Shared by all processes that have the queue open; exclusive for a change of durability and for a compaction.
USERS = 1
#: One byte for each slot of the board: bells, then progress of batches.
BELLS = 1 << 16
PROGRESS = 1 << 17
#: One byte for each process that may write; see ``writelock``.
WRITERS = 1 << 18
#: One byte for each process that posts what others carry out; see ``posts``.
POSTS = 1 << 19
#: One byte for each owner, at this offset plus the owner's random id.
OWNERS = 1 << 48
#: Owner ids are below this.
OWNER_IDS = 1 << 48

if sys.platform == "darwin":
    _FLOCK = struct.Struct("qqihh")  # start, len, pid, type, whence

    def _query(offset: int) -> bytes:
        return _FLOCK.pack(offset, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)

    def _answer(reply: bytes) -> tuple[int, int]:
        _, _, pid, kind, _ = _FLOCK.unpack(reply)
        return kind, pid

else:
    _FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, len, pid

    def _query(offset: int) -> bytes:
        return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)

    def _answer(reply: bytes) -> tuple[int, int]:
        kind, _, _, _, pid = _FLOCK.unpack(reply)
        return kind, pid


class ByteLocks:
    """Record locks of this process on an open file."""

    def __init__(self, descriptor: int) -> None:
        """Take over ``descriptor``, open for reading and writing."""
        self._descriptor = descriptor

    def try_exclusive(self, offset: int) -> bool:
        """Lock a byte for this process alone, if no other process has it."""
        return self._try(fcntl.LOCK_EX, offset)

    def try_shared(self, offset: int) -> bool:
        """Lock a byte together with others, if no other process has it alone."""
        return self._try(fcntl.LOCK_SH, offset)

    def _try(self, kind: int, offset: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, kind | fcntl.LOCK_NB, 1, offset)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def unlock(self, offset: int) -> None:
        """Let go of a byte."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, offset)

    def holder(self, offset: int) -> int | None:
        """Return the pid of another process that holds a byte; 0 or less if it cannot be named here."""
        kind, pid = _answer(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, _query(offset)))
        return None if kind == fcntl.F_UNLCK else pid

    def name_holder(self, offset: int) -> str:
        """Return what to call the process that holds a byte."""
        pid = self.holder(offset)
        if pid is None:
            return "another process"
        # The kernel shows no pid of a namespace that is not seen from here.
        return f"process {pid}" if pid > 0 else "a process of another container (PID namespace)"

    def close(self) -> None:
        """Drop every lock of this process on the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
