"""A disk that keeps every write and every flush it is given, in their order.

It is a file of a filesystem in user space (the kernel's FUSE protocol, spoken by a process of its own), below a loop
device, below ext4: so what is recorded is what the kernel sends to a disk, with the journal of the filesystem in it.
"""

import ctypes
import errno
import mmap
import multiprocessing
import os
import pathlib
import signal
import stat
import struct
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

SIZE = 16 << 20
NAME = "disk"
_BOUND = 60

_libc = ctypes.CDLL(None, use_errno=True)
_FORK = multiprocessing.get_context("fork")
_CLONE_NEWNS, _MS_REC_PRIVATE, _MNT_DETACH, _PR_SET_PDEATHSIG = 0x20000, 0x44000, 2, 1


class NotPermittedError(Exception):
    """This machine does not let the process mount anything."""


class Record(NamedTuple):
    """A write, or a flush: then there is no data."""

    offset: int
    data: bytes


# -- the kernel's FUSE protocol ----------------------------------------------------------------------------

_IN = struct.Struct("<IIQQIIII")
_OUT = struct.Struct("<IiQ")
_ATTRIBUTES = struct.Struct("<6Q10I")
_TRANSFER = struct.Struct("<QQIIQII")
_RECORD = struct.Struct("<QI")
_LOOKUP, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _RELEASE, _FSYNC, _FLUSH, _INIT, _DESTROY = (
    *(1, 3, 4, 14, 15, 16, 18, 20, 25, 26, 38),
)
_WITHOUT_ANSWER = (2, 42, 36)  # FORGET, BATCH_FORGET, INTERRUPT
_MOST = 128 << 10
_ROOT, _FILE = 1, 2


def _attributes(node: int) -> bytes:
    mode = stat.S_IFDIR | 0o700 if node == _ROOT else stat.S_IFREG | 0o600
    size = 0 if node == _ROOT else SIZE
    return _ATTRIBUTES.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


class _Server:
    """Answers the kernel; what is written and flushed is appended to a log."""

    def __init__(self, device: int, image: bytes, log: pathlib.Path, counter: mmap.mmap) -> None:
        self._device = device
        self._image = bytearray(image)
        self._log = open(log, "wb", buffering=0)  # noqa: SIM115 - as long as the process
        self._counter = counter
        self._count = 0

    def serve(self) -> None:
        """Answer until the filesystem is unmounted."""
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        while True:
            try:
                request = os.read(self._device, _MOST + 4096)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                os._exit(0)  # unmounted
            _, code, unique, node, *_ = _IN.unpack_from(request)
            if code in _WITHOUT_ANSWER:
                continue
            answer = self._answer(code, node, request[_IN.size :])
            number, body = (-answer, b"") if isinstance(answer, int) else (0, answer)
            os.write(self._device, _OUT.pack(_OUT.size + len(body), number, unique) + body)

    def _answer(self, code: int, node: int, body: bytes) -> bytes | int:
        """Return what to answer, or the number of an error."""
        if code == _INIT:
            readahead = struct.unpack_from("<I", body, 8)[0]
            return struct.pack("<IIIIHHIIHHII6I", 7, 31, readahead, 0, 12, 10, _MOST, 1, 32, 0, 0, *[0] * 7)
        if code == _LOOKUP:
            if node != _ROOT or body != NAME.encode() + b"\0":
                return errno.ENOENT
            return struct.pack("<QQQQII", _FILE, 0, 3600, 3600, 0, 0) + _attributes(_FILE)
        if code in (_GETATTR, _SETATTR):
            return struct.pack("<QII", 3600, 0, 0) + _attributes(node)
        if code == _OPEN:
            return struct.pack("<QII", 0, 0, 0)
        if code == _READ:
            _, offset, size, *_ = _TRANSFER.unpack_from(body)
            return bytes(self._image[offset : min(offset + size, SIZE)])
        if code == _WRITE:
            _, offset, size, *_ = _TRANSFER.unpack_from(body)
            data = body[_TRANSFER.size : _TRANSFER.size + size]
            self._image[offset : offset + size] = data
            self._keep(Record(offset, data))
            return struct.pack("<II", size, 0)
        if code == _FSYNC:
            self._keep(Record(0, b""))
            return b""
        return b"" if code in (_RELEASE, _FLUSH, _DESTROY) else errno.ENOSYS

    def _keep(self, record: Record) -> None:
        self._log.write(_RECORD.pack(record.offset, len(record.data)) + record.data)
        self._count += 1
        self._counter[:8] = struct.pack("<Q", self._count)


# -- mounting ----------------------------------------------------------------------------------------------


def own_mounts() -> None:
    """Let what this process mounts be seen by itself alone, and end with it.

    :raise NotPermittedError: it may not mount
    """
    if _libc.unshare(_CLONE_NEWNS) or _libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None):
        raise NotPermittedError(f"mounting is not permitted here: {os.strerror(ctypes.get_errno())}")


def run(*command: str) -> None:
    """Run a command of the system.

    :raise RuntimeError: it failed
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BOUND)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def mount_image(image: pathlib.Path, where: pathlib.Path) -> None:
    """Mount an image of a filesystem: its journal is replayed."""
    run("mount", "-t", "ext4", "-o", "loop", str(image), str(where))


def unmount(where: pathlib.Path) -> None:
    """Unmount what is mounted; nobody uses it any more."""
    run("umount", str(where))


def write_out(descriptor: int) -> None:
    """Begin to write what is dirty of a file, as the kernel does now and then; nothing is flushed."""
    _libc.sync_file_range(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), 2)


class BlockDisk:
    """A disk with a new ext4, mounted at ``path``; the process has mounts of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Make it in an empty folder.

        :raise NotPermittedError: it cannot be mounted
        """
        self._below, self.path, self._log = folder / "below", folder / "mounted", folder / "log"
        for made in (self._below, self.path):
            made.mkdir()
        image = folder / "new"
        with open(image, "wb") as stream:
            stream.truncate(SIZE)
        run("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", str(image))
        #: What was there before the first record.
        self.image = image.read_bytes()
        image.unlink()
        self._counter = mmap.mmap(-1, 8)
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
        if _libc.mount(b"recorded", os.fsencode(self._below), b"fuse", 0, options):
            raise NotPermittedError(f"mounting is not permitted here: {os.strerror(ctypes.get_errno())}")
        server = _Server(device, self.image, self._log, self._counter)
        self._process = _FORK.Process(target=server.serve, daemon=True)
        self._process.start()
        os.close(device)
        mount_image(self._below / NAME, self.path)

    def count(self) -> int:
        """Return how many records there are."""
        count: int = struct.unpack("<Q", self._counter[:8])[0]
        return count

    def end(self) -> None:
        """Unmount everything."""
        unmount(self.path)
        unmount(self._below)
        self._process.join(_BOUND)

    def records(self) -> Iterator[Record]:
        """Return what was recorded; the disk has come to its end."""
        with open(self._log, "rb") as stream:
            while head := stream.read(_RECORD.size):
                offset, size = _RECORD.unpack(head)
                yield Record(offset, stream.read(size))
