"""Messages as NATS carries them; pure."""

import base64
import json
from typing import Final

import msgspec
from nats.aio.msg import Msg
from nats.js import api

from persipubsub.engine.jetstream.names import Names, encode
from persipubsub.engine.messages import Entry, Retained
from persipubsub.names import MAX_IDENTIFIER_BYTES

MSG_ID: Final = api.Header.MSG_ID.value
BATCH_ID: Final = api.Header.BATCH_ID.value
BATCH_SEQUENCE: Final = api.Header.BATCH_SEQUENCE.value
BATCH_COMMIT: Final = api.Header.BATCH_COMMIT.value
EXPECTED_STREAM: Final = api.Header.EXPECTED_STREAM.value
EXPECTED_LAST: Final = api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value
_TTL: Final = api.Header.MSG_TTL.value

_HEADERS: Final = "Persipubsub-Headers"
_DELAY: Final = "Persipubsub-Delay"
_EXPIRES: Final = "Persipubsub-Expires-In"
_TOPIC: Final = "Persipubsub-Topic"
_SENT: Final = "Persipubsub-Sent"
_ERROR: Final = "Persipubsub-Last-Error"
_DIED: Final = "Persipubsub-Died"
_COUNT: Final = "Persipubsub-Deliveries"
#: What the headers of a message take besides the payload and its own headers, at most.
OVERHEAD: Final = 1024 + 4 * MAX_IDENTIFIER_BYTES
#: The server takes 64 KiB of headers, and ours are written in Base64.
LARGEST_HEADERS: Final = (64 * 1024 - 4096) // 4 * 3
_SECOND: Final = 10**9


class Arrival(msgspec.Struct, frozen=True):
    """A message as a consumer delivered it; ``delivered`` counts the times."""

    id: int
    delivered: int
    reply: str
    consumer: str
    data: bytes
    headers: bytes
    topic: str | None
    sent_ns: int
    delay_ns: int = 0
    expires_in_ns: int | None = None
    last_error: str | None = None


class Dead(msgspec.Struct, frozen=True):
    """A dead letter as it is stored; ``sequence`` is its own in the stream of dead letters."""

    id: int
    sequence: int
    data: bytes
    headers: bytes
    topic: str | None
    sent_ns: int
    died_ns: int
    delivery_count: int
    reason: str


def entry_headers(entry: Entry, message_id: str, names: Names) -> dict[str, str]:
    """Return the headers of a message that is published."""
    headers = {MSG_ID: message_id, EXPECTED_STREAM: names.stream}
    if entry.headers:
        headers[_HEADERS] = _text(entry.headers)
    if entry.delay_ns:
        headers[_DELAY] = str(entry.delay_ns)
    if entry.expires_in_ns is not None:
        headers[_EXPIRES] = str(entry.expires_in_ns)
        # The server only counts whole seconds; it takes away what nobody looks at.
        headers[_TTL] = f"{max(1, -(-entry.expires_in_ns // _SECOND))}s"
    return headers


def user_message_id(deduplication_id: bytes) -> str:
    """Return the ``Nats-Msg-Id`` of a deduplication id: it never equals one of our own."""
    return "u." + encode(deduplication_id.decode("latin-1"))


def size_of(entry: Entry) -> int:
    """Return how many bytes a message takes on the way, at most."""
    return entry.size + -(-len(entry.headers) // 3) * 4 + OVERHEAD


def sequence_of(reply: str) -> int:
    """Return the id of the message that is acknowledged there.

    >>> sequence_of("$JS.ACK.stream.consumer.1.42.7.1700000000000000000.0")
    42
    """
    return int(_tokens(reply)[5])


def _tokens(reply: str) -> list[str]:
    tokens = reply.split(".")
    # Newer servers tell the domain and the account as well.
    return [*tokens[:2], *tokens[4:]] if len(tokens) > 9 else tokens


def read_arrival(message: Msg, names: Names) -> Arrival:
    """Read a delivered message."""
    tokens = _tokens(message.reply)
    consumer, delivered, sequence, stored_ns = tokens[3], int(tokens[4]), int(tokens[5]), int(tokens[7])
    given = message.headers or {}
    topic = names.topic_of(message.subject)
    expires = given.get(_EXPIRES)
    return Arrival(
        id=sequence,
        delivered=delivered,
        reply=message.reply,
        consumer=consumer,
        data=message.data,
        headers=_bytes(given.get(_HEADERS)),
        topic=_topic(given, topic),
        sent_ns=int(given.get(_SENT, stored_ns)),
        delay_ns=int(given.get(_DELAY, 0)),
        expires_in_ns=None if expires is None else int(expires),
        last_error=_optional(given.get(_ERROR)),
    )


def read_raw(found: api.RawStreamMsg, names: Names, consumer: str) -> Arrival:
    """Read a message that was got from the stream and not delivered."""
    given = found.headers or {}
    expires = given.get(_EXPIRES)
    stored_ns = 0 if found.time is None else round(found.time.timestamp() * 1e6) * 1000
    return Arrival(
        id=found.seq or 0,
        delivered=0,
        reply="",
        consumer=consumer,
        data=found.data or b"",
        headers=_bytes(given.get(_HEADERS)),
        topic=_topic(given, names.topic_of(found.subject or "")),
        sent_ns=int(given.get(_SENT, stored_ns)),
        delay_ns=int(given.get(_DELAY, 0)),
        expires_in_ns=None if expires is None else int(expires),
        last_error=_optional(given.get(_ERROR)),
    )


def read_retained(data: bytes | None, given: dict[str, str], names: Names) -> Retained:
    """Read a message that was got directly."""
    return Retained(
        id=int(given["Nats-Sequence"]),
        data=data or b"",
        headers=_bytes(given.get(_HEADERS)),
        topic=names.topic_of(given["Nats-Subject"]),
        sent_ns=time_ns(given["Nats-Time-Stamp"]),
    )


def dead_headers(arrival: Arrival, died_ns: int, count: int, reason: str) -> dict[str, str]:
    """Return the headers of a dead letter."""
    headers = {
        MSG_ID: f"d.{arrival.consumer}.{arrival.id}.{arrival.delivered}",
        _SENT: str(arrival.sent_ns),
        _DIED: str(died_ns),
        _COUNT: str(count),
        _ERROR: _text(reason.encode()),
    }
    if arrival.headers:
        headers[_HEADERS] = _text(arrival.headers)
    if arrival.topic is not None:
        headers[_TOPIC] = _text(arrival.topic.encode())
    return headers


def read_dead(found: api.RawStreamMsg) -> Dead:
    """Read a dead letter."""
    given = found.headers or {}
    return Dead(
        id=int((found.subject or "").rpartition(".")[2]),
        sequence=found.seq or 0,
        data=found.data or b"",
        headers=_bytes(given.get(_HEADERS)),
        topic=_topic(given, None),
        sent_ns=int(given[_SENT]),
        died_ns=int(given[_DIED]),
        delivery_count=int(given[_COUNT]),
        reason=_optional(given.get(_ERROR)) or "",
    )


def again_headers(dead: Dead, names: Names) -> dict[str, str]:
    """Return the headers of a dead letter that is published once more."""
    headers = {
        MSG_ID: f"a.{dead.sequence}",
        EXPECTED_STREAM: names.stream,
        _SENT: str(dead.sent_ns),
        _ERROR: _text(dead.reason.encode()),
    }
    if dead.headers:
        headers[_HEADERS] = _text(dead.headers)
    if dead.topic is not None:
        headers[_TOPIC] = _text(dead.topic.encode())
    return headers


def pull_request(max_messages: int, expires: float | None) -> bytes:
    """Return the request for messages of a consumer: those that are there, or the first that come in ``expires`` s."""
    wanted: dict[str, object] = {"batch": max_messages}
    if expires is None:
        wanted["no_wait"] = True
    else:
        wanted["expires"] = int(expires * 1e9)
    return json.dumps(wanted).encode()


def fraction_ns(seconds: str) -> int:
    """Return the nanoseconds of the digits behind the point."""
    return int(seconds.ljust(9, "0")[:9])


def time_ns(text: str) -> int:
    """Return a time that a server wrote, to the nanosecond.

    >>> time_ns("1970-01-01T00:00:01.5Z")
    1500000000
    """
    import datetime

    whole, _, fraction = text.rstrip("Z").partition(".")
    moment = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.UTC)
    return int(moment.timestamp()) * _SECOND + fraction_ns(fraction)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes:
    return base64.b64decode(text) if text else b""


def _optional(text: str | None) -> str | None:
    return None if text is None else _bytes(text).decode()


def _topic(given: dict[str, str], topic: str | None) -> str | None:
    return _optional(given[_TOPIC]) if _TOPIC in given else topic
