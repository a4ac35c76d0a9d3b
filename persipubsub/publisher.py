"""Publishing messages."""

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any

from persipubsub.arguments import deadline_of
from persipubsub.connection import Connection, Handle
from persipubsub.engine.base import Entry
from persipubsub.errors import MessageError, QueueFullError
from persipubsub.limits import Strategy
from persipubsub.message import Draft, Headers, Serializer, make_entry, make_payload
from persipubsub.waiting import WaitingRoom


class Publisher(Handle):
    """Sends messages; safe to use from any number of threads.

    >>> import persipubsub
    >>> with persipubsub.Environment("memory:") as env:
    ...     control = env.new_control(subscriber_ids={"worker"})
    ...     pub = env.new_publisher()
    ...     first = pub.send(b"frame", topic="camera.left")
    ...     rest = pub.send_many([b"one", b"two"])
    ...     list(rest) == [first + 1, first + 2]
    True
    """

    def __init__(self, connection: Connection, autosync: bool = False, serializer: Serializer | None = None) -> None:
        """Send to the queue of ``connection``; ``Environment.new_publisher`` makes publishers."""
        self._autosync = autosync
        self._serializer = serializer
        self._room = WaitingRoom()
        super().__init__(connection)

    def __reduce__(self) -> tuple[Any, ...]:
        return Publisher, (self._connection, self._autosync, self._serializer)

    @property
    def autosync(self) -> bool:
        """Tell whether ``send_many`` commits each message on its own."""
        return self._autosync

    def send(
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
        """Store a message in a transaction of its own; once this returns, it is as durable as the queue promises.

        :param msg: bytes-like, a Draft, or whatever the serializer takes
        :param headers: str to str or bytes, at most 64 KiB altogether
        :param topic: tokens separated by dots; subscribers may filter by it
        :param delay: seconds before it is delivered
        :param expires_in: seconds after which it is not delivered any more
        :param deduplication_id: if it was seen within the queue's window, nothing is stored and the first id returned
        :param timeout: seconds to wait for room in a ``block`` queue; ``0``: do not wait, ``None``: for ever
        :return: the id
        :raise MessageError: the message or an option cannot be taken
        :raise IdentifierError: the topic is malformed
        :raise QueueFullError: there is no room in a ``reject`` queue, or not in time in a ``block`` queue
        :raise StorageFullError: the disk is full
        """
        plain = headers is None and topic is None and delay is None and expires_in is None and deduplication_id is None
        if plain and not isinstance(msg, Draft):
            data = make_payload(msg, self._serializer)
            entry = Entry(data, len(data))
        else:
            options = Draft(None, headers, topic, delay, expires_in, deduplication_id)
            entry = make_entry(_with_options(msg, options), self._serializer)
        return self._put([entry], deadline_of(timeout))[0]

    def send_many(
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
        """Store messages in one transaction, all or none; with ``autosync`` each in a transaction of its own.

        An item may be a Draft with options of its own; those that it leaves out are taken from this call.
        All are checked before the first is stored.

        :param deduplication_id: only for a single message; give several of them a Draft each
        :return: the ids, a ``range`` unless deduplication made them otherwise
        :raise MessageError: a message or an option cannot be taken
        :raise QueueFullError: there is no room for all of them
        """
        if isinstance(msgs, (str, bytes, bytearray, memoryview)):
            raise MessageError("send_many takes an iterable of messages; for a single one use send.")
        options = Draft(None, headers, topic, delay, expires_in, deduplication_id)
        entries = [make_entry(_with_options(msg, options), self._serializer) for msg in msgs]
        if deduplication_id is not None and len(entries) > 1:
            raise MessageError(
                "One deduplication_id for several messages would store the first alone; "
                "give each a Draft with one of its own."
            )
        deadline = deadline_of(timeout)
        if not entries:
            self._engine()
            return range(0)
        transactions = [[entry] for entry in entries] if self._autosync else [entries]
        ids = [message_id for transaction in transactions for message_id in self._put(transaction, deadline)]
        whole = range(ids[0], ids[0] + len(ids))
        return whole if ids == list(whole) else ids

    def _put(self, entries: Sequence[Entry], deadline: float | None) -> list[int]:
        try:
            return self._engine().put(entries)
        except QueueFullError:
            if deadline == 0.0 or not self._may_wait(entries):
                raise
        return self._put_when_there_is_room(entries, deadline)

    def _put_when_there_is_room(self, entries: Sequence[Entry], deadline: float | None) -> list[int]:
        full: list[QueueFullError] = []

        def attempt() -> list[int]:
            engine = self._engine()
            try:
                return engine.put(entries)
            except QueueFullError as error:
                if not self._may_wait(entries):
                    raise
                full[:] = [error]
                return []

        start = time.monotonic()
        ids = self._room.until(attempt, lambda: self._engine().room_waiter(), deadline)
        if not ids:
            raise QueueFullError(
                f"{full[0]} No room came within {time.monotonic() - start:.3g} seconds: wait longer, "
                "or let the subscribers catch up."
            ) from full[0]
        return ids

    def _may_wait(self, entries: Sequence[Entry]) -> bool:
        """Tell whether there may be room later: never for a batch that alone is above the mark."""
        settings = self._engine().settings()
        most = settings.high_water_mark.max_messages
        return settings.strategy is Strategy.BLOCK and (most is None or len(entries) <= most)

    def close(self) -> None:
        """End the use, also of calls that wait for room; closing twice has no effect."""
        super().close()
        if not self._connection.closed:
            self._room.wake()


def _with_options(msg: Any, options: Draft) -> Draft:
    """Return ``msg`` as a Draft; what it leaves out is taken from ``options``."""
    if not isinstance(msg, Draft):
        return dataclasses.replace(options, data=msg)
    return Draft(
        msg.data,
        options.headers if msg.headers is None else msg.headers,
        options.topic if msg.topic is None else msg.topic,
        options.delay if msg.delay is None else msg.delay,
        options.expires_in if msg.expires_in is None else msg.expires_in,
        options.deduplication_id if msg.deduplication_id is None else msg.deduplication_id,
    )
