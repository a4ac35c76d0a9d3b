"""Rebuilds the files as a power cut may leave them.

What was synced is there. Of the rest, every sector (512 bytes) is, independently, as it was last synced or as any of
the writes since then left it; so writes are dropped, kept, reordered and torn. A file has any of the lengths that it
had since its last sync, a folder any of the lists of entries.
"""

import dataclasses
import os
import pathlib
import random
import shutil
import time
from collections.abc import Iterator, Mapping

from tests.faults.recorder import SECTOR, Point, Recorder

_PAGE = 4096 // SECTOR
#: What becomes a hole in a file that is rebuilt.
_ZEROS = bytes(16384)
#: How what was not synced is chosen.
MANNERS = ("dropped", "kept", "sectors", "pages", "beginning", "few missing")


@dataclasses.dataclass
class _File:
    """A file on the disk: what is sure, and what else may be there."""

    content: bytearray = dataclasses.field(default_factory=bytearray)
    later_sizes: list[int] = dataclasses.field(default_factory=list)
    later: dict[int, list[bytes]] = dataclasses.field(default_factory=dict)
    #: What the system has forgotten to write.
    forgotten: dict[int, list[bytes]] = dataclasses.field(default_factory=dict)

    def forget(self) -> None:
        for number, versions in self.later.items():
            self.forgotten.setdefault(number, []).extend(versions)
        self.later.clear()

    def sync(self) -> None:
        for number, versions in self.later.items():
            _put(self.content, number, versions[-1])
            self.forgotten.pop(number, None)
        self.later.clear()
        if self.later_sizes:
            _resize(self.content, self.later_sizes[-1])
        self.later_sizes.clear()

    def sync_range(self, offset: int, size: int) -> None:
        for number in range(offset // SECTOR, (offset + size - 1) // SECTOR + 1):
            versions = self.later.pop(number, None)
            if versions:
                _put(self.content, number, versions[-1])
                self.forgotten.pop(number, None)
        _resize(self.content, max(len(self.content), offset + size))


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


def _put(content: bytearray, number: int, sector: bytes) -> None:
    at = number * SECTOR
    if len(content) < at:
        _resize(content, at)
    content[at : at + len(sector)] = sector


@dataclasses.dataclass
class Cut:
    """Where the machine stopped, and what had been promised by then."""

    point: int
    name: str
    manner: str
    begun: int
    done: int

    def __str__(self) -> str:
        """Return how to name it in a finding."""
        return f"cut {self.name} (point {self.point}, {self.done} operations done), unsynced writes: {self.manner}"


def cuts(
    recorder: Recorder, folder: pathlib.Path, times: Mapping[int, int], source: random.Random, until: float
) -> Iterator[tuple[Cut, pathlib.Path]]:
    """Cut the power while something is recorded, and each time give what may be left, in a folder below ``folder``.

    :param times: how often at which points
    :param until: a moment of the monotonic clock at which it ends
    """
    power, root = PowerCut(recorder), folder / "cut"
    for number, point in power.points():
        for _ in range(times.get(number, 0)):
            if time.monotonic() > until:
                return
            manner = source.choice(MANNERS)
            power.build(root, manner, source)
            try:
                yield Cut(number, point.name, manner, point.begun, point.done), root
            finally:
                shutil.rmtree(root)


class PowerCut:
    """Walks over a recording; at every point the files can be rebuilt, in several ways."""

    def __init__(self, recorder: Recorder) -> None:
        """Begin where the recording began."""
        self._kinds = recorder.kinds
        self._points = recorder.points
        self._files: dict[int, _File] = {}
        self._folders: dict[int, list[dict[str, int]]] = {}

    def points(self) -> Iterator[tuple[int, Point]]:
        """Go to one point after another; ``build`` rebuilds what may be there then."""
        for number, point in enumerate(self._points):
            for file, change in point.changes.items():
                found = self._files.setdefault(file, _File())
                found.later_sizes.append(change.size)
                for sector, data in change.sectors:
                    found.later.setdefault(sector, []).append(data)
            for folder, entries in point.folders.items():
                self._folders.setdefault(folder, [{}]).append(entries)
            if number == 0:
                for found in self._files.values():
                    found.sync()
                for versions in self._folders.values():
                    del versions[:-1]
            else:
                yield number, point
            self._promise(point)

    def _promise(self, point: Point) -> None:
        for file in point.forgotten_files:
            if self._kinds[file] == "file":
                self._files[file].forget()
        for file in point.durable_files:
            self._files[file].sync()
        for file, offset, size in point.durable_ranges:
            self._files[file].sync_range(offset, size)
        for folder in point.durable_folders:
            del self._folders[folder][:-1]

    def build(self, target: pathlib.Path, manner: str, source: random.Random) -> None:
        """Rebuild the folder that was recorded as ``target``, a new one."""
        self._build_folder(0, target, manner, source)

    def _build_folder(self, number: int, target: pathlib.Path, manner: str, source: random.Random) -> None:
        target.mkdir(mode=0o700)
        versions = self._folders.get(number, [{}])
        index = {"dropped": 0, "kept": -1}.get(manner, source.randrange(len(versions)))
        for name, entry in versions[index].items():
            kind = self._kinds[entry]
            if kind == "folder":
                self._build_folder(entry, target / name, manner, source)
            elif kind == "fifo":
                os.mkfifo(target / name)
            elif name != "lock.mdb" or source.randrange(2):
                self._build_file(self._files.get(entry, _File()), target / name, manner, source)

    def _build_file(self, file: _File, target: pathlib.Path, manner: str, source: random.Random) -> None:
        content = file.content[:]
        later = dict(file.later)
        for number, versions in file.forgotten.items():
            later[number] = versions + later.get(number, [])
        numbers = sorted(later)
        end = source.randrange(len(numbers) + 1)
        missing = set(source.sample(numbers, min(len(numbers), source.randrange(1, 4)))) if numbers else set()
        pages = {page: source.randrange(2) for page in {number // _PAGE for number in numbers}}
        for index, number in enumerate(numbers):
            versions = later[number]
            if manner == "dropped":
                continue
            if manner == "kept" or (manner == "pages" and pages[number // _PAGE]):
                _put(content, number, versions[-1])
            elif manner == "sectors":
                chosen = source.randrange(-1, len(versions))
                if chosen >= 0:
                    _put(content, number, versions[chosen])
            elif (manner == "beginning" and index < end) or (manner == "few missing" and number not in missing):
                _put(content, number, versions[-1])
        sizes = [len(file.content), *file.later_sizes]
        _resize(content, {"dropped": sizes[0], "kept": sizes[-1]}.get(manner, source.choice(sizes)))
        write_with_holes(target, content)


def write_with_holes(target: pathlib.Path, content: bytes | bytearray) -> None:
    """Write a new file, with holes where it is zero: most of a map is."""
    view = memoryview(content)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.truncate(descriptor, len(content))
        for at in range(0, len(content), len(_ZEROS)):
            if not _ZEROS.startswith(content[at : at + len(_ZEROS)]):
                os.pwrite(descriptor, view[at : at + len(_ZEROS)], at)
    finally:
        os.close(descriptor)
