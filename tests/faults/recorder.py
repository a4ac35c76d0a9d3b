"""Records how the files below a folder change between one call to the operating system and the next.

Everything is compared by sectors at each recorded point, so stores into a map are seen as well as writes. From a
recording the files can be rebuilt as a power cut at any point might leave them: ``tests.faults.powercut``.
"""

import ctypes
import dataclasses
import fcntl
import mmap
import os
import pathlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.shim import SYNCS, Before, Call, Refusal, Shim

SECTOR = 512
_CHUNK = 64 * SECTOR

_libc = ctypes.CDLL(None, use_errno=True)
_libc.memcmp.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mmap.restype = ctypes.c_void_p
_FAILED = ctypes.c_void_p(-1).value

Tree = dict[int, dict[str, int]]
"""For every folder (by its number), the entries and their numbers."""


@dataclasses.dataclass
class Change:
    """What happened to one file since the point before."""

    size: int
    sectors: list[tuple[int, bytes]]


@dataclasses.dataclass
class Point:
    """A moment at which the machine may stop; the ``durable`` fields tell what the disk has promised afterwards."""

    name: str
    changes: dict[int, Change]
    #: The folders whose entries changed since the point before.
    folders: Tree
    #: How many operations of the user had begun, and how many had returned.
    begun: int
    done: int
    #: How many calls had been made.
    calls: int
    durable_files: list[int] = dataclasses.field(default_factory=list)
    durable_ranges: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    durable_folders: list[int] = dataclasses.field(default_factory=list)
    #: Files whose sync failed: what was not synced never will be, unless it is written again.
    forgotten_files: list[int] = dataclasses.field(default_factory=list)


class Recorder:
    """Records the folder ``root``, which exists and is durable, from ``recording`` on."""

    def __init__(self, root: pathlib.Path, fault: Before = lambda call: None) -> None:
        """Look at what is there already: it counts as durable; ``fault`` may let calls fail."""
        self._fault = fault
        self.root = root
        self.points: list[Point] = []
        self.begun = self.done = self.calls = 0
        #: What each number is: "folder", "fifo" or "file".
        self.kinds: dict[int, str] = {}
        self._device = os.stat(root).st_dev
        #: By inode.
        self._numbers: dict[int, int] = {}
        #: Kept open, so that no inode is given to another file; and because closing one drops its record locks.
        self._descriptors: dict[int, int] = {}
        self._others: list[int] = []
        #: Where each file is mapped, and how long. Python's maps hold descriptors, and dropping these drops locks.
        self._maps: dict[int, tuple[int, int]] = {}
        #: In pieces, so that what is the same is compared and no more.
        self._contents: dict[int, list[bytes]] = {}
        self._tree: Tree = {}
        self._point("before")

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what happens in the block."""
        with Shim(self._before, self._after).installed():
            yield
        self._point("after")

    def close(self) -> None:
        """Close what is held, once nobody uses the files any more."""
        for at, length in self._maps.values():
            if length:
                _libc.munmap(at, length)
        self._maps.clear()
        for descriptor in (*self._descriptors.values(), *self._others):
            os.close(descriptor)
        self._descriptors.clear()
        self._others.clear()

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Count an operation of the user."""
        self.begun += 1
        yield
        self.done += 1
        self._point("returned")

    # -- points ------------------------------------------------------------------------------------------

    def _before(self, call: Call) -> Refusal | None:
        self._point(f"before {call.name}")
        refusal = self._fault(call)
        self.calls += 1
        if refusal is not None and call.name in SYNCS:
            # The system reports it once, and forgets what it could not write.
            self.points[-1].forgotten_files.extend(self._meant(call))
        return refusal

    def _after(self, call: Call) -> None:
        if call.name in SYNCS:
            # What was there when the call began: nothing else has run meanwhile.
            point = self.points[-1]
            for number in self._meant(call):
                if self.kinds[number] == "folder":
                    point.durable_folders.append(number)
                else:
                    point.durable_files.append(number)
            return
        self._point(f"after {call.name}")
        if call.name in ("write", "pwrite", "writev"):
            for number in self._meant(call):
                self._note_same(number, call.offset, call.size)
                if self._is_synchronous(call.descriptor):
                    self.points[-1].durable_ranges.append((number, call.offset, call.size))

    def _note_same(self, number: int, offset: int, size: int) -> None:
        """Note sectors that were written as they were before: the disk may not have them yet."""
        pieces = self._contents[number]
        changes = self.points[-1].changes
        change = changes.setdefault(number, Change(sum(map(len, pieces)), []))
        known = {sector for sector, _ in change.sectors}
        for sector in range(offset // SECTOR, (offset + size - 1) // SECTOR + 1):
            if sector not in known:
                at = sector * SECTOR % _CHUNK
                change.sectors.append((sector, pieces[sector * SECTOR // _CHUNK][at : at + SECTOR]))

    @staticmethod
    def _is_synchronous(descriptor: int) -> bool:
        return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DSYNC)

    def _meant(self, call: Call) -> list[int]:
        """Return the files that a call is about; msync means the only file that is mapped to be written."""
        if call.name == "msync":
            return list(self.numbers_of("data.mdb"))
        status = os.fstat(call.descriptor)
        number = self._numbers.get(status.st_ino) if status.st_dev == self._device else None
        return [] if number is None else [number]

    def numbers_of(self, name: str) -> set[int]:
        """Return the numbers of the files that have a name by now, in whatever folder."""
        return {entries[name] for entries in self._tree.values() if name in entries}

    def _point(self, name: str) -> None:
        folders: Tree = {}
        changes: dict[int, Change] = {}
        seen = self._scan(os.fspath(self.root))
        for number, entries in seen.items():
            if self._tree.get(number) != entries:
                folders[number] = entries
        self._tree = seen
        for number, descriptor in self._descriptors.items():
            change = self._changed(number, descriptor)
            if change is not None:
                changes[number] = change
        self.points.append(Point(name, changes, folders, self.begun, self.done, self.calls))

    def _changed(self, number: int, descriptor: int) -> Change | None:
        """Look at a file, and return what is new in it; None if nothing is."""
        known = number in self._contents
        pieces = self._contents.setdefault(number, [])
        before = sum(map(len, pieces))
        size = os.fstat(descriptor).st_size
        at = self._mapped(number, descriptor, size)
        sectors: list[tuple[int, bytes]] = []
        for index in range(-(-size // _CHUNK)):
            length = min(_CHUNK, size - index * _CHUNK)
            if index == len(pieces):
                pieces.append(b"")
            if len(pieces[index]) != length or _libc.memcmp(pieces[index], at + index * _CHUNK, length):
                piece = ctypes.string_at(at + index * _CHUNK, length)
                sectors.extend(_differing(index * _CHUNK, pieces[index], piece))
                pieces[index] = piece
        del pieces[-(-size // _CHUNK) :]
        return Change(size, sectors) if sectors or size != before or not known else None

    def _mapped(self, number: int, descriptor: int, size: int) -> int:
        """Return where the content of a file is in memory: comparing it copies nothing."""
        at, length = self._maps.get(number, (0, 0))
        if length != size:
            if length:
                _libc.munmap(at, length)
            at = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0) if size else 0
            if at == _FAILED:
                raise OSError(ctypes.get_errno(), "mmap")
            self._maps[number] = (at, size)
        return at

    def _scan(self, folder: str) -> Tree:
        entries: dict[str, int] = {}
        found: Tree = {self._number(os.stat(folder).st_ino, folder): entries}
        with os.scandir(folder) as listed:
            for entry in listed:
                try:
                    number = self._number(entry.inode(), entry.path)
                except FileNotFoundError:
                    continue
                entries[entry.name] = number
                if self.kinds[number] == "folder":
                    found.update(self._scan(entry.path))
        return found

    def _number(self, inode: int, path: str) -> int:
        if inode not in self._numbers:
            mode = os.lstat(path).st_mode
            number = self._numbers[inode] = len(self._numbers)
            self.kinds[number] = "folder" if stat.S_ISDIR(mode) else "fifo" if stat.S_ISFIFO(mode) else "file"
            held = os.open(path, os.O_PATH if stat.S_ISFIFO(mode) else os.O_RDONLY)
            if self.kinds[number] == "file":
                self._descriptors[number] = held
            else:
                self._others.append(held)
        return self._numbers[inode]


def _differing(start: int, before: bytes, after: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the sectors that differ in a piece that starts at an offset, by their numbers in the file."""
    for at in range(0, len(after), SECTOR):
        sector = after[at : at + SECTOR]
        if before[at : at + SECTOR] != sector:
            yield (start + at) // SECTOR, sector
