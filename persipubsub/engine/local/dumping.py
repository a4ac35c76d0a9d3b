"""Reading a whole queue as records, in short read transactions.

Messages come in pages. What subscribers hold is read in the same transaction as the last page: by then every message
that anybody still needs has been given, since it was there all the while.
"""

from collections.abc import Callable, Iterator

import msgspec

from persipubsub.engine.local import format, look, roster
from persipubsub.engine.local.format import AHEAD, DEAD, DELAYED, LEASED, OWN_DATA, READY, pack_id, unpack_id
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.living import Messages
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.work import Work
from persipubsub.engine.records import (
    RECORDS_VERSION,
    DeadRecord,
    EndRecord,
    HoldRecord,
    MessageRecord,
    QueueRecord,
    Record,
    StateRecord,
    SubscriberRecord,
)
from persipubsub.errors import QueueDamagedError

_MOST_BYTES = 16 << 20


def export(store: Store, start: int, most: int, sink: Callable[[Record], None]) -> int | None:
    """Give ``sink`` the queue (if ``start`` is 0) and the next messages; after the last message everything else.

    :return: where to go on; ``None`` at the end
    :raise QueueDamagedError: a message does not agree with its checksum
    """
    names = look.subscriber_dbs(store)
    page: list[Record] = []
    following: int | None = None
    size = 0
    with store.read(*names) as txn:
        work = Work(store, txn)
        if not start:
            page.append(_queue(work))
        messages = Messages(work, work.data)
        there = messages.at(start)
        while there:
            message_id = messages.id
            if len(page) >= most or size >= _MOST_BYTES:
                following = message_id
                break
            data = bytes(messages.value)
            size += len(data)
            page.append(_message(store, message_id, txn.get(pack_id(message_id), db=work.meta), data))
            there = messages.next()
        if following is None:
            for record in page:
                sink(record)
            page = []
            sink(StateRecord(next_id=work.state.next_id))
            for identifier in roster.names(work):
                if format.subscriber_db(identifier.encode()) in names:
                    for record in subscriber(Desk(work, identifier)):
                        sink(record)
            sink(EndRecord())
    for record in page:
        sink(record)
    return following


def _queue(work: Work) -> QueueRecord:
    created = work.txn.get(format.KEY_CREATED, db=work.queue)
    return QueueRecord(
        version=RECORDS_VERSION,
        identity=bytes(work.txn.get(format.KEY_IDENTITY, db=work.queue) or b"").decode(),
        created_ns=0 if created is None else unpack_id(created),
        settings=work.settings,
    )


def _message(store: Store, message_id: int, stored: bytes | memoryview | None, data: bytes) -> MessageRecord:
    if stored is None or not format.is_intact(message_id, stored, data):
        raise QueueDamagedError(
            f"Message {message_id} of queue {store.path} is damaged; save the rest with `persipubsub check --repair`."
        )
    return message_record(message_id, stored, data)


def message_record(message_id: int, stored: bytes | memoryview, data: bytes) -> MessageRecord:
    """Return the record of a message.

    :raise ValueError: the metadata is malformed
    """
    meta = format.unpack_meta(stored)
    return MessageRecord.of(
        message_id,
        data,
        sent_ns=meta.sent_ns,
        topic=meta.topic,
        headers=meta.headers,
        not_before_ns=meta.not_before_ns,
        expires_ns=meta.expires_ns,
    )


def subscriber(desk: Desk) -> Iterator[Record]:
    """Give a subscriber and what it has taken or set aside; an ephemeral one has nothing that lasts."""
    record = desk.record
    settings = roster.settings_of(record)
    if settings.ephemeral:
        return
    yield SubscriberRecord(
        identifier=desk.identifier,
        position=record.position,
        paused=record.paused,
        settings=msgspec.structs.replace(settings, ephemeral=False),
        ahead=list(desk.ids(AHEAD)),
    )
    for kind in (LEASED, READY, DELAYED):
        for message_id, hold in desk.each(kind):
            if hold.top:
                continue  # it waits at its place, as before
            own = None
            if hold.own_copy:
                message = desk.message(message_id, hold)
                if message is None:
                    continue
                own = message_record(message_id, message[0], bytes(message[1]))
            yield HoldRecord(
                id=message_id,
                count=hold.count,
                first_received_ns=hold.first_received_ns,
                due_ns=hold.due_ns if kind == DELAYED else 0,
                error=hold.error,
                message=own,
            )
    for message_id in desk.ids(DEAD):
        key = pack_id(message_id)
        stored, data = desk.txn.get(DEAD + key, db=desk.db), desk.txn.get(OWN_DATA + key, db=desk.db)
        if stored is not None and data is not None:
            dead = format.decode_dead(stored)
            yield DeadRecord(
                message=message_record(message_id, dead.meta, bytes(data)),
                died_ns=dead.died_ns,
                count=dead.count,
                reason=dead.reason,
            )
