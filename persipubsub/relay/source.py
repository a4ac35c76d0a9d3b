"""The end of a relay that takes messages, in order, with nobody else at work."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from persipubsub.delivery.holding import Holder
from persipubsub.engine.figures import SubscriberStatistics
from persipubsub.errors import SettingsError, SettingsMismatchError
from persipubsub.message import Message
from persipubsub.relay.endpoint import Endpoint
from persipubsub.retained.positions import Position
from persipubsub.subscriber import Subscriber

PREFIX: Final = "relay/"
#: Bytes of payload that a batch should not exceed; learned from the batch before, for nothing tells them ahead.
_BUDGET: Final = 16 << 20
#: The first batch, before anything is known about the size of messages.
_FIRST_BATCH: Final = 16

#: Seconds to wait for what a dead relay held, before what was taken is given back for others.
_PATIENCE: Final = (3.0, 6.0)
_LOOK_AGAIN: Final = 0.1


class SomebodyElseError(Exception):
    """Others hold messages that come before these."""


class Source:
    """A durable subscriber of the source; its position is that of the relay."""

    def __init__(self, endpoint: Endpoint, start: Position, batch: int) -> None:
        """Open nothing yet."""
        self.endpoint = endpoint
        self.identity = ""
        self._start = start
        self._batch = batch
        self._next_batch = min(_FIRST_BATCH, batch)
        self._identifier = ""
        self._statistics: Callable[[], SubscriberStatistics] | None = None
        self._subscriber: Subscriber[bytes] | None = None
        #: Whether what a predecessor held may still come back; all of it goes before anything newer.
        self._gathering = True
        #: Deliveries to this relay and all others, as far as it knows: when it last looked nobody else held anything.
        self._deliveries = 0
        self._last_id = -1
        #: Whether the last batch went back behind one before it: its messages may have been forwarded.
        self.went_back = False

    @property
    def is_open(self) -> bool:
        """Tell whether messages can be taken."""
        return self._subscriber is not None

    @property
    def _holder(self) -> Holder[Message[bytes]]:
        """Return what takes and settles; the source is open."""
        if self._subscriber is None:
            raise RuntimeError("The source is not open.")
        return self._subscriber._holder

    def open(self, name: str, target: str) -> None:
        """Open the queue; add the relay's subscriber if there is none.

        :param target: identity of the target
        :raise SettingsError: that is this very queue
        :raise SettingsMismatchError: the subscriber would drop messages after some deliveries
        """
        environment, control = self.endpoint.open()
        self._identifier = PREFIX + name
        self.identity = control.statistics().identity
        if self.identity == target:
            raise SettingsError(f"The source {self.endpoint.location} is the target, too; a relay needs two queues.")
        settings = control.subscribers.get(self._identifier)
        if settings is None:
            control.add_subscriber(self._identifier, self._start, max_deliveries=None)
        elif settings.max_deliveries is not None:
            raise SettingsMismatchError(
                f"The subscriber {self._identifier!r} of {self.endpoint.location} gives messages up after "
                f"{settings.max_deliveries} deliveries, and a relay that is killed as often would leave some behind. "
                "Deploy it with max_deliveries null."
            )
        self._statistics = lambda: next(
            each for each in control.statistics().subscribers if each.identifier == self._identifier
        )
        self._gathering = True
        self._subscriber = environment.new_subscriber(self._identifier)

    def close(self) -> None:
        """Give back what was taken and let go of the queue."""
        subscriber, self._subscriber = self._subscriber, None
        try:
            if subscriber is not None:
                subscriber.close()
        finally:
            self.endpoint.close()

    def wake(self) -> None:
        """End a wait for messages; from any thread."""
        subscriber = self._subscriber
        if subscriber is not None:
            subscriber._holder.wake()

    def statistics(self) -> SubscriberStatistics:
        """Return the figures of the relay's subscriber."""
        if self._statistics is None:
            raise RuntimeError("The source is not open.")
        return self._statistics()

    def take(self, deadline: float | None, before: Callable[[], object]) -> list[Message[bytes]]:
        """Take a batch, by id; an empty list when the deadline is over.

        :param before: called before every look; ends the wait by raising
        :raise SomebodyElseError: others hold messages; nothing was taken
        """
        if self._gathering:
            return self._gather([], deadline, before)
        messages = self._take(deadline, before)
        if messages and not self._follow_on(messages) and not self._is_alone(messages):
            return self._gather(messages, 0.0, before)
        self._deliveries += len(messages)
        self._note(messages)
        return messages

    def _gather(
        self, messages: list[Message[bytes]], deadline: float | None, before: Callable[[], object]
    ) -> list[Message[bytes]]:
        """Take all that was delivered before and came back; not every engine gives it back in order.

        That nobody else holds anything is not enough: another relay may have held what comes first, stood back, and
        given it back after the take. So there is a look before a take and one after it: if nobody held anything at
        the first, and nobody else took anything until the second, then what had come back was there to be taken.

        Where the death of a relay shows only when its leases end, what is taken is kept in hand for a while, until
        the rest comes: given back at once it would come before that again and again.

        :param messages: what was taken already
        """
        sees_death = self._sees_death()
        patience = time.monotonic() + (0.0 if sees_death else random.uniform(*_PATIENCE))
        count: int | None = _FIRST_BATCH if messages else None
        seen = self.statistics()
        while True:
            alone_before = seen.leased <= len(messages)
            more = self._take(deadline if not messages else 0.0, before, count)
            messages.extend(more)
            # Where there is an order, old ones come first.
            position, expected = seen.position, seen.deliveries + len(more)
            seen = self.statistics()
            if more and more[-1].id < position:
                # There may be more of them.
                count = self._batch
                continue
            if seen.leased <= len(messages):
                if not sees_death or (alone_before and seen.deliveries == expected):
                    break
                count = _FIRST_BATCH
                continue
            if time.monotonic() >= patience:
                self._stand_back(messages)
            count = _FIRST_BATCH
            time.sleep(_LOOK_AGAIN)
            before()
        messages.sort(key=lambda message: message.id)
        self._gathering = False
        self._deliveries = seen.deliveries
        self._note(messages)
        # Somebody else may have forwarded them, and not have come to settle them.
        self.went_back = True
        return messages

    def _take(
        self, deadline: float | None, before: Callable[[], object], count: int | None = None
    ) -> list[Message[bytes]]:
        messages = self._holder.take(count or self._next_batch, deadline, None, before=before)
        messages.sort(key=lambda message: message.id)
        return messages

    def _follow_on(self, messages: Sequence[Message[bytes]]) -> bool:
        """Tell whether there is no gap in which others might hold something."""
        return messages[0].id == self._last_id + 1 and messages[-1].id - messages[0].id == len(messages) - 1

    def _is_alone(self, messages: Sequence[Message[bytes]]) -> bool:
        """Tell whether nobody else has taken anything since the last look, so that none can hold or return it."""
        seen = self.statistics()
        # Where death does not show, deliveries are counted by the server, also those that never arrived.
        taken_by_others = self._sees_death() and seen.deliveries != self._deliveries + len(messages)
        return seen.leased <= len(messages) and not taken_by_others

    def _sees_death(self) -> bool:
        return self._holder.engine().capabilities.sees_death

    def _stand_back(self, messages: Sequence[Message[bytes]]) -> None:
        self._gathering = True
        self._holder.give_back_quietly(messages, None)
        raise SomebodyElseError

    def _note(self, messages: Sequence[Message[bytes]]) -> None:
        """Remember where the batch ended, and how large its messages are."""
        if messages:
            self.went_back = messages[0].id <= self._last_id
            self._last_id = max(self._last_id, messages[-1].id)
            payload = sum(message.size for message in messages)
            fitting = _BUDGET * len(messages) // payload if payload else self._batch
            self._next_batch = max(1, min(self._batch, fitting, 2 * max(len(messages), self._next_batch)))

    def settle(self, messages: Sequence[Message[bytes]]) -> None:
        """Acknowledge messages in one transaction.

        :raise LeaseLostError: some belong to somebody else by now
        """
        self._holder.settle(messages)
