"""Creating queues, and opening them: one store for each queue in a process, shared by all who use it."""

import errno
import os
import pathlib
import secrets
import shutil
import stat
import threading
import time
import uuid
from collections.abc import Callable, Mapping

from persipubsub.engine import forking
from persipubsub.engine.clock import Clock
from persipubsub.engine.local import doubt, files, format, locks, roster, trust
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.space import FULL
from persipubsub.engine.local.store import Store, first_map_size, write_new
from persipubsub.engine.local.work import Work, settings_records
from persipubsub.errors import (
    NotAQueueError,
    OpenError,
    PersipubsubError,
    QueueBusyError,
    QueuePermissionError,
    StorageFullError,
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


# -- creating --------------------------------------------------------------------------------------


def create_local(path: pathlib.Path, settings: Settings, subscribers: Mapping[str, SubscriberSettings]) -> bool:
    """Deploy a queue, wholly or not at all; return False, changing nothing, if one is there already.

    It is built in a folder beside, synced and renamed: after a crash there is all of it or nothing.

    :raise NotAQueueError: something else is there
    :raise QueuePermissionError: the folder above may not be written
    :raise StorageFullError: the disk is full
    """
    if _is_there(path):
        return False
    try:
        files.make_folders(path.parent)
        _sweep(path)
        building = path.parent / f".{path.name}.{secrets.token_hex(8)}.new"
        building.mkdir(mode=0o700)
        try:
            _build(building, settings, subscribers)
            try:
                os.rename(building, path)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    return not _is_there(path)  # somebody else was faster
                raise
            try:
                files.sync_folder(path.parent)
            except BaseException:
                # Else the next one would believe that it is durable. It is left whole: the disk may have either name.
                os.rename(path, building.with_suffix(".failed"))
                raise
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except PersipubsubError:
        raise
    except OSError as error:
        raise _refused(error, path, "created") from error
    return True


def _refused(error: OSError, path: pathlib.Path, what: str) -> PersipubsubError:
    """Return what an error of the operating system means for a queue that is to be created or opened."""
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return NotAQueueError(f"A part of the path {path} is a file, not a folder.")
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return QueuePermissionError(f"The queue {path} cannot be {what}: {error}.")
    if error.errno in FULL:
        return StorageFullError(error.errno, f"The disk is full, the queue {path} was not {what}; make room")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return OpenError(f"The queue {path} cannot be {what}: {error.strerror}; close some, or raise the limit.")
    return OpenError(f"The queue {path} cannot be {what}: {error}.")


def _is_there(path: pathlib.Path) -> bool:
    """Tell whether a queue is at ``path``.

    :raise NotAQueueError: something else is, other than an empty folder
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise QueuePermissionError(f"{path} cannot be reached: {error.strerror}.") from None
    except OSError as error:
        raise OpenError(f"{str(path)!r} cannot be a queue: {error.strerror}.") from None
    if not path.is_dir():
        raise NotAQueueError(f"{path} is not a folder; a queue cannot be created there.")
    if files.is_queue(path):
        return True
    try:
        filled = any(path.iterdir())
    except PermissionError as error:
        raise QueuePermissionError(f"{path} cannot be read: {error.strerror}.") from None
    if filled:
        raise NotAQueueError(f"{path} is a folder with other things in it; a queue needs an empty or a new one.")
    return False


def _build(folder: pathlib.Path, settings: Settings, subscribers: Mapping[str, SubscriberSettings]) -> None:
    files.create_companions(folder, settings.group_access)
    records = settings_records(settings)
    records[format.KEY_FORMAT] = format.encode([format.MAGIC, format.FORMAT_VERSION])
    records[format.KEY_IDENTITY] = str(uuid.uuid4()).encode()
    records[format.KEY_CREATED] = format.pack_id(clock.wall_ns())
    records[format.KEY_STATE] = format.encode(format.State())
    write_new(folder, first_map_size(settings.durability, settings.map_size), records)
    if subscribers:
        # Whatever the queue's durability, its birth is synced.
        store = Store(folder, Durability.FULL, None, clock)
        try:

            def add_all(work: Work) -> None:
                for identifier, subscriber in subscribers.items():
                    roster.add(work, identifier, subscriber, "latest", None)

            store.write(add_all)
        finally:
            store.close()
    doubt.seal(folder)
    files.set_modes(folder, settings.group_access)
    files.sync_folder(folder)


def _sweep(path: pathlib.Path) -> None:
    """Remove what killed deployments of this very queue left behind."""
    for left in path.parent.glob(f".{path.name}.*.*"):
        try:
            status = os.lstat(left)
            mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            if mine and time.time() - status.st_mtime > 3600:
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:
            continue


def delete_local(path: pathlib.Path, *, force: bool) -> bool:
    """Delete a queue; return whether there was one.

    :param force: even if somebody has it open, who then gets QueueReplacedError
    :raise QueueBusyError: somebody has it open, and it is not forced
    :raise NotAQueueError: something else is there
    """
    if not _is_there(path):
        if path.exists():
            raise NotAQueueError(f"{path} is not a queue of persipubsub; it was left alone.")
        return False
    if not force:
        store = _stores.get(files.identity(path))
        byte_locks = locks.ByteLocks(files.open_own(path / files.LOCKS, os.O_RDWR)) if store is None else store.locks
        try:
            if store is not None or not byte_locks.try_exclusive(locks.USERS):
                holder = byte_locks.name_holder(locks.USERS) if store is None else f"process {os.getpid()}"
                raise QueueBusyError(
                    f"Queue {path} is not deleted: {holder} has it open. Close it there, or force the deletion."
                )
            _destroy(path)
        finally:
            if store is None:
                byte_locks.close()
    else:
        _destroy(path)
    return True


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
        raise _refused(error, path, "opened") from error


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


def _open_store(path: pathlib.Path, shortfall: str | None) -> Store:
    why = doubt.reason(path, alone=_is_alone(path)) or shortfall
    if why is not None:
        trust.verify(path, why)
    store = Store(path, Durability.FULL, None, clock)
    try:
        _enter(store)
        store.identify()
        store.free_own_slots()
        with store.read() as txn:
            durability = Work(store, txn).settings.durability
        if durability is not Durability.FULL:
            with store.writer.locked():
                store.reopen(durability)
        store.env.reader_check()
        store.bells.sweep()
        if why is not None:
            trust.dispel(store, why)
        elif durability is Durability.PROCESS:
            doubt.note_boot(path)
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
                "durability); try again."
            )
        time.sleep(0.005)


def _release(identity: tuple[int, int], store: Store) -> None:
    with _guard:
        store.users -= 1
        if store.users:
            return
        alone = store.locks.try_exclusive(locks.USERS)

        def leave() -> None:
            # Before the lock is dropped: whoever opens the queue next leaves notes of its own.
            if alone:
                doubt.leave(store.path)
                doubt.seal(store.path)

        try:
            store.close(leave)
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
    global _after
    _guard.acquire()
    _after = [store.before_fork() for store in _stores.values()]


def _after_fork_in_parent() -> None:
    for after in _after:
        after()
    _guard.release()


def _after_fork_in_child() -> None:
    global _guard
    _guard = threading.Lock()
    for store in _stores.values():
        store.abandon()
        _inherited.append(store)
    _stores.clear()


_after: list[Callable[[], None]] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
    forking.on_fork_child(_after_fork_in_child)
