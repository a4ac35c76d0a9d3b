"""py-lmdb itself: what a queue on LMDB cannot do faster.

Two sub-databases: 8-byte keys appended, the payload in one and an 8-byte timestamp in the other. Sending
is one write transaction. Receiving is one read transaction and one that deletes; of several that compete,
one write transaction that does both. Nobody is woken: a receiver polls, on a processor of its own.
"""

import struct
import time
from collections.abc import Sequence

import lmdb

from benchmarks.systems.base import STORE, Can, Connection, Handle, HandleMany, Receiver, Role, Sender, Survives, System

MAP_SIZE = 32 * 1024**3
KEY = struct.Struct(">Q")

#: How the environment is opened, by the name of the floor.
FLAGS: dict[str, dict[str, bool]] = {
    "floor-process": {"sync": False, "writemap": True},
    "floor-process-nomap": {"sync": False},
    "floor-commit": {"metasync": False},
    "floor-full": {},
}


class FloorConnection(Connection):
    """An open environment; several threads may send through it, but of one process only."""

    def __init__(self, place: str, flags: dict[str, bool]) -> None:
        """Open it."""
        self.environment = lmdb.open(place, map_size=MAP_SIZE, max_dbs=2, **flags)
        self.data = self.environment.open_db(b"data")
        self.meta = self.environment.open_db(b"meta")
        with self.environment.begin(db=self.data) as transaction, transaction.cursor() as cursor:
            self.next = KEY.unpack(cursor.key())[0] + 1 if cursor.last() else 0

    def sender(self) -> Sender:
        return FloorSender(self)

    def receiver(self, subscriber: str, competing: bool = False) -> Receiver:
        return FloorCompetitor(self) if competing else FloorReceiver(self)

    def close(self) -> None:
        self.environment.close()


class FloorSender(Sender):
    """Writes."""

    def __init__(self, connection: FloorConnection) -> None:
        """Write to ``connection``."""
        self._connection = connection

    def send(self, data: bytes) -> None:
        connection = self._connection
        stamp = KEY.pack(time.time_ns())
        with connection.environment.begin(write=True) as transaction:
            key = KEY.pack(connection.next)
            connection.next += 1
            transaction.put(key, data, append=True, db=connection.data)
            transaction.put(key, stamp, append=True, db=connection.meta)

    def send_many(self, batch: Sequence[bytes]) -> None:
        connection = self._connection
        stamp = KEY.pack(time.time_ns())
        with connection.environment.begin(write=True) as transaction:
            put = transaction.put
            for data in batch:
                key = KEY.pack(connection.next)
                connection.next += 1
                put(key, data, append=True, db=connection.data)
                put(key, stamp, append=True, db=connection.meta)


class FloorReceiver(Receiver):
    """Reads, and deletes what was read."""

    def __init__(self, connection: FloorConnection) -> None:
        """Read from ``connection``."""
        self._connection = connection
        self._position = 0

    def take_each(self, handle: Handle, timeout: float) -> None:
        connection = self._connection
        environment = connection.environment
        deadline = time.monotonic() + timeout
        while True:
            with environment.begin() as transaction:
                key = KEY.pack(self._position)
                data = transaction.get(key, db=connection.data)
            if data is None:
                if time.monotonic() >= deadline:
                    return
                time.sleep(0)
                continue
            go_on = handle(data)
            with environment.begin(write=True) as transaction:
                transaction.delete(key, db=connection.data)
                transaction.delete(key, db=connection.meta)
            self._position += 1
            if not go_on:
                return
            deadline = time.monotonic() + timeout

    def take_batches(self, most: int, handle: HandleMany, timeout: float) -> None:
        connection = self._connection
        environment = connection.environment
        while True:
            with environment.begin(db=connection.data) as transaction, transaction.cursor() as cursor:
                found: list[tuple[bytes, bytes]] = []
                if cursor.set_range(KEY.pack(self._position)):
                    for item in cursor.iternext():
                        found.append(item)
                        if len(found) == most:
                            break
            if not found:
                return
            go_on = handle([data for _, data in found])
            with environment.begin(write=True) as transaction:
                delete = transaction.delete
                for key, _ in found:
                    delete(key, db=connection.data)
                    delete(key, db=connection.meta)
            self._position += len(found)
            if not go_on:
                return


class FloorCompetitor(Receiver):
    """Reads and deletes in one transaction, so that no two take the same message."""

    def __init__(self, connection: FloorConnection) -> None:
        """Read from ``connection``."""
        self._connection = connection

    def take_each(self, handle: Handle, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            data = self._pop()
            if data is None:
                if time.monotonic() >= deadline:
                    return
                time.sleep(0)
            elif handle(data):
                deadline = time.monotonic() + timeout
            else:
                return

    def _pop(self) -> bytes | None:
        connection = self._connection
        with connection.environment.begin(write=True) as transaction:
            with transaction.cursor(db=connection.data) as cursor:
                if not cursor.first():
                    return None
                key, data = cursor.item()
            transaction.delete(key, db=connection.data)
            transaction.delete(key, db=connection.meta)
        return bytes(data)


class Floor(System):
    """py-lmdb with the flags of one durability."""

    role = Role.FLOOR
    can = STORE | Can.FAN_OUT | Can.THREADS
    packages = ("lmdb",)

    def __init__(self, name: str) -> None:
        """Have the flags of that name."""
        self.name = name
        self.durability = name.split("-")[1]
        self.survives = Survives.PROCESS if self.durability == "process" else Survives.POWER
        self.note = {
            "floor-process": "with a writable map",
            "floor-process-nomap": "without a writable map",
            "floor-commit": "metasync off",
            "floor-full": "sync",
        }[name]

    def deploy(self, place: str, subscribers: Sequence[str], max_messages: int | None = None) -> None:
        self.without_limits(max_messages)
        FloorConnection(place, FLAGS[self.name]).close()

    def connect(self, place: str) -> Connection:
        return FloorConnection(place, FLAGS[self.name])
