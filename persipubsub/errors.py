"""Errors that persipubsub raises; every one says what happened and what to do.

::

    PersipubsubError
    ├── OpenError                       opening a queue
    │   ├── QueueNotFoundError          nothing is deployed there (also FileNotFoundError)
    │   ├── QueueExistsError            a queue is there already (also FileExistsError)
    │   ├── NotAQueueError              something else lives there
    │   ├── FormatVersionError          written by a newer persipubsub
    │   ├── QueueDamagedError           the files are not what a queue wrote
    │   ├── QueuePermissionError        a right is missing (also PermissionError)
    │   ├── PidCollisionError           another container has it open under this very process id
    │   ├── UnreachableError            the server does not answer (also QueueError and ConnectionError)
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
    """Base class of all errors of this package.

    What to do: catch it where any failure of a queue is handled alike; else catch what you can do something about.
    """


class OpenError(PersipubsubError):
    """A queue cannot be opened.

    What to do: read the message: it names the path, and the subclass says which of the cases below it is.
    """


class QueueNotFoundError(OpenError, FileNotFoundError):
    """Nothing is deployed at the path.

    What to do: deploy the queue (``new_control`` or ``persipubsub deploy``), or mend the path.
    """


class QueueExistsError(OpenError, FileExistsError):
    """A queue is to be put where there is one already; it is left untouched.

    What to do: choose another path, or delete what is there first.
    """


class NotAQueueError(OpenError):
    """The path holds something that is not a persipubsub queue; it is left untouched.

    What to do: choose another directory; queues of 1.0 are drained with 1.0 first.
    """


class FormatVersionError(OpenError):
    """The queue was written in a format that this version does not know; it is left untouched.

    What to do: upgrade persipubsub in this program to the version that wrote the queue.
    """


class QueueDamagedError(OpenError):
    """The files of the queue are truncated or overwritten.

    What to do: keep the files, restore a backup, or deploy anew into another directory.
    """


class QueuePermissionError(OpenError, PermissionError):
    """The process lacks a right on the queue directory or its files.

    What to do: run as the owner of the directory, or deploy with ``group_access`` for a group.
    """


class PidCollisionError(OpenError):
    """A process of another PID namespace (container) has the queue open under the process id of this one.

    LMDB tells processes apart by their ids.

    What to do: let the containers share a PID namespace.
    """


class SettingsMismatchError(OpenError, ValueError):
    """The queue or subscriber exists with other settings than the caller asked for.

    What to do: open it with ``new_control()`` without arguments, then change it with ``configure`` or
    ``configure_subscriber``.
    """


class ConfigError(PersipubsubError, ValueError):
    """A deployment configuration is wrong; the message starts with the path of the field.

    What to do: mend the field that the message begins with; nothing was deployed.
    """


class QueueError(PersipubsubError):
    """The queue cannot carry out the operation now; nothing was changed.

    What to do: try again later, or do what the subclass says.
    """


class QueueFullError(QueueError):
    """The high-water mark is reached and the strategy does not make room; nothing was stored.

    What to do: wait longer, let subscribers catch up, raise the mark, or choose a strategy that drops messages.
    """


class StorageFullError(QueueError, OSError):
    """The disk (or a quota) is full; nothing was stored, reading and acknowledging go on.

    What to do: free space on the disk, or consume messages; then send again.
    """


class QueueBusyError(QueueError, TimeoutError):
    """Another process (named by pid) kept the write lock longer than the queue's ``lock_timeout``.

    What to do: look at the process it names: stopped, in a debugger, or on a disk that hangs. Try again, or end it.
    """


class QueueReplacedError(QueueError):
    """The files of the queue were deleted or exchanged while they were open.

    What to do: close the Environment and open the queue anew.
    """


class StorageError(QueueError, OSError):
    """The operating system or LMDB refused an operation; nothing was committed.

    What to do: look at the disk and at the system's log; then close and open the queue before going on.
    """


class StorageFailedError(StorageError):
    """A write or a sync failed on the disk; this process uses the queue no more until it has opened it again.

    Whether the operation under way was stored shows then. With durability ``full`` all that returned before was.

    What to do: look after the disk, then close the queue and open it again; it is checked then.
    """


class UnreachableError(OpenError, QueueError, ConnectionError):
    """The server of a queue on NATS does not answer; an unconfirmed operation may have happened or not.

    What to do: check that the server runs with JetStream, its address and the network. Lost connections are taken up
    again by themselves; send again with a ``deduplication_id`` what must be stored exactly once.
    """


class SubscriberError(PersipubsubError):
    """Something is wrong with a subscriber.

    What to do: read the message; it names the subscriber or the object that was used wrongly.
    """


class UnknownSubscriberError(SubscriberError, LookupError):
    """The queue has no subscriber of this identifier; the message lists those it has.

    What to do: add it with ``Control.add_subscriber``, or mend the name.
    """


class MessageError(PersipubsubError, ValueError):
    """A message or one of its options cannot be accepted; nothing was stored.

    What to do: mend the option that the message names.
    """


class MessageTypeError(MessageError, TypeError):
    """The payload is not bytes-like.

    What to do: encode it, or give the publisher a serializer.
    """


class MessageTooLargeError(MessageError):
    """The message is larger than the queue accepts.

    What to do: send a reference to a file, or raise ``max_message_bytes``.
    """


class SettingsError(PersipubsubError, ValueError):
    """A limit or another setting has a value that makes no sense; nothing was changed.

    What to do: mend the value that the message names.
    """


class IdentifierError(PersipubsubError, ValueError):
    """An identifier, topic or filter breaks the rules for names.

    What to do: use 1 to 255 bytes of UTF-8 without control characters; the message says what else.
    """


class PositionError(PersipubsubError, ValueError):
    """A position that the queue does not retain, or that has no meaning.

    What to do: seek to ``"first"``, ``"latest"``, or an id that is retained.
    """


class LeaseLostError(PersipubsubError):
    """The lease of a message is gone: it was settled, or taken over, by somebody else.

    Nothing was changed. The message is (or was) handled elsewhere as well.

    What to do: discard what this handler did, or make its effects idempotent; for handlers that take
    longer than the lease, ``extend`` it in time.
    """


class ClosedError(PersipubsubError, ValueError):
    """The object was closed before.

    What to do: open or make a new one.
    """


class UnsupportedByEngineError(PersipubsubError, NotImplementedError):
    """The engine behind this queue does not have the feature.

    What to do: use a queue in a directory, or do without the feature.
    """
