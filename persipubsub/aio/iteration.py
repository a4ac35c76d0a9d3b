"""The loop over messages: ``async for message in subscriber.messages()``."""

import asyncio
import functools
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from persipubsub.aio.handle import leave
from persipubsub.aio.message import Message
from persipubsub.aio.thread import Thread
from persipubsub.aio.waiting import WaitingLine
from persipubsub.arguments import deadline_of
from persipubsub.delivery import iteration
from persipubsub.errors import ClosedError

T = TypeVar("T")


class Messages(Generic[T]):
    """An asynchronous iterator of messages, closable and a context manager; one task at a time may use it.

    Asking for the next message acknowledges the last; see :class:`persipubsub.Messages`, whose promises
    hold. Leaving the loop gives back the message being handled and those that were taken with it: at the
    end of an ``async with`` block, or when the task that loops comes to its end, also by cancellation.

    Cancelling the wait for the next message acknowledges the last and gives back the others; one may go
    on asking afterwards.
    """

    def __init__(
        self, line: WaitingLine, thread: Thread, loop: iteration.Loop[Message[T]], timeout: float | None
    ) -> None:
        """Take nothing yet; ``loop`` does not wait.

        :raise SettingsError: ``timeout`` is not a number of seconds
        """
        deadline_of(timeout)
        self._line = line
        self._thread = thread
        self._loop = loop
        self._timeout = timeout
        self._resting = False
        self._forget_task: Callable[[], object] | None = None

    def __aiter__(self) -> Self:
        task = asyncio.current_task()
        if task is not None and self._forget_task is None:
            # Nothing else tells that a loop was left: its frames may live on in the traceback of a cancellation.
            callback = functools.partial(_task_ended, weakref.ref(self))
            task.add_done_callback(callback)
            self._forget_task = functools.partial(task.remove_done_callback, callback)
        return self

    async def __anext__(self) -> Message[T]:
        # Most messages come from a batch that is here already, so they need no thread.
        message = None if self._resting else self._loop._advance_within_batch()
        if message is None:
            message = await self._advance()
        if message is None:
            self._forget()
            raise StopAsyncIteration
        return message

    async def _advance(self) -> Message[T] | None:
        try:
            message = await self._line.until(
                lambda: self._thread.run(self._loop._advance, lambda _: self._loop._retreat()),
                deadline_of(self._timeout),
            )
        except (asyncio.CancelledError, GeneratorExit):
            self._resting = True
            _start(self._thread, self._loop._rest)
            raise
        self._resting = False
        return message

    async def close(self) -> None:
        """Acknowledge what was handled, give back the rest; closing twice has no effect."""
        self._forget()
        await leave(self._thread, self._loop.close, None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._forget()
        await leave(self._thread, functools.partial(self._loop._leave, error), kind)

    def _forget(self) -> None:
        forget, self._forget_task = self._forget_task, None
        if forget is not None:
            forget()


def _task_ended(reference: "weakref.ref[Messages[Any]]", _: "asyncio.Task[Any]") -> None:
    messages = reference()
    if messages is not None:
        _start(messages._thread, messages._loop.close)


def _start(thread: Thread, function: Callable[[], object]) -> None:
    try:
        thread.start(function)
    except ClosedError:
        # The end of the environment has given everything back.
        pass
