"""One owner's takes: who it is, what it has been given, and how it leaves."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from persipubsub.engine import forking
from persipubsub.engine.local import format, owners, removal, returning, settle, take
from persipubsub.engine.local.batches import Batches
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.operations import Taken, Taking
from persipubsub.engine.local.publish import Publication
from persipubsub.engine.local.reading import View
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.take import Lease, Step
from persipubsub.engine.local.work import Work
from persipubsub.engine.messages import Delivery, Entry, Receipt
from persipubsub.errors import LeaseLostError, PersipubsubError

logger = logging.getLogger("persipubsub")

T = TypeVar("T")

#: While messages are there, dead owners are looked for at most this often (ns); when there are none, always.
_LOOK_FOR_DEATHS_NS = 20_000_000


def at_desk(store: Store, identifier: str, step: Callable[[Desk], T]) -> T:
    """Run ``step`` on a subscriber in a write transaction that may use the reserve of a full disk."""

    def operation(work: Work) -> T:
        desk = Desk(work, identifier)
        result = step(desk)
        desk.save()
        return result

    return store.write(operation, makes_room=True)


class Taker:
    """Takes messages for one owner; see the engine's interface for what each operation means."""

    def __init__(self, store: Store) -> None:
        """Take from ``store``; the owner comes to be with its first take."""
        self._store = store
        self._generation = forking.generation
        self._guard = threading.Lock()
        self._left = False
        self._owner = 0
        #: The subscribers that have this owner on record, by identifier: their numbers.
        self._introduced: dict[str, int] = {}
        self._introduction = b""
        self._batches = Batches(store)
        self._looked: dict[str, int] = {}

    def owner(self) -> int:
        """Return this owner, alive from now on."""
        if not self._owner:
            with self._guard:
                if not self._owner:
                    self._introduction = format.encode(owners.this_process(self._store.clock.wall_ns()))
                    self._owner = self._store.owners.new()
        return self._owner

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
        while True:
            slot = -1 if hand_over else self._batches.slot()
            lease = Lease(self.owner(), lease_ns, slot, with_data)
            taken: list[Delivery] = []
            try:
                try:
                    result = self._take(identifier, lease, max_messages, None, settle, outgoing)
                    taken = result.deliveries
                finally:
                    self._batches.start(identifier, slot, lease.owner, taken)
                settle, outgoing = (), ()
                complete = [delivery for delivery in taken if self._complete(identifier, delivery, with_data)]
                if complete or not result.more:
                    return complete
            except BaseException:
                self.release(identifier, [delivery.receipt for delivery in taken])
                raise

    def take_newest(self, identifier: str, lease_ns: int | None) -> Delivery | None:
        """Take the newest message."""
        lease = Lease(self.owner(), lease_ns)

        def newest(desk: Desk) -> list[Delivery]:
            delivery = take.take_newest(desk, lease)
            return [] if delivery is None else [delivery]

        while True:
            taken = self._take(identifier, lease, 1, newest).deliveries
            if not taken or self._complete(identifier, taken[0], with_data=True):
                return taken[0] if taken else None

    def pop(self, identifier: str) -> Delivery | None:
        """Take and settle one message."""
        lease = Lease(self.owner(), None)

        def pop(desk: Desk) -> list[Delivery]:
            taken = take.take(desk, 1, lease)
            # A large one is read after the transaction: it must be held until then.
            settle.settle(desk, [delivery.receipt for delivery in taken if len(delivery.data) == delivery.size])
            return taken

        while True:
            result = self._take(identifier, lease, 1, pop)
            if result.deliveries:
                delivery = result.deliveries[0]
                if len(delivery.data) == delivery.size:
                    return delivery
                if self._complete(identifier, delivery, with_data=True):
                    self._settle(identifier, delivery)
                    return delivery
            elif not result.more:
                return None

    def _take(
        self,
        identifier: str,
        lease: Lease,
        most: int,
        step: Step | None = None,
        receipts: Sequence[Receipt] = (),
        outgoing: Sequence[Entry] = (),
    ) -> Taken:
        """Settle, publish and take in one transaction; without ``step`` in the usual way."""
        publication = Publication(outgoing, self._store)
        now = self._store.clock.boot_ns()
        look_for_deaths = now - self._looked.get(identifier, 0) >= _LOOK_FOR_DEATHS_NS
        taking = Taking(
            identifier,
            lease.owner,
            self._introduction,
            self._introduced.get(identifier, 0),
            look_for_deaths,
            most,
            lease,
            tuple(receipts),
        )

        def settle_publish_and_take(work: Work) -> Taken:
            desk = Desk(work, identifier)
            if receipts:
                settle.settle(desk, receipts)
            if publication:
                desk.save()
                publication.put(work)
                desk = Desk(work, identifier)
            return taking.run_step(desk, step or taking.usual)

        def undo(taken: Taken) -> None:
            self.release(identifier, [delivery.receipt for delivery in taken.deliveries])

        taken: Taken | None = None
        try:
            if step is None and not publication:
                taken = self._store.write(taking.run, makes_room=True, undo=undo, post=lambda: taking)
            else:
                taken = self._store.write(
                    settle_publish_and_take, payload=publication.size, makes_room=not publication, undo=undo
                )
            if receipts:
                self._batches.done(identifier, receipts)
            if look_for_deaths:
                self._looked[identifier] = now
            self._introduced[identifier] = taken.number
        except BaseException:
            if taken is not None:
                undo(taken)  # the caller, who is interrupted, never gets it
            raise
        return taken

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
            self._settle(identifier, delivery)
        elif not intact:
            at_desk(self._store, identifier, lambda desk: settle.reject(desk, [delivery.receipt], returning.DAMAGED))
        return bool(intact)

    def _settle(self, identifier: str, delivery: Delivery) -> None:
        at_desk(self._store, identifier, lambda desk: settle.settle(desk, [delivery.receipt]))

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

    def done(self, identifier: str, receipts: Sequence[Receipt]) -> None:
        """Take notice that takes were settled, given back or lost."""
        self._batches.done(identifier, receipts)

    def handed(self, identifier: str, delivery: Delivery) -> None:
        """Tell that one more of a batch has reached the caller."""
        self._batches.handed(identifier, delivery.token)

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

    def release(self, identifier: str, receipts: Sequence[Receipt]) -> None:
        """Give back what a lost subscriber held; never raises."""

        def give_back(desk: Desk) -> None:
            for receipt in receipts:
                where = settle.held(desk, receipt)
                if where is not None and where[0] == format.LEASED:
                    returning.lapse(desk, receipt.id, where[1], None)

        if self._left or self._generation != forking.generation or not receipts:
            return
        try:
            at_desk(self._store, identifier, give_back)
        except PersipubsubError as error:
            logger.warning("Queue %s: messages could not be given back yet: %s", self._store.path, error)
        self.done(identifier, receipts)

    def leave(self) -> bool:
        """Give back every lease of this owner, and let it be dead; False if that was done before, or not here."""
        with self._guard:
            if self._left or self._generation != forking.generation:
                return False
            self._left = True
        try:
            self._give_all_back()
        finally:
            self._batches.close()
            if self._owner:
                self._store.owners.end(self._owner)
        return True

    def _give_all_back(self) -> None:
        mine = self._owner

        def leave(work: Work) -> bool:
            """Give back what is held here; tell whether anybody's temporary subscribers are there."""
            for identifier, number in sorted(self._introduced.items()):
                if work.txn.get(identifier.encode(), db=work.subscribers) is None:
                    continue
                desk = Desk(work, identifier)
                if desk.record.number != number:
                    continue
                returning.take_over(desk, [mine], None)
                desk.save()
            return work.state.ephemerals > 0

        if mine:
            try:
                if self._store.write(leave, makes_room=True):
                    self._store.writer.write_alone(lambda work, alone: removal.remove_of_owner(work, mine, alone))
            except PersipubsubError as error:
                # The lock that shows this owner alive is given up next: others take over what it held.
                logger.warning("Queue %s: messages could not be given back at closing: %s", self._store.path, error)
