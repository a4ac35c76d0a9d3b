"""Receiving from a store that wakes nobody: asking again and again."""

import abc
import time
from typing import Generic, TypeVar

from benchmarks.systems.base import Handle, Receiver

T = TypeVar("T")

#: Seconds between two questions to an empty queue.
PAUSE = 0.001

#: What the reader of the figures is told.
NOTE = "asked every millisecond while empty"


class PollingReceiver(Receiver, Generic[T]):
    """Takes one message at a time, and sleeps while there is none."""

    def take_each(self, handle: Handle, timeout: float) -> None:
        """Take a message, hand it over, acknowledge it; ask again while there is none."""
        deadline = time.monotonic() + timeout
        while True:
            taken = self.take()
            if taken is None:
                if time.monotonic() >= deadline:
                    return
                time.sleep(PAUSE)
                continue
            data, receipt = taken
            go_on = handle(data)
            self.acknowledge(receipt)
            if not go_on:
                return
            deadline = time.monotonic() + timeout

    @abc.abstractmethod
    def take(self) -> tuple[bytes, T] | None:
        """Take a message and what acknowledges it; ``None`` if there is none."""

    @abc.abstractmethod
    def acknowledge(self, receipt: T) -> None:
        """Settle a message."""
