"""A queue under test, whatever its engine, with a clock whose hands the test turns."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from persipubsub import (
    Control,
    Durability,
    Environment,
    HighWaterMark,
    Message,
    Publisher,
    Statistics,
    Subscriber,
    SubscriberSettings,
    SubscriberStatistics,
)
from persipubsub.engine.clock import Clock
from tests.process.support import BOUND

SECOND = 10**9
_LIMITS = ("message_timeout", "max_messages", "max_bytes")


class FakeClock(Clock):
    """Two clocks that stand still until somebody turns them."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000 * SECOND
        self.boot = 5_000 * SECOND

    def wall_ns(self) -> int:
        return self.wall

    def boot_ns(self) -> int:
        return self.boot

    def go(self, seconds: float) -> None:
        """Let time pass on both."""
        self.wall += round(seconds * SECOND)
        self.boot += round(seconds * SECOND)

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock, as somebody with a wrong watch does; no time passes."""
        self.wall += round(seconds * SECOND)


class Queue:
    """A queue and everybody who has it open."""

    def __init__(self, engine: str, location: str, clock: FakeClock, durability: Durability) -> None:
        self.engine = engine
        self.location = location
        self.clock = clock
        self.durability = durability
        self._open: list[Environment] = []
        self.env = self.join()

    def join(self) -> Environment:
        """Open the queue as one more owner."""
        environment = Environment(self.location)
        self._open.append(environment)
        return environment

    def deploy(
        self, subscribers: Iterable[str] | Mapping[str, SubscriberSettings] = ("a",), **settings: Any
    ) -> Control:
        """Create the queue; the limits are given by their own names."""
        mark = {name: settings.pop(name) for name in _LIMITS if name in settings}
        given = subscribers if isinstance(subscribers, Mapping) else set(subscribers)
        return self.env.new_control(given, HighWaterMark(**mark), durability=self.durability, **settings)

    def limit(self, **mark: Any) -> None:
        """Change the limits; those not named are taken away."""
        self.control.set_high_water_mark(HighWaterMark(**mark))

    @property
    def control(self) -> Control:
        return self.env.open_control()

    @property
    def pub(self) -> Publisher:
        return self.env.new_publisher()

    def sub(self, identifier: str = "a") -> Subscriber[bytes]:
        """Return a subscriber of the first owner."""
        return self.env.new_subscriber(identifier)

    def send(self, *payloads: bytes, **options: Any) -> list[int]:
        """Send messages, each by itself, and return their ids."""
        publisher = self.pub
        return [publisher.send(payload, **options) for payload in payloads]

    def fill(self, count: int, size: int = 1) -> list[int]:
        """Send ``count`` messages, each by itself."""
        return self.send(*[b"x" * size] * count)

    def take(self, identifier: str = "a", **options: Any) -> Message[bytes]:
        """Take the message that must be there."""
        message = self.sub(identifier).get(timeout=0, **options)
        assert message is not None
        return message

    def take_nothing(self, identifier: str = "a") -> None:
        """Look for a message where there is none to be had now."""
        assert self.sub(identifier).get(timeout=0) is None

    def statistics(self) -> Statistics:
        return self.control.statistics()

    def counted(self) -> Statistics:
        """Return the figures but for the space on disk, which the file system gives as it likes."""
        return msgspec.structs.replace(self.statistics(), file_bytes=0)

    def figures(self, identifier: str = "a") -> SubscriberStatistics:
        return next(each for each in self.statistics().subscribers if each.identifier == identifier)

    def lag(self, identifier: str = "a") -> tuple[int, int, int]:
        """Return how many messages are waiting, leased and delayed."""
        figures = self.figures(identifier)
        assert figures.lag == figures.waiting + figures.leased + figures.delayed
        return figures.waiting, figures.leased, figures.delayed

    def retained(self) -> list[int]:
        """Return the ids of what the queue keeps."""
        ids = [message.id for message in self.env.browse()]
        assert len(ids) == self.statistics().messages
        return ids

    def close(self) -> None:
        """End the test: what is stored must be consistent, before and after everybody has left."""
        checker = Environment(self.location)
        try:
            if checker.open_control().is_initialized():
                assert checker.open_control().check() == []
                for environment in self._open:
                    environment.close()
                assert checker.open_control().check() == []
                for figures in checker.open_control().statistics().subscribers:
                    assert figures.leased == 0, f"{figures.identifier} has leases that belong to nobody"
        finally:
            for environment in self._open:
                environment.close()
            checker.close()


def rest(subscriber: Subscriber[Any]) -> list[Any]:
    """Take and settle all that can be had now; return the payloads."""
    found: list[Any] = []
    while True:
        with subscriber.receive_many(1000, timeout=0) as payloads:
            if not payloads:
                return found
            found.extend(payloads)


def ids_of(messages: Iterable[Message[Any]]) -> list[int]:
    return [message.id for message in messages]


def run_all(*jobs: Callable[[], object]) -> None:
    """Run jobs in threads and wait for all; what one raised is raised here."""
    failures: list[BaseException] = []

    def guarded(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - told to the test below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
        assert not thread.is_alive()
    if failures:
        raise failures[0]
