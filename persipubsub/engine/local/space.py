"""Disk and address space: reserved ahead of every write, so that a full disk is an error and no signal.

With a writable map LMDB stores into mapped pages; where the disk has no room for one, the kernel
answers with SIGBUS. So the file is allocated (``posix_fallocate``) beyond its used end before each
write. Sends leave a reserve untouched, which keeps taking, acknowledging and pruning possible when
the disk is full: deleting needs fresh pages, too.
"""

import errno
import os

import lmdb

from persipubsub.errors import StorageFullError

#: Pages that a transaction may need besides its payload.
SLACK = 512 * 1024
#: What only operations may use that make room.
RESERVE = 3 * SLACK
_STEP = 1 << 20
_LARGEST_STEP = 64 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Space:
    """How far the data file of one environment is known to be allocated."""

    def __init__(self, path: object, descriptor: int, page_size: int, *, writable_map: bool) -> None:
        """Allocate through ``descriptor``; ``path`` is for messages."""
        self._path = path
        self._descriptor = descriptor
        self._page_size = page_size
        self._writable_map = writable_map
        self._allocated = 0

    def ensure(self, env: lmdb.Environment, payload: int, *, makes_room: bool) -> None:
        """Make sure that a transaction storing ``payload`` bytes finds its pages allocated.

        Called under the write lock, before the transaction.

        :raise StorageFullError: the disk has no room for it
        """
        info = env.info()
        end = (info["last_pgno"] + 1) * self._page_size
        # A payload takes whole pages, or up to one and a half times its size inside the tree.
        need = end + payload + payload // 2 + SLACK + (0 if makes_room else RESERVE)
        if need <= self._allocated:
            return
        ahead = need + min(max(self._allocated, _STEP), _LARGEST_STEP)
        for target in (ahead, need):
            # Beyond the map there is nothing to write; when that is full, LMDB says so and it grows.
            target = min(target, max(info["map_size"], end))
            if target <= self._allocated:
                return
            try:
                os.posix_fallocate(self._descriptor, self._allocated, target - self._allocated)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
            else:
                self._allocated = target
                return
        if makes_room and not self._writable_map:
            return  # LMDB writes with pwrite here: it may find freed pages, and a failure is an error and no signal.
        raise StorageFullError(
            errno.ENOSPC,
            f"Queue {self._path}: the disk is full, nothing was stored; reading and acknowledging go on. "
            "Make room on the disk and try again",
        )
