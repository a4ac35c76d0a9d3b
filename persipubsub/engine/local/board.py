"""A page of memory that all processes of a queue share: who waits, how far batches were handed over, who writes.

It holds hints, never truth: whatever stands here, no message is lost; at worst one is delivered
later or its delivery is counted although it never reached its handler.

::

    0                 4096                                             102400       102408
    +-----------------+------------------------------------------------+------------+----------------+
    | a byte per bell | 4096 slots of progress, 24 bytes each:         | generation | 1024 bytes:    |
    | 0, or what it   | owner (8) | token (8) | handed over so far (8) | of bells   | 1 for those    |
    | waits for       |                                                | (8)        | who write      |
    +-----------------+------------------------------------------------+------------+----------------+

Integers are little-endian.
"""

import mmap
import struct
import threading

from persipubsub.engine.local.locks import ByteLocks

SLOTS = 4096
_PROGRESS = struct.Struct("<QQQ")
_HANDED = struct.Struct("<Q")
_GENERATION = struct.Struct("<Q")
_GENERATION_AT = SLOTS + SLOTS * _PROGRESS.size
#: A byte for each process that may write, the last one for whoever waits for the others (see ``writelock``).
WRITERS_AT = _GENERATION_AT + _GENERATION.size
WRITERS = 1024
SIZE = WRITERS_AT + WRITERS

IDLE = 0
FOR_MESSAGES = 1
FOR_ROOM = 2
_KINDS = (b"\0", b"\1", b"\2")


class Board:
    """The shared page."""

    def __init__(self, page: mmap.mmap) -> None:
        """Take over the mapped file."""
        self.page = page

    def is_anybody_waiting(self, kind: int) -> bool:
        """Tell whether a bell waits for ``kind``."""
        return self.page.find(_KINDS[kind], 0, SLOTS) >= 0

    def waiting(self, kind: int) -> list[int]:
        """Return the bells that wait for ``kind``."""
        found: list[int] = []
        wanted = _KINDS[kind]
        at = self.page.find(wanted, 0, SLOTS)
        while at >= 0:
            found.append(at)
            at = self.page.find(wanted, at + 1, SLOTS)
        return found

    def set_bell(self, slot: int, kind: int) -> None:
        """Say what the owner of a bell waits for."""
        self.page[slot] = kind

    def generation(self) -> int:
        """Return a number that changes whenever a bell's FIFO is made or removed."""
        number: int = _GENERATION.unpack_from(self.page, _GENERATION_AT)[0]
        return number

    def next_generation(self) -> None:
        """Say that a FIFO was made or removed: descriptors that others keep may lead nowhere."""
        _GENERATION.pack_into(self.page, _GENERATION_AT, (self.generation() + 1) % 2**64)

    def begin_batch(self, slot: int, owner: int, token: int) -> None:
        """Say that nothing of the batch ``token`` was handed over yet."""
        _PROGRESS.pack_into(self.page, SLOTS + slot * _PROGRESS.size, owner, token, 0)

    def hand_over(self, slot: int, count: int) -> None:
        """Say that ``count`` messages of the batch have reached the caller."""
        _HANDED.pack_into(self.page, SLOTS + slot * _PROGRESS.size + 16, count)

    def handed_over(self, slot: int, owner: int, token: int) -> int | None:
        """Return how many messages of a batch have reached the caller, ``None`` if it is not known any more."""
        if not 0 <= slot < SLOTS:
            return None
        who, what, count = _PROGRESS.unpack_from(self.page, SLOTS + slot * _PROGRESS.size)
        return int(count) if (who, what) == (owner, token) else None

    def close(self) -> None:
        """Unmap the page."""
        self.page.close()


class Slots:
    """Slots that processes claim; a dead process's claim ends with it."""

    def __init__(self, locks: ByteLocks, base: int, count: int = SLOTS) -> None:
        """Claim ``count`` bytes of ``locks`` from the offset ``base`` on."""
        self._locks = locks
        self._base = base
        self._count = count
        self._mine: set[int] = set()
        self._guard = threading.Lock()

    def claim(self) -> int | None:
        """Return a slot that nobody has, or ``None`` if all are taken."""
        for slot in range(self._count):
            if self.try_claim(slot):
                return slot
        return None

    def try_claim(self, slot: int) -> bool:
        """Claim a slot if nobody has it."""
        with self._guard:
            if slot in self._mine or not self._locks.try_exclusive(self._base + slot):
                return False
            self._mine.add(slot)
            return True

    def give_up(self, slot: int) -> None:
        """Let others claim a slot that was claimed here."""
        with self._guard:
            self._mine.remove(slot)
            self._locks.unlock(self._base + slot)
