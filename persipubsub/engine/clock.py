"""The two clocks of a queue, in one object so that tests can turn their hands."""

import time

_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """Tell the time; replace it by a subclass to test what depends on time.

    >>> clock = Clock()
    >>> clock.boot_ns() <= clock.boot_ns()
    True
    """

    def wall_ns(self) -> int:
        """Return nanoseconds since the Unix epoch; somebody may set this clock."""
        return time.time_ns()

    def boot_ns(self) -> int:
        """Return nanoseconds of a clock that nobody can set.

        It goes on while the machine sleeps where the system has such a clock (Linux); elsewhere it
        is the monotonic one.
        """
        return time.clock_gettime_ns(_BOOT)
