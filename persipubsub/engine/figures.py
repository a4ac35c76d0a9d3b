"""Figures of a queue, and what looking after it brings to light."""

import msgspec


class OwnerStatistics(msgspec.Struct, frozen=True):
    """A process that takes messages for a subscriber.

    ``elsewhere``: it runs in another container (PID namespace), so its ``pid`` means nothing here.
    """

    pid: int
    command: str
    since_ns: int
    leased: int
    elsewhere: bool = False


class SubscriberStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one subscriber.

    ``lag`` is waiting + leased + delayed; with a topic filter ``waiting`` is an upper bound. ``lost``, ``expired`` and
    ``owners`` are ``None`` where the engine cannot know them.
    """

    identifier: str
    position: int
    waiting: int
    leased: int
    delayed: int
    dead: int
    deliveries: int
    settled: int
    redelivered: int
    lost: int | None
    expired: int | None
    paused: bool
    last_taken_ns: int | None
    last_settled_ns: int | None
    owners: tuple[OwnerStatistics, ...] | None = ()

    @property
    def lag(self) -> int:
        """Return how many messages this subscriber has yet to settle."""
        return self.waiting + self.leased + self.delayed


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a queue; counters run from its creation, and are ``None`` where the engine cannot know them."""

    identity: str
    created_ns: int
    messages: int
    payload_bytes: int
    file_bytes: int
    first_id: int | None
    last_id: int | None
    oldest_age: float | None
    published: int
    deduplicated: int | None
    unrouted: int | None
    pruned_overflow: int | None
    pruned_timeout: int | None
    subscribers: tuple[SubscriberStatistics, ...] = ()


class Finding(msgspec.Struct, frozen=True):
    """Something that ``check`` found wrong."""

    where: str
    what: str


class Compaction(msgspec.Struct, frozen=True):
    """Bytes that the data file took on the disk before and after it was compacted."""

    before: int
    after: int
