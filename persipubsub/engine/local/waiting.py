"""Waiting without polling: for a bell, for what becomes due, and for the death of those who hold messages."""

import os
import select
import threading
import time
from collections.abc import Iterable

from persipubsub.engine.local import format, owners
from persipubsub.engine.local.bells import Bell
from persipubsub.engine.local.board import FOR_MESSAGES
from persipubsub.engine.local.format import DUE, ENDING, OWNER, pack_id, unpack_id
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.work import Work
from persipubsub.errors import PersipubsubError

#: A lost wake-up costs no more than this, in seconds.
LONGEST = 2.0
#: How often those are looked at who cannot be watched, in seconds; and how often one looks without a bell.
GLANCE = 0.05


class Horizon:
    """When a subscriber has to look again by itself, and whose death may give it a message."""

    def __init__(self, store: Store, identifier: str | None) -> None:
        """Look at a subscriber; without one there is nothing to come."""
        self.seconds = LONGEST
        self.descriptors: list[int] = []
        if identifier is None:
            return
        name = format.subscriber_db(identifier.encode())
        with store.read(name) as txn:
            work = Work(store, txn)
            desk = Desk(work, identifier)
            record = desk.record
            if record.delayed:
                self._until(desk, DUE, store.clock.wall_ns())
            if record.bounded:
                self._until(desk, ENDING, store.clock.boot_ns())
            others = {}
            if record.leased:
                for owner in desk.owners():
                    if not store.owners.is_mine(owner):
                        others[owner] = format.decode_owner(txn.get(OWNER + pack_id(owner), db=desk.db) or b"")
        for owner, who in others.items():
            descriptor = owners.watch(who)
            if descriptor is None:
                self.seconds = min(self.seconds, GLANCE)
            else:
                self.descriptors.append(descriptor)
            # Only now: had it died before, its number might be another's.
            if not store.owners.is_alive(owner):
                self.seconds = 0.0

    def _until(self, desk: Desk, kind: bytes, now_ns: int) -> None:
        cursor = desk.txn.cursor(db=desk.db)
        if cursor.set_range(kind):
            key = bytes(cursor.key())
            if key[:1] == kind:
                self.seconds = min(self.seconds, max(0.0, (unpack_id(key, 1) - now_ns) / 1e9))

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


def _sleep(descriptors: Iterable[int], seconds: float) -> list[int]:
    """Sleep until a descriptor is readable or the time is over; return the readable ones."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    # Rounded up: waking a little too early would only mean another round.
    return [descriptor for descriptor, _ in poll.poll(int(seconds * 1000) + (seconds > 0))]


class LocalWaiter:
    """One waiting consumer or publisher, with a bell of its own."""

    def __init__(self, store: Store, identifier: str | None, kind: int = FOR_MESSAGES) -> None:
        """Claim a bell; where there is none left, poll."""
        self._store = store
        self._identifier = identifier
        self._kind = kind
        self._bell: Bell | None = store.bells.claim()
        self._woken = threading.Event()
        self._watcher: Watcher | None = None

    def arm(self) -> None:
        """Ask to be woken from now on."""
        if self._bell is not None:
            self._bell.arm(self._kind)
        if self._watcher is not None:
            self._watcher.look_again()

    def wait(self, timeout: float | None) -> None:
        """Wait until something may have changed or ``timeout`` seconds passed."""
        horizon = Horizon(self._store, self._identifier)
        try:
            seconds = horizon.seconds if timeout is None else min(horizon.seconds, max(timeout, 0.0))
            if self._bell is None:
                self._woken.wait(min(seconds, GLANCE))
            else:
                _sleep([self._bell.descriptor, *horizon.descriptors], seconds)
        finally:
            horizon.close()

    def wake(self) -> None:
        """End the wait."""
        self._woken.set()
        if self._bell is not None:
            self._bell.ring()

    def fileno(self) -> int:
        """Return a descriptor that is readable once woken; a thread wakes it for what becomes due by itself."""
        if self._bell is None:
            raise PersipubsubError(f"Queue {self._store.path} has no more places for waiting; close other waiters.")
        if self._watcher is None:
            self._watcher = Watcher(self._store, self._identifier, self._bell)
        return self._bell.descriptor

    def close(self) -> None:
        """Give the bell back."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
        if self._bell is not None:
            self._bell.close()
            self._bell = None


class Watcher:
    """A thread that rings a bell when something becomes due or somebody dies."""

    def __init__(self, store: Store, identifier: str | None, bell: Bell) -> None:
        """Start watching."""
        self._store = store
        self._identifier = identifier
        self._bell = bell
        self._closing = self._closed_within = False
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._watch, name="persipubsub-watch", daemon=True)
        self._thread.start()

    def look_again(self) -> None:
        """Take notice of what may have changed."""
        try:
            os.write(self._write, b"\1")
        except BlockingIOError:
            pass

    def _watch(self) -> None:
        while not self._closing:
            try:
                horizon = Horizon(self._store, self._identifier)
            except PersipubsubError:
                # The subscriber is gone, or the queue: whoever uses the descriptor shall find out.
                self._bell.ring()
                self._rest()
                continue
            try:
                began = time.monotonic()
                readable = _sleep([self._read, *horizon.descriptors], horizon.seconds)
                if self._read in readable:
                    os.read(self._read, 4096)
                elif readable or time.monotonic() - began >= horizon.seconds < LONGEST:
                    self._bell.ring()
                    self._rest()
            finally:
                horizon.close()
        if self._closed_within:
            self._close_pipe()

    def _rest(self) -> None:
        """Sleep, for there is nothing more to tell until somebody has looked."""
        if _sleep([self._read], LONGEST):
            os.read(self._read, 4096)

    def close(self) -> None:
        """Stop watching."""
        self._closing = True
        self.look_again()
        if self._thread is threading.current_thread():
            # A finalizer that happens to run there: it still has to come to its end.
            self._closed_within = True
        else:
            self._thread.join()
            self._close_pipe()

    def _close_pipe(self) -> None:
        os.close(self._read)
        os.close(self._write)
