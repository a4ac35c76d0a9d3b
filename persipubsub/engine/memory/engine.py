"""The memory engine: every operation of the interface, as one step on the shared queue."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Sequence

from persipubsub.engine.base import (
    OWNER_DIED,
    Capabilities,
    Compaction,
    DeadLetterRecord,
    Delivery,
    Entry,
    Finding,
    Receipt,
    Retained,
    Start,
    Statistics,
)
from persipubsub.engine.clock import Clock
from persipubsub.engine.memory import look, publish, roster, settle, take
from persipubsub.engine.memory.holds import Kind
from persipubsub.engine.memory.queue import REGISTRY_LOCK, Queue, join, leave
from persipubsub.engine.memory.state import Now, State
from persipubsub.engine.memory.waiting import Interest, MemoryWaiter
from persipubsub.engine.records import Record
from persipubsub.errors import ClosedError, LeaseLostError, PersipubsubError, UnsupportedByEngineError
from persipubsub.limits import Settings, SubscriberSettings


def _only_on_a_disk(done: str) -> UnsupportedByEngineError:
    return UnsupportedByEngineError(f"A queue in memory cannot be {done}; use a directory.")


_CAPABILITIES = Capabilities(persistent=False, shared_between_processes=False, views=True, file_descriptor=True)


class MemoryEngine:
    """Operations of one open queue, for one owner; safe to call from any thread.

    >>> with contextlib.closing(open_memory(None, create=Settings())) as engine:
    ...     engine.add_subscriber("a", SubscriberSettings(), "latest")
    ...     engine.put([Entry(data=b"hello", size=5)])
    ...     engine.pop("a").data
    [1]
    b'hello'
    """

    def __init__(self, queue: Queue, owner: int) -> None:
        """Use ``queue`` as ``owner``; call :func:`open_memory` instead."""
        self._queue = queue
        self._owner = owner
        self._closed = False

    @contextlib.contextmanager
    def _step(self, *, may_fail_halfway: bool = False) -> Iterator[tuple[State, Now]]:
        """Carry out one atomic operation: alone, undone when it fails half-way, others woken at its end."""
        queue = self._queue
        with queue.condition:
            if self._closed:
                raise ClosedError("The queue was closed by this program; open it again.")
            before = queue.state.copy() if may_fail_halfway else None
            removed, published = queue.state.messages.removed, queue.state.published
            try:
                yield queue.state, queue.now()
            except BaseException:
                if before is not None:
                    queue.state = before
                raise
            finally:
                state = queue.state
                queue.ring(has_room=state.messages.removed != removed, has_messages=state.published != published)
                happened, state.events = state.events, []
        for event in happened:
            event.log(f"memory:{queue.name or ''}")

    def look_again(self) -> None:
        """Let everybody who waits for a moment look at the clock anew: for clocks that somebody turns."""
        with self._queue.condition:
            self._queue.condition.notify_all()

    @property
    def capabilities(self) -> Capabilities:
        """Return what this engine can do."""
        return _CAPABILITIES

    # -- the queue ----------------------------------------------------------------------------

    def settings(self) -> Settings:
        """Return the settings as they are stored now."""
        with self._step() as (state, _):
            return state.settings

    def configure(self, settings: Settings) -> None:
        """Store other settings; they hold from the next operation on."""
        with self._step() as (state, _):
            state.settings = settings
            state.sweep(state.messages.ids.copy())  # what a log kept, if it is none any more
            state.stirred.update(state.subscribers)
            self._queue.ring(has_room=True)

    def statistics(self) -> Statistics:
        """Return consistent figures of the queue and all its subscribers."""
        with self._step() as (state, now):
            return look.statistics(state, now)

    def check(self) -> list[Finding]:
        """Verify what must always hold; an empty list means that all is well."""
        with self._step() as (state, _):
            return look.check(state, self._queue.owners)

    def backup(self, target: pathlib.Path) -> int:
        """Refuse: nothing is on a disk.

        :raise UnsupportedByEngineError: always
        """
        raise _only_on_a_disk("backed up")

    def compact(self) -> Compaction:
        """Refuse: nothing is on a disk.

        :raise UnsupportedByEngineError: always
        """
        raise _only_on_a_disk("compacted")

    def export(self, start: int, max_messages: int, sink: Callable[[Record], None]) -> int | None:
        """Refuse: what is in memory is for tests, and gone with the process.

        :raise UnsupportedByEngineError: always
        """
        raise _only_on_a_disk("exported")

    def clear(self) -> None:
        """Drop all subscribers and all messages."""
        with self._step() as (state, _):
            roster.clear(state)

    def prune_dangling(self) -> int:
        """Drop what is older than the message timeout or needed by no subscriber; return how many."""
        with self._step() as (state, now):
            return publish.prune_dangling(state, now)

    # -- subscribers --------------------------------------------------------------------------

    def subscribers(self) -> dict[str, SubscriberSettings]:
        """Return the subscribers and their settings."""
        with self._step() as (state, _):
            return {name: state.subscribers[name].settings for name in sorted(state.subscribers)}

    def add_subscriber(self, identifier: str, settings: SubscriberSettings, start: Start) -> None:
        """Add a subscriber; the same one with the same settings again changes nothing.

        :raise SettingsMismatchError: it exists with other settings
        :raise PositionError: ``start`` is not retained
        """
        with self._step() as (state, _):
            roster.add(state, identifier, settings, start, self._owner)

    def configure_subscriber(self, identifier: str, settings: SubscriberSettings) -> None:
        """Store other settings of a subscriber.

        :raise SettingsMismatchError: ``ephemeral`` differs, which cannot be changed
        """
        with self._step() as (state, _):
            roster.configure(state, state.subscriber(identifier), settings)

    def pause(self, identifier: str, paused: bool) -> None:
        """Stop or resume deliveries to a subscriber; its backlog stays."""
        with self._step() as (state, _):
            subscriber = state.subscriber(identifier)
            subscriber.paused = paused
            state.stir(subscriber)

    def remove_subscriber(self, identifier: str) -> bool:
        """Remove a subscriber with its leases and dead letters; return whether it existed."""
        with self._step() as (state, _):
            return roster.remove(state, identifier)

    def purge(self, identifier: str) -> int:
        """Settle everything that waits for a subscriber and nobody holds; return how many."""
        with self._step() as (state, now):
            return settle.purge(state, state.subscriber(identifier), now)

    def seek(self, identifier: str, position: int) -> None:
        """Move a subscriber to a message id; its leases and delays are dropped, dead letters stay.

        :raise PositionError: the id lies before what is retained or beyond the next id
        """
        with self._step() as (state, _):
            roster.seek(state, state.subscriber(identifier), position)

    def find_position(self, identifier: str, *, back: int | None = None, sent_ns: int | None = None) -> int:
        """Return the id that lies ``back`` messages before the position, or the first sent at or after a time."""
        with self._step() as (state, _):
            return roster.find_position(state, state.subscriber(identifier), back, sent_ns)

    def bounds(self) -> tuple[int, int]:
        """Return the oldest retained id and the id that the next message will get."""
        with self._step() as (state, _):
            return state.first_id, state.next_id

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

    # -- looking ------------------------------------------------------------------------------

    def browse(self, start: int, max_messages: int) -> list[Retained]:
        """Return retained messages from an id on, without any trace."""
        with self._step() as (state, _):
            return look.browse(state, start, max_messages)

    def dead_letters(self, identifier: str, after: int = 0, max_messages: int = 1000) -> list[DeadLetterRecord]:
        """Return dead letters with ids greater than ``after``, oldest first."""
        with self._step() as (state, _):
            return roster.dead_letters(state.subscriber(identifier), after, max_messages)

    def requeue_dead(self, identifier: str, ids: Sequence[int] | None) -> int:
        """Make dead letters deliverable again, their count at zero; ``None`` means all."""
        with self._step() as (state, _):
            return roster.requeue_dead(state, state.subscriber(identifier), ids)

    def discard_dead(self, identifier: str, ids: Sequence[int] | None) -> int:
        """Forget dead letters; ``None`` means all; return how many."""
        with self._step() as (state, _):
            return roster.discard_dead(state.subscriber(identifier), ids)

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
