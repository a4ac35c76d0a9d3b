"""The one module that begins LMDB transactions.

It shares the environment among all who use the queue in this process, lets nobody hold a transaction while the map
grows or the process forks, and watches that the files and the disk are what they were.
"""

from __future__ import annotations

import errno
import os
import pathlib
import time
from collections.abc import Callable
from typing import TypeAlias

import lmdb
import msgspec

from persipubsub.engine.clock import Clock
from persipubsub.engine.events import Event
from persipubsub.engine.local import board, doubt, files, format, locks, posts
from persipubsub.engine.local.bells import Bells
from persipubsub.engine.local.board import Board, Slots
from persipubsub.engine.local.mapped import FIRST_MAX_DBS, MAX_READERS, Mapped
from persipubsub.engine.local.naming import GLANCE, Names
from persipubsub.engine.local.owners import Owners
from persipubsub.engine.local.posts import Posts
from persipubsub.engine.local.reading import Reader
from persipubsub.engine.local.space import FULL
from persipubsub.engine.local.translate import translate
from persipubsub.engine.local.work import read_settings
from persipubsub.engine.local.writing import Writer
from persipubsub.errors import (
    ClosedError,
    FormatVersionError,
    NotAQueueError,
    PersipubsubError,
    QueueBusyError,
    StorageFailedError,
)
from persipubsub.limits import Durability, Settings

#: Seconds that a fork waits for the transactions of this process, and as long for who keeps its writers out.
FORK_PATIENCE = 5.0

Transaction: TypeAlias = "lmdb.Transaction[memoryview]"


class Store(Mapped):
    """One ``lmdb.Environment``, shared by every object of this process that uses the queue."""

    def __init__(
        self,
        path: pathlib.Path,
        durability: Durability,
        map_size: int | None,
        clock: Clock,
        enter: Callable[[Store], None] | None = None,
    ) -> None:
        """Open the environment; nothing is written.

        :param enter: announces the user of the queue, before LMDB sees any file: whoever is alone with the queue
            then may exchange the data file
        :raise PersipubsubError: LMDB refuses
        """
        super().__init__(path, durability)
        self.clock = clock
        self.users = 0
        self._settings: Settings | None = None
        self.settings_version = -1
        #: Bytes of the largest payload, as this process has last read it.
        self.largest_known = 0
        self._closed = False
        self.reader = Reader(self)
        self.read = self.reader.read
        self.view = self.reader.view
        self._names = Names(path)
        self.locks = locks.ByteLocks(files.open_own(path / files.LOCKS, os.O_RDWR))
        self.board = Board(files.map_own(path / files.BOARD, board.SIZE))
        self.posts = Posts(files.map_own(path / files.POSTS, posts.SIZE))
        self.writer = Writer(self)
        self.write = self.writer.write
        self.owners = Owners(self.locks)
        self.is_alive = self.owners.is_alive
        self._last_second = 0
        #: How many places of dead readers were swept when it was opened.
        self.swept_readers = 0
        self.progress_slots = Slots(self.locks, locks.PROGRESS)
        self.bells = Bells(path / files.BELLS, self.board, Slots(self.locks, locks.BELLS))
        try:
            if enter is not None:
                enter(self)
            self._open_environment(map_size or 0, writable_map=durability is Durability.PROCESS)
            self._names.learn()
        except BaseException:
            self._drop_descriptors()
            raise

    # -- opening -----------------------------------------------------------------------------------

    def identify(self) -> None:
        """Make sure that this is a queue, in a format that is known here.

        :raise NotAQueueError: it is something else
        :raise FormatVersionError: it was written by a newer version
        """
        try:
            with self.reader.bare() as txn:
                queue = self.env.open_db(format.QUEUE_DB, txn, create=False)
                magic, version = msgspec.msgpack.decode(txn.get(format.KEY_FORMAT, b"", queue), type=tuple[str, int])
                # Whatever else opening does shall wait for a writer as long as this queue says.
                timeout = txn.get(format.SETTING_PREFIX + b"lock_timeout", None, queue)
                if timeout is not None:
                    self.lock_timeout = msgspec.msgpack.decode(timeout, type=float)
        except lmdb.NotFoundError:
            magic, version = "", 0
        except lmdb.Error as error:
            raise translate(error, self.path) from error
        except msgspec.MsgspecError:
            magic, version = "", 0
        if magic != format.MAGIC:
            raise NotAQueueError(f"{self.path} is an LMDB environment, but not a queue of persipubsub; left untouched.")
        if version > format.FORMAT_VERSION:
            raise FormatVersionError(
                f"Queue {self.path} has format {version}, this version of persipubsub knows formats up to "
                f"{format.FORMAT_VERSION}: upgrade persipubsub; the queue was left untouched."
            )

    def reopen(self, durability: Durability) -> None:
        """Open the environment with the flags of a durability.

        The caller holds the write lock, and keeps all transactions away.

        :raise StorageError: what was written cannot be synced
        """
        try:
            self.env.sync(True)
        except lmdb.Error as error:
            raise self.fail(error) from error
        self._reopen(durability=durability)

    def exchange_data(self, fresh: pathlib.Path) -> None:
        """Put another data file with the same records in the place of the queue's, and open that.

        The caller holds the write lock, keeps all transactions away, and nobody else has the queue open.
        """
        map_size = self.env.info()["map_size"]
        self.env.close()
        try:
            os.replace(fresh, self.path / files.DATA)
            files.sync_folder(self.path)
        finally:
            os.close(self._data)
            self._data = -1
            self._open_environment(map_size, writable_map=self._writable_map)
            self._names.learn()

    def close(self, last: Callable[[], None] | None = None) -> None:
        """Close the environment; idempotent.

        :param last: called once everything is synced, before the locks of this process are dropped
        :raise QueueBusyError: this process still reads a view; nothing was closed
        :raise StorageError: what was written cannot be synced; all the same it is closed
        """
        with self.writer.turn, self.gate.alone(self.lock_timeout) as granted:
            if self._closed:
                return
            if not granted:
                raise QueueBusyError(
                    f"Queue {self.path}: it cannot be closed inside a receive_view block, or while another thread "
                    "is in one; leave the block first."
                )
            self._closed = True
            self._syncer.close()
            try:
                if self._failure is None:
                    if self.durability is Durability.PROCESS:
                        self.env.sync(True)
                    if last is not None:
                        last()
            except lmdb.Error as error:
                raise self.fail(error) from error
            finally:
                self.env.close()
                self._drop_descriptors()

    def abandon(self) -> None:
        """Stop using everything in a forked child, where it all belongs to the parent."""
        self._closed = True
        self.gate.abandon()
        self.bells.abandon()
        self._close_files()

    def let_go(self) -> None:
        """Forget the abandoned environment, so that the child can open it anew.

        Closing it would end the parent's read transactions; dropping the last reference does not, but
        unmaps the memory. So this waits until the child uses the queue: a view that it inherited stays
        readable until then, and says that it was released afterwards.

        :raise QueueBusyError: something made from a view still looks at the memory
        """
        if not self.reader.abandon():
            raise QueueBusyError(
                f"Queue {self.path}: this forked child still uses an array made from a view of its parent; "
                "delete it before using the queue."
            )
        self.recent = None
        # Not deleted: after an interrupt this is called once more.
        self.handles = self.env = None  # type: ignore[assignment]  # nobody uses the store again

    def before_fork(self) -> Callable[[], None]:
        """Let no transaction be under way at the moment of a fork, if it can be had; returns what ends that."""
        try:
            writing = self.writer.turn.acquire(timeout=FORK_PATIENCE)
        except QueueBusyError:
            writing = False  # a signal handler forks, in the middle of a call of this very thread
        held = self.gate.hold(FORK_PATIENCE)

        def after() -> None:
            if held:
                self.gate.release()
            if writing:
                self.writer.turn.release()

        return after

    def _drop_descriptors(self) -> None:
        self.bells.close()
        self._close_files()

    def _close_files(self) -> None:
        self.board.close()
        self.posts.close()
        if self._data >= 0:
            os.close(self._data)
        self._names.close()
        self.locks.close()

    def once_a_second(self) -> bool:
        """Tell whether a second has passed since this last told so."""
        now = time.monotonic_ns() // 1_000_000_000
        passed = now != self._last_second
        self._last_second = now
        return passed

    def settings_of(self, version: int, txn: Transaction) -> Settings:
        """Return the settings, read again if ``version`` is not the one known here."""
        if self._settings is None or version != self.settings_version:
            self._settings = read_settings(txn, self.handles[format.QUEUE_DB])
            self.settings_version = version
            self.lock_timeout = self._settings.lock_timeout
            self.largest_known = self._settings.max_message_bytes
        return self._settings

    def largest_payload(self) -> int:
        """Return how many bytes the largest payload may have by now; read without the write lock."""
        with self.read() as txn:
            self.largest_known = read_settings(txn, self.handles[format.QUEUE_DB]).max_message_bytes
        return self.largest_known

    # -- transactions ------------------------------------------------------------------------------

    def begin_reading(self) -> Transaction:
        """Begin a read transaction; the caller is inside the gate."""
        return self.env.begin(None, None, False, True)

    def begin_writing(self) -> Transaction:
        """Begin a write transaction; the caller has the turn to write, and the write lock."""
        return self.env.begin(None, None, True, True)

    def explain(self, error: lmdb.Error) -> PersipubsubError:
        """Return what an error of LMDB in a write transaction means; where a sync had no room, ``is_full`` has told."""
        code = getattr(error, "code", 0)
        if isinstance(error, lmdb.PanicError):
            return self.fail(error)
        if code == errno.EIO:
            # So LMDB also calls a write that the disk took only a part of.
            return self.fail(error) if self.space.is_backed else self.space.full()
        if code in FULL and not self._revive():
            return self.fail(error)
        return translate(error, self.path)

    def is_full(self, error: lmdb.Error) -> bool:
        """Tell whether LMDB found no page to write to, in the map or on the disk; after that it can go on.

        :raise StorageFailedError: it was a sync for which there was no room; nobody is told of that twice
        """
        if isinstance(error, lmdb.MapFullError):
            return True
        code = getattr(error, "code", 0)
        if code not in FULL and (code != errno.EIO or self.space.is_backed):
            return False
        if self._sync_fails():
            raise self.fail(error) from error
        return self._revive()

    def _revive(self) -> bool:
        """Open the environment anew if LMDB has given it up: no room was left for a meta page; False if that fails."""
        try:
            with self.gate:
                self.begin_reading().abort()
        except lmdb.PanicError:
            with self.gate.alone(self.lock_timeout) as granted:
                if granted:
                    self._reopen()
                return granted
        return True

    def _sync_fails(self) -> bool:
        """Tell whether it was a sync that failed: that is told to every descriptor of the file, once."""
        try:
            os.fsync(self._data)
        except OSError:
            return True
        return False

    def fail(self, error: lmdb.Error) -> PersipubsubError:
        """Use the environment no more, for a write or a sync has failed; return the error that says so.

        The system may have dropped what could not be written and report success from now on: so what LMDB
        believes to be on the disk need not be there.
        """
        if self._failure is None:
            self._failure = str(error)
            doubt.note_failure(self.path, self._failure)
        return self._failed()

    def _failed(self) -> StorageFailedError:
        return StorageFailedError(
            errno.EIO,
            f"Queue {self.path}: the disk failed ({self._failure}), so this process does not use the queue any more. "
            "Look after the disk, then close the queue and open it again: it is checked then",
        )

    def free_bytes(self) -> int:
        """Return how many bytes of pages inside the file hold nothing."""
        with self.gate:
            txn = self.begin_reading()
            try:
                return self.space.free(self.env, txn)
            finally:
                txn.abort()

    def last_transaction(self) -> int:
        """Return the number of the last committed transaction."""
        return self.env.info()["last_txnid"]

    def _sync(self) -> None:
        with self.gate:
            if not self._closed and self._failure is None:
                try:
                    self.env.sync(True)
                except lmdb.Error as error:
                    self.fail(error)  # the next operation reports it

    def _note(self, event: Event) -> None:
        """Have something logged, once no transaction is under way."""
        self.writer.events.append(event)

    def check_files(self) -> None:
        """Make sure that the queue is open, and that its names still lead to the files that were opened.

        :raise ClosedError: the queue was closed
        :raise StorageFailedError: the disk failed before
        :raise QueueReplacedError: the files were deleted or exchanged
        :raise QueuePermissionError: the folder may not be searched any more
        """
        if self._closed:
            raise ClosedError(f"Queue {self.path} was closed by this process.")
        if self._failure is not None:
            raise self._failed()
        names = self._names
        now = time.monotonic()
        if os.fstat(names.folder).st_ctime_ns != names.changed or now - names.seen > GLANCE:
            names.look(now)


def write_new(path: pathlib.Path, map_size: int, records: dict[bytes, bytes]) -> None:
    """Create the environment of a new queue in an empty folder, with records in its ``queue_db``; synced."""
    try:
        env = lmdb.open(
            str(path),
            map_size=map_size,
            max_dbs=FIRST_MAX_DBS,
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
