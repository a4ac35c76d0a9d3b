"""Messages as they go into an engine and come out of it.

Times are integer nanoseconds; wall-clock times count from the Unix epoch.
"""

import msgspec

Payload = bytes | bytearray | memoryview
"""What an engine stores; any other bytes-like object is wrapped in a memoryview before."""


#: The reason that travels with a message whose owner died.
OWNER_DIED = "owner died"


class Entry(msgspec.Struct, frozen=True):
    """A checked message on its way into a queue.

    ``headers`` are MessagePack (a map from str to str or bin), empty for none; ``delay_ns`` and
    ``expires_in_ns`` count from the moment the message is stored.
    """

    data: Payload
    size: int
    headers: bytes = b""
    topic: str | None = None
    delay_ns: int = 0
    expires_in_ns: int | None = None
    deduplication_id: bytes | None = None


class Receipt(msgspec.Struct, frozen=True):
    """Proof of one take: a later take of the same message has another token."""

    id: int
    token: int


class Delivery(msgspec.Struct):
    """A message as an engine hands it over; ``data`` is empty when it was taken for a view."""

    id: int
    token: int
    data: bytes
    size: int
    headers: bytes
    topic: str | None
    sent_ns: int
    first_received_ns: int
    delivery_count: int
    last_error: str | None
    missed: int
    expires_ns: int = 0  # 0: never

    @property
    def receipt(self) -> Receipt:
        """Return the proof of this take."""
        return Receipt(self.id, self.token)


class Retained(msgspec.Struct, frozen=True):
    """A message as it stands in the queue, seen by nobody in particular."""

    id: int
    data: bytes
    headers: bytes
    topic: str | None
    sent_ns: int


class DeadLetterRecord(msgspec.Struct, frozen=True):
    """A message that one subscriber gave up on."""

    id: int
    data: bytes
    headers: bytes
    topic: str | None
    sent_ns: int
    died_ns: int
    delivery_count: int
    reason: str
