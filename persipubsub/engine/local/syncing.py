"""Durability "process": a background sync bounds what a power cut can take."""

import threading
from collections.abc import Callable

#: A power cut loses at most what was committed in so many seconds, and the time of a sync.
INTERVAL = 1.0


class Syncer:
    """A thread that syncs after commits, at most once in an interval; it starts with the first commit."""

    def __init__(self, sync: Callable[[], None]) -> None:
        """Call ``sync``, which must not raise."""
        self._sync = sync
        #: Whether there is something to sync that was not begun yet.
        self.is_asked = False
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def ask(self) -> None:
        """Ask for a sync of what was committed."""
        self.is_asked = True
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="persipubsub-sync", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread, soon."""
        self._closing.set()
        self._wanted.set()

    def _run(self) -> None:
        while self._wanted.wait() and not self._closing.is_set():
            self._wanted.clear()
            self.is_asked = False
            self._sync()
            self._closing.wait(INTERVAL)
