"""What one subscriber has taken or set aside: leased, ready (given back) and delayed messages.

``Desk`` is one subscriber within one write transaction. It keeps the records of its queue, their
indices, its counters and the pending counts in step; ``save`` writes the subscriber back.
"""

from collections.abc import Iterator, Sequence

from persipubsub.engine.local import format, living, prune, roster
from persipubsub.engine.local.format import (
    AHEAD,
    DEAD,
    DELAYED,
    DUE,
    ENDING,
    LEASED,
    OWN_DATA,
    OWNER,
    READY,
    REQUEUED,
    Hold,
    pack_id,
    unpack_id,
)
from persipubsub.engine.local.work import Work, put_all

#: What one transaction moves at most of what has become due.
_BATCH = 1000


class Desk:
    """One subscriber within one write transaction."""

    __slots__ = ("_before", "db", "identifier", "key", "record", "txn", "work")

    def __init__(self, work: Work, identifier: str) -> None:
        """Read the subscriber.

        :raise UnknownSubscriberError: there is none of this identifier
        """
        self.work = work
        self.txn = work.txn
        self.identifier = identifier
        self.key = identifier.encode()
        self._before, self.record = roster.find(work, identifier)
        self.db = work.handle(format.subscriber_db(self.key))

    def save(self) -> None:
        """Write the subscriber back if it has changed."""
        stored = format.encode(self.record)
        if stored != self._before:
            roster.store(self.work, self.identifier, self.key, stored, self.record)

    # -- records -----------------------------------------------------------------------------------

    def get(self, kind: bytes, message_id: int) -> Hold | None:
        """Return a record of the subscriber's queue."""
        record = self.txn.get(kind + pack_id(message_id), None, self.db)
        return None if record is None else format.decode_hold(record)

    def _put(self, kind: bytes, message_id: int, hold: Hold) -> None:
        self.txn.put(kind + pack_id(message_id), format.encode(hold), db=self.db)

    def _delete(self, key: bytes) -> bool:
        return bool(self.txn.delete(key, db=self.db))

    def each(self, kind: bytes, start: int = 0) -> Iterator[tuple[int, Hold]]:
        """Walk over records by ascending id; what is returned may be removed meanwhile."""
        cursor = self.txn.cursor(db=self.db)
        there = cursor.set_range(kind + pack_id(start))
        while there:
            key = bytes(cursor.key())
            if key[:1] != kind:
                return
            message_id = unpack_id(key, 1)
            yield message_id, format.decode_hold(cursor.value())
            there = cursor.set_range(kind + pack_id(message_id + 1))

    def ids(self, kind: bytes) -> Iterator[int]:
        """Walk over the ids of records that hold nothing but their key, or whose value is not wanted."""
        cursor = self.txn.cursor(db=self.db)
        there = cursor.set_range(kind + pack_id(0))
        while there:
            key = bytes(cursor.key())
            if key[:1] != kind:
                return
            message_id = unpack_id(key, 1)
            yield message_id
            there = cursor.set_range(kind + pack_id(message_id + 1))

    # -- the message behind a record -----------------------------------------------------------------

    def message(self, message_id: int, hold: Hold | None) -> tuple[memoryview, memoryview] | None:
        """Return metadata and payload of a message, ``None`` if limits took it."""
        key = pack_id(message_id)
        if hold is not None and hold.own_copy:
            meta = self.txn.get(REQUEUED + key, db=self.db)
            data = self.txn.get(OWN_DATA + key, db=self.db)
        else:
            meta = living.meta(self.work, message_id)
            data = self.txn.get(key, db=self.work.data)
        return None if meta is None or data is None else (meta, data)

    def exists(self, message_id: int, hold: Hold) -> bool:
        """Tell whether a message that is held is still there."""
        return hold.own_copy or living.meta(self.work, message_id) is not None

    # -- moving between the three ----------------------------------------------------------------------

    def lease(self, message_id: int, hold: Hold) -> None:
        """Record that a message is taken."""
        self.lease_all(((message_id, hold),))

    def lease_all(self, holds: Sequence[tuple[int, Hold]]) -> None:
        """Record that messages are taken."""
        record, encode = self.record, format.encode
        put_all(self.txn, self.db, [(LEASED + pack_id(message_id), encode(hold)) for message_id, hold in holds])
        record.leased += len(holds)
        shared = []
        for message_id, hold in holds:
            if hold.deadline_ns:
                self.txn.put(ENDING + pack_id(hold.deadline_ns) + pack_id(message_id), b"", db=self.db)
                record.bounded += 1
            if hold.top:
                record.top += 1
            elif not hold.own_copy:
                shared.append(message_id)
        prune.hold(self.work, shared)

    # What forgets tells whether the message was still there; with ``keep`` it is held again at once, so it is.

    def unlease(self, message_id: int, hold: Hold, *, keep: bool = False) -> bool:
        """Forget that a message is taken; without ``keep`` it may be deleted with that."""
        self._delete(LEASED + pack_id(message_id))
        record = self.record
        record.leased -= 1
        if hold.deadline_ns:
            self._delete(ENDING + pack_id(hold.deadline_ns) + pack_id(message_id))
            record.bounded -= 1
        if hold.top:
            record.top -= 1
            return keep or self.exists(message_id, hold)
        return self._let_go(message_id, hold, keep)

    def make_ready(self, message_id: int, hold: Hold) -> None:
        """Record that a message is to be delivered next."""
        self._put(READY, message_id, hold)
        self.record.ready += 1
        if not hold.own_copy:
            prune.hold(self.work, (message_id,))

    def unready(self, message_id: int, hold: Hold, *, keep: bool = False) -> bool:
        """Forget that a message is ready."""
        self._delete(READY + pack_id(message_id))
        self.record.ready -= 1
        return self._let_go(message_id, hold, keep)

    def delay(self, message_id: int, hold: Hold) -> None:
        """Record that a message is set aside until ``hold.due_ns``."""
        self._put(DELAYED, message_id, hold)
        self.txn.put(DUE + pack_id(hold.due_ns) + pack_id(message_id), b"", db=self.db)
        self.record.delayed += 1
        if not hold.own_copy:
            prune.hold(self.work, (message_id,))

    def undelay(self, message_id: int, hold: Hold, *, keep: bool = False) -> bool:
        """Forget that a message is set aside."""
        self._delete(DELAYED + pack_id(message_id))
        self._delete(DUE + pack_id(hold.due_ns) + pack_id(message_id))
        self.record.delayed -= 1
        return self._let_go(message_id, hold, keep)

    def _let_go(self, message_id: int, hold: Hold, keep: bool) -> bool:
        if hold.own_copy:
            if not keep:
                self._delete(REQUEUED + pack_id(message_id))
                self._delete(OWN_DATA + pack_id(message_id))
        elif keep:
            # It is held again within this transaction: it must not vanish in between.
            prune.add(self.work, format.HOLDERS, message_id, -1)
        else:
            return prune.let_go(self.work, message_id)
        return True

    # -- what has become due -----------------------------------------------------------------------------

    def due(self) -> list[int]:
        """Return delayed messages that are due, a bounded number of them."""
        return self._indexed(DUE, self.work.now_ns)

    def ended(self) -> list[int]:
        """Return messages whose bounded lease has ended, a bounded number of them."""
        return self._indexed(ENDING, self.work.boot_ns)

    def _indexed(self, kind: bytes, until: int) -> list[int]:
        found: list[int] = []
        cursor = self.txn.cursor(db=self.db)
        there = cursor.set_range(kind)
        while there and len(found) < _BATCH:
            key = bytes(cursor.key())
            if key[:1] != kind or unpack_id(key, 1) > until:
                break
            found.append(unpack_id(key, 9))
            there = cursor.next()
        return found

    def owners(self) -> list[int]:
        """Return the owners that have taken messages from this subscriber."""
        return list(self.ids(OWNER))

    def drop_all(self) -> None:
        """Forget leases, given-back and delayed messages, and what was settled ahead."""
        for kind, drop in ((LEASED, self.unlease), (READY, self.unready), (DELAYED, self.undelay)):
            for message_id, hold in list(self.each(kind)):
                self.record.lost += not drop(message_id, hold)
        for message_id in list(self.ids(AHEAD)):
            self._delete(AHEAD + pack_id(message_id))
        self.record.ahead = 0

    def forget_owner(self, owner: int) -> None:
        """Forget an owner that is gone."""
        self._delete(OWNER + pack_id(owner))

    # -- the position --------------------------------------------------------------------------------------

    def move_to(self, position: int) -> None:
        """Move the position; what it passes and nobody holds may be deleted."""
        old = self.record.position
        if position != old:
            self.record.position = position
            prune.move_position(self.work, old, position)

    def skip_ahead(self, message_id: int) -> bool:
        """Tell whether a message was settled ahead of the position, and forget that it was."""
        if self.record.ahead and self._delete(AHEAD + pack_id(message_id)):
            self.record.ahead -= 1
            return True
        return False

    def has_ahead(self, message_id: int) -> bool:
        """Tell whether a message was settled ahead of the position."""
        return bool(self.record.ahead) and self.txn.get(AHEAD + pack_id(message_id), db=self.db) is not None

    def settle_ahead(self, message_id: int) -> None:
        """Remember that a message ahead of the position does not wait any more: the position is to pass it."""
        self.txn.put(AHEAD + pack_id(message_id), b"", db=self.db)
        self.record.ahead += 1
        self.work.touched = True
        position = self.record.position
        for _ in range(_BATCH):
            if not self.skip_ahead(position):
                break
            position += 1
        if position != self.record.position:
            self.move_to(position)
            prune.sweep(self.work)

    def is_dead(self, message_id: int) -> bool:
        """Tell whether a message stands among the dead letters."""
        return self.txn.get(DEAD + pack_id(message_id), db=self.db) is not None
