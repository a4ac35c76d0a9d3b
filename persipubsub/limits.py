"""What a queue may hold, for how long, and what its promises are: the settings of a deployment."""

import dataclasses
import enum
from typing import Any

import msgspec

from persipubsub.errors import SettingsError
from persipubsub.names import check_filter

#: No message timeout unless one is asked for: nothing unread vanishes by default.
DEFAULT_MESSAGE_TIMEOUT: float | None = None
#: No limit on the number of messages unless one is asked for.
DEFAULT_MAX_MESSAGES: int | None = None
#: 30 GiB of payload.
DEFAULT_MAX_BYTES = 30 * 1024**3
#: A message is dead once it was delivered this often without being acknowledged.
DEFAULT_MAX_DELIVERIES = 20
#: Seconds within which a repeated deduplication id is recognised.
DEFAULT_DEDUPLICATION_WINDOW = 120.0
#: Seconds that a call waits for another process's write transaction.
DEFAULT_LOCK_TIMEOUT = 30.0
#: 1 GiB a message.
DEFAULT_MAX_MESSAGE_BYTES = 1024**3
#: Headers of one message, encoded.
MAX_HEADER_BYTES = 64 * 1024
#: LMDB cannot store a larger value.
LARGEST_MESSAGE_BYTES = 2**32 - 2**16


class Strategy(enum.Enum):
    """What a send does that would exceed the high-water mark."""

    PRUNE_FIRST = "prune_first"
    """Drop the oldest half of the mark, then store."""
    PRUNE_LAST = "prune_last"
    """Drop the newest half of what is stored, then store."""
    REJECT = "reject"
    """Raise QueueFullError, store nothing."""
    BLOCK = "block"
    """Wait for room, up to the send's timeout."""

    # The spellings of 1.0's README.
    prune_first = PRUNE_FIRST
    prune_last = PRUNE_LAST


class Retention(enum.Enum):
    """How long a message stays that every subscriber has consumed."""

    CONSUMED = "consumed"
    """It is deleted."""
    LOG = "log"
    """It stays, for replay, until a high-water mark takes it."""


class Durability(enum.Enum):
    """What a returned send or acknowledgement survives; a property of the queue."""

    FULL = "full"
    """Power loss: fsync of data and meta page at every commit."""
    COMMIT = "commit"
    """Power loss, but for at most the very last commit: one fsync per commit."""
    PROCESS = "process"
    """Any death of the process (kill -9), not of the machine: no fsync, writable map."""


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class HighWaterMark:
    """Limits of a queue; ``None`` means no limit.

    >>> HighWaterMark(max_messages=1000).max_messages
    1000

    :param message_timeout: seconds after which a message is neither delivered nor kept
    :param max_messages: number of messages stored
    :param max_bytes: bytes of payload stored
    :param hwm_db_size: ``max_bytes`` by its name in 1.0
    """

    message_timeout: float | None
    max_messages: int | None
    max_bytes: int | None

    def __init__(
        self,
        message_timeout: float | None = DEFAULT_MESSAGE_TIMEOUT,
        max_messages: int | None = DEFAULT_MAX_MESSAGES,
        max_bytes: int | None = DEFAULT_MAX_BYTES,
        *,
        hwm_db_size: int | None = None,
    ) -> None:
        """Keep the limits; :func:`check_settings` judges them when they are used."""
        object.__setattr__(self, "message_timeout", message_timeout)
        object.__setattr__(self, "max_messages", max_messages)
        object.__setattr__(self, "max_bytes", max_bytes if hwm_db_size is None else hwm_db_size)

    @property
    def hwm_lmdb_size(self) -> int | None:
        """Return ``max_bytes`` by its name in 1.0."""
        return self.max_bytes


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a deployment decides about a queue; stored in it, the same for every process.

    :param high_water_mark: the limits
    :param strategy: what a send does that would exceed them
    :param retention: whether consumed messages are kept
    :param durability: what a returned call survives
    :param max_message_bytes: largest payload of one message
    :param deduplication_window: seconds a ``deduplication_id`` is remembered
    :param lock_timeout: seconds a call waits for another process's write transaction
    :param map_size: bytes of address space that the LMDB map starts with, ``None`` for the default; it grows by itself
    :param group_access: let the group of the queue's directory read and write it (2770/0660 instead of 0700/0600)
    """

    high_water_mark: HighWaterMark = HighWaterMark()
    strategy: Strategy = Strategy.PRUNE_FIRST
    retention: Retention = Retention.CONSUMED
    durability: Durability = Durability.FULL
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    deduplication_window: float = DEFAULT_DEDUPLICATION_WINDOW
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT
    map_size: int | None = None
    group_access: bool = False

    def changed(self, **changes: Any) -> "Settings":
        """Return a checked copy with ``changes``.

        :raise SettingsError: a value that makes no sense
        """
        return check_settings(msgspec.structs.replace(self, **changes))


class SubscriberSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a deployment decides about one subscriber.

    :param lease: seconds a taken message may be held; ``None``: as long as its owner lives
    :param max_deliveries: deliveries after which a message is dead; ``None``: never
    :param topic_filter: deliver only messages whose topic matches
    :param ephemeral: vanish with the Environment that added it
    """

    lease: float | None = None
    max_deliveries: int | None = DEFAULT_MAX_DELIVERIES
    topic_filter: str | None = None
    ephemeral: bool = False


def _check_number(
    name: str, value: object, unit: str, *, low: float, optional: bool = False, whole: bool = False, high: float = 2**62
) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise SettingsError(f"{name} must be {'an int' if whole else 'a number'} of {unit}, but is {value!r}.")
    if not low <= value <= high:  # also refuses NaN
        raise SettingsError(f"{name} must be {low:g} {unit} or more and at most {high:g}, but is {value!r}.")


def check_settings(settings: Settings) -> Settings:
    """Check the values of ``settings`` and return it.

    :raise SettingsError: names the setting and what it may be
    """
    mark = settings.high_water_mark
    if not isinstance(mark, HighWaterMark):
        raise SettingsError(f"high_water_mark must be a HighWaterMark, but is {mark!r}.")
    _check_number(
        "high_water_mark.message_timeout", mark.message_timeout, "seconds", low=1e-3, optional=True, high=2**33
    )
    _check_number("high_water_mark.max_messages", mark.max_messages, "messages", low=1, optional=True, whole=True)
    _check_number("high_water_mark.max_bytes", mark.max_bytes, "bytes", low=1, optional=True, whole=True)
    for name, kind in (("strategy", Strategy), ("retention", Retention), ("durability", Durability)):
        if not isinstance(getattr(settings, name), kind):
            known = ", ".join(member.value for member in kind)
            raise SettingsError(f"{name} must be a {kind.__name__} ({known}), but is {getattr(settings, name)!r}.")
    _check_number(
        "max_message_bytes", settings.max_message_bytes, "bytes", low=1, whole=True, high=LARGEST_MESSAGE_BYTES
    )
    _check_number("deduplication_window", settings.deduplication_window, "seconds", low=0, high=2**33)
    _check_number("lock_timeout", settings.lock_timeout, "seconds", low=1e-3, high=2**33)
    _check_number("map_size", settings.map_size, "bytes", low=2**18, optional=True, whole=True, high=2**46)
    if not isinstance(settings.group_access, bool):
        raise SettingsError(f"group_access must be True or False, but is {settings.group_access!r}.")
    return settings


def check_subscriber_settings(settings: SubscriberSettings) -> SubscriberSettings:
    """Check the values of ``settings`` and return it.

    :raise SettingsError: names the setting and what it may be
    """
    _check_number("lease", settings.lease, "seconds", low=1e-3, optional=True, high=2**33)
    _check_number("max_deliveries", settings.max_deliveries, "deliveries", low=1, optional=True, whole=True, high=2**31)
    if settings.topic_filter is not None:
        check_filter(settings.topic_filter)
    if not isinstance(settings.ephemeral, bool):
        raise SettingsError(f"ephemeral must be True or False, but is {settings.ephemeral!r}.")
    return settings
