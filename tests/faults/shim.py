"""Comes between the storage and the operating system: every call that writes or syncs can be watched, or made to fail.

LMDB's calls are caught where its shared object looks up the C library's functions (its global offset table), those of
Python by replacing the functions in ``os``. So no compiler is needed, and it works within the process under test.
"""

import ctypes
import dataclasses
import functools
import os
import pathlib
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lmdb  # noqa: F401 - it loads the module of the same name

_libc = ctypes.CDLL(None, use_errno=True)


@dataclasses.dataclass
class Call:
    """A call that is about to happen, or has happened."""

    name: str
    #: The file; -1 where there is none.
    descriptor: int
    #: Where is written, and how much; zero for others.
    offset: int = 0
    size: int = 0
    #: Whether it comes from LMDB.
    from_lmdb: bool = False


@dataclasses.dataclass
class Refusal:
    """What happens instead of a call: an error, or only a part of a write."""

    errno: int = 0
    #: Bytes that are written nevertheless; with an ``errno``, the error comes besides.
    size: int = 0


#: The calls that sync.
SYNCS = ("fsync", "fdatasync", "msync")

Before = Callable[[Call], Refusal | None]
After = Callable[[Call], None]

_Write = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, use_errno=True)
_Pwrite = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long, use_errno=True
)
_Writev = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, use_errno=True)
_Sync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, use_errno=True)
_Msync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, use_errno=True)
_Truncate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_long, use_errno=True)

for _name, _kind in (
    ("write", _Write),
    ("pwrite", _Pwrite),
    ("writev", _Writev),
    ("fsync", _Sync),
    ("fdatasync", _Sync),
    ("msync", _Msync),
    ("ftruncate", _Truncate),
):
    _function = getattr(_libc, _name)
    _function.restype, _function.argtypes = _kind._restype_, _kind._argtypes_


def _fail(number: int) -> int:
    ctypes.set_errno(number)
    return -1


class Shim:
    """Watches the calls from ``install`` on; ``before`` may refuse one, ``after`` sees what went through."""

    def __init__(self, before: Before, after: After = lambda call: None) -> None:
        """Call these two, which must not write through ``os`` themselves (``real`` has the functions for that)."""
        self._before = before
        self._after = after
        self._kept: list[Any] = []

    # -- LMDB's ---------------------------------------------------------------------------------------

    def _write(self, descriptor: int, buffer: int, size: int) -> int:
        at = real.lseek(descriptor, 0, os.SEEK_CUR)
        return self._writing(
            Call("write", descriptor, at, size, True), lambda n: int(_libc.write(descriptor, buffer, n))
        )

    def _pwrite(self, descriptor: int, buffer: int, size: int, offset: int) -> int:
        return self._writing(
            Call("pwrite", descriptor, offset, size, True), lambda n: int(_libc.pwrite(descriptor, buffer, n, offset))
        )

    def _writev(self, descriptor: int, vector: int, count: int) -> int:
        at = real.lseek(descriptor, 0, os.SEEK_CUR)
        pieces = struct.unpack(f"={2 * count}Q", ctypes.string_at(vector, 16 * count))
        size = sum(pieces[1::2])

        def write(number: int) -> int:
            if number == size:
                return int(_libc.writev(descriptor, vector, count))
            data = b"".join(ctypes.string_at(at, n) for at, n in zip(pieces[::2], pieces[1::2], strict=True))
            return int(real.write(descriptor, data[:number]))

        return self._writing(Call("writev", descriptor, at, size, True), write)

    def _writing(self, call: Call, write: Callable[[int], int]) -> int:
        refusal = self._before(call)
        if refusal is None:
            written = write(call.size)
            error = ctypes.get_errno()
            self._after(call)
            ctypes.set_errno(error)
            return written
        written = write(refusal.size) if refusal.size else 0
        return _fail(refusal.errno) if refusal.errno else written

    def _plain(self, call: Call, work: Callable[[], int]) -> int:
        refusal = self._before(call)
        if refusal is not None:
            return _fail(refusal.errno)
        result = work()
        error = ctypes.get_errno()
        self._after(call)
        ctypes.set_errno(error)
        return result

    def _fsync(self, descriptor: int) -> int:
        return self._plain(Call("fsync", descriptor, from_lmdb=True), lambda: int(_libc.fsync(descriptor)))

    def _fdatasync(self, descriptor: int) -> int:
        return self._plain(Call("fdatasync", descriptor, from_lmdb=True), lambda: int(_libc.fdatasync(descriptor)))

    def _msync(self, address: int, size: int, flags: int) -> int:
        return self._plain(Call("msync", -1, 0, size, from_lmdb=True), lambda: int(_libc.msync(address, size, flags)))

    def _ftruncate(self, descriptor: int, size: int) -> int:
        return self._plain(Call("ftruncate", descriptor, 0, size, True), lambda: int(_libc.ftruncate(descriptor, size)))

    # -- Python's --------------------------------------------------------------------------------------

    def _replacement(self, name: str) -> Callable[..., Any]:
        function = getattr(real, name)

        @functools.wraps(function)
        def replacement(*arguments: Any, **named: Any) -> Any:
            first = arguments[0]
            call = Call(name, first if isinstance(first, int) else -1)
            if name in ("write", "pwrite"):
                call.size = len(arguments[1])
                call.offset = arguments[2] if name == "pwrite" else real.lseek(first, 0, os.SEEK_CUR)
            refusal = self._before(call)
            if refusal is not None:
                if name == "write" and refusal.size:
                    function(first, arguments[1][: refusal.size])
                    if not refusal.errno:
                        return refusal.size
                raise OSError(refusal.errno, os.strerror(refusal.errno))
            result = function(*arguments, **named)
            self._after(call)
            return result

        return replacement

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Watch while the block runs."""
        kinds = {
            "write": _Write(self._write),
            "pwrite": _Pwrite(self._pwrite),
            "writev": _Writev(self._writev),
            "fsync": _Sync(self._fsync),
            "fdatasync": _Sync(self._fdatasync),
            "msync": _Msync(self._msync),
            "ftruncate": _Truncate(self._ftruncate),
        }
        self._kept.append(kinds)  # a call may still be under way when the block is left
        slots = _slots(tuple(kinds))
        before = {address: ctypes.c_void_p.from_address(address).value for address in slots}
        try:
            for address, name in slots.items():
                ctypes.c_void_p.from_address(address).value = ctypes.cast(kinds[name], ctypes.c_void_p).value
            for name in PYTHON:
                setattr(os, name, self._replacement(name))
            yield
        finally:
            for name in PYTHON:
                setattr(os, name, getattr(real, name))
            for address, value in before.items():
                ctypes.c_void_p.from_address(address).value = value


#: The functions of ``os`` that are watched.
PYTHON = (
    "write",
    "pwrite",
    "fsync",
    "ftruncate",
    "posix_fallocate",
    "rename",
    "replace",
    "unlink",
    "mkdir",
    "mkfifo",
)


class _Real:
    """The functions of ``os`` as they were before any shim."""

    def __init__(self) -> None:
        for name in (*PYTHON, "lseek"):
            setattr(self, name, getattr(os, name))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


real: Any = _Real()


# -- the global offset table -----------------------------------------------------------------------------

_DYNAMIC = struct.Struct("<qQ")
_RELOCATION = struct.Struct("<QQq")
_SYMBOL = struct.Struct("<IBBHQQ")
#: Relocations that hold the address of a function: of x86-64 and of AArch64.
_FUNCTIONS = (6, 7, 1025, 1026)
_PAGE = 4096


def _slots(names: tuple[str, ...]) -> dict[int, str]:
    """Return where LMDB's shared object keeps the addresses of functions of the C library."""
    path = sys.modules["lmdb.cpython"].__file__
    for line in pathlib.Path("/proc/self/maps").read_text().splitlines():
        fields = line.split()
        if fields[-1] == path and int(fields[2], 16) == 0:
            base = int(fields[0].partition("-")[0], 16)
            break
    else:
        raise LookupError(f"{path} is not mapped")
    head = ctypes.string_at(base, 64)
    at, size, count = (
        int.from_bytes(head[32:40], "little"),
        int.from_bytes(head[54:56], "little"),
        int.from_bytes(head[56:58], "little"),
    )
    dynamic: dict[int, int] = {}
    for number in range(count):
        header = ctypes.string_at(base + at + number * size, size)
        if int.from_bytes(header[:4], "little") == 2:  # PT_DYNAMIC
            start, length = int.from_bytes(header[16:24], "little"), int.from_bytes(header[40:48], "little")
            dynamic = dict(_DYNAMIC.iter_unpack(ctypes.string_at(base + start, length)))

    def address(tag: int) -> int:
        # The loader may have made it absolute already.
        return dynamic[tag] if dynamic[tag] > base else base + dynamic[tag]

    strings, symbols = address(5), address(6)
    found: dict[int, str] = {}
    for table, length in ((23, 2), (7, 8)):  # JMPREL, RELA
        if table not in dynamic:
            continue
        for offset, info, _ in _RELOCATION.iter_unpack(ctypes.string_at(address(table), dynamic[length])):
            if info & 0xFFFFFFFF in _FUNCTIONS:
                entry = _SYMBOL.unpack(ctypes.string_at(symbols + (info >> 32) * _SYMBOL.size, _SYMBOL.size))
                name = ctypes.string_at(strings + entry[0]).decode().removesuffix("64")
                if name in names:
                    found[base + offset] = name
    for place in {slot // _PAGE * _PAGE for slot in found}:
        if _libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(_PAGE), 3):
            raise OSError(ctypes.get_errno(), "mprotect")
    missing = {"pwrite", "writev", "fdatasync", "msync", "ftruncate"} - set(found.values())
    if missing:
        raise LookupError(f"{path} does not call {missing}: the shim would see nothing of them")
    return found
