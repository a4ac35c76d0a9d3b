"""How many messages are in each block of ids, and how large they are: a part of a queue is counted quickly by that.

A block has a record once all its ids are given; the block of the next id is counted in ``State``. Up to
``State.front``, the block of the oldest message, nothing is kept: there the messages themselves are counted. So a
queue that is consumed in order never touches a record but when the next id enters another block.
"""

import struct

import msgspec

from persipubsub.engine.local.format import pack_id
from persipubsub.engine.local.living import Messages
from persipubsub.engine.local.work import Work

#: Ids in a block.
SIZE = 1024
#: Records that are not needed any more, forgotten at most when the front moves: more than come to be.
_FORGOTTEN = 4
_RECORD = struct.Struct(">QQ")


class Part(msgspec.Struct, frozen=True):
    """Messages at one end of the queue."""

    #: The id of the innermost.
    edge: int
    messages: int
    size: int


# -- keeping count -------------------------------------------------------------------------------------


def advance(work: Work, next_id: int) -> None:
    """Let the next id be another one; the block that it leaves gets its record."""
    state = work.state
    block = state.next_id // SIZE
    if next_id // SIZE != block:
        if state.tail_messages and block > state.front:
            _put(work, block, state.tail_messages, state.tail_bytes)
        state.tail_messages = state.tail_bytes = 0
    state.next_id = next_id


def append(work: Work, message_id: int, size: int) -> None:
    """Count a new message, at or beyond the next id."""
    if message_id != work.state.next_id:
        advance(work, message_id)
    work.state.tail_messages += 1
    work.state.tail_bytes += size
    advance(work, message_id + 1)


def remove(work: Work, message_id: int, size: int) -> None:
    """Count one message less: it was deleted, and stood behind the front as far as that was known."""
    state = work.state
    block = message_id // SIZE
    _move_front(work)
    if block > state.front:
        messages, stored = of(work, block)
        _set(work, block, messages - 1, stored - size)


def take(work: Work, start: int, end: int) -> None:
    """Count the messages from ``start`` to ``end`` (excluded) no more: they were doomed."""
    _move_front(work)
    for block in {start // SIZE, end // SIZE}:
        if block > work.state.front:
            _set(work, block, *count(work, block))


def forget(work: Work, start: int, end: int) -> None:
    """Delete the records of the blocks between two ids, where nothing is any more."""
    cursor = work.txn.cursor(db=work.blocks)
    first, last = pack_id(-(-start // SIZE)), pack_id(end // SIZE)
    while cursor.set_range(first) and bytes(cursor.key()) < last:
        cursor.delete()


def clear(work: Work) -> None:
    """Count nothing: all messages are gone."""
    state = work.state
    work.txn.drop(work.blocks, delete=False)
    state.tail_messages = state.tail_bytes = 0
    state.front = state.next_id // SIZE


def of(work: Work, block: int) -> tuple[int, int]:
    """Return how many messages a block behind the front has, and how many bytes."""
    state = work.state
    if block == state.next_id // SIZE:
        return state.tail_messages, state.tail_bytes
    record = work.txn.get(pack_id(block), None, work.blocks)
    if record is None:
        return 0, 0
    messages, size = _RECORD.unpack(record)
    return messages, size


def count(work: Work, block: int) -> tuple[int, int]:
    """Return the same by counting the messages."""
    messages = size = 0
    cursor = Messages(work, work.data)
    there = cursor.at(block * SIZE)
    while there and cursor.id < (block + 1) * SIZE:
        messages += 1
        size += len(cursor.value)
        there = cursor.next()
    return messages, size


def _set(work: Work, block: int, messages: int, size: int) -> None:
    state = work.state
    if block == state.next_id // SIZE:
        state.tail_messages, state.tail_bytes = messages, size
    elif messages:
        _put(work, block, messages, size)
    else:
        work.txn.delete(pack_id(block), db=work.blocks)


def _put(work: Work, block: int, messages: int, size: int) -> None:
    work.txn.put(pack_id(block), _RECORD.pack(messages, size), db=work.blocks)


def _move_front(work: Work) -> None:
    state = work.state
    cursor = Messages(work, work.data)
    front = (cursor.id if cursor.at(0) else state.next_id) // SIZE
    if front <= state.front:
        return
    state.front = front
    records = work.txn.cursor(db=work.blocks)
    for _ in range(_FORGOTTEN):
        if not records.first() or bytes(records.key()) > pack_id(front):
            break
        records.delete()


# -- measuring -----------------------------------------------------------------------------------------


def oldest(work: Work, start: int, end: int, messages: int, size: int) -> Part:
    """Measure the first messages from ``start`` on: just so many and of so many bytes, or all before ``end``."""
    cursor = Messages(work, work.data)
    edge = found = bytes_found = 0
    there = cursor.at(start)
    while there and cursor.id < end and (found < messages or bytes_found < size):
        block = cursor.id // SIZE
        following = (block + 1) * SIZE
        if block > work.state.front and start <= block * SIZE and following <= end:
            more, larger = of(work, block)
            if found + more < messages or bytes_found + larger < size:
                found, bytes_found = found + more, bytes_found + larger
                edge = following - 1
                there = cursor.at(following)
                continue
        while there and cursor.id < min(following, end) and (found < messages or bytes_found < size):
            found += 1
            bytes_found += len(cursor.value)
            edge = cursor.id
            there = cursor.next()
    return Part(cursor.id if found and cursor.before(edge + 1) else start, found, bytes_found)


def newest(work: Work, messages: int, size: int) -> Part:
    """Measure the last messages: just so many and of so many bytes, or all."""
    cursor = Messages(work, work.data)
    edge = found = bytes_found = 0
    there = cursor.last()
    while there and (found < messages or bytes_found < size):
        block = cursor.id // SIZE
        if block > work.state.front:
            more, larger = of(work, block)
            if found + more < messages or bytes_found + larger < size:
                found, bytes_found = found + more, bytes_found + larger
                edge = block * SIZE
                there = cursor.before(edge)
                continue
        while there and cursor.id >= block * SIZE and (found < messages or bytes_found < size):
            found += 1
            bytes_found += len(cursor.value)
            edge = cursor.id
            there = cursor.prev()
    return Part(cursor.id if found and cursor.at(edge) else work.state.next_id, found, bytes_found)
