"""Publishing messages."""

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any

from persipubsub.arguments import deadline_of
from persipubsub.connection import Connection, Handle
from persipubsub.delivery.waiting import WaitingRoom
from persipubsub.engine.base import Waiter
from persipubsub.engine.messages import Entry
from persipubsub.errors import MessageError, QueueFullError
from persipubsub.limits import Strategy
from persipubsub.message import Draft, Headers, Serializer, make_entry, make_plain_entry

_PLAIN = Draft(None)


class Publisher(Handle):
    """Sends messages; safe to use from any number of threads.

    Each call is one transaction. It waits for the disk as the queue's durability says, for another
    process's transaction at most ``lock_timeout`` seconds of the queue, and for room only in a queue with
    the strategy ``block``. Threads that send at the same time share a commit. What was sent survives the process,
    at whatever instant it dies, and the machine as the durability says.

    >>> import persipubsub
    >>> with persipubsub.Environment("memory:") as env:
    ...     control = env.new_control(subscriber_ids={"worker"})
    ...     pub = env.new_publisher()
    ...     first = pub.send(b"frame", topic="camera.left")
    ...     rest = pub.send_many([b"one", b"two"])
    ...     list(rest) == [first + 1, first + 2]
    True

    :raise ClosedError: by any method, once it was closed or its Environment was
    :raise QueueBusyError: another process kept the write lock for too long; nothing was stored
    :raise QueueReplacedError: the queue was deleted or exchanged underneath; open it anew
    :raise StorageError: the disk refused a read or a write; after StorageFailedError the queue is opened anew
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
        :raise SettingsError: ``timeout`` makes no sense
        :raise IdentifierError: the topic is malformed
        :raise QueueFullError: there is no room in a ``reject`` queue, or not in time in a ``block`` queue
        :raise StorageFullError: the disk is full
        """
        plain = headers is None and topic is None and delay is None and expires_in is None and deduplication_id is None
        if plain and not isinstance(msg, Draft):
            entry = make_plain_entry(msg, self._serializer)
        else:
            options = Draft(None, headers, topic, delay, expires_in, deduplication_id)
            entry = self._entry(msg, options)
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

        :param msgs: what ``send`` takes, several of them; the other arguments are those of ``send``
        :param deduplication_id: only for a single message; give several of them a Draft each
        :return: the ids, a ``range`` unless deduplication made them otherwise
        :raise MessageError: a message or an option cannot be taken; nothing was stored
        :raise SettingsError: ``timeout`` makes no sense
        :raise IdentifierError: a topic is malformed; nothing was stored
        :raise QueueFullError: there is no room for all of them
        :raise StorageFullError: the disk is full
        """
        options = Draft(None, headers, topic, delay, expires_in, deduplication_id)
        transactions = self._transactions(msgs, options)
        deadline = deadline_of(timeout)
        self._engine()
        return as_range([message_id for entries in transactions for message_id in self._put(entries, deadline)])

    def _entry(self, msg: Any, options: Draft) -> Entry:
        """Check a message and return what is stored."""
        return make_entry(_with_options(msg, options), self._serializer)

    def _transactions(self, msgs: Iterable[Any], options: Draft) -> list[list[Entry]]:
        """Check messages and return what is stored, by transactions."""
        if isinstance(msgs, (str, bytes, bytearray, memoryview)):
            raise MessageError("send_many takes an iterable of messages; for a single one use send.")
        if options == _PLAIN:
            entries = [
                self._entry(msg, options) if isinstance(msg, Draft) else make_plain_entry(msg, self._serializer)
                for msg in msgs
            ]
        else:
            entries = [self._entry(msg, options) for msg in msgs]
        if options.deduplication_id is not None and len(entries) > 1:
            raise MessageError(
                "One deduplication_id for several messages would store the first alone; "
                "give each a Draft with one of its own."
            )
        if self._autosync:
            return [[entry] for entry in entries]
        return [entries] if entries else []

    def _put(self, entries: Sequence[Entry], deadline: float | None) -> list[int]:
        try:
            return self._engine().put(entries)
        except QueueFullError:
            if deadline == 0.0 or not self._may_wait(entries):
                raise
        attempt = Attempt(self, entries)
        return attempt.result(self._room.until(attempt, self._room_waiter, deadline))

    def _room_waiter(self) -> Waiter:
        return self._engine().room_waiter()

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


class Attempt:
    """Tries again and again to store messages in a ``block`` queue that was full."""

    def __init__(self, publisher: Publisher, entries: Sequence[Entry]) -> None:
        """Begin to count the time."""
        self._publisher = publisher
        self._entries = entries
        self._start = time.monotonic()
        self._full: QueueFullError | None = None

    def __call__(self) -> list[int]:
        """Store them and return their ids; an empty list if there is no room yet."""
        engine = self._publisher._engine()
        try:
            return engine.put(self._entries)
        except QueueFullError as error:
            if not self._publisher._may_wait(self._entries):
                raise
            self._full = error
            return []

    def result(self, ids: list[int]) -> list[int]:
        """Return the ids that the last call returned.

        :raise QueueFullError: there are none, so the time is over
        """
        if not ids:
            raise QueueFullError(
                f"{self._full} No room came within {time.monotonic() - self._start:.3g} seconds: wait longer, "
                "or let the subscribers catch up."
            ) from self._full
        return ids


def as_range(ids: list[int]) -> Sequence[int]:
    """Return ids as a range if they are one."""
    whole = range(ids[0], ids[0] + len(ids)) if ids else range(0)
    return whole if ids == list(whole) else ids


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
