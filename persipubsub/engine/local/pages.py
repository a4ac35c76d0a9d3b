"""Reads the pages of a damaged LMDB file (0.9 format, 64 bits) without LMDB, which may abort on them.

Nothing that stands on a page is trusted: what makes no sense is noted and passed over, and the walk goes on.

::

    page     0          8      10       12        14        16
             +----------+------+--------+---------+---------+----------------------------------------
             | number(8)| -    | flags  | lower(2)| upper(2)| offset (2) of each node; or the payload
             +----------+------+--------+---------+---------+----------------------------------------
    node     | low (2) | high (2) | flags (2) | key size (2) | key | data of (high, low) bytes
             in a branch (flags, high, low) is the number of the child page
    database | -(4) | flags (2) | depth (2) | branch (8) | leaf (8) | overflow (8) | entries (8) | root (8)
    meta     | magic (4) | version (4) | - (8) | map size (8) | free database | main database | last page (8) | txn (8)
"""

import os
import struct
from collections.abc import Iterator

import msgspec

_PAGE = struct.Struct("<QHHHH")
_NODE = struct.Struct("<HHHH")
_DATABASE = struct.Struct("<IHHQQQQQ")
_META = struct.Struct("<IIQQ48s48sQQ")
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEAD = _PAGE.size
_BRANCH, _LEAF, _META_PAGE = 0x01, 0x02, 0x08
_BIG, _SUB = 0x01, 0x02
_NOWHERE = 2**64 - 1
_PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)
_DEEPEST = 32


class Meta(msgspec.Struct, frozen=True):
    """A meta page: the root of the main database as of a transaction."""

    transaction: int
    root: int


class Node(msgspec.Struct, frozen=True):
    """An entry of a leaf page, whose value of ``size`` bytes begins at ``at`` in the file."""

    key: bytes
    at: int
    size: int
    is_database: bool


class Pages:
    """The pages of an open file."""

    def __init__(self, descriptor: int) -> None:
        """Read from ``descriptor``; the page size comes from a meta page, else it is 4096."""
        self._descriptor = descriptor
        self._length = os.fstat(descriptor).st_size
        self.size = 4096
        self.metas: list[Meta] = []
        #: What was wrong on the way, for people.
        self.damages: list[str] = []
        for size in _PAGE_SIZES:
            metas = [meta for number in (0, 1) if (meta := self._meta(number, size)) is not None]
            if len(metas) > len(self.metas):
                self.size, self.metas = size, metas
        self.metas.sort(key=lambda meta: -meta.transaction)
        if len(self.metas) < 2:
            self.damages.append(f"{2 - len(self.metas)} of 2 meta pages cannot be read")

    @property
    def count(self) -> int:
        """Return how many pages the file has, a cut one included."""
        return -(-self._length // self.size)

    def _meta(self, number: int, size: int) -> Meta | None:
        page = os.pread(self._descriptor, _HEAD + _META.size, number * size)
        if len(page) < _HEAD + _META.size or not _PAGE.unpack_from(page)[2] & _META_PAGE:
            return None
        magic, version, _, _, free, main, _, transaction = _META.unpack_from(page, _HEAD)
        if magic != _MAGIC or version != _VERSION or int.from_bytes(free[:4], "little") != size:
            return None
        return Meta(transaction, _DATABASE.unpack(main)[7])

    def page(self, number: int) -> bytes:
        """Return a page; shorter than a page, or empty, where the file ends."""
        return os.pread(self._descriptor, self.size, number * self.size) if number < self.count else b""

    def value(self, node: Node) -> bytes | None:
        """Return the value of a node, ``None`` if it does not lie in the file."""
        if node.at + node.size > self._length:
            return None
        return os.pread(self._descriptor, node.size, node.at)

    # -- walking -----------------------------------------------------------------------------------

    def walk(self, root: int, what: str) -> Iterator[Node]:
        """Walk over the entries below a root page in the order of their keys, passing over what is damaged."""
        yield from self._walk(root, what, set(), 0)

    def _walk(self, number: int, what: str, seen: set[int], depth: int) -> Iterator[Node]:
        if number == _NOWHERE:
            return
        page = self.page(number)
        flags = self._flags(page, number)
        if flags is None or number in seen or depth > _DEEPEST:
            self.damages.append(f"page {number} of {what} is damaged")
            return
        seen.add(number)
        if flags & _LEAF:
            yield from self._leaf(page, number, what)
            return
        for offset in self._offsets(page, number, what):
            low, high, top, _ = _NODE.unpack_from(page, offset)
            yield from self._walk(low | high << 16 | top << 32, what, seen, depth + 1)

    def _flags(self, page: bytes, number: int) -> int | None:
        """Return the flags of a branch or leaf page, ``None`` if it is no such page, or another one."""
        if len(page) < _HEAD:
            return None
        stored, _, flags, _, _ = _PAGE.unpack_from(page)
        return flags if stored == number and flags & 0x0F in (_BRANCH, _LEAF) else None

    def _offsets(self, page: bytes, number: int, what: str) -> list[int]:
        lower = _PAGE.unpack_from(page)[3]
        count = (min(lower, len(page)) - _HEAD) // 2
        found = [offset for (offset,) in struct.iter_unpack("<H", page[_HEAD : _HEAD + 2 * max(count, 0)])]
        sound = [offset for offset in found if lower <= offset <= len(page) - _NODE.size]
        if len(sound) < len(found) or lower < _HEAD or lower > self.size:
            self.damages.append(f"page {number} of {what} is damaged in part")
        return sound

    def _leaf(self, page: bytes, number: int, what: str) -> Iterator[Node]:
        for offset in self._offsets(page, number, what):
            node = self._node(page, offset, number)
            if node is None:
                self.damages.append(f"an entry on page {number} of {what} is damaged")
            else:
                yield node

    def _node(self, page: bytes, offset: int, number: int) -> Node | None:
        low, high, flags, key_size = _NODE.unpack_from(page, offset)
        size = low | high << 16
        start = offset + _NODE.size + key_size
        stored = 8 if flags & _BIG else size
        if start + stored > len(page):
            return None
        at = number * self.size + start
        if flags & _BIG:  # the number of the page where the value begins
            at = int.from_bytes(page[start : start + 8], "little") * self.size + _HEAD
        return Node(page[offset + _NODE.size : start], at, size, bool(flags & _SUB))

    def databases(self, meta: Meta) -> dict[bytes, int]:
        """Return the root pages of the named databases, by name."""
        return {
            node.key: _DATABASE.unpack(self.value(node) or bytes(_DATABASE.size))[7]
            for node in self.walk(meta.root, "the list of sub-databases")
            if node.is_database and node.size == _DATABASE.size
        }

    def every_leaf_node(self) -> Iterator[Node]:
        """Give the entries of every leaf page in the file, also of those that nothing leads to any more."""
        before = list(self.damages)
        for number in range(self.count):
            page = self.page(number)
            flags = self._flags(page, number)
            if flags is not None and flags & _LEAF:
                yield from self._leaf(page, number, "the file")
        self.damages = before  # free pages may hold anything
