"""SimpleBroker: SQLite in WAL mode; a message is gone once it was read."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.systems.base import STORE, Connection, HandleMany, Receiver, Role, Sender, Survives, System
from benchmarks.systems.polling import NOTE, PollingReceiver

#: Bytes of a message.
MOST = 64 * 1024**2


class BrokerSender(Sender):
    """Writes text, which is all it takes."""

    def __init__(self, queue: Any) -> None:
        """Write to ``queue``."""
        self._queue = queue

    def send(self, data: bytes) -> None:
        self._queue.write(data.decode("latin-1"))


class BrokerReceiver(PollingReceiver[None]):
    """Reads, which settles."""

    def __init__(self, queue: Any) -> None:
        """Read from ``queue``."""
        self._queue = queue

    def take(self) -> tuple[bytes, None] | None:
        text = self._queue.read_one()
        return None if text is None else (text.encode("latin-1"), None)

    def acknowledge(self, receipt: None) -> None:
        pass

    def take_batches(self, most: int, handle: HandleMany, timeout: float) -> None:
        while batch := self._queue.read_many(most):
            if not handle([text.encode("latin-1") for text in batch]):
                return


class BrokerConnection(Connection):
    """A queue with a lasting connection."""

    def __init__(self, place: str, sync: str) -> None:
        """Connect."""
        package = importlib.import_module("simplebroker")
        # Text of 10 MiB of bytes may have 20 MiB, and its limit is 10.
        config = package.resolve_config(override={"BROKER_SYNC_MODE": sync, "BROKER_MAX_MESSAGE_SIZE": MOST})
        self._queue = package.Queue("queue", db_path=f"{place}/broker.db", persistent=True, config=config)

    def sender(self) -> Sender:
        return BrokerSender(self._queue)

    def receiver(self, subscriber: str, competing: bool = False) -> Receiver:
        return BrokerReceiver(self._queue)

    def close(self) -> None:
        self._queue.close()


class SimpleBroker(System):
    """A broker in one file; one subscriber."""

    role = Role.PEER
    can = STORE
    packages = ("simplebroker",)

    def __init__(self, sync: str) -> None:
        """Have SQLite sync ``FULL`` or ``NORMAL``."""
        self._sync = sync
        self.name = "simplebroker" if sync == "FULL" else "simplebroker-normal"
        self.survives = Survives.POWER if sync == "FULL" else Survives.PROCESS
        self.note = f"a message is settled before it is handled; {NOTE}"

    def deploy(self, place: str, subscribers: Sequence[str], max_messages: int | None = None) -> None:
        self.without_limits(max_messages)
        Path(place).mkdir(parents=True)
        self.connect(place).close()

    def connect(self, place: str) -> Connection:
        return BrokerConnection(place, self._sync)
