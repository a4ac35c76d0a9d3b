"""Opens a queue for asyncio; everything else is made from here."""

import os
import pathlib
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from persipubsub import environment
from persipubsub.aio.control import Control
from persipubsub.aio.handle import Shared, leave
from persipubsub.aio.publisher import Publisher
from persipubsub.aio.subscriber import Subscriber, make_subscriber
from persipubsub.aio.waiting import WaitingLine
from persipubsub.deploying import SubscriberIds, known_subscriber
from persipubsub.limits import Durability, HighWaterMark, Retention, Strategy
from persipubsub.message import Serializer
from persipubsub.retained.browsing import Pages, RetainedMessage
from persipubsub.retained.positions import Position, resolve
from persipubsub.subscriber import Deserializer

T = TypeVar("T")


class Environment:
    """A queue as this process sees it, for the tasks of one event loop; see :class:`persipubsub.Environment`.

    It is one owner of leases and has a thread of its own, on which its transactions run one after the
    other: so the loop waits neither for a disk nor for another process. What several tasks send at the
    same moment is gathered there and shares a commit.

    >>> import asyncio
    >>> from persipubsub import aio
    >>> async def main():
    ...     async with aio.Environment("memory:") as env:
    ...         control = await env.new_control(subscriber_ids={"worker"})
    ...         pub = await env.new_publisher()
    ...         await pub.send(b"frame")
    ...         sub = await env.new_subscriber("worker")
    ...         async with sub.messages(timeout=0) as messages:
    ...             return [message.data async for message in messages]
    >>> asyncio.run(main())
    [b'frame']

    :param path: the directory of the queue; ``"memory:"`` for a queue in this process alone and
        ``"memory:name"`` for one that others in this process can open by that name
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Remember where the queue is.

        :raise OpenError: ``path`` is no path
        """
        self._wrapped = environment.Environment(path)
        self._shared = Shared(self._wrapped._connection)

    @classmethod
    def from_config(cls, path: str | os.PathLike[str], name: str) -> Self:
        """Open the queue called ``name`` of a deployment file; it need not be deployed yet.

        This reads the file, and blocks for so long.

        :raise ConfigError: the file is wrong, or has no such queue
        """
        return cls(environment.Environment.from_config(path, name).path)

    @property
    def path(self) -> pathlib.Path:
        """Return the path as it was given."""
        return self._wrapped.path

    @property
    def location(self) -> str:
        """Return where the queue is: an absolute path, or the name of a queue in memory."""
        return self._wrapped.location

    @property
    def closed(self) -> bool:
        """Tell whether it was closed."""
        return self._wrapped.closed

    async def new_control(
        self,
        subscriber_ids: SubscriberIds | None = None,
        high_water_mark: HighWaterMark | None = None,
        strategy: Strategy | None = None,
        *,
        retention: Retention | None = None,
        durability: Durability | None = None,
        max_message_bytes: int | None = None,
        deduplication_window: float | None = None,
        lock_timeout: float | None = None,
        map_size: int | None = None,
        group_access: bool | None = None,
    ) -> Control:
        """Deploy the queue if nothing is deployed, wholly or not at all, and return its Control.

        The arguments and errors are those of :meth:`persipubsub.Environment.new_control`.
        """
        control = await self._shared.thread.run(
            lambda: self._wrapped.new_control(
                subscriber_ids,
                high_water_mark,
                strategy,
                retention=retention,
                durability=durability,
                max_message_bytes=max_message_bytes,
                deduplication_window=deduplication_window,
                lock_timeout=lock_timeout,
                map_size=map_size,
                group_access=group_access,
            )
        )
        return Control(self._shared, control)

    async def open_control(self) -> Control:
        """Return the Control of a queue that is deployed; nothing is created.

        :raise QueueNotFoundError: nothing is deployed at the path
        """
        return Control(self._shared, await self._shared.thread.run(self._wrapped.open_control))

    async def new_publisher(self, autosync: bool = False, serializer: Serializer | None = None) -> Publisher:
        """Return a publisher.

        :param autosync: let ``send_many`` commit each message on its own
        :param serializer: makes bytes of what is sent
        :raise QueueNotFoundError: nothing is deployed at the path
        """
        made = await self._shared.thread.run(lambda: self._wrapped.new_publisher(autosync, serializer))
        return Publisher(self._shared, made)

    @overload
    def new_subscriber(self, identifier: str, deserializer: None = None) -> Coroutine[Any, Any, Subscriber[bytes]]: ...

    @overload
    def new_subscriber(self, identifier: str, deserializer: Deserializer[T]) -> Coroutine[Any, Any, Subscriber[T]]: ...

    async def new_subscriber(self, identifier: str, deserializer: Deserializer[Any] | None = None) -> Subscriber[Any]:
        """Return a subscriber.

        :param identifier: of a subscriber that the queue has
        :param deserializer: makes values of payloads, on the environment's thread
        :raise QueueNotFoundError: nothing is deployed at the path
        :raise UnknownSubscriberError: the queue has no such subscriber; lists those it has
        """
        connection = self._shared.connection
        await self._shared.thread.run(lambda: known_subscriber(connection.engine(), identifier))
        return Subscriber(self._shared, make_subscriber(self._shared, identifier, deserializer))

    async def browse(
        self, start: Position = "first", limit: int | None = None, follow: bool = False
    ) -> AsyncIterator[RetainedMessage]:
        """Read what the queue retains, without a subscriber, a trace, or a transaction held between items.

        :param start: ``"first"``, ``"latest"``, an id, or an aware datetime
        :param limit: so many messages at most
        :param follow: wait for what is published next, instead of ending
        :raise PositionError: ``start`` means nothing
        """
        environment.check_browsing(start, limit)
        connection, thread = self._shared.connection, self._shared.thread
        pages = Pages(connection, await thread.run(lambda: resolve(connection.engine(), start)), limit)
        line = WaitingLine(connection, thread, lambda: connection.engine().waiter(None))
        self._shared.lines.add(line)
        try:
            while not pages.ended:
                found = await line.until(lambda: thread.run(pages.next), None if follow else 0.0)
                if not found:
                    return
                for message in found:
                    yield message
        finally:
            if not self.closed:
                thread.start(line.close)

    async def close(self) -> None:
        """Close everything made from here and give back what it took; closing twice has no effect.

        A cancelled close is carried out all the same.
        """
        await self._leave(None)

    async def _leave(self, kind: type[BaseException] | None) -> None:
        if self._shared.closing:
            return
        self._shared.closing = True
        ends: list[Callable[[], None]] = [handle._begin_to_close() for handle in list(self._shared.handles)]
        for line in list(self._shared.lines):
            line.wake()
            ends.append(line.close)

        def end() -> None:
            for close in ends:
                close()
            self._wrapped.close()

        try:
            await leave(self._shared.thread, end, kind)
        finally:
            self._shared.thread.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave(kind)

    def __repr__(self) -> str:
        return f"<aio.Environment of {self.location}{', closed' if self.closed else ''}>"
