"""Copies of a queue: consistent, verified, and put in place wholly or not at all.

A backup, a restored queue and a compacted data file are made alike: LMDB copies what one read transaction
sees, without the free pages, into a folder of its own; that is synced and verified before anybody sees it.
"""

import os
import pathlib
import shutil
import uuid
from collections.abc import Callable

import lmdb

from persipubsub.engine.clock import Clock
from persipubsub.engine.figures import Compaction
from persipubsub.engine.local import check, creating, doom, files, format, locks, returning, roster
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.space import FULL
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.translate import translate
from persipubsub.engine.local.work import Work
from persipubsub.errors import (
    NotAQueueError,
    PersipubsubError,
    QueueBusyError,
    QueueDamagedError,
    QueueExistsError,
    StorageError,
    StorageFullError,
)
from persipubsub.limits import Durability

#: Inside the queue: where a compacted data file is made.
COMPACTING = "compacting"
RESTORED = "restored from a backup"
#: How often a copy follows a map that others have grown before it gives up.
_MOST_GROWTHS = 100


# -- backup ----------------------------------------------------------------------------------------


def backup(store: Store, target: pathlib.Path) -> int:
    """Write a verified copy of a queue in use into a new folder, and return its size in bytes.

    :raise QueueExistsError: a queue is there already
    :raise NotAQueueError: something else is there
    :raise QueueDamagedError: the copy has faults; nothing is left of it
    :raise StorageFullError: the disk is full; nothing is left of it
    """
    if store.path.resolve() in (target.resolve(), *target.resolve().parents):
        raise NotAQueueError(f"{target} lies inside the queue {store.path}; back it up into another folder.")
    with store.read() as txn:
        group_access = Work(store, txn).settings.group_access

    def build(folder: pathlib.Path) -> None:
        _copy_to(store, folder, group_access)

    if not creating.place(target, build):
        raise exists(target)
    return os.stat(target / files.DATA).st_size


def exists(target: pathlib.Path) -> QueueExistsError:
    """Return the error for a target that is taken."""
    return QueueExistsError(f"There is a queue at {target} already; it was left untouched: give another path.")


def _copy_to(store: Store, folder: pathlib.Path, group_access: bool) -> None:
    """Copy a queue into an empty folder, sync and verify it."""
    files.create_companions(folder, group_access)
    _write(folder, lambda descriptor: _copy_snapshot(store, descriptor))
    _verify(folder, store.clock, f"Queue {store.path}", None)
    files.set_modes(folder, group_access)


def _write(folder: pathlib.Path, copy: Callable[[int], None]) -> None:
    descriptor = os.open(folder / files.DATA, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        copy(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_snapshot(store: Store, descriptor: int) -> None:
    """Write what a read transaction sees; writers go on meanwhile, but the map cannot grow in this process."""
    copies = 0
    while True:
        copies += 1
        with store.gate.view():  # the map stays where it is
            store.check_files()
            try:
                # Without free pages, and without LMDB's write lock, which cannot be waited for with a bound.
                store.env.copyfd(descriptor, compact=True)
                return
            except lmdb.Error as error:
                if not isinstance(error, lmdb.MapResizedError) or copies == _MOST_GROWTHS:
                    raise translate(error, store.path) from error
        with store.writer.locked():
            store.follow_map()


def _verify(folder: pathlib.Path, clock: Clock, origin: str, change: Callable[[Work], None] | None) -> None:
    """Open a fresh copy, change it if asked to, and read everything in it.

    :raise QueueDamagedError: it has faults
    """
    store = Store(folder, Durability.FULL, None, clock)
    try:
        store.identify()
        if change is not None:
            store.write(change)
        findings = check.check(store)
        end = (store.env.info()["last_pgno"] + 1) * store.env.stat()["psize"]
    finally:
        store.close()
    _cut(folder / files.DATA, end)
    if findings:
        raise QueueDamagedError(
            f"{origin} is damaged, so its copy was not kept: {findings[0].where}: {findings[0].what} "
            f"({len(findings)} findings). Save what can be read with `persipubsub check --repair`."
        )


def _cut(path: pathlib.Path, end: int) -> None:
    """Give back what was allocated ahead, for writes that do not come."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- restore ---------------------------------------------------------------------------------------


def restore(source: pathlib.Path, target: pathlib.Path, *, keep_identity: bool, clock: Clock) -> bool:
    """Make a queue of a backup, which may be on a read-only disk; return False if there is a queue already.

    Leases are given back: their owners do not exist there. The queue gets an identity of its own unless it is to
    be the very same one: it gives ids again that the original has given since.

    The caller makes sure that nobody has the backup open.

    :raise QueueDamagedError: the backup is damaged
    """

    def build(folder: pathlib.Path) -> None:
        findings = files.verify_pages(source)
        if findings:
            raise QueueDamagedError(
                f"The backup {source} is damaged: {findings[0]} ({len(findings)} findings). Use another one, or save "
                "what can be read with `persipubsub check --repair`."
            )
        files.create_companions(folder, False)
        _write(folder, lambda descriptor: _copy_file(source, descriptor))
        group_access = False

        def change(work: Work) -> None:
            nonlocal group_access
            group_access = work.settings.group_access
            _settle_in(work, None if keep_identity else str(uuid.uuid4()))

        _verify(folder, clock, f"The backup {source}", change)
        files.set_modes(folder, group_access)

    return creating.place(target, build)


def user_of(source: pathlib.Path) -> str | None:
    """Return what to call another process that has a queue open, which may be on a read-only disk.

    The caller makes sure that this process has not: another look at the locks would drop its own.

    :raise FileNotFoundError: there are no locks
    """
    byte_locks = locks.ByteLocks(files.open_own(source / files.LOCKS, os.O_RDONLY))
    try:
        return None if byte_locks.holder(locks.USERS) is None else byte_locks.name_holder(locks.USERS)
    finally:
        byte_locks.close()


def _copy_file(source: pathlib.Path, descriptor: int) -> None:
    """Copy the data of a queue that nobody has open, and whose pages were verified."""
    try:
        env = lmdb.open(
            str(source / files.DATA),
            subdir=False,
            readonly=True,
            lock=False,
            create=False,
            map_size=0,
            max_dbs=0,
            max_spare_txns=0,
        )
        try:
            env.copyfd(descriptor, compact=True)
        finally:
            env.close()
    except lmdb.Error as error:
        raise translate(error, source) from error


def _settle_in(work: Work, identity: str | None) -> None:
    if identity is not None:
        work.txn.put(format.KEY_IDENTITY, identity.encode(), db=work.queue)
        work.touched = True
    for identifier in roster.names(work):
        desk = Desk(work, identifier)
        for message_id, hold in list(desk.each(format.LEASED)):
            returning.lapse(desk, message_id, hold, RESTORED)
        for owner in desk.owners():
            desk.forget_owner(owner)
            work.touched = True
        desk.save()


# -- compact ---------------------------------------------------------------------------------------


def compact(store: Store) -> Compaction:
    """Write the data file anew without its free pages, and exchange the two in one step.

    :raise QueueBusyError: somebody else has the queue open, or this process reads a view
    :raise StorageFullError: the disk has no room for the second file; nothing was changed
    :raise QueueDamagedError: the copy has faults; nothing was changed
    """
    if not store.locks.try_exclusive(locks.USERS):
        raise QueueBusyError(
            f"Queue {store.path} can only be compacted while nobody else has it open, but "
            f"{store.locks.name_holder(locks.USERS)} has; nothing was changed: close it there and try again."
        )
    folder = store.path / COMPACTING
    try:
        with store.read() as txn:  # it also follows a map that others have grown
            group_access = Work(store, txn).settings.group_access
        doom.reclaim_all(store)
        before = _allocated(store)
        with store.writer.locked(), store.gate.alone(store.lock_timeout) as granted:
            if not granted:
                raise QueueBusyError(
                    f"Queue {store.path} cannot be compacted inside a receive_view block or during a backup; "
                    "nothing was changed."
                )
            sweep(store.path)
            folder.mkdir(mode=0o700)
            _copy_to(store, folder, group_access)
            store.exchange_data(folder / files.DATA)
            after = _allocated(store)
        return Compaction(before, after)
    except OSError as error:
        raise _cannot_write(store, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        store.locks.try_shared(locks.USERS)


def _cannot_write(store: Store, error: OSError) -> Exception:
    if isinstance(error, PersipubsubError):
        return error
    kind, why = (StorageFullError, "the disk is full") if error.errno in FULL else (StorageError, error.strerror)
    return kind(error.errno, f"Queue {store.path} was not compacted, and not changed: {why}")


def _allocated(store: Store) -> int:
    return os.stat(store.path / files.DATA).st_blocks * 512


def sweep(path: pathlib.Path) -> None:
    """Remove what a killed compaction has left behind; the caller knows that none is under way."""
    if os.path.lexists(path / COMPACTING):
        shutil.rmtree(path / COMPACTING, ignore_errors=True)
