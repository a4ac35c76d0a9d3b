"""The memory engine: every operation of the interface, as one step on the shared queue."""

import contextlib
from collections.abc import Iterator, Sequence

from persipubsub.engine.base import Capabilities
from persipubsub.engine.clock import Clock
from persipubsub.engine.memory import publish, roster, settle, take
from persipubsub.engine.memory.administration import Administration
from persipubsub.engine.memory.holds import Kind
from persipubsub.engine.memory.queue import REGISTRY_LOCK, join, leave
from persipubsub.engine.memory.state import Now, State
from persipubsub.engine.memory.waiting import Interest, MemoryWaiter
from persipubsub.engine.messages import OWNER_DIED, Delivery, Entry, Receipt
from persipubsub.errors import ClosedError, LeaseLostError, PersipubsubError
from persipubsub.limits import Settings

_CAPABILITIES = Capabilities(persistent=False, shared_between_processes=False, views=True, file_descriptor=True)


class MemoryEngine(Administration):
    """Operations of one open queue, for one owner; safe to call from any thread.

    >>> from persipubsub.limits import SubscriberSettings
    >>> with contextlib.closing(open_memory(None, create=Settings())) as engine:
    ...     engine.add_subscriber("a", SubscriberSettings(), "latest")
    ...     engine.put([Entry(data=b"hello", size=5)])
    ...     engine.pop("a").data
    [1]
    b'hello'
    """

    def look_again(self) -> None:
        """Let everybody who waits for a moment look at the clock anew: for clocks that somebody turns."""
        with self._queue.condition:
            self._queue.condition.notify_all()

    @property
    def capabilities(self) -> Capabilities:
        """Return what this engine can do."""
        return _CAPABILITIES

    # -- publishing ---------------------------------------------------------------------------

    def put(self, entries: Sequence[Entry]) -> list[int]:
        """Store messages in one step and return their ids.

        :raise QueueFullError: the strategy is to reject or to block, and there is no room
        :raise MessageTooLargeError: a message, or the batch, can never fit
        """
        with self._step() as (state, now):
            return publish.put(state, entries, now)

    def put_each(self, batches: Sequence[Sequence[Entry]]) -> list[list[int] | Exception]:
        """Store several callers' batches, one step each."""
        outcomes: list[list[int] | Exception] = []
        for entries in batches:
            try:
                outcomes.append(self.put(entries))
            except PersipubsubError as error:
                outcomes.append(error)
        return outcomes

    def room_waiter(self) -> MemoryWaiter:
        """Return a waiter that is woken when messages left the queue."""
        return self._queue.new_waiter(Interest.ROOM)

    # -- consuming ----------------------------------------------------------------------------

    def take(
        self,
        identifier: str,
        max_messages: int,
        lease_ns: int | None,
        *,
        settle: Sequence[Receipt] = (),
        outgoing: Sequence[Entry] = (),
        hand_over: bool = True,
        with_data: bool = True,
    ) -> list[Delivery]:
        """Take up to ``max_messages`` that are due, after settling and publishing in the same step.

        :raise UnknownSubscriberError: no such subscriber
        :raise LeaseLostError: one of ``settle`` is not held any more; nothing was changed
        """
        with self._step(may_fail_halfway=bool(outgoing)) as (state, now):
            self._settle_and_put(state, identifier, settle, outgoing, now)
            lease = take.Lease(owner=self._owner, duration_ns=lease_ns, handed=hand_over)
            taken = take.take(state, state.subscriber(identifier), max_messages, lease, now)
            return [take.deliver(hold, with_data=with_data) for hold in taken]

    def handed(self, identifier: str, delivery: Delivery) -> None:
        """Tell that a delivery taken without ``hand_over`` has now reached the caller."""
        with self._step() as (state, _):
            subscriber = state.subscribers.get(identifier)
            if subscriber is not None:
                settle.hand_over(subscriber, delivery.receipt)

    def take_newest(self, identifier: str, lease_ns: int | None) -> Delivery | None:
        """Take the newest message that nobody holds, ahead of all older ones."""
        with self._step() as (state, now):
            lease = take.Lease(owner=self._owner, duration_ns=lease_ns)
            hold = take.take_newest(state, state.subscriber(identifier), lease, now)
            return None if hold is None else take.deliver(hold)

    def settle_to_top(self, identifier: str, receipt: Receipt) -> None:
        """Settle a message taken by ``take_newest`` and everything before it that nobody else holds.

        :raise LeaseLostError: it is not held any more; nothing was changed
        """
        with self._step() as (state, now):
            settle.settle_to_top(state, state.subscriber(identifier), receipt, now)

    def return_to_top(self, identifier: str, receipt: Receipt) -> None:
        """Undo ``take_newest``.

        :raise LeaseLostError: it is not held any more; nothing was changed
        """
        with self._step() as (state, _):
            settle.return_to_top(state, state.subscriber(identifier), receipt)

    def pop(self, identifier: str) -> Delivery | None:
        """Take and settle one message at once."""
        with self._step() as (state, now):
            subscriber = state.subscriber(identifier)
            for hold in take.take(state, subscriber, 1, take.Lease(owner=self._owner), now):
                delivery = take.deliver(hold)
                settle.settle(state, subscriber, [delivery.receipt], now)
                return delivery
            return None

    def settle(self, identifier: str, receipts: Sequence[Receipt], outgoing: Sequence[Entry] = ()) -> None:
        """Acknowledge takes and publish ``outgoing``, all in one step.

        :raise LeaseLostError: one of them is not held any more; nothing was changed
        """
        with self._step(may_fail_halfway=bool(outgoing)) as (state, now):
            self._settle_and_put(state, identifier, receipts, outgoing, now)

    def settle_ids(self, identifier: str, ids: Sequence[int]) -> int:
        """Acknowledge messages whatever their state; return how many were not settled before."""
        with self._step() as (state, now):
            return settle.settle_ids(state, state.subscriber(identifier), ids, now)

    def give_back(
        self,
        identifier: str,
        receipts: Sequence[Receipt],
        *,
        delay_ns: int = 0,
        reason: str | None = None,
        undelivered: bool = False,
    ) -> None:
        """Give takes back, to be delivered next or after a delay; dead when delivered too often.

        :raise LeaseLostError: one of them is not held any more (and not ``undelivered``); nothing was changed
        """
        with self._step() as (state, now):
            subscriber = state.subscriber(identifier)
            settle.give_back(
                state, subscriber, receipts, now, delay_ns=delay_ns, reason=reason, undelivered=undelivered
            )

    def reject(self, identifier: str, receipts: Sequence[Receipt], reason: str) -> None:
        """Move takes to the dead letters.

        :raise LeaseLostError: one of them is not held any more; nothing was changed
        """
        with self._step() as (state, now):
            settle.reject(state, state.subscriber(identifier), receipts, reason, now)

    def extend(self, identifier: str, receipt: Receipt, lease_ns: int) -> None:
        """Let a bounded lease end ``lease_ns`` from now.

        :raise LeaseLostError: it is not held any more
        """
        with self._step() as (state, now):
            settle.extend(state.subscriber(identifier), receipt, lease_ns, self._owner, now)

    def peek(self, identifier: str, max_messages: int = 1) -> list[Delivery]:
        """Return what the next takes would give, leaving no trace."""
        with self._step() as (state, now):
            return take.peek(state, identifier, max_messages, now)

    @contextlib.contextmanager
    def view(self, identifier: str, delivery: Delivery) -> Iterator[memoryview]:
        """Give the stored payload of a taken message as a read-only memoryview, without a copy.

        :raise LeaseLostError: it is not held any more, or a limit took the message
        """
        with self._step() as (state, _):
            (hold,) = settle.claim(state.subscriber(identifier), [delivery.receipt])
            if hold.gone:
                raise LeaseLostError(f"A limit of the queue took message {delivery.id} while it was held.")
            view = memoryview(hold.message.data)
        with view:
            yield view

    def waiter(self, identifier: str | None) -> MemoryWaiter:
        """Return a waiter that is woken when a message may be there for the subscriber.

        Without an identifier it is woken by any message that is published.

        :raise UnknownSubscriberError: no such subscriber
        """
        with self._step() as (state, _):
            if identifier is None:
                return self._queue.new_waiter(Interest.MESSAGES)
            return self._queue.new_waiter(state.subscriber(identifier).identifier)

    # -- life ---------------------------------------------------------------------------------

    def release(self, identifier: str, receipts: Sequence[Receipt]) -> None:
        """Give back, best effort and without raising, what a lost or closed subscriber still held."""
        with contextlib.suppress(ClosedError), self._step() as (state, now):
            subscriber = state.subscribers.get(identifier)
            if subscriber is not None:
                settle.release(state, subscriber, receipts, now)

    def close(self) -> None:
        """Give back every lease of this owner and let go of the queue; its ephemeral subscribers vanish."""
        self._leave(None)

    def die(self) -> None:
        """Leave as a process does that is killed: the same, but whoever gets its messages is told why."""
        self._leave(OWNER_DIED)

    def _leave(self, reason: str | None) -> None:
        queue = self._queue
        with REGISTRY_LOCK, queue.condition:
            if self._closed:
                return
            with self._step() as (state, now):
                for subscriber in list(state.subscribers.values()):
                    subscriber.owners.pop(self._owner, None)
                    for hold in subscriber.holds:
                        if hold.kind is Kind.LEASED and hold.owner == self._owner:
                            settle.end_lease(state, subscriber, hold, reason, now, keep_token=False)
                    if subscriber.ephemeral_owner == self._owner:
                        roster.remove(state, subscriber.identifier)
            self._closed = True
            leave(queue, self._owner)
            for waiter in list(queue.waiters):
                waiter.wake()

    def _settle_and_put(
        self, state: State, identifier: str, receipts: Sequence[Receipt], outgoing: Sequence[Entry], now: Now
    ) -> None:
        publish.check_sizes(state, outgoing)
        settle.settle(state, state.subscriber(identifier), receipts, now)
        if outgoing:
            publish.put(state, outgoing, now)


def open_memory(name: str | None, *, create: Settings | None = None, clock: Clock | None = None) -> MemoryEngine:
    """Open a queue in memory.

    :param name: shared by this name inside the process until the last engine of it is closed; ``None``: private
    :param create: settings of the queue if it does not exist yet; one that exists keeps its own
    :param clock: of the queue, if it is created now
    :raise QueueNotFoundError: it does not exist and ``create`` is ``None``
    """
    return MemoryEngine(*join(name, create, clock))
