"""Write transactions: jobs are run in one, and once more where what kept it from its commit can be mended.

Whoever comes here has the turn of this process and the write lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import lmdb

from persipubsub.engine.local import doom
from persipubsub.engine.local.jobs import Job
from persipubsub.engine.local.space import LARGE
from persipubsub.engine.local.translate import UNREADABLE, translate, unreadable
from persipubsub.engine.local.work import Work

if TYPE_CHECKING:
    from persipubsub.engine.local.store import Store

T = TypeVar("T")

#: A map that is still full after so many growths will not do.
_MOST_MENDINGS = 64


class _WithdrawnError(Exception):
    """Whoever asked for a job has taken it back: it is not carried out."""


class Committer:
    """Carries jobs through write transactions of one store."""

    def __init__(self, store: Store) -> None:
        """Write to ``store``."""
        self._store = store

    def commit(self, jobs: list[Job[Any]]) -> Work | None:
        """Run jobs in one transaction, leaving out those that raise; return it, ``None`` if all did."""
        work = None
        running, mendings = jobs, 0
        while running:
            try:
                work = self._attempt(running)
            except lmdb.Error as error:
                mendings += 1
                self._mend(error, mendings, sum(job.payload for job in running))
            except UNREADABLE as error:
                raise unreadable(error, self._store.path) from error
            if work is not None:
                break
            running = [job for job in jobs if job.error is None]
        for job in jobs:
            job.done = True
        return work

    def rehearse(self, operation: Callable[[Work], T]) -> T:
        """Run ``operation`` in a write transaction that is not committed."""
        mendings = 0
        while True:
            try:
                return self._rehearse_once(operation)
            except lmdb.Error as error:
                mendings += 1
                self._mend(error, mendings, 0)

    def _rehearse_once(self, operation: Callable[[Work], T]) -> T:
        store = self._store
        txn = store.begin_writing()
        opened = store.handles.opened_in(txn)
        try:
            return operation(Work(store, txn))
        except UNREADABLE as error:
            raise unreadable(error, store.path) from error
        finally:
            txn.abort()
            store.handles.forget(opened)

    def _mend(self, error: lmdb.Error, attempt: int, payload: int) -> None:
        """Do away with the cause of a failure, so that the transaction can be tried again; raise if there is no way."""
        store = self._store
        if attempt > _MOST_MENDINGS:
            raise translate(error, store.path) from error
        if store.is_full(error) and store.env.reader_check():
            return  # for the sake of dead readers pages were not used again
        if isinstance(error, lmdb.MapFullError):
            store.grow_map(payload)
        elif isinstance(error, lmdb.MapResizedError):
            store.follow_map()
        elif isinstance(error, lmdb.DbsFullError):
            store.raise_max_dbs(error)
        elif isinstance(error, lmdb.BadDbiError) and attempt == 1:
            store.renew_handles(error)
        else:
            raise store.explain(error) from error

    def _attempt(self, jobs: list[Job[Any]]) -> Work | None:
        """Run jobs in one transaction; ``None`` if one raised, which then carries its error."""
        store = self._store
        payload, makes_room = 0, True
        for job in jobs:
            payload += job.payload
            makes_room = makes_room and job.makes_room
        number = 0
        opened: list[bytes] = []
        txn = store.begin_writing()
        try:
            number = txn.id()
            if not store.space.covers(number, payload, makes_room) and not store.has_room(number, payload, makes_room):
                txn.abort()
                number = 0
                store.reserve(payload, makes_room)
                txn = store.begin_writing()
                number = txn.id()
            if payload >= LARGE:
                store.space.touch(store.env, payload)
            opened = store.handles.opened_in(txn)
            recent, store.recent = store.recent, None
            if recent is not None and recent.number + 1 == number:
                work = recent
                work.go_on(txn, number)
            else:
                work = Work(store, txn)
            for job in jobs:
                try:
                    job.result = job.operation(work)
                except lmdb.Error:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever it is, it is its caller's affair
                    job.error = unreadable(error, store.path) if isinstance(error, UNREADABLE) else error
                    txn.abort()
                    store.handles.forget(opened)
                    return None
            if work.state.doomed:
                doom.reclaim(work, doom.SLICE)
            changed = work.finish()
            if store.syncer is None and not _stand(jobs):
                txn.abort()
                store.handles.forget(opened)
                return None
            if not changed and not opened:
                txn.abort()
                return work
            txn.commit()
            for job in jobs:
                job.done = True  # here, where an interrupt that comes in between is dealt with
            if opened:
                opened = store.handles.opened_in(txn)  # what was opened is valid everywhere from now on
            if changed:
                store.recent = work
            if store.syncer is not None and not store.syncer.is_asked:
                store.syncer.ask()
        except BaseException:
            if number and store.last_transaction() >= number:
                # Interrupted after the commit: it stands, and the callers' results with it.
                for job in jobs:
                    job.done = True
                if store.syncer is not None:
                    store.syncer.ask()
            else:
                txn.abort()
                store.handles.forget(opened)
            raise
        return work


def _stand(jobs: Sequence[Job[Any]]) -> bool:
    """Tell whether all jobs are still wanted; those that are not carry an error, and are left out."""
    stand = True
    for job in jobs:
        if job.stands is not None and not job.stands():
            job.error = _WithdrawnError()
            stand = False
    return stand
