"""What this engine has taken and not yet settled, and for how long it may still be sure of it.

JetStream lets any acknowledgement settle a message, also a late one, when somebody else has it by then. So a hold
knows until when the server cannot have given the message away: the time at which it was asked for, or last confirmed
to be in progress, plus the consumer's ack wait. After that it settles nothing any more.
"""

import itertools
import time
from collections.abc import Iterable, Sequence

import msgspec

from persipubsub.engine.jetstream.notes import Note
from persipubsub.engine.jetstream.wire import Arrival
from persipubsub.engine.messages import Delivery, Receipt
from persipubsub.errors import LeaseLostError


class Hold(msgspec.Struct, eq=False):
    """A message that was taken; times are on the monotonic clock."""

    token: int
    identifier: str
    arrival: Arrival
    note: Note
    #: Deliveries that count, this one included.
    count: int
    ack_wait: float
    sure_until: float
    #: End of a bounded lease.
    ends: float | None = None
    handed: bool = True
    #: When the server was last told that it is in progress.
    asked: float = 0.0
    #: Of ``take_newest``: nothing on the server says that it is held.
    top: bool = False

    @property
    def id(self) -> int:
        """Return the id of the message."""
        return self.arrival.id

    @property
    def receipt(self) -> Receipt:
        """Return the proof of this take."""
        return Receipt(self.id, self.token)

    def is_lost(self, now: float) -> bool:
        """Tell whether somebody else may have the message by now."""
        return not self.top and (now >= self.sure_until or (self.ends is not None and now >= self.ends))


class Holds:
    """The holds of one engine, by their tokens."""

    def __init__(self) -> None:
        """Start empty."""
        self._tokens = itertools.count(1)
        self._by_token: dict[int, Hold] = {}

    def all(self) -> list[Hold]:
        """Return all of this moment."""
        return list(self._by_token.values())

    def new_token(self) -> int:
        """Return a token that no other take of this engine has."""
        return next(self._tokens)

    def add(self, hold: Hold) -> None:
        """Note that a message was taken."""
        self._by_token[hold.token] = hold

    def remove(self, hold: Hold) -> None:
        """Note that a message is not held any more."""
        self._by_token.pop(hold.token, None)

    def drop(self, identifier: str, ids: Iterable[int] | None = None) -> None:
        """Forget what a subscriber holds, all of it or some ids: it was moved, removed or settled otherwise."""
        wanted = None if ids is None else set(ids)
        for hold in self.all():
            if hold.identifier == identifier and (wanted is None or hold.id in wanted):
                self.remove(hold)

    def of(self, identifier: str) -> list[Hold]:
        """Return what a subscriber holds through this engine."""
        return [hold for hold in self.all() if hold.identifier == identifier]

    def find(self, identifier: str, receipt: Receipt) -> Hold | None:
        """Return the hold of a receipt, unless it was lost."""
        hold = self._by_token.get(receipt.token)
        if hold is None or hold.identifier != identifier or hold.id != receipt.id or hold.is_lost(time.monotonic()):
            return None
        return hold

    def claim(self, identifier: str, receipts: Sequence[Receipt]) -> list[Hold]:
        """Return the hold of each receipt, once.

        :raise LeaseLostError: one of them is not held any more
        """
        found: dict[int, Hold] = {}
        for receipt in receipts:
            hold = self.find(identifier, receipt)
            if hold is None:
                raise LeaseLostError(
                    f"Subscriber {identifier!r} does not hold message {receipt.id} by this take any more: it was "
                    "settled or given back, its lease ended, or the connection was lost for longer than the ack wait. "
                    "Nothing was changed; discard what the handler did."
                )
            found[hold.token] = hold
        return list(found.values())


def deliver(hold: Hold, *, first_received_ns: int, with_data: bool = True) -> Delivery:
    """Show a hold to the outside."""
    arrival = hold.arrival
    return Delivery(
        id=arrival.id,
        token=hold.token,
        data=arrival.data if with_data else b"",
        size=len(arrival.data),
        headers=arrival.headers,
        topic=arrival.topic,
        sent_ns=arrival.sent_ns,
        first_received_ns=first_received_ns,
        delivery_count=hold.count,
        last_error=hold.note.last_error if hold.note.exists else arrival.last_error,
        missed=0,
        expires_ns=0 if arrival.expires_in_ns is None else arrival.sent_ns + arrival.expires_in_ns,
    )
