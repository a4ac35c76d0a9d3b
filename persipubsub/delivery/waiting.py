"""The one loop in which calls wait: arm, look once more, wait."""

import time
from collections.abc import Callable
from typing import TypeVar

from persipubsub.engine import forking
from persipubsub.engine.base import Waiter

T = TypeVar("T")

#: A single wait is never longer, so that no number of seconds overflows in the operating system.
_LONGEST_WAIT = 86400.0


class WaitingRoom:
    """The calls of one object that are waiting now; closing the object ends their waits."""

    __slots__ = ("_generation", "_waiters")

    def __init__(self) -> None:
        """Start empty."""
        self._generation = forking.generation
        self._waiters: set[Waiter] = set()

    def until(self, attempt: Callable[[], T], new_waiter: Callable[[], Waiter], deadline: float | None) -> T:
        """Call ``attempt`` until its result is true, or the deadline is over; return its last result.

        It is called at least once, and again after every wake-up; what it raises ends the wait.

        :param deadline: on the monotonic clock; ``0.0``: do not wait, ``None``: wait for ever
        """
        result = attempt()
        if result or deadline == 0.0:
            return result
        return self.wait(attempt, new_waiter, deadline)

    def wait(self, attempt: Callable[[], T], new_waiter: Callable[[], Waiter], deadline: float | None) -> T:
        """Go on as ``until`` does after a first attempt that gave nothing."""
        waiter = new_waiter()
        waiters = self._in_this_process()
        waiters.add(waiter)
        try:
            while True:
                waiter.arm()
                result = attempt()
                if result:
                    return result
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return result
                waiter.wait(None if remaining is None else min(remaining, _LONGEST_WAIT))
        finally:
            waiters.discard(waiter)
            waiter.close()

    def wake(self) -> None:
        """End the waits; the calls look once more and find what has changed."""
        for waiter in list(self._in_this_process()):
            waiter.wake()

    def _in_this_process(self) -> set[Waiter]:
        if self._generation != forking.generation:
            # Those who waited when this process was forked wait in the parent.
            self._waiters = set()
            self._generation = forking.generation
        return self._waiters
