"""One write transaction, as the modules over it see it: handles, the state record, settings, the clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import lmdb
import msgspec

from persipubsub.engine.events import Event
from persipubsub.engine.local import format
from persipubsub.engine.local.board import FOR_MESSAGES, FOR_ROOM
from persipubsub.errors import QueueDamagedError
from persipubsub.limits import Settings, Strategy

if TYPE_CHECKING:
    from persipubsub.engine.local.store import Store, Transaction

Database = Any  # lmdb._Database, which py-lmdb keeps private

#: From so many on it is faster to put records by one call.
_MANY = 8


class Handles:
    """Open sub-databases of one environment; opened once, under the write lock."""

    def __init__(self, env: lmdb.Environment) -> None:
        """Start with none."""
        self._env = env
        self._open: dict[bytes, Database] = {}
        self._opened: list[bytes] = []
        self._fixed: tuple[Database, ...] | None = None

    def have(self, names: Iterable[bytes]) -> bool:
        """Tell whether all of ``names`` are open for any transaction that begins now.

        What a write transaction under way has opened is valid nowhere else before its commit.
        """
        opened = self._opened
        return all(name in self._open and name not in opened for name in names)

    def opened_in(self, txn: object) -> list[bytes]:
        """Return the (growing) list of what the write transaction that begins opens; it may be aborted."""
        if self._opened:
            self._opened = []
        return self._opened

    def fixed(self, txn: Transaction) -> tuple[Database, ...]:
        """Return the handles of the sub-databases that are always there, in the order of ``format.FIXED_DBS``.

        Those that are not open yet are opened, which takes a write transaction.
        """
        if self._fixed is not None:
            return self._fixed
        handles = tuple([self.open(name, txn) for name in format.FIXED_DBS])
        if self.have(format.FIXED_DBS):
            self._fixed = handles
        return handles

    def __getitem__(self, name: bytes) -> Database:
        """Return the handle of a sub-database that is open."""
        return self._open[name]

    def open(self, name: bytes, txn: Transaction, *, create: bool = False) -> Database:
        """Return the handle of a sub-database, opening it in a write transaction.

        :raise lmdb.NotFoundError: it does not exist
        """
        handle = self._open.get(name)
        if handle is None:
            handle = self._open[name] = self._env.open_db(name, txn, False, False, create)
            self._opened.append(name)
        return handle

    def forget(self, names: Iterable[bytes]) -> None:
        """Drop handles whose transaction was aborted, or whose sub-database was deleted."""
        for name in names:
            self._open.pop(name, None)


class Work:
    """A write transaction under way.

    ``state`` is read at the beginning and written at the end. ``now_ns`` is the wall clock, but never
    before the last message: times do not go backwards along the ids, whatever the clock does.
    """

    __slots__ = (
        "_before",
        "blocks",
        "data",
        "deduplication",
        "events",
        "gone",
        "known",
        "meta",
        "now_ns",
        "number",
        "pending",
        "queue",
        "rings",
        "settings",
        "state",
        "store",
        "subscribers",
        "touched",
        "txn",
    )

    def __init__(self, store: Store, txn: Transaction) -> None:
        """Read the state and, if they have changed, the settings."""
        self.store: Store = store
        self.txn: Transaction = txn
        #: The number of the transaction.
        self.number: int = txn.id()
        (
            self.data,
            self.meta,
            self.pending,
            self.queue,
            self.subscribers,
            self.gone,
            self.deduplication,
            self.blocks,
        ) = store.handles.fixed(txn)
        record = txn.get(format.KEY_STATE, None, self.queue)
        if record is None:
            raise QueueDamagedError(f"Queue {store.path} has no state record; restore it from a backup.")
        self._before = bytes(record)
        self.state = format.decode_state(self._before)
        self.settings = store.settings_of(self.state.settings_version, txn)
        self.now_ns = max(store.clock.wall_ns(), self.state.last_sent_ns)
        #: Records of subscribers as they are stored, and decoded.
        self.known: dict[str, tuple[bytes, format.Subscriber]] = {}
        self.rings: list[int] = []
        #: What is logged after the commit, never inside it.
        self.events: list[Event] = []
        #: Something besides the state was written.
        self.touched = False

    def go_on(self, txn: Transaction, number: int) -> None:
        """Begin the next transaction; nobody else has written since the last one, so what is known is still true."""
        self.txn = txn
        self.number = number
        state = self.state
        self.settings = self.store.settings_of(state.settings_version, txn)
        now = self.store.clock.wall_ns()
        self.now_ns = now if now > state.last_sent_ns else state.last_sent_ns
        self.touched = False
        if self.rings:
            self.rings = []
        if self.events:
            self.events = []

    @property
    def boot_ns(self) -> int:
        """Return the clock that leases end by."""
        return self.store.clock.boot_ns()

    def handle(self, name: bytes, *, create: bool = False) -> Database:
        """Return the handle of a sub-database."""
        return self.store.handles.open(name, self.txn, create=create)

    def make_ready(self, names: Iterable[bytes]) -> None:
        """Open sub-databases; one that another process has deleted meanwhile is left out."""
        for name in names:
            try:
                self.handle(name)
            except lmdb.NotFoundError:
                pass

    def can_read(self, identifier: str) -> bool:
        """Tell whether the queue of a subscriber is open: it is not if the subscriber was added a moment ago."""
        return self.store.handles.have((format.subscriber_db(identifier.encode()),))

    def ring_for_messages(self) -> None:
        """Wake waiting subscribers after the commit."""
        if FOR_MESSAGES not in self.rings:
            self.rings.append(FOR_MESSAGES)

    def ring_for_room(self) -> None:
        """Wake publishers that wait for room, after the commit."""
        if self.settings.strategy is Strategy.BLOCK and FOR_ROOM not in self.rings:
            self.rings.append(FOR_ROOM)

    def finish(self) -> bool:
        """Write the state back; return whether there is anything to commit.

        It is also written if only something else has changed: LMDB gives a number to no transaction that has
        written nothing, and by the numbers ``go_on`` is told from ``__init__``.
        """
        record = format.encode(self.state)
        if record == self._before and not self.touched:
            return False
        self.txn.put(format.KEY_STATE, record, True, True, False, self.queue)
        self._before = record
        return True


def put_all(txn: Transaction, database: Database, items: Sequence[tuple[bytes, Any]], *, append: bool = False) -> None:
    """Store records; with ``append`` their keys ascend, and are higher than all that are there."""
    if len(items) < _MANY:
        for key, value in items:
            txn.put(key, value, True, True, append, database)
    else:
        txn.cursor(database).putmulti(items, True, True, append)


def settings_records(settings: Settings) -> dict[bytes, bytes]:
    """Return the records of ``queue_db`` that hold settings, each under its own name."""
    plain = msgspec.to_builtins(settings)
    return {format.SETTING_PREFIX + name.encode(): format.encode(value) for name, value in plain.items()}


def read_settings(txn: Transaction, queue: Database) -> Settings:
    """Read the settings; what an older deployment does not know has its default."""
    found: dict[str, Any] = {}
    cursor = txn.cursor(db=queue)
    prefix = format.SETTING_PREFIX
    if cursor.set_range(prefix):
        for key, value in cursor:
            name = bytes(key)
            if not name.startswith(prefix):
                break
            found[name[len(prefix) :].decode()] = msgspec.msgpack.decode(value)
    known: Sequence[str] = Settings.__struct_fields__
    return msgspec.convert({name: value for name, value in found.items() if name in known}, Settings)
