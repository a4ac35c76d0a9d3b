"""What the tests of a program need that uses queues: a queue in memory, its clock, and owners that die.

>>> from persipubsub import testing
>>> with testing.queue({"worker"}) as queue:
...     worker = queue.join()                      # as another process would open it
...     _ = queue.env.new_publisher().send(b"frame")
...     taken = worker.new_subscriber("worker").get(timeout=0)
...     queue.crash(worker)                        # as if kill -9 had hit that process
...     again = queue.env.new_subscriber("worker").get(timeout=0)
...     print(again.data, again.delivery_count)
b'frame' 2

It is the memory engine: the same rules as on disk, without files and without other processes. What a program
promises across a real ``kill -9`` or a power cut is tested with a queue in a temporary directory.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

from persipubsub.arguments import MAX_SECONDS
from persipubsub.deploying import SubscriberIds, add_missing, check_subscribers
from persipubsub.engine import clock as clocks
from persipubsub.engine.memory import MemoryEngine, open_memory
from persipubsub.environment import Environment
from persipubsub.errors import OpenError, SettingsError
from persipubsub.limits import Settings, check_settings

__all__ = ["Clock", "Queue", "queue"]

_NUMBERS = itertools.count(1)


class Clock(clocks.Clock):
    """The wall clock and the boot-time clock of a queue under test: they stand still until they are turned.

    >>> clock = Clock()
    >>> before = clock.wall_ns()
    >>> clock.go(90)
    >>> (clock.wall_ns() - before) / 10**9
    90.0
    """

    def __init__(self) -> None:
        """Start at the time of the machine."""
        super().__init__()
        self._wall_ns = super().wall_ns()
        self._boot_ns = super().boot_ns()
        self._engines: list[MemoryEngine] = []

    def wall_ns(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        return self._wall_ns

    def boot_ns(self) -> int:
        """Return nanoseconds of the clock that leases go by."""
        return self._boot_ns

    def go(self, seconds: float) -> None:
        """Let time pass: leases end, delayed messages become due, old ones expire, and who waits for that is woken.

        Does not block; safe to call from any thread. ``timeout`` arguments are not concerned: they are
        waited for in real time.

        :param seconds: how much, 0 or more
        :raise SettingsError: it is no such number
        """
        passed_ns = _nanoseconds(seconds)
        self._wall_ns += passed_ns
        self._boot_ns += passed_ns
        for engine in self._engines:
            engine.look_again()

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock ``seconds`` ahead, or back if negative, as somebody with a wrong watch does.

        No time passes by that: leases do not notice.
        """
        self._wall_ns += round(seconds * 1e9)
        for engine in self._engines:
            engine.look_again()


class Queue:
    """A queue under test; ``queue()`` makes it, and closes everything at the end of its block.

    It lives in the memory of this process alone, and is safe to use from any thread. None of its methods blocks.
    """

    def __init__(self, location: str, clock: Clock) -> None:
        """Belong to the queue in memory at ``location``."""
        self._location = location
        self._clock = clock
        self._opened: list[Environment] = []
        self._env = self.join()

    @property
    def location(self) -> str:
        """Return what code under test may give to ``Environment`` in place of a path; valid inside the block."""
        return self._location

    @property
    def clock(self) -> Clock:
        """Return the clock of the queue."""
        return self._clock

    @property
    def env(self) -> Environment:
        """Return the Environment of the test itself."""
        return self._env

    def join(self) -> Environment:
        """Open the queue as one more owner of leases, as another process would."""
        environment = Environment(self._location)
        self._opened.append(environment)
        return environment

    def crash(self, env: Environment) -> None:
        """Let the owner ``env`` die, as by ``kill -9``: what it held is delivered next, to whoever asks.

        A crashed Environment and all that was made from it is closed: the code of a dead process does
        nothing any more. Its ephemeral subscribers vanish. Does not block.

        :param env: one that ``join`` or ``env`` gave
        :raise OpenError: it belongs to another queue
        """
        if env not in self._opened:
            raise OpenError(f"{env!r} was not opened by this queue; open it with join().")
        # Before anything made from it is closed, which would give back its batches as never handed over.
        if not env.closed:
            engine = env._connection.engine()
            if isinstance(engine, MemoryEngine):
                engine.die()
        env.close()

    def payloads(self, subscriber: str) -> list[bytes]:
        """Take and acknowledge all that a subscriber can have now, and return the payloads in their order.

        :raise UnknownSubscriberError: the queue has no such subscriber
        """
        found: list[bytes] = []
        with self._env.new_subscriber(subscriber) as receiver:
            while True:
                message = receiver.pop(timeout=0)
                if message is None:
                    return found
                found.append(message.data)

    def _close(self) -> None:
        for environment in self._opened:
            environment.close()


@contextlib.contextmanager
def queue(subscriber_ids: SubscriberIds = (), **settings: Any) -> Iterator[Queue]:
    """Give a new queue in memory, with a clock of its own, to a ``with`` block; it is gone afterwards.

    >>> import persipubsub
    >>> with queue({"worker"}, strategy=persipubsub.Strategy.REJECT) as under_test:
    ...     _ = under_test.env.new_publisher().send(b"later", delay=60)
    ...     before = under_test.payloads("worker")
    ...     under_test.clock.go(60)
    ...     before, under_test.payloads("worker")
    ([], [b'later'])

    :param subscriber_ids: identifiers, or a mapping from identifiers to SubscriberSettings
    :param settings: those of :class:`~persipubsub.Settings`, such as ``retention=Retention.LOG``
    :raise SettingsError: there is no such setting, or a value makes no sense
    :raise IdentifierError: an identifier breaks the rules
    """
    unknown = sorted(settings.keys() - set(Settings.__struct_fields__))
    if unknown:
        raise SettingsError(f"There is no setting {unknown[0]!r}; there are: {', '.join(Settings.__struct_fields__)}.")
    checked = check_settings(Settings(**settings))
    subscribers = check_subscribers(subscriber_ids)
    name = f"persipubsub-testing-{next(_NUMBERS)}"
    clock = Clock()
    # This engine keeps the queue in being while no Environment has it open.
    with contextlib.closing(open_memory(name, create=checked, clock=clock)) as engine:
        add_missing(engine, subscribers)
        clock._engines.append(engine)
        under_test = Queue(f"memory:{name}", clock)
        try:
            yield under_test
        finally:
            under_test._close()


def _nanoseconds(seconds: object) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= MAX_SECONDS:
        raise SettingsError(f"go takes a number of seconds from 0 on, but got {seconds!r}; time never goes back.")
    return round(seconds * 1e9)
