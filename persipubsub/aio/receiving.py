"""The blocks in which messages are handled: ``async with subscriber.receive() as msg``."""

import functools
from types import TracebackType
from typing import Generic, TypeVar

from persipubsub.aio.handle import leave
from persipubsub.aio.thread import Thread
from persipubsub.aio.waiting import WaitingLine
from persipubsub.arguments import deadline_of
from persipubsub.delivery import receiving

V = TypeVar("V")


class Receiving(Generic[V]):
    """Takes when the block is entered, acknowledges when it is left cleanly, gives back when it raises.

    A cancellation, too, gives back: at the entrance what the block never saw, uncounted; in the block
    the message that it had. A settlement at the end is carried out even if nobody waits for it.
    """

    __slots__ = ("__weakref__", "_block", "_line", "_thread", "_timeout", "_value")

    def __init__(self, line: WaitingLine, thread: Thread, block: receiving.Receiving[V], timeout: float | None) -> None:
        """Enter and leave ``block``, which does not wait, on the thread.

        :raise SettingsError: ``timeout`` is not a number of seconds
        """
        deadline_of(timeout)
        self._line = line
        self._thread = thread
        self._block = block
        self._timeout = timeout

    async def __aenter__(self) -> V:
        await self._line.until(lambda: self._thread.run(self._enter, self._retreat), deadline_of(self._timeout))
        return self._value

    def _enter(self) -> bool:
        self._value: V = self._block.__enter__()
        return self._block.is_holding

    def _retreat(self, _: bool) -> None:
        self._block.retreat()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._block.is_holding:
            await leave(self._thread, functools.partial(self._block.__exit__, kind, error, traceback), kind)
