"""honker: SQLite with an extension in Rust, in WAL mode with ``synchronous = NORMAL``, which does not sync commits."""

import asyncio
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.systems.base import STORE, Can, Connection, Handle, HandleMany, Receiver, Role, Sender, Survives, System


class HonkerSender(Sender):
    """Enqueues; its payloads are JSON, so bytes travel as text."""

    def __init__(self, database: Any, queue: Any) -> None:
        """Enqueue into ``queue``."""
        self._database = database
        self._queue = queue

    def send(self, data: bytes) -> None:
        self._queue.enqueue(data.decode("latin-1"))

    def send_many(self, batch: Sequence[bytes]) -> None:
        with self._database.transaction() as transaction:
            for data in batch:
                self._queue.enqueue(data.decode("latin-1"), tx=transaction)


class HonkerReceiver(Receiver):
    """Claims, and acknowledges; waiting is asynchronous."""

    def __init__(self, queue: Any) -> None:
        """Claim from ``queue``."""
        self._queue = queue
        self._worker = f"worker-{os.getpid()}"

    def take_each(self, handle: Handle, timeout: float) -> None:
        asyncio.run(self._take(handle, timeout))

    async def _take(self, handle: Handle, timeout: float) -> None:
        waiting = self._queue.claim(self._worker)
        while True:
            job = self._queue.claim_one(self._worker)
            if job is None:
                if timeout <= 0:
                    return
                try:
                    job = await asyncio.wait_for(anext(waiting), timeout)
                except (TimeoutError, StopAsyncIteration):
                    return
            go_on = handle(job.payload.encode("latin-1"))
            job.ack()
            if not go_on:
                return

    def take_batches(self, most: int, handle: HandleMany, timeout: float) -> None:
        while jobs := self._queue.claim_batch(self._worker, most):
            go_on = handle([job.payload.encode("latin-1") for job in jobs])
            self._queue.ack_batch([job.id for job in jobs], self._worker)
            if not go_on:
                return


class HonkerConnection(Connection):
    """An open database."""

    def __init__(self, place: str) -> None:
        """Open it."""
        self._database = importlib.import_module("honker").open(f"{place}/honker.db")
        self._queue = self._database.queue("queue")

    def sender(self) -> Sender:
        return HonkerSender(self._database, self._queue)

    def receiver(self, subscriber: str, competing: bool = False) -> Receiver:
        return HonkerReceiver(self._queue)

    def close(self) -> None:
        self._database.close()


class Honker(System):
    """A job queue; one subscriber."""

    name = "honker"
    role = Role.PEER
    survives = Survives.PROCESS
    can = STORE | Can.WAIT
    packages = ("honker",)

    def deploy(self, place: str, subscribers: Sequence[str], max_messages: int | None = None) -> None:
        self.without_limits(max_messages)
        Path(place).mkdir(parents=True)
        self.connect(place).close()

    def connect(self, place: str) -> Connection:
        return HonkerConnection(place)
