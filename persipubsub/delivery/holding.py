"""Taking: waiting for messages, decoding them, watching for more."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import icontract

from persipubsub.arguments import reason_of
from persipubsub.connection import Connection
from persipubsub.delivery.receipts import Receipts
from persipubsub.delivery.settling import Settler
from persipubsub.delivery.waiting import WaitingRoom
from persipubsub.engine import forking
from persipubsub.engine.base import Engine, Waiter
from persipubsub.engine.messages import Delivery
from persipubsub.errors import LeaseLostError, UnsupportedByEngineError
from persipubsub.limits import DEFAULT_MAX_DELIVERIES
from persipubsub.message import HELD, LOOKED_AT, SETTLED, Received

M = TypeVar("M", bound=Received[Any])

Take = Callable[[Engine], list[Delivery]]
Make = Callable[[Settler, Delivery, Any, int, int], M]
"""Makes a message of a delivery and its decoded payload; also told the fork generation and the state."""

#: What was tried as often as this and never decoded comes back only after a while: where nothing
#: makes it a dead letter it would otherwise keep everything behind it from being delivered.
_PATIENCE = DEFAULT_MAX_DELIVERIES
_UNDECODABLE_DELAY_NS = 60 * 10**9


class Holder(Settler, Generic[M]):
    """Takes the messages of one Subscriber, and settles them."""

    def __init__(
        self, connection: Connection, identifier: str, deserializer: Callable[[bytes], Any] | None, make: Make[M]
    ) -> None:
        """Take nothing yet; ``make`` makes the messages."""
        super().__init__(connection, identifier)
        self.deserializer = deserializer
        self._make = make
        self._room = WaitingRoom()
        self._watcher: Waiter | None = None

    def _leave_to_parent(self) -> None:
        super()._leave_to_parent()
        self._watcher = None

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
