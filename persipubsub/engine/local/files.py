"""Files of a queue: their names, their modes, and a first look before LMDB touches them."""

import errno
import mmap
import os
import pathlib
import stat
import struct

from persipubsub.engine.local import board, posts
from persipubsub.errors import (
    NotAQueueError,
    OpenError,
    QueueDamagedError,
    QueueNotFoundError,
    QueuePermissionError,
)

DATA = "data.mdb"
LMDB_LOCK = "lock.mdb"
LOCKS = "locks"
BOARD = "board"
POSTS = "posts"
BELLS = "bells"
BOOT = "boot"
SEAL = "seal"

_META = struct.Struct("<IIQQ48s48sQQ")  # magic, version, address, map size, free db, main db, last page, transaction
_MAGIC = 0xBEEFC0DE


def modes(group_access: bool) -> tuple[int, int]:
    """Return the modes of folders and of files; with group access, what is made in the folder is its group's."""
    return (0o2770, 0o660) if group_access else (0o700, 0o600)


def open_own(path: pathlib.Path, flags: int) -> int:
    """Open a file of the queue, refusing symbolic links and what is not a regular file or a FIFO.

    :raise OSError: it cannot be opened
    :raise NotAQueueError: it is something else
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise NotAQueueError(f"{path} is a symbolic link, which a queue never has; remove it.") from None
        raise
    kind = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
        os.close(descriptor)
        raise NotAQueueError(f"{path} is neither a file nor a FIFO; it does not belong to a queue.")
    return descriptor


def map_own(path: pathlib.Path, size: int) -> mmap.mmap:
    """Map a file of the queue, such that other processes see what is written, and the other way round.

    :raise OSError: it cannot be opened
    :raise NotAQueueError: it is something else
    """
    descriptor = open_own(path, os.O_RDWR)
    try:
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


def create_companions(folder: pathlib.Path, group_access: bool) -> None:
    """Create what waking and liveness need in a new queue."""
    folder_mode, file_mode = modes(group_access)
    os.chmod(folder, folder_mode)
    for name, size in ((LOCKS, 0), (BOARD, board.SIZE), (POSTS, posts.SIZE)):
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file_mode)
        try:
            os.fchmod(descriptor, file_mode)  # whatever the umask
            # Real zeros, not a hole: a mapped hole on a full disk is a SIGBUS.
            _write_all(descriptor, bytes(size))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    bells = folder / BELLS
    bells.mkdir(mode=folder_mode)
    os.chmod(bells, folder_mode)


def set_modes(folder: pathlib.Path, group_access: bool) -> None:
    """Set the modes of a queue's folders and files, whatever the umask."""
    folder_mode, file_mode = modes(group_access)
    os.chmod(folder, folder_mode)
    os.chmod(folder / BELLS, folder_mode)
    own = [folder / name for name in (DATA, LMDB_LOCK, LOCKS, BOARD, POSTS, BOOT, SEAL)]
    for path in own + list((folder / BELLS).iterdir()):
        if path.exists():
            os.chmod(path, file_mode)


def keep_from_children(descriptor: int) -> None:
    """Let no program that this process runs inherit a descriptor of the same file."""
    for name in os.listdir("/dev/fd"):
        try:
            if os.path.sameopenfile(int(name), descriptor):
                os.set_inheritable(int(name), False)
        except OSError:
            continue  # it was closed meanwhile


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def write_small(path: pathlib.Path, text: str, *, sync: bool = False) -> None:
    """Write a small file of a queue."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        _write_all(descriptor, text.encode())
        os.fchmod(descriptor, os.stat(path.parent / LOCKS).st_mode & 0o777)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: pathlib.Path, text: str) -> None:
    """Write a small file such that a crash leaves the old text or the new one."""
    fresh = path.with_name(path.name + ".new")
    write_small(fresh, text, sync=True)
    os.replace(fresh, path)
    try:
        sync_folder(path.parent)
    except BaseException:
        path.unlink()  # else the next one would believe that it is durable
        raise


def make_folders(folder: pathlib.Path) -> None:
    """Make a folder and those above it that are missing, durably."""
    if not folder.is_dir():
        make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        try:
            sync_folder(folder.parent)
        except BaseException:
            folder.rmdir()  # else the next one would believe that it is durable
            raise


def sync_folder(folder: pathlib.Path) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_queue(folder: pathlib.Path) -> bool:
    """Tell whether a folder looks like a queue, without opening it; what cannot be reached does not."""
    try:
        return all((folder / name).is_file() for name in (DATA, LOCKS, BOARD, POSTS))
    except OSError:
        return False


def identity(folder: pathlib.Path) -> tuple[int, int]:
    """Return what tells a queue from others by whatever path: device and inode of the file that is never exchanged."""
    status = os.stat(folder / LOCKS)
    return status.st_dev, status.st_ino


def inspect_readable(folder: pathlib.Path) -> None:
    """Look whether there is a queue that can be read, for it is not going to be used.

    :raise QueueNotFoundError: nothing is there
    :raise NotAQueueError: something else is there
    :raise QueuePermissionError: a right is missing
    """
    if not os.path.lexists(folder):
        raise QueueNotFoundError(f"There is no queue and no backup at {folder}; give the folder that `backup` wrote.")
    if not is_queue(folder):
        raise NotAQueueError(f"{folder} is no queue and no backup of one ({DATA}, {LOCKS} or {BOARD} is missing).")
    for path in (folder / DATA, folder / LOCKS):
        if not _may(path, os.R_OK):
            raise QueuePermissionError(f"{path} cannot be read by this process (uid {os.geteuid()}).")


def inspect(folder: pathlib.Path) -> str | None:
    """Look at a folder before LMDB opens it, changing nothing; return why its pages have to be verified, if so.

    :raise QueueNotFoundError: nothing is there
    :raise NotAQueueError: something else is there
    :raise QueuePermissionError: a right is missing
    :raise QueueDamagedError: the files are truncated or overwritten
    """
    try:
        status = os.stat(folder)
    except FileNotFoundError:
        raise QueueNotFoundError(
            f"There is no queue at {folder}: deploy it first, with new_control() or from a configuration."
        ) from None
    except NotADirectoryError:
        raise NotAQueueError(f"A part of the path {folder} is a file, not a folder; give the queue's folder.") from None
    except PermissionError as error:
        raise QueuePermissionError(f"{folder} cannot be reached: {error.strerror}.") from None
    except (OSError, ValueError) as error:
        raise OpenError(f"{str(folder)!r} cannot be a queue: {error}.") from None
    if not stat.S_ISDIR(status.st_mode):
        raise NotAQueueError(f"{folder} is a file, a queue is a folder; give the folder that was deployed.")
    if not _may(folder, os.R_OK | os.W_OK | os.X_OK):
        raise QueuePermissionError(
            f"{folder} cannot be used: this process (uid {os.geteuid()}) needs to read, write and search it "
            f"(mode {stat.S_IMODE(status.st_mode):04o}, owner uid {status.st_uid})."
        )
    if not os.listdir(folder):
        raise QueueNotFoundError(f"{folder} is empty: deploy a queue first, with new_control() or a configuration.")
    if not is_queue(folder):
        raise NotAQueueError(
            f"{folder} is not a queue of persipubsub ({DATA}, {LOCKS}, {BOARD} or {POSTS} is "
            "missing); it was left untouched."
        )
    for name in (DATA, LMDB_LOCK, LOCKS, BOARD, POSTS):
        path = folder / name
        _refuse_planted(path, stat.S_IFREG, "file")
        if path.exists() and not _may(path, os.R_OK | os.W_OK):
            raise QueuePermissionError(f"{path} cannot be used: this process needs to read and write it.")
    _refuse_planted(folder / BELLS, stat.S_IFDIR, "folder")
    if os.stat(folder / DATA).st_nlink > 1:
        raise NotAQueueError(
            f"{folder / DATA} is a hard link: opened by its other name as well, it would have two lock files and two "
            "writers at once. Make a copy of it in its place (cp, mv), or remove the other name."
        )
    for name, size in ((BOARD, board.SIZE), (POSTS, posts.SIZE)):
        if os.stat(folder / name).st_size < size:
            raise QueueDamagedError(f"{folder / name} is truncated; restore the queue from a backup.")
    return _inspect_data(folder / DATA)


def _refuse_planted(path: pathlib.Path, kind: int, name: str) -> None:
    """Raise if something else than a queue's file or folder is at a path; it may be missing.

    :raise NotAQueueError: so it is
    """
    try:
        found = stat.S_IFMT(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if found == stat.S_IFLNK:
        raise NotAQueueError(f"{path} is a symbolic link, which a queue never has; remove it.")
    if found != kind:
        raise NotAQueueError(f"{path} is no {name}, so it does not belong to a queue; remove it.")


def _may(path: pathlib.Path, wanted: int) -> bool:
    """Tell whether this process may use a file, by the rights it has at this moment."""
    return os.access(path, wanted, effective_ids=os.access in os.supports_effective_ids)


def _inspect_data(path: pathlib.Path) -> str | None:
    size, used, _ = extent(path)
    if size < used:
        # It may lawfully end before its last page, if that one is free: the slow look decides.
        return f"{path} has {size} bytes of {used}"
    return None


def extent(path: pathlib.Path) -> tuple[int, int, int]:
    """Return how long a data file is, how much of it LMDB uses, and the number of its last transaction.

    :raise QueueDamagedError: its beginning is not LMDB's
    """
    # Reading data.mdb beside LMDB is safe: LMDB keeps its record locks on lock.mdb.
    with open(path, "rb") as stream:
        head = stream.read(2 * 65536)
        size = os.fstat(stream.fileno()).st_size
    if not size:
        raise QueueDamagedError(f"{path} is empty (0 bytes); restore the queue from a backup.")
    first = _meta(head, 0)
    if first is None:
        raise QueueDamagedError(f"{path} does not start like an LMDB file; restore the queue from a backup.")
    page_size = first[0]
    second = _meta(head, page_size)
    if second is None:
        raise QueueDamagedError(f"The second page of {path} is overwritten or missing; restore it from a backup.")
    _, last_page, transaction = max((first, second), key=lambda meta: meta[2])
    return size, (last_page + 1) * page_size, transaction


def verify_pages(folder: pathlib.Path) -> list[str]:
    """Return what is wrong with the pages of a queue that nobody has open, without trusting any of them."""
    from lmdb import verify

    try:
        findings: list[str] = verify.verify(str(folder))  # type: ignore[no-untyped-call]  # it has no type hints
    except verify.VerifyError as error:
        return [str(error)]
    return findings


def _meta(head: bytes, at: int) -> tuple[int, int, int] | None:
    """Return page size, last page and transaction of the meta page at an offset, if it is one."""
    if len(head) < at + 16 + _META.size:
        return None
    magic, version, _, _, free, _, last_page, transaction = _META.unpack_from(head, at + 16)
    page_size = int.from_bytes(free[:4], "little")
    if magic != _MAGIC or version != 1 or page_size not in (4096, 8192, 16384, 32768, 65536):
        return None
    return page_size, last_page, transaction
