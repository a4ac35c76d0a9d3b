"""The LMDB environment of a queue in this process: opened with the queue's flags, and its map, which grows."""

from __future__ import annotations

import abc
import errno
import os
import pathlib

import lmdb

from persipubsub.engine import events
from persipubsub.engine.local import files, filesystem, format
from persipubsub.engine.local.gate import Gate
from persipubsub.engine.local.space import Space
from persipubsub.engine.local.syncing import Syncer
from persipubsub.engine.local.translate import translate
from persipubsub.engine.local.work import Handles, Work
from persipubsub.errors import PersipubsubError, QueueBusyError, StorageFullError
from persipubsub.limits import Durability

#: LMDB's reader table: a slot for every transaction that reads at the same moment, in all processes.
MAX_READERS = 2048
FIRST_MAX_DBS = 64
_LARGEST_MAP_STEP = 16 << 30
#: How often one tries to open a map that others grow meanwhile.
_MOST_OPENINGS = 20


class Mapped(abc.ABC):
    """The environment and its map. Who changes either keeps the transactions of this process out meanwhile."""

    def __init__(self, path: pathlib.Path, durability: Durability) -> None:
        """Open nothing yet."""
        self.path = path
        self.durability = durability
        self.lock_timeout = 30.0
        self.gate = Gate()
        self._max_dbs = FIRST_MAX_DBS
        self._data = -1
        #: What the disk said when it failed.
        self._failure: str | None = None
        #: The last write transaction that this process has committed.
        self.recent: Work | None = None
        #: The last page of the file when it was looked at.
        self._last_page = 0
        self._syncer = Syncer(self._sync)
        #: What is asked to sync after each commit, if the commit itself does not.
        self.syncer: Syncer | None = None

    @abc.abstractmethod
    def free_bytes(self) -> int:
        """Return how many bytes of pages inside the file hold nothing."""

    @abc.abstractmethod
    def _sync(self) -> None:
        """Sync what was committed, without raising."""

    @abc.abstractmethod
    def _note(self, event: events.Event) -> None:
        """Have something logged, once no transaction is under way."""

    def _open_environment(self, map_size: int, *, writable_map: bool) -> None:
        """Open with the flags of the durability; with a writable map the caller holds the write lock.

        :param map_size: at least so large; 0: as large as the file says
        """
        self._writable_map = writable_map
        if self._data < 0:
            self._data = files.open_own(self.path / files.DATA, os.O_RDWR)
        openings = 0
        while True:
            openings += 1
            try:
                self.env = lmdb.open(
                    str(self.path),
                    map_size=max(map_size, self._least_map_size()),
                    create=False,
                    max_dbs=self._max_dbs,
                    max_readers=MAX_READERS,
                    sync=self.durability is not Durability.PROCESS,
                    metasync=self.durability is Durability.FULL,
                    writemap=writable_map,
                    readahead=False,
                    mode=0o600,
                    max_spare_txns=0,  # a forked child that lets go of spare ones would end the parent's
                )
                break
            except lmdb.Error as error:
                # It may have grown while it was being opened.
                if not isinstance(error, lmdb.MapResizedError) or openings == _MOST_OPENINGS:
                    raise translate(error, self.path) from error
        files.keep_from_children(self._data)  # LMDB lets programs that this one runs have it
        self.handles = Handles(self.env)
        self.recent = None
        self.space = Space(self.path, self._data, self.env.stat()["psize"], writable_map=writable_map)

    def free_own_slots(self) -> None:
        """Free the reader slots of a dead process whose id this one was given; nothing here reads yet.

        LMDB takes them for ours, so nobody else frees them, and they would keep old pages from being used
        again as long as this process lives. Closing the environment frees them.
        """
        mine = str(os.getpid())
        if any(line.split()[:1] == [mine] for line in self.env.readers().splitlines()):
            self._reopen()

    def _reopen(
        self, *, durability: Durability | None = None, max_dbs: int | None = None, writable_map: bool | None = None
    ) -> None:
        """Close and open the environment; the caller has made sure that no transaction is alive."""
        if durability is not None:
            self.durability = durability
            # Where allocated space is no promise, a store into the map could be a SIGBUS on a full disk.
            writable_map = durability is Durability.PROCESS and filesystem.keeps_allocations(self.path)
            self.syncer = self._syncer if durability is Durability.PROCESS else None
        self._max_dbs = max_dbs or self._max_dbs
        map_size = self.env.info()["map_size"]
        self.env.close()
        try:
            self._open_environment(map_size, writable_map=self._writable_map if writable_map is None else writable_map)
        except PersipubsubError as error:
            self._failure = str(error)
            raise

    def reserve(self, payload: int, makes_room: bool) -> None:
        """Make sure that the disk has room for a transaction that stores ``payload`` bytes.

        :raise StorageFullError: it has not
        """
        self._sweep_readers()
        if not makes_room and self.space.exceeds_map(self.env, payload):
            try:
                self.grow_map(payload)
            except StorageFullError:
                if self._failure is not None or self.free_bytes() < self.space.with_reserve(payload):
                    raise
        self.space.ensure(self.env, payload, self.free_bytes, makes_room=makes_room)
        if self._writable_map and not self.space.is_backed:
            # To store into a page that the disk has no room for is a SIGBUS, to write it is an error. So from
            # now on this process writes, which is slower; others may go on as they are.
            with self.gate.alone(self.lock_timeout) as granted:
                if not granted:
                    raise self.space.full()
                self._reopen(writable_map=False)
            self.space.is_backed = False

    def has_room(self, transaction: int, payload: int, makes_room: bool) -> bool:
        """Tell whether a transaction that has begun has its pages, though others may have written since the last one.

        False also where pages were added: then ``reserve`` looks for dead readers, between transactions.
        """
        last_page = self.env.info()["last_pgno"]
        return last_page <= self._last_page and self.space.covers_from(last_page, transaction, payload, makes_room)

    def _sweep_readers(self) -> None:
        """Free the places of dead readers if pages were added: for the sake of those, old ones are not used again."""
        last_page = self.env.info()["last_pgno"]
        if last_page > self._last_page:
            self._last_page = last_page
            self.env.reader_check()

    def follow_map(self) -> None:
        """Adopt the size that another process gave the map; the caller holds the write lock."""
        with self.gate.alone(self.lock_timeout) as granted:
            if not granted:
                raise QueueBusyError(
                    f"Queue {self.path}: the map has grown, but this process cannot follow while it reads "
                    "(a receive_view block, a backup); leave the block first."
                )
            self._set_map_size(self._least_map_size(), os.fstat(self._data).st_size)

    def _least_map_size(self) -> int:
        """Return the size that a map must have at least; 0 stands for what the file says.

        LMDB cuts the file to the length of a writable map. It must never cut what another process has
        mapped, so the file is the measure; its length changes under the write lock only.
        """
        return -(-os.fstat(self._data).st_size // 4096) * 4096 if self._writable_map else 0

    def grow_map(self, payload: int) -> None:
        """Give the map more address space; the caller holds the write lock."""
        size = max(self.env.info()["map_size"], self._least_map_size())
        step = max(min(size, _LARGEST_MAP_STEP), 2 * payload + (1 << 20))
        with self.gate.alone(self.lock_timeout) as granted:
            if not granted:
                raise QueueBusyError(
                    f"Queue {self.path}: the map is full and cannot grow while this process reads "
                    "(a receive_view block, a backup); leave the block first, or deploy with a larger map_size."
                )
            before, size = size, -(-(size + step) // 4096) * 4096
            length = os.fstat(self._data).st_size
            self.space.lengthen(size)
            self._set_map_size(size, length)
        self._note(events.grew(before, size))

    def renew_handles(self, error: lmdb.Error) -> None:
        """Forget all handles: that of a sub-database which another process deleted does not even create it anew."""
        with self.gate.alone(self.lock_timeout) as granted:
            if not granted:
                raise QueueBusyError(
                    f"Queue {self.path}: another process has removed a subscriber, which this one cannot follow while "
                    "it reads (a receive_view block, a backup); leave the block first."
                ) from error
            self._reopen()

    def _set_map_size(self, size: int, length: int) -> None:
        """Move the map; the file was ``length`` bytes long before."""
        before = self.env.info()["map_size"]
        try:
            self.env.set_mapsize(size)
        except lmdb.Error as error:
            # LMDB is left without a map, and would look for it.
            self._failure = str(error)
            if getattr(error, "code", 0) == errno.ENOMEM:
                self.env.close()
                if self._writable_map:
                    os.ftruncate(self._data, length)  # nobody else has mapped more: that needs the write lock
                self._open_environment(before, writable_map=self._writable_map)
                self._failure = None
            raise translate(error, self.path) from error

    def raise_max_dbs(self, error: lmdb.Error) -> None:
        """Make room for the handles of more subscribers."""
        with self.gate.alone(self.lock_timeout) as granted:
            if not granted:
                raise QueueBusyError(
                    f"Queue {self.path}: this process can use no more than {self._max_dbs - len(format.FIXED_DBS)} "
                    "subscribers while it reads (a receive_view block, a backup); leave the block first."
                ) from error
            self._reopen(max_dbs=self._max_dbs * 4)
