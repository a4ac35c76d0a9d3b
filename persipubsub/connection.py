"""What an Environment and everything made by it share: one open engine, reopened after a fork.

A :class:`Connection` is one owner of leases. Environment, Control, Publisher and Subscriber hold it,
so an engine stays open as long as one of them is in use, even if the Environment itself was lost.
"""

import _thread
import logging
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from persipubsub.engine import forking
from persipubsub.engine.base import Engine
from persipubsub.engine.opening import Opener, opener_for
from persipubsub.errors import ClosedError, PersipubsubError, UnsupportedByEngineError

logger = logging.getLogger("persipubsub")

Job = Callable[[Engine], None]


class Connection:
    """Opens the engine at its first use, and anew in a forked child; safe to use from any thread."""

    def __init__(self, opener: Opener) -> None:
        """Remember how to open the queue; nothing is opened yet."""
        self.opener = opener
        self._lock = forking.Lock()
        self._jobs_lock = forking.Lock()
        self._generation = forking.generation
        self._engine: Engine | None = None
        #: What could not be closed yet, for a view was being read.
        self._unclosed: Engine | None = None
        self._jobs: deque[Job] = deque()
        self._doing_jobs = False
        self._handles: weakref.WeakSet[Handle] = weakref.WeakSet()
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.opener.portable:
            raise UnsupportedByEngineError(
                "A private 'memory:' queue cannot be pickled: it lives in this process alone. Use a directory."
            )
        return connect, (self.opener.address,)

    @property
    def location(self) -> str:
        """Return where the queue is."""
        return self.opener.location

    @property
    def closed(self) -> bool:
        """Tell whether it was closed."""
        return self._closed

    def engine(self) -> Engine:
        """Return the open engine of this process; what finalizers left to do is done before.

        :raise ClosedError: the connection was closed
        :raise OpenError: the queue cannot be opened
        """
        if self._generation == forking.generation and not self._jobs:
            engine = self._engine
            if engine is not None:
                return engine
        return self._prepare()

    def check_open(self) -> None:
        """Open nothing, but refuse to go on when closed.

        :raise ClosedError: the connection was closed
        """
        if self._closed:
            raise ClosedError(f"The environment of {self.location} was closed; open a new one.")

    @property
    def has_jobs(self) -> bool:
        """Tell whether finalizers left something to do, which the next use of the engine does first."""
        return bool(self._jobs)

    def _prepare(self) -> Engine:
        with self._lock:
            self.check_open()
            if self._generation != forking.generation:
                # The engine belongs to the parent process: it is neither used nor closed here.
                self._engine = None
                self._jobs = deque()
                self._doing_jobs = False
                self._generation = forking.generation
            if self._engine is None:
                self._engine = self.opener.open()
            engine = self._engine
        self.do_jobs()
        return engine

    def later(self, job: Job) -> None:
        """Do ``job`` soon: in a thread of its own, or at the latest before the next operation.

        Made for finalizers. The garbage collector runs them anywhere, also in the middle of an
        operation of this very engine, where using it could wait for ever.
        """
        if self._generation == forking.generation and not self._closed and not sys.is_finalizing():
            self._jobs.append(job)
            _in_background(self.do_jobs)

    def do_jobs(self) -> None:
        """Do what finalizers left to do, and wait for what another thread is doing of it."""
        if not self._jobs:
            return
        with self._jobs_lock:
            if self._doing_jobs:
                # A job uses the engine: this is the thread that does it.
                return
            self._doing_jobs = True
            try:
                while self._jobs and self._engine is not None:
                    try:
                        self._jobs[0](self._engine)
                    except PersipubsubError:
                        logger.warning("Giving messages of %s back failed.", self.location, exc_info=True)
                    finally:
                        # Only now, so that others wait until it is done.
                        self._jobs.popleft()
            finally:
                self._doing_jobs = False

    def add(self, handle: "Handle") -> None:
        """Close ``handle`` with this connection, if it still exists then."""
        with self._lock:
            self._handles.add(handle)

    def close(self) -> None:
        """Close all handles and the engine; closing twice has no effect, unless the first time failed.

        :raise QueueBusyError: this thread, or another one, still reads a view: leave that block and close again
        """
        with self._lock:
            handles = list(self._handles)
        for handle in handles:
            handle.close()
        if self._generation == forking.generation:
            self.do_jobs()
        with self._lock:
            self._closed = True
            engine = self._engine or self._unclosed
            self._engine = self._unclosed = None
        if engine is not None and self._generation == forking.generation:
            try:
                engine.close()
            except BaseException:
                self._unclosed = engine
                raise

    def __del__(self) -> None:
        engine: Engine | None = getattr(self, "_engine", None) or getattr(self, "_unclosed", None)
        if engine is not None and self._generation == forking.generation and not sys.is_finalizing():
            _in_background(lambda: _close(engine))


def connect(location: str | os.PathLike[str]) -> Connection:
    """Return a new connection to the queue at ``location``.

    :raise OpenError: it is neither a path nor a location that an engine knows
    """
    return Connection(opener_for(location))


def _close(engine: Engine) -> None:
    try:
        engine.close()
    except PersipubsubError:
        logger.warning("Closing a queue that was lost failed.", exc_info=True)


def _in_background(work: Callable[[], None]) -> None:
    """Start ``work`` in a thread, without the locks of the threading module: finalizers may run inside those."""
    try:
        _thread.start_new_thread(work, ())
    except RuntimeError:
        # No thread can be had. The next operation does the work, and the end of the process makes up for it.
        pass


class Handle:
    """Something that an Environment makes: a context manager that can be closed."""

    def __init__(self, connection: Connection) -> None:
        """Belong to ``connection``, which closes it at its own end."""
        self._connection = connection
        self._closed = False
        connection.add(self)

    @property
    def closed(self) -> bool:
        """Tell whether it was closed, by itself or with its Environment."""
        return self._closed or self._connection.closed

    def _check_open(self) -> None:
        """Refuse to go on when closed.

        :raise ClosedError: it was closed, by itself or with its Environment
        """
        if self._closed:
            raise ClosedError(f"The {type(self).__name__} of {self._connection.location} was closed; make a new one.")
        self._connection.check_open()

    def _engine(self) -> Engine:
        if self._closed:
            self._check_open()
        return self._connection.engine()

    def close(self) -> None:
        """End the use; closing twice has no effect."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
