"""Where spans begin and end: methods of the public classes that are replaced while tracing is on.

Nothing asks whether it is on: while it is off, the methods are the original ones.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry import trace

from persipubsub import aio, message, publisher, worker
from persipubsub.aio import iteration as aio_iteration
from persipubsub.aio import publisher as aio_publisher
from persipubsub.aio import receiving as aio_receiving
from persipubsub.aio import worker as aio_worker
from persipubsub.delivery import iteration, receiving
from persipubsub.tracing import spans

Method = Callable[..., Any]

#: The spans of the blocks and loops that are entered.
_running: WeakKeyDictionary[object, spans.Processing] = WeakKeyDictionary()
_originals: list[tuple[type, str, Method]] = []
_guard = threading.Lock()


def install() -> None:
    """Replace the methods; a second time has no effect."""
    with _guard:
        if not _originals:
            for owner, name, hook in _HOOKS:
                original = owner.__dict__[name]
                _originals.append((owner, name, original))
                setattr(owner, name, functools.wraps(original)(hook(original)))


def remove() -> None:
    """Put the original methods back."""
    with _guard:
        while _originals:
            setattr(*_originals.pop())


def _end(block: object, error: BaseException | None = None) -> None:
    processing = _running.pop(block, None)
    if processing is not None:
        processing.end(error)


# -- sending ---------------------------------------------------------------------------------------


def _put(put: Method) -> Method:
    def traced(self: publisher.Publisher, entries: Any, deadline: float | None) -> Any:
        with spans.sending(self._connection.location, entries) as sending:
            return sending.done(put(self, sending.entries, deadline))

    return traced


def _put_in_loop(put: Method) -> Method:
    async def traced(self: aio.Publisher, entries: Any, deadline: float | None) -> Any:
        with spans.sending(self._shared.connection.location, entries) as sending:
            return sending.done(await put(self, sending.entries, deadline))

    return traced


def _stage(send: Method) -> Method:
    def traced(self: message.Received[Any], *arguments: Any, **options: Any) -> None:
        with spans.creating(self):
            send(self, *arguments, **options)
            if self._staged:
                self._staged[-1:] = spans.inject(self._staged[-1:])

    return traced


# -- blocks ----------------------------------------------------------------------------------------


def _enter(enter: Method) -> Method:
    def traced(self: receiving.Receiving[Any]) -> Any:
        value = enter(self)
        # Those of asyncio are entered in a thread, where nobody handles them; see below.
        if self._messages and isinstance(self._messages[0], message.Message):
            _running[self] = spans.Processing(self._messages)
        return value

    return traced


def _enter_view(enter: Method) -> Method:
    def traced(self: receiving.ReceivingView) -> Any:
        try:
            return enter(self)
        except BaseException as error:
            _end(self, error)
            raise

    return traced


def _exit(leave: Method) -> Method:
    def traced(self: object, kind: Any, error: BaseException | None, traceback: Any) -> Any:
        try:
            return leave(self, kind, error, traceback)
        except BaseException as failure:
            error = failure
            raise
        finally:
            _end(self, error)

    return traced


def _enter_in_loop(enter: Method) -> Method:
    async def traced(self: aio_receiving.Receiving[Any]) -> Any:
        value = await enter(self)
        if self._block._messages:
            _running[self] = spans.Processing(self._block._messages)
        return value

    return traced


def _exit_in_loop(leave: Method) -> Method:
    async def traced(self: object, kind: Any, error: BaseException | None, traceback: Any) -> Any:
        try:
            return await leave(self, kind, error, traceback)
        except BaseException as failure:
            error = failure
            raise
        finally:
            _end(self, error)

    return traced


# -- loops -----------------------------------------------------------------------------------------


def _next(advance: Method) -> Method:
    def traced(self: iteration.Messages[Any]) -> Any:
        _end(self)
        taken = advance(self)
        _running[self] = spans.Processing((taken,))
        return taken

    return traced


def _close(close: Method) -> Method:
    def traced(self: object, error: BaseException | None) -> None:
        try:
            close(self, error)
        finally:
            _end(self, error)

    return traced


def _next_in_loop(advance: Method) -> Method:
    async def traced(self: aio_iteration.Messages[Any]) -> Any:
        _end(self)
        taken = await advance(self)
        _running[self] = spans.Processing((taken,))
        return taken

    return traced


def _close_in_loop(close: Method) -> Method:
    async def traced(self: object) -> None:
        try:
            await close(self)
        finally:
            _end(self)

    return traced


# -- workers ---------------------------------------------------------------------------------------


def _handle(handle: Method) -> Method:
    def traced(self: worker.Worker[Any], taken: Any) -> None:
        with spans.processed((taken,)):
            handle(self, taken)

    return traced


def _handle_in_loop(handle: Method) -> Method:
    async def traced(self: aio_worker.Worker[Any], taken: Any) -> None:
        with spans.processed((taken,)):
            await handle(self, taken)

    return traced


def _retry(retry: Method) -> Method:
    def traced(self: object, taken: Any, error: Exception) -> Any:
        # The handler's error ends here; in asyncio, the coroutine is only made here.
        spans.fail(trace.get_current_span(), error)
        return retry(self, taken, error)

    return traced


_HOOKS: tuple[tuple[type, str, Callable[[Method], Method]], ...] = (
    (publisher.Publisher, "_put", _put),
    (aio_publisher.Publisher, "_put", _put_in_loop),
    (message.Received, "send", _stage),
    (receiving.Receiving, "__enter__", _enter),
    (receiving.Receiving, "__exit__", _exit),
    (receiving.ReceivingView, "__enter__", _enter_view),
    (aio_receiving.Receiving, "__aenter__", _enter_in_loop),
    (aio_receiving.Receiving, "__aexit__", _exit_in_loop),
    (iteration.Messages, "__next__", _next),
    (iteration.Loop, "_close", _close),
    (aio_iteration.Messages, "__anext__", _next_in_loop),
    (aio_iteration.Messages, "close", _close_in_loop),
    (aio_iteration.Messages, "__aexit__", _exit_in_loop),
    (worker.Worker, "_handle", _handle),
    (worker.Worker, "_retry", _retry),
    (aio_worker.Worker, "_handle", _handle_in_loop),
    (aio_worker.Worker, "_retry", _retry),
)
