"""Putting a whole queue where there is none: built in a folder beside, synced and renamed.

After a crash there is all of it or nothing.
"""

import errno
import os
import pathlib
import secrets
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Mapping

from persipubsub.engine.clock import Clock
from persipubsub.engine.local import doubt, files, format, roster
from persipubsub.engine.local.space import FULL, first_map_size
from persipubsub.engine.local.store import Store, write_new
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
        files.make_folders(path.parent)
        _sweep(path)
        building = path.parent / f".{path.name}.{secrets.token_hex(8)}.new"
        building.mkdir(mode=0o700)
        try:
            build(building)
            doubt.seal(building)
            files.sync_folder(building)
            try:
                os.rename(building, path)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    return not is_there(path)  # somebody else was faster
                raise
            try:
                files.sync_folder(path.parent)
            except BaseException:
                # Else the next one would believe that it is durable. It is left whole: the disk may have either name.
                os.rename(path, building.with_suffix(".failed"))
                raise
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except StorageFullError as error:
        raise StorageFullError(errno.ENOSPC, f"The disk is full, no queue was created at {path}") from error
    except PersipubsubError:
        raise
    except OSError as error:
        raise refused(error, path, "created") from error
    return True


def refused(error: OSError, path: pathlib.Path, what: str) -> PersipubsubError:
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
            status = os.lstat(left)
            mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            if mine and time.time() - status.st_mtime > 3600:
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:
            continue
