"""Messages: as they are sent (Draft) and as they are received (Message)."""

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from persipubsub.arguments import (
    check_reason,
    delay_ns_of,
    expires_in_ns_of,
    lease_ns_of,
)
from persipubsub.engine.messages import Delivery, Entry, Payload
from persipubsub.errors import MessageError, MessageTooLargeError, MessageTypeError, SettingsError
from persipubsub.limits import MAX_HEADER_BYTES
from persipubsub.names import check_topic

if TYPE_CHECKING:
    from persipubsub.delivery.settling import Settler

Headers = Mapping[str, str | bytes]
Serializer = Callable[[Any], Payload]

MAX_DEDUPLICATION_ID_BYTES = 255

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """A message with options of its own, for ``send_many``.

    >>> Draft(b"42", topic="camera.left").topic
    'camera.left'

    :param data: bytes-like, or whatever the publisher's serializer takes
    :param headers: str to str or bytes, at most 64 KiB altogether
    :param topic: tokens separated by dots
    :param delay: seconds before it is delivered
    :param expires_in: seconds after which it is not delivered any more
    :param deduplication_id: a repetition within the queue's window stores nothing
    """

    data: Any
    headers: Headers | None = None
    topic: str | None = None
    delay: float | None = None
    expires_in: float | None = None
    deduplication_id: str | bytes | None = None


def make_entry(draft: Draft, serializer: Serializer | None = None) -> Entry:
    """Check ``draft`` and return what an engine stores.

    :raise MessageTypeError: the data is not bytes-like
    :raise MessageTooLargeError: the headers are too large
    :raise MessageError: another option makes no sense
    :raise IdentifierError: the topic is malformed
    """
    data = make_payload(draft.data, serializer)
    return Entry(
        data,
        data.nbytes if isinstance(data, memoryview) else len(data),
        encode_headers(draft.headers) if draft.headers else b"",
        None if draft.topic is None else check_topic(draft.topic),
        delay_ns_of(draft.delay),
        expires_in_ns_of(draft.expires_in),
        None if draft.deduplication_id is None else _deduplication_id(draft.deduplication_id),
    )


def make_plain_entry(data: object, serializer: Serializer | None = None) -> Entry:
    """Check a message without options and return what an engine stores.

    :raise MessageTypeError: the data is not bytes-like
    """
    if serializer is not None or type(data) is not bytes:
        data = make_payload(data, serializer)
    return Entry(data, len(data))


def make_payload(data: object, serializer: Serializer | None = None) -> Payload:
    """Serialize ``data``, if there is a serializer, and return it as plain bytes without copying them.

    :raise MessageTypeError: it is not bytes-like
    """
    origin = "The message"
    if serializer is not None:
        data = serializer(data)
        origin = f"What the serializer {getattr(serializer, '__name__', serializer)!r} returned"
    if isinstance(data, (bytes, bytearray)):
        return data
    try:
        view = memoryview(data)  # type: ignore[arg-type]  # whatever it is: what is no buffer raises
    except TypeError:
        raise MessageTypeError(
            f"{origin} is not bytes-like, but a {type(data).__name__}. {_how_to_encode(data)}"
        ) from None
    if not view.c_contiguous:
        raise MessageTypeError(f"{origin} is a buffer with gaps; send a contiguous copy, such as bytes(buffer).")
    if view.format == "B" and view.ndim == 1:
        return view
    if view.nbytes == 0:
        return b""
    try:
        return view.cast("B")
    except (TypeError, ValueError):
        # Records and foreign byte orders have no native format to be cast from.
        return view.tobytes()


def _how_to_encode(data: object) -> str:
    if isinstance(data, str):
        return 'Encode it, for example with text.encode("utf-8").'
    return "Encode it as bytes, or give the publisher a serializer such as persipubsub.serializers.json_dumps."


def encode_headers(headers: object) -> bytes:
    """Check headers and return them as MessagePack.

    :raise MessageTooLargeError: they are too large
    :raise MessageError: they are not a mapping from str to str or bytes
    """
    if not isinstance(headers, Mapping):
        raise MessageError(f"headers must be a mapping from str to str or bytes, but is {headers!r}.")
    for key, value in headers.items():
        if not isinstance(key, str) or not key:
            raise MessageError(f"The key of a header must be a str that is not empty, but one is {key!r}.")
        if not isinstance(value, (str, bytes)):
            raise MessageError(f"The header {key!r} must be a str or bytes, but is {value!r}.")
        for text in (key, value):
            if isinstance(text, str):
                _check_unicode(text, f"The header {key!r}")
    encoded = _encode(dict(headers))
    if len(encoded) > MAX_HEADER_BYTES:
        raise MessageTooLargeError(
            f"The headers {', '.join(map(repr, headers))} take {len(encoded)} bytes, but at most {MAX_HEADER_BYTES} "
            "are allowed; put what is large into the message."
        )
    return encoded


def decode_headers(headers: bytes) -> dict[str, str | bytes]:
    """Return stored headers as a dictionary."""
    decoded: dict[str, str | bytes] = _decode(headers) if headers else {}
    return decoded


def _check_unicode(text: str, what: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise MessageError(f"{what} has half of a surrogate pair; it is not Unicode text.") from None


def _deduplication_id(value: object) -> bytes:
    if isinstance(value, str):
        _check_unicode(value, f"The deduplication_id {value!r}")
        value = value.encode("utf-8")
    if not isinstance(value, bytes) or not 1 <= len(value) <= MAX_DEDUPLICATION_ID_BYTES:
        raise MessageError(
            f"deduplication_id must be a str or bytes of 1 to {MAX_DEDUPLICATION_ID_BYTES} bytes, but is {value!r}."
        )
    return value


def moment(ns: int) -> datetime.datetime:
    """Return a stored time as an aware datetime in UTC."""
    return _EPOCH + datetime.timedelta(microseconds=ns // 1000)


HELD = 0
SETTLED = 1
LOOKED_AT = 2


class Received(Generic[T]):
    """What is known about a message that a subscriber received; how it is settled, subclasses say."""

    __slots__ = ("data", "_delivery", "_headers", "_holder", "_state", "_staged", "_generation")

    def __init__(self, holder: "Settler", delivery: Delivery, data: T, generation: int, state: int = HELD) -> None:
        """Wrap ``delivery``, taken in the process of the fork ``generation``; subscribers do so."""
        #: The payload as bytes, or what the subscriber's deserializer made of it.
        self.data = data
        self._delivery = delivery
        self._headers: dict[str, str | bytes] | None = None
        self._holder = holder
        self._state = state
        self._staged: list[Entry] | None = None
        self._generation = generation

    @property
    def id(self) -> int:
        """Return the id: the order of all messages of the queue."""
        return self._delivery.id

    @property
    def headers(self) -> Headers:
        """Return the headers."""
        if self._headers is None:
            self._headers = decode_headers(self._delivery.headers)
        return self._headers

    @property
    def topic(self) -> str | None:
        """Return the topic."""
        return self._delivery.topic

    @property
    def size(self) -> int:
        """Return the bytes of the payload as it is stored."""
        return self._delivery.size

    @property
    def sent(self) -> datetime.datetime:
        """Return when it was sent, in UTC; along the ids this never goes backwards."""
        return moment(self._delivery.sent_ns)

    @property
    def expires(self) -> datetime.datetime | None:
        """Return from when on it is not delivered any more, in UTC, as its sender said; ``None``: never."""
        return moment(self._delivery.expires_ns) if self._delivery.expires_ns else None

    @property
    def first_received(self) -> datetime.datetime:
        """Return when this subscriber first took it, in UTC."""
        return moment(self._delivery.first_received_ns)

    @property
    def delivery_count(self) -> int:
        """Return how often this subscriber has taken it, this time included."""
        return self._delivery.delivery_count

    @property
    def last_error(self) -> str | None:
        """Return why it was given back the last time, if a reason was told."""
        return self._delivery.last_error

    @property
    def subscriber(self) -> str:
        """Return the identifier of the subscriber that received it."""
        return self._holder.identifier

    @property
    def missed(self) -> int:
        """Return how many messages this subscriber lost to limits just before this one."""
        return self._delivery.missed

    def send(
        self,
        msg: Any,
        *,
        headers: Headers | None = None,
        topic: str | None = None,
        delay: float | None = None,
        expires_in: float | None = None,
        deduplication_id: str | bytes | None = None,
    ) -> None:
        """Stage a message for the same queue: it is published in the transaction that acknowledges this one.

        So a crash does both or neither, and giving this one back drops what was staged. The publication
        never waits for room: in a full ``block`` or ``reject`` queue the acknowledgement raises
        QueueFullError.

        :param msg: bytes-like, or a Draft; the other arguments are those of :meth:`Publisher.send`
        :raise MessageError: it cannot be sent, or this message is settled already
        :raise IdentifierError: the topic is malformed
        """
        if self._state != HELD:
            raise MessageError(f"The message {self.id} is settled; send before it is acknowledged.")
        entry = make_entry(
            msg if isinstance(msg, Draft) else Draft(msg, headers, topic, delay, expires_in, deduplication_id)
        )
        if not isinstance(entry.data, bytes):
            # The caller may change the buffer before the message is acknowledged.
            entry = msgspec.structs.replace(entry, data=bytes(entry.data))
        if self._staged is None:
            self._staged = []
        self._staged.append(entry)

    def _ack(self) -> None:
        self._holder.settle((self,))

    def _nack(self, delay: float, reason: str | None) -> None:
        delay_ns = delay_ns_of(delay)
        text = None if reason is None else check_reason(reason)
        self._holder.give_back((self,), delay_ns=delay_ns, reason=text)

    def _reject(self, reason: str) -> None:
        self._holder.reject(self, check_reason(reason))

    def _extend(self, seconds: float) -> None:
        lease_ns = lease_ns_of(seconds)
        if lease_ns is None:
            raise SettingsError("extend needs a number of seconds, not None.")
        self._holder.extend(self, lease_ns)

    def __repr__(self) -> str:
        state = {HELD: "held", SETTLED: "settled", LOOKED_AT: "looked at"}[self._state]
        return f"<Message {self.id} of {self.subscriber!r}, {self.size} bytes, {state}>"


class Message(Received[T]):
    """A message as a subscriber received it.

    Until it is settled it belongs to this process; how long, the lease says. Settle it with ``ack``,
    ``nack`` or ``reject``, unless a block or a loop does so, from any thread. Each of them is one
    transaction, and waits for nothing but another process's one. A second settlement of the same object
    does nothing.

    >>> import persipubsub
    >>> with persipubsub.Environment("memory:") as env:
    ...     control = env.new_control(subscriber_ids={"worker"})
    ...     _ = env.new_publisher().send(b"frame", headers={"camera": "left"})
    ...     message = env.new_subscriber("worker").get(timeout=0)
    ...     print(message.data, message.headers, message.delivery_count)
    ...     message.ack()
    b'frame' {'camera': 'left'} 1

    :raise ClosedError: by any settlement, once its Subscriber was closed, which gave it back
    """

    __slots__ = ()

    def ack(self) -> None:
        """Settle it, and publish what was staged by ``send``, in one transaction.

        :raise LeaseLostError: it belongs to somebody else by now; nothing was changed
        :raise QueueFullError: there is no room for what was staged; nothing was changed
        """
        self._ack()

    def nack(self, delay: float = 0, reason: str | None = None) -> None:
        """Give it back: it is the next one delivered, or comes when ``delay`` seconds are over.

        What was staged is dropped. After the subscriber's ``max_deliveries`` it is dead instead.

        :param delay: seconds
        :param reason: shown as ``last_error`` with the next delivery, and with the dead letter
        :raise MessageError: the delay or the reason makes no sense
        :raise LeaseLostError: it belongs to somebody else by now; nothing was changed
        """
        self._nack(delay, reason)

    def reject(self, reason: str) -> None:
        """Move it to the subscriber's dead letters; what was staged is dropped.

        :param reason: shown with the dead letter
        :raise MessageError: the reason is no str
        :raise LeaseLostError: it belongs to somebody else by now; nothing was changed
        """
        self._reject(reason)

    def extend(self, seconds: float) -> None:
        """Let its bounded lease end ``seconds`` from now; one without an end keeps having none.

        :raise SettingsError: it is no positive number of seconds
        :raise LeaseLostError: it belongs to somebody else by now
        """
        self._extend(seconds)


def staged_by(messages: Sequence[Received[Any]]) -> list[Entry]:
    """Return what messages staged, in their order."""
    entries: list[Entry] = []
    for message in messages:
        if message._staged is not None:
            entries.extend(message._staged)
    return entries
