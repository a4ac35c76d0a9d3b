"""persipubsub.aio."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.systems.base import Can, Connection, Handle, HandleMany, Receiver, Sender
from benchmarks.systems.ours import ABILITIES, Ours

if TYPE_CHECKING:
    from persipubsub import aio

T = TypeVar("T")


class LoopConnection(Connection):
    """A connection whose client lives on an event loop of its own."""

    def __init__(self) -> None:
        """Make the loop."""
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` to its end on the loop."""
        return self._loop.run_until_complete(work)

    def send_at_once(self, streams: Sequence[Iterable[bytes]]) -> None:
        """Send several streams concurrently: a task for each."""

        async def send_all() -> None:
            async with asyncio.TaskGroup() as tasks:
                for stream in streams:
                    tasks.create_task(self.send_stream(stream))

        self.run(send_all())

    async def send_stream(self, stream: Iterable[bytes]) -> None:
        """Send the messages of ``stream`` one at a time."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the loop."""
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


class AioSender(Sender):
    """A Publisher of aio."""

    def __init__(self, connection: "AioConnection") -> None:
        """Send through ``connection``."""
        self._connection = connection

    def send(self, data: bytes) -> None:
        self.send_each([data])

    def send_each(self, stream: Iterable[bytes]) -> None:
        self._connection.run(self._connection.send_stream(stream))

    def send_many(self, batch: Sequence[bytes]) -> None:
        self._connection.run(self._connection.publisher.send_many(batch))


class AioReceiver(Receiver):
    """A Subscriber of aio."""

    def __init__(self, connection: "AioConnection", subscriber: "aio.Subscriber[bytes]") -> None:
        """Take with ``subscriber``."""
        self._run = connection.run
        self._subscriber = subscriber

    def take_each(self, handle: Handle, timeout: float) -> None:
        async def take() -> None:
            while True:
                async with self._subscriber.receive(timeout) as data:
                    if data is None or not handle(data):
                        return

        self._run(take())

    def take_batches(self, most: int, handle: HandleMany, timeout: float) -> None:
        async def take() -> None:
            while True:
                async with self._subscriber.receive_many(most, timeout) as batch:
                    if not batch or not handle(batch):
                        return

        self._run(take())

    def loop_each(self, handle: Handle, timeout: float) -> None:
        async def take() -> None:
            async with self._subscriber.messages(timeout=timeout) as messages:
                async for message in messages:
                    if not handle(message.data):
                        return

        self._run(take())


class AioConnection(LoopConnection):
    """An Environment of aio."""

    def __init__(self, place: str) -> None:
        """Open the queue."""
        from persipubsub import aio  # an older revision under comparison has none

        super().__init__()
        self._environment = aio.Environment(place)
        self.publisher = self.run(self._environment.new_publisher())

    async def send_stream(self, stream: Iterable[bytes]) -> None:
        """Send the messages of ``stream`` one at a time."""
        send = self.publisher.send
        for data in stream:
            await send(data)

    def sender(self) -> Sender:
        return AioSender(self)

    def receiver(self, subscriber: str, competing: bool = False) -> Receiver:
        return AioReceiver(self, self.run(self._environment.new_subscriber(subscriber)))

    def close(self) -> None:
        self.run(self._environment.close())
        super().close()


class OursAio(Ours):
    """persipubsub.aio with one of its durabilities."""

    def __init__(self, durability: str) -> None:
        """Have the durability of that name."""
        super().__init__(durability)
        self.name = f"ours-{durability}-aio"
        self.can = ABILITIES | Can.TASKS

    def connect(self, place: str) -> Connection:
        return AioConnection(place)
