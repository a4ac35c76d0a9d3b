"""persipubsub, synchronous."""

from collections.abc import Callable, Iterable, Sequence

import persipubsub
from benchmarks.systems.base import STORE, Can, Connection, Handle, HandleMany, Receiver, Role, Sender, Survives, System

ABILITIES = STORE | Can.WAIT | Can.FAN_OUT | Can.LOOP | Can.LIMITS


class OurSender(Sender):
    """A Publisher."""

    def __init__(self, publisher: persipubsub.Publisher) -> None:
        """Send with ``publisher``."""
        self._publisher = publisher

    def send(self, data: bytes) -> None:
        self._publisher.send(data)

    def send_each(self, stream: Iterable[bytes]) -> None:
        send = self._publisher.send
        for data in stream:
            send(data)

    def send_many(self, batch: Sequence[bytes]) -> None:
        self._publisher.send_many(batch)


class OurReceiver(Receiver):
    """A Subscriber."""

    def __init__(self, subscriber: persipubsub.Subscriber[bytes]) -> None:
        """Take with ``subscriber``."""
        self._subscriber = subscriber

    def take_each(self, handle: Handle, timeout: float) -> None:
        receive = self._subscriber.receive
        while True:
            with receive(timeout) as data:
                if data is None or not handle(data):
                    return

    def take_batches(self, most: int, handle: HandleMany, timeout: float) -> None:
        while True:
            with self._subscriber.receive_many(most, timeout) as batch:
                if not batch or not handle(batch):
                    return

    def loop_each(self, handle: Handle, timeout: float) -> None:
        with self._subscriber.messages(timeout=timeout) as messages:
            for message in messages:
                if not handle(message.data):
                    return

    def view_each(self, handle: Callable[[memoryview], bool], timeout: float) -> None:
        while True:
            with self._subscriber.receive_view(timeout) as view:
                if view is None or not handle(view):
                    return


class OurConnection(Connection):
    """An Environment."""

    def __init__(self, place: str) -> None:
        """Open the queue."""
        self._environment = persipubsub.Environment(place)
        self._publisher = self._environment.new_publisher()

    def sender(self) -> Sender:
        return OurSender(self._publisher)

    def receiver(self, subscriber: str, competing: bool = False) -> Receiver:
        return OurReceiver(self._environment.new_subscriber(subscriber))

    def close(self) -> None:
        self._environment.close()


class Ours(System):
    """persipubsub with one of its durabilities."""

    role = Role.OURS

    def __init__(self, durability: str) -> None:
        """Have the durability of that name."""
        self.durability = durability
        self.name = f"ours-{durability}"
        self.survives = Survives.PROCESS if durability == "process" else Survives.POWER
        self.can = ABILITIES | Can.VIEW | Can.THREADS | Can.RELAY
        if durability == "commit":
            self.note = "a power cut may take the very last commit"

    def deploy(self, place: str, subscribers: Sequence[str], max_messages: int | None = None) -> None:
        with persipubsub.Environment(place) as environment:
            environment.new_control(
                subscriber_ids=set(subscribers),
                high_water_mark=persipubsub.HighWaterMark(max_messages=max_messages),
                durability=persipubsub.Durability(self.durability),
            )

    def connect(self, place: str) -> Connection:
        return OurConnection(place)
