"""What is known about a running relay."""

import enum
import time

import msgspec

from persipubsub.arguments import reason_of


class RelayState(enum.Enum):
    """What a relay is doing."""

    STARTING = "starting"
    """It has not reached both queues yet."""
    FORWARDING = "forwarding"
    """It moves messages."""
    IDLE = "idle"
    """There is nothing to forward."""
    FULL = "full"
    """The target has no room; it waits for some."""
    STANDBY = "standby"
    """Another relay of the same name, or what is left of one, holds messages; it waits for its turn."""
    RETRYING = "retrying"
    """Something failed; it tries again in a while."""
    STOPPED = "stopped"
    """It is not running (any more)."""


class RelayStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a relay at one moment; counters run from its start. Times are nanoseconds since the epoch.

    :param name: name of the relay
    :param source: location of the queue that it takes from
    :param target: location of the queue that it sends to
    :param state: what it is doing
    :param since_ns: when it was made
    :param forwarded: messages that the target has stored, or had recognised as stored before
    :param forwarded_bytes: their payload
    :param repeated: messages not sent, because they were found in the target already
    :param turned_back: messages not sent, because they have been in the target's queue before
    :param expired: messages not sent, because their time was over
    :param rejected: messages that the target refuses for ever; they are dead letters of the source
    :param failures: failed attempts, of either side
    :param failing: failed attempts since the last that went well
    :param lag: messages that the source still has for the relay, as last seen; ``None``: not seen yet
    :param last_forwarded_ns: when the target last took something
    :param last_error: what failed last
    :param last_error_ns: when
    :param retry_in: seconds until the next attempt, if it waits for one
    """

    name: str
    source: str
    target: str
    state: RelayState
    since_ns: int
    forwarded: int
    forwarded_bytes: int
    repeated: int
    turned_back: int
    expired: int
    rejected: int
    failures: int
    failing: int
    lag: int | None
    last_forwarded_ns: int | None
    last_error: str | None
    last_error_ns: int | None
    retry_in: float | None


class Tally:
    """The figures as the relay's thread counts them; other threads only read."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.state = RelayState.STOPPED
        self.since_ns = time.time_ns()
        self.forwarded = 0
        self.forwarded_bytes = 0
        self.repeated = 0
        self.turned_back = 0
        self.expired = 0
        self.rejected = 0
        self.failures = 0
        self.failing = 0
        self.lag: int | None = None
        self.last_forwarded_ns: int | None = None
        self.last_error: str | None = None
        self.last_error_ns: int | None = None
        self._retry_at: float | None = None

    def sent(self, messages: int, payload: int) -> None:
        """Count what the target took."""
        if messages:
            self.forwarded += messages
            self.forwarded_bytes += payload
            self.last_forwarded_ns = time.time_ns()

    def failed(self, error: BaseException, delay: float) -> None:
        """Note a failure, and the wait for the next attempt."""
        self.failures += 1
        self.failing += 1
        self.note(error)
        self.state = RelayState.RETRYING
        self._retry_at = time.monotonic() + delay

    def note(self, error: BaseException) -> None:
        """Note what went wrong."""
        self.last_error = reason_of(error)
        self.last_error_ns = time.time_ns()

    def going_on(self) -> None:
        """Note that the wait for the next attempt is over."""
        self._retry_at = None

    def snapshot(self, name: str, source: str, target: str) -> RelayStatus:
        """Return the figures of this moment."""
        retry_at = self._retry_at
        return RelayStatus(
            name=name,
            source=source,
            target=target,
            state=self.state,
            since_ns=self.since_ns,
            forwarded=self.forwarded,
            forwarded_bytes=self.forwarded_bytes,
            repeated=self.repeated,
            turned_back=self.turned_back,
            expired=self.expired,
            rejected=self.rejected,
            failures=self.failures,
            failing=self.failing,
            lag=self.lag,
            last_forwarded_ns=self.last_forwarded_ns,
            last_error=self.last_error,
            last_error_ns=self.last_error_ns,
            retry_in=None if retry_at is None else round(max(0.0, retry_at - time.monotonic()), 3),
        )
