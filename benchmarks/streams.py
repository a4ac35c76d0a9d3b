"""What measured processes send, and what they do with what they receive."""

import time
from collections.abc import Iterator, Sequence

#: Bytes of a message, unless a workload is about its size.
SIZE = 128

NUMBER = 8


def numbered(number: int, size: int = SIZE) -> bytes:
    """Return a message of ``size`` bytes that begins with ``number``."""
    return number.to_bytes(NUMBER, "big") + bytes(size - NUMBER)


def number_of(data: bytes) -> int:
    """Return the number that a message begins with."""
    return int.from_bytes(data[:NUMBER], "big")


class Stream:
    """Gives the same message again and again, for a time or a number, and counts.

    The clock is read before the first and after the last, and in between only now and then.

    :param data: the message
    :param seconds: how long
    :param most: how many
    """

    #: How many messages go between two looks at the clock.
    BETWEEN = 8

    def __init__(self, data: bytes, seconds: float = float("inf"), most: int = 2**62) -> None:
        """Prepare."""
        self._data = data
        self._seconds = seconds
        self._most = most
        self.count = 0
        self.begun = 0.0
        self.ended = 0.0

    def __iter__(self) -> Iterator[bytes]:
        data, most, between = self._data, self._most, self.BETWEEN
        clock = time.perf_counter
        count = 0
        self.begun = clock()
        deadline = self.begun + self._seconds
        while count < most:
            if not count % between and count and clock() >= deadline:
                break
            yield data
            count += 1
        self.ended = clock()
        self.count = count

    @property
    def rate(self) -> float:
        """Return messages per second."""
        return self.count / (self.ended - self.begun) if self.count else 0.0


class TimedStream:
    """Gives the same message again and again, and keeps what each send took.

    :param data: the message
    :param seconds: how long
    :param most: how many
    """

    def __init__(self, data: bytes, seconds: float, most: int = 2**62) -> None:
        """Prepare."""
        self._data = data
        self._seconds = seconds
        self._most = most
        #: Nanoseconds, one by one.
        self.taken: list[int] = []

    def __iter__(self) -> Iterator[bytes]:
        clock = time.perf_counter_ns
        note = self.taken.append
        deadline = clock() + int(self._seconds * 1e9)
        for _ in range(self._most):
            before = clock()
            yield self._data
            after = clock()
            note(after - before)
            if after >= deadline:
                return


class Counter:
    """Is handed messages, one or several at a time, for a time or a number, and counts.

    :param seconds: how long, from the first look on
    :param most: how many
    """

    def __init__(self, seconds: float = float("inf"), most: int = 2**62) -> None:
        """Start the clock."""
        self._most = most
        self.count = 0
        self.begun = time.perf_counter()
        self._deadline = self.begun + seconds

    def __call__(self, data: bytes | memoryview) -> bool:
        """Count a message."""
        self.count += 1
        return self.count < self._most and (self.count % 8 > 0 or time.perf_counter() < self._deadline)

    def many(self, batch: Sequence[bytes]) -> bool:
        """Count a batch."""
        self.count += len(batch)
        return self.count < self._most and time.perf_counter() < self._deadline

    @property
    def rate(self) -> float:
        """Return messages per second until now."""
        return self.count / (time.perf_counter() - self.begun)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of all do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -int(-share * len(ranked) // 1) - 1))]
