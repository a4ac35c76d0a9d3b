"""Errors that persipubsub raises; every one says what happened and what to do.

::

    PersipubsubError
    ├── OpenError                       opening a queue
    │   ├── QueueNotFoundError          nothing is deployed there (also FileNotFoundError)
    │   ├── NotAQueueError              something else lives there
    │   ├── FormatVersionError          written by a newer persipubsub
    │   ├── QueueDamagedError           the files are not what a queue wrote
    │   ├── QueuePermissionError        a right is missing (also PermissionError)
    │   ├── PidCollisionError           another container has it open under this very process id
    │   └── SettingsMismatchError       deployed with other settings than asked for
    ├── ConfigError                     a deployment file is wrong (also ValueError)
    ├── QueueError                      the queue cannot do this now
    │   ├── QueueFullError              the high-water mark is reached, nothing was stored
    │   ├── StorageFullError            the disk is full, nothing was stored
    │   ├── QueueBusyError              another process holds the queue for too long
    │   ├── QueueReplacedError          the files were exchanged underneath
    │   └── StorageError                the operating system refused a read or a write
    │       └── StorageFailedError      the disk failed; the queue has to be opened again
    ├── SubscriberError
    │   └── UnknownSubscriberError      no such subscriber (also LookupError)
    ├── MessageError                    a message or its options cannot be taken (also ValueError)
    │   ├── MessageTypeError            the payload is not bytes-like (also TypeError)
    │   └── MessageTooLargeError        larger than the queue allows
    ├── SettingsError                   a limit or setting makes no sense (also ValueError)
    ├── IdentifierError                 a name that cannot be used (also ValueError)
    ├── PositionError                   seek to what is not retained (also ValueError)
    ├── LeaseLostError                  the message belongs to somebody else by now
    ├── ClosedError                     the object was closed by its user
    └── UnsupportedByEngineError        this engine does not have the feature
"""


class PersipubsubError(Exception):
    """Base class of all errors of this package."""


class OpenError(PersipubsubError):
    """A queue cannot be opened."""


class QueueNotFoundError(OpenError, FileNotFoundError):
    """Nothing is deployed at the path."""


class NotAQueueError(OpenError):
    """The path holds something that is not a persipubsub queue; it is left untouched."""


class FormatVersionError(OpenError):
    """The queue was written in a format that this version does not know; it is left untouched."""


class QueueDamagedError(OpenError):
    """The files of the queue are truncated or overwritten."""


class QueuePermissionError(OpenError, PermissionError):
    """The process lacks a right on the queue directory or its files."""


class PidCollisionError(OpenError):
    """A process of another PID namespace (container) has the queue open under the process id of this one.

    LMDB tells processes apart by their ids. Let the containers share a PID namespace.
    """


class SettingsMismatchError(OpenError, ValueError):
    """The queue or subscriber exists with other settings than the caller asked for."""


class ConfigError(PersipubsubError, ValueError):
    """A deployment configuration is wrong; the message starts with the path of the field."""


class QueueError(PersipubsubError):
    """The queue cannot carry out the operation now; nothing was changed."""


class QueueFullError(QueueError):
    """The high-water mark is reached and the strategy does not make room; nothing was stored."""


class StorageFullError(QueueError, OSError):
    """The disk (or a quota) is full; nothing was stored, reading and acknowledging go on."""


class QueueBusyError(QueueError, TimeoutError):
    """Another process (named by pid) kept the write lock longer than the queue's ``lock_timeout``."""


class QueueReplacedError(QueueError):
    """The files of the queue were deleted or exchanged while they were open."""


class StorageError(QueueError, OSError):
    """The operating system or LMDB refused an operation; nothing was committed."""


class StorageFailedError(StorageError):
    """A write or a sync failed on the disk; this process uses the queue no more until it has opened it again.

    Whether the operation under way was stored shows then. With durability ``full`` all that returned before was.
    """


class SubscriberError(PersipubsubError):
    """Something is wrong with a subscriber."""


class UnknownSubscriberError(SubscriberError, LookupError):
    """The queue has no subscriber of this identifier; the message lists those it has."""


class MessageError(PersipubsubError, ValueError):
    """A message or one of its options cannot be accepted; nothing was stored."""


class MessageTypeError(MessageError, TypeError):
    """The payload is not bytes-like."""


class MessageTooLargeError(MessageError):
    """The message is larger than the queue accepts."""


class SettingsError(PersipubsubError, ValueError):
    """A limit or another setting has a value that makes no sense; nothing was changed."""


class IdentifierError(PersipubsubError, ValueError):
    """An identifier, topic or filter breaks the rules for names."""


class PositionError(PersipubsubError, ValueError):
    """A position that the queue does not retain, or that has no meaning."""


class LeaseLostError(PersipubsubError):
    """The lease of a message is gone: it was settled, or taken over, by somebody else.

    Nothing was changed. The message is (or was) handled elsewhere as well: discard what this
    handler did, or make its effects idempotent.
    """


class ClosedError(PersipubsubError, ValueError):
    """The object was closed before."""


class UnsupportedByEngineError(PersipubsubError, NotImplementedError):
    """The engine behind this queue does not have the feature."""
