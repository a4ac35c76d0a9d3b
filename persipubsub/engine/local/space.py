"""Disk and address space: reserved ahead of every write, so that a full disk is an error and no signal.

With a writable map LMDB stores into mapped pages; where the disk has no room for one, the kernel
answers with SIGBUS. So the file is allocated (``posix_fallocate``) beyond its used end before each
write. Sends leave a reserve untouched, at the end or inside the file, which keeps taking,
acknowledging and pruning possible when the disk is full: deleting needs fresh pages, too.
"""

import errno
import os
import struct
import sys
from collections.abc import Callable

import lmdb

from persipubsub.engine.local.translate import READ_ONLY
from persipubsub.errors import StorageError, StorageFullError
from persipubsub.limits import Durability

#: Pages that a transaction may need besides its payload.
SLACK = 512 * 1024
#: What only operations may use that make room.
RESERVE = 3 * SLACK
_STEP = 1 << 20
_LARGEST_STEP = 64 << 20
#: From so many bytes on, the pages of what a transaction stores are brought into memory before LMDB stores into them.
LARGE = 16 * 1024
_ZEROS = bytes(_STEP)
_META_PAGES = 2
#: In LMDB's record of a sub-database: its branch, leaf and overflow pages.
_PAGES = struct.Struct("<QQQ")
_PAGES_AT = 8
#: Address space, not memory or disk; a file with a writable map is as long as its map (but sparse).
_MAP_SIZE = 64 << 30
_WRITABLE_MAP_SIZE = 1 << 30
#: What the system says when there is no room.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Space:
    """How far the data file of one environment is known to be allocated."""

    def __init__(self, path: object, descriptor: int, page_size: int, *, writable_map: bool) -> None:
        """Allocate through ``descriptor``; ``path`` is for messages."""
        self._path = path
        self._descriptor = descriptor
        self._page_size = page_size
        self._writable_map = writable_map
        self._allocated = 0
        #: Up to where pages were written, so that they are in memory.
        self._touched = 0 if writable_map else sys.maxsize
        #: Where the used pages end at most, if the next transaction has this number.
        self._end, self._next = 0, -1
        #: Whether the pages of the next transaction are known to be allocated.
        self.is_backed = True

    def covers(self, transaction: int, payload: int, makes_room: bool) -> bool:
        """Tell whether it is known, without asking, that a transaction storing ``payload`` bytes has its pages.

        :param transaction: its number: if others have written since the last one, nothing is known
        """
        end = self._end + _size(payload)
        if transaction != self._next or end + (0 if makes_room else RESERVE) > self._allocated or not self.is_backed:
            return False
        self._end, self._next = end, transaction + 1
        return True

    def covers_from(self, last_page: int, transaction: int, payload: int, makes_room: bool) -> bool:
        """Tell the same of a transaction that begins where ``last_page`` is the last page in use."""
        self._end, self._next = (last_page + 1) * self._page_size, transaction
        return self.covers(transaction, payload, makes_room)

    def ensure(self, env: lmdb.Environment, payload: int, free_bytes: Callable[[], int], *, makes_room: bool) -> None:
        """Make sure that a transaction storing ``payload`` bytes finds its pages allocated, or at least free ones.

        Called under the write lock, before the transaction; ``is_backed`` tells which of the two.

        :param free_bytes: tells what is free inside the file; it is called only if the disk is full
        :raise StorageFullError: the disk has no room for it
        """
        info = env.info()
        end = (info["last_pgno"] + 1) * self._page_size
        size = _size(payload)
        need = self._need(env, payload, makes_room=makes_room)
        self.is_backed = True
        self._end, self._next = end + size, info["last_txnid"] + 2
        if need <= self._allocated:
            return
        ahead = need + min(max(self._allocated, _STEP), _LARGEST_STEP)
        # Beyond a writable map there is no file; when that map is full, LMDB says so and it grows.
        most = max(info["map_size"], end) if self._writable_map else ahead
        if self._allocate(end, min(ahead, most)) or self._allocate(end, min(need, most)):
            return
        # The disk is full, but deleted messages may have left room inside the file. LMDB uses it if it finds
        # enough pages side by side there, and goes beyond the end if not.
        self.is_backed = self._allocate(end, min(end + size, most))
        if not makes_room and free_bytes() < self.with_reserve(payload):
            raise self.full()

    def exceeds_map(self, env: lmdb.Environment, payload: int) -> bool:
        """Tell whether a send of ``payload`` bytes would touch the reserve at the end of a writable map.

        Such a map grows by a longer file, which may be refused; what is beyond another map is only address space.
        """
        return self._writable_map and self._need(env, payload, makes_room=False) > env.info()["map_size"]

    def _need(self, env: lmdb.Environment, payload: int, *, makes_room: bool) -> int:
        """Return up to where the file is needed by a transaction that stores ``payload`` bytes."""
        end = (env.info()["last_pgno"] + 1) * self._page_size
        return end + _size(payload) + (0 if makes_room else RESERVE)

    @staticmethod
    def with_reserve(payload: int) -> int:
        """Return how much must be free for a send of ``payload`` bytes to leave the reserve alone."""
        return _size(payload) + RESERVE

    def full(self) -> StorageFullError:
        """Return the error that says so."""
        return StorageFullError(
            errno.ENOSPC,
            f"Queue {self._path}: the disk is full, nothing was stored; reading and acknowledging go on. "
            "Make room on the disk and try again",
        )

    def _refused(self, error: OSError) -> StorageError | StorageFullError:
        if error.errno in FULL:
            return self.full()
        what = READ_ONLY if error.errno == errno.EROFS else "no space can be reserved ({error}); nothing was stored"
        return StorageError(error.errno, f"Queue {self._path}: {what.format(error=error)}")

    def lengthen(self, map_size: int) -> None:
        """Make the file as long as a writable map is going to be, without allocating anything.

        LMDB does so itself, but when that fails it is left without a map.

        :raise StorageFullError: a file may not be as long
        """
        if self._writable_map and os.fstat(self._descriptor).st_size < map_size:
            try:
                os.ftruncate(self._descriptor, map_size)
            except OSError as error:
                raise self._refused(error) from error

    def touch(self, env: lmdb.Environment, payload: int) -> None:
        """Bring the pages at the end of a writable map into memory, before much is stored there.

        Storing into a page that is in memory for the first time costs a fault of its own, 256 for a MiB, which take
        five times as long as to write zeros to the file by large pieces before. Called in a write transaction that
        has its pages allocated and has stored nothing yet: nobody uses what is behind the last page.

        :raise StorageError: the disk refuses
        """
        start = (env.info()["last_pgno"] + 1) * self._page_size
        if start + payload > self._touched:
            start = max(start, self._touched)
            end = min(start + max(payload, _STEP), self._allocated)
            try:
                _fill_with_zeros(self._descriptor, start, end)
            except OSError as error:
                raise self._refused(error) from error
            self._touched = max(start, end)

    def _allocate(self, used: int, end: int) -> bool:
        """Allocate the file up to ``end``, nothing beyond ``used`` being in use; False if the disk has no room."""
        if end > self._allocated:
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(self._descriptor, self._allocated, end - self._allocated)
                else:
                    _fill_with_zeros(self._descriptor, max(self._allocated, used), end)  # macOS
            except OSError as error:
                if error.errno not in FULL:
                    raise self._refused(error) from error
                return False
            self._allocated = end
        return True

    def free(self, env: lmdb.Environment, txn: lmdb.Transaction) -> int:
        """Return how many bytes of pages inside the file hold nothing."""
        main = env.stat()
        used = _META_PAGES + main["branch_pages"] + main["leaf_pages"] + main["overflow_pages"]
        for _, record in txn.cursor():
            used += sum(_PAGES.unpack_from(record, _PAGES_AT))
        return (env.info()["last_pgno"] + 1 - used) * self._page_size


def _fill_with_zeros(descriptor: int, start: int, end: int) -> None:
    """Write zeros to a part of a file that nobody uses; they take its room, and bring its pages into memory."""
    while start < end:
        start += os.pwrite(descriptor, _ZEROS[: end - start], start)


def _size(payload: int) -> int:
    """Return how much a transaction may take: a payload whole pages, or one and a half times its size in the tree."""
    return payload + payload // 2 + SLACK


def first_map_size(durability: Durability, wanted: int | None) -> int:
    """Return the address space that a new queue starts with, in bytes."""
    if wanted is not None:
        return -(-wanted // 4096) * 4096
    return _WRITABLE_MAP_SIZE if durability is Durability.PROCESS else _MAP_SIZE
