"""The limits of a queue, importable from where version 1 had them."""

from persipubsub.limits import (
    DEFAULT_DEDUPLICATION_WINDOW,
    DEFAULT_LOCK_TIMEOUT,
    DEFAULT_MAX_BYTES,
    DEFAULT_MAX_DELIVERIES,
    DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_MAX_MESSAGES,
    DEFAULT_MESSAGE_TIMEOUT,
    Durability,
    HighWaterMark,
    Retention,
    Strategy,
)

# The spellings of version 1's documentation, and the names of its defaults.
_HighWaterMark = HighWaterMark
_Strategy = Strategy
DEFAULT_HWM_LMDB_SIZE = DEFAULT_MAX_BYTES
DEFAULT_STRATEGY = Strategy.PRUNE_FIRST

__all__ = [
    "HighWaterMark",
    "Strategy",
    "Retention",
    "Durability",
    "DEFAULT_MESSAGE_TIMEOUT",
    "DEFAULT_MAX_MESSAGES",
    "DEFAULT_MAX_BYTES",
    "DEFAULT_HWM_LMDB_SIZE",
    "DEFAULT_STRATEGY",
    "DEFAULT_MAX_DELIVERIES",
    "DEFAULT_MAX_MESSAGE_BYTES",
    "DEFAULT_DEDUPLICATION_WINDOW",
    "DEFAULT_LOCK_TIMEOUT",
]
