"""Whether the names of a queue's files still lead to the files that this process has open.

Writing to deleted files would seem to succeed; and without LMDB's lock file there can be two writers at once. Whatever
comes, goes or is renamed in a folder changes its time of change, which one call to the system tells; the names are
looked up where that has changed. It does not change where a folder above is moved: for that the names are looked up
now and then.
"""

import os
import pathlib
import stat
import time

from persipubsub.engine.local import files
from persipubsub.errors import QueuePermissionError, QueueReplacedError

#: How often the names are looked up although nothing has changed in the folder, in seconds.
GLANCE = 0.05
#: Two changes of a folder in so many nanoseconds may have the same time: the system's clock for it ticks slowly.
_TICK_NS = 50_000_000
#: Where a filesystem keeps whole seconds only (old formats), or every other one.
_SECOND_NS, _COARSE_TICK_NS = 1_000_000_000, 2_050_000_000


class Names:
    """The names of a queue's files, and what they led to when they were opened."""

    def __init__(self, path: pathlib.Path) -> None:
        """Open the folder; ``learn`` has to be called once the files are open.

        :raise OSError: the folder cannot be opened
        """
        self._path = path
        self.folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        #: When the folder had changed, as of the last look; -1 if it may change again without showing that.
        self.changed = -1
        #: When the names were looked up, by the monotonic clock.
        self.seen = 0.0
        self._known: list[tuple[int, int]] = []

    def learn(self) -> None:
        """Remember what the names lead to by now.

        :raise OSError: the files are not there
        """
        self._known = self._find()
        self.changed = -1

    def _find(self) -> list[tuple[int, int]]:
        there = [os.stat(self._path / name) for name in (files.DATA, files.LMDB_LOCK)]
        return [(found.st_dev, found.st_ino) for found in there]

    def look(self, now: float) -> None:
        """Look the names up.

        :param now: by the monotonic clock
        :raise QueueReplacedError: the files were deleted or exchanged
        :raise QueuePermissionError: the folder, or one above, may not be searched any more
        """
        changed = os.fstat(self.folder).st_ctime_ns
        try:
            found = self._find()
        except PermissionError:
            raise QueuePermissionError(
                f"Queue {self._path}: this process (uid {os.geteuid()}) may not look into its folder any more (mode "
                f"{stat.S_IMODE(os.fstat(self.folder).st_mode):04o}, or a folder above it). Nothing was changed; give "
                "the right back, and it can be used again as it is."
            ) from None
        except OSError:
            found = []
        if found != self._known:
            raise QueueReplacedError(
                f"Queue {self._path}: its files were deleted or exchanged while it was open. Close it and open it "
                "again, if it was restored or deployed anew; nothing can be read from the old files any more."
            )
        tick = _TICK_NS if changed % _SECOND_NS else _COARSE_TICK_NS
        self.changed = changed if abs(time.time_ns() - changed) > tick else -1
        self.seen = now

    def close(self) -> None:
        """Close the folder."""
        if self.folder >= 0:
            os.close(self.folder)
            self.folder = -1
