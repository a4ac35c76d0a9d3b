"""Letting many messages be gone at once, and deleting their records little by little.

A prune of a million messages notes the range of their ids in ``State.doomed``, in the transaction that needs the room.
Every write transaction after it deletes a slice of the records, and one that stores messages deletes more than it
stores: so none of them is long, and the file does not grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from persipubsub.engine.local import blocks
from persipubsub.engine.local.format import HOLDERS, pack_id, unpack_id
from persipubsub.engine.local.work import Work

if TYPE_CHECKING:
    from persipubsub.engine.local.store import Store

#: What each write transaction deletes at most: so many messages, and bytes of payload but for the last of them.
SLICE = 64
SLICE_BYTES = 64 << 20
#: What it deletes if it has nothing else to do.
LARGE_SLICE = 1000
#: If there are more ranges than this, a transaction deletes until there are not: each costs every reader a look.
MOST_RANGES = 16


def doom(work: Work, start: int, end: int, messages: int, size: int) -> None:
    """Let all messages from ``start`` to ``end`` (excluded) be gone.

    :param messages: how many that are
    :param size: their bytes of payload
    """
    state = work.state
    state.messages -= messages
    state.payload_bytes -= size
    apart = []
    low, high = start, end
    for range_start, range_end in state.doomed:
        if range_end < start or end < range_start:
            apart.append((range_start, range_end))
        else:
            low, high = min(low, range_start), max(high, range_end)
    state.doomed = tuple(sorted([*apart, (low, high)]))
    blocks.take(work, start, end)
    work.touched = True
    work.ring_for_room()
    while len(state.doomed) > MOST_RANGES:
        reclaim(work, LARGE_SLICE)


def reclaim(work: Work, most: int, most_bytes: int = SLICE_BYTES) -> None:
    """Delete records of messages that are gone, the newest first.

    Not the oldest: where large messages push out many small ones, the room of the large ones is soon free again.
    """
    state, txn = work.state, work.txn
    number = freed = 0
    while state.doomed and number < most and freed < most_bytes:
        start, end = state.doomed[-1]
        cursor = txn.cursor(db=work.data)
        there = cursor.prev() if cursor.set_range(pack_id(end)) else cursor.last()
        keys: list[bytes] = []
        if there:
            lowest = pack_id(start)
            for key, value in cursor.iterprev():
                found = bytes(key)
                if found < lowest or number >= most or freed >= most_bytes:
                    break
                keys.append(found)
                number += 1
                freed += len(value)
        if keys:
            _delete(work, keys)
        else:
            state.doomed = state.doomed[:-1]
            blocks.forget(work, start, end)
    work.touched = work.touched or bool(number)


def _delete(work: Work, keys: list[bytes]) -> None:
    txn, data, meta, pending = work.txn, work.data, work.meta, work.pending
    holders = txn.cursor(db=pending)
    held = holders.set_range(HOLDERS + keys[-1]) and bytes(holders.key()) <= HOLDERS + keys[0]
    for key in keys:
        txn.delete(key, b"", data)
        txn.delete(key, b"", meta)
        if held:
            txn.delete(HOLDERS + key, b"", pending)


def reclaim_all(store: Store) -> None:
    """Delete the records of all messages that are gone, a bounded number in each transaction."""

    def step(work: Work) -> bool:
        reclaim(work, LARGE_SLICE)
        return bool(work.state.doomed)

    while store.write(step, makes_room=True):
        pass


def next_held(work: Work, start: int, end: int) -> int:
    """Return the first id from ``start`` on that somebody holds; ``end`` if there is none before."""
    cursor = work.txn.cursor(db=work.pending)
    if cursor.set_range(HOLDERS + pack_id(start)):
        key = cursor.key()
        if bytes(key[:1]) == HOLDERS:
            return min(unpack_id(key, 1), end)
    return end
