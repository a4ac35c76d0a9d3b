"""Figures of queues for Prometheus; needs the extra ``metrics`` (prometheus_client).

The figures are read when they are asked for, and cost nothing before::

    from prometheus_client import REGISTRY
    from persipubsub.metrics import QueueCollector

    REGISTRY.register(QueueCollector({"frames": env}))

``docs/monitoring.rst`` lists them; ``persipubsub metrics`` serves them for a whole machine.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from persipubsub.control import Control
from persipubsub.engine.figures import Statistics, SubscriberStatistics
from persipubsub.environment import Environment
from persipubsub.errors import PersipubsubError, SettingsError
from persipubsub.limits import Settings

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"Metrics need {_error.name}; install it with: pip install 'persipubsub[metrics]'", name=_error.name
    ) from None

__all__ = ["QueueCollector"]

Source = Environment | str | os.PathLike[str]
Family = CounterMetricFamily | GaugeMetricFamily

_QUEUE: Final = ("queue",)
_SUBSCRIBER: Final = ("queue", "subscriber")

#: Name without prefix, help, labels; a name that ends in ``_total`` is a counter.
_FAMILIES: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("up", "1 if the queue could be read, 0 if not.", _QUEUE),
    ("scrape_duration_seconds", "How long reading the figures of the queue took.", _QUEUE),
    ("messages", "Messages that the queue retains.", _QUEUE),
    ("payload_bytes", "Bytes of payload that the queue retains.", _QUEUE),
    ("file_bytes", "Bytes that the data file takes on the disk.", _QUEUE),
    ("filesystem_free_bytes", "Bytes free for this process on the file system of the queue.", _QUEUE),
    ("oldest_message_age_seconds", "Age of the oldest message retained; 0 if there is none.", _QUEUE),
    ("queue_created_timestamp_seconds", "When the queue was deployed.", _QUEUE),
    ("limit_messages", "High-water mark in messages; absent without one.", _QUEUE),
    ("limit_payload_bytes", "High-water mark in bytes of payload; absent without one.", _QUEUE),
    ("limit_message_age_seconds", "Message timeout; absent without one.", _QUEUE),
    ("published_messages_total", "Messages that were stored.", _QUEUE),
    ("deduplicated_messages_total", "Messages that were not stored because they were repetitions.", _QUEUE),
    ("unrouted_messages_total", "Messages that were not stored because there were no subscribers.", _QUEUE),
    ("pruned_messages_total", "Messages that limits took away, needed or not.", (*_QUEUE, "cause")),
    ("subscriber_lag_messages", "Messages that the subscriber has yet to settle.", _SUBSCRIBER),
    ("subscriber_waiting_messages", "Messages ready to be taken; with a topic filter an upper bound.", _SUBSCRIBER),
    ("subscriber_leased_messages", "Messages taken and not yet settled.", _SUBSCRIBER),
    ("subscriber_delayed_messages", "Messages that are to be delivered later.", _SUBSCRIBER),
    ("subscriber_dead_letters", "Messages that the subscriber gave up on.", _SUBSCRIBER),
    ("subscriber_owners", "Processes that take messages for the subscriber.", _SUBSCRIBER),
    ("subscriber_paused", "1 if deliveries to the subscriber are stopped.", _SUBSCRIBER),
    ("subscriber_delivered_messages_total", "Deliveries, repetitions included.", _SUBSCRIBER),
    ("subscriber_redelivered_messages_total", "Deliveries of a message that had been delivered before.", _SUBSCRIBER),
    ("subscriber_settled_messages_total", "Messages acknowledged.", _SUBSCRIBER),
    (
        "subscriber_lost_messages_total",
        "Messages that the subscriber never got: taken by the high-water mark, or expired.",
        (*_SUBSCRIBER, "cause"),
    ),
    ("subscriber_last_taken_timestamp_seconds", "When a message was last taken; absent before.", _SUBSCRIBER),
    ("subscriber_last_settled_timestamp_seconds", "When a message was last settled; absent before.", _SUBSCRIBER),
)

Samples = Iterator[tuple[str, tuple[str, ...], float]]
"""Name, values of the labels besides the queue, value."""


class QueueCollector(Collector):
    """Reads the statistics of queues whenever Prometheus asks for them.

    Each queue is read in a thread of its own. One that fails, or does not answer in time (a stopped writer
    may hold it up), shows ``persipubsub_up 0`` and nothing else; the others are not affected. A queue given
    by its path is opened only while it is read, so it may be deployed later, deleted or exchanged. Safe to use from any
    thread; nothing is written, and no transaction is held between two looks.

    >>> import persipubsub
    >>> from prometheus_client import CollectorRegistry
    >>> registry = CollectorRegistry()
    >>> with persipubsub.Environment("memory:") as env:
    ...     control = env.new_control(subscriber_ids={"worker"})
    ...     registry.register(QueueCollector({"frames": env}))
    ...     _ = env.new_publisher().send(b"frame")
    ...     registry.get_sample_value("persipubsub_messages", {"queue": "frames"})
    1

    :param queues: open environments, or paths, by the value that the label ``queue`` shall have
    :param timeout: seconds within which a queue must answer
    :raise SettingsError: ``timeout`` makes no sense
    """

    def __init__(self, queues: Mapping[str, Source], timeout: float = 5.0) -> None:
        """Read nothing yet."""
        if not timeout > 0:
            raise SettingsError(f"timeout must be a positive number of seconds, but is {timeout!r}.")
        self._probes = {name: _Probe(source) for name, source in queues.items()}
        self._timeout = timeout

    def describe(self) -> Iterable[Family]:
        """Return the families without figures: registering reads no queue."""
        return _new_families().values()

    def collect(self) -> Iterable[Family]:
        """Return the figures of all queues; waits for no longer than the timeout."""
        deadline = time.monotonic() + self._timeout
        families = _new_families()
        for probe in self._probes.values():
            probe.start()
        for name, probe in self._probes.items():
            samples = probe.samples(deadline)
            families["up"].add_metric([name], 0.0 if samples is None else 1.0)
            for metric, labels, value in samples or ():
                families[metric].add_metric([name, *labels], value)
        return families.values()


class _Probe:
    """One queue and the thread that reads it; at most one at a time."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._counters = _Counters()
        self._thread: threading.Thread | None = None
        self._samples: list[tuple[str, tuple[str, ...], float]] | None = None

    def start(self) -> None:
        """Begin to read, unless an earlier attempt still hangs."""
        if self._thread is None or not self._thread.is_alive():
            self._samples = None
            self._thread = threading.Thread(target=self._read, name="persipubsub-metrics", daemon=True)
            self._thread.start()

    def samples(self, deadline: float) -> list[tuple[str, tuple[str, ...], float]] | None:
        """Return what was read, ``None`` if that failed or takes too long."""
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
            if self._thread.is_alive():
                return None
        return self._samples

    def _read(self) -> None:
        began = time.monotonic()
        try:
            with _control(self._source) as control:
                statistics, settings = control.statistics(), control.settings
                samples = [*self._of_queue(statistics, settings), *self._of_subscribers(statistics)]
        except (PersipubsubError, OSError):
            # What is wrong, `persipubsub status` says; here it is the missing figure that counts.
            return
        samples.append(("scrape_duration_seconds", (), time.monotonic() - began))
        self._samples = samples

    def _of_queue(self, statistics: Statistics, settings: Settings) -> Samples:
        yield "messages", (), statistics.messages
        yield "payload_bytes", (), statistics.payload_bytes
        yield "file_bytes", (), statistics.file_bytes
        yield "oldest_message_age_seconds", (), statistics.oldest_age or 0.0
        yield "queue_created_timestamp_seconds", (), statistics.created_ns / 1e9
        free = _free_bytes(self._source)
        mark = settings.high_water_mark
        for name, value in (
            ("filesystem_free_bytes", free),
            ("limit_messages", mark.max_messages),
            ("limit_payload_bytes", mark.max_bytes),
            ("limit_message_age_seconds", mark.message_timeout),
        ):
            if value is not None:
                yield name, (), value
        yield "published_messages_total", (), statistics.published
        yield from _known(
            ("deduplicated_messages_total", (), statistics.deduplicated),
            ("unrouted_messages_total", (), statistics.unrouted),
            ("pruned_messages_total", ("overflow",), statistics.pruned_overflow),
            ("pruned_messages_total", ("timeout",), statistics.pruned_timeout),
        )

    def _of_subscribers(self, statistics: Statistics) -> Samples:
        for subscriber in statistics.subscribers:
            labels = (subscriber.identifier,)
            for name, extra, value in _of_subscriber(subscriber):
                full = f"subscriber_{name}"
                if name.endswith("_total"):
                    value = self._counters.rise(statistics.identity, full, (*labels, *extra), value)
                yield full, (*labels, *extra), value


def _of_subscriber(subscriber: SubscriberStatistics) -> Samples:
    yield "lag_messages", (), subscriber.lag
    yield "waiting_messages", (), subscriber.waiting
    yield "leased_messages", (), subscriber.leased
    yield "delayed_messages", (), subscriber.delayed
    yield "dead_letters", (), subscriber.dead
    yield "paused", (), subscriber.paused
    yield "delivered_messages_total", (), subscriber.deliveries
    yield "redelivered_messages_total", (), subscriber.redelivered
    yield "settled_messages_total", (), subscriber.settled
    yield from _known(
        ("owners", (), None if subscriber.owners is None else len(subscriber.owners)),
        ("lost_messages_total", ("overflow",), subscriber.lost),
        ("lost_messages_total", ("expired",), subscriber.expired),
    )
    if subscriber.last_taken_ns is not None:
        yield "last_taken_timestamp_seconds", (), subscriber.last_taken_ns / 1e9
    if subscriber.last_settled_ns is not None:
        yield "last_settled_timestamp_seconds", (), subscriber.last_settled_ns / 1e9


def _known(*samples: tuple[str, tuple[str, ...], float | None]) -> Samples:
    """Leave out what the engine cannot know: no figure says so better than a 0."""
    for name, labels, value in samples:
        if value is not None:
            yield name, labels, value


class _Counters:
    """Keeps counters from falling by the few deliveries that are undone.

    A batch is counted when it is taken; what of it never reached its caller is subtracted again. Prometheus
    takes a counter that falls for one that began anew, and would add all that it has counted.
    """

    def __init__(self) -> None:
        self._highest: dict[tuple[str, str, tuple[str, ...]], float] = {}

    def rise(self, identity: str, name: str, labels: tuple[str, ...], value: float) -> float:
        """Return ``value``, or the highest one so far if this is only a little less."""
        key = (identity, name, labels)
        highest = self._highest.get(key, 0.0)
        if value < highest / 2:
            highest = 0.0  # another subscriber of the same name
        self._highest[key] = max(value, highest)
        return self._highest[key]


def _new_families() -> dict[str, Family]:
    families: dict[str, Family] = {}
    for name, text, labels in _FAMILIES:
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        families[name] = kind(f"persipubsub_{name}", text, labels=labels)
    return families


@contextlib.contextmanager
def _control(source: Source) -> Iterator[Control]:
    """Give the control of a queue that is deployed; never create one."""
    if isinstance(source, Environment):
        yield source.open_control()
        return
    with Environment(source) as environment:
        yield environment.open_control()


def _free_bytes(source: Source) -> int | None:
    """Return what is free on the disk of a queue; ``None`` if it is not on one."""
    path = source.location if isinstance(source, Environment) else source
    if not os.path.isdir(path):
        return None
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
