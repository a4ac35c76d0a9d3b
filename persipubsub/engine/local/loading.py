"""Making a queue of records, with their ids and times; for imports and for what a salvage found."""

import pathlib
from collections.abc import Callable, Iterable

import msgspec

from persipubsub.engine.clock import Clock
from persipubsub.engine.local import blocks, check, creating, format, prune, roster
from persipubsub.engine.local.format import AHEAD, DEAD, OWN_DATA, REQUEUED, Hold, Meta, pack_id
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.work import Work
from persipubsub.engine.records import (
    DeadRecord,
    EndRecord,
    HoldRecord,
    MessageRecord,
    Record,
    StateRecord,
    SubscriberRecord,
)
from persipubsub.errors import MessageError, QueueDamagedError
from persipubsub.limits import Durability, Settings, SubscriberSettings

_BATCH = 1000
_BATCH_BYTES = 16 << 20


def load(
    target: pathlib.Path,
    settings: Settings,
    records: Iterable[Record],
    clock: Clock,
    *,
    subscribers: dict[str, SubscriberSettings] | None = None,
) -> bool:
    """Make a queue of records, wholly or not at all; return False, changing nothing, if there is one already.

    It has an identity of its own. Counters start anew.

    :param records: messages by ascending id, and what follows them; the record of the queue is passed over
    :param subscribers: instead of those in the records; they get all messages
    :raise MessageError: the records are out of order
    """

    def build(folder: pathlib.Path) -> None:
        creating.build(folder, settings, {}, clock)
        store = Store(folder, Durability.FULL, None, clock)
        try:
            _Loader(store).load(records, subscribers)
            prune.sweep_all(store)
            findings = check.check(store)
        finally:
            store.close()
        if findings:
            raise QueueDamagedError(
                f"The records do not make a sound queue: {findings[0].where}: {findings[0].what} "
                f"({len(findings)} findings); nothing was created."
            )

    return creating.place(target, build)


class _Loader:
    """Writes records into a new queue, some in each transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._batch: list[tuple[MessageRecord, bytes]] = []
        self._size = 0
        self._last = 0
        self._identifier: str | None = None

    def load(self, records: Iterable[Record], subscribers: dict[str, SubscriberSettings] | None) -> None:
        ended = described = False
        for record in records:
            if ended:
                raise MessageError(f"After the end comes something else, {type(record).__name__}; nothing was created.")
            if isinstance(record, MessageRecord):
                self._add(record)
                continue
            self._flush()
            if isinstance(record, EndRecord):
                ended = described
            elif isinstance(record, StateRecord):
                described = True
                self._write(_state(record.next_id))
            elif isinstance(record, SubscriberRecord):
                self._identifier = record.identifier
                if subscribers is None:
                    self._write(_subscriber(record))
            elif isinstance(record, (HoldRecord, DeadRecord)):
                self._belongs(record, subscribers is None)
        if not ended:
            raise MessageError("The end is missing: the records are cut off; nothing was created.")
        for identifier, settings in (subscribers or {}).items():
            self._write(_newcomer(identifier, settings))

    def _add(self, record: MessageRecord) -> None:
        if self._identifier is not None or not self._last < record.id < 2**63:
            raise MessageError(f"Message {record.id} is out of order, after {self._last}; nothing was created.")
        self._last = record.id
        data = record.data
        self._batch.append((record, data))
        self._size += len(data)
        if len(self._batch) >= _BATCH or self._size >= _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        batch, size = self._batch, self._size
        self._batch, self._size = [], 0
        if batch:
            self._store.write(lambda work: _messages(work, batch), payload=size)

    def _belongs(self, record: HoldRecord | DeadRecord, wanted: bool) -> None:
        identifier = self._identifier
        if identifier is None:
            raise MessageError("A hold or a dead letter comes before any subscriber; nothing was created.")
        if wanted:
            step = _hold(identifier, record) if isinstance(record, HoldRecord) else _dead(identifier, record)
            self._write(step, len(record.message.data) if record.message is not None else 0)

    def _write(self, step: Callable[[Work], None], payload: int = 0) -> None:
        self._store.write(step, payload=payload)


def _pack(record: MessageRecord, data: bytes) -> bytes:
    headers = record.all_headers
    meta = Meta(
        record.sent_ns,
        0,
        record.not_before_ns,
        record.expires_ns,
        record.topic,
        msgspec.msgpack.encode(headers) if headers else b"",
    )
    return format.pack_meta(record.id, format.payload_digest(data), meta)


def _messages(work: Work, batch: list[tuple[MessageRecord, bytes]]) -> None:
    state = work.state
    for record, data in batch:
        key = pack_id(record.id)
        if record.sent_ns < state.last_sent_ns:
            raise MessageError(f"Message {record.id} was sent before the one before it; nothing was created.")
        work.txn.put(key, data, append=True, db=work.data)
        work.txn.put(key, _pack(record, data), append=True, db=work.meta)
        blocks.append(work, record.id, len(data))
        state.last_sent_ns = record.sent_ns
        state.messages += 1
        state.payload_bytes += len(data)
        state.published += 1
    state.low = state.next_id  # nobody subscribes yet


def _subscriber(record: SubscriberRecord) -> Callable[[Work], None]:
    def step(work: Work) -> None:
        roster.add(work, record.identifier, record.settings, "latest", None)
        desk = Desk(work, record.identifier)
        desk.record.paused = record.paused
        desk.move_to(min(max(record.position, 1), work.state.next_id))
        for message_id in sorted(set(record.ahead)):
            if desk.record.position <= message_id < work.state.next_id:
                work.txn.put(AHEAD + pack_id(message_id), b"", db=desk.db)
                desk.record.ahead += 1
        desk.save()

    return step


def _newcomer(identifier: str, settings: SubscriberSettings) -> Callable[[Work], None]:
    return lambda work: roster.add(work, identifier, settings, "first", None)


def _hold(identifier: str, record: HoldRecord) -> Callable[[Work], None]:
    def step(work: Work) -> None:
        desk = Desk(work, identifier)
        hold = Hold(
            count=record.count,
            first_received_ns=record.first_received_ns,
            due_ns=record.due_ns,
            error=record.error,
            own_copy=record.message is not None,
        )
        key = pack_id(record.id)
        if record.message is not None:
            data = record.message.data
            work.txn.put(REQUEUED + key, _pack(record.message, data), db=desk.db)
            work.txn.put(OWN_DATA + key, data, db=desk.db)
        elif not desk.exists(record.id, hold) or not _is_passed(desk, record.id):
            return  # limits took it, or it waits at its place
        if record.due_ns:
            desk.delay(record.id, hold)
        else:
            desk.make_ready(record.id, hold)
        desk.save()

    return step


def _is_passed(desk: Desk, message_id: int) -> bool:
    return message_id < desk.record.position or desk.has_ahead(message_id)


def _dead(identifier: str, record: DeadRecord) -> Callable[[Work], None]:
    def step(work: Work) -> None:
        desk = Desk(work, identifier)
        key = pack_id(record.message.id)
        data = record.message.data
        dead = format.DeadRecord(_pack(record.message, data), record.died_ns, record.count, record.reason)
        work.txn.put(DEAD + key, format.encode(dead), db=desk.db)
        work.txn.put(OWN_DATA + key, data, db=desk.db)
        desk.record.dead += 1
        desk.save()

    return step


def _state(next_id: int) -> Callable[[Work], None]:
    def step(work: Work) -> None:
        state = work.state
        blocks.advance(work, max(state.next_id, next_id))
        state.dense = state.low = state.next_id
        state.swept = 1  # in the end everything is looked at that no subscriber turned out to need

    return step
