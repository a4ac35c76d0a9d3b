"""A queue as a sequence of records: what an export writes, an import reads, and a salvage finds.

The order is: the queue; its messages by ascending id; its state; then each subscriber, followed by what it holds and
by its dead letters; the end. Binary values are base64 in JSON. Times are nanoseconds since the Unix epoch; 0 is none.
"""

import msgspec

from persipubsub.limits import Settings, SubscriberSettings

#: Raised when an older version would misread what is written.
RECORDS_VERSION = 1


class _Record(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="is"):
    """Something in a queue."""


class QueueRecord(_Record, frozen=True, kw_only=True, tag="queue"):
    """The queue itself."""

    version: int
    identity: str
    created_ns: int = 0
    settings: Settings


class MessageRecord(_Record, frozen=True, kw_only=True, tag="message"):
    """A message; ``text`` if the payload is UTF-8, else ``base64``; headers likewise."""

    id: int
    sent_ns: int
    topic: str | None = None
    headers: dict[str, str] = {}
    binary_headers: dict[str, bytes] = {}
    not_before_ns: int = 0
    expires_ns: int = 0
    text: str | None = None
    base64: bytes = b""

    @property
    def data(self) -> bytes:
        """Return the payload."""
        return self.base64 if self.text is None else self.text.encode()

    @classmethod
    def of(
        cls,
        message_id: int,
        data: bytes,
        *,
        sent_ns: int,
        topic: str | None,
        headers: bytes,
        not_before_ns: int = 0,
        expires_ns: int = 0,
    ) -> "MessageRecord":
        """Make a record of a message as it is stored."""
        known: dict[str, str | bytes] = msgspec.msgpack.decode(headers) if headers else {}
        text = None
        try:
            text = data.decode()
        except UnicodeDecodeError:
            pass
        return cls(
            id=message_id,
            sent_ns=sent_ns,
            topic=topic,
            headers={name: value for name, value in known.items() if isinstance(value, str)},
            binary_headers={name: value for name, value in known.items() if isinstance(value, bytes)},
            not_before_ns=not_before_ns,
            expires_ns=expires_ns,
            text=text,
            base64=data if text is None else b"",
        )

    @property
    def all_headers(self) -> dict[str, str | bytes]:
        """Return the headers, those of text before the others."""
        return {**self.headers, **self.binary_headers}


class SubscriberRecord(_Record, frozen=True, kw_only=True, tag="subscriber"):
    """A subscriber; ``ahead`` are ids from the position on that do not wait any more."""

    identifier: str
    position: int
    paused: bool = False
    settings: SubscriberSettings
    ahead: list[int] = []


class HoldRecord(_Record, frozen=True, kw_only=True, tag="hold"):
    """A message that the subscriber before it had taken, given back or set aside until ``due_ns``.

    ``message`` is there if it stands with the subscriber alone, as a requeued dead letter does.
    """

    id: int
    count: int = 0
    first_received_ns: int = 0
    due_ns: int = 0
    error: str | None = None
    message: MessageRecord | None = None


class DeadRecord(_Record, frozen=True, kw_only=True, tag="dead"):
    """A dead letter of the subscriber before it."""

    message: MessageRecord
    died_ns: int
    count: int
    reason: str


class StateRecord(_Record, frozen=True, kw_only=True, tag="state"):
    """What comes after the messages: the id that the next one will get."""

    next_id: int


class EndRecord(_Record, frozen=True, kw_only=True, tag="end"):
    """The end, without which the records are not all there."""


Record = QueueRecord | MessageRecord | StateRecord | SubscriberRecord | HoldRecord | DeadRecord | EndRecord
