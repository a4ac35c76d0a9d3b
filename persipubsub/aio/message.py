"""Messages as asynchronous subscribers receive them."""

from typing import TypeVar

from persipubsub.aio.thread import Thread
from persipubsub.delivery.settling import Settler
from persipubsub.engine.messages import Delivery
from persipubsub.message import HELD, Received

T = TypeVar("T")


class Message(Received[T]):
    """A message, to be settled with ``await``; all else is as in :class:`persipubsub.Message`.

    A settlement that was begun is carried out, even if the task that waits for it is cancelled.
    ``send`` only stages a message, so there is nothing to await.
    """

    __slots__ = ("_thread",)

    def __init__(
        self, thread: Thread, holder: Settler, delivery: Delivery, data: T, generation: int, state: int = HELD
    ) -> None:
        """Wrap a delivery; subscribers do so."""
        super().__init__(holder, delivery, data, generation, state)
        self._thread = thread

    async def ack(self) -> None:
        """Settle it, and publish what was staged by ``send``, in one transaction.

        :raise LeaseLostError: it belongs to somebody else by now; nothing was changed
        :raise QueueFullError: there is no room for what was staged; nothing was changed
        """
        await self._thread.run(self._ack, kept=True)

    async def nack(self, delay: float = 0, reason: str | None = None) -> None:
        """Give it back: it is the next one delivered, or comes when ``delay`` seconds are over.

        :raise LeaseLostError: it belongs to somebody else by now; nothing was changed
        """
        await self._thread.run(lambda: self._nack(delay, reason), kept=True)

    async def reject(self, reason: str) -> None:
        """Move it to the subscriber's dead letters; what was staged is dropped.

        :raise LeaseLostError: it belongs to somebody else by now; nothing was changed
        """
        await self._thread.run(lambda: self._reject(reason), kept=True)

    async def extend(self, seconds: float) -> None:
        """Let its bounded lease end ``seconds`` from now.

        :raise LeaseLostError: it belongs to somebody else by now
        """
        await self._thread.run(lambda: self._extend(seconds), kept=True)
