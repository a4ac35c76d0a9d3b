"""Read transactions: short ones for the engine, and views, which last while the user's code runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import lmdb

from persipubsub.engine.local import format
from persipubsub.engine.local.translate import UNREADABLE, translate, unreadable
from persipubsub.errors import QueueBusyError

if TYPE_CHECKING:
    from persipubsub.engine.local.store import Store, Transaction

#: How often a read follows a map that others have grown before it gives up.
_MOST_GROWTHS = 100


class View:
    """A read transaction and what was read from it, held here so that a forked child can let go of them."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.txn: Transaction | None = None
        self.data = memoryview(b"")

    def release(self) -> bool:
        """Make the data unreadable; False if something made from it is still there."""
        try:
            self.data.release()
        except BufferError:
            return False
        return True


class Reader:
    """Begins read transactions of one store."""

    def __init__(self, store: Store) -> None:
        """Read from ``store``."""
        self._store = store
        self._views: set[View] = set()

    @contextmanager
    def read(self, *names: bytes) -> Iterator[Transaction]:
        """Give a read transaction; the sub-databases ``names`` are made ready for it, as far as they exist.

        Buffers that come from it die with it.
        """
        self._make_ready(names)
        with self.bare() as txn:
            try:
                yield txn
            except lmdb.Error as error:
                raise translate(error, self._store.path) from error
            except UNREADABLE as error:
                raise unreadable(error, self._store.path) from error

    @contextmanager
    def bare(self) -> Iterator[Transaction]:
        """Give a read transaction in which no sub-database is made ready."""
        gate = self._store.gate
        level = gate.level()
        try:
            gate.enter()
            txn = self._begin()
            try:
                yield txn
            finally:
                txn.abort()
        finally:
            try:
                gate.go_back(level)
            except BaseException:
                gate.go_back(level)  # interrupted: once more
                raise

    @contextmanager
    def view(self, *names: bytes) -> Iterator[View]:
        """Give a read transaction that lasts while the user's code runs; it ends nothing in a forked child."""
        self._make_ready(names)
        view = View()
        with self._store.gate.view():
            view.txn = self._begin()
            self._views.add(view)
            try:
                yield view
            finally:
                try:
                    self._end(view)
                except BaseException:
                    self._end(view)  # interrupted: once more
                    raise

    def _end(self, view: View) -> None:
        self._views.discard(view)
        view.release()
        txn = view.txn
        if txn is not None:
            txn.abort()
            view.txn = None

    def abandon(self) -> bool:
        """Let go of the views that a forked child inherited, without ending the parent's; False if one is in use."""
        released = [view.release() for view in self._views]
        if not all(released):
            return False
        for view in self._views:
            view.txn = None
        self._views.clear()
        return True

    def _make_ready(self, names: tuple[bytes, ...]) -> None:
        if not self._store.handles.have((*format.FIXED_DBS, *names)):
            self._store.write(lambda work: work.make_ready(names), makes_room=True)

    def _begin(self) -> Transaction:
        store = self._store
        for _ in range(_MOST_GROWTHS):
            store.check_files()
            try:
                return store.begin_reading()
            except lmdb.MapResizedError:
                store.gate.leave()
                try:
                    with store.writer.locked():
                        store.follow_map()
                finally:
                    store.gate.enter()
            except lmdb.ReadersFullError as error:
                if not store.env.reader_check():
                    raise translate(error, store.path) from error
            except lmdb.PanicError as error:
                raise store.fail(error) from error
            except lmdb.Error as error:
                raise translate(error, store.path) from error
        raise QueueBusyError(f"Queue {store.path}: another process keeps growing the map; try again.")
