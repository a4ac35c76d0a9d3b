"""The operations of a queue over LMDB, for one owner: each is one write transaction."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from persipubsub.engine import forking
from persipubsub.engine.base import (
    Capabilities,
    DeadLetterRecord,
    Delivery,
    Entry,
    Finding,
    Receipt,
    Retained,
    Start,
    Statistics,
)
from persipubsub.engine.local import (
    check,
    configuring,
    deadletters,
    format,
    look,
    owners,
    prune,
    publish,
    removal,
    returning,
    roster,
    settle,
    take,
)
from persipubsub.engine.local.batches import Batches
from persipubsub.engine.local.board import FOR_ROOM
from persipubsub.engine.local.format import OWNER, pack_id
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.reading import View
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.waiting import LocalWaiter
from persipubsub.engine.local.work import Work
from persipubsub.engine.local.writing import Job
from persipubsub.errors import LeaseLostError, PersipubsubError
from persipubsub.limits import Settings, SubscriberSettings

logger = logging.getLogger("persipubsub")

T = TypeVar("T")

#: While messages are there, dead owners are looked for at most this often (ns); when there are none, always.
_LOOK_FOR_DEATHS_NS = 20_000_000


class LocalEngine:
    """One owner's use of an open queue."""

    capabilities = Capabilities(persistent=True, shared_between_processes=True, views=True, file_descriptor=True)

    def __init__(self, store: Store, release: Callable[[], None]) -> None:
        """Use ``store``; ``release`` is called at the end."""
        self._store = store
        self._release_store = release
        self._generation = forking.generation
        self._guard = threading.Lock()
        self._closed = False
        self._owner = 0
        #: Subscribers (by identifier and number) that have this owner on record.
        self._introduced: set[tuple[str, int]] = set()
        self._batches = Batches(store)
        self._looked: dict[str, int] = {}

    # -- the queue ---------------------------------------------------------------------------------

    def settings(self) -> Settings:
        """Return the settings as they are stored now."""
        with self._store.read() as txn:
            return Work(self._store, txn).settings

    def configure(self, settings: Settings) -> None:
        """Store other settings."""
        configuring.configure(self._store, settings)

    def statistics(self) -> Statistics:
        """Return consistent figures."""
        return look.statistics(self._store)

    def check(self) -> list[Finding]:
        """Verify what is stored."""
        return check.check(self._store)

    def clear(self) -> None:
        """Drop all subscribers and all messages."""
        self._store.write(removal.clear, makes_room=True)

    def prune_dangling(self) -> int:
        """Drop what is too old or needed by nobody."""
        number, more = 0, True
        while more:
            pruned, more = self._store.write(_prune_dangling, makes_room=True)
            number += pruned
        return number

    # -- subscribers -------------------------------------------------------------------------------

    def subscribers(self) -> dict[str, SubscriberSettings]:
        """Return the subscribers and their settings."""
        with self._store.read() as txn:
            work = Work(self._store, txn)
            return {name: roster.settings_of(roster.read(work, name)) for name in roster.names(work)}

    def add_subscriber(self, identifier: str, settings: SubscriberSettings, start: Start) -> None:
        """Add a subscriber."""
        owner = self._owner_id() if settings.ephemeral else None
        self._store.write(lambda work: roster.add(work, identifier, settings, start, owner))

    def configure_subscriber(self, identifier: str, settings: SubscriberSettings) -> None:
        """Store other settings of a subscriber."""
        self._store.write(lambda work: roster.configure(work, identifier, settings))

    def pause(self, identifier: str, paused: bool) -> None:
        """Stop or resume deliveries."""
        self._store.write(lambda work: roster.pause(work, identifier, paused))

    def remove_subscriber(self, identifier: str) -> bool:
        """Remove a subscriber."""
        existed = self._store.writer.write_alone(lambda work, alone: removal.remove(work, identifier, alone))
        prune.sweep_all(self._store)
        return existed

    def purge(self, identifier: str) -> int:
        """Settle everything that waits for a subscriber."""
        number = self._at_desk(identifier, settle.purge)
        prune.sweep_all(self._store)
        return number

    def seek(self, identifier: str, position: int) -> None:
        """Move a subscriber."""
        self._at_desk(identifier, lambda desk: settle.seek(desk, position))

    def find_position(self, identifier: str, *, back: int | None = None, sent_ns: int | None = None) -> int:
        """Return a position by distance or time."""
        with self._store.read() as txn:
            return look.find_position(Work(self._store, txn), identifier, back=back, sent_ns=sent_ns)

    def bounds(self) -> tuple[int, int]:
        """Return the oldest retained id and the next one."""
        with self._store.read() as txn:
            return roster.bounds(Work(self._store, txn))

    # -- publishing --------------------------------------------------------------------------------

    def put(self, entries: Sequence[Entry]) -> list[int]:
        """Store messages."""
        operation, size = _publication(entries)
        return self._store.write(operation, payload=size)

    def put_each(self, batches: Sequence[Sequence[Entry]]) -> list[list[int] | Exception]:
        """Store several callers' batches in one transaction."""
        jobs = [Job(*_publication(entries), makes_room=False) for entries in batches]
        self._store.writer.write_together(jobs)
        return [job.result or [] if job.error is None else job.error for job in jobs]

    def room_waiter(self) -> LocalWaiter:
        """Return a waiter for room."""
        return LocalWaiter(self._store, None, FOR_ROOM)

    # -- consuming ---------------------------------------------------------------------------------

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
        """Take messages."""
        slot = -1 if hand_over else self._batches.slot(identifier)
        lease = take.Lease(self._owner_id(), lease_ns, slot, with_data)
        while True:
            taken, more = self._take(identifier, lambda desk: take.take(desk, max_messages, lease), settle, outgoing)
            settle, outgoing = (), ()
            if taken and not hand_over:
                self._batches.start(identifier, slot, lease.owner, taken[0].token)
            complete = [delivery for delivery in taken if self._complete(identifier, delivery, with_data)]
            if complete or not more:
                return complete

    def take_newest(self, identifier: str, lease_ns: int | None) -> Delivery | None:
        """Take the newest message."""
        lease = take.Lease(self._owner_id(), lease_ns)

        def newest(desk: Desk) -> list[Delivery]:
            delivery = take.take_newest(desk, lease)
            return [] if delivery is None else [delivery]

        while True:
            taken, _ = self._take(identifier, newest)
            if not taken or self._complete(identifier, taken[0], with_data=True):
                return taken[0] if taken else None

    def pop(self, identifier: str) -> Delivery | None:
        """Take and settle one message."""
        lease = take.Lease(self._owner_id(), None)

        def pop(desk: Desk) -> list[Delivery]:
            taken = take.take(desk, 1, lease)
            # A large one is read after the transaction: it must be held until then.
            settle.settle(desk, [delivery.receipt for delivery in taken if len(delivery.data) == delivery.size])
            return taken

        while True:
            taken, more = self._take(identifier, pop)
            if taken:
                delivery = taken[0]
                if len(delivery.data) == delivery.size:
                    return delivery
                if self._complete(identifier, delivery, with_data=True):
                    self.settle(identifier, [delivery.receipt])
                    return delivery
            elif not more:
                return None

    def _take(
        self,
        identifier: str,
        step: Callable[[Desk], list[Delivery]],
        receipts: Sequence[Receipt] = (),
        outgoing: Sequence[Entry] = (),
    ) -> tuple[list[Delivery], bool]:
        """Settle, publish and take in one transaction; also tell whether there is more to walk over."""
        digests = publish.digests(outgoing)
        numbers: list[int] = []
        now = self._store.clock.boot_ns()
        look_for_deaths = now - self._looked.get(identifier, 0) >= _LOOK_FOR_DEATHS_NS

        def operation(work: Work) -> tuple[list[Delivery], bool]:
            desk = Desk(work, identifier)
            if receipts:
                settle.settle(desk, receipts)
            if outgoing:
                desk.save()
                publish.put(work, outgoing, digests)
                desk = Desk(work, identifier)
            if (identifier, desk.record.number) not in self._introduced:
                work.txn.put(OWNER + pack_id(self._owner), _introduction(work), db=desk.db)
                work.touched = True
            numbers[:] = [desk.record.number]
            if look_for_deaths and desk.record.leased:
                self._take_over(desk)
            taken = step(desk)
            if not taken and not look_for_deaths and desk.record.leased and self._take_over(desk):
                taken = step(desk)
            desk.save()
            return taken, desk.record.position < work.state.next_id and not desk.record.paused

        def undo(result: tuple[list[Delivery], bool]) -> None:
            self.release(identifier, [delivery.receipt for delivery in result[0]])

        result = self._store.write(
            operation, payload=sum([entry.size for entry in outgoing]), makes_room=not outgoing, undo=undo
        )
        if look_for_deaths:
            self._looked[identifier] = now
        self._introduced.add((identifier, numbers[0]))
        return result

    def _take_over(self, desk: Desk) -> bool:
        dead = [owner for owner in desk.owners() if owner != self._owner and not self._store.is_alive(owner)]
        if dead:
            returning.take_over(desk, dead)
            desk.work.log(logging.INFO, "subscriber %r took over from %d dead owners", desk.identifier, len(dead))
        return bool(dead)

    def _complete(self, identifier: str, delivery: Delivery, with_data: bool) -> bool:
        """Read and verify what was too large for the transaction; False if it is not to be delivered."""
        if with_data and len(delivery.data) == delivery.size:
            return True
        try:
            intact = self._read_large(identifier, delivery, with_data)
        except BaseException:
            self.release(identifier, [delivery.receipt])
            raise
        if intact is None:  # limits took it meanwhile
            self.settle(identifier, [delivery.receipt])
        elif not intact:
            self.reject(identifier, [delivery.receipt], returning.DAMAGED)
        return bool(intact)

    def _read_large(self, identifier: str, delivery: Delivery, with_data: bool) -> bool | None:
        with self._store.read(format.subscriber_db(identifier.encode())) as txn:
            desk = Desk(Work(self._store, txn), identifier)
            message = desk.message(delivery.id, desk.get(format.LEASED, delivery.id))
            if message is None:
                return None
            if with_data:
                delivery.data = bytes(message[1])
            meta = bytes(message[0])
            if not with_data:
                return format.is_intact(delivery.id, meta, message[1])
        return format.is_intact(delivery.id, meta, delivery.data)

    def handed(self, identifier: str, delivery: Delivery) -> None:
        """Tell that one more of a batch has reached the caller."""
        self._batches.handed(identifier, delivery.token)

    def settle(self, identifier: str, receipts: Sequence[Receipt], outgoing: Sequence[Entry] = ()) -> None:
        """Acknowledge takes."""
        digests = publish.digests(outgoing)

        def operation(work: Work) -> None:
            desk = Desk(work, identifier)
            settle.settle(desk, receipts)
            desk.save()
            if outgoing:
                publish.put(work, outgoing, digests)

        size = sum([entry.size for entry in outgoing])
        self._store.write(operation, payload=size, makes_room=not outgoing)

    def settle_to_top(self, identifier: str, receipt: Receipt) -> None:
        """Settle the newest message and all before it."""
        self._at_desk(identifier, lambda desk: settle.settle_to_top(desk, receipt))

    def return_to_top(self, identifier: str, receipt: Receipt) -> None:
        """Undo a take of the newest message."""
        self._at_desk(identifier, lambda desk: settle.return_to_top(desk, receipt))

    def settle_ids(self, identifier: str, ids: Sequence[int]) -> int:
        """Acknowledge messages by id."""
        return self._at_desk(identifier, lambda desk: settle.settle_ids(desk, ids))

    def give_back(
        self,
        identifier: str,
        receipts: Sequence[Receipt],
        *,
        delay_ns: int = 0,
        reason: str | None = None,
        undelivered: bool = False,
    ) -> None:
        """Give takes back."""
        self._at_desk(
            identifier,
            lambda desk: settle.give_back(desk, receipts, delay_ns=delay_ns, reason=reason, undelivered=undelivered),
        )

    def reject(self, identifier: str, receipts: Sequence[Receipt], reason: str) -> None:
        """Move takes to the dead letters."""
        self._at_desk(identifier, lambda desk: settle.reject(desk, receipts, reason))

    def extend(self, identifier: str, receipt: Receipt, lease_ns: int) -> None:
        """Let a bounded lease end later."""
        owner = self._owner_id()
        self._at_desk(identifier, lambda desk: settle.extend(desk, receipt, lease_ns, owner))

    def peek(self, identifier: str, max_messages: int = 1) -> list[Delivery]:
        """Return what the next takes would give."""

        def preview(work: Work) -> list[Delivery]:
            deliveries = take.take(Desk(work, identifier), max_messages, take.Lease(0, None))
            for delivery in deliveries:
                delivery.delivery_count -= 1
                if not delivery.delivery_count:
                    delivery.first_received_ns = 0
                if len(delivery.data) != delivery.size:
                    message = Desk(work, identifier).message(delivery.id, None)
                    delivery.data = b"" if message is None else bytes(message[1])
            return deliveries

        return self._store.writer.rehearse(preview)

    @contextmanager
    def view(self, identifier: str, delivery: Delivery) -> Iterator[memoryview]:
        """Give the payload where it lies."""
        name = format.subscriber_db(identifier.encode())
        with self._store.view(name) as view:
            view.data = self._stored(view, identifier, delivery)
            yield view.data

    def _stored(self, view: View, identifier: str, delivery: Delivery) -> memoryview:
        if view.txn is None:
            raise LeaseLostError(f"Message {delivery.id} belongs to the parent process.")
        desk = Desk(Work(self._store, view.txn), identifier)
        message = desk.message(delivery.id, desk.get(format.LEASED, delivery.id))
        if message is None:
            raise LeaseLostError(f"Message {delivery.id} is gone: a limit of queue {self._store.path} took it.")
        return message[1]

    def waiter(self, identifier: str | None) -> LocalWaiter:
        """Return a waiter for messages."""
        return LocalWaiter(self._store, identifier)

    # -- looking -----------------------------------------------------------------------------------

    def browse(self, start: int, max_messages: int) -> list[Retained]:
        """Return retained messages."""
        return look.browse(self._store, start, max_messages)

    def dead_letters(self, identifier: str, after: int = 0, max_messages: int = 1000) -> list[DeadLetterRecord]:
        """Return dead letters."""
        name = format.subscriber_db(identifier.encode())
        with self._store.read() as txn:
            roster.read(Work(self._store, txn), identifier)
        with self._store.read(name) as txn:
            return deadletters.page(txn, self._store.handles[name], after, max_messages)

    def requeue_dead(self, identifier: str, ids: Sequence[int] | None) -> int:
        """Make dead letters deliverable again."""
        return self._at_desk(identifier, lambda desk: deadletters.requeue(desk, ids))

    def discard_dead(self, identifier: str, ids: Sequence[int] | None) -> int:
        """Forget dead letters."""
        return self._at_desk(identifier, lambda desk: deadletters.discard(desk, ids))

    # -- life --------------------------------------------------------------------------------------

    def release(self, identifier: str, receipts: Sequence[Receipt]) -> None:
        """Give back what a lost subscriber held; never raises."""

        def give_back(desk: Desk) -> None:
            for receipt in receipts:
                where = settle.held(desk, receipt)
                if where is not None and where[0] == format.LEASED:
                    returning.lapse(desk, receipt.id, where[1], None)

        if self._closed or self._generation != forking.generation or not receipts:
            return
        try:
            self._at_desk(identifier, give_back)
        except PersipubsubError as error:
            logger.warning("Queue %s: messages could not be given back yet: %s", self._store.path, error)

    def close(self) -> None:
        """Give back every lease of this owner and let go of the queue."""
        with self._guard:
            if self._closed or self._generation != forking.generation:
                return
            self._closed = True
        try:
            self._leave()
        finally:
            self._batches.close()
            if self._owner:
                self._store.owners.end(self._owner)
            self._release_store()

    def _leave(self) -> None:
        mine = self._owner

        def leave(work: Work) -> None:
            for identifier, number in sorted(self._introduced):
                if work.txn.get(identifier.encode(), db=work.subscribers) is None:
                    continue
                desk = Desk(work, identifier)
                if desk.record.number != number:
                    continue
                returning.take_over(desk, [mine], None)
                desk.save()
            if work.state.ephemerals:
                removal.remove_of_owner(work, mine)

        if mine:
            try:
                self._store.write(leave, makes_room=True)
            except PersipubsubError as error:
                # The lock that shows this owner alive is given up next: others take over what it held.
                logger.warning("Queue %s: messages could not be given back at closing: %s", self._store.path, error)

    def _owner_id(self) -> int:
        if not self._owner:
            with self._guard:
                if not self._owner:
                    self._owner = self._store.owners.new()
        return self._owner

    def _at_desk(self, identifier: str, step: Callable[[Desk], T]) -> T:
        """Run ``step`` on a subscriber in a write transaction."""

        def operation(work: Work) -> T:
            desk = Desk(work, identifier)
            result = step(desk)
            desk.save()
            return result

        return self._store.write(operation, makes_room=True)


def _publication(entries: Sequence[Entry]) -> tuple[Callable[[Work], list[int]], int]:
    """Return the operation that stores messages, and how many bytes it stores."""
    digests = publish.digests(entries)
    return lambda work: publish.put(work, entries, digests), sum([entry.size for entry in entries])


def _introduction(work: Work) -> bytes:
    return format.encode(owners.this_process(work.now_ns))


def _prune_dangling(work: Work) -> tuple[int, bool]:
    expired = prune.expire(work)
    return expired + prune.sweep(work), expired == prune.EXPIRE or prune.has_more(work)
