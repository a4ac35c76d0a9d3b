"""A queue and its subscribers: everything that an operation reads and changes."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from persipubsub.engine.events import Event
from persipubsub.engine.memory.holds import Hold, Holds
from persipubsub.engine.memory.messages import Message, Messages
from persipubsub.engine.refusals import unknown_subscriber
from persipubsub.limits import Retention, Settings, SubscriberSettings


class Now(NamedTuple):
    """What the clocks showed when an operation began; the wall clock never before the last message."""

    wall_ns: int
    boot_ns: int


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that a subscriber gave up on."""

    message: Message
    died_ns: int
    count: int
    reason: str


class Subscriber(msgspec.Struct, kw_only=True):
    """A subscriber; the counters run from its creation."""

    identifier: str
    settings: SubscriberSettings
    #: Id of the first message that it has not yet taken.
    position: int
    #: The engine that an ephemeral one vanishes with.
    ephemeral_owner: int | None = None
    paused: bool = False
    holds: Holds = msgspec.field(default_factory=Holds)
    #: Messages from the position on that are settled already.
    ahead: set[int] = msgspec.field(default_factory=set)
    #: Ids from the position on that a limit took while this subscriber needed them.
    gaps: set[int] = msgspec.field(default_factory=set)
    #: Ids of ``gaps`` that the position passed since the last message that the walk delivered.
    missed: int = 0
    dead: dict[int, DeadLetter] = msgspec.field(default_factory=dict)
    #: Engines that have taken messages, and since when.
    owners: dict[int, int] = msgspec.field(default_factory=dict)
    #: Number of takes, which is also the last token.
    takes: int = 0
    deliveries: int = 0
    redelivered: int = 0
    settled: int = 0
    lost: int = 0
    expired: int = 0
    last_taken_ns: int | None = None
    last_settled_ns: int | None = None

    def copy(self) -> "Subscriber":
        """Return an independent copy."""
        return msgspec.structs.replace(
            self,
            holds=self.holds.copy(),
            ahead=self.ahead.copy(),
            gaps=self.gaps.copy(),
            dead=self.dead.copy(),
            owners=self.owners.copy(),
        )

    def needs(self, message_id: int) -> bool:
        """Tell whether the message in the queue must stay for this subscriber."""
        hold = self.holds.get(message_id)
        return self.position <= message_id or (hold is not None and not hold.own_copy)

    def is_waiting(self, message_id: int) -> bool:
        """Tell whether a retained message has yet to be looked at by this subscriber."""
        return self.position <= message_id and message_id not in self.ahead and message_id not in self.holds

    def step(self) -> None:
        """Move the position over one id."""
        if self.position in self.gaps:
            self.gaps.remove(self.position)
            self.missed += 1
        self.ahead.discard(self.position)
        self.position += 1


class State:
    """All of a queue; an operation that fails half-way is undone by going back to a copy."""

    def __init__(self, settings: Settings, identity: str, created_ns: int) -> None:
        """Start without messages and subscribers."""
        self.settings = settings
        self.identity = identity
        self.created_ns = created_ns
        self.messages = Messages()
        self.subscribers: dict[str, Subscriber] = {}
        self.next_id = 1
        self.last_sent_ns = 0
        #: Deduplication id -> message id and when it was seen, oldest first.
        self.seen: dict[bytes, tuple[int, int]] = {}
        self.published = 0
        self.deduplicated = 0
        self.unrouted = 0
        self.pruned_overflow = 0
        self.pruned_timeout = 0
        #: Subscribers that may find a message which was not there before: their waiters are to be woken.
        self.stirred: set[str] = set()
        #: What is to be logged once the operation is over.
        self.events: list[Event] = []

    def copy(self) -> "State":
        """Return an independent copy."""
        other = State.__new__(State)
        other.__dict__.update(self.__dict__)
        other.messages = self.messages.copy()
        other.subscribers = {name: subscriber.copy() for name, subscriber in self.subscribers.items()}
        other.seen = self.seen.copy()
        other.stirred = self.stirred.copy()
        other.events = self.events.copy()
        return other

    @property
    def first_id(self) -> int:
        """Return the oldest retained id, or the next one if nothing is retained."""
        return self.messages.ids[0] if self.messages else self.next_id

    @property
    def timeout_ns(self) -> int | None:
        """Return the message timeout."""
        timeout = self.settings.high_water_mark.message_timeout
        return None if timeout is None else int(timeout * 1e9)

    def subscriber(self, identifier: str) -> Subscriber:
        """Return a subscriber.

        :raise UnknownSubscriberError: there is none of that name
        """
        subscriber = self.subscribers.get(identifier)
        if subscriber is None:
            raise unknown_subscriber(identifier, self.subscribers)
        return subscriber

    def stir(self, subscriber: Subscriber) -> None:
        """Note that there may be something to take for the subscriber."""
        self.stirred.add(subscriber.identifier)

    def is_needed(self, message_id: int) -> bool:
        """Tell whether any subscriber needs the message."""
        return any(subscriber.needs(message_id) for subscriber in self.subscribers.values())

    def sweep(self, ids: Iterable[int]) -> int:
        """Delete those of ``ids`` that nobody needs, unless the queue is a log; return how many."""
        if self.settings.retention is Retention.LOG:
            return 0
        unneeded = [message_id for message_id in ids if message_id in self.messages and not self.is_needed(message_id)]
        for message_id in unneeded:
            self.messages.remove(message_id)
        return len(unneeded)

    def pass_settled(self, subscriber: Subscriber) -> None:
        """Move the position over what is settled ahead right at it."""
        start = subscriber.position
        while subscriber.position in subscriber.ahead:
            subscriber.step()
        self.sweep(range(start, subscriber.position))

    def finish(self, subscriber: Subscriber, hold: Hold) -> None:
        """End a hold for good: the message never comes back to the subscriber by itself."""
        subscriber.holds.remove(hold.id)
        if hold.id >= subscriber.position and (hold.gone or hold.id in self.messages):
            subscriber.ahead.add(hold.id)
            self.pass_settled(subscriber)
        self.sweep([hold.id])
