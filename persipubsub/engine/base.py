"""The one cut between the public classes and an engine: the operations of a queue.

Times are integer nanoseconds; wall-clock times count from the Unix epoch. Every operation is one
atomic step: it happens wholly or, when it raises, not at all.
"""

import pathlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from persipubsub.engine.figures import Compaction, Finding, Statistics
from persipubsub.engine.messages import DeadLetterRecord, Delivery, Entry, Receipt, Retained
from persipubsub.engine.records import Record
from persipubsub.limits import Settings, SubscriberSettings


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can do beyond the common operations.

    :param persistent: messages survive the process
    :param shared_between_processes: several processes may open a queue
    :param views: payloads can be had as memoryviews
    :param file_descriptor: waiters have descriptors
    :param atomic_staging: what a message stages is published in the transaction that acknowledges it
    :param halving: overflow prunes to half of the mark; else only as much as is needed goes, and ``prune_last`` refuses
    :param exact_counters: statistics and ``Message.missed`` count all that happened, losses as well; else what is not
        known is ``None`` in the statistics
    :param sees_death: leases of a process that died end at once; else after an ack wait
    :param late_settlement: a lease that has ended still settles its message until somebody else takes it
    :param exclusive_newest: nobody else gets the newest message while ``receive_to_top`` has it
    :param requeues_in_place: a dead letter comes again under its id; else as a new message
    :param keeps_unmatched: what no filter of a subscriber matches is kept like the rest, until a subscriber passes it
    :param tells_holders: who holds a message that was settled by its id elsewhere gets LeaseLostError for it
    :param ordered_returns: what was given back comes oldest first, whoever gave it back when
    :param counts_payload: limits and figures of bytes count payloads; else what is stored, headers included
    :param forgets_ids: clearing a queue forgets the deduplication ids
    :param any_size: messages, headers and batches of any size that the settings allow
    """

    persistent: bool
    shared_between_processes: bool
    views: bool
    file_descriptor: bool
    atomic_staging: bool = True
    halving: bool = True
    exact_counters: bool = True
    sees_death: bool = True
    late_settlement: bool = True
    exclusive_newest: bool = True
    requeues_in_place: bool = True
    keeps_unmatched: bool = True
    tells_holders: bool = True
    ordered_returns: bool = True
    counts_payload: bool = True
    forgets_ids: bool = True
    any_size: bool = True


class Waiter(Protocol):
    """One waiting consumer (or a publisher that waits for room).

    Use: ``arm``, then look once more, then ``wait``; whatever happens after ``arm`` ends the wait.
    """

    def arm(self) -> None:
        """Ask to be woken from now on."""

    def wait(self, timeout: float | None) -> None:
        """Wait until something may have changed or ``timeout`` seconds passed; spurious returns are allowed."""

    def wake(self) -> None:
        """End the wait, and make the descriptor readable, as a message would; from any thread."""

    def fileno(self) -> int:
        """Return a descriptor that is readable once woken, until the next ``arm``."""

    def close(self) -> None:
        """Give the waiter back."""


Start = str | int
"""Where a new subscriber starts: ``"first"``, ``"latest"`` or a message id."""


class Engine(Protocol):
    """Operations of one open queue, for one owner; safe to call from any thread."""

    @property
    def capabilities(self) -> Capabilities:
        """Return what this engine can do."""

    # -- the queue ----------------------------------------------------------------------------

    def settings(self) -> Settings:
        """Return the settings as they are stored now."""

    def configure(self, settings: Settings) -> None:
        """Store other (checked) settings; they hold from the next operation of every process."""

    def statistics(self) -> Statistics:
        """Return consistent figures of the queue and all its subscribers."""

    def check(self) -> list[Finding]:
        """Verify what is stored; an empty list means that all is well."""

    def backup(self, target: pathlib.Path) -> int:
        """Write a consistent, verified copy into a new folder and return its size in bytes.

        :raise QueueExistsError: a queue is there already
        :raise UnsupportedByEngineError: this engine keeps nothing on a disk
        """

    def compact(self) -> Compaction:
        """Give the disk back what free pages take.

        :raise QueueBusyError: somebody else has the queue open; nothing was changed
        :raise UnsupportedByEngineError: this engine keeps nothing on a disk
        """

    def export(self, start: int, max_messages: int, sink: Callable[[Record], None]) -> int | None:
        """Give ``sink`` the next messages from an id on; after the last one, in the same step, everything else.

        :return: where to go on; ``None`` when everything was given
        :raise UnsupportedByEngineError: this engine cannot be exported
        """

    def clear(self) -> None:
        """Drop all subscribers and all messages."""

    def prune_dangling(self) -> int:
        """Drop what is older than the message timeout or needed by no subscriber; return how many."""

    # -- subscribers --------------------------------------------------------------------------

    def subscribers(self) -> dict[str, SubscriberSettings]:
        """Return the subscribers and their settings."""

    def add_subscriber(self, identifier: str, settings: SubscriberSettings, start: Start) -> None:
        """Add a subscriber; the same one with the same settings again changes nothing.

        :raise SettingsMismatchError: it exists with other settings
        :raise PositionError: ``start`` is not retained
        """

    def configure_subscriber(self, identifier: str, settings: SubscriberSettings) -> None:
        """Store other (checked) settings of a subscriber."""

    def pause(self, identifier: str, paused: bool) -> None:
        """Stop or resume deliveries to a subscriber; its backlog stays."""

    def remove_subscriber(self, identifier: str) -> bool:
        """Remove a subscriber with its leases and dead letters; return whether it existed."""

    def purge(self, identifier: str) -> int:
        """Settle everything that waits for a subscriber and nobody holds; return how many."""

    def seek(self, identifier: str, position: int) -> None:
        """Move a subscriber to a message id; its leases and delays are dropped, dead letters stay.

        :raise PositionError: the id lies before what is retained or beyond the next id
        """

    def find_position(self, identifier: str, *, back: int | None = None, sent_ns: int | None = None) -> int:
        """Return the id that lies ``back`` messages before the position, or the first sent at or after a time."""

    def bounds(self) -> tuple[int, int]:
        """Return the oldest retained id and the id that the next message will get."""

    # -- publishing ---------------------------------------------------------------------------

    def put(self, entries: Sequence[Entry]) -> list[int]:
        """Store messages in one transaction and return their ids.

        :raise QueueFullError: the strategy is to reject or to block, and there is no room
        :raise MessageTooLargeError: a message, or the batch, can never fit
        :raise StorageFullError: no space on the disk
        """

    def put_each(self, batches: Sequence[Sequence[Entry]]) -> list[list[int] | Exception]:
        """Store several callers' batches, in one transaction where the engine can; never raises for one of them.

        :return: for each its ids, or the error for which nothing of it was stored, as ``put`` raises it
        """

    def room_waiter(self) -> Waiter:
        """Return a waiter that is woken when messages left the queue."""

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
        """Take up to ``max_messages`` that are due, oldest first, given-back ones before newer ones.

        ``settle`` and ``outgoing`` are acknowledged and published in the same transaction.
        Without ``hand_over`` a delivery counts only once ``handed`` tells so. Without ``with_data``
        the payload stays where it is, for ``view``.

        :raise UnknownSubscriberError: no such subscriber
        :raise LeaseLostError: one of ``settle`` is not held any more; nothing was changed
        """

    def handed(self, identifier: str, delivery: Delivery) -> None:
        """Tell that a delivery taken without ``hand_over`` has now reached the caller."""

    def take_newest(self, identifier: str, lease_ns: int | None) -> Delivery | None:
        """Take the newest message that nobody holds, ahead of all older ones."""

    def settle_to_top(self, identifier: str, receipt: Receipt) -> None:
        """Settle a message taken by ``take_newest`` and everything before it that nobody else holds."""

    def return_to_top(self, identifier: str, receipt: Receipt) -> None:
        """Undo ``take_newest``."""

    def pop(self, identifier: str) -> Delivery | None:
        """Take and settle one message at once."""

    def settle(self, identifier: str, receipts: Sequence[Receipt], outgoing: Sequence[Entry] = ()) -> None:
        """Acknowledge takes and publish ``outgoing``, all in one transaction.

        :raise LeaseLostError: one of them is not held any more; nothing was changed
        """

    def settle_ids(self, identifier: str, ids: Sequence[int]) -> int:
        """Acknowledge messages whatever their state; return how many were not settled before."""

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

        ``undelivered`` takes never reached a caller: their delivery is not counted. Takes that are
        not held any more are left alone with ``undelivered``, and raise otherwise.

        :raise LeaseLostError: one of them is not held any more; nothing was changed
        """

    def reject(self, identifier: str, receipts: Sequence[Receipt], reason: str) -> None:
        """Move takes to the dead letters.

        :raise LeaseLostError: one of them is not held any more; nothing was changed
        """

    def extend(self, identifier: str, receipt: Receipt, lease_ns: int) -> None:
        """Let a bounded lease end ``lease_ns`` from now.

        :raise LeaseLostError: it is not held any more
        """

    def peek(self, identifier: str, max_messages: int = 1) -> list[Delivery]:
        """Return what the next takes would give, leaving no trace."""

    def view(self, identifier: str, delivery: Delivery) -> AbstractContextManager[memoryview]:
        """Give the stored payload of a taken message as a read-only memoryview, without a copy."""

    def waiter(self, identifier: str | None) -> Waiter:
        """Return a waiter that is woken when a message may be there for the subscriber.

        Without an identifier it is woken by any message that is published.
        """

    # -- looking ------------------------------------------------------------------------------

    def browse(self, start: int, max_messages: int) -> list[Retained]:
        """Return retained messages from an id on, without any trace."""

    def dead_letters(self, identifier: str, after: int = 0, max_messages: int = 1000) -> list[DeadLetterRecord]:
        """Return dead letters with ids greater than ``after``, oldest first."""

    def requeue_dead(self, identifier: str, ids: Sequence[int] | None) -> int:
        """Make dead letters deliverable again, their count at zero; ``None`` means all."""

    def discard_dead(self, identifier: str, ids: Sequence[int] | None) -> int:
        """Forget dead letters; ``None`` means all; return how many."""

    # -- life ---------------------------------------------------------------------------------

    def release(self, identifier: str, receipts: Sequence[Receipt]) -> None:
        """Give back, best effort and without raising, what a lost or closed subscriber still held."""

    def close(self) -> None:
        """Give back every lease of this owner and let go of the queue."""
