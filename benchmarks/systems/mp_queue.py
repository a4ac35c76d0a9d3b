"""multiprocessing.Queue, a channel that keeps nothing."""

import multiprocessing
import queue
from collections.abc import Sequence
from typing import Any

from benchmarks.systems.base import CHANNEL, Connection, Handle, Receiver, Role, Sender, Survives, System

#: The queues of this process and of those forked from it, by their places.
QUEUES: dict[str, Any] = {}


class QueueSender(Sender):
    """Puts."""

    def __init__(self, channel: Any) -> None:
        """Put into ``channel``."""
        self._channel = channel

    def send(self, data: bytes) -> None:
        self._channel.put(data)


class QueueReceiver(Receiver):
    """Gets."""

    def __init__(self, channel: Any) -> None:
        """Get from ``channel``."""
        self._channel = channel

    def take_each(self, handle: Handle, timeout: float) -> None:
        try:
            while handle(self._channel.get(timeout=timeout)):
                pass
        except queue.Empty:
            pass


class QueueConnection(Connection):
    """The queue itself."""

    def __init__(self, channel: Any) -> None:
        """Use ``channel``."""
        self._channel = channel

    def sender(self) -> Sender:
        return QueueSender(self._channel)

    def receiver(self, subscriber: str, competing: bool = False) -> Receiver:
        return QueueReceiver(self._channel)

    def close(self) -> None:
        self._channel.close()
        self._channel.join_thread()


class MultiprocessingQueue(System):
    """A queue that the measured processes inherit."""

    name = "mp-queue"
    role = Role.REFERENCE
    survives = Survives.NOTHING
    can = CHANNEL
    note = "a put returns before the message is written"
    inherited = True

    def deploy(self, place: str, subscribers: Sequence[str], max_messages: int | None = None) -> None:
        self.without_limits(max_messages)
        QUEUES[place] = multiprocessing.get_context("fork").Queue()

    def connect(self, place: str) -> Connection:
        return QueueConnection(QUEUES[place])

    def discard(self, place: str) -> None:
        QUEUES.pop(place).close()
