"""When a message that failed comes again: shared by the workers of threads and of asyncio."""

import dataclasses
import random
import signal
from collections.abc import Sequence

from persipubsub.arguments import MAX_SECONDS, check_count
from persipubsub.errors import SettingsError

#: What ends a worker, unless it is told otherwise.
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclasses.dataclass(frozen=True, slots=True)
class Backoff:
    """How long a message that failed waits: exponentially longer, with jitter so that they do not come in herds.

    >>> Backoff(first=1, factor=2, longest=60, jitter=0).delay(4)
    8.0

    :param first: seconds after the first failure
    :param factor: by which each further failure makes it longer
    :param longest: seconds, however many failures there were
    :param jitter: the part of it, from 0 to 1, that is left to chance
    """

    first: float = 1.0
    factor: float = 2.0
    longest: float = 300.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        """Check the values.

        :raise SettingsError: one makes no sense
        """
        for name, low, high in (
            ("first", 0.0, MAX_SECONDS),
            ("factor", 1.0, 1000.0),
            ("longest", 0.0, MAX_SECONDS),
            ("jitter", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise SettingsError(f"{name} must be a number from {low:g} to {high:g}, but is {value!r}.")

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after so many failures."""
        try:
            whole = float(min(self.first * self.factor ** max(failures - 1, 0), self.longest))
        except OverflowError:
            whole = float(self.longest)
        return whole * (1 - self.jitter * random.random())


def check_worker(concurrency: object, grace: object, signals: Sequence[int]) -> tuple[signal.Signals, ...]:
    """Check the arguments of a worker and return the signals.

    :raise SettingsError: one makes no sense
    """
    check_count("concurrency", concurrency)
    if isinstance(grace, bool) or not isinstance(grace, (int, float)) or not 0 <= grace <= MAX_SECONDS:
        raise SettingsError(f"grace must be a number of seconds from 0 on, but is {grace!r}.")
    try:
        return tuple(signal.Signals(number) for number in signals)
    except (TypeError, ValueError):
        raise SettingsError(f"signals must be a list of signals such as signal.SIGTERM, but is {signals!r}.") from None
