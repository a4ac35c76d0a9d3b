"""What durability costs here: the time of an fsync on the very disk, and of sends and receives."""

import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator

import msgspec

from persipubsub.environment import Environment
from persipubsub.limits import Durability

_BLOCK = bytes(4096)
_AT_ONCE = 100


def fsync_seconds(folder: pathlib.Path, times: int = 20) -> float:
    """Return the median time of writing 4 KiB and syncing them, in a file without a name in ``folder``.

    :raise OSError: nothing can be written there
    """
    taken = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as stream:
        for number in range(times):
            os.pwrite(stream.fileno(), _BLOCK, number * len(_BLOCK))
            start = time.perf_counter()
            os.fsync(stream.fileno())
            taken.append(time.perf_counter() - start)
    return sorted(taken)[len(taken) // 2]


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of use of a queue, measured; seconds for one call."""

    durability: str
    what: str
    calls: int
    messages: int
    seconds: float
    median: float
    p99: float
    longest: float

    @property
    def rate(self) -> float:
        """Return messages per second."""
        return self.messages / self.seconds


def measure(folder: pathlib.Path, *, seconds: float, size: int) -> Iterator[Measurement]:
    """Measure sending and receiving in this process, in each durability, on a temporary queue in ``folder``.

    :param seconds: how long each measurement takes, about
    :param size: bytes of payload of each message
    :raise OSError: nothing can be written there
    """
    payload = os.urandom(size)
    for durability in Durability:
        with (
            tempfile.TemporaryDirectory(prefix=".persipubsub-bench-", dir=folder) as temporary,
            Environment(pathlib.Path(temporary) / "queue") as environment,
        ):
            environment.new_control({"bench"}, durability=durability).close()
            yield from _measure(environment, durability, payload, seconds)


def _measure(environment: Environment, durability: Durability, payload: bytes, seconds: float) -> Iterator[Measurement]:
    with environment.new_publisher() as publisher, environment.new_subscriber("bench") as subscriber:

        def receive() -> None:
            with subscriber.receive(timeout=0):
                pass

        sent = _repeat(lambda: publisher.send(payload), seconds)
        yield _summary(durability, "send", sent, 1)
        yield _summary(durability, "receive and acknowledge", _repeat(receive, seconds, len(sent)), 1)
        batch = [payload] * _AT_ONCE
        batches = _repeat(lambda: publisher.send_many(batch), seconds)
        yield _summary(durability, f"send {_AT_ONCE} at once", batches, _AT_ONCE)


def _repeat(call: Callable[[], object], seconds: float, most: int | None = None) -> list[float]:
    """Return how long each call took; at least one, at most so many."""
    taken: list[float] = []
    start = time.perf_counter()
    end = start + seconds
    while not taken or (start < end and len(taken) != most):
        call()
        now = time.perf_counter()
        taken.append(now - start)
        start = now
    return taken


def _summary(durability: Durability, what: str, taken: list[float], batch: int) -> Measurement:
    ordered = sorted(taken)
    return Measurement(
        durability=durability.value,
        what=what,
        calls=len(ordered),
        messages=len(ordered) * batch,
        seconds=sum(ordered),
        median=ordered[len(ordered) // 2],
        p99=ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
        longest=ordered[-1],
    )
