"""Where messages are deleted: consumed ones, expired ones, and those that limits take.

Each function touches what it deletes and nothing else: neither the whole queue nor the subscribers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from persipubsub.engine import events
from persipubsub.engine.local import blocks, doom, format
from persipubsub.engine.local.blocks import Part
from persipubsub.engine.local.format import HOLDERS, OVERFLOW, POSITIONS, TIMEOUT, pack_id, unpack_id
from persipubsub.engine.local.living import Messages, first_sent, is_doomed, meta
from persipubsub.engine.local.work import Work, put_all
from persipubsub.limits import Retention

if TYPE_CHECKING:
    from persipubsub.engine.local.store import Store

#: Consumed messages that one transaction deletes at most.
SWEEP = 1000
#: As many as limits take are deleted at once; more are doomed.
AT_ONCE = 64


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


def hold(work: Work, ids: Iterable[int]) -> None:
    """Count one more subscriber that holds each of these very messages."""
    get, pending = work.txn.get, work.pending
    counts = []
    for message_id in ids:
        key = HOLDERS + pack_id(message_id)
        record = get(key, None, pending)
        counts.append((key, pack_id(1 if record is None else unpack_id(record) + 1)))
    put_all(work.txn, pending, counts)
    work.touched = True


def let_go(work: Work, message_id: int) -> bool:
    """Count one holder less; the last one below the lowest position takes the message with it.

    :return: whether the message was still there
    """
    if add(work, HOLDERS, message_id, -1) <= 0 and message_id < work.state.swept and not _is_log(work):
        return _delete_consumed(work, message_id) is not None
    return meta(work, message_id) is not None


# -- deleting --------------------------------------------------------------------------------------


def _is_log(work: Work) -> bool:
    return work.settings.retention is Retention.LOG


def delete(work: Work, message_id: int) -> int | None:
    """Delete one message; return the size of its payload, or ``None`` if it was gone before."""
    key = pack_id(message_id)
    txn, state = work.txn, work.state
    data = txn.get(key, None, work.data)
    if data is None or (state.doomed and is_doomed(state, message_id)):
        return None
    size = len(data)
    txn.delete(key, b"", work.data)
    txn.delete(key, b"", work.meta)
    state.messages -= 1
    state.payload_bytes -= size
    if message_id // blocks.SIZE > state.front:
        blocks.remove(work, message_id, size)
    work.touched = True
    work.ring_for_room()
    return size


def _delete_consumed(work: Work, message_id: int) -> int | None:
    """Delete a message that nobody needs; return the size of its payload, or ``None`` if it was gone before."""
    state = work.state
    if state.dense <= message_id:
        state.dense = message_id + 1
    return delete(work, message_id)


def _take_away(work: Work, message_id: int) -> None:
    """Delete a message that somebody may still need."""
    work.txn.delete(HOLDERS + pack_id(message_id), db=work.pending)
    delete(work, message_id)


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
    messages = Messages(work, work.data)
    there = messages.at(state.swept)
    while there and seen < most:
        message_id = messages.id
        if message_id >= state.low:
            break
        seen += 1
        state.swept = message_id + 1
        if not count(work, HOLDERS, message_id):
            _delete_consumed(work, message_id)
            deleted += 1
        there = messages.at(message_id + 1)
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
        if not cursor.first():
            return
        end = format.decode_gone(cursor.value()).end
        if end > state.low:
            return
        cursor.delete()
        state.dense = max(state.dense, end)  # who goes back to before finds a hole that no record tells of
        state.gone -= 1
        work.touched = True


def _record_gone(work: Work, start: int, end: int, cause: int) -> None:
    """Remember, for those who need them, that a limit takes what is there from ``start`` to ``end`` (excluded)."""
    state = work.state
    if start < state.low:
        state.dense = max(state.dense, min(end, state.low))  # who goes back to before finds holes
        start = state.low
    if end <= start or not state.subscribers:
        return
    for run_start, run_end in _runs(work, start, end):
        _record_run(work, run_start, run_end, cause)
    work.touched = True


def _runs(work: Work, start: int, end: int) -> list[tuple[int, int]]:
    """Return the ranges of ids that have not been consumed: there are holes if somebody went back beyond them."""
    dense = min(max(work.state.dense, start), end)
    runs: list[tuple[int, int]] = [(dense, end)] if dense < end else []
    messages = Messages(work, work.meta)
    while dense > start and messages.before(dense) and messages.id >= start:
        dense = messages.id
        following = runs.pop()[1] if runs and runs[-1][0] == dense + 1 else dense + 1
        runs.append((dense, following))
    return runs


def _record_run(work: Work, start: int, end: int, cause: int) -> None:
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


def expire(work: Work) -> int:
    """Delete the messages that are older than the message timeout; return how many."""
    timeout = work.settings.high_water_mark.message_timeout
    state = work.state
    if timeout is None or not state.messages:
        return 0
    cutoff = work.now_ns - int(timeout * 1e9)
    messages = Messages(work, work.meta)
    if not messages.at(0) or format.sent_at(messages.value) >= cutoff:
        return 0
    first = messages.id
    part = blocks.oldest(work, 0, first_sent(work, first, state.next_id, cutoff), state.messages + 1, 0)
    needed = part.edge >= state.low or doom.next_held(work, first, part.edge + 1) <= part.edge
    _record_gone(work, first, part.edge + 1, TIMEOUT)
    _take_part(work, 0, part.edge + 1, part)
    state.pruned_timeout += part.messages
    state.swept = max(state.swept, min(part.edge + 1, state.low))
    work.events.append(events.pruned_timeout(part.messages, timeout, needed=needed))
    return part.messages


def prune_oldest(work: Work, messages: int, payload: int) -> int:
    """Delete the oldest messages, at least so many and so many bytes of payload."""
    cursor = Messages(work, work.data)
    if not cursor.at(0):
        return 0
    part = blocks.oldest(work, 0, work.state.next_id, messages, payload)
    return _prune(work, "oldest", 0, part, cursor.id, part.edge + 1)


def prune_newest(work: Work, messages: int, payload: int) -> int:
    """Delete the newest messages, at least so many and so many bytes of payload."""
    cursor = Messages(work, work.data)
    if not cursor.last():
        return 0
    part = blocks.newest(work, messages, payload)
    return _prune(work, "newest", part.edge, part, part.edge, cursor.id + 1)


def _prune(work: Work, which: str, start: int, part: Part, first: int, end: int) -> int:
    _record_gone(work, first, end, OVERFLOW)
    _take_part(work, start, end, part)
    work.state.pruned_overflow += part.messages
    work.events.append(events.pruned_overflow(which, part.messages, part.size))
    return part.messages


def _take_part(work: Work, start: int, end: int, part: Part) -> None:
    """Delete a part of the queue that somebody may still need: at once if it is small."""
    if part.messages > AT_ONCE:
        doom.doom(work, start, end, part.messages, part.size)
        return
    messages = Messages(work, work.data)
    while messages.at(start) and messages.id < end:
        start = messages.id
        _take_away(work, start)


def prune_consumed(work: Work, messages: int, payload: int) -> tuple[int, int]:
    """Delete, from a log, the oldest messages that every subscriber has consumed; return how many and their bytes."""
    state = work.state
    deleted = freed = start = 0
    while deleted < messages or freed < payload:
        cursor = Messages(work, work.data)
        if not cursor.at(start) or cursor.id >= state.low:
            break
        held = doom.next_held(work, cursor.id, state.low)
        part = blocks.oldest(work, start, held, messages - deleted, payload - freed)
        if part.messages:
            _take_part(work, start, part.edge + 1, part)
            state.dense = max(state.dense, part.edge + 1)
            deleted, freed = deleted + part.messages, freed + part.size
        start = held + 1 if part.edge + 1 >= held or not part.messages else part.edge + 1
    state.pruned_overflow += deleted
    if deleted:
        work.events.append(events.pruned_consumed(deleted, freed))
    return deleted, freed
