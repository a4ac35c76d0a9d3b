"""The work of a relay: batches from the source to the target, and what is done about failures."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from persipubsub.errors import (
    ClosedError,
    FormatVersionError,
    IdentifierError,
    MessageError,
    NotAQueueError,
    PersipubsubError,
    PositionError,
    QueueDamagedError,
    QueueFullError,
    QueueNotFoundError,
    QueuePermissionError,
    SettingsError,
    SettingsMismatchError,
    UnsupportedByEngineError,
)
from persipubsub.message import Message
from persipubsub.relay.events import Log, logger
from persipubsub.relay.source import SomebodyElseError, Source
from persipubsub.relay.status import RelayState, Tally
from persipubsub.relay.target import Target
from persipubsub.retrying import Backoff

#: What does not become better by itself: it ends the relay.
_FATAL: Final = (
    ClosedError,
    FormatVersionError,
    IdentifierError,
    NotAQueueError,
    PositionError,
    QueueDamagedError,
    QueuePermissionError,
    SettingsError,
    SettingsMismatchError,
    UnsupportedByEngineError,
)
#: What the target does not want in a transaction: it is tried again in smaller ones, down to a single message.
_REFUSALS: Final = (MessageError, IdentifierError, QueueFullError)
#: Seconds that a wait for messages, or for room, takes at most before the relay looks after other things.
_GLANCE: Final = 1.0
_LONG_GLANCE: Final = 30.0
#: Seconds between two looks at the lag.
_LAG_EVERY: Final = 1.0
#: How long to stand by until the next look: after a crash of a relay its messages come back soon.
_STANDBY: Final = Backoff(first=0.05, longest=1.0)


class _StopError(Exception):
    """Ends the relay between two batches, or in a wait."""


class Forwarder:
    """Takes, sends and acknowledges, until it is stopped; only one thread at a time uses it."""

    def __init__(self, source: Source, target: Target, name: str | None, backoff: Backoff, log: Log) -> None:
        """Open nothing yet."""
        self._source = source
        self._target = target
        self._name = name
        self._backoff = backoff
        self._log = log
        self.tally = Tally()
        #: Set when it is to stop.
        self.stopped = threading.Event()
        #: What was taken and not settled yet.
        self._hand: list[Message[bytes]] = []
        self._standing_by = 0
        self._lag_seen = 0.0

    @property
    def name(self) -> str:
        """Return the name of the relay; by default it is known once the target is."""
        return self._name or self._target.identity

    def work(self, drain: bool) -> None:
        """Forward until it is stopped, or, to drain the source, until nothing waits.

        :raise PersipubsubError: what no later attempt would overcome
        """
        self.tally.state = RelayState.STARTING
        try:
            while not self.stopped.is_set():
                try:
                    self.connect()
                    if not self._step(drain):
                        break
                except SomebodyElseError:
                    self._stand_by()
                except _StopError:
                    break
                except (PersipubsubError, OSError) as error:
                    self._retry(error)
        except _StopError:
            pass
        except BaseException as error:
            self.tally.note(error)
            raise
        finally:
            self._leave()
            self._log.ended(self.tally.forwarded)
            self.tally.state = RelayState.STOPPED

    def connect(self) -> None:
        """Open what is not open."""
        source, target = self._source, self._target
        fresh = not (source.is_open and target.is_open)
        if not target.is_open:
            with self._using(target):
                target.open()
        if not source.is_open:
            with self._using(source):
                self._hand = []
                source.open(self.name, target.identity)
        if fresh:
            target.expect(self.name, source.identity)
            self._log.name = self.name
            self._log.opened()

    def _step(self, drain: bool) -> bool:
        """Move a batch, or wait for one; when all is drained return False instead of waiting."""
        if not self._hand:
            self._take(0.0)
        if not self._hand:
            self._went_well(RelayState.IDLE)
            if self._is_alone():
                with self._using(self._target):
                    self._target.rest()
            if drain:
                return False
            self._take(time.monotonic() + (_GLANCE if self._target.is_marked else _LONG_GLANCE))
        if not self._hand:
            return True
        if self._source.went_back:
            self._target.recheck()
        with self._using(self._target):
            self._target.prepare()
        self._forward()
        self._look_at_lag()
        return True

    def _take(self, deadline: float) -> None:
        with self._using(self._source):
            self._hand = self._source.take(deadline, self._check_going_on)
            if not self._hand:
                self._look_at_lag(at_once=True)
        self._standing_by = 0

    def _check_going_on(self) -> None:
        if self.stopped.is_set():
            raise _StopError

    def _forward(self) -> None:
        """Send what is in hand, in parts if need be, each acknowledged once it is stored."""
        self.tally.state = RelayState.FORWARDING
        parts = deque([self._hand])
        waits = 0
        while parts:
            part = parts.popleft()
            try:
                self._send(part, patiently=waits > 0)
            except _REFUSALS as error:
                self._target.refused()
                if len(part) > 1:
                    half = len(part) // 2
                    parts.extendleft([part[half:], part[:half]])
                elif isinstance(error, QueueFullError):
                    parts.appendleft(part)
                    waits += 1
                    self._wait_for_room(error, waits)
                    continue
                else:
                    self._reject(part[0], error)
            else:
                waits = 0

    def _send(self, part: list[Message[bytes]], *, patiently: bool) -> None:
        outgoing = self._target.outgoing(part, self._source.identity)
        with self._using(self._target):
            self._target.send(outgoing.drafts, _GLANCE if patiently else 0.0)
        # Stored is stored, also if the source cannot be told of it: the next attempt finds them, and sends none.
        self.tally.sent(len(outgoing.drafts), outgoing.payload)
        with self._using(self._source):
            self._source.settle(part)
        self._hand = self._hand[len(part) :]
        self._target.confirmed(last=not self._hand)
        tally = self.tally
        tally.repeated += outgoing.repeated
        tally.turned_back += outgoing.turned_back
        tally.expired += outgoing.expired
        self._went_well(RelayState.FORWARDING)

    def _wait_for_room(self, error: QueueFullError, waits: int) -> None:
        """Wait until the target may have room; what only the bookmark keeps there is given up first."""
        if waits == 1:
            with self._using(self._target):
                self._target.make_room()
            return
        self.tally.state = RelayState.FULL
        self.tally.note(error)
        if waits == 2:
            self._log.full(error)
        self._pause(min(self._backoff.delay(waits - 1), _GLANCE))

    def _reject(self, message: Message[bytes], error: PersipubsubError) -> None:
        """Let the target's refusal of a single message not hold up all the others."""
        self._log.rejected(message.id, error)
        with self._using(self._source):
            message.reject(f"{self._target.endpoint.location} refused it: {error}")
        self._hand = self._hand[1:]
        self._target.confirmed(last=not self._hand)
        self.tally.rejected += 1
        self.tally.note(error)

    # -- when something fails -----------------------------------------------------------------

    @contextlib.contextmanager
    def _using(self, side: Source | Target) -> Iterator[None]:
        """Close a side that fails, to open it anew; a refusal is no failure."""
        try:
            yield
        except (_StopError, SomebodyElseError, *_REFUSALS):
            raise
        except BaseException:
            self._close(side)
            raise

    def _close(self, side: Source | Target) -> None:
        if side is self._source:
            self._hand = []
        try:
            side.close()
        except (PersipubsubError, OSError):
            logger.debug("Closing %s failed.", side.endpoint.location, exc_info=True)

    def _retry(self, error: PersipubsubError | OSError) -> None:
        """Wait a while, unless waiting does not help.

        :raise PersipubsubError: the error, if it does not
        """
        never_found = isinstance(error, QueueNotFoundError) and not (
            self._source.endpoint.found and self._target.endpoint.found
        )
        if isinstance(error, _FATAL) or never_found:
            raise error
        delay = self._backoff.delay(self.tally.failing + 1)
        self.tally.failed(error, delay)
        self._log.failed(error, self.tally.failing, delay)
        self._pause(delay)
        self.tally.going_on()

    def _went_well(self, state: RelayState) -> None:
        if self.tally.failing:
            self._log.recovered(self.tally.failing)
            self.tally.failing = 0
        self.tally.state = state

    def _stand_by(self) -> None:
        """Wait for those who hold what comes first."""
        self.tally.state = RelayState.STANDBY
        self._standing_by += 1
        if self._standing_by == 1:
            self._log.standing_by()
        self._pause(_STANDBY.delay(self._standing_by))

    def _pause(self, seconds: float) -> None:
        if self.stopped.wait(seconds):
            raise _StopError

    # -- the rest -----------------------------------------------------------------------------

    def _is_alone(self) -> bool:
        """Tell whether no other relay of this name holds messages, so that none may be in doubt."""
        with self._using(self._source):
            return self._source.statistics().leased <= len(self._hand)

    def _look_at_lag(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._lag_seen >= _LAG_EVERY:
            with self._using(self._source):
                self.tally.lag = self._source.statistics().lag
            self._lag_seen = now

    def _leave(self) -> None:
        """Leave the queues, and nothing in the target that the next run does not need."""
        try:
            if self._target.is_open and self._source.is_open and self._is_alone():
                self._target.leave()
        except (PersipubsubError, OSError):
            logger.debug("The bookmark in %s is left.", self._target.endpoint.location, exc_info=True)
        self.close()

    def close(self) -> None:
        """Let go of both queues."""
        self._close(self._source)
        self._close(self._target)
