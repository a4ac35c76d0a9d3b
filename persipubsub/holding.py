"""What a subscriber has taken and not yet settled: taking, waiting, settling and giving back."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import icontract

from persipubsub.arguments import reason_of
from persipubsub.connection import Connection
from persipubsub.engine import forking
from persipubsub.engine.base import Engine, Waiter
from persipubsub.engine.messages import Delivery
from persipubsub.errors import ClosedError, LeaseLostError, PersipubsubError, UnsupportedByEngineError
from persipubsub.limits import DEFAULT_MAX_DELIVERIES
from persipubsub.message import HELD, LOOKED_AT, SETTLED, Received, staged_by
from persipubsub.receipts import Receipts
from persipubsub.waiting import WaitingRoom

logger = logging.getLogger("persipubsub")

M = TypeVar("M", bound=Received[Any])

Take = Callable[[Engine], list[Delivery]]
Make = Callable[["Holder[M]", Delivery, Any, int, int], M]
"""Makes a message of a delivery and its decoded payload; also told the fork generation and the state."""

#: What was tried as often as this and never decoded comes back only after a while: where nothing
#: makes it a dead letter it would otherwise keep everything behind it from being delivered.
_PATIENCE = DEFAULT_MAX_DELIVERIES
_UNDECODABLE_DELAY_NS = 60 * 10**9


class Holder(Generic[M]):
    """The takes of one Subscriber. Messages keep it, so what they hold is not given back before they are lost."""

    def __init__(
        self, connection: Connection, identifier: str, deserializer: Callable[[bytes], Any] | None, make: Make[M]
    ) -> None:
        """Take nothing yet; ``make`` makes the messages."""
        self.connection = connection
        self.identifier = identifier
        self.deserializer = deserializer
        self.closed = False
        self._make = make
        self._generation = forking.generation
        self._held = Receipts()
        self._room = WaitingRoom()
        self._watcher: Waiter | None = None

    # -- the engine ---------------------------------------------------------------------------

    def engine(self) -> Engine:
        """Return the open engine.

        :raise ClosedError: the subscriber was closed
        """
        if self.closed:
            raise ClosedError(f"The subscriber {self.identifier!r} was closed; make a new one.")
        if self._generation != forking.generation:
            # Everything taken before the fork is held, and watched for, by the parent.
            self._held = Receipts()
            self._watcher = None
            self._generation = forking.generation
        return self.connection.engine()

    def is_inherited(self, messages: Sequence[Received[Any]]) -> bool:
        """Tell whether messages were taken by a process that this one was forked from."""
        return bool(messages) and messages[0]._generation != forking.generation

    # -- taking -------------------------------------------------------------------------------

    def wait(self, take: Take, deadline: float | None) -> list[Delivery]:
        """Take as soon as there is something; give it back if an exception comes in between."""
        taken: list[Delivery] = []
        try:
            taken.extend(take(self.engine()))
            if taken:
                self._held.add(taken)
                return taken

            def attempt() -> list[Delivery]:
                taken.extend(take(self.engine()))
                self._held.add(taken)
                return taken

            if deadline != 0.0:
                self._room.wait(attempt, lambda: self.engine().waiter(self.identifier), deadline)
            watcher = self._watcher
            if watcher is not None and not taken:
                self._watch(self.engine(), watcher)
        except BaseException:
            self.release(taken)
            raise
        return taken

    @icontract.require(lambda max_messages: max_messages >= 1, enabled=icontract.SLOW)
    def take(
        self,
        max_messages: int,
        deadline: float | None,
        lease_ns: int | None,
        *,
        for_view: bool = False,
        before: Callable[[], object] | None = None,
    ) -> list[M]:
        """Take up to ``max_messages`` and decode them; an empty list when the deadline is over.

        What cannot be decoded is given back with the error as its reason, and the next is taken. ``before``
        is called before every look, and ends the wait by raising; see ``wake``.
        """

        def take(engine: Engine) -> list[Delivery]:
            if before is not None:
                before()
            return engine.take(self.identifier, max_messages, lease_ns, with_data=not for_view)

        return self._take_decoded(take, deadline, decode=not for_view)

    def _take_decoded(self, take: Take, deadline: float | None, *, decode: bool) -> list[M]:
        while True:
            taken = self.wait(take, deadline)
            if not taken:
                return []
            try:
                messages = self.decode(taken, decode=decode)
            except BaseException:
                self.release(taken)  # the caller never gets them
                raise
            if messages:
                return messages

    def wake(self) -> None:
        """Let those who wait look once more."""
        self._room.wake()

    def take_newest(self, deadline: float | None, lease_ns: int | None) -> list[M]:
        """Take the newest message; an empty list when the deadline is over."""

        def newest(engine: Engine) -> list[Delivery]:
            delivery = engine.take_newest(self.identifier, lease_ns)
            return [] if delivery is None else [delivery]

        return self._take_decoded(newest, deadline, decode=True)

    def pop(self, deadline: float | None) -> M | None:
        """Take and settle one message in one transaction."""
        if self.deserializer is not None:
            # What cannot be decoded must not be settled, so it is decoded in between.
            messages = self.take(1, deadline, None)
            if messages:
                self.settle(messages)
            return messages[0] if messages else None

        def popped(engine: Engine) -> list[Delivery]:
            delivery = engine.pop(self.identifier)
            return [] if delivery is None else [delivery]

        taken = self._room.until(lambda: popped(self.engine()), lambda: self.engine().waiter(self.identifier), deadline)
        return self._wrap(taken[0], SETTLED) if taken else None

    def peek(self) -> M | None:
        """Return what the next take would give; an undecodable message raises what the deserializer raised."""
        seen = self.engine().peek(self.identifier)
        return self._wrap(seen[0], LOOKED_AT) if seen else None

    def decode(self, taken: Sequence[Delivery], *, decode: bool = True) -> list[M]:
        """Wrap what was taken; give back what cannot be decoded."""
        if self.deserializer is None or not decode:
            generation = forking.generation
            return [self._make(self, delivery, delivery.data, generation, HELD) for delivery in taken]
        messages: list[M] = []
        try:
            for delivery in taken:
                try:
                    messages.append(self._wrap(delivery, HELD))
                except Exception as error:  # noqa: BLE001 - a deserializer may raise anything
                    self._return_undecodable(delivery, error)
        except BaseException:
            self.release(taken)
            raise
        return messages

    def _wrap(self, delivery: Delivery, state: int) -> M:
        data = delivery.data if self.deserializer is None else self.deserializer(delivery.data)
        return self._make(self, delivery, data, forking.generation, state)

    def _return_undecodable(self, delivery: Delivery, error: Exception) -> None:
        delay_ns = 0 if delivery.delivery_count < _PATIENCE else _UNDECODABLE_DELAY_NS
        try:
            self.engine().give_back(self.identifier, [delivery.receipt], delay_ns=delay_ns, reason=reason_of(error))
        except LeaseLostError:
            # Somebody else has it by now, and will see for himself.
            pass
        self._held.forget(delivery)

    # -- settling -----------------------------------------------------------------------------

    def settle(self, messages: Sequence[Received[Any]]) -> None:
        """Acknowledge messages, and publish what they staged, in one transaction.

        If some were lost the others are settled, each by itself.

        :raise LeaseLostError: names those that were lost
        """
        self._together(messages, self._settle)

    def settle_to_top(self, message: Received[Any]) -> None:
        """Settle what ``take_newest`` gave, and everything before it that nobody else holds."""

        def settle(mine: Sequence[Received[Any]]) -> None:
            self.connection.engine().settle_to_top(self.identifier, mine[0]._delivery.receipt)

        self._together((message,), settle)

    def give_back(self, messages: Sequence[Received[Any]], *, delay_ns: int = 0, reason: str | None = None) -> None:
        """Give messages back; what they staged is dropped.

        :raise LeaseLostError: names those that were lost; the others are given back
        """

        def give_back(mine: Sequence[Received[Any]]) -> None:
            self.connection.engine().give_back(
                self.identifier, [message._delivery.receipt for message in mine], delay_ns=delay_ns, reason=reason
            )

        self._together(messages, give_back)

    def give_back_quietly(self, messages: Sequence[Received[Any]], error: BaseException | None) -> None:
        """Give messages back while an exception is on its way, which nothing here may hide."""
        try:
            self.give_back(messages, reason=None if error is None else reason_of(error))
        except (LeaseLostError, ClosedError):
            # Nothing is held any more, so nothing is left to give back.
            pass
        except PersipubsubError:
            logger.warning("Giving messages back to %r failed.", self.identifier, exc_info=True)

    def return_to_top_quietly(self, message: Received[Any]) -> None:
        """Undo ``take_newest`` while an exception is on its way."""

        def undo(mine: Sequence[Received[Any]]) -> None:
            self.connection.engine().return_to_top(self.identifier, mine[0]._delivery.receipt)

        try:
            self._together((message,), undo)
        except (LeaseLostError, ClosedError):
            # Nothing is held any more.
            pass
        except PersipubsubError:
            logger.warning("Giving a message back to %r failed.", self.identifier, exc_info=True)

    def return_undelivered(self, deliveries: Sequence[Delivery]) -> None:
        """Give back what never reached the caller, so that it does not count as delivered; without raising."""
        if not deliveries:
            return
        for delivery in deliveries:
            self._held.forget(delivery)
        try:
            self.connection.engine().give_back(
                self.identifier, [delivery.receipt for delivery in deliveries], undelivered=True
            )
        except ClosedError:
            # The end of the environment has given everything back.
            pass
        except PersipubsubError:
            logger.warning("Giving messages back to %r failed.", self.identifier, exc_info=True)

    def reject(self, message: Received[Any], reason: str) -> None:
        """Move a message to the dead letters."""

        def reject(mine: Sequence[Received[Any]]) -> None:
            self.connection.engine().reject(self.identifier, [mine[0]._delivery.receipt], reason)

        self._together((message,), reject)

    def extend(self, message: Received[Any], lease_ns: int) -> None:
        """Prolong a bounded lease."""
        if message._state == SETTLED:
            raise LeaseLostError(f"The message {message.id} is settled already; there is no lease to extend.")
        self._check_held((message,))
        self.connection.engine().extend(self.identifier, message._delivery.receipt, lease_ns)

    def settle_ids(self, ids: Sequence[int]) -> int:
        """Acknowledge messages by their ids, whoever holds them."""
        settled = self.engine().settle_ids(self.identifier, ids)
        for message_id in ids:
            self._held.forget_id(message_id)
        return settled

    def _settle(self, messages: Sequence[Received[Any]]) -> None:
        outgoing = staged_by(messages)
        self.connection.engine().settle(self.identifier, [message._delivery.receipt for message in messages], outgoing)

    def _together(
        self, messages: Sequence[Received[Any]], operation: Callable[[Sequence[Received[Any]]], None]
    ) -> None:
        """Do ``operation`` on all that are held; if some were lost, on each of the others."""
        mine = messages if len(messages) == 1 else [message for message in messages if message._state != SETTLED]
        if not mine or mine[0]._state == SETTLED:
            return
        self._check_held(mine)
        try:
            operation(mine)
        except LeaseLostError:
            if len(mine) == 1:
                self._held.forget(mine[0]._delivery)
                raise
        else:
            self.mark_settled(mine)
            return
        lost = []
        for message in mine:
            try:
                self._together((message,), operation)
            except LeaseLostError:
                lost.append(str(message.id))
        if lost:
            raise LeaseLostError(
                f"The messages {', '.join(lost)} of {self.identifier!r} were settled or taken over by somebody else; "
                "the others of this batch were settled. Expect that those are handled elsewhere as well."
            )

    def _check_held(self, messages: Sequence[Received[Any]]) -> None:
        for message in messages:
            if message._state == LOOKED_AT:
                raise LeaseLostError(f"The message {message.id} was only looked at; take it with get() or receive().")
        if self.is_inherited(messages):
            raise LeaseLostError(
                f"The message {messages[0].id} was taken before this process was forked: it belongs to the parent, "
                "which alone can settle it."
            )
        if self.closed:
            self.connection.check_open()
            raise LeaseLostError(
                f"The message {messages[0].id} was given back when its subscriber {self.identifier!r} was closed; "
                "settle messages before."
            )

    def mark_settled(self, messages: Sequence[Received[Any]]) -> None:
        """Note that messages are settled."""
        forget = self._held.forget
        for message in messages:
            message._state = SETTLED
            forget(message._delivery)

    def release(self, taken: Sequence[Delivery]) -> None:
        """Give back, without raising, what never reached the caller."""
        if taken and self._generation == forking.generation and not self.connection.closed:
            for delivery in taken:
                self._held.forget(delivery)
            self.connection.engine().release(self.identifier, [delivery.receipt for delivery in taken])

    def forget_all(self) -> Callable[[], None]:
        """Return what forgets all that is held at this moment: ``seek`` drops those leases."""
        return self._held.forgetting()

    # -- watching -----------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return a descriptor that is readable while a message may be there."""
        engine = self.engine()
        if not engine.capabilities.file_descriptor:
            raise UnsupportedByEngineError(
                f"The queue {self.connection.location} has no file descriptors; wait with receive(timeout=...)."
            )
        if self._watcher is None:
            watcher = engine.waiter(self.identifier)
            self._watch(engine, watcher)
            self._watcher = watcher
        return self._watcher.fileno()

    def _watch(self, engine: Engine, watcher: Waiter) -> None:
        watcher.arm()
        if engine.peek(self.identifier):
            # It came between the last look and now.
            watcher.wake()

    def close(self) -> None:
        """Give everything back and end the waits of other threads."""
        if self._generation != forking.generation:
            self.closed = True
            return
        # A lost loop may have acknowledgements to write.
        self.connection.do_jobs()
        self.closed = True
        receipts = self._held.drain()
        if not self.connection.closed:
            self._room.wake()
            if receipts:
                self.connection.engine().release(self.identifier, receipts)
            if self._watcher is not None:
                self._watcher.close()
        self._watcher = None

    def __del__(self) -> None:
        held: Receipts | None = getattr(self, "_held", None)
        watcher: Waiter | None = getattr(self, "_watcher", None)
        if (held or watcher is not None) and self._generation == forking.generation and not self.closed:
            identifier, receipts = self.identifier, self._held.drain()

            def release(engine: Engine) -> None:
                if receipts:
                    engine.release(identifier, receipts)
                if watcher is not None:
                    watcher.close()

            self.connection.later(release)
