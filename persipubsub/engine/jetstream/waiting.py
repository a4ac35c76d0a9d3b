"""Waiting for messages or for room."""

import asyncio
import contextlib
import math
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import nats.errors
from nats.js import errors as js_errors

from persipubsub.engine.jetstream import roster
from persipubsub.engine.jetstream.pulling import ConsumerGoneError
from persipubsub.engine.jetstream.session import Session
from persipubsub.errors import PersipubsubError

if TYPE_CHECKING:
    from asyncio import Task

#: A request for a message stands so long at most; what comes for a request that nobody waits for is soon given back.
_STANDING: Final = 5.0
_POLL: Final = 0.05

Remaining = Callable[[], float]
"""Tells for how many seconds somebody still waits."""
Watch = Callable[[Session, Remaining], Awaitable[None]]


def for_messages(identifier: str) -> Watch:
    """Return what waits until there is a message for a subscriber: it stands at the server and polls nothing."""

    async def watch(session: Session, remaining: Remaining) -> None:
        while (seconds := min(_STANDING, remaining())) > 0:
            try:
                listed = await session.listed(identifier)
                if await session.pulls.stand(listed.consumer, seconds):
                    return
            except ConsumerGoneError:
                session.forget_all()
                await asyncio.sleep(_POLL)
            except (nats.errors.Error, js_errors.APIError, OSError):
                # The next attempt, which the waiting call makes, tells what is wrong if it lasts.
                await asyncio.sleep(_POLL)

    return watch


async def for_any_message(session: Session, remaining: Remaining) -> None:
    """Wait until a message is published."""
    _, before = await roster.bounds(session)
    while (await roster.bounds(session))[1] == before:
        await asyncio.sleep(_POLL)


async def for_room(session: Session, remaining: Remaining) -> None:
    """Wait until there is some room, which need not be enough: the waiting call tries."""
    while True:
        await asyncio.sleep(_POLL)
        info = await session.link.manage(lambda js: js.stream_info(session.names.stream))
        limits = ((info.config.max_msgs, info.state.messages), (info.config.max_bytes, info.state.bytes))
        if all(most is None or most < 0 or now < most for most, now in limits):
            return


class JetStreamWaiter:
    """One waiting consumer or publisher; it counts as woken until it is armed for the first time."""

    def __init__(self, session: Session, watch: Watch, on_close: Callable[["JetStreamWaiter"], None]) -> None:
        """Wait for something; ``watch`` runs on the loop until it comes."""
        self._session = session
        self._watch = watch
        self._on_close = on_close
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._woken.set()
        self._closed = False
        self._pipe: tuple[int, int] | None = None
        self._task: Task[Any] | None = None
        #: Until when somebody waits, on the monotonic clock.
        self._until = math.inf

    def arm(self) -> None:
        """Ask to be woken from now on."""
        with self._lock:
            self._woken.clear()
            if self._pipe is not None:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._pipe[0], 16)
                self._session.link.soon(self._begin)

    def wake(self) -> None:
        """End the wait."""
        with self._lock:
            if self._woken.is_set() or self._closed:
                return
            self._woken.set()
            if self._pipe is not None:
                os.write(self._pipe[1], b"!")

    def wait(self, timeout: float | None) -> None:
        """Wait until something may have changed or ``timeout`` seconds passed."""
        self._until = math.inf if timeout is None else time.monotonic() + timeout
        self._session.link.soon(self._begin)
        self._woken.wait(timeout)
        # So that no request stands for nobody, to which a message would be given.
        if not self._woken.is_set() and self._pipe is None:
            self._session.link.soon(self._end)

    def fileno(self) -> int:
        """Return a descriptor that is readable once woken, until the next ``arm``."""
        with self._lock:
            if self._pipe is None:
                self._pipe = os.pipe()
                for end in self._pipe:
                    os.set_blocking(end, False)
                if self._woken.is_set():
                    os.write(self._pipe[1], b"!")
                else:
                    self._session.link.soon(self._begin)
                self._until = math.inf
            return self._pipe[0]

    def close(self) -> None:
        """Give the waiter back."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._woken.set()
            pipe, self._pipe = self._pipe, None
            if pipe is not None:
                for end in pipe:
                    os.close(end)
        self._session.link.soon(self._end)
        self._on_close(self)

    def _begin(self) -> None:
        """Begin to watch, on the loop, unless that is under way."""
        if (self._task is None or self._task.done()) and not self._closed and not self._woken.is_set():
            self._task = asyncio.get_running_loop().create_task(self._watch_once())

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _watch_once(self) -> None:
        try:
            await self._watch(self._session, lambda: self._until - time.monotonic())
        except (PersipubsubError, nats.errors.Error, js_errors.APIError, OSError):
            # The next attempt finds the same, and tells the caller.
            await asyncio.sleep(_POLL)
        self.wake()
