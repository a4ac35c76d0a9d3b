"""What is known about a message that is stored and that nobody holds."""

import datetime
from typing import Generic, TypeVar

from persipubsub.engine.messages import DeadLetterRecord, Retained
from persipubsub.message import Headers, decode_headers, moment

R = TypeVar("R", bound=Retained | DeadLetterRecord)


class StoredMessage(Generic[R]):
    """A message as it is stored: payload, headers, topic and time."""

    __slots__ = ("_record",)

    def __init__(self, record: R) -> None:
        """Wrap what an engine stores."""
        self._record = record

    @property
    def id(self) -> int:
        """Return the id."""
        return self._record.id

    @property
    def data(self) -> bytes:
        """Return the payload as it was stored."""
        return self._record.data

    @property
    def headers(self) -> Headers:
        """Return the headers."""
        return decode_headers(self._record.headers)

    @property
    def topic(self) -> str | None:
        """Return the topic."""
        return self._record.topic

    @property
    def sent(self) -> datetime.datetime:
        """Return when it was sent, in UTC."""
        return moment(self._record.sent_ns)
