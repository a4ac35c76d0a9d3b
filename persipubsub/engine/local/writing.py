"""Commits: one process writes at a time, and threads that write at once share a commit.

The thread that finds nobody writing leads: it carries its own operation and all that others have left
meanwhile through one transaction. The others find theirs done when their turn comes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import lmdb

from persipubsub.engine.events import Event
from persipubsub.engine.local.committing import Committer
from persipubsub.engine.local.jobs import Job, Turn
from persipubsub.engine.local.operations import Operation
from persipubsub.engine.local.sharing import Sharing
from persipubsub.engine.local.work import Work
from persipubsub.engine.local.writelock import WriteLock
from persipubsub.errors import StorageFullError

if TYPE_CHECKING:
    from persipubsub.engine.local.store import Store

T = TypeVar("T")

#: Seconds after which those who wait for others look for themselves, should nobody have told them.
_PATIENCE = 0.05


class Writer:
    """Carries operations through write transactions of one store."""

    def __init__(self, store: Store) -> None:
        """Write to ``store``."""
        self._store = store
        #: What waits for a commit. Its single operations are atomic, so it needs no lock, and a signal handler
        #: may come in between.
        self._jobs: deque[Job[Any]] = deque()
        #: Held by the thread that leads, and by whoever keeps this process's writers out: then no write
        #: transaction of this process lives.
        self.turn = Turn(store.path, self._jobs)
        self.lock = WriteLock(store.path, store.locks, store.board.page)
        self.committer = Committer(store)
        self._sharing = Sharing(store)
        #: What is to be logged once the turn is over: a handler may be slow, or use this very queue.
        self.events: deque[Event] = deque()

    def write(
        self,
        operation: Callable[[Work], T],
        *,
        payload: int = 0,
        makes_room: bool = False,
        undo: Callable[[T], object] | None = None,
        post: Callable[[], Operation] | None = None,
    ) -> T:
        """Run ``operation`` in a write transaction and commit it to the queue's durability.

        It may be run several times, so it must keep its effects inside the transaction. ``undo`` runs
        if the calling thread is interrupted after the commit and never gets the result.

        :param payload: bytes that will be stored
        :param makes_room: the operation may use the reserve of a full disk
        :param post: gives the operation as something that another process can carry out, if it can
        :raise QueueBusyError: another process keeps the write lock for longer than ``lock_timeout``
        :raise StorageFullError: no space is left on the disk
        :raise PersipubsubError: what the operation raises; nothing of it is committed then
        """
        job = Job(operation, payload, makes_room, post)
        turn = self.turn
        me = turn.check()
        try:
            self._jobs.append(job)
            while not job.done:
                if turn.lock.locked():
                    self._wait_for(job)
                    continue
                with turn.lock:
                    if not job.done:
                        turn.holder = me
                        try:
                            self._lead()
                        finally:
                            turn.holder = 0
                if self._jobs:
                    turn.offer()
        except BaseException:
            self._withdraw(job, undo)
            raise
        if self.events:
            self._log_events()
        if job.error is not None:
            raise job.error
        return job.result

    def write_together(self, jobs: Sequence[Job[Any]]) -> None:
        """Carry several jobs of one thread as ``write`` does; each has its result or its error then."""
        self.turn.check()
        try:
            self._jobs.extend(jobs)
            with self.turn:
                if not all(job.done for job in jobs):
                    self._lead()
        except BaseException:
            for job in jobs:
                self._withdraw(job, None)
            raise
        if self.events:
            self._log_events()

    def write_alone(self, operation: Callable[[Work, bool], T], then: Callable[[], None] | None = None) -> T:
        """Run ``operation`` while no other transaction of this process lives, if that can be had in a second.

        The second argument tells the operation whether it is so. ``then`` is called after the commit, while
        nobody else has come in; not if the operation raised.
        """
        with self.turn, self._store.gate.alone(1.0) as granted:
            job = Job(lambda work: operation(work, granted), 0, makes_room=True)
            self._carry([job])
            if then is not None and job.error is None:
                then()
        if self.events:
            self._log_events()
        if job.error is not None:
            raise job.error
        return job.result

    def rehearse(self, operation: Callable[[Work], T]) -> T:
        """Run ``operation`` in a write transaction that is not committed."""
        self._store.check_files()
        with self.locked():
            return self.committer.rehearse(operation)

    def _wait_for(self, job: Job[Any]) -> None:
        """Wait until a job is done, or nobody leads.

        Those whose jobs are done must not queue up for the turn, behind the one who commits next.
        """
        if job.wait is None:
            job.wait = threading.Lock()
            job.wait.acquire()
        if not job.done and self.turn.lock.locked():
            job.wait.acquire(timeout=_PATIENCE)

    def _withdraw(self, job: Job[T], undo: Callable[[T], object] | None) -> None:
        """Take back a job whose thread was interrupted, or undo it if it was committed already."""
        try:
            self._jobs.remove(job)
        except ValueError:
            pass  # somebody carries it, or has carried it
        else:
            return
        with self.turn:  # whoever carries it is done by then
            pass
        if job.done and job.error is None and undo is not None:
            undo(job.result)

    def _lead(self) -> None:
        """Carry all waiting jobs; the caller has the turn."""
        waiting = self._jobs
        jobs: list[Job[Any]] = []
        try:
            while waiting:
                jobs.append(waiting.popleft())
            self._carry(jobs)
        except BaseException:
            # An interrupt in this thread is not the others' affair: they try again.
            waiting.extendleft([job for job in reversed(jobs) if not job.done])
            raise
        finally:
            for job in jobs:
                job.wake()

    def _carry(self, jobs: list[Job[Any]]) -> None:
        """Carry jobs through one commit, or through one each where the disk has no room for all."""
        store = self._store
        try:
            store.check_files()
            if store.syncer is None:
                self._commit_shared(jobs)
            else:
                self.lock.acquire(store.lock_timeout)
                try:
                    work = self.committer.commit(jobs)
                finally:
                    self.lock.release()
                self._tell(work)
        except StorageFullError as error:
            for job in jobs:
                if job.done:
                    continue
                if len(jobs) == 1:
                    job.error, job.done = error, True
                else:
                    job.error = None
                    self._carry([job])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers' affair
            said = self._store.explain(error) if isinstance(error, lmdb.Error) else error
            for job in jobs:
                if not job.done:
                    job.error, job.done = said, True

    def _tell(self, work: Work | None) -> None:
        """Wake those who wait for what a commit changed, and keep what is to be logged."""
        if work is not None:
            for kind in work.rings:
                self._store.bells.ring(kind)
            self.events.extend(work.events)

    def _log_events(self) -> None:
        """Log what commits have left to be told; each event once, whichever thread comes by."""
        while True:
            try:
                event = self.events.popleft()
            except IndexError:
                return
            event.log(self._store.path)

    def _commit_shared(self, jobs: list[Job[Any]]) -> None:
        """Carry jobs, and what other processes have posted, through one commit; or let one of those carry them."""
        sharing = self._sharing
        if sharing.is_carried(jobs, self._store.lock_timeout):
            return
        try:
            asked = sharing.asked()
            decide = self._store.posts.decide
            others = [
                Job(carried.run, len(carried.question.body), False, stands=partial(decide, carried.question))
                for carried in asked
            ]
            try:
                work = self.committer.commit([*jobs, *others])
            except BaseException:
                for carried, job in zip(asked, others, strict=True):
                    if not job.done:
                        sharing.leave_open(carried)
                raise
            # Before the answers: whoever has one returns and wakes nobody, also if this process dies now.
            self._tell(work)
            sharing.note_commit(len(asked))
            for carried, job in zip(asked, others, strict=True):
                sharing.answer(carried, refused=job.error is not None)
        finally:
            self.lock.release()
            sharing.ring_next()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all writers out, those of this process and of others; waits for at most ``lock_timeout``."""
        with self.turn:
            self.lock.acquire(self._store.lock_timeout)
            try:
                yield
            finally:
                self.lock.release()
