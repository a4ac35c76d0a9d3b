"""Receiving messages."""

import datetime
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from persipubsub.arguments import check_count, check_ids, deadline_of, lease_ns_of
from persipubsub.connection import Connection, Handle
from persipubsub.delivery.holding import Holder, Make
from persipubsub.delivery.iteration import Messages
from persipubsub.delivery.receiving import Receiving, ReceivingToTop, ReceivingView, message_of, payload_of, payloads_of
from persipubsub.errors import PositionError, SettingsError
from persipubsub.message import Message
from persipubsub.retained.positions import Position, check_position, nanoseconds, resolve

T = TypeVar("T")
Deserializer = Callable[[bytes], T]

_RETRIES_OF_SEEK_FIRST = 10


class Subscriber(Handle, Generic[T]):
    """Receives the messages of one subscriber; safe to use from any number of threads.

    Any number of Subscriber objects, in any number of processes, may have the same identifier: they
    compete, and each message goes to one of them at a time.

    Taking and settling are one transaction each. A call that finds no message waits for one as long as
    ``timeout`` says, asleep; it waits for another process's transaction at most ``lock_timeout`` seconds of
    the queue besides.

    Delivery is at least once: when a process dies after it has handled a message and before the
    acknowledgement is stored, the message is delivered again. Make handlers bear that.

    >>> import persipubsub
    >>> with persipubsub.Environment("memory:") as env:
    ...     control = env.new_control(subscriber_ids={"worker"})
    ...     _ = env.new_publisher().send(b"frame")
    ...     sub = env.new_subscriber("worker")
    ...     with sub.receive(timeout=0) as msg:
    ...         print(msg)
    ...     with sub.receive(timeout=0) as msg:
    ...         print(msg)
    b'frame'
    None

    In all methods ``timeout`` is in seconds, as int or float: ``0`` asks without waiting, ``None``
    waits for ever. ``lease`` is for how many seconds the message is held at most; with ``None`` the
    subscriber's own lease counts, and without one it lasts as long as this process and its
    Environment live.

    :raise ClosedError: by any method, once it was closed or its Environment was
    :raise SettingsError: a timeout, a lease or a number of messages makes no sense
    :raise UnknownSubscriberError: the subscriber was removed meanwhile
    :raise QueueBusyError: another process kept the write lock for too long
    :raise StorageFullError: the disk is full, and what it reserves for taking and settling is used up
    :raise QueueReplacedError: the queue was deleted or exchanged underneath; open it anew
    :raise StorageError: the disk refused a read or a write; after StorageFailedError the queue is opened anew
    """

    def __init__(
        self,
        connection: Connection,
        identifier: str,
        deserializer: Deserializer[T] | None = None,
        make: Make[Any] = Message,
    ) -> None:
        """Receive from the queue of ``connection``; ``Environment.new_subscriber`` makes subscribers."""
        self._holder: Holder[Message[T]] = Holder(connection, identifier, deserializer, make)
        self._loops: weakref.WeakSet[Messages[T]] = weakref.WeakSet()
        super().__init__(connection)

    def __reduce__(self) -> tuple[Any, ...]:
        return Subscriber, (self._connection, self._holder.identifier, self._holder.deserializer)

    @property
    def identifier(self) -> str:
        """Return the identifier of the subscriber."""
        return self._holder.identifier

    # -- in a block ---------------------------------------------------------------------------

    def receive(
        self, timeout: float | None = 60, retries: int | None = None, *, lease: float | None = None
    ) -> Receiving[T | None]:
        """Receive a message in a ``with`` block; it gives the payload, or ``None`` at the timeout.

        Leaving the block, also by ``break`` or ``return``, acknowledges. An exception in it, also
        KeyboardInterrupt, gives the message back at once: it is the next one delivered, and has the
        exception as its ``last_error``. The same message comes again after a crash, too.

        :param timeout: seconds to wait; ``0``: do not, ``None``: for ever
        :param retries: accepted from programs written for version 1; it means nothing
        :param lease: seconds that the block may take
        :raise LeaseLostError: at the end of the block, when the lease ended and somebody else has the message
        """
        _ignore_retries(retries)
        return Receiving(self._holder, self._taking(1, timeout, lease), payload_of)

    def receive_message(
        self, timeout: float | None = 60, *, lease: float | None = None
    ) -> Receiving[Message[T] | None]:
        """Receive as ``receive`` does, with the Message and everything known about it."""
        return Receiving(self._holder, self._taking(1, timeout, lease), message_of)

    def receive_many(
        self, max_messages: int, timeout: float | None = 60, *, lease: float | None = None
    ) -> Receiving[list[T]]:
        """Receive up to ``max_messages`` payloads in a list, as many as there are; empty at the timeout.

        They are acknowledged, or given back, together.
        """
        return Receiving(self._holder, self._taking(max_messages, timeout, lease), payloads_of)

    def receive_view(self, timeout: float | None = 60, *, lease: float | None = None) -> ReceivingView:
        """Receive the stored bytes themselves, as a read-only memoryview that is valid inside the block.

        Nothing is copied and no deserializer is called. The block holds a read transaction: as long
        as it lasts, the space of messages that are deleted meanwhile is not used again, so keep it
        short. After it the view raises ValueError; what was made from the view, by ``cast`` or as an
        array, must not be used any more, as its memory may be something else or nothing by then.
        """
        deadline_of(timeout)
        lease_ns = lease_ns_of(lease)
        return ReceivingView(self._holder, lambda: self._holder.take(1, deadline_of(timeout), lease_ns, for_view=True))

    def receive_to_top(
        self, timeout: float | None = 60, retries: int | None = None, *, lease: float | None = None
    ) -> ReceivingToTop[T | None]:
        """Receive the newest message; a clean exit settles it and all before it that nobody else holds.

        They are settled for this subscriber alone, in one transaction; an exception leaves all as it was.

        :param retries: accepted from programs written for version 1; it means nothing
        """
        _ignore_retries(retries)
        deadline_of(timeout)
        lease_ns = lease_ns_of(lease)
        return ReceivingToTop(
            self._holder, lambda: self._holder.take_newest(deadline_of(timeout), lease_ns), payload_of
        )

    # -- by hand ------------------------------------------------------------------------------

    def get(self, timeout: float | None = 60, *, lease: float | None = None) -> Message[T] | None:
        """Take a message, to be settled by hand; ``None`` at the timeout.

        It is given back when this Subscriber is closed, or lost together with its messages.
        """
        messages = self._holder.take(1, deadline_of(timeout), lease_ns_of(lease))
        return messages[0] if messages else None

    def get_many(
        self, max_messages: int, timeout: float | None = 60, *, lease: float | None = None
    ) -> list[Message[T]]:
        """Take up to ``max_messages``, as many as there are, in one transaction; empty at the timeout."""
        return self._holder.take(check_count("max_messages", max_messages), deadline_of(timeout), lease_ns_of(lease))

    def pop(self, timeout: float | None = 60) -> Message[T] | None:
        """Take a message and settle it at once: it is delivered at most once, and lost if this process dies."""
        return self._holder.pop(deadline_of(timeout))

    def peek(self) -> Message[T] | None:
        """Look at the next message without taking it and without a trace; ``None`` if there is none."""
        return self._holder.peek()

    def messages(self, batch: int = 64, timeout: float | None = None, *, lease: float | None = None) -> Messages[T]:
        """Loop over messages; asking for the next one acknowledges the last.

        ``batch`` messages are taken at a time. The loop ends when none came for ``timeout`` seconds.
        Leaving it early gives back the message being handled and those that wait for their turn; see
        :class:`~persipubsub.Messages`, which is a context manager, too.
        """
        self._holder.engine()
        loop: Messages[T] = Messages(self._holder, check_count("batch", batch), timeout, lease_ns_of(lease))
        self._loops.add(loop)
        return loop

    def ack(self, ids: int | Iterable[int]) -> int:
        """Settle messages by their ids, in one transaction, whoever holds them and whatever their state.

        :param ids: one or several
        :return: how many were not settled before; unknown ids are no error
        :raise MessageError: something in it is no id
        """
        return self._holder.settle_ids(check_ids(ids))

    # -- the position -------------------------------------------------------------------------

    def seek(self, position: Position | None = None, *, back: int | None = None) -> None:
        """Move this subscriber, for all its processes; its leases and delays are dropped, dead letters stay.

        :param position: ``"first"``, the oldest retained; ``"latest"``, only what comes next; an id; or an
            aware datetime: the first message sent at or after it
        :param back: instead: so many messages before where it stands
        :raise PositionError: it lies before what is retained, or means nothing
        """
        if (position is None) == (back is None):
            raise PositionError("seek needs either a position or back=n.")
        forget = self._holder.forget_all()
        if back is not None:
            check_count("back", back, 0, PositionError)
            engine = self._holder.engine()
            engine.seek(self.identifier, engine.find_position(self.identifier, back=back))
        else:
            self._seek(check_position(position))
        forget()

    def _seek(self, position: Position) -> None:
        engine = self._holder.engine()
        if isinstance(position, datetime.datetime):
            engine.seek(self.identifier, engine.find_position(self.identifier, sent_ns=nanoseconds(position)))
            return
        for _ in range(_RETRIES_OF_SEEK_FIRST):
            try:
                engine.seek(self.identifier, resolve(engine, position))
                return
            except PositionError:
                # The oldest may have been pruned since it was looked up; a given id stays wrong.
                if position != "first":
                    raise
        engine.seek(self.identifier, resolve(engine, position))

    # -- waiting elsewhere --------------------------------------------------------------------

    def fileno(self) -> int:
        """Return a descriptor for select, selectors or an event loop, readable while a message may be there.

        It stays readable until a take by this object finds none. A forked child asks for its own.

        :raise UnsupportedByEngineError: the queue has no descriptors
        """
        return self._holder.fileno()

    def close(self) -> None:
        """Give back what was taken through this object and not settled; closing twice has no effect."""
        if self._closed:
            return
        try:
            for loop in list(self._loops):
                loop.close()
        finally:
            super().close()
            self._holder.close()

    def _taking(self, max_messages: int, timeout: float | None, lease: float | None) -> Callable[[], list[Message[T]]]:
        """Check the arguments at the call; take, and begin to wait, when the block is entered."""
        check_count("max_messages", max_messages)
        deadline_of(timeout)
        lease_ns = lease_ns_of(lease)
        return lambda: self._holder.take(max_messages, deadline_of(timeout), lease_ns)


def _ignore_retries(retries: int | None) -> None:
    if retries is not None and (isinstance(retries, bool) or not isinstance(retries, int)):
        raise SettingsError(f"retries was an int in version 1, but is {retries!r}; a lease is given as lease=seconds.")
