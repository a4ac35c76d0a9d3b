"""The thread on which the transactions of one environment run, so that the event loop never waits for them.

One thread, because LMDB's write lock belongs to a thread. A thread of its own, and not ``asyncio.to_thread``,
because that copies the caller's context, in which contracts believe that they are being checked already.
"""

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from persipubsub.engine import forking
from persipubsub.engine.base import Engine
from persipubsub.engine.messages import Entry
from persipubsub.errors import ClosedError, PersipubsubError

logger = logging.getLogger("persipubsub")

T = TypeVar("T")

#: So many sends share a commit at most: one that fails lets the others be stored once more.
_MOST_TOGETHER = 256
#: And so many bytes of payload: the disk must have room for all of them at once.
_LARGEST_TOGETHER = 16 << 20


class Job(Generic[T]):
    """One call on its way to the thread and back.

    ``undo`` gets the result if the caller was cancelled and never sees it. A ``kept`` job is carried
    out even if its caller was cancelled before it began.
    """

    __slots__ = ("abandoned", "done", "entries", "error", "function", "future", "kept", "result", "undo")

    def __init__(
        self, function: Callable[[], T], undo: Callable[[T], object] | None = None, kept: bool = False
    ) -> None:
        """Remember what is to be done."""
        self.function = function
        self.undo = undo
        self.kept = kept
        self.entries: Sequence[Entry] | None = None
        self.future: asyncio.Future[None] | None = None
        #: There is one as soon as it is done without an error.
        self.result: T = None  # type: ignore[assignment]
        self.error: BaseException | None = None
        self.done = False
        self.abandoned = False


class Thread:
    """Runs functions one after the other, in the order in which they were given."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        """Start nothing yet; ``engine`` gives the open engine, for sends that are gathered."""
        self._engine = engine
        #: Protects the queue, and what a job knows of its caller and its caller of it.
        self._lock = forking.Lock()
        self._generation = forking.generation
        self._jobs: deque[Job[Any]] = deque()
        self._executor: ThreadPoolExecutor | None = None
        self._closed = False
        #: Sends of this round of the event loop, and the loop that will hand them over at its end.
        self._gathered: list[Job[list[int]]] = []
        self._gathering: asyncio.AbstractEventLoop | None = None

    # -- on the event loop --------------------------------------------------------------------

    async def run(
        self, function: Callable[[], T], undo: Callable[[T], object] | None = None, *, kept: bool = False
    ) -> T:
        """Run ``function`` on the thread and return its result.

        A caller that is cancelled does not wait for it: it is not begun any more, unless ``kept``, and
        ``undo`` is called with a result that came too late.
        """
        return await self._finish(self._begin(Job(function, undo, kept)))

    async def put(self, entries: Sequence[Entry]) -> list[int]:
        """Store messages, in one transaction with those that others are storing at this moment."""
        return await self._finish(self._gather(entries))

    def _begin(self, job: Job[T]) -> Job[T]:
        job.future = asyncio.get_running_loop().create_future()
        self._submit([job])
        return job

    def _gather(self, entries: Sequence[Entry]) -> Job[list[int]]:
        loop = asyncio.get_running_loop()
        job: Job[list[int]] = Job(lambda: self._engine().put(entries))
        job.entries = entries
        job.future = loop.create_future()
        self._gathered.append(job)
        if self._gathering is not loop:
            # The other tasks that are ready now shall come along, however fast the thread is.
            self._gathering = loop
            loop.call_soon(self._hand_over)
        return job

    def _hand_over(self) -> None:
        jobs, self._gathered, self._gathering = self._gathered, [], None
        try:
            self._submit(jobs)
        except ClosedError as error:
            for job in jobs:
                job.error = error
            _wake(jobs)

    def start(self, function: Callable[[], object]) -> None:
        """Run ``function`` on the thread and wait for nothing; what it raises is logged."""
        self._submit([Job(function, kept=True)])

    async def _finish(self, job: Job[T]) -> T:
        try:
            if job.future is not None:
                await job.future
        except BaseException:
            self._abandon(job)
            raise
        if job.error is not None:
            try:
                raise job.error
            finally:
                # The traceback holds this frame: without this they would keep each other, and the job, alive.
                del job
        return job.result

    def _submit(self, jobs: Sequence[Job[Any]]) -> None:
        with self._lock:
            if self._generation != forking.generation:
                # The thread, and those who waited for it, are in the parent.
                self._jobs, self._executor, self._generation = deque(), None, forking.generation
            if self._closed:
                raise ClosedError("The environment was closed; open a new one.")
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="persipubsub-aio")
            if not self._jobs:
                try:
                    self._executor.submit(self._work)
                except RuntimeError as error:
                    raise ClosedError("The interpreter is at its end; close environments before.") from error
            self._jobs.extend(jobs)

    def _abandon(self, job: Job[Any]) -> None:
        with self._lock:
            job.abandoned = True
            too_late = job.done and job.error is None and job.undo is not None
        if too_late:
            try:
                self._submit([Job(functools.partial(_undo, job), kept=True)])
            except ClosedError:
                # The end of the environment has given everything back.
                pass

    def close(self) -> None:
        """Take no more jobs; those that were given before are done."""
        with self._lock:
            self._closed = True
            executor, self._executor = self._executor, None
        if executor is not None and self._generation == forking.generation:
            executor.shutdown(wait=False)

    # -- on the thread ------------------------------------------------------------------------

    def _work(self) -> None:
        """Do all that was given, until nothing is left."""
        while True:
            with self._lock:
                batch = self._next_batch()
            if len(batch) > 1:
                self._put_together(batch)
            else:
                _carry_out(batch[0])
            with self._lock:
                for job in batch:
                    job.done = True
                    self._jobs.popleft()
                left = bool(self._jobs)
            _tell(batch)
            if not left:
                return
            del batch

    def _next_batch(self) -> list[Job[Any]]:
        """Return the first job, or several sends that stand one behind the other; they stay in the queue meanwhile."""
        batch: list[Job[Any]] = []
        size = 0
        for job in self._jobs:
            if batch and (job.entries is None or batch[0].entries is None or len(batch) == _MOST_TOGETHER):
                break
            size += sum([entry.size for entry in job.entries or ()])
            if batch and size > _LARGEST_TOGETHER:
                break
            batch.append(job)
        return batch

    def _put_together(self, jobs: list[Job[Any]]) -> None:
        wanted = [job for job in jobs if not job.abandoned]
        try:
            outcomes: Sequence[list[int] | BaseException] = self._engine().put_each(
                [job.entries or () for job in wanted]
            )
        except BaseException as error:  # noqa: BLE001 - the callers get it
            outcomes = [error] * len(wanted)
        for job, outcome in zip(wanted, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                job.error = outcome
            else:
                job.result = outcome


def _carry_out(job: Job[Any]) -> None:
    if job.abandoned and not job.kept:
        job.undo = None
        return
    try:
        job.result = job.function()
    except BaseException as error:  # noqa: BLE001 - the caller gets it
        job.error = error


def _tell(jobs: list[Job[Any]]) -> None:
    """Give results to those who wait, undo what nobody waits for any more."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
    for job in jobs:
        if job.future is None or job.abandoned:
            _give_up(job)
        else:
            by_loop.setdefault(job.future.get_loop(), []).append(job)
    for loop, told in by_loop.items():
        try:
            loop.call_soon_threadsafe(_wake, told)
        except RuntimeError:
            # The loop was closed, and its tasks with it.
            for job in told:
                _give_up(job)


def _wake(jobs: list[Job[Any]]) -> None:
    for job in jobs:
        if job.future is not None and not job.future.done():
            job.future.set_result(None)


def _give_up(job: Job[Any]) -> None:
    if job.error is not None:
        logger.warning("What a cancelled task had begun failed: %s", job.error)
    elif job.undo is not None:
        _undo(job)


def _undo(job: Job[Any]) -> None:
    undo, job.undo = job.undo, None
    try:
        if undo is not None:
            undo(job.result)
    except PersipubsubError:
        logger.warning("What a cancelled task had begun could not be undone.", exc_info=True)
