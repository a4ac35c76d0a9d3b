"""The one module that begins LMDB transactions.

It opens the environment with the queue's flags, lets one process write at a time with a bound on
the wait, carries the operations of threads that write at once in one commit, grows the map,
translates errors, and rings bells after the commit.
"""

from __future__ import annotations

import logging
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeAlias, TypeVar

import lmdb
import msgspec

from persipubsub.engine.clock import Clock
from persipubsub.engine.local import files, format, locks
from persipubsub.engine.local.bells import Bells
from persipubsub.engine.local.board import Board, Slots
from persipubsub.engine.local.gate import Gate
from persipubsub.engine.local.owners import Owners
from persipubsub.engine.local.space import Space
from persipubsub.engine.local.translate import translate
from persipubsub.engine.local.work import Handles, Work, read_settings
from persipubsub.errors import ClosedError, FormatVersionError, NotAQueueError, QueueBusyError, QueueReplacedError
from persipubsub.limits import Durability, Settings

logger = logging.getLogger("persipubsub")

T = TypeVar("T")
Transaction: TypeAlias = "lmdb.Transaction[memoryview]"

#: LMDB's reader table: a slot for every transaction that reads at the same moment, in all processes.
MAX_READERS = 2048
_FIRST_MAX_DBS = 64
#: Address space, not memory or disk; a file with a writable map is as long as its map (but sparse).
_MAP_SIZE = 64 << 30
_WRITABLE_MAP_SIZE = 1 << 30
_LARGEST_MAP_STEP = 16 << 30
#: How often the names of the files are looked at, in seconds; whether the data file is linked, always.
_GLANCE = 0.05
#: A power cut loses at most what was committed since, with durability "process".
SYNC_INTERVAL = 1.0


class _Job(Generic[T]):
    """One operation on its way through a commit."""

    __slots__ = ("done", "error", "makes_room", "operation", "payload", "result")

    def __init__(self, operation: Callable[[Work], T], payload: int, makes_room: bool) -> None:
        self.operation = operation
        self.payload = payload
        self.makes_room = makes_room
        self.result: T | None = None
        self.error: BaseException | None = None
        self.done = False


class _View:
    """Holds the transaction of a view, so that a forked child can let go of it."""

    txn: Transaction | None = None


class Store:
    """One ``lmdb.Environment``, shared by every object of this process that uses the queue."""

    def __init__(self, path: pathlib.Path, durability: Durability, map_size: int | None, clock: Clock) -> None:
        """Open the environment; nothing is written.

        :raise PersipubsubError: LMDB refuses
        """
        self.path = path
        self.clock = clock
        self.durability = durability
        self.lock_timeout = 30.0
        self.users = 0
        self._views: set[_View] = set()
        self._settings: Settings | None = None
        self._settings_version = -1
        self._max_dbs = _FIRST_MAX_DBS
        self._closed = False
        self._gate = Gate()
        #: Held by the thread that writes; the others leave their jobs in ``_jobs`` meanwhile.
        self._writing = threading.Lock()
        self._jobs: list[_Job[Any]] = []
        self._jobs_guard = threading.Lock()
        self._sync_wanted = threading.Event()
        self._closing = threading.Event()
        self._syncer: threading.Thread | None = None
        self.locks = locks.ByteLocks(files.open_own(path / files.LOCKS, os.O_RDWR))
        descriptor = files.open_own(path / files.BOARD, os.O_RDWR)
        try:
            self.board = Board(descriptor)
        finally:
            os.close(descriptor)
        self.owners = Owners(self.locks)
        self.is_alive = self.owners.is_alive
        self._last_second = 0
        self.progress_slots = Slots(self.locks, locks.PROGRESS)
        self.bells = Bells(path / files.BELLS, self.board, Slots(self.locks, locks.BELLS))
        self._data = files.open_own(path / files.DATA, os.O_RDWR)
        self._files_seen = -_GLANCE
        try:
            self._open_environment(map_size or 0)
            there = [os.stat(path / name) for name in (files.DATA, files.LMDB_LOCK)]
            self._files = [(found.st_dev, found.st_ino) for found in there]
        except BaseException:
            self._drop_descriptors()
            raise

    # -- opening -----------------------------------------------------------------------------------

    def _open_environment(self, map_size: int) -> None:
        writable_map = self.durability is Durability.PROCESS
        try:
            self.env = lmdb.open(
                str(self.path),
                map_size=map_size,  # 0: as large as the file says
                create=False,
                max_dbs=self._max_dbs,
                max_readers=MAX_READERS,
                sync=not writable_map,
                metasync=self.durability is Durability.FULL,
                writemap=writable_map,
                readahead=False,
                mode=0o600,
                max_spare_txns=0,  # a forked child that lets go of spare ones would end the parent's
            )
        except lmdb.Error as error:
            raise translate(error, self.path) from error
        self.handles = Handles(self.env)
        self._space = Space(self.path, self._data, self.env.stat()["psize"], writable_map=writable_map)

    def identify(self) -> None:
        """Make sure that this is a queue, in a format that is known here.

        :raise NotAQueueError: it is something else
        :raise FormatVersionError: it was written by a newer version
        """
        self._lock_writer()
        try:
            with self.env.begin(write=True) as txn:
                queue = self.env.open_db(format.QUEUE_DB, txn, create=False)
                found = txn.get(format.KEY_FORMAT, db=queue)
            magic, version = msgspec.msgpack.decode(found or b"", type=tuple[str, int])
        except lmdb.NotFoundError:
            magic, version = "", 0
        except lmdb.Error as error:
            raise translate(error, self.path) from error
        except msgspec.MsgspecError:
            magic, version = "", 0
        finally:
            self.locks.unlock(locks.WRITER)
        if magic != format.MAGIC:
            raise NotAQueueError(f"{self.path} is an LMDB environment, but not a queue of persipubsub; left untouched.")
        if version > format.FORMAT_VERSION:
            raise FormatVersionError(
                f"Queue {self.path} has format {version}, this version of persipubsub knows formats up to "
                f"{format.FORMAT_VERSION}: upgrade persipubsub; the queue was left untouched."
            )

    def reopen(self, durability: Durability) -> None:
        """Open the environment with the flags of its durability, before anything was written."""
        with self._writing, self._gate.alone(self.lock_timeout):
            self._reopen(durability=durability)

    def _reopen(self, *, durability: Durability | None = None, max_dbs: int | None = None) -> None:
        """Close and open the environment; the caller has made sure that no transaction is alive."""
        self.durability = durability or self.durability
        self._max_dbs = max_dbs or self._max_dbs
        map_size = self.env.info()["map_size"]
        self.env.close()
        self._open_environment(map_size)

    def close(self) -> None:
        """Close the environment; idempotent.

        :raise QueueBusyError: this process still reads a view
        """
        with self._writing, self._gate.alone(self.lock_timeout) as granted:
            if self._closed:
                return
            if not granted:
                raise QueueBusyError(
                    f"Queue {self.path}: it cannot be closed inside a receive_view block, or while another thread "
                    "is in one; leave the block first."
                )
            self._closed = True
            self._closing.set()
            self._sync_wanted.set()
            try:
                if self.durability is Durability.PROCESS:
                    self.env.sync(True)
            except lmdb.Error as error:
                raise translate(error, self.path) from error
            finally:
                self.env.close()
                self._drop_descriptors()

    def abandon(self) -> None:
        """Let go of everything in a forked child, where it all belongs to the parent.

        Closing the environment would end the parent's read transactions. Dropping the last reference
        does not, and leaves the memory mapped: a view that the child inherited stays readable.
        """
        self._closed = True
        for view in list(self._views):
            view.txn = None
        self.handles = self.env = None  # type: ignore[assignment]
        self.bells.abandon()
        self._close_files()

    def before_fork(self) -> Callable[[], None]:
        """Let no transaction be under way at the moment of a fork; returns what ends that."""
        writing = self._writing.acquire(timeout=5.0)
        held = self._gate.hold(5.0)

        def after() -> None:
            if held:
                self._gate.release()
            if writing:
                self._writing.release()

        return after

    def _drop_descriptors(self) -> None:
        self.bells.close()
        self._close_files()

    def _close_files(self) -> None:
        self.board.close()
        os.close(self._data)
        self.locks.close()

    def once_a_second(self) -> bool:
        """Tell whether a second has passed since this last told so."""
        now = time.monotonic_ns() // 1_000_000_000
        passed = now != self._last_second
        self._last_second = now
        return passed

    def settings_of(self, version: int, txn: Transaction) -> Settings:
        """Return the settings, read again if ``version`` is not the one known here."""
        if self._settings is None or version != self._settings_version:
            self._settings = read_settings(txn, self.handles[format.QUEUE_DB])
            self._settings_version = version
            self.lock_timeout = self._settings.lock_timeout
        return self._settings

    # -- reading -----------------------------------------------------------------------------------

    @contextmanager
    def read(self, *names: bytes) -> Iterator[Transaction]:
        """Give a read transaction; the sub-databases ``names`` are made ready for it.

        Buffers that come from it die with it.
        """
        self._make_ready(names)
        self._gate.enter()
        try:
            txn = self._begin_reading()
            try:
                yield txn
            except lmdb.Error as error:
                raise translate(error, self.path) from error
            finally:
                txn.abort()
        finally:
            self._gate.leave()

    def _make_ready(self, names: tuple[bytes, ...]) -> None:
        if not self.handles.have((*format.FIXED_DBS, *names)):
            self.write(lambda work: [work.handle(name) for name in names], makes_room=True)

    @contextmanager
    def view(self, *names: bytes) -> Iterator[Transaction]:
        """Give a read transaction that lasts while the user's code runs; it ends nothing in a forked child."""
        self._make_ready(names)
        view = _View()
        with self._gate.view():
            view.txn = self._begin_reading()
            self._views.add(view)
            try:
                yield view.txn
            finally:
                self._views.discard(view)
                txn, view.txn = view.txn, None
                if txn is not None:
                    txn.abort()

    def _begin_reading(self) -> Transaction:
        for _ in range(100):
            if self._closed:
                raise ClosedError(f"Queue {self.path} was closed by this process.")
            self._check_files()
            try:
                return self.env.begin(None, None, False, True)
            except lmdb.MapResizedError:
                self._gate.leave()
                try:
                    self._follow_map()
                finally:
                    self._gate.enter()
            except lmdb.ReadersFullError as error:
                if not self.env.reader_check():
                    raise translate(error, self.path) from error
            except lmdb.Error as error:
                raise translate(error, self.path) from error
        raise QueueBusyError(f"Queue {self.path}: another process keeps growing the map; try again.")

    # -- writing -----------------------------------------------------------------------------------

    def write(
        self,
        operation: Callable[[Work], T],
        *,
        payload: int = 0,
        makes_room: bool = False,
        undo: Callable[[T], object] | None = None,
    ) -> T:
        """Run ``operation`` in a write transaction and commit it to the queue's durability.

        Operations of several threads may share a commit; each may be run several times, so it must
        keep its effects inside the transaction. ``undo`` runs if the calling thread is interrupted
        after the commit and never gets the result.

        :param payload: bytes that will be stored
        :param makes_room: the operation may use the reserve of a full disk
        :raise QueueBusyError: another process keeps the write lock for longer than ``lock_timeout``
        :raise StorageFullError: no space is left on the disk
        :raise PersipubsubError: what the operation raises; nothing of it is committed then
        """
        job = _Job(operation, payload, makes_room)
        with self._jobs_guard:
            self._jobs.append(job)
        try:
            with self._writing:
                if not job.done:
                    self._lead()
        except BaseException:
            self._withdraw(job, undo)
            raise
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]

    def _withdraw(self, job: _Job[T], undo: Callable[[T], object] | None) -> None:
        """Take back a job whose thread was interrupted, or undo it if it was committed already."""
        with self._jobs_guard:
            if job in self._jobs:
                self._jobs.remove(job)
                return
        with self._writing:  # whoever carries it is done by then
            pass
        if job.done and job.error is None and undo is not None:
            undo(job.result)  # type: ignore[arg-type]

    def write_alone(self, operation: Callable[[Work, bool], T]) -> T:
        """Run ``operation`` while no other transaction of this process lives, if that can be had.

        The second argument tells the operation whether it is so.
        """
        with self._gate.alone(1.0) as granted:
            return self.write(lambda work: operation(work, granted), makes_room=True)

    def rehearse(self, operation: Callable[[Work], T]) -> T:
        """Run ``operation`` in a write transaction that is not committed."""
        with self._writing:
            self._lock_writer()
            self._gate.enter()
            try:
                txn = self.env.begin(None, None, True, True)
                opened = self.handles.opened_in(txn)
                try:
                    return operation(Work(self, txn))
                finally:
                    txn.abort()
                    self.handles.forget(opened)
            except lmdb.Error as error:
                raise translate(error, self.path) from error
            finally:
                self._gate.leave()
                self.locks.unlock(locks.WRITER)

    def _lead(self) -> None:
        """Carry all waiting jobs through one commit."""
        if self._closed:
            raise ClosedError(f"Queue {self.path} was closed by this process.")
        with self._jobs_guard:
            jobs, self._jobs = self._jobs, []
        try:
            self._check_files()
            self._lock_writer()
            try:
                work = self._commit(jobs)
            finally:
                self.locks.unlock(locks.WRITER)
        except Exception as error:
            for job in jobs:
                if not job.done:
                    job.error, job.done = error, True
            return
        except BaseException:
            # An interrupt in this thread is not the others' affair: they try again.
            with self._jobs_guard:
                self._jobs[:0] = [job for job in jobs if not job.done]
            raise
        if work is not None:
            for kind in work.rings:
                self.bells.ring(kind)
            for line in work.logs:
                logger.log(*line)

    def _check_files(self) -> None:
        """Make sure that the files are still those that were opened.

        Writing to deleted ones would seem to succeed; and without LMDB's lock file there can be two
        writers at once.

        :raise QueueReplacedError: they were deleted or exchanged
        """
        now = time.monotonic()
        if os.fstat(self._data).st_nlink and now - self._files_seen < _GLANCE:
            return
        try:
            there = [os.stat(self.path / name) for name in (files.DATA, files.LMDB_LOCK)]
        except OSError:
            there = []
        if [(found.st_dev, found.st_ino) for found in there] != self._files:
            raise QueueReplacedError(
                f"Queue {self.path}: its files were deleted or exchanged while it was open. Close it and open it "
                "again, if it was restored or deployed anew; nothing can be read from the old files any more."
            )
        self._files_seen = now

    def _lock_writer(self) -> None:
        """Keep the other processes' writers out, waiting for at most ``lock_timeout``."""
        if self.locks.try_exclusive(locks.WRITER):
            return
        deadline = time.monotonic() + self.lock_timeout
        attempt = 0
        while not self.locks.try_exclusive(locks.WRITER):
            attempt += 1
            if attempt < 50:
                os.sched_yield()  # most transactions take microseconds
            else:
                if time.monotonic() > deadline:
                    raise QueueBusyError(
                        f"Queue {self.path}: process {self.locks.holder(locks.WRITER)} has kept the write lock for "
                        f"{self.lock_timeout:g} s; it may be stopped (SIGSTOP, debugger): continue or kill it."
                    )
                time.sleep(min(0.00005 * (attempt - 49), 0.002))

    def _commit(self, jobs: list[_Job[Any]]) -> Work | None:
        """Run jobs in one transaction, leaving out those that raise; return it, ``None`` if all did."""
        growths = 0
        while True:
            running = [job for job in jobs if job.error is None]
            work = None
            if not running:
                break
            try:
                work = self._attempt(running)
            except lmdb.MapFullError as error:
                growths += 1
                if growths > 64:
                    raise translate(error, self.path) from error
                self._grow_map(sum(job.payload for job in running))
            except lmdb.MapResizedError:
                self._follow_map()
            except lmdb.DbsFullError as error:
                self._raise_max_dbs(error)
            except lmdb.Error as error:
                raise translate(error, self.path) from error
            else:
                if work is not None:
                    break
        for job in jobs:
            job.done = True
        return work

    def _attempt(self, jobs: list[_Job[Any]]) -> Work | None:
        """Run jobs in one transaction; ``None`` if one raised, which then carries its error."""
        self._space.ensure(
            self.env, sum(job.payload for job in jobs), makes_room=all(job.makes_room for job in jobs)
        )
        self._gate.enter()
        try:
            txn = self.env.begin(None, None, True, True)
            number, opened = txn.id(), self.handles.opened_in(txn)
            try:
                work = Work(self, txn)
                for job in jobs:
                    try:
                        job.result = job.operation(work)
                    except lmdb.Error:
                        raise
                    except Exception as error:
                        job.error = error
                        return None
                if not work.finish() and not opened:
                    return work
                txn.commit()
                opened = []
            except BaseException:
                if self.env.info()["last_txnid"] >= number:
                    # Interrupted after the commit: it stands, and the callers' results with it.
                    opened = []
                    for job in jobs:
                        job.done = True
                raise
            finally:
                txn.abort()  # no effect on a committed one
                self.handles.forget(opened)
        finally:
            self._gate.leave()
        if self.durability is Durability.PROCESS:
            self._want_sync()
        return work

    # -- the map -----------------------------------------------------------------------------------

    def _follow_map(self) -> None:
        """Adopt the size that another process gave the map."""
        with self._gate.alone(self.lock_timeout) as granted:
            if not granted:
                raise QueueBusyError(
                    f"Queue {self.path}: the map has grown, but this process cannot follow while it reads "
                    "(a receive_view block, a backup); leave the block first."
                )
            self.env.set_mapsize(0)

    def _grow_map(self, payload: int) -> None:
        size = self.env.info()["map_size"]
        step = max(min(size, _LARGEST_MAP_STEP), 2 * payload + (1 << 20))
        with self._gate.alone(self.lock_timeout) as granted:
            if not granted:
                raise QueueBusyError(
                    f"Queue {self.path}: the map is full and cannot grow while this process reads "
                    "(a receive_view block, a backup); leave the block first, or deploy with a larger map_size."
                )
            self.env.set_mapsize(-(-(size + step) // 4096) * 4096)

    def _raise_max_dbs(self, error: lmdb.Error) -> None:
        with self._gate.alone(self.lock_timeout) as granted:
            if not granted or self._max_dbs > 1 << 20:
                raise translate(error, self.path) from error
            self._reopen(max_dbs=self._max_dbs * 4)

    def change_durability(self, durability: Durability, operation: Callable[[Work], None]) -> None:
        """Commit ``operation``, which stores another durability, and reopen with its flags.

        :raise QueueBusyError: another process has the queue open, or a view is being read
        """
        if not self.locks.try_exclusive(locks.USERS):
            raise QueueBusyError(
                f"Queue {self.path}: the durability can only change while nobody else has the queue open, but process "
                f"{self.locks.holder(locks.USERS)} has; nothing was changed."
            )
        try:
            with self._gate.alone(self.lock_timeout) as granted:
                if not granted:
                    raise QueueBusyError(
                        f"Queue {self.path}: the durability cannot change inside a receive_view block; nothing was changed."
                    )
                self.write(operation)
                with self._writing:
                    try:
                        self.env.sync(True)
                    except lmdb.Error as error:
                        raise translate(error, self.path) from error
                    self._reopen(durability=durability)
        finally:
            self.locks.try_shared(locks.USERS)

    # -- durability "process" ------------------------------------------------------------------------

    def _want_sync(self) -> None:
        self._sync_wanted.set()
        if self._syncer is None:
            self._syncer = threading.Thread(target=self._keep_syncing, name="persipubsub-sync", daemon=True)
            self._syncer.start()

    def _keep_syncing(self) -> None:
        while self._sync_wanted.wait() and not self._closed:
            self._sync_wanted.clear()
            self._gate.enter()
            try:
                if not self._closed:
                    self.env.sync(True)
            except lmdb.Error:
                self._sync_wanted.set()  # the next round tries again; close() reports it
            finally:
                self._gate.leave()
            self._closing.wait(SYNC_INTERVAL)


def first_map_size(durability: Durability, wanted: int | None) -> int:
    """Return the address space that a new queue starts with, in bytes."""
    if wanted is not None:
        return -(-wanted // 4096) * 4096
    return _WRITABLE_MAP_SIZE if durability is Durability.PROCESS else _MAP_SIZE


def write_new(path: pathlib.Path, map_size: int, records: dict[bytes, bytes]) -> None:
    """Create the environment of a new queue in an empty folder, with records in its ``queue_db``; synced."""
    try:
        env = lmdb.open(
            str(path),
            map_size=map_size,
            max_dbs=_FIRST_MAX_DBS,
            max_readers=MAX_READERS,
            mode=0o600,
            lib_version=0,  # the 0.9 format, whatever the environment variable says
        )
        try:
            with env.begin(write=True) as txn:
                handles = [env.open_db(name, txn=txn) for name in format.FIXED_DBS]
                queue = handles[format.FIXED_DBS.index(format.QUEUE_DB)]
                for key, value in records.items():
                    txn.put(key, value, db=queue)
            env.sync(True)
        finally:
            env.close()
    except lmdb.Error as error:
        raise translate(error, path) from error
