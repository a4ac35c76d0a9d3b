"""Where a message is written: ``put`` gives ids and stores messages, inside one write transaction."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from persipubsub.engine import events
from persipubsub.engine.local import blocks, doom, format, prune, removal
from persipubsub.engine.local.format import SEEN, SEEN_AT, Meta, pack_id, unpack_id
from persipubsub.engine.local.work import Work, put_all
from persipubsub.engine.messages import Entry
from persipubsub.errors import MessageTooLargeError, QueueFullError
from persipubsub.limits import Retention, Strategy

if TYPE_CHECKING:
    from persipubsub.engine.local.store import Store

#: Deduplication ids that a send forgets at most: more than one send adds.
_AGEING = 4


class Publication:
    """Messages on their way into a transaction: what can be computed before, is."""

    __slots__ = ("digests", "entries", "size")

    def __init__(self, entries: Sequence[Entry], store: Store | None = None) -> None:
        """Compute the digests of the payloads, which takes time for large ones.

        :param store: where they are to be stored: what is too large for it keeps nobody from writing
        :raise MessageTooLargeError: so is one of them
        """
        self.entries = entries
        most = sys.maxsize if store is None else store.largest_known
        self.digests: list[int] = []
        #: Bytes of payload.
        self.size = 0
        for entry in entries:
            if entry.size > most and store is not None:
                most = store.largest_payload()
                if entry.size > most:
                    raise _too_large(entry, store, most)
            self.digests.append(format.payload_digest(entry.data))
            self.size += entry.size

    def __bool__(self) -> bool:
        return bool(self.digests)

    def put(self, work: Work) -> list[int]:
        """Store the messages and return their ids, in order.

        :raise MessageTooLargeError: a message, or the batch, can never fit
        :raise QueueFullError: there is no room, and the strategy makes none
        """
        state, settings, entries = work.state, work.settings, self.entries
        most = settings.max_message_bytes
        known = False
        for entry in entries:
            if entry.size > most:
                raise _too_large(entry, work.store, most)
            known = known or entry.deduplication_id is not None
        if state.ephemerals:
            removal.reap(work)
        prune.expire(work)
        next_id = state.next_id
        fresh: Sequence[int] = range(len(entries))
        ids: list[int] = list(range(next_id, next_id + len(entries)))
        if known:
            ids, fresh = _recognise(work, entries)
        if fresh:
            if state.subscribers or settings.retention is Retention.LOG:
                size = sum([entries[index].size for index in fresh]) if known else self.size
                _make_room(work, len(fresh), size)
                _write(work, entries, self.digests, fresh)
                work.ring_for_messages()
            else:
                if not state.unrouted:
                    work.events.append(events.unrouted())
                state.unrouted += len(fresh)
                blocks.advance(work, state.next_id + len(fresh))
                state.low = state.swept = state.next_id
        if state.swept < state.low:
            prune.sweep(work)
        if state.doomed:
            # Twice what is stored: records of what is gone never pile up.
            doom.reclaim(work, 2 * len(fresh), max(doom.SLICE_BYTES, 2 * self.size))
        return ids


def _too_large(entry: Entry, store: Store, most: int) -> MessageTooLargeError:
    return MessageTooLargeError(
        f"The message has {entry.size} bytes, queue {store.path} accepts {most} (max_message_bytes): split it, or "
        "configure the queue."
    )


def _recognise(work: Work, entries: Sequence[Entry]) -> tuple[list[int], list[int]]:
    """Return the ids of all entries, and the indices of those that are not repetitions."""
    next_id = work.state.next_id
    window = int(work.settings.deduplication_window * 1e9)
    ids: list[int] = []
    fresh: list[int] = []
    for index, entry in enumerate(entries):
        known = entry.deduplication_id
        if known is not None and window:
            _forget_old(work, window)
            record = work.txn.get(SEEN + known, db=work.deduplication)
            if record is not None and work.now_ns - unpack_id(record, 8) <= window:
                ids.append(unpack_id(record))
                work.state.deduplicated += 1
                continue
            if record is not None:
                work.txn.delete(SEEN_AT + bytes(record[8:16]) + bytes(record[:8]), db=work.deduplication)
            seen_at = pack_id(work.now_ns)
            work.txn.put(SEEN + known, pack_id(next_id) + seen_at, db=work.deduplication)
            work.txn.put(SEEN_AT + seen_at + pack_id(next_id), known, db=work.deduplication)
        ids.append(next_id)
        fresh.append(index)
        next_id += 1
    return ids, fresh


def _forget_old(work: Work, window: int) -> None:
    """Forget a few deduplication ids that have aged out of the window."""
    cursor = work.txn.cursor(db=work.deduplication)
    for _ in range(_AGEING):
        if not cursor.set_range(SEEN_AT) or work.now_ns - unpack_id(cursor.key(), 1) <= window:
            return
        known = bytes(cursor.value())
        cursor.delete()
        work.txn.delete(SEEN + known, db=work.deduplication)
        work.touched = True


def _make_room(work: Work, messages: int, payload: int) -> None:
    """Prune as the strategy says, so that the batch fits below the mark.

    :raise MessageTooLargeError: the batch alone has more bytes than the mark allows
    :raise QueueFullError: the batch alone has more messages than the mark allows, or nothing may be pruned
    """
    state, settings = work.state, work.settings
    most, most_bytes = settings.high_water_mark.max_messages, settings.high_water_mark.max_bytes
    if most is not None and messages > most:
        raise QueueFullError(
            f"{messages} messages are to be sent at once, queue {work.store.path} holds {most} "
            "(high_water_mark.max_messages): send fewer at a time, or configure the queue."
        )
    if most_bytes is not None and payload > most_bytes:
        raise MessageTooLargeError(
            f"{payload} bytes are to be sent at once, queue {work.store.path} holds {most_bytes} "
            "(high_water_mark.max_bytes): send less at a time, or configure the queue."
        )
    over = most is not None and state.messages + messages > most
    over_bytes = most_bytes is not None and state.payload_bytes + payload > most_bytes
    if not over and not over_bytes:
        return
    if settings.retention is Retention.LOG:
        prune.prune_consumed(
            work,
            state.messages + messages - most if over and most is not None else 0,
            state.payload_bytes + payload - most_bytes if over_bytes and most_bytes is not None else 0,
        )
        over = most is not None and state.messages + messages > most
        over_bytes = most_bytes is not None and state.payload_bytes + payload > most_bytes
        if not over and not over_bytes:
            return
    if settings.strategy in (Strategy.REJECT, Strategy.BLOCK):
        raise QueueFullError(
            f"Queue {work.store.path} is full: {state.messages} messages, {state.payload_bytes} bytes; "
            "nothing was stored: let the subscribers catch up, or configure another mark or strategy."
        )
    too_many = too_much = 0
    if over and most is not None:
        too_many = state.messages - min(most // 2, most - messages)
    if over_bytes and most_bytes is not None:
        too_much = state.payload_bytes - min(most_bytes // 2, most_bytes - payload)
    (prune.prune_oldest if settings.strategy is Strategy.PRUNE_FIRST else prune.prune_newest)(work, too_many, too_much)


def _write(work: Work, entries: Sequence[Entry], digests: Sequence[int], fresh: Sequence[int]) -> None:
    """Append messages, which are the newest of all."""
    state, now = work.state, work.now_ns
    message_id = state.next_id
    stored = state.payload_bytes
    payloads = []
    metas = []
    for index in fresh:
        entry = entries[index]
        key = pack_id(message_id)
        payloads.append((key, entry.data))
        metas.append((key, _meta(message_id, digests[index], entry, now)))
        state.payload_bytes += entry.size
        message_id += 1
    for database, items in ((work.data, payloads), (work.meta, metas)):
        put_all(work.txn, database, items, append=True)
    if not state.subscribers:
        state.low = state.swept = message_id  # a log without subscribers: all of it counts as consumed
    if message_id // blocks.SIZE == state.next_id // blocks.SIZE:
        state.next_id = message_id
        state.tail_messages += len(payloads)
        state.tail_bytes += state.payload_bytes - stored
    else:
        for index in fresh:
            blocks.append(work, state.next_id, entries[index].size)
    state.last_sent_ns = now
    state.messages += len(payloads)
    state.published += len(payloads)


def _meta(message_id: int, digest: int, entry: Entry, now: int) -> bytes:
    """Return the metadata record of a message that is sent now."""
    if not entry.headers and entry.topic is None and not entry.delay_ns and entry.expires_in_ns is None:
        return format.pack_plain_meta(message_id, digest, now)
    meta = Meta(
        now,
        0,
        now + entry.delay_ns if entry.delay_ns else 0,
        now + entry.expires_in_ns if entry.expires_in_ns is not None else 0,
        entry.topic,
        entry.headers,
    )
    return format.pack_meta(message_id, digest, meta)
