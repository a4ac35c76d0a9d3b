"""The messages that a queue retains, by id."""

import bisect
from collections.abc import Iterator

import msgspec


class Message(msgspec.Struct, frozen=True):
    """A stored message; ``not_before_ns`` is 0 for no delay."""

    id: int
    data: bytes
    headers: bytes
    topic: str | None
    sent_ns: int
    not_before_ns: int = 0
    expires_ns: int | None = None

    def is_expired(self, timeout_ns: int | None, now_ns: int) -> bool:
        """Tell whether its own time is up, or it is older than the queue's message timeout."""
        if self.expires_ns is not None and self.expires_ns <= now_ns:
            return True
        return timeout_ns is not None and self.sent_ns + timeout_ns < now_ns


class Messages:
    """A mapping from id to message that is ordered by id."""

    def __init__(self) -> None:
        """Start empty."""
        self.ids: list[int] = []
        self.payload_bytes = 0
        #: How many have ever left; whoever waits for room compares it.
        self.removed = 0
        self._by_id: dict[int, Message] = {}

    def copy(self) -> "Messages":
        """Return an independent copy; the messages themselves never change."""
        other = Messages()
        other.ids = self.ids.copy()
        other.payload_bytes = self.payload_bytes
        other.removed = self.removed
        other._by_id = self._by_id.copy()
        return other

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.ids)

    def __contains__(self, message_id: int) -> bool:
        """Tell whether the message is retained."""
        return message_id in self._by_id

    def __getitem__(self, message_id: int) -> Message:
        """Return a retained message."""
        return self._by_id[message_id]

    def get(self, message_id: int) -> Message | None:
        """Return the message if it is retained."""
        return self._by_id.get(message_id)

    def append(self, message: Message) -> None:
        """Add a message with a higher id than all others."""
        self.ids.append(message.id)
        self._by_id[message.id] = message
        self.payload_bytes += len(message.data)

    def remove(self, message_id: int) -> None:
        """Drop a retained message."""
        message = self._by_id.pop(message_id)
        del self.ids[bisect.bisect_left(self.ids, message_id)]
        self.payload_bytes -= len(message.data)
        self.removed += 1

    def index(self, message_id: int) -> int:
        """Return how many messages have lower ids."""
        return bisect.bisect_left(self.ids, message_id)

    def since(self, message_id: int) -> Iterator[Message]:
        """Walk over the messages from an id on."""
        for index in range(self.index(message_id), len(self.ids)):
            yield self._by_id[self.ids[index]]

    def sent_since(self, sent_ns: int) -> int:
        """Return the index of the first message sent at or after a time (times never go backwards)."""
        return bisect.bisect_left(self.ids, sent_ns, key=lambda message_id: self._by_id[message_id].sent_ns)
