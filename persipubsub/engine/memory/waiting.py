"""Waking those who wait for messages or for room."""

import contextlib
import enum
import os
import threading
import time
from collections.abc import Callable


class Interest(enum.Enum):
    """What one may wait for besides the messages of one subscriber."""

    ROOM = "room"
    """Messages left the queue."""
    MESSAGES = "messages"
    """Messages were published."""


class MemoryWaiter:
    """One waiting consumer or publisher; it counts as woken until it is armed for the first time."""

    def __init__(
        self,
        condition: threading.Condition,
        interest: str | Interest,
        next_event_ns: Callable[[], int | None],
        on_close: Callable[["MemoryWaiter"], None],
    ) -> None:
        """Wait for something.

        :param interest: what; a str is a subscriber's identifier
        :param condition: of the queue; it protects everything here and is notified at every change
        :param next_event_ns: tells in how many nanoseconds time alone will change something
        :param on_close: is told when nobody needs to wake this one any more
        """
        self.interest = interest
        self._condition = condition
        self._next_event_ns = next_event_ns
        self._on_close = on_close
        self._woken = True
        self._closed = False
        self._pipe: tuple[int, int] | None = None
        self._timer: threading.Thread | None = None

    def arm(self) -> None:
        """Ask to be woken from now on."""
        with self._condition:
            self._woken = False
            if self._pipe is not None:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._pipe[0], 16)
            self._condition.notify_all()

    def wake(self) -> None:
        """End the wait."""
        with self._condition:
            if self._woken or self._closed:
                return
            self._woken = True
            if self._pipe is not None:
                os.write(self._pipe[1], b"!")
            self._condition.notify_all()

    def wait(self, timeout: float | None) -> None:
        """Wait until something may have changed or ``timeout`` seconds passed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            while not self._woken and not self._closed:
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return
                self._wait_for_change(remaining)

    def fileno(self) -> int:
        """Return a descriptor that is readable once woken, until the next ``arm``.

        The first call starts a thread that wakes when a message becomes due or a lease ends.
        """
        with self._condition:
            if self._pipe is None:
                self._pipe = os.pipe()
                for end in self._pipe:
                    os.set_blocking(end, False)
                if self._woken:
                    os.write(self._pipe[1], b"!")
                self._timer = threading.Thread(target=self._watch, name="persipubsub-timer", daemon=True)
                self._timer.start()
            return self._pipe[0]

    def close(self) -> None:
        """Give the waiter back."""
        with self._condition:
            if self._closed:
                return
            self._closed = True
            self._on_close(self)
            self._condition.notify_all()
        if self._timer is not None:
            self._timer.join()
        if self._pipe is not None:
            for end in self._pipe:
                os.close(end)

    def _watch(self) -> None:
        with self._condition:
            while not self._closed:
                if self._woken:
                    self._condition.wait()
                else:
                    self._wait_for_change(None)

    def _wait_for_change(self, remaining: float | None) -> None:
        """Wait once, not beyond the next event; the event itself counts as being woken."""
        event_ns = self._next_event_ns()
        if event_ns is not None:
            if event_ns <= 0:
                self.wake()
                return
            remaining = min(event_ns / 1e9, threading.TIMEOUT_MAX if remaining is None else remaining)
        self._condition.wait(None if remaining is None else min(remaining, threading.TIMEOUT_MAX))
