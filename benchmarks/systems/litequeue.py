"""litequeue: SQLite in WAL mode with ``synchronous = NORMAL``, which does not sync commits."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.systems.base import STORE, Connection, Receiver, Role, Sender, Survives, System
from benchmarks.systems.polling import NOTE, PollingReceiver


class LiteSender(Sender):
    """Puts."""

    def __init__(self, queue: Any) -> None:
        """Put into ``queue``."""
        self._queue = queue

    def send(self, data: bytes) -> None:
        self._queue.put(data)

    def send_many(self, batch: Sequence[bytes]) -> None:
        with self._queue.transaction():
            for data in batch:
                self._queue.put(data)


class LiteReceiver(PollingReceiver[str]):
    """Pops, and marks as done."""

    def __init__(self, queue: Any) -> None:
        """Pop from ``queue``."""
        self._queue = queue

    def take(self) -> tuple[bytes, str] | None:
        message = self._queue.pop()
        return None if message is None else (message.data, message.message_id)

    def acknowledge(self, receipt: str) -> None:
        self._queue.done(receipt)


class LiteConnection(Connection):
    """A connection to the database."""

    def __init__(self, place: str) -> None:
        """Connect."""
        self._queue = importlib.import_module("litequeue").LiteQueue(f"{place}/queue.db", timeout=60)

    def sender(self) -> Sender:
        return LiteSender(self._queue)

    def receiver(self, subscriber: str, competing: bool = False) -> Receiver:
        return LiteReceiver(self._queue)

    def close(self) -> None:
        self._queue.close()


class LiteQueue(System):
    """A queue in one table; one subscriber."""

    name = "litequeue"
    role = Role.PEER
    survives = Survives.PROCESS
    can = STORE
    note = NOTE
    packages = ("litequeue",)

    def deploy(self, place: str, subscribers: Sequence[str], max_messages: int | None = None) -> None:
        self.without_limits(max_messages)
        Path(place).mkdir(parents=True)
        LiteConnection(place).close()

    def connect(self, place: str) -> Connection:
        return LiteConnection(place)
