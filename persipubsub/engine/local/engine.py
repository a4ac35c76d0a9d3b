"""The operations of a queue over LMDB, for one owner: each is one write transaction."""

import pathlib
from collections.abc import Callable, Sequence
from functools import partial

from persipubsub.engine.base import Capabilities, Start
from persipubsub.engine.figures import Compaction, Finding, Statistics
from persipubsub.engine.local import (
    check,
    configuring,
    copying,
    deadletters,
    doom,
    dumping,
    format,
    look,
    prune,
    removal,
    roster,
    settle,
    take,
    vitals,
)
from persipubsub.engine.local.board import FOR_ROOM
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.jobs import Job
from persipubsub.engine.local.operations import Settling, sending
from persipubsub.engine.local.publish import Publication
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.taker import Taker, at_desk
from persipubsub.engine.local.vitals import Vitals
from persipubsub.engine.local.waiting import LocalWaiter
from persipubsub.engine.local.work import Work
from persipubsub.engine.messages import DeadLetterRecord, Delivery, Entry, Receipt, Retained
from persipubsub.engine.records import Record
from persipubsub.errors import MessageTooLargeError, QueueBusyError
from persipubsub.limits import Settings, SubscriberSettings


class LocalEngine:
    """One owner's use of an open queue."""

    capabilities = Capabilities(persistent=True, shared_between_processes=True, views=True, file_descriptor=True)

    def __init__(self, store: Store, release: Callable[[], None]) -> None:
        """Use ``store``; ``release`` is called at the end."""
        self._store = store
        self._release_store = release
        #: It could not be closed, for a view was being read.
        self._is_busy = False
        self._taker = Taker(store)
        # Taking is the taker's affair: its operations are those of the engine.
        self.take = self._taker.take
        self.take_newest = self._taker.take_newest
        self.pop = self._taker.pop
        self.handed = self._taker.handed
        self.view = self._taker.view
        self.release = self._taker.release

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

    def backup(self, target: pathlib.Path) -> int:
        """Write a verified copy into a new folder and return its size."""
        return copying.backup(self._store, target)

    def compact(self) -> Compaction:
        """Give the disk back what free pages take."""
        return copying.compact(self._store)

    def export(self, start: int, max_messages: int, sink: Callable[[Record], None]) -> int | None:
        """Give ``sink`` the next records."""
        return dumping.export(self._store, start, max_messages, sink)

    def vitals(self) -> Vitals:
        """Return what a doctor looks at."""
        return vitals.look_at(self._store)

    def clear(self) -> None:
        """Drop all subscribers and all messages."""
        self._store.write(removal.clear, makes_room=True)

    def prune_dangling(self) -> int:
        """Drop what is too old or needed by nobody."""
        number, more = 0, True
        while more:
            pruned, more = self._store.write(_prune_dangling, makes_room=True)
            number += pruned
        doom.reclaim_all(self._store)
        return number

    # -- subscribers -------------------------------------------------------------------------------

    def subscribers(self) -> dict[str, SubscriberSettings]:
        """Return the subscribers and their settings."""
        with self._store.read() as txn:
            work = Work(self._store, txn)
            return {name: roster.settings_of(roster.read(work, name)) for name in roster.names(work)}

    def add_subscriber(self, identifier: str, settings: SubscriberSettings, start: Start) -> None:
        """Add a subscriber."""
        owner = self._taker.owner() if settings.ephemeral else None
        self._store.write(lambda work: roster.add(work, identifier, settings, start, owner))

    def configure_subscriber(self, identifier: str, settings: SubscriberSettings) -> None:
        """Store other settings of a subscriber."""
        self._store.write(lambda work: roster.configure(work, identifier, settings))

    def pause(self, identifier: str, paused: bool) -> None:
        """Stop or resume deliveries."""
        self._store.write(lambda work: roster.pause(work, identifier, paused))

    def remove_subscriber(self, identifier: str) -> bool:
        """Remove a subscriber."""

        def remove(work: Work, alone: bool) -> bool:
            removal.delete_leftovers(work, alone)
            return removal.remove(work, identifier, alone)

        existed = self._store.writer.write_alone(remove)
        prune.sweep_all(self._store)
        return existed

    def purge(self, identifier: str) -> int:
        """Settle everything that waits for a subscriber."""
        number = at_desk(self._store, identifier, settle.purge)
        prune.sweep_all(self._store)
        return number

    def seek(self, identifier: str, position: int) -> None:
        """Move a subscriber."""
        at_desk(self._store, identifier, lambda desk: settle.seek(desk, position))

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
        publication = Publication(entries, self._store)
        return self._store.write(
            publication.put,
            payload=publication.size,
            post=partial(sending, publication),
        )

    def put_each(self, batches: Sequence[Sequence[Entry]]) -> list[list[int] | Exception]:
        """Store several callers' batches in one transaction."""
        jobs: list[Job[list[int]] | MessageTooLargeError] = []
        for entries in batches:
            try:
                publication = Publication(entries, self._store)
            except MessageTooLargeError as error:
                jobs.append(error)
                continue
            jobs.append(
                Job(
                    publication.put,
                    publication.size,
                    makes_room=False,
                    post=partial(sending, publication),
                )
            )
        self._store.writer.write_together([job for job in jobs if isinstance(job, Job)])
        return [(job.error or job.result or []) if isinstance(job, Job) else job for job in jobs]

    def room_waiter(self) -> LocalWaiter:
        """Return a waiter for room."""
        return LocalWaiter(self._store, None, FOR_ROOM)

    # -- consuming ---------------------------------------------------------------------------------

    def settle(self, identifier: str, receipts: Sequence[Receipt], outgoing: Sequence[Entry] = ()) -> None:
        """Acknowledge takes."""
        settling = Settling(identifier, tuple(receipts))
        try:
            publication = Publication(outgoing, self._store)

            def settle_and_publish(work: Work) -> None:
                settling.run(work)
                publication.put(work)

            if publication:
                self._store.write(settle_and_publish, payload=publication.size)
            else:
                self._store.write(settling.run, makes_room=True, post=lambda: settling)
        finally:
            self._taker.done(identifier, receipts)

    def settle_to_top(self, identifier: str, receipt: Receipt) -> None:
        """Settle the newest message and all before it."""
        at_desk(self._store, identifier, lambda desk: settle.settle_to_top(desk, receipt))

    def return_to_top(self, identifier: str, receipt: Receipt) -> None:
        """Undo a take of the newest message."""
        at_desk(self._store, identifier, lambda desk: settle.return_to_top(desk, receipt))

    def settle_ids(self, identifier: str, ids: Sequence[int]) -> int:
        """Acknowledge messages by id."""
        return at_desk(self._store, identifier, lambda desk: settle.settle_ids(desk, ids))

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

        def step(desk: Desk) -> None:
            settle.give_back(desk, receipts, delay_ns=delay_ns, reason=reason, undelivered=undelivered)

        self._finish(identifier, receipts, step)

    def reject(self, identifier: str, receipts: Sequence[Receipt], reason: str) -> None:
        """Move takes to the dead letters."""
        self._finish(identifier, receipts, lambda desk: settle.reject(desk, receipts, reason))

    def _finish(self, identifier: str, receipts: Sequence[Receipt], step: Callable[[Desk], None]) -> None:
        """End takes by ``step``; a take that turns out to be lost is over as well."""
        try:
            at_desk(self._store, identifier, step)
        finally:
            self._taker.done(identifier, receipts)

    def extend(self, identifier: str, receipt: Receipt, lease_ns: int) -> None:
        """Let a bounded lease end later."""
        owner = self._taker.owner()
        at_desk(self._store, identifier, lambda desk: settle.extend(desk, receipt, lease_ns, owner))

    def peek(self, identifier: str, max_messages: int = 1) -> list[Delivery]:
        """Return what the next takes would give."""

        def preview(work: Work) -> list[Delivery]:
            desk = Desk(work, identifier)
            while taken := take.take(desk, max_messages, take.Lease(0, None)):
                deliveries = [delivery for delivery in taken if take.complete(desk, delivery)]
                for delivery in deliveries:
                    delivery.delivery_count -= 1
                    if not delivery.delivery_count:
                        delivery.first_received_ns = 0
                if deliveries:
                    return deliveries
            return []

        return self._store.writer.rehearse(preview)

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
        return at_desk(self._store, identifier, lambda desk: deadletters.requeue(desk, ids))

    def discard_dead(self, identifier: str, ids: Sequence[int] | None) -> int:
        """Forget dead letters."""
        return at_desk(self._store, identifier, lambda desk: deadletters.discard(desk, ids))

    # -- life --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back every lease of this owner and let go of the queue.

        :raise QueueBusyError: this process still reads a view; it can be closed again after that
        """
        if self._taker.leave() or self._is_busy:
            self._is_busy = False
            try:
                self._release_store()
            except QueueBusyError:
                self._is_busy = True
                raise


def _prune_dangling(work: Work) -> tuple[int, bool]:
    return prune.expire(work) + prune.sweep(work), prune.has_more(work)
