"""What everything made by an asynchronous Environment shares, and how calls get to its thread."""

import functools
import weakref
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from persipubsub import connection
from persipubsub.aio.thread import Thread
from persipubsub.aio.waiting import WaitingLine
from persipubsub.errors import ClosedError

S = TypeVar("S", bound=connection.Handle)
P = ParamSpec("P")
R = TypeVar("R")


class Shared:
    """The connection of an Environment, its thread, and what it has made."""

    def __init__(self, link: connection.Connection) -> None:
        """Begin with nothing made and no thread."""
        self.connection = link
        self.thread = Thread(link.engine)
        self.handles: weakref.WeakSet[Handle[Any]] = weakref.WeakSet()
        self.lines: weakref.WeakSet[WaitingLine] = weakref.WeakSet()
        self.closing = False


class Handle(Generic[S]):
    """Wraps one of the synchronous classes; an asynchronous context manager that can be closed."""

    def __init__(self, shared: Shared, wrapped: S) -> None:
        """Do on the thread of ``shared`` what ``wrapped`` can do."""
        self._shared = shared
        self._thread = shared.thread
        self._wrapped = wrapped
        self._line: WaitingLine | None = None
        shared.handles.add(self)

    @property
    def closed(self) -> bool:
        """Tell whether it was closed, by itself or with its Environment."""
        return self._wrapped.closed

    async def close(self) -> None:
        """End the use; closing twice has no effect. A cancelled close is carried out all the same."""
        if not self.closed:
            await leave(self._thread, self._begin_to_close(), None)

    def _begin_to_close(self) -> Callable[[], None]:
        """Stop watching, on the loop; return what is left to do on the thread."""
        if self._line is not None:
            self._line.wake()
        return self._close

    def _close(self) -> None:
        try:
            self._wrapped.close()
        finally:
            if self._line is not None:
                self._line.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self.closed:
            await leave(self._thread, self._begin_to_close(), kind)


async def leave(thread: Thread, function: Callable[[], object], kind: type[BaseException] | None) -> None:
    """Do at the end of a block what must be done, whether or not somebody waits for it.

    :param kind: of the exception that ends the block; it is not replaced by a ClosedError
    """
    try:
        if kind is not None and issubclass(kind, GeneratorExit):
            # The coroutine is being closed and must not wait any more.
            thread.start(function)
        else:
            await thread.run(function, kept=True)
    except ClosedError:
        if kind is None:
            raise


def on_thread(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[Handle[S], P], Coroutine[Any, Any, R]]:
    """Return ``method`` of the wrapped class as a coroutine function that runs it on the thread."""

    async def call(self: Handle[S], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._thread.run(functools.partial(method, self._wrapped, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call
