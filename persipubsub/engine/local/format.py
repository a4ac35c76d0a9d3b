"""The on-disk format: names of sub-databases, keys, and how records are packed. Pure.

All integers in keys are big-endian, so that LMDB's order is numeric order. Records that change
often or grow are MessagePack arrays (``State``, ``Subscriber``, ``Hold``), so that a later version
can append fields; the metadata of a message has a fixed head.
"""

import struct

import msgspec
import xxhash

#: Raised with every change of the layout that an older version would misread.
FORMAT_VERSION = 1
MAGIC = "persipubsub"

DATA_DB = b"data_db"
META_DB = b"meta_db"
PENDING_DB = b"pending_db"
QUEUE_DB = b"queue_db"
SUBSCRIBER_DB = b"subscriber_db"
GONE_DB = b"gone_db"
BLOCK_DB = b"block_db"
DEDUPLICATION_DB = b"deduplication_db"
#: Always there, besides one ``queue/<identifier>`` for each subscriber.
FIXED_DBS = (DATA_DB, META_DB, PENDING_DB, QUEUE_DB, SUBSCRIBER_DB, GONE_DB, DEDUPLICATION_DB, BLOCK_DB)
SUBSCRIBER_PREFIX = b"queue/"

# Records in queue_db beside the settings, which stand under their own names.
KEY_FORMAT = b"format"
KEY_IDENTITY = b"identity"
KEY_CREATED = b"created"
KEY_STATE = b"state"
SETTING_PREFIX = b"setting/"
#: With a slot of ``posts`` behind it -> nonce (16) | answer: what one process carried out for another last.
POST_PREFIX = b"post/"

_ID = struct.Struct(">Q")
pack_id = _ID.pack


def unpack_id(key: bytes | memoryview, offset: int = 0) -> int:
    """Return the message id that stands in ``key`` from ``offset`` on."""
    number: int = _ID.unpack_from(key, offset)[0]
    return number


def subscriber_db(identifier: bytes) -> bytes:
    """Return the name of the sub-database of a subscriber."""
    return SUBSCRIBER_PREFIX + identifier


# -- pending_db: kind (1 byte) | message id (8) -> count (8) -------------------------------------

POSITIONS = b"p"
"""How many subscribers' positions stand at this id."""
HOLDERS = b"h"
"""How many subscribers hold this very message (leased, given back or delayed)."""

# -- queue/<identifier>: kind (1 byte) | ... ------------------------------------------------------

LEASED = b"L"
"""``L | id`` -> Hold: taken and not yet settled."""
READY = b"R"
"""``R | id`` -> Hold: given back, to be delivered next."""
DELAYED = b"W"
"""``W | id`` -> Hold: not due yet."""
DUE = b"D"
"""``D | due, wall ns (8) | id`` -> empty: the delayed ones by when they are due."""
ENDING = b"E"
"""``E | deadline, boot ns (8) | id`` -> empty: the bounded leases by when they end."""
AHEAD = b"S"
"""``S | id`` -> empty: settled ahead of the position."""
OWNER = b"O"
"""``O | owner (8)`` -> OwnerRecord: who has taken messages from this subscriber."""
DEAD = b"X"
"""``X | id`` -> DeadRecord: a dead letter, its payload under ``Y | id``."""
OWN_DATA = b"Y"
"""``Y | id`` -> payload of a dead letter, or of one that was requeued: the queue may have let it go."""
REQUEUED = b"Z"
"""``Z | id`` -> metadata of a dead letter that was requeued."""

# -- gone_db: first id (8) -> Gone: ranges of ids that limits took --------------------------------

OVERFLOW = 1
TIMEOUT = 2

# -- block_db: id // 1024 (8) -> messages (8) | bytes of payload (8) -----------------------------------

# -- deduplication_db ------------------------------------------------------------------------------

SEEN = b"i"
"""``i | deduplication id`` -> message id (8) | seen, wall ns (8)."""
SEEN_AT = b"t"
"""``t | seen, wall ns (8) | message id (8)`` -> deduplication id: for ageing."""


class State(msgspec.Struct, array_like=True):
    """What changes with every message: one record, ``queue_db["state"]``."""

    #: The id that the next message gets.
    next_id: int = 1
    #: Messages that are there, those in ``doomed`` not counted.
    messages: int = 0
    #: Bytes of their payloads.
    payload_bytes: int = 0
    #: When the newest message was sent, wall-clock ns; the next one is not earlier.
    last_sent_ns: int = 0
    #: Number of subscribers.
    subscribers: int = 0
    #: The lowest position of all subscribers; the next id if there are none.
    low: int = 1
    #: Everything below was looked at for deletion; what is left there is held by somebody.
    swept: int = 1
    #: From here on every id is stored, or stands in gone_db; below, consumed messages leave holes.
    dense: int = 1
    #: Number of ranges in gone_db.
    gone: int = 0
    #: Messages ever stored.
    published: int = 0
    #: Sends that stored nothing, for their deduplication id was known.
    deduplicated: int = 0
    #: Sends that stored nothing, for there was no subscriber.
    unrouted: int = 0
    #: Messages that an overflow took.
    pruned_overflow: int = 0
    #: Messages that the message timeout took.
    pruned_timeout: int = 0
    #: Raised with every change of a setting; processes compare it with what they have read.
    settings_version: int = 0
    #: Raised when a subscriber is added or moved: it has lost nothing of what limits took before.
    epoch: int = 0
    #: Number of the subscriber that is added next.
    next_number: int = 1
    #: How many subscribers are ephemeral: somebody must look whether their owners live.
    ephemerals: int = 0
    #: Ranges of ids, first and end (excluded), that limits took and whose records are not deleted yet; ascending.
    doomed: tuple[tuple[int, int], ...] = ()
    #: Up to this block (id // 1024) block_db is not kept; no message is in an earlier one.
    front: int = 0
    #: Messages in the block of the next id; not kept if it is the front.
    tail_messages: int = 0
    #: Bytes of their payloads; not kept, either.
    tail_bytes: int = 0


class Subscriber(msgspec.Struct, array_like=True):
    """A subscriber: ``subscriber_db[identifier]``."""

    #: Given once in the life of the queue, so that a name that is used again is another subscriber.
    number: int
    #: The first id that it has not taken yet.
    position: int
    #: When it was added, wall-clock ns.
    created_ns: int
    #: The queue's epoch when it was added or last moved by hand.
    epoch: int
    #: How long its leases last, ns; nil: as long as their owner lives.
    lease_ns: int | None = None
    #: Deliveries after which a message is a dead letter; nil: never.
    max_deliveries: int | None = None
    #: The topics that it gets; nil: all messages.
    topic_filter: str | None = None
    #: The owner that an ephemeral subscriber vanishes with.
    ephemeral: int | None = None
    #: Nothing is delivered to it.
    paused: bool = False
    #: Records under ``L``.
    leased: int = 0
    #: Records under ``R``.
    ready: int = 0
    #: Records under ``W``.
    delayed: int = 0
    #: How many of the leased have a deadline.
    bounded: int = 0
    #: How many settled messages stand ahead of the position.
    ahead: int = 0
    #: How many leased messages stand ahead of the position (``receive_to_top``).
    top: int = 0
    #: Records under ``X``.
    dead: int = 0
    #: Number of takes so far; the next token.
    takes: int = 0
    #: Deliveries ever, repeated ones included.
    deliveries: int = 0
    #: Those that were not a message's first.
    redelivered: int = 0
    #: Messages ever settled.
    settled: int = 0
    #: Messages that limits took before it had settled them, as far as it has looked.
    lost: int = 0
    #: Messages whose own time was over when they were to be taken.
    expired: int = 0
    #: Lost to limits since the last message was delivered.
    missed: int = 0
    #: Wall-clock ns; 0: never.
    last_taken_ns: int = 0
    #: Wall-clock ns; 0: never.
    last_settled_ns: int = 0


class Hold(msgspec.Struct, array_like=True, omit_defaults=True):
    """A message that a subscriber has taken or set aside."""

    #: The take, as ``Subscriber.takes`` counts them: an older one settles nothing.
    token: int = 0
    #: Deliveries so far, this one included.
    count: int = 0
    #: First delivery, wall-clock ns.
    first_received_ns: int = 0
    #: Messages lost to limits just before this one.
    missed: int = 0
    #: Who has taken it; the byte of ``locks`` shows whether that process lives.
    owner: int = 0
    #: End of a bounded lease, boot-clock ns; 0 for none.
    deadline_ns: int = 0
    #: For a delayed one: wall-clock ns.
    due_ns: int = 0
    #: Why it was given back last.
    error: str | None = None
    #: Slot of the board that tells how many of a batch were handed over; -1: all of it was.
    slot: int = -1
    #: Place in the batch.
    ordinal: int = 0
    #: Taken ahead of the position by ``receive_to_top``.
    top: bool = False
    #: Its payload and metadata stand with the subscriber (requeued from the dead letters).
    own_copy: bool = False


class OwnerRecord(msgspec.Struct, array_like=True):
    """A process that has taken messages."""

    #: Process id.
    pid: int
    #: Inode of its pid namespace; 0 where there are none.
    pid_namespace: int
    #: When it first took something, wall-clock ns.
    since_ns: int
    #: Its command line, of 200 characters at most.
    command: str


class DeadRecord(msgspec.Struct, array_like=True):
    """A dead letter but for its payload; ``meta`` is the message's own metadata record."""

    #: The message's metadata, as in ``meta_db``.
    meta: bytes
    #: Wall-clock ns.
    died_ns: int
    #: Deliveries.
    count: int
    #: Why it was given up.
    reason: str


class Gone(msgspec.Struct, array_like=True):
    """A range of ids, from its key up to ``end`` (excluded), that a limit took."""

    #: The first id behind the range.
    end: int
    #: 1 for an overflow, 2 for the message timeout.
    cause: int
    #: The queue's epoch when that happened.
    epoch: int


# -- meta_db: message id (8) -> metadata ----------------------------------------------------------
#
#    0        8          16     17
#    +--------+----------+------+---------------+--------------+----------------+-----------------+
#    | sent   | checksum | flags| not before(8) | expires (8)  | topic: len (2),| headers:        |
#    | ns (8) | xxh3 (8) | (1)  | if DELAY      | if EXPIRES   | UTF-8, if TOPIC| rest, if HEADERS|
#    +--------+----------+------+---------------+--------------+----------------+-----------------+

_META_HEAD = struct.Struct(">QQB")
_SHORT = struct.Struct(">H")
_FLAG_DELAY, _FLAG_EXPIRES, _FLAG_TOPIC, _FLAG_HEADERS = 1, 2, 4, 8


class Meta(msgspec.Struct):
    """Metadata of a message."""

    sent_ns: int
    checksum: int = 0
    not_before_ns: int = 0
    expires_ns: int = 0
    topic: str | None = None
    headers: bytes = b""


def payload_digest(data: bytes | bytearray | memoryview) -> int:
    """Return the xxh3-64 of a payload."""
    digest: int = xxhash.xxh3_64_intdigest(data)
    return digest


def _checksum(message_id: int, digest: int, sent_ns: int, rest: bytes | memoryview) -> int:
    checksum: int = xxhash.xxh3_64_intdigest(_META_SUM.pack(message_id, digest, sent_ns) + rest)
    return checksum


_META_SUM = struct.Struct(">QQQ")


def pack_meta(message_id: int, digest: int, meta: Meta) -> bytes:
    """Pack ``meta`` with a checksum over id, metadata and payload (by its digest)."""
    flags, rest = 0, b""
    if meta.not_before_ns:
        flags |= _FLAG_DELAY
        rest += _ID.pack(meta.not_before_ns)
    if meta.expires_ns:
        flags |= _FLAG_EXPIRES
        rest += _ID.pack(meta.expires_ns)
    if meta.topic is not None:
        flags |= _FLAG_TOPIC
        topic = meta.topic.encode()
        rest += _SHORT.pack(len(topic)) + topic
    if meta.headers:
        flags |= _FLAG_HEADERS
        rest += meta.headers
    rest = bytes((flags,)) + rest
    return _META_SUM_HEAD.pack(meta.sent_ns, _checksum(message_id, digest, meta.sent_ns, rest)) + rest


_META_SUM_HEAD = struct.Struct(">QQ")
_META_SUM_PLAIN = struct.Struct(">QQQB")


def pack_plain_meta(message_id: int, digest: int, sent_ns: int) -> bytes:
    """Pack what ``pack_meta`` packs for a message that has nothing but the time it was sent at."""
    checksum = xxhash.xxh3_64_intdigest(_META_SUM_PLAIN.pack(message_id, digest, sent_ns, 0))
    return _META_HEAD.pack(sent_ns, checksum, 0)


def unpack_meta(record: bytes | memoryview) -> Meta:
    """Unpack a metadata record.

    :raise ValueError: the record is not one
    """
    try:
        sent_ns, checksum, flags = _META_HEAD.unpack_from(record)
        if not flags:
            return Meta(sent_ns, checksum)
        meta = Meta(sent_ns, checksum)
        at = _META_HEAD.size
        if flags & _FLAG_DELAY:
            meta.not_before_ns = unpack_id(record, at)
            at += 8
        if flags & _FLAG_EXPIRES:
            meta.expires_ns = unpack_id(record, at)
            at += 8
        if flags & _FLAG_TOPIC:
            length = _SHORT.unpack_from(record, at)[0]
            at += 2
            meta.topic = bytes(record[at : at + length]).decode()
            at += length
        if flags & _FLAG_HEADERS:
            meta.headers = bytes(record[at:])
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"The metadata record is malformed: {error}") from None
    return meta


def sent_at(record: bytes | memoryview) -> int:
    """Return when a message was sent, from its metadata record."""
    return unpack_id(record)


def is_intact(message_id: int, record: bytes | memoryview, data: bytes | bytearray | memoryview) -> bool:
    """Tell whether id, metadata and payload still agree with the checksum."""
    if len(record) < _META_HEAD.size:
        return False
    sent_ns, checksum = _META_SUM_HEAD.unpack_from(record)
    found = _checksum(message_id, payload_digest(data), sent_ns, record[16:])
    return bool(found == checksum)


def agrees(message_id: int, meta: Meta, record: bytes | memoryview, data: bytes) -> bool:
    """Tell what ``is_intact`` tells, with the record unpacked already."""
    digest = xxhash.xxh3_64_intdigest(data)
    head = _META_SUM.pack(message_id, digest, meta.sent_ns)
    return bool(xxhash.xxh3_64_intdigest(head + record[16:]) == meta.checksum)


# -- MessagePack records --------------------------------------------------------------------------

encode = msgspec.msgpack.Encoder().encode
decode_state = msgspec.msgpack.Decoder(State).decode
decode_subscriber = msgspec.msgpack.Decoder(Subscriber).decode
decode_hold = msgspec.msgpack.Decoder(Hold).decode
decode_owner = msgspec.msgpack.Decoder(OwnerRecord).decode
decode_dead = msgspec.msgpack.Decoder(DeadRecord).decode
decode_gone = msgspec.msgpack.Decoder(Gone).decode
