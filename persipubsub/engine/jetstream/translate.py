"""Errors of NATS as errors of ours: the one place that knows both."""

from typing import Final

import nats.errors
from nats.js import errors as js_errors

from persipubsub.errors import (
    OpenError,
    PersipubsubError,
    QueueFullError,
    QueuePermissionError,
    QueueReplacedError,
    StorageError,
    StorageFullError,
    UnreachableError,
    UnsupportedByEngineError,
)

STREAM_NOT_FOUND: Final = 10059
CONSUMER_NOT_FOUND: Final = 10014
MESSAGE_NOT_FOUND: Final = 10037
WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})
NAME_IN_USE: Final = frozenset({10058, 10013, 10148})
DUPLICATE_IN_BATCH: Final = 10201
STORE_FAILED: Final = 10077
BATCH_INCOMPLETE: Final = frozenset({10176, 10202})

#: Without a leader, or with one that is just beginning, or that still works on an earlier attempt at the same message
#: (10158): the next attempt may do.
_PASSING = frozenset({10008, 10004, 10009, 10005, 10032, 10158, 10159, 10176, 10202})
DISABLED: Final = frozenset({10035, 10039, 10076})
_QUOTA = frozenset({10002, 10023, 10026, 10027, 10028, 10047, 10113, 10122})
_TOO_MANY_REPLICAS = frozenset({10074, 10005})


def is_passing(error: BaseException) -> bool:
    """Tell whether the same request may succeed in a moment."""
    if isinstance(error, js_errors.APIError):
        return (
            isinstance(error, js_errors.ServiceUnavailableError)
            and (error.err_code is None or error.err_code in _PASSING)
        ) or error.err_code in _PASSING
    return isinstance(
        error,
        (
            nats.errors.TimeoutError,
            nats.errors.NoRespondersError,
            nats.errors.ConnectionReconnectingError,
            nats.errors.OutboundBufferLimitError,
            nats.errors.StaleConnectionError,
            TimeoutError,
            ConnectionError,
        ),
    )


def code_of(error: BaseException) -> int | None:
    """Return the number that JetStream gave an error."""
    return error.err_code if isinstance(error, js_errors.APIError) else None


def translate(error: BaseException, where: str) -> PersipubsubError:
    """Return our error for one of NATS."""
    if isinstance(error, PersipubsubError):
        return error
    if isinstance(error, js_errors.APIError):
        return _of_api(error, where)
    text = str(error) or type(error).__name__
    if isinstance(error, (nats.errors.AuthorizationError, nats.errors.InvalidUserCredentialsError)) or any(
        word in text.lower() for word in ("authorization", "authentication", "permissions violation")
    ):
        return QueuePermissionError(
            f"The server of {where} refused this user: {text}. Check the user, the password, the token or the "
            "credentials file, and that the user may use JetStream."
        )
    if isinstance(error, nats.errors.MaxPayloadError):
        return StorageError(f"The server of {where} refused a message as too large: {text}. Raise its max_payload.")
    if is_passing(error) or isinstance(error, (nats.errors.Error, OSError)):
        return UnreachableError(
            f"The server of {where} does not answer: {text}. Check that it runs, its address, and the network; what "
            "was not confirmed may be stored or not."
        )
    return StorageError(f"The server of {where} failed: {text}.")


def _of_api(error: js_errors.APIError, where: str) -> PersipubsubError:
    text, code = error.description or "no reason given", error.err_code
    if code == STREAM_NOT_FOUND or "stream not found" in text:
        return QueueReplacedError(
            f"The stream of {where} was deleted while it was open; deploy the queue again, and open it again."
        )
    if code in DISABLED:
        return OpenError(f"JetStream is not enabled for {where}: {text}. Start nats-server with -js, or ask for it.")
    if code in _QUOTA or "resource" in text or "insufficient" in text:
        return StorageFullError(
            f"A quota of the server of {where} is reached: {text}. Nothing was stored; let subscribers catch up, lower "
            "max_bytes of the queue, or raise the limits of the account or of the server."
        )
    if code == STORE_FAILED or "maximum" in text:
        return QueueFullError(
            f"The queue {where} is full: {text}; nothing was stored. Let subscribers catch up, raise the limits or "
            "choose a strategy that prunes."
        )
    if code in _TOO_MANY_REPLICAS:
        return UnsupportedByEngineError(
            f"The servers of {where} cannot keep so many replicas: {text}. Ask for fewer, or add servers."
        )
    if error.code == 503:
        return UnreachableError(f"The cluster of {where} has no leader now: {text}. Try again when it has a majority.")
    return StorageError(f"JetStream refused an operation on {where}: {text} (error {code}).")
