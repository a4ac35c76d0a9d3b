"""A file in which processes post small operations for whoever writes, and find the answers.

A process that finds another one writing posts what it wants; whoever commits next carries it along, and all of them
return after that one commit. The file is only the way there and back: what was carried out stands, with its answer,
in the transaction itself, under the nonce of the question. So a question whose carrier died is carried out once.

::

    0                4096                               8192
    +----------------+----------------------------------+----------------------------------+- ...
    | a byte a slot: | question of slot 0:              | answer of slot 0:                |
    | 1 if something | nonce (16) | bell (4) |          | nonce (16) | 0 (4) |             |
    | is posted      | length (4) | xxh3 (8) | body      | length (4) | xxh3 (8) | body      |
    +----------------+----------------------------------+----------------------------------+- ...

The byte behind those of the slots tells how many questions the last commit carried along; from byte 64 on there is
another one for each slot, which says that a commit with its question is under way. Integers are little-endian. A
question or an answer that is only half written does not agree with its checksum, and counts as not there.
"""

import mmap
import struct
import threading

import msgspec
import xxhash

SLOTS = 32
_PART = 4096
_HEAD = struct.Struct("<16sIIQ")
#: The longest question, and the longest answer.
LONGEST = _PART - _HEAD.size
SIZE = _PART + SLOTS * 2 * _PART
_FREE, _POSTED = 0, 1
#: Where the bytes of those questions are whose commit is under way.
_DECIDED_AT = 64
_MARK = bytes((_POSTED,))


class Question(msgspec.Struct, frozen=True):
    """What a process wants carried out."""

    slot: int
    nonce: bytes
    #: Which bell to ring when it is answered.
    bell: int
    body: bytes


class Posts:
    """The file, as one process sees it."""

    def __init__(self, page: mmap.mmap) -> None:
        """Take over the mapped file."""
        self._page = page
        self._fence = threading.Lock()

    def ask(self, question: Question) -> None:
        """Post a question; the slot belongs to this process."""
        self._write(_PART + question.slot * 2 * _PART, question.nonce, question.bell, question.body)
        self.leave_open(question.slot)
        self._page[question.slot] = _POSTED

    def withdraw(self, slot: int) -> bool:
        """Take a question back; False if the commit that carries it out may be under way, or over."""
        self._page[slot] = _FREE
        self._pass_fence()
        return self._page[_DECIDED_AT + slot] == _FREE

    def decide(self, question: Question) -> bool:
        """Tell, right before a commit, whether a question still stands: from now on it cannot be taken back."""
        self._page[_DECIDED_AT + question.slot] = _POSTED
        self._pass_fence()
        part = self._read(_PART + question.slot * 2 * _PART)
        if self._page[question.slot] == _POSTED and part is not None and part[0] == question.nonce:
            return True
        self.leave_open(question.slot)
        return False

    def leave_open(self, slot: int) -> None:
        """Say that no commit with the question of a slot is under way."""
        self._page[_DECIDED_AT + slot] = _FREE

    def _pass_fence(self) -> None:
        # What was written before is seen by all before what follows is read.
        with self._fence:
            pass

    def count(self) -> int:
        """Return how many questions are posted."""
        return self._page[:SLOTS].count(_POSTED)

    @property
    def carried(self) -> int:
        """Return how many questions the last commit carried along."""
        return self._page[SLOTS]

    @carried.setter
    def carried(self, number: int) -> None:
        if self._page[SLOTS] != number:
            self._page[SLOTS] = number

    def asked(self) -> list[Question]:
        """Return what is posted."""
        found = []
        slot = self._page.find(_MARK, 0, SLOTS)
        while slot >= 0:
            part = self._read(_PART + slot * 2 * _PART)
            if part is not None:
                found.append(Question(slot, *part))
            slot = self._page.find(_MARK, slot + 1, SLOTS)
        return found

    def next_bell(self) -> int | None:
        """Return the bell of somebody who has posted, if there is one."""
        asked = self.asked() if self._page.find(_MARK, 0, SLOTS) >= 0 else ()
        return asked[0].bell if asked else None

    def answer(self, question: Question, body: bytes) -> None:
        """Answer a question, unless another one stands in its place."""
        part = self._read(_PART + question.slot * 2 * _PART)
        if part is not None and part[0] == question.nonce:
            self._write(2 * _PART + question.slot * 2 * _PART, question.nonce, 0, body)
            self._page[question.slot] = _FREE
        self.leave_open(question.slot)

    def answer_to(self, slot: int, nonce: bytes) -> bytes | None:
        """Return the answer to a question, ``None`` if there is none yet."""
        part = self._read(2 * _PART + slot * 2 * _PART)
        return part[2] if part is not None and part[0] == nonce else None

    def _write(self, at: int, nonce: bytes, bell: int, body: bytes) -> None:
        self._page[at : at + _HEAD.size + len(body)] = (
            _HEAD.pack(nonce, bell, len(body), xxhash.xxh3_64_intdigest(nonce + body)) + body
        )

    def _read(self, at: int) -> tuple[bytes, int, bytes] | None:
        nonce, bell, length, checksum = _HEAD.unpack_from(self._page, at)
        body = self._page[at + _HEAD.size : at + _HEAD.size + min(length, LONGEST)]
        return (nonce, bell, body) if xxhash.xxh3_64_intdigest(nonce + body) == checksum else None

    def close(self) -> None:
        """Unmap the file."""
        self._page.close()
