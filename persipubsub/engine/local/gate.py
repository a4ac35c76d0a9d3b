"""Lets many transactions of this process run, or one remapping of the file with none of them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Counts the transactions of this process; LMDB's map may only move when there are none."""

    def __init__(self) -> None:
        """Start open."""
        # Taken by itself: an interrupt cannot come between its methods, which are written in C, and the block.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._inside: dict[int, int] = {}
        self._views: set[object] = set()
        self._closed_by: int | None = None

    def enter(self) -> None:
        """Announce a transaction; waits while the map moves.

        A thread that is inside already does not wait: who wants to be alone waits for it.
        """
        me = threading.get_ident()
        with self._lock:
            while self._closed_by not in (None, me) and me not in self._inside:
                self._changed.wait()
            self._inside[me] = self._inside.get(me, 0) + 1

    def leave(self) -> None:
        """Announce the end of a transaction that this thread began."""
        me = threading.get_ident()
        with self._lock:
            left = self._inside[me] - 1
            if left:
                self._inside[me] = left
            else:
                del self._inside[me]
            if self._closed_by is not None:
                self._changed.notify_all()

    __enter__ = enter

    def __exit__(self, *_: object) -> None:
        """Announce the end of a transaction."""
        self.leave()

    @contextmanager
    def view(self) -> Iterator[None]:
        """Announce a read transaction that lasts while the user's code runs."""
        token = object()
        before = self.level()
        try:
            self.enter()
            self._views.add(token)
            yield
        finally:
            try:
                self._views.discard(token)
                self.go_back(before)
            except BaseException:
                self._views.discard(token)  # interrupted: doing it twice does no harm
                self.go_back(before)
                raise

    def level(self) -> int:
        """Return how many transactions this thread has announced."""
        return self._inside.get(threading.get_ident(), 0)

    def go_back(self, level: int) -> None:
        """Announce the end of all transactions of this thread since there were ``level``; twice does no harm."""
        me = threading.get_ident()
        with self._lock:
            if level:
                self._inside[me] = level
            else:
                self._inside.pop(me, None)
            if self._closed_by is not None:
                self._changed.notify_all()

    @contextmanager
    def alone(self, timeout: float) -> Iterator[bool]:
        """Keep all transactions out; gives False, keeping nobody out, if that is not possible in time.

        It is impossible at once if this very thread is inside (a ``receive_view`` block). A thread that keeps
        the others out already may do so once more: the map may have to grow meanwhile.
        """
        me = threading.get_ident()
        if self._closed_by == me:
            yield me not in self._inside
            return
        deadline = time.monotonic() + timeout
        with self._lock:
            granted = me not in self._inside
            while granted and self._closed_by is not None:
                granted = self._changed.wait(deadline - time.monotonic()) or self._closed_by is None
            if granted:
                self._closed_by = me
                while self._inside:
                    if not self._changed.wait(deadline - time.monotonic()) and self._inside:
                        self._closed_by = None
                        self._changed.notify_all()
                        granted = False
                        break
        try:
            yield granted
        finally:
            if granted:
                with self._lock:
                    self._closed_by = None
                    self._changed.notify_all()

    def hold(self, timeout: float) -> bool:
        """Keep all transactions out but views, until ``release``; for the moment of a fork."""
        deadline = time.monotonic() + timeout
        with self._lock:
            while self._closed_by is not None or sum(self._inside.values()) > len(self._views):
                if not self._changed.wait(min(0.05, deadline - time.monotonic())) and time.monotonic() > deadline:
                    return False
            self._closed_by = threading.get_ident()
            return True

    def release(self) -> None:
        """End a ``hold``."""
        with self._lock:
            self._closed_by = None
            self._changed.notify_all()

    def abandon(self) -> None:
        """Start anew in a forked child, where a thread that held the lock does not exist."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._closed_by = None
