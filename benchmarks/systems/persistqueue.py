"""persist-queue: files that are not synced, or SQLite with acknowledgements."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.systems.base import STORE, Can, Connection, Receiver, Role, Sender, Survives, System
from benchmarks.systems.polling import NOTE, PollingReceiver


class Plain:
    """Stores bytes as they are; its own serializers would cost it time."""

    @staticmethod
    def dumps(value: bytes) -> bytes:
        """Return ``value``."""
        return value

    @staticmethod
    def loads(value: bytes) -> bytes:
        """Return ``value``."""
        return value

    @staticmethod
    def dump(value: Any, file: BinaryIO) -> None:
        """Write a message, or the book-keeping of the queue."""
        kind, data = (b"B", value) if isinstance(value, bytes) else (b"J", json.dumps(value).encode())
        file.write(kind + len(data).to_bytes(8, "big") + data)

    @staticmethod
    def load(file: BinaryIO) -> Any:
        """Read what ``dump`` wrote."""
        kind = file.read(1)
        data = file.read(int.from_bytes(file.read(8), "big"))
        return data if kind == b"B" else json.loads(data)


class FileSender(Sender):
    """Puts."""

    def __init__(self, queue: Any) -> None:
        """Put into ``queue``."""
        self.queue = queue

    def send(self, data: bytes) -> None:
        self.queue.put(data)


class FileReceiver(PollingReceiver[None]):
    """Gets from files."""

    def __init__(self, queue: Any, empty: type[Exception]) -> None:
        """Get from ``queue``."""
        self._queue = queue
        self._empty = empty

    def take(self) -> tuple[bytes, None] | None:
        try:
            return self._queue.get(block=False), None
        except self._empty:
            return None

    def acknowledge(self, receipt: None) -> None:
        self._queue.task_done()


class SQLiteReceiver(PollingReceiver[int]):
    """Gets from SQLite."""

    def __init__(self, queue: Any, empty: type[Exception]) -> None:
        """Get from ``queue``."""
        self._queue = queue
        self._empty = empty

    def take(self) -> tuple[bytes, int] | None:
        try:
            found = self._queue.get(block=False, raw=True)
        except self._empty:
            return None
        return found["data"], found["pqid"]

    def acknowledge(self, receipt: int) -> None:
        self._queue.ack(id=receipt)


class PersistConnection(Connection):
    """An open queue."""

    def __init__(self, place: str, kind: str) -> None:
        """Open it."""
        self._package = importlib.import_module("persistqueue")
        self._receiver: type[FileReceiver] | type[SQLiteReceiver]
        if kind == "file":
            self._receiver = FileReceiver
            # Its temporary files have to be on the same file system, and are then renamed.
            self._queue = self._package.Queue(place, tempdir=place, serializer=Plain)
        else:
            self._receiver = SQLiteReceiver
            self._queue = self._package.SQLiteAckQueue(place, multithreading=True, timeout=60, serializer=Plain)

    def sender(self) -> Sender:
        return FileSender(self._queue)

    def receiver(self, subscriber: str, competing: bool = False) -> Receiver:
        return self._receiver(self._queue, self._package.Empty)

    def close(self) -> None:
        close = getattr(self._queue, "close", None)
        if close is not None:
            close()


class PersistQueue(System):
    """One subscriber."""

    role = Role.PEER
    packages = ("persist-queue",)

    def __init__(self, kind: str) -> None:
        """Store in a ``file`` or in ``sqlite``."""
        self._kind = kind
        self.name = f"persist-queue-{kind}"
        self.survives = Survives.POWER if kind == "sqlite" else Survives.PROCESS
        if kind == "file":
            self.can = Can.QUEUE | Can.LARGE
            self.note = "one process only"
        else:
            # Two processes that get at once both get the same message.
            self.can = STORE & ~Can.COMPETE
            self.note = NOTE

    def deploy(self, place: str, subscribers: Sequence[str], max_messages: int | None = None) -> None:
        self.without_limits(max_messages)
        Path(place).mkdir(parents=True)
        self.connect(place).close()

    def connect(self, place: str) -> Connection:
        return PersistConnection(place, self._kind)
