"""LMDB's errors in our words; no ``lmdb`` error leaves the engine."""

import errno
import os
import struct

import lmdb
import msgspec

from persipubsub.errors import (
    PersipubsubError,
    PidCollisionError,
    QueueBusyError,
    QueueDamagedError,
    QueueError,
    QueuePermissionError,
    StorageError,
    StorageFullError,
)

_DAMAGED = "the files are damaged ({error}); close the queue, run `persipubsub check` and restore a backup"
_EQUAL_PIDS = (
    "a process of another container (PID namespace) has it open under the same process id as this one, {pid}, and LMDB "
    "tells processes apart by their ids ({error}). Let the containers share a PID namespace (docker run --pid, "
    '"pid:" in a compose file, shareProcessNamespace in Kubernetes), or have an init process start this one under '
    "another id"
)
#: With an error of the system.
READ_ONLY = (
    "its filesystem has become read-only, as one does whose disk fails ({error}); nothing was stored. The system's log "
    "tells why; once it can be written again, go on, or close the queue and open it again if it was unmounted"
)
_NO_RIGHT = (
    "the files may not be written ({error}); give this process the right to read and write them, then open the queue "
    "again"
)
_INTERNAL = "LMDB refused an internal step ({error}); nothing was committed; please report this as a bug"

#: What each error of LMDB means here. The resizing ones are handled before they get this far.
MEANINGS: dict[type[lmdb.Error], tuple[type[PersipubsubError], str]] = {
    lmdb.CorruptedError: (QueueDamagedError, _DAMAGED),
    lmdb.PageNotFoundError: (QueueDamagedError, _DAMAGED),
    lmdb.InvalidError: (QueueDamagedError, _DAMAGED),
    lmdb.VersionMismatchError: (QueueDamagedError, _DAMAGED),
    lmdb.PanicError: (QueueDamagedError, _DAMAGED),
    lmdb.IncompatibleError: (QueueDamagedError, _DAMAGED),
    lmdb.NotFoundError: (QueueDamagedError, _DAMAGED),
    lmdb.MapFullError: (StorageFullError, "the map is full and cannot grow ({error}); nothing was stored"),
    lmdb.MapResizedError: (QueueBusyError, "another process keeps growing the map ({error}); try again"),
    lmdb.DiskError: (StorageFullError, "the disk is full ({error}); nothing was stored: make room and try again"),
    lmdb.MemoryError: (StorageError, "the system has no memory or address space left ({error})"),
    lmdb.ReadersFullError: (
        QueueBusyError,
        "too many processes and threads read at once ({error}); end some, or try again",
    ),
    lmdb.TlsFullError: (QueueBusyError, "the process uses too many thread-local keys ({error})"),
    lmdb.LockError: (PidCollisionError, _EQUAL_PIDS),
    lmdb.ReadonlyError: (QueuePermissionError, _NO_RIGHT),
    lmdb.TxnFullError: (
        QueueError,
        "the batch touches too many pages for one transaction ({error}); send smaller ones",
    ),
    lmdb.DbsFullError: (QueueError, "too many subscribers are open in this process ({error})"),
    lmdb.CursorFullError: (QueueDamagedError, _DAMAGED),
    lmdb.PageFullError: (QueueDamagedError, _DAMAGED),
    lmdb.KeyExistsError: (QueueDamagedError, _DAMAGED),
    lmdb.BadRslotError: (QueueError, _INTERNAL),
    lmdb.BadTxnError: (QueueError, _INTERNAL),
    lmdb.BadValsizeError: (QueueError, _INTERNAL),
    lmdb.BadDbiError: (QueueError, _INTERNAL),
    lmdb.InvalidParameterError: (QueueError, _INTERNAL),
}
# Only where py-lmdb is built with LMDB 1.0; a queue is written in the 0.9 format.
_NEWER = ("ProblemError", "BadChecksumError", "CryptoFailError", "EnvEncryptionError")
MEANINGS.update({getattr(lmdb, name): (QueueDamagedError, _DAMAGED) for name in _NEWER if hasattr(lmdb, name)})


#: What reading a record raises that is not one: it was damaged, or written by something else.
UNREADABLE = (struct.error, ValueError, IndexError, msgspec.MsgspecError)


def unreadable(error: Exception, path: object) -> PersipubsubError:
    """Return the error of ours for one of ``UNREADABLE``, which may be one of ours already."""
    if isinstance(error, PersipubsubError):
        return error
    return QueueDamagedError(
        f"Queue {path}: a record cannot be read ({error}); run `persipubsub check` and restore a backup."
    )


def translate(error: lmdb.Error, path: object) -> PersipubsubError:
    """Return the error of ours that ``error`` means for the queue at ``path``."""
    kind, text = MEANINGS.get(type(error), (StorageError, "the storage failed ({error})"))
    code = getattr(error, "code", 0)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        kind, text = MEANINGS[lmdb.DiskError]
    elif code == errno.ENOMEM:
        kind, text = MEANINGS[lmdb.MemoryError]
    elif code == errno.EROFS:
        kind, text = StorageError, READ_ONLY
    elif code in (errno.EACCES, errno.EPERM):
        kind, text = MEANINGS[lmdb.ReadonlyError]
    said = f"Queue {path}: {text.format(error=error, pid=os.getpid())}."
    return kind(code, said) if code > 0 and issubclass(kind, (StorageError, StorageFullError)) else kind(said)
