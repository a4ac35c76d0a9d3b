"""What is stored about a queue on the servers, as JSON: its settings, and the roster of its subscribers; pure."""

from typing import Any, Final

import msgspec
from nats.js import api

from persipubsub.engine.jetstream.names import Names
from persipubsub.errors import FormatVersionError, NotAQueueError, UnsupportedByEngineError
from persipubsub.limits import (
    DEFAULT_MAX_BYTES,
    DEFAULT_MAX_MESSAGE_BYTES,
    Durability,
    HighWaterMark,
    Retention,
    Settings,
    Strategy,
    SubscriberSettings,
)

FORMAT: Final = 1
#: A paused consumer is one until then.
FOR_EVER: Final = "2999-01-01T00:00:00Z"
LONG_AGO: Final = "2000-01-01T00:00:00Z"
_PREFIX: Final = "persipubsub."
#: Without a window JetStream would take two minutes.
_SMALLEST_WINDOW: Final = 0.1
_DEFAULT_WINDOW: Final = 120.0
_SMALLEST_AGE: Final = 0.1


class SettingsDocument(msgspec.Struct, frozen=True):
    """Settings as JSON has them."""

    message_timeout: float | None
    max_messages: int | None
    max_bytes: int | None
    strategy: Strategy
    retention: Retention
    durability: Durability
    max_message_bytes: int
    deduplication_window: float
    lock_timeout: float


class Listed(msgspec.Struct, frozen=True):
    """A subscriber in the roster: which consumer stands for it, and what only we know about it.

    ``ahead`` are messages that were settled by their ids before the consumer came to them.
    """

    consumer: str
    settings: SubscriberSettings
    paused: bool = False
    ahead: tuple[int, ...] = ()


class Roster(msgspec.Struct, frozen=True):
    """The subscribers; ``sequence`` is that of the stored document, 0 if there is none."""

    subscribers: dict[str, Listed]
    sequence: int = 0


class Stored(msgspec.Struct, frozen=True):
    """What the metadata of the stream says."""

    identity: str
    settings: Settings
    deployed: bool


_encode = msgspec.json.Encoder().encode
_settings = msgspec.json.Decoder(SettingsDocument)
_listed = msgspec.json.Decoder(dict[str, Listed])


def encode_roster(roster: Roster) -> bytes:
    """Return the document that is stored."""
    return _encode(roster.subscribers)


def decode_roster(data: bytes, sequence: int) -> Roster:
    """Return the roster of a stored document."""
    return Roster(_listed.decode(data), sequence)


def metadata(stored: Stored) -> dict[str, str]:
    """Return the metadata of the stream."""
    settings = stored.settings
    document = SettingsDocument(
        message_timeout=settings.high_water_mark.message_timeout,
        max_messages=settings.high_water_mark.max_messages,
        max_bytes=settings.high_water_mark.max_bytes,
        **{
            name: getattr(settings, name)
            for name in SettingsDocument.__struct_fields__
            if name not in ("message_timeout", "max_messages", "max_bytes")
        },
    )
    return {
        f"{_PREFIX}format": str(FORMAT),
        f"{_PREFIX}identity": stored.identity,
        f"{_PREFIX}settings": _encode(document).decode(),
        f"{_PREFIX}deployed": "yes" if stored.deployed else "no",
    }


def read_metadata(found: dict[str, str] | None, where: str) -> Stored:
    """Read the metadata of a stream.

    :raise NotAQueueError: the stream is not one of ours
    :raise FormatVersionError: it was made by a newer version
    """
    given = found or {}
    version = given.get(f"{_PREFIX}format")
    if version is None or not version.isdigit():
        raise NotAQueueError(
            f"The stream behind {where} was not made by persipubsub; it is left alone. Choose another queue name."
        )
    if int(version) > FORMAT:
        raise FormatVersionError(
            f"The queue {where} has the format {version}, this persipubsub knows {FORMAT}; upgrade it."
        )
    document = msgspec.structs.asdict(_settings.decode(given[f"{_PREFIX}settings"]))
    mark = HighWaterMark(*(document.pop(name) for name in ("message_timeout", "max_messages", "max_bytes")))
    return Stored(
        identity=given[f"{_PREFIX}identity"],
        settings=Settings(high_water_mark=mark, **document),
        deployed=given.get(f"{_PREFIX}deployed") == "yes",
    )


def check_supported(settings: Settings, max_payload: int) -> None:
    """Refuse what JetStream does not have.

    :param max_payload: of the server, in bytes
    :raise UnsupportedByEngineError: names the setting and what to do
    """
    timeout = settings.high_water_mark.message_timeout
    if timeout is not None and timeout < _SMALLEST_AGE:
        raise UnsupportedByEngineError(f"message_timeout must be {_SMALLEST_AGE} seconds or more on JetStream.")
    if 0 < settings.deduplication_window < _SMALLEST_WINDOW:
        raise UnsupportedByEngineError(
            f"deduplication_window must be 0 or {_SMALLEST_WINDOW} seconds or more on JetStream."
        )
    if settings.map_size is not None:
        raise UnsupportedByEngineError("map_size belongs to queues in a directory; leave it out on JetStream.")
    if settings.group_access:
        raise UnsupportedByEngineError(
            "group_access belongs to queues in a directory; give users rights on the NATS server instead."
        )
    if settings.max_message_bytes > max_payload and settings.max_message_bytes != DEFAULT_MAX_MESSAGE_BYTES:
        raise UnsupportedByEngineError(
            f"max_message_bytes is {settings.max_message_bytes}, but the server takes {max_payload} bytes at most: "
            "raise max_payload in its configuration, or ask for less."
        )


def stream_config(names: Names, stored: Stored, replicas: int) -> api.StreamConfig:
    """Return the stream that holds the messages of a queue."""
    settings = stored.settings
    mark = settings.high_water_mark
    window = settings.deduplication_window or _DEFAULT_WINDOW
    if mark.message_timeout is not None:
        # JetStream wants it so; what is gone cannot be repeated anyway.
        window = min(window, mark.message_timeout)
    return api.StreamConfig(
        name=names.stream,
        description="The messages of a persipubsub queue",
        subjects=names.subjects,
        retention=(api.RetentionPolicy.LIMITS if settings.retention is Retention.LOG else api.RetentionPolicy.INTEREST),
        discard=api.DiscardPolicy.OLD if settings.strategy is Strategy.PRUNE_FIRST else api.DiscardPolicy.NEW,
        max_msgs=-1 if mark.max_messages is None else mark.max_messages,
        # JetStream sets the bytes of a limit aside; the default was not asked for, so the server's own limit counts.
        max_bytes=-1 if mark.max_bytes in (None, DEFAULT_MAX_BYTES) else mark.max_bytes,
        max_age=mark.message_timeout or 0,
        duplicate_window=window,
        num_replicas=replicas,
        storage=api.StorageType.FILE,
        allow_direct=True,
        allow_atomic=True,
        allow_msg_ttl=True,
        metadata=metadata(stored),
    )


def side_config(name: str, subjects: list[str], what: str, replicas: int) -> api.StreamConfig:
    """Return a stream that keeps the last message of each subject."""
    return api.StreamConfig(
        name=name,
        description=what,
        subjects=subjects,
        retention=api.RetentionPolicy.LIMITS,
        max_msgs_per_subject=1,
        num_replicas=replicas,
        storage=api.StorageType.FILE,
        allow_direct=True,
        allow_msg_ttl=True,
    )


def consumer_config(names: Names, identifier: str, listed: Listed, **start: Any) -> api.ConsumerConfig:
    """Return the durable pull consumer of a subscriber."""
    return api.ConsumerConfig(
        durable_name=listed.consumer,
        description="A subscriber of a persipubsub queue",
        ack_policy=api.AckPolicy.EXPLICIT,
        max_deliver=-1,
        max_ack_pending=-1,
        filter_subjects=names.filters(identifier, listed.settings.topic_filter),
        metadata={f"{_PREFIX}subscriber": identifier},
        pause_until=FOR_EVER if listed.paused else None,
        **start,
    )
