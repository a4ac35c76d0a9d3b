"""Settling what was taken: acknowledged, given back, rejected, prolonged, each in one transaction."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from persipubsub.arguments import reason_of
from persipubsub.connection import Connection
from persipubsub.delivery.receipts import Receipts
from persipubsub.engine import forking
from persipubsub.engine.base import Engine
from persipubsub.engine.messages import Delivery
from persipubsub.errors import ClosedError, LeaseLostError, PersipubsubError
from persipubsub.message import LOOKED_AT, SETTLED, Received, staged_by

logger = logging.getLogger("persipubsub")


class Settler:
    """Settles the takes of one Subscriber, from any thread.

    Messages keep it, so what they hold is not given back before they are lost.
    """

    def __init__(self, connection: Connection, identifier: str) -> None:
        """Hold nothing yet."""
        self.connection = connection
        self.identifier = identifier
        self.closed = False
        self._generation = forking.generation
        self._held = Receipts()

    # -- the engine ---------------------------------------------------------------------------

    def engine(self) -> Engine:
        """Return the open engine.

        :raise ClosedError: the subscriber was closed
        """
        if self.closed:
            raise ClosedError(f"The subscriber {self.identifier!r} was closed; make a new one.")
        if self._generation != forking.generation:
            self._leave_to_parent()
            self._generation = forking.generation
        return self.connection.engine()

    def _leave_to_parent(self) -> None:
        """Forget, in a forked child, what was taken before the fork: the parent holds it."""
        self._held = Receipts()

    def is_inherited(self, messages: Sequence[Received[Any]]) -> bool:
        """Tell whether messages were taken by a process that this one was forked from."""
        return bool(messages) and messages[0]._generation != forking.generation

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
        with self._quietly():
            self.give_back(messages, reason=None if error is None else reason_of(error))

    def return_to_top_quietly(self, message: Received[Any]) -> None:
        """Undo ``take_newest`` while an exception is on its way."""

        def undo(mine: Sequence[Received[Any]]) -> None:
            self.connection.engine().return_to_top(self.identifier, mine[0]._delivery.receipt)

        with self._quietly():
            self._together((message,), undo)

    def return_undelivered(self, deliveries: Sequence[Delivery]) -> None:
        """Give back what never reached the caller, so that it does not count as delivered; without raising."""
        if not deliveries:
            return
        for delivery in deliveries:
            self._held.forget(delivery)
        with self._quietly():
            self.connection.engine().give_back(
                self.identifier, [delivery.receipt for delivery in deliveries], undelivered=True
            )

    @contextlib.contextmanager
    def _quietly(self) -> Iterator[None]:
        """Log what keeps messages from being given back in this block, and raise nothing."""
        try:
            yield
        except (LeaseLostError, ClosedError):
            # Nothing is held any more, so nothing is left to give back.
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
