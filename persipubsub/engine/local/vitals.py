"""What a doctor looks at inside an open queue, besides its statistics."""

import os
import re

import lmdb
import msgspec

from persipubsub.engine.local import format, look, roster
from persipubsub.engine.local.format import LEASED
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.mapped import MAX_READERS
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.work import Work

_READER = re.compile(r"^\s*(\d+)\s+[0-9a-f]+\s+(\d+|-)\s*$", re.MULTILINE)


def library_versions() -> tuple[str, tuple[int, int, int]]:
    """Return the versions of py-lmdb and of the LMDB in it."""
    return lmdb.__version__, lmdb.version()


class ReaderSlot(msgspec.Struct, frozen=True):
    """A process that reads at this moment, and how many transactions its snapshot is behind."""

    pid: int
    behind: int


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of an open queue.

    :param used_bytes: of the data file, up to its last page in use
    :param free_bytes: of these, in pages that hold nothing
    :param stale_leases: by subscriber, how many messages are held by owners that are gone
    """

    format_version: int
    map_bytes: int
    used_bytes: int
    free_bytes: int
    readers: tuple[ReaderSlot, ...]
    reader_slots: int
    stale_readers: int
    stale_leases: dict[str, int]


def look_at(store: Store) -> Vitals:
    """Look at an open queue; readers that died are swept, here or when it was opened, and counted."""
    stale, store.swept_readers = store.swept_readers + store.env.reader_check(), 0
    info = store.env.info()
    names = look.subscriber_dbs(store)
    stale_leases: dict[str, int] = {}
    with store.read(*names) as txn:
        work = Work(store, txn)
        for identifier in roster.names(work):
            if format.subscriber_db(identifier.encode()) not in names:
                continue
            dead = sum(not store.is_alive(hold.owner) for _, hold in Desk(work, identifier).each(LEASED))
            if dead:
                stale_leases[identifier] = dead
    return Vitals(
        format_version=format.FORMAT_VERSION,
        map_bytes=info["map_size"],
        used_bytes=(info["last_pgno"] + 1) * store.env.stat()["psize"],
        free_bytes=store.free_bytes(),
        readers=_readers(store, info["last_txnid"]),
        reader_slots=MAX_READERS,
        stale_readers=stale,
        stale_leases=stale_leases,
    )


def _readers(store: Store, last: int) -> tuple[ReaderSlot, ...]:
    return tuple(
        ReaderSlot(int(pid), last - int(transaction))
        for pid, transaction in _READER.findall(store.env.readers())
        if transaction != "-" and int(pid) != os.getpid()
    )
