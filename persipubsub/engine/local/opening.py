"""Creating queues, and opening them: one store for each queue in a process, shared by all who use it."""

import os
import pathlib
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from persipubsub.engine import forking
from persipubsub.engine.clock import Clock
from persipubsub.engine.local import copying, creating, doubt, files, loading, locks, salvage, trust
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.salvage import Salvage
from persipubsub.engine.local.store import FORK_PATIENCE, Store
from persipubsub.engine.local.work import Work
from persipubsub.engine.records import Record
from persipubsub.errors import (
    NotAQueueError,
    PersipubsubError,
    QueueBusyError,
    QueueNotFoundError,
    QueuePermissionError,
)
from persipubsub.limits import Durability, Settings, SubscriberSettings

_stores: dict[tuple[int, int], Store] = {}
#: Stores of the parent, in a forked child that has not opened one of its own yet.
_inherited: list[Store] = []
_guard = threading.Lock()
_OPENING_TIMEOUT = 30.0

#: Replaced by tests that turn the hands.
clock = Clock()


def exists_local(path: pathlib.Path) -> bool:
    """Tell whether a queue is deployed at ``path``."""
    return files.is_queue(path)


def create_local(path: pathlib.Path, settings: Settings, subscribers: Mapping[str, SubscriberSettings]) -> bool:
    """Deploy a queue, wholly or not at all; return False, changing nothing, if one is there already.

    :raise NotAQueueError: something else is there
    :raise QueuePermissionError: the folder above may not be written
    :raise StorageFullError: the disk is full
    """
    return creating.place(path, lambda folder: creating.build(folder, settings, subscribers, clock))


def delete_local(path: pathlib.Path, *, force: bool) -> bool:
    """Delete a queue; return whether there was one.

    :param force: even if somebody has it open, who then gets QueueReplacedError
    :raise QueueBusyError: somebody has it open, and it is not forced
    :raise NotAQueueError: something else is there
    """
    if not creating.is_there(path):
        if path.exists():
            raise NotAQueueError(f"{path} is not a queue of persipubsub; it was left alone.")
        return False
    if force:
        _destroy(path)
    else:
        _delete_unused(path)
    return True


def _delete_unused(path: pathlib.Path) -> None:
    # Whoever opens it in this process waits: its locks would neither be seen here, nor outlast this look at them.
    with _guard:
        if files.identity(path) in _stores:
            raise _in_use(path, f"process {os.getpid()}")
        byte_locks = locks.ByteLocks(files.open_own(path / files.LOCKS, os.O_RDWR))
        try:
            if not byte_locks.try_exclusive(locks.USERS):
                raise _in_use(path, byte_locks.name_holder(locks.USERS))
            _destroy(path)
        finally:
            byte_locks.close()


def _in_use(path: pathlib.Path, who: str) -> QueueBusyError:
    return QueueBusyError(f"Queue {path} is not deleted: {who} has it open. Close it there, or force the deletion.")


def _destroy(path: pathlib.Path) -> None:
    # Out of the way in one step, so that nobody finds half a queue.
    doomed = path.parent / f".{path.name}.{secrets.token_hex(8)}.gone"
    try:
        os.rename(path, doomed)
        # First of all the data file: by its absence those who have it open notice.
        (doomed / files.DATA).unlink()
        shutil.rmtree(doomed)
    except PermissionError as error:
        raise QueuePermissionError(f"Queue {path} cannot be deleted: {error}.") from None


# -- opening ---------------------------------------------------------------------------------------


def open_local(path: pathlib.Path) -> LocalEngine:
    """Open the queue at ``path`` for a new owner.

    :raise OpenError: there is none, or it cannot be used
    """
    try:
        return _open(path)
    except PersipubsubError:
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            files.inspect(path)  # it was deleted meanwhile: there is none
        raise creating.refused(error, path, "opened") from error


def _open(path: pathlib.Path) -> LocalEngine:
    shortfall = files.inspect(path)
    with _guard:
        identity = files.identity(path)
        store = _stores.get(identity)
        if store is None:
            while _inherited:
                _inherited[-1].let_go()
                _inherited.pop()
            store = _stores[identity] = _open_store(path, shortfall)
        store.users += 1
    return LocalEngine(store, lambda: _release(identity, store))


def restore_local(source: pathlib.Path, target: pathlib.Path, *, keep_identity: bool) -> bool:
    """Make a queue of a backup; return False, changing nothing, if there is a queue already.

    :raise QueueBusyError: somebody has the backup open
    :raise QueueDamagedError: the backup is damaged
    """
    files.inspect_readable(source)
    _refuse_in_use(source)
    return copying.restore(source, target, keep_identity=keep_identity, clock=clock)


def load_local(
    target: pathlib.Path,
    settings: Settings,
    records: Iterable[Record],
    subscribers: dict[str, SubscriberSettings] | None,
) -> bool:
    """Make a queue of records; return False, changing nothing, if there is one already.

    :raise MessageError: the records are out of order or cut off
    """
    return loading.load(target, settings, records, clock, subscribers=subscribers)


def salvage_local(source: pathlib.Path, target: pathlib.Path) -> Salvage:
    """Make a queue of what can be read of a damaged one, which is left as it is.

    :raise QueueNotFoundError: there is no data file
    :raise QueueExistsError: there is a queue at ``target`` already
    :raise QueueDamagedError: nothing can be read
    :raise QueueBusyError: somebody has the damaged queue open
    """
    if not (source / files.DATA).is_file():
        raise QueueNotFoundError(f"There is no {files.DATA} in {source}; give the folder of the damaged queue.")
    _refuse_in_use(source)
    found = salvage.Found(source)
    try:
        if not loading.load(target, found.settings, found.records(), clock):
            raise copying.exists(target)
        return found.report()
    finally:
        found.close()


def verify_local(path: pathlib.Path) -> list[str]:
    """Return what is wrong with the pages of a queue; nothing while somebody has it open, for they change.

    :raise OpenError: there is no queue, or it cannot be read
    """
    files.inspect_readable(path)
    try:
        _refuse_in_use(path)
    except QueueBusyError:
        return []
    return files.verify_pages(path)


def _refuse_in_use(source: pathlib.Path) -> None:
    """Look whether anybody has a queue open whose file is going to be read.

    :raise QueueBusyError: somebody has
    """
    with _guard:
        try:
            user = f"process {os.getpid()}" if files.identity(source) in _stores else copying.user_of(source)
        except FileNotFoundError:
            return  # a damaged queue may lack the locks; nobody can have opened it since
    if user is not None:
        raise QueueBusyError(
            f"{source} is in use by {user}, and changes while it is read: close it there, or back it up."
        )


def _open_store(path: pathlib.Path, shortfall: str | None) -> Store:
    why = doubt.reason(path, alone=_is_alone(path)) or shortfall
    if why is not None:
        trust.verify(path, why)
    store = Store(path, Durability.FULL, None, clock, _enter)
    try:
        copying.sweep(path)
        store.identify()
        store.free_own_slots()
        with store.read() as txn:
            durability = Work(store, txn).settings.durability
        if durability is not Durability.FULL:
            with store.writer.locked():
                store.reopen(durability)
                if durability is Durability.PROCESS and why is None:
                    # Under the lock: of several processes that open it at once, one writes the note.
                    doubt.note_boot(path)
        store.swept_readers = store.env.reader_check()
        store.bells.sweep()
        if why is not None:
            trust.dispel(store, why)
    except BaseException:
        store.close()
        raise
    return store


def _is_alone(path: pathlib.Path) -> bool:
    """Tell whether no process has the queue open; this one has not, either."""
    byte_locks = locks.ByteLocks(files.open_own(path / files.LOCKS, os.O_RDWR))
    try:
        return byte_locks.try_exclusive(locks.USERS)
    finally:
        byte_locks.close()


def _enter(store: Store) -> None:
    """Count this process among the users of the queue."""
    deadline = time.monotonic() + _OPENING_TIMEOUT
    while not store.locks.try_shared(locks.USERS):
        if time.monotonic() > deadline:
            raise QueueBusyError(
                f"Queue {store.path}: {store.locks.name_holder(locks.USERS)} keeps it for itself (it changes the "
                "durability or compacts the file); try again."
            )
        time.sleep(0.005)


def _release(identity: tuple[int, int], store: Store) -> None:
    with _guard:
        store.users -= 1
        if store.users:
            return
        alone = store.locks.try_exclusive(locks.USERS)

        def leave() -> None:
            # Whoever opens the queue from here on leaves notes of its own, so this comes before the locks are dropped.
            doubt.leave(store.path)
            doubt.seal(store.path)

        try:
            store.close(leave if alone else None)
        except QueueBusyError:
            if alone:
                store.locks.try_shared(locks.USERS)
            store.users += 1
            raise
        finally:
            if not store.users:
                _stores.pop(identity, None)


# -- fork ------------------------------------------------------------------------------------------


def _before_fork() -> None:
    # With a bound: a signal handler may fork while this very thread opens a queue.
    if _guard.acquire(timeout=FORK_PATIENCE):
        _after.append(_guard.release)
    _after.extend([store.before_fork() for store in list(_stores.values())])


def _after_fork_in_parent() -> None:
    while _after:
        _after.pop()()


def _after_fork_in_child() -> None:
    global _guard
    _guard = threading.Lock()
    for store in _stores.values():
        store.abandon()
        _inherited.append(store)
    _stores.clear()
    _after.clear()


_after: list[Callable[[], None]] = []
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
forking.on_fork_child(_after_fork_in_child)
