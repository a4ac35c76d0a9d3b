"""What waits for a commit, and whose turn it is to write."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from persipubsub.errors import QueueBusyError

if TYPE_CHECKING:
    from persipubsub.engine.local.operations import Operation
    from persipubsub.engine.local.work import Work

T = TypeVar("T")


class Job(msgspec.Struct, Generic[T], eq=False):
    """One operation on its way through a commit."""

    operation: Callable[[Work], T]
    payload: int
    makes_room: bool
    #: Gives the operation as something that another process can carry out; ``None`` where that cannot be.
    post: Callable[[], Operation] | None = None
    #: Asked right before the commit whether it is still wanted.
    stands: Callable[[], bool] | None = None
    #: There is one as soon as it is done without an error.
    result: T = None  # type: ignore[assignment]
    error: Exception | None = None
    done: bool = False
    #: Held while its thread waits; released when the job is done, or when that thread should look for itself.
    wait: threading.Lock | None = None

    def wake(self) -> None:
        """Let the thread that waits for the job look at it."""
        if self.wait is not None:
            try:
                self.wait.release()
            except RuntimeError:
                pass  # it was told already


class Turn:
    """The turn to write: one thread of this process has it at a time."""

    __slots__ = ("_path", "_waiting", "holder", "lock")

    def __init__(self, path: object, waiting: deque[Job[Any]]) -> None:
        """Let nobody have it yet.

        :param path: for messages
        :param waiting: jobs whose threads wait for somebody to carry them, or for the turn
        """
        self._path = path
        self._waiting = waiting
        #: Taken and released by itself only where calls in between would cost too much.
        self.lock = threading.Lock()
        self.holder = 0

    def check(self) -> int:
        """Return this thread's number, unless waiting would be for ever.

        :raise QueueBusyError: this very thread has the turn
        """
        me = threading.get_ident()
        if self.holder == me:
            raise QueueBusyError(
                f"Queue {self._path} was called in the middle of a call of the same thread, by a signal handler or a "
                "finalizer: let that one set a flag or start a thread instead."
            )
        return me

    def acquire(self, timeout: float = -1) -> bool:
        """Take the turn, waiting for at most ``timeout`` seconds; without one, as long as it takes.

        :raise QueueBusyError: this very thread has it: waiting would be for ever
        """
        me = self.check()
        if not self.lock.acquire(timeout=timeout):
            return False
        self.holder = me
        return True

    def release(self) -> None:
        """Pass the turn on."""
        self.holder = 0
        self.lock.release()
        self.offer()

    def offer(self) -> None:
        """Let one of those who wait take the turn, which has become free."""
        if self._waiting:
            try:
                self._waiting[0].wake()
            except IndexError:
                pass  # somebody carries it already

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
