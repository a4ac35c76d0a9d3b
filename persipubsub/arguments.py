"""Checks of what callers pass, shared by all public classes: times, numbers, identifiers of messages, reasons."""

import math
import time
from collections.abc import Iterable, Sequence

from persipubsub.errors import MessageError, PersipubsubError, SettingsError

#: 136 years; any later moment still fits the 64 bits of a stored time.
MAX_SECONDS = 2**32
#: A reason travels with its message: enough to see what went wrong, not a log file.
MAX_REASON = 2000
_MAX_ID = 2**64 - 1


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def deadline_of(timeout: float | None) -> float | None:
    """Return the moment, on the monotonic clock, when ``timeout`` seconds are over.

    ``None`` means never, ``0.0`` at once.

    :raise SettingsError: not a number of seconds
    """
    if timeout is None:
        return None
    if (type(timeout) not in (int, float) and not _is_number(timeout)) or not timeout >= 0:
        raise SettingsError(
            f"timeout must be a number of seconds, 0 not to wait or None to wait for ever, but is {timeout!r}."
        )
    # An int may be larger than any float.
    return time.monotonic() + (timeout if timeout < MAX_SECONDS else MAX_SECONDS) if timeout > 0 else 0.0


def lease_ns_of(lease: float | None) -> int | None:
    """Return a lease in nanoseconds; ``None`` is the subscriber's own.

    :raise SettingsError: not a positive number of seconds
    """
    if lease is None:
        return None
    if not _is_number(lease) or not 0 < lease <= MAX_SECONDS:
        raise SettingsError(f"lease must be a positive number of seconds, or None, but is {lease!r}.")
    return max(1, round(lease * 1e9))


def delay_ns_of(delay: float | None) -> int:
    """Return a delay in nanoseconds; ``None`` is none.

    :raise MessageError: not a number of seconds
    """
    if delay is None:
        return 0
    if not _is_number(delay) or not 0 <= delay <= MAX_SECONDS:
        raise MessageError(f"delay must be a number of seconds from 0 on, but is {delay!r}.")
    return round(delay * 1e9)


def expires_in_ns_of(expires_in: float | None) -> int | None:
    """Return a time to live in nanoseconds; ``None`` is without end.

    :raise MessageError: not a positive number of seconds
    """
    if expires_in is None:
        return None
    if not _is_number(expires_in) or not expires_in > 0 or expires_in == math.inf:
        raise MessageError(f"expires_in must be a positive number of seconds, or None, but is {expires_in!r}.")
    return max(1, round(min(expires_in, MAX_SECONDS) * 1e9))


def check_count(name: str, value: object, low: int = 1, error: type[PersipubsubError] = SettingsError) -> int:
    """Check that ``value`` is an int of at least ``low`` and return it.

    :raise PersipubsubError: it is not; of the class ``error``
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise error(f"{name} must be an int of {low} or more, but is {value!r}.")
    return value


def check_id(value: object, error: type[PersipubsubError] = MessageError) -> int:
    """Check that ``value`` can be the id of a message and return it.

    :raise PersipubsubError: it cannot; of the class ``error``
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_ID:
        raise error(f"The id of a message is an int from 0 to 2**64 - 1, not {value!r}.")
    return value


def check_ids(ids: int | Iterable[int]) -> list[int]:
    """Return one id, or several, as a list.

    :raise MessageError: something in it is not an id
    """
    if isinstance(ids, int) or not isinstance(ids, Iterable):
        return [check_id(ids)]
    return [check_id(value) for value in ids]


def optional_ids(ids: int | Iterable[int] | None) -> Sequence[int] | None:
    """Return ``None``, which means all, or the ids as a list.

    :raise MessageError: something in it is not an id
    """
    return None if ids is None else check_ids(ids)


def check_reason(reason: object) -> str:
    """Check the reason of a settlement and return it, cut to what is kept.

    :raise MessageError: not a str
    """
    if not isinstance(reason, str):
        raise MessageError(f"reason must be a str, but is {reason!r}.")
    # What a program caught may hold halves of surrogate pairs, which no file can store.
    return reason[:MAX_REASON].encode("utf-8", "backslashreplace").decode("utf-8")


def reason_of(error: BaseException) -> str:
    """Describe what went wrong, such as ``ValueError: text``.

    >>> reason_of(ValueError("too dark"))
    'ValueError: too dark'
    """
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - somebody else's __str__ may do anything
        text = "(its text cannot be made)"
    return check_reason(f"{name}: {text}" if text else name)
