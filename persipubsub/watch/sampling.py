"""What follows from looking at a queue again and again: rates, histories, and how late subscribers are.

Pure: it is fed with readings, each with the time at which it was taken.
"""

from collections import deque
from enum import Enum

import msgspec

from persipubsub.engine.figures import OwnerStatistics, Statistics, SubscriberStatistics

#: Readings that are remembered.
HISTORY = 300


class State(Enum):
    """How the last look at a queue went."""

    OK = "ok"
    #: Nothing is deployed there (any more).
    GONE = "gone"
    #: It gave no answer in time.
    BUSY = "busy"
    #: It cannot be read.
    FAILING = "failing"


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a queue.

    :param at: seconds, on a clock that nobody sets
    :param problem: why there are no statistics
    :param free_bytes: room on the disk
    """

    at: float
    statistics: Statistics | None = None
    state: State = State.OK
    problem: str | None = None
    free_bytes: int | None = None


class SubscriberView(msgspec.Struct, frozen=True, kw_only=True):
    """A subscriber as it is shown; rates are per second, histories have the oldest value first.

    ``late`` is the age in seconds of the message at its position, 0 if none waits.
    """

    identifier: str
    paused: bool
    lag: int
    waiting: int
    leased: int
    delayed: int
    dead: int
    lost: int | None
    redelivered: int
    settled: int
    rate_out: float | None
    late: float | None
    last_settled_ns: int | None
    owners: tuple[OwnerStatistics, ...] | None
    lag_history: list[int]
    rate_history: list[float | None]
    late_history: list[float | None]


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """A queue as it is shown; the figures are those of the last look that succeeded."""

    name: str
    location: str
    state: State
    problem: str | None
    at: float
    identity: str = ""
    messages: int = 0
    payload_bytes: int = 0
    file_bytes: int = 0
    free_bytes: int | None = None
    first_id: int | None = None
    last_id: int | None = None
    oldest_age: float | None = None
    published: int = 0
    pruned: int | None = 0
    unrouted: int | None = 0
    deduplicated: int | None = 0
    rate_in: float | None = None
    rate_out: float | None = None
    times: list[float] = []
    rate_history: list[float | None] = []
    subscribers: tuple[SubscriberView, ...] = ()

    @property
    def known(self) -> bool:
        """Tell whether it has been read at all."""
        return bool(self.identity)

    @property
    def lag(self) -> int:
        """Return the lag of the subscriber that is furthest behind."""
        return max((subscriber.lag for subscriber in self.subscribers), default=0)

    @property
    def lag_history(self) -> list[int]:
        """Return the largest lag of any subscriber at each time."""
        histories = [subscriber.lag_history for subscriber in self.subscribers]
        return [max(values) for values in zip(*histories, strict=True)]

    def total(self, field: str) -> int:
        """Return the sum of a figure of all subscribers."""
        return sum(getattr(subscriber, field) for subscriber in self.subscribers)


class _Sample(msgspec.Struct, frozen=True):
    """What is remembered of a reading."""

    at: float
    published: int
    first_id: int | None
    last_id: int | None
    oldest_age: float | None
    rate_in: float | None
    lag: dict[str, int]
    settled: dict[str, int]
    rate_out: dict[str, float | None]
    late: dict[str, float | None]


class Track:
    """The last readings of one queue."""

    def __init__(self, name: str, location: str, history: int = HISTORY) -> None:
        """Know nothing yet.

        :param history: number of readings to remember
        """
        self._name = name
        self._location = location
        self._samples: deque[_Sample] = deque(maxlen=history)
        self._last: Reading | None = None
        self._good: Reading | None = None

    def add(self, reading: Reading) -> QueueView:
        """Remember a reading and return what is known now."""
        self._last = reading
        if reading.state is State.GONE:
            # Whatever is deployed there next is another queue.
            self._samples.clear()
            self._good = None
        if reading.statistics is not None:
            good = self._good.statistics if self._good is not None else None
            if good is not None and good.identity != reading.statistics.identity:
                self._samples.clear()
            self._good = reading
            self._samples.append(self._sample(reading.at, reading.statistics))
        return self.view()

    def view(self) -> QueueView:
        """Return what is known."""
        last, good = self._last, self._good
        state = State.BUSY if last is None else last.state
        problem = "not read yet" if last is None else last.problem
        at = 0.0 if last is None else last.at
        if good is None or good.statistics is None:
            return QueueView(name=self._name, location=self._location, state=state, problem=problem, at=at)
        figures, sample = good.statistics, self._samples[-1]
        outs = [rate for rate in sample.rate_out.values() if rate is not None]
        return QueueView(
            name=self._name,
            location=self._location,
            state=state,
            problem=problem,
            at=at,
            identity=figures.identity,
            messages=figures.messages,
            payload_bytes=figures.payload_bytes,
            file_bytes=figures.file_bytes,
            free_bytes=good.free_bytes,
            first_id=figures.first_id,
            last_id=figures.last_id,
            oldest_age=figures.oldest_age,
            published=figures.published,
            pruned=_sum(figures.pruned_overflow, figures.pruned_timeout),
            unrouted=figures.unrouted,
            deduplicated=figures.deduplicated,
            rate_in=sample.rate_in,
            rate_out=sum(outs) if outs else None,
            times=[one.at for one in self._samples],
            rate_history=[one.rate_in for one in self._samples],
            subscribers=tuple(self._subscriber(subscriber, sample) for subscriber in figures.subscribers),
        )

    def _sample(self, at: float, figures: Statistics) -> _Sample:
        before = self._samples[-1] if self._samples else None
        span = at - before.at if before is not None else 0.0

        def rate(now: int, then: int | None) -> float | None:
            # A counter that fell belongs to a subscriber that was removed and added again.
            return (now - then) / span if span > 0 and then is not None and now >= then else None

        settled = {subscriber.identifier: subscriber.settled for subscriber in figures.subscribers}
        return _Sample(
            at=at,
            published=figures.published,
            first_id=figures.first_id,
            last_id=figures.last_id,
            oldest_age=figures.oldest_age,
            rate_in=rate(figures.published, before.published if before else None),
            lag={subscriber.identifier: subscriber.lag for subscriber in figures.subscribers},
            settled=settled,
            rate_out={
                name: rate(number, before.settled.get(name) if before else None) for name, number in settled.items()
            },
            late={subscriber.identifier: self._late(at, figures, subscriber) for subscriber in figures.subscribers},
        )

    def _late(self, at: float, figures: Statistics, subscriber: SubscriberStatistics) -> float | None:
        """Return the age of the message that stands at a position, from when ids were first seen.

        Between two looks, messages are taken to have come evenly.
        """
        if not subscriber.waiting:
            return 0.0
        first, last, oldest = figures.first_id, figures.last_id, figures.oldest_age
        if first is None or last is None or oldest is None or subscriber.position > last:
            # Behind the last one only messages wait that were given back; how old they are cannot be told.
            return None
        position = max(subscriber.position, first)
        # The nearest id before the position, and the nearest one from it on, with the times when they came.
        before_id, before_at = first, at - oldest
        after_id, after_at = last, at
        for sample in self._samples:
            if sample.last_id is None or sample.last_id < before_id:
                continue
            if sample.last_id >= position:
                after_id, after_at = sample.last_id, sample.at
                break
            before_id, before_at = sample.last_id, sample.at
        if position <= before_id:
            return max(0.0, at - before_at)
        share = (position - before_id) / (after_id - before_id)
        return max(0.0, at - (before_at + share * (after_at - before_at)))

    def _subscriber(self, figures: SubscriberStatistics, sample: _Sample) -> SubscriberView:
        name = figures.identifier
        return SubscriberView(
            identifier=name,
            paused=figures.paused,
            lag=figures.lag,
            waiting=figures.waiting,
            leased=figures.leased,
            delayed=figures.delayed,
            dead=figures.dead,
            lost=_sum(figures.lost, figures.expired),
            redelivered=figures.redelivered,
            settled=figures.settled,
            rate_out=sample.rate_out[name],
            late=sample.late[name],
            last_settled_ns=figures.last_settled_ns,
            owners=figures.owners,
            lag_history=[one.lag.get(name, 0) for one in self._samples],
            rate_history=[one.rate_out.get(name) for one in self._samples],
            late_history=[one.late.get(name) for one in self._samples],
        )


def _sum(*numbers: int | None) -> int | None:
    """Add; what is not known makes the sum unknown."""
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
