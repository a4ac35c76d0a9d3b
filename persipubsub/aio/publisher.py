"""Publishing messages from asyncio."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from persipubsub import publisher
from persipubsub.aio.handle import Handle, Shared
from persipubsub.aio.waiting import WaitingLine
from persipubsub.arguments import deadline_of
from persipubsub.engine.messages import Entry
from persipubsub.errors import QueueFullError
from persipubsub.message import Draft, Headers


class Publisher(Handle[publisher.Publisher]):
    """Sends messages; messages that several tasks send at the same time share a commit.

    Everything else is as in :class:`persipubsub.Publisher`.

    >>> import asyncio
    >>> from persipubsub import aio
    >>> async def main():
    ...     async with aio.Environment("memory:") as env:
    ...         control = await env.new_control(subscriber_ids={"worker"})
    ...         pub = await env.new_publisher()
    ...         return await asyncio.gather(*[pub.send(b"frame") for _ in range(3)])
    >>> asyncio.run(main())
    [1, 2, 3]
    """

    def __init__(self, shared: Shared, wrapped: publisher.Publisher) -> None:
        """Send as ``wrapped`` does; ``Environment.new_publisher`` makes publishers."""
        super().__init__(shared, wrapped)
        self._room = self._line = WaitingLine(shared.connection, shared.thread, wrapped._room_waiter)

    @property
    def autosync(self) -> bool:
        """Tell whether ``send_many`` commits each message on its own."""
        return self._wrapped.autosync

    async def send(
        self,
        msg: Any,
        *,
        headers: Headers | None = None,
        topic: str | None = None,
        delay: float | None = None,
        expires_in: float | None = None,
        deduplication_id: str | bytes | None = None,
        timeout: float | None = None,
    ) -> int:
        """Store a message; once this returns, it is as durable as the queue promises.

        The arguments and errors are those of :meth:`persipubsub.Publisher.send`. The serializer is called
        here, in the task. When the task is cancelled the message is stored or not: a ``deduplication_id``
        makes a repetition harmless.
        """
        entry = self._wrapped._entry(msg, Draft(None, headers, topic, delay, expires_in, deduplication_id))
        return (await self._put([entry], deadline_of(timeout)))[0]

    async def send_many(
        self,
        msgs: Iterable[Any],
        *,
        headers: Headers | None = None,
        topic: str | None = None,
        delay: float | None = None,
        expires_in: float | None = None,
        deduplication_id: str | bytes | None = None,
        timeout: float | None = None,
    ) -> Sequence[int]:
        """Store messages in one transaction, all or none; with ``autosync`` each by itself.

        The arguments and errors are those of :meth:`persipubsub.Publisher.send_many`.
        """
        options = Draft(None, headers, topic, delay, expires_in, deduplication_id)
        transactions = self._wrapped._transactions(msgs, options)
        deadline = deadline_of(timeout)
        if not transactions:
            await self._thread.run(self._wrapped._engine)
        return publisher.as_range([id_ for entries in transactions for id_ in await self._put(entries, deadline)])

    async def _put(self, entries: Sequence[Entry], deadline: float | None) -> list[int]:
        self._wrapped._check_open()
        entries = [_frozen(entry) for entry in entries]
        try:
            return await self._thread.put(entries)
        except QueueFullError:
            if deadline == 0.0 or not await self._thread.run(lambda: self._wrapped._may_wait(entries)):
                raise
        attempt = publisher.Attempt(self._wrapped, entries)
        return attempt.result(await self._room.until(lambda: self._thread.run(attempt), deadline))


def _frozen(entry: Entry) -> Entry:
    """Return an entry that nobody changes while it waits for its turn."""
    if isinstance(entry.data, bytes):
        return entry
    return msgspec.structs.replace(entry, data=bytes(entry.data))
