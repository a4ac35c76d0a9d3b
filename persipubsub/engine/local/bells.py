"""Waking: each waiting consumer has a FIFO of its own, and a byte on the board that says it waits.

A consumer arms its bell, looks once more, and sleeps on the FIFO. Who commits something looks at
the board (one search in memory; nobody waits: nothing more is done) and writes a byte to the FIFOs
of those who wait. A bell may be rung too often and, at worst, too seldom: every sleep is bounded.
"""

import errno
import os
import pathlib
import stat
import threading

from persipubsub.engine.local import files
from persipubsub.engine.local.board import IDLE, SLOTS, Board, Slots
from persipubsub.errors import NotAQueueError

_MOST_CACHED = 64
#: Bells that a process keeps for its next waits: to claim one anew takes longer than to be woken.
_MOST_IDLE = 8


class Bell:
    """A FIFO to sleep on."""

    def __init__(self, bells: "Bells", slot: int, descriptor: int) -> None:
        """Keep the place on the board and the descriptor."""
        self._bells = bells
        self.slot = slot
        self.descriptor = descriptor

    def arm(self, kind: int) -> None:
        """Ask to be rung, from now on, for ``kind``; forgets earlier rings."""
        self.silence()
        self._bells.board.set_bell(self.slot, kind)

    def disarm(self) -> None:
        """Ask not to be rung any more."""
        self._bells.board.set_bell(self.slot, IDLE)

    def silence(self) -> None:
        """Read what was written."""
        try:
            while len(os.read(self.descriptor, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def ring(self) -> None:
        """Make the descriptor readable."""
        try:
            os.write(self.descriptor, b"\1")
        except BlockingIOError:
            pass  # full of rings already

    def close(self) -> None:
        """Give the place back."""
        self._bells.give_up(self)


class Bells:
    """All bells of a queue, as one process sees them."""

    def __init__(self, folder: pathlib.Path, board: Board, slots: Slots) -> None:
        """Keep FIFOs in ``folder``."""
        self.board = board
        self._folder = folder
        self._slots = slots
        self._guard = threading.Lock()
        self._mine: dict[int, Bell] = {}
        self._idle: list[Bell] = []
        #: Descriptors of other processes' FIFOs, as of a generation of the board.
        self._others: dict[int, int] = {}
        self._generation = -1

    def claim(self) -> Bell | None:
        """Return a bell, or ``None`` if there are no more places: then one has to poll."""
        bell = self._idle_bell()
        if bell is not None:
            return bell
        slot = self._slots.claim()
        if slot is None:
            return None
        try:
            descriptor = self._open(slot)
        except OSError:
            self._slots.give_up(slot)
            return None
        bell = Bell(self, slot, descriptor)
        with self._guard:
            self._mine[slot] = bell
        bell.disarm()
        return bell

    def _idle_bell(self) -> Bell | None:
        """Return a bell that waits for its next use, unless its FIFO was deleted."""
        with self._guard:
            while self._idle:
                bell = self._idle.pop()
                if os.fstat(bell.descriptor).st_nlink:
                    self._mine[bell.slot] = bell
                    return bell
                self._end(bell)
        return None

    def _open(self, slot: int) -> int:
        """Open the FIFO of a place, making it if it is not there or not what it should be.

        Both ends are opened by everybody: so nobody gets SIGPIPE, and no end of file wakes a sleeper.
        """
        path = self._folder / str(slot)
        for _ in range(2):
            try:
                os.mkfifo(path, 0o600)
                os.chmod(path, stat.S_IMODE(os.stat(self._folder).st_mode) & 0o666)
                self.board.next_generation()
            except FileExistsError:
                pass
            try:
                descriptor = files.open_own(path, os.O_RDWR)
            except NotAQueueError:
                path.unlink()
                continue
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
            path.unlink()
        raise OSError(errno.EEXIST, "somebody keeps putting something else there", str(path))

    def give_up(self, bell: Bell) -> None:
        """Take a bell of ours back, for another use or to close it."""
        with self._guard:
            if self._mine.pop(bell.slot, None) is None:
                return
            bell.disarm()
            if len(self._idle) < _MOST_IDLE:
                self._idle.append(bell)
            else:
                self._end(bell)

    def _end(self, bell: Bell) -> None:
        os.close(bell.descriptor)
        self._slots.give_up(bell.slot)

    def ring(self, kind: int) -> None:
        """Ring every bell that is armed for ``kind``, once; never blocks and never raises."""
        if not self.board.is_anybody_waiting(kind):
            return
        for slot in self.board.waiting(kind):
            self.board.set_bell(slot, IDLE)
            self.ring_one(slot)

    def ring_one(self, slot: int) -> None:
        """Ring a bell, armed or not; never blocks and never raises."""
        with self._guard:
            mine = self._mine.get(slot)
            if mine is not None:
                mine.ring()
            else:
                self._ring_other(slot)

    def _ring_other(self, slot: int) -> None:
        generation = self.board.generation()
        if generation != self._generation:
            self._generation = generation
            self._forget_others()
        descriptor = self._others.get(slot)
        if descriptor is None:
            try:
                descriptor = files.open_own(self._folder / str(slot), os.O_RDWR)
            except (OSError, NotAQueueError):
                return  # it died and was swept: there is nobody to wake
            if len(self._others) >= _MOST_CACHED:
                _, newest = self._others.popitem()  # of many that are rung in turn, all others are kept
                os.close(newest)
            self._others[slot] = descriptor
        try:
            os.write(descriptor, b"\1")
        except BlockingIOError:
            pass
        except OSError:
            os.close(self._others.pop(slot))

    def _forget_others(self) -> None:
        for descriptor in self._others.values():
            os.close(descriptor)
        self._others.clear()

    def sweep(self) -> None:
        """Delete the FIFOs of dead processes, and bring the folder back if somebody deleted it.

        Where that is not possible nothing is lost: those without a bell poll.
        """
        try:
            if not self._folder.exists():
                self._folder.mkdir(mode=0o700)
                os.chmod(self._folder, stat.S_IMODE(os.stat(self._folder.parent).st_mode))
            paths = list(self._folder.iterdir())
        except OSError:
            return
        for path in paths:
            slot = int(path.name) if path.name.isdecimal() else -1
            if 0 <= slot < SLOTS and self._slots.try_claim(slot):
                try:
                    path.unlink(missing_ok=True)
                    self.board.next_generation()
                except OSError:
                    pass  # somebody put a folder there
                finally:
                    self._slots.give_up(slot)

    def close(self) -> None:
        """Close every descriptor."""
        with self._guard:
            for bell in (*self._mine.values(), *self._idle):
                bell.disarm()
                self._end(bell)
            self._mine.clear()
            self._idle.clear()
            self._forget_others()

    def abandon(self) -> None:
        """Close every descriptor in a forked child, leaving the parent's bells armed."""
        for bell in (*self._mine.values(), *self._idle):
            os.close(bell.descriptor)
        self._mine.clear()
        self._idle.clear()
        self._forget_others()
