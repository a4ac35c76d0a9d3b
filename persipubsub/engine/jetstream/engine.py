"""The JetStream engine: every operation of the interface, carried out on the loop of its connection."""

import atexit
import contextlib
import time
import weakref
from collections.abc import Iterator, Sequence

import nats.errors
from nats.js import errors as js_errors

from persipubsub.engine import forking
from persipubsub.engine.base import Capabilities
from persipubsub.engine.clock import Clock
from persipubsub.engine.jetstream import ahead, look, newest, roster, settle, take
from persipubsub.engine.jetstream.administration import Administration
from persipubsub.engine.jetstream.keeper import Keeper
from persipubsub.engine.jetstream.link import Link
from persipubsub.engine.jetstream.names import Names
from persipubsub.engine.jetstream.waiting import (
    JetStreamWaiter,
    Watch,
    for_any_message,
    for_messages,
    for_room,
)
from persipubsub.engine.messages import Delivery, Entry, Receipt
from persipubsub.errors import LeaseLostError, PersipubsubError

CAPABILITIES = Capabilities(
    persistent=True,
    shared_between_processes=True,
    views=True,
    file_descriptor=True,
    atomic_staging=False,
    halving=False,
    exact_counters=False,
    sees_death=False,
    late_settlement=False,
    exclusive_newest=False,
    requeues_in_place=False,
    keeps_unmatched=False,
    tells_holders=False,
    ordered_returns=False,
    counts_payload=False,
    forgets_ids=False,
    any_size=False,
)
#: Seconds for giving messages back at the end of the process.
_LAST_PATIENCE = 1.0

_open: "weakref.WeakSet[JetStreamEngine]" = weakref.WeakSet()


class JetStreamEngine(Administration):
    """Operations of one open queue, for one owner; safe to call from any thread."""

    def __init__(self, link: Link, names: Names, clock: Clock) -> None:
        """Open the queue; call :func:`open_jetstream` instead."""
        super().__init__(link, names, clock)
        self._generation = forking.generation
        self._keeper = Keeper(self._session)
        self._waiters: set[JetStreamWaiter] = set()
        self._run(self._begin())
        _open.add(self)

    async def _begin(self) -> None:
        await self._session.open()
        self._link.patience = (await self._session.stored()).settings.lock_timeout
        self._session.on_change = self._keeper.stir
        self._session.pulls.on_ready = lambda consumer: self._keeper.stir()
        self._link.start(self._keeper.run())

    @property
    def capabilities(self) -> Capabilities:
        """Return what this engine can do."""
        return CAPABILITIES

    # -- publishing ---------------------------------------------------------------------------

    def put(self, entries: Sequence[Entry]) -> list[int]:
        """Store messages, all or none, and return their ids.

        :raise QueueFullError: there is no room, and the strategy does not prune
        :raise MessageTooLargeError: a message, or the batch, can never fit
        :raise StorageFullError: a quota of the server is reached
        """
        return self._run(self._publisher.put(entries))

    def put_each(self, batches: Sequence[Sequence[Entry]]) -> list[list[int] | Exception]:
        """Store several callers' batches, all of them under way at the same time."""
        return self._run(self._publisher.put_each(batches))

    def room_waiter(self) -> JetStreamWaiter:
        """Return a waiter that is woken when messages left the queue."""
        return self._waiter(for_room)

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
        """Take up to ``max_messages`` that are due, after settling and publishing.

        :raise UnknownSubscriberError: no such subscriber
        :raise LeaseLostError: one of ``settle`` is not held any more; nothing was changed
        """
        terms = take.Terms(lease_ns=lease_ns, handed=hand_over)

        async def work() -> list[Delivery]:
            if settle or outgoing:
                await self._settle_and_put(identifier, settle, outgoing)
            taken = await take.take(self._session, identifier, max_messages, terms)
            self._keeper.stir()
            return take.handed_out(taken, self._session.clock.wall_ns(), with_data=with_data)

        return self._run(work())

    def handed(self, identifier: str, delivery: Delivery) -> None:
        """Tell that a delivery taken without ``hand_over`` has now reached the caller.

        :raise LeaseLostError: its lease ended before
        """
        self._session.holds.claim(identifier, [delivery.receipt])[0].handed = True

    def take_newest(self, identifier: str, lease_ns: int | None) -> Delivery | None:
        """Take the newest message that nobody holds, ahead of all older ones."""

        async def work() -> Delivery | None:
            hold = await newest.take_newest(self._session, identifier, take.Terms(lease_ns=lease_ns))
            self._keeper.stir()
            return None if hold is None else take.handed_out([hold], self._session.clock.wall_ns())[0]

        return self._run(work())

    def settle_to_top(self, identifier: str, receipt: Receipt) -> None:
        """Settle a message taken by ``take_newest`` and everything before it that nobody else holds.

        :raise LeaseLostError: it is not held any more; nothing was changed
        """
        self._run(newest.settle_to_top(self._session, identifier, receipt))

    def return_to_top(self, identifier: str, receipt: Receipt) -> None:
        """Undo ``take_newest``."""
        self.give_back(identifier, [receipt], undelivered=True)

    def pop(self, identifier: str) -> Delivery | None:
        """Take and settle one message."""

        async def work() -> Delivery | None:
            for hold in await take.take(self._session, identifier, 1, take.Terms()):
                (delivery,) = take.handed_out([hold], self._session.clock.wall_ns())
                await settle.settle(self._session, identifier, [hold.receipt])
                return delivery
            return None

        return self._run(work())

    def settle(self, identifier: str, receipts: Sequence[Receipt], outgoing: Sequence[Entry] = ()) -> None:
        """Publish ``outgoing``, then acknowledge takes, each by itself.

        A process that dies in between leaves both: what it published is recognised when it is published for the same
        message again within the deduplication window.

        :raise LeaseLostError: one of them is not held any more, and nothing was changed; or the server does not know of
            it any more, and all else was done
        """
        self._run(self._settle_and_put(identifier, receipts, outgoing))

    def settle_ids(self, identifier: str, ids: Sequence[int]) -> int:
        """Acknowledge messages whatever their state; return how many were not settled before."""
        return self._run(ahead.by_ids(self._session, identifier, ids))

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
        work = settle.give_back(
            self._session, identifier, receipts, delay_ns=delay_ns, reason=reason, undelivered=undelivered
        )
        self._run(work)

    def reject(self, identifier: str, receipts: Sequence[Receipt], reason: str) -> None:
        """Move takes to the dead letters.

        :raise LeaseLostError: one of them is not held any more; nothing was changed
        """
        self._run(settle.reject(self._session, identifier, receipts, reason))

    def extend(self, identifier: str, receipt: Receipt, lease_ns: int) -> None:
        """Let a bounded lease end ``lease_ns`` from now.

        :raise LeaseLostError: it is not held any more
        """

        async def work() -> None:
            await settle.extend(self._session, identifier, receipt, lease_ns)
            self._keeper.stir()

        self._run(work())

    def peek(self, identifier: str, max_messages: int = 1) -> list[Delivery]:
        """Return what the next takes would give; for that moment nobody else can take it."""
        return self._run(look.peek(self._session, identifier, max_messages))

    @contextlib.contextmanager
    def view(self, identifier: str, delivery: Delivery) -> Iterator[memoryview]:
        """Give the payload of a taken message as a read-only memoryview; it has come over the network.

        :raise LeaseLostError: it is not held any more
        """
        (hold,) = self._session.holds.claim(identifier, [delivery.receipt])
        with memoryview(hold.arrival.data) as view:
            yield view

    def waiter(self, identifier: str | None) -> JetStreamWaiter:
        """Return a waiter that is woken when a message may be there for the subscriber.

        Without an identifier it is woken by any message that is published.

        :raise UnknownSubscriberError: no such subscriber
        """
        if identifier is None:
            return self._waiter(for_any_message)
        self._run(self._session.listed(identifier))
        return self._waiter(for_messages(identifier))

    # -- life ---------------------------------------------------------------------------------

    def release(self, identifier: str, receipts: Sequence[Receipt]) -> None:
        """Give back, best effort and without raising, what a lost or closed subscriber still held."""
        with contextlib.suppress(PersipubsubError):
            self._run(settle.release(self._session, identifier, receipts))

    def close(self) -> None:
        """Give back every lease of this owner and let go of the queue; its ephemeral subscribers vanish."""
        if self._closed or self._generation != forking.generation:
            return
        for waiter in list(self._waiters):
            waiter.wake()
        with contextlib.suppress(PersipubsubError, nats.errors.Error, js_errors.APIError):
            self._run(self._leave())
        self._closed = True
        _open.discard(self)
        self._link.close()

    async def _leave(self) -> None:
        session = self._session
        if not self._link.client.is_connected:
            return
        for hold in sorted(session.holds.all(), key=lambda hold: hold.id):
            if hold.is_lost(time.monotonic()):
                session.holds.remove(hold)
            else:
                await settle.release_one(session, hold)
        for arrival in session.pulls.stale(0):
            await self._keeper.give_back(arrival)
        for identifier in list(session.ephemeral):
            await roster.remove(session, identifier)

    async def _settle_and_put(self, identifier: str, receipts: Sequence[Receipt], outgoing: Sequence[Entry]) -> None:
        holds = await settle.claim(self._session, identifier, receipts)
        if outgoing:
            # Derived from the message, so that another attempt at it publishes nothing twice.
            arrival = holds[0].arrival if holds else None
            if arrival is None:
                raise LeaseLostError("Nothing is held that these messages could be published with.")
            prefix = f"s.{arrival.consumer}.{arrival.id}."
            await self._publisher.put(outgoing, [f"{prefix}{index}" for index in range(len(outgoing))])
        await settle.settle(self._session, identifier, receipts)

    def _waiter(self, watch: Watch) -> JetStreamWaiter:
        waiter = JetStreamWaiter(self._session, watch, self._waiters.discard)
        self._waiters.add(waiter)
        return waiter


def _close_all() -> None:
    """Give messages back at the end of the process, so that nobody has to wait for the ack wait."""
    for engine in list(_open):
        engine._link.patience = _LAST_PATIENCE
        engine.close()


atexit.register(_close_all)
