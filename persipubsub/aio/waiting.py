"""Waiting without a thread: the event loop watches one descriptor for all tasks that wait for the same thing."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from persipubsub.aio.thread import Thread
from persipubsub.connection import Connection
from persipubsub.engine.base import Waiter

T = TypeVar("T")

#: A lost wake-up costs no more than this, in seconds.
_LONGEST = 2.0


class WaitingLine:
    """The tasks that wait at one object, in the order in which they came; the first one watches for all.

    So a message wakes one task, however many wait.
    """

    def __init__(self, connection: Connection, thread: Thread, new_waiter: Callable[[], Waiter]) -> None:
        """Let nobody wait yet; ``new_waiter`` makes the waiter that is watched, and raises once its owner is closed."""
        self._connection = connection
        self._thread = thread
        self._new_waiter = new_waiter
        self._waiter: Waiter | None = None
        self._turn = asyncio.Lock()
        #: The descriptor that the loop watches now, and what ends the wait.
        self._watched: tuple[asyncio.AbstractEventLoop, int, asyncio.Future[None]] | None = None

    async def until(self, attempt: Callable[[], Awaitable[T]], deadline: float | None) -> T:
        """Call ``attempt`` until its result is true, or the deadline is over; return its last result.

        It is called at least once, and again after every wake-up; what it raises ends the wait. Nothing is
        awaited between its result and the return, so no result can be lost to a cancellation.

        :param deadline: on the monotonic clock; ``0.0``: do not wait, ``None``: wait for ever
        """
        result = await attempt()
        if result or deadline == 0.0:
            return result
        try:
            async with asyncio.timeout(_remaining(deadline)):
                await self._turn.acquire()
        except TimeoutError:
            return result
        try:
            while True:
                descriptor = await self._thread.run(self._arm)
                result = await attempt()
                if result:
                    return result
                remaining = _remaining(deadline)
                if remaining is not None and remaining <= 0:
                    return result
                await self._readable(descriptor, _LONGEST if remaining is None else min(remaining, _LONGEST))
        finally:
            self._turn.release()

    def _arm(self) -> int:
        """Ask to be woken; on the thread. Return the descriptor to watch."""
        if self._waiter is None:
            waiter = self._new_waiter()
            try:
                waiter.fileno()
            except BaseException:
                waiter.close()
                raise
            self._waiter = waiter
        self._waiter.arm()
        return self._waiter.fileno()

    async def _readable(self, descriptor: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        loop.add_reader(descriptor, _set, woken)
        timer = loop.call_later(seconds, _set, woken)
        self._watched = (loop, descriptor, woken)
        try:
            await woken
        finally:
            timer.cancel()
            self._stop_watching()

    def _stop_watching(self) -> None:
        watched, self._watched = self._watched, None
        if watched is not None:
            loop, descriptor, woken = watched
            if not loop.is_closed():
                loop.remove_reader(descriptor)
            _set(woken)

    def wake(self) -> None:
        """Let the first one look again; on the loop."""
        self._stop_watching()

    def close(self) -> None:
        """Give the descriptor back; on the thread, after ``wake`` and once attempts fail."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.close()

    def __del__(self) -> None:
        waiter: Waiter | None = getattr(self, "_waiter", None)
        if waiter is not None:
            lost = waiter
            self._connection.later(lambda engine: lost.close())


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()


def _set(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)
