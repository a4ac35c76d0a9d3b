"""Tells whether a queue that does one thing after another could have shown what concurrent clients saw.

The search is that of Wing and Gong with Lowe's memory: an order of the operations is built up such that an
operation which returned before another began stands before it, and each gives what the sequential queue
gives. It knows nothing of the library.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

SEND, TAKE, ACK, NACK, SETTLE = "send", "take", "ack", "nack", "settle"
OK, LOST = "ok", "lost"


@dataclasses.dataclass(frozen=True)
class Operation:
    """One call: when it began and returned (monotonic, ns), what was asked and what came of it.

    ========  ==========================  ==============================================
    kind      asked                       given
    ========  ==========================  ==============================================
    send      number of messages          their ids
    take      at most so many             pairs of id and delivery count
    ack       id and delivery count       "ok" or "lost"
    nack      id and delivery count       "ok" or "lost"
    settle    id, whoever holds it        how many it settled: 0 or 1
    ========  ==========================  ==============================================
    """

    began: int
    returned: int
    kind: str
    asked: Any
    given: Any
    client: str = ""


class Queue(NamedTuple):
    """The sequential queue of one subscriber."""

    next_id: int = 1
    position: int = 1
    #: Given back, by id, with their delivery counts.
    ready: tuple[tuple[int, int], ...] = ()
    #: Held, with their delivery counts.
    leased: frozenset[tuple[int, int]] = frozenset()
    #: Settled by id before the position came by.
    ahead: frozenset[int] = frozenset()

    def after(self, operation: Operation) -> "Queue | None":
        """Return the queue after an operation, ``None`` if it cannot have given what it gave."""
        kind, asked, given = operation.kind, operation.asked, operation.given
        if kind == SEND:
            ids = list(range(self.next_id, self.next_id + asked))
            return self._replace(next_id=self.next_id + asked) if ids == list(given) else None
        if kind == TAKE:
            return self._take(asked, given)
        if kind == SETTLE:
            return self._settle(asked, given)
        if tuple(asked) not in self.leased:
            return self if given == LOST else None
        if given != OK:
            return None
        left = self.leased - {tuple(asked)}
        if kind == ACK:
            return self._replace(leased=left)
        return self._replace(leased=left, ready=tuple(sorted((*self.ready, tuple(asked)))))

    def _take(self, most: int, given: Sequence[Sequence[int]]) -> "Queue | None":
        taken = [(message_id, count + 1) for message_id, count in self.ready[:most]]
        position, ahead = self.position, self.ahead
        while position < self.next_id and len(taken) < most:
            if position in ahead:
                ahead -= {position}
            else:
                taken.append((position, 1))
            position += 1
        if taken != [tuple(pair) for pair in given]:
            return None
        return self._replace(position=position, ready=self.ready[most:], leased=self.leased.union(taken), ahead=ahead)

    def _settle(self, message_id: int, given: int) -> "Queue | None":
        ready = tuple(pair for pair in self.ready if pair[0] != message_id)
        leased = frozenset(pair for pair in self.leased if pair[0] != message_id)
        waits = self.position <= message_id < self.next_id and message_id not in self.ahead
        if given != int(waits or ready != self.ready or leased != self.leased):
            return None
        return self._replace(ready=ready, leased=leased, ahead=self.ahead | {message_id} if waits else self.ahead)


class _Entry:
    """The beginning or the end of an operation, in a list that entries are taken from and put back into."""

    __slots__ = ("bit", "end", "next", "operation", "previous")

    def __init__(self, operation: Operation | None, bit: int = 0) -> None:
        self.operation = operation
        self.bit = bit
        #: The end of the operation that begins here; an end has none.
        self.end: _Entry | None = None
        self.previous: _Entry | None = None
        self.next: _Entry | None = None

    def out(self) -> None:
        if self.previous is not None:
            self.previous.next = self.next
        if self.next is not None:
            self.next.previous = self.previous

    def back(self) -> None:
        if self.previous is not None:
            self.previous.next = self
        if self.next is not None:
            self.next.previous = self


def _listed(history: Sequence[Operation]) -> _Entry:
    """Return the head of the list of all beginnings and ends, in the order of time."""
    moments: list[tuple[int, int, _Entry]] = []
    for number, operation in enumerate(history):
        begin, end = _Entry(operation, 1 << number), _Entry(None)
        begin.end = end
        # What began at the very moment at which another returned was under way together with it.
        moments += [(operation.began, 0, begin), (operation.returned, 1, end)]
    head = last = _Entry(None)
    for _, _, entry in sorted(moments, key=lambda moment: moment[:2]):
        last.next, entry.previous = entry, last
        last = entry
    return head


def explain(history: Sequence[Operation]) -> str | None:
    """Return why no order fits, ``None`` if one does."""
    head = _listed(history)
    queue, done = Queue(), 0
    seen: set[tuple[int, Queue]] = set()
    stack: list[tuple[_Entry, Queue]] = []
    deepest, stuck, there = -1, "", Queue()
    entry = head.next
    while head.next is not None:
        assert entry is not None
        if entry.end is not None and entry.operation is not None:
            after = queue.after(entry.operation)
            if after is not None and (done | entry.bit, after) not in seen:
                seen.add((done | entry.bit, after))
                stack.append((entry, queue))
                queue, done = after, done | entry.bit
                entry.out()
                entry.end.out()
                entry = head.next
            else:
                if len(stack) > deepest:
                    deepest, stuck, there = len(stack), "", queue
                if len(stack) == deepest and after is None:
                    stuck += f"\n  {entry.operation}"
                entry = entry.next
            continue
        if not stack:
            return f"after {deepest} of {len(history)} operations, with {there}, none of these fits:{stuck}"
        entry, queue = stack.pop()
        assert entry.end is not None
        done &= ~entry.bit
        entry.end.back()
        entry.back()
        entry = entry.next
    return None
