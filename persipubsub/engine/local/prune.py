"""Where messages are deleted: consumed ones, expired ones, and those that limits take.

Each function touches what it deletes and nothing else: neither the whole queue nor the subscribers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from persipubsub.engine import events
from persipubsub.engine.local import format
from persipubsub.engine.local.format import HOLDERS, OVERFLOW, POSITIONS, TIMEOUT, pack_id, unpack_id
from persipubsub.engine.local.work import Work
from persipubsub.limits import Retention

if TYPE_CHECKING:
    from persipubsub.engine.local.store import Store

#: Consumed messages that one transaction deletes at most, and expired ones.
SWEEP = 1000
EXPIRE = 10_000


# -- pending counts --------------------------------------------------------------------------------


def count(work: Work, kind: bytes, message_id: int) -> int:
    """Return a pending count."""
    record = work.txn.get(kind + pack_id(message_id), db=work.pending)
    return 0 if record is None else unpack_id(record)


def add(work: Work, kind: bytes, message_id: int, change: int) -> int:
    """Change a pending count and return what it is now; a record of zero is not kept."""
    key = kind + pack_id(message_id)
    txn, pending = work.txn, work.pending
    record = txn.get(key, None, pending)
    number = change
    if record is not None:
        number += unpack_id(record)
    if number > 0:
        txn.put(key, pack_id(number), True, True, False, pending)
    elif record is not None:
        txn.delete(key, b"", pending)
    work.touched = True
    return number


def lowest_position(work: Work) -> int:
    """Return the lowest position of all subscribers; the next id if there are none."""
    cursor = work.txn.cursor(db=work.pending)
    if cursor.set_range(POSITIONS):
        key = cursor.key()
        if bytes(key[:1]) == POSITIONS:
            return unpack_id(key, 1)
    return work.state.next_id


def move_position(work: Work, old: int | None, new: int | None) -> None:
    """Count a position that moved, appeared (``old`` is None) or vanished (``new`` is None)."""
    state = work.state
    if old is not None:
        add(work, POSITIONS, old, -1)
    if new is not None:
        add(work, POSITIONS, new, +1)
    if new is not None and new < state.swept:
        state.swept = new
    if state.subscribers == 1 and new is not None:
        state.low = new
    elif old is None or old == state.low or (new is not None and new < state.low):
        state.low = lowest_position(work)


def hold(work: Work, message_id: int) -> None:
    """Count one more subscriber that holds this very message."""
    add(work, HOLDERS, message_id, +1)


def let_go(work: Work, message_id: int) -> None:
    """Count one holder less; the last one below the lowest position takes the message with it."""
    if add(work, HOLDERS, message_id, -1) <= 0 and message_id < work.state.swept and not _is_log(work):
        _delete_consumed(work, message_id)


# -- deleting --------------------------------------------------------------------------------------


def _is_log(work: Work) -> bool:
    return work.settings.retention is Retention.LOG


def delete(work: Work, message_id: int) -> int | None:
    """Delete one message; return the size of its payload, or ``None`` if it was gone before."""
    key = pack_id(message_id)
    txn, state = work.txn, work.state
    data = txn.get(key, None, work.data)
    if data is None:
        return None
    size = len(data)
    txn.delete(key, b"", work.data)
    txn.delete(key, b"", work.meta)
    state.messages -= 1
    state.payload_bytes -= size
    work.touched = True
    work.ring_for_room()
    return size


def _delete_consumed(work: Work, message_id: int) -> int:
    """Delete a message that nobody needs; return the size of its payload."""
    work.state.dense = max(work.state.dense, message_id + 1)
    return delete(work, message_id) or 0


def _take_away(work: Work, message_id: int) -> tuple[int, bool]:
    """Delete a message that somebody may still need; return the size of its payload, and whether somebody held it."""
    held = work.txn.delete(HOLDERS + pack_id(message_id), db=work.pending)
    return delete(work, message_id) or 0, held


def sweep(work: Work, most: int = SWEEP) -> int:
    """Delete messages that every position has passed and nobody holds; a bounded number of them."""
    state = work.state
    if state.swept >= state.low:
        return 0
    if _is_log(work):
        state.swept = state.low
        return 0
    deleted = 0
    seen = 0
    cursor = work.txn.cursor(db=work.data)
    there = cursor.set_range(pack_id(state.swept))
    while there and seen < most:
        message_id = unpack_id(cursor.key())
        if message_id >= state.low:
            break
        seen += 1
        state.swept = message_id + 1
        if not count(work, HOLDERS, message_id):
            _delete_consumed(work, message_id)
            deleted += 1
        there = cursor.set_range(pack_id(message_id + 1))
    else:
        if seen == most:
            return deleted
    state.swept = state.low
    forget_gone(work)
    return deleted


def has_more(work: Work) -> bool:
    """Tell whether a sweep has stopped at its bound."""
    return work.state.swept < work.state.low


def sweep_all(store: Store) -> None:
    """Delete what nobody needs any more, a bounded number in each transaction."""

    def step(work: Work) -> bool:
        sweep(work)
        return has_more(work)

    while store.write(step, makes_room=True):
        pass


def forget_gone(work: Work) -> None:
    """Drop the records of what limits took before every position."""
    state = work.state
    while state.gone:
        cursor = work.txn.cursor(db=work.gone)
        if not cursor.first() or format.decode_gone(cursor.value()).end > state.low:
            return
        cursor.delete()
        state.gone -= 1
        work.touched = True


def _record_gone(work: Work, start: int, end: int, cause: int) -> None:
    """Remember that a limit took the ids from ``start`` to ``end`` (excluded), for those who need them."""
    state = work.state
    start = max(start, state.low)
    if end <= start or not state.subscribers:
        return
    cursor = work.txn.cursor(db=work.gone)
    # What the range covers of older ones keeps its own cause: only the rest is new.
    pieces = []
    at = start
    if cursor.set_range(pack_id(start)) or cursor.last():
        if unpack_id(cursor.key()) > start and not cursor.prev():
            cursor.first()
        while True:
            first, gone = unpack_id(cursor.key()), format.decode_gone(cursor.value())
            if first >= end:
                break
            if gone.end > at:
                if first > at:
                    pieces.append((at, first))
                at = gone.end
            if not cursor.next():
                break
    if at < end:
        pieces.append((at, end))
    for piece_start, piece_end in pieces:
        _merge_gone(work, piece_start, piece_end, cause)
    work.touched = True


def _merge_gone(work: Work, start: int, end: int, cause: int) -> None:
    epoch = work.state.epoch
    cursor = work.txn.cursor(db=work.gone)
    if cursor.set_range(pack_id(end)) and unpack_id(cursor.key()) == end:
        after = format.decode_gone(cursor.value())
        if (after.cause, after.epoch) == (cause, epoch):
            cursor.delete()
            work.state.gone -= 1
            end = after.end
    there = cursor.prev() if cursor.set_range(pack_id(start)) else cursor.last()
    if there:
        before = format.decode_gone(cursor.value())
        if before.end == start and (before.cause, before.epoch) == (cause, epoch):
            start = unpack_id(cursor.key())
            work.state.gone -= 1
    work.txn.put(pack_id(start), format.encode(format.Gone(end, cause, epoch)), db=work.gone)
    work.state.gone += 1


def gone_between(work: Work, start: int, end: int) -> list[tuple[int, format.Gone]]:
    """Return what limits took of the ids from ``start`` to ``end``: the first id and the record of each piece."""
    if not work.state.gone:
        return []
    pieces = []
    cursor = work.txn.cursor(db=work.gone)
    there = cursor.set_range(pack_id(start)) or cursor.last()
    if there and unpack_id(cursor.key()) > start:
        there = cursor.prev() or cursor.first()
    while there:
        first, gone = unpack_id(cursor.key()), format.decode_gone(cursor.value())
        if first >= end:
            break
        if gone.end > start:
            gone.end = min(gone.end, end)
            pieces.append((max(first, start), gone))
        there = cursor.next()
    return pieces


# -- limits ----------------------------------------------------------------------------------------


def expire(work: Work, most: int = EXPIRE) -> int:
    """Delete the oldest messages that are older than the message timeout; a bounded number of them."""
    timeout = work.settings.high_water_mark.message_timeout
    if timeout is None or not work.state.messages:
        return 0
    cutoff = work.now_ns - int(timeout * 1e9)
    cursor = work.txn.cursor(db=work.meta)
    first = last = None
    deleted = 0
    needed = False
    while deleted < most and cursor.first() and format.sent_at(cursor.value()) < cutoff:
        last = unpack_id(cursor.key())
        if first is None:
            first = last
        _, held = _take_away(work, last)
        needed = needed or held or last >= work.state.low
        deleted += 1
    if first is not None and last is not None:
        work.state.pruned_timeout += deleted
        _record_gone(work, first, last + 1, TIMEOUT)
        work.state.swept = max(work.state.swept, min(last + 1, work.state.low))
        work.events.append(events.pruned_timeout(deleted, timeout, needed=needed))
    return deleted


def prune_oldest(work: Work, messages: int, payload: int) -> int:
    """Delete the oldest messages, at least so many and so many bytes of payload."""
    return _prune(work, messages, payload, newest=False)


def prune_newest(work: Work, messages: int, payload: int) -> int:
    """Delete the newest messages, at least so many and so many bytes of payload."""
    return _prune(work, messages, payload, newest=True)


def _prune(work: Work, messages: int, payload: int, *, newest: bool) -> int:
    cursor = work.txn.cursor(db=work.data)
    deleted = freed = 0
    low = high = None
    while (deleted < messages or freed < payload) and (cursor.last() if newest else cursor.first()):
        message_id = unpack_id(cursor.key())
        freed += _take_away(work, message_id)[0]
        deleted += 1
        low = message_id if low is None else min(low, message_id)
        high = message_id if high is None else max(high, message_id)
    if low is not None and high is not None:
        work.state.pruned_overflow += deleted
        _record_gone(work, low, high + 1, OVERFLOW)
        work.events.append(events.pruned_overflow("newest" if newest else "oldest", deleted, freed))
    return deleted


def prune_consumed(work: Work, messages: int, payload: int) -> tuple[int, int]:
    """Delete, from a log, the oldest messages that every subscriber has consumed; return how many and their bytes."""
    cursor = work.txn.cursor(db=work.data)
    deleted = freed = 0
    at = 0
    while (deleted < messages or freed < payload) and cursor.set_range(pack_id(at)):
        message_id = unpack_id(cursor.key())
        if message_id >= work.state.low:
            break
        at = message_id + 1
        if not count(work, HOLDERS, message_id):
            freed += _delete_consumed(work, message_id)
            deleted += 1
    work.state.pruned_overflow += deleted
    if deleted:
        work.events.append(events.pruned_consumed(deleted, freed))
    return deleted, freed
