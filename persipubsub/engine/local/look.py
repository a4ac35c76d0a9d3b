"""Reading without a trace: statistics, browsing, positions."""

import os
from collections import Counter

from persipubsub.engine.figures import OwnerStatistics, Statistics, SubscriberStatistics
from persipubsub.engine.local import format, gaps, living, owners, roster
from persipubsub.engine.local.format import DELAYED, LEASED, OWNER, READY, pack_id, unpack_id
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.living import Messages
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.work import Work
from persipubsub.engine.messages import Retained
from persipubsub.errors import QueueDamagedError


def subscriber_dbs(store: Store) -> list[bytes]:
    """Return the names of the subscribers' sub-databases."""
    with store.read() as txn:
        return [format.subscriber_db(name.encode()) for name in roster.names(Work(store, txn))]


def statistics(store: Store) -> Statistics:
    """Return consistent figures of the queue and its subscribers."""
    names = subscriber_dbs(store)
    with store.read(*names) as txn:
        work = Work(store, txn)
        state = work.state
        first, following = roster.bounds(work)
        oldest = txn.get(pack_id(first), db=work.meta)
        created = txn.get(format.KEY_CREATED, db=work.queue)
        return Statistics(
            identity=bytes(txn.get(format.KEY_IDENTITY, db=work.queue) or b"").decode(),
            created_ns=0 if created is None else unpack_id(created),
            messages=state.messages,
            payload_bytes=state.payload_bytes,
            file_bytes=os.stat(store.path / "data.mdb").st_blocks * 512,
            first_id=first if oldest is not None else None,
            last_id=_last_id(work) if oldest is not None else None,
            oldest_age=None if oldest is None else (work.now_ns - format.sent_at(oldest)) / 1e9,
            published=state.published,
            deduplicated=state.deduplicated,
            unrouted=state.unrouted,
            pruned_overflow=state.pruned_overflow,
            pruned_timeout=state.pruned_timeout,
            subscribers=tuple(
                _subscriber(work, identifier, following)
                for identifier in roster.names(work)
                if work.can_read(identifier)  # not one added since
            ),
        )


def _last_id(work: Work) -> int:
    messages = Messages(work, work.data)
    messages.last()
    return messages.id


def _subscriber(work: Work, identifier: str, following: int) -> SubscriberStatistics:
    desk = Desk(work, identifier)
    record = desk.record
    overflow, timeout = gaps.losses_between(desk, record.position, following)
    leased_by: Counter[int] = Counter()
    counts = {READY: record.ready, DELAYED: record.delayed, LEASED: record.leased}
    pruned = work.state.pruned_overflow or work.state.pruned_timeout
    for kind in [kind for kind, number in counts.items() if number and (pruned or kind == LEASED)]:
        for message_id, hold in desk.each(kind):
            if pruned and not desk.exists(message_id, hold):
                # A limit took what the subscriber holds; it notices when it comes by, we do now.
                counts[kind] -= 1
                overflow += 1
            elif kind == LEASED:
                leased_by[hold.owner] += 1
    return SubscriberStatistics(
        identifier=identifier,
        position=record.position,
        waiting=gaps.waiting_between(desk, record.position, following) + counts[READY],
        leased=counts[LEASED],
        delayed=counts[DELAYED],
        dead=record.dead,
        deliveries=record.deliveries,
        settled=record.settled,
        redelivered=record.redelivered,
        lost=record.lost + overflow,
        expired=record.expired + timeout,
        paused=record.paused,
        last_taken_ns=record.last_taken_ns or None,
        last_settled_ns=record.last_settled_ns or None,
        owners=tuple(_owners(desk, leased_by)),
    )


def _owners(desk: Desk, leased_by: Counter[int]) -> list[OwnerStatistics]:
    found = []
    for owner in desk.owners():
        record = desk.txn.get(OWNER + pack_id(owner), db=desk.db)
        if record is not None and desk.work.store.is_alive(owner):
            who = format.decode_owner(record)
            leased, elsewhere = leased_by[owner], owners.is_elsewhere(who)
            found.append(OwnerStatistics(who.pid, who.command, who.since_ns, leased, elsewhere))
    return found


def browse(store: Store, start: int, most: int, most_bytes: int = 16 << 20) -> list[Retained]:
    """Return retained messages from an id on; fewer than asked for if they are large, but at least one.

    :raise QueueDamagedError: a message does not agree with its checksum
    """
    found: list[Retained] = []
    size = 0
    with store.read() as txn:
        work = Work(store, txn)
        messages = Messages(work, work.data)
        there = messages.at(max(start, 0))
        while there and len(found) < most and size < most_bytes:
            message_id = messages.id
            stored = txn.get(pack_id(message_id), db=work.meta)
            data = bytes(messages.value)
            if stored is None or not format.is_intact(message_id, stored, data):
                raise QueueDamagedError(
                    f"Message {message_id} of queue {store.path} is damaged; run `persipubsub check` for the extent."
                )
            meta = format.unpack_meta(stored)
            found.append(Retained(message_id, data, meta.headers, meta.topic, meta.sent_ns))
            size += len(data)
            there = messages.next()
    return found


def find_position(work: Work, identifier: str, *, back: int | None, sent_ns: int | None) -> int:
    """Return the id ``back`` messages before a subscriber's position, or the first sent at or after a time."""
    position = roster.read(work, identifier).position
    first, following = roster.bounds(work)
    if sent_ns is not None:
        return living.first_sent(work, first, following, sent_ns)
    messages = Messages(work, work.meta)
    there = messages.before(position)
    for _ in range(back or 0):
        if not there:
            break
        position = messages.id
        there = messages.prev()
    return max(position, first)
