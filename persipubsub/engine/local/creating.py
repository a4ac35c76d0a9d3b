"""Putting a whole queue where there is none: built in a folder beside, synced and renamed.

After a crash there is all of it or nothing.
"""

import errno
import os
import pathlib
import secrets
import shutil
import time
import uuid
from collections.abc import Callable, Mapping

from persipubsub.engine.clock import Clock
from persipubsub.engine.local import files, format, roster
from persipubsub.engine.local.store import Store, first_map_size, write_new
from persipubsub.engine.local.work import Work, settings_records
from persipubsub.errors import NotAQueueError, OpenError, PersipubsubError, QueuePermissionError, StorageFullError
from persipubsub.limits import Durability, Settings, SubscriberSettings


def place(path: pathlib.Path, build: Callable[[pathlib.Path], None]) -> bool:
    """Let ``build`` fill a folder and move that to ``path``; return False, changing nothing, if a queue is there.

    :raise NotAQueueError: something else is there
    :raise QueuePermissionError: the folder above may not be written
    :raise StorageFullError: the disk is full
    """
    if is_there(path):
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        building = path.parent / f".{path.name}.{secrets.token_hex(8)}.new"
        building.mkdir(mode=0o700)
        try:
            build(building)
            files.sync_folder(building)
            try:
                os.rename(building, path)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    return not is_there(path)  # somebody else was faster
                raise
            files.sync_folder(path.parent)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except (FileExistsError, NotADirectoryError):
        raise NotAQueueError(f"A part of the path {path} is a file, not a folder.") from None
    except PermissionError as error:
        raise QueuePermissionError(f"A queue cannot be created at {path}: {error}.") from None
    except StorageFullError as error:
        raise StorageFullError(errno.ENOSPC, f"The disk is full, no queue was created at {path}") from error
    except OSError as error:
        if isinstance(error, PersipubsubError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(error.errno, f"The disk is full, no queue was created at {path}") from None
        raise OpenError(f"A queue cannot be created at {path}: {error}.") from error
    return True


def is_there(path: pathlib.Path) -> bool:
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


def build(
    folder: pathlib.Path, settings: Settings, subscribers: Mapping[str, SubscriberSettings], clock: Clock
) -> None:
    """Make a new queue of an empty folder, synced."""
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
    files.set_modes(folder, settings.group_access)


def _sweep(path: pathlib.Path) -> None:
    """Remove what killed deployments of this very queue left behind."""
    for left in path.parent.glob(f".{path.name}.*.*"):
        try:
            if time.time() - left.stat().st_mtime > 3600:
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:
            continue
