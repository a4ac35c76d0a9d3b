"""Who writes: one process at a time, found out without a system call when nobody else wants to.

LMDB's own lock keeps writers apart, but it cannot be waited for with a bound, nor interrupted. So one
takes this one before. A process that wants to write announces itself by a byte of its own on the board
and looks at the bytes of the others; if there are none it goes ahead. If two announce themselves at the
same time, at least one of them sees the other, steps back, and takes the slow way: a lock of the kernel,
under which it waits for those who went ahead. A process that dies leaves its byte behind, but not the
lock that shows that the byte is somebody's.
"""

import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from persipubsub.engine.local import locks
from persipubsub.engine.local.board import WRITERS, WRITERS_AT, Slots
from persipubsub.errors import QueueBusyError

_FREE, _CLAIMED = 0, 1
_CLAIM = bytes((_CLAIMED,))
#: The byte of whoever took the slow way; the kernel's lock lets only one do so.
_SLOW = WRITERS_AT + WRITERS - 1
_END = WRITERS_AT + WRITERS
#: Announcements before one takes the slow way.
_TRIES = 20
#: Attempts before the first sleep: most transactions take microseconds.
_SPINS = 50
_SHORTEST_SLEEP, _LONGEST_SLEEP = 0.00005, 0.002
#: Looks after the first one that tell who writes from who tries to.
_LOOKS = 5
#: Lets another process run; not every system has a call for just that.
_give_way: Callable[[], None] = getattr(os, "sched_yield", partial(time.sleep, 0))


class WriteLock:
    """The lock of one queue for one process; the caller lets one of its threads at a time come here."""

    __slots__ = ("_byte", "_fence", "_locks", "_page", "_path", "_slow", "_slots")

    def __init__(self, path: object, byte_locks: locks.ByteLocks, page: mmap.mmap) -> None:
        """Claim a byte of ``page``; ``path`` is for messages."""
        self._path = path
        self._locks = byte_locks
        self._page = page
        self._slots = Slots(byte_locks, locks.WRITERS, WRITERS - 1)
        slot = self._slots.claim()
        #: Where this process announces itself; -1 where all places are taken: then it always goes the slow way.
        self._byte = -1 if slot is None else WRITERS_AT + slot
        self._fence = threading.Lock()
        self._slow = False
        if slot is not None:
            page[self._byte] = _FREE  # a dead process may have left it claimed

    def acquire(self, timeout: float) -> None:
        """Keep the other processes' writers out.

        :raise QueueBusyError: another process writes for more than ``timeout`` seconds
        """
        for _ in range(_TRIES):
            if self._is_alone():
                return
            _give_way()
        self._acquire_slowly(timeout)

    def try_acquire(self) -> bool:
        """Keep the other processes' writers out, if none is writing now."""
        if self._is_alone():
            return True
        if not self._locks.try_exclusive(locks.WRITER):
            return False
        try:
            self._page[_SLOW] = _CLAIMED
            with self._fence:
                pass
            self._slow = all(self._is_over(place) for place in self._claimed())
        finally:
            if not self._slow:
                self._page[_SLOW] = _FREE
                self._locks.unlock(locks.WRITER)
        return self._slow

    def _is_alone(self) -> bool:
        """Announce this process; tell whether no other one is announced, else step back."""
        byte, page = self._byte, self._page
        if byte < 0:
            return False
        try:
            page[byte] = _CLAIMED
            with self._fence:  # what was written above is seen by all before what follows is read
                pass
            if page.find(_CLAIM, WRITERS_AT, byte) < 0 and page.find(_CLAIM, byte + 1, _END) < 0:
                return True
            page[byte] = _FREE
        except BaseException:
            page[byte] = _FREE
            raise
        return False

    def release(self) -> None:
        """Let others write."""
        if self._slow:
            self._slow = False
            self._page[_SLOW] = _FREE
            self._locks.unlock(locks.WRITER)
        else:
            self._page[self._byte] = _FREE

    def name_holder(self) -> str:
        """Return who writes, for messages; takes some milliseconds."""
        claimed = set(self._claimed())
        for _ in range(_LOOKS):
            # Those who wait announce themselves for a moment only, again and again.
            time.sleep(_LONGEST_SLEEP)
            claimed.intersection_update(self._claimed())
        for place in claimed:
            return self._locks.name_holder(locks.WRITERS + place)
        return self._locks.name_holder(locks.WRITER)

    def _acquire_slowly(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self._wait(lambda: self._locks.try_exclusive(locks.WRITER), deadline, timeout)
        try:
            self._page[_SLOW] = _CLAIMED
            with self._fence:
                pass
            for place in self._claimed():
                self._wait(partial(self._is_over, place), deadline, timeout)
            self._slow = True
        except BaseException:
            self._page[_SLOW] = _FREE
            self._locks.unlock(locks.WRITER)
            raise

    def _claimed(self) -> Iterator[int]:
        """Walk over the places of those who are announced, but for whoever took the slow way."""
        at = self._page.find(_CLAIM, WRITERS_AT, _SLOW)
        while at >= 0:
            yield at - WRITERS_AT
            at = self._page.find(_CLAIM, at + 1, _SLOW)

    def _is_over(self, place: int) -> bool:
        """Tell whether the process of a place has written, or is dead."""
        if self._page[WRITERS_AT + place] == _CLAIMED and self._locks.holder(locks.WRITERS + place) is None:
            self._page[WRITERS_AT + place] = _FREE
        return self._page[WRITERS_AT + place] == _FREE

    def _wait(self, is_over: Callable[[], bool], deadline: float, timeout: float) -> None:
        attempt = 0
        while not is_over():
            attempt += 1
            if attempt < _SPINS:
                _give_way()
                continue
            if time.monotonic() > deadline:
                raise QueueBusyError(
                    f"Queue {self._path}: {self.name_holder()} has kept the write lock for "
                    f"{timeout:g} s; it may be stopped (SIGSTOP, debugger): continue or kill it."
                )
            time.sleep(min(_SHORTEST_SLEEP * (attempt - _SPINS + 1), _LONGEST_SLEEP))
