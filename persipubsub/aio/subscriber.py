"""Receiving messages in asyncio."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from persipubsub import subscriber
from persipubsub.aio.handle import Handle, Shared, on_thread
from persipubsub.aio.iteration import Messages
from persipubsub.aio.message import Message
from persipubsub.aio.receiving import Receiving
from persipubsub.aio.waiting import WaitingLine
from persipubsub.arguments import deadline_of

T = TypeVar("T")


class Subscriber(Handle[subscriber.Subscriber[Any]], Generic[T]):
    """Receives the messages of one subscriber, in any number of tasks of one event loop.

    Everything is as in :class:`persipubsub.Subscriber`, whose docstrings say more; nothing blocks the
    loop. While tasks wait, the loop watches one descriptor for all of them. A task that is cancelled at
    any ``await`` gives its message back at once, or has acknowledged it.

    >>> import asyncio
    >>> from persipubsub import aio
    >>> async def main():
    ...     async with aio.Environment("memory:") as env:
    ...         control = await env.new_control(subscriber_ids={"worker"})
    ...         await (await env.new_publisher()).send(b"frame")
    ...         sub = await env.new_subscriber("worker")
    ...         async with sub.receive(timeout=1) as msg:
    ...             print(msg)
    >>> asyncio.run(main())
    b'frame'
    """

    def __init__(self, shared: Shared, wrapped: subscriber.Subscriber[Any]) -> None:
        """Receive as ``wrapped`` does; ``Environment.new_subscriber`` makes subscribers."""
        super().__init__(shared, wrapped)
        self._holder = holder = wrapped._holder
        self._messages = self._line = WaitingLine(
            shared.connection, shared.thread, lambda: holder.engine().waiter(holder.identifier)
        )

    @property
    def identifier(self) -> str:
        """Return the identifier of the subscriber."""
        return self._wrapped.identifier

    # -- in a block ---------------------------------------------------------------------------

    def receive(self, timeout: float | None = 60, *, lease: float | None = None) -> Receiving[T | None]:
        """Receive a message in an ``async with`` block; it gives the payload, or ``None`` at the timeout.

        Leaving the block acknowledges; an exception in it, also a cancellation, gives the message back.
        """
        return Receiving(self._messages, self._thread, self._wrapped.receive(0, lease=lease), timeout)

    def receive_message(
        self, timeout: float | None = 60, *, lease: float | None = None
    ) -> Receiving[Message[T] | None]:
        """Receive as ``receive`` does, with the Message and everything known about it."""
        block = cast(Any, self._wrapped.receive_message(0, lease=lease))
        return Receiving(self._messages, self._thread, block, timeout)

    def receive_many(
        self, max_messages: int, timeout: float | None = 60, *, lease: float | None = None
    ) -> Receiving[list[T]]:
        """Receive up to ``max_messages`` payloads in a list, settled together; empty at the timeout."""
        block = self._wrapped.receive_many(max_messages, 0, lease=lease)
        return Receiving(self._messages, self._thread, block, timeout)

    def receive_view(self, timeout: float | None = 60, *, lease: float | None = None) -> Receiving[memoryview | None]:
        """Receive the stored bytes themselves, as a read-only memoryview that is valid inside the block.

        The block holds a read transaction of the environment's thread: until it is left the map cannot
        grow for this environment, so a send that needs it raises QueueBusyError. Keep it short.
        """
        return Receiving(self._messages, self._thread, self._wrapped.receive_view(0, lease=lease), timeout)

    def receive_to_top(self, timeout: float | None = 60, *, lease: float | None = None) -> Receiving[T | None]:
        """Receive the newest message; a clean exit settles it and all before it that nobody else holds."""
        return Receiving(self._messages, self._thread, self._wrapped.receive_to_top(0, lease=lease), timeout)

    # -- by hand ------------------------------------------------------------------------------

    async def get(self, timeout: float | None = 60, *, lease: float | None = None) -> Message[T] | None:
        """Take a message, to be settled by hand; ``None`` at the timeout."""
        messages = await self._take(lambda: self._wrapped.get_many(1, 0, lease=lease), timeout)
        return messages[0] if messages else None

    async def get_many(
        self, max_messages: int, timeout: float | None = 60, *, lease: float | None = None
    ) -> list[Message[T]]:
        """Take up to ``max_messages``, as many as there are, in one transaction; empty at the timeout."""
        return await self._take(lambda: self._wrapped.get_many(max_messages, 0, lease=lease), timeout)

    async def _take(self, take: Callable[[], Sequence[Any]], timeout: float | None) -> list[Message[T]]:
        deadline = deadline_of(timeout)
        return list(await self._messages.until(lambda: self._thread.run(take, self._return), deadline))

    def _return(self, messages: Sequence[Message[T]]) -> None:
        """Give back what was taken for a task that was cancelled meanwhile."""
        self._holder.return_undelivered([message._delivery for message in messages])

    async def pop(self, timeout: float | None = 60) -> Message[T] | None:
        """Take a message and settle it at once: it is delivered at most once.

        It is lost if this process dies, or this task is cancelled, at that moment.
        """
        deadline = deadline_of(timeout)
        popped: Any = await self._messages.until(lambda: self._thread.run(lambda: self._wrapped.pop(0)), deadline)
        return cast("Message[T] | None", popped)

    async def peek(self) -> Message[T] | None:
        """Look at the next message without taking it and without a trace; ``None`` if there is none."""
        seen: Any = await self._thread.run(self._wrapped.peek)
        return cast("Message[T] | None", seen)

    def messages(self, batch: int = 64, timeout: float | None = None, *, lease: float | None = None) -> Messages[T]:
        """Loop over messages with ``async for``; asking for the next one acknowledges the last.

        ``batch`` messages are taken at a time. The loop ends when none came for ``timeout`` seconds. Use
        ``async with subscriber.messages() as messages`` where more follows after the loop in the same task.
        """
        loop = cast(Any, self._wrapped.messages(batch, 0, lease=lease))
        return Messages(self._messages, self._thread, loop, timeout)

    ack = on_thread(subscriber.Subscriber.ack)
    seek = on_thread(subscriber.Subscriber.seek)


def make_subscriber(
    shared: Shared, identifier: str, deserializer: subscriber.Deserializer[Any] | None
) -> subscriber.Subscriber[Any]:
    """Return what an asynchronous subscriber wraps: it makes messages that are settled with ``await``."""
    return subscriber.Subscriber(shared.connection, identifier, deserializer, functools.partial(Message, shared.thread))
