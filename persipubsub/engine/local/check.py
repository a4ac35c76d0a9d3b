"""Verifies what is stored: every record against every other, and every payload against its checksum."""

from collections.abc import Iterator

from persipubsub.engine.figures import Finding
from persipubsub.engine.local import blocks, format, look, prune, roster
from persipubsub.engine.local.format import (
    AHEAD,
    DEAD,
    DELAYED,
    DUE,
    ENDING,
    HOLDERS,
    LEASED,
    OWN_DATA,
    POSITIONS,
    READY,
    REQUEUED,
    pack_id,
    unpack_id,
)
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.living import Messages, is_doomed
from persipubsub.engine.local.store import Store
from persipubsub.engine.local.translate import UNREADABLE, unreadable
from persipubsub.engine.local.work import Work
from persipubsub.errors import IdentifierError, PersipubsubError
from persipubsub.limits import Retention
from persipubsub.names import encode_name

#: The payload or the metadata of a message is not what was sent.
CHECKSUM = "it does not agree with its checksum"


def check(store: Store) -> list[Finding]:
    """Verify a queue, also one in use: a snapshot is looked at. It takes a read transaction as long as it runs."""
    names = look.subscriber_dbs(store)
    findings: list[Finding] = []
    with store.read(*names) as txn:
        try:
            work = Work(store, txn)
            findings.extend(_messages(work))
            findings.extend(_blocks(work))
            positions: dict[int, int] = {}
            holders: dict[int, int] = {}
            there = roster.names(work)
            findings.extend(_names(work, there))
            ready = [identifier for identifier in there if work.can_read(identifier)]
            for identifier in ready:
                findings.extend(_subscriber(Desk(work, identifier), positions, holders))
            if ready == there:
                findings.extend(_pending(work, positions, holders))
            findings.extend(_gone(work))
            findings.extend(_deduplication(work))
        except UNREADABLE as error:
            findings.append(Finding("records", str(unreadable(error, store.path))))
        except PersipubsubError as error:
            findings.append(Finding("queue", str(error)))
    return findings


def _names(work: Work, identifiers: list[str]) -> Iterator[Finding]:
    """Look at what would pass for subscribers that were added just now: this process has no handle of theirs."""
    for identifier in identifiers:
        try:
            encode_name(identifier, "identifier")
        except IdentifierError as error:
            yield Finding(f"subscriber {identifier!r}", f"its record was overwritten: {error}")
            continue
        if work.txn.get(format.subscriber_db(identifier.encode())) is None:
            # It is made and deleted in the transactions that write and delete the record.
            yield Finding(f"subscriber {identifier!r}", "its sub-database is not there")


def _messages(work: Work) -> Iterator[Finding]:
    state = work.state
    messages = size = 0
    last_sent = 0
    data, meta = Messages(work, work.data), Messages(work, work.meta)
    there, described = data.at(0), meta.at(0)
    while there or described:
        message_id = data.id if there else 2**64
        meta_id = meta.id if described else 2**64
        if message_id != meta_id:
            missing = "metadata" if message_id < meta_id else "payload"
            yield Finding(f"message {min(message_id, meta_id)}", f"it has no {missing}")
        elif any(work.txn.get(pack_id(message_id), None, db) is None for db in (work.data, work.meta)):
            yield Finding(f"message {message_id}", "it is not where its id leads to")
        elif not format.is_intact(message_id, meta.value, data.value):
            yield Finding(f"message {message_id}", CHECKSUM)
        else:
            sent = format.sent_at(meta.value)
            if sent < last_sent:
                yield Finding(f"message {message_id}", "it was sent before the one before it")
            last_sent = sent
        if message_id <= meta_id:
            messages += 1
            size += len(data.value)
            there = data.next()
        if meta_id <= message_id:
            described = meta.next()
        if min(message_id, meta_id) >= state.next_id:
            yield Finding(f"message {min(message_id, meta_id)}", f"its id lies beyond the next one, {state.next_id}")
    if messages != state.messages:
        yield Finding("state", f"it counts {state.messages} messages, there are {messages}")
    if size != state.payload_bytes:
        yield Finding("state", f"it counts {state.payload_bytes} bytes of payload, there are {size}")
    if last_sent > state.last_sent_ns:
        yield Finding("state", "the last message was sent later than it says")


def _blocks(work: Work) -> Iterator[Finding]:
    state = work.state
    last_end = 0
    for start, end in state.doomed:
        if not last_end <= start < end <= state.next_id:
            yield Finding("state", f"the range of deletions from {start} to {end} is out of order")
        last_end = end
    messages = Messages(work, work.data)
    if messages.at(0) and messages.id // blocks.SIZE < state.front:
        yield Finding("state", f"message {messages.id} lies before the block {state.front}")
    following = (state.front + 1) * blocks.SIZE
    known = {unpack_id(key) for key, _ in work.txn.cursor(db=work.blocks)} | {state.next_id // blocks.SIZE}
    while messages.at(following):
        block = messages.id // blocks.SIZE
        known.discard(block)
        if blocks.of(work, block) != blocks.count(work, block):
            yield Finding(f"block {block}", "its messages are not counted right")
        following = (block + 1) * blocks.SIZE
    for block in known:
        is_gone = any(start <= block * blocks.SIZE and (block + 1) * blocks.SIZE <= end for start, end in state.doomed)
        if block > state.front and not is_gone and blocks.of(work, block) != (0, 0):
            yield Finding(f"block {block}", "it counts messages that are not there")


def _subscriber(desk: Desk, positions: dict[int, int], holders: dict[int, int]) -> Iterator[Finding]:
    record = desk.record
    where = f"subscriber {desk.identifier!r}"
    positions[record.position] = positions.get(record.position, 0) + 1
    if record.position > desk.work.state.next_id:
        yield Finding(where, f"its position {record.position} lies beyond the next id {desk.work.state.next_id}")
    held: dict[int, bytes] = {}
    found = dict.fromkeys((LEASED, READY, DELAYED), 0)
    bounded = top = 0
    for kind in found:
        for message_id, hold in desk.each(kind):
            found[kind] += 1
            if message_id in held:
                yield Finding(where, f"message {message_id} is held twice")
            held[message_id] = kind
            bounded += bool(kind == LEASED and hold.deadline_ns)
            top += bool(hold.top)
            if hold.own_copy:
                if desk.message(message_id, hold) is None:
                    yield Finding(where, f"requeued message {message_id} has no payload")
            elif hold.top:
                if message_id < record.position:
                    yield Finding(where, f"message {message_id} was taken ahead of the position, which is beyond it")
            else:
                if message_id >= record.position and not desk.has_ahead(message_id):
                    yield Finding(where, f"message {message_id} is held, but the position is not beyond it")
                if desk.exists(message_id, hold):
                    holders[message_id] = holders.get(message_id, 0) + 1
            index = {DELAYED: (DUE, hold.due_ns), LEASED: (ENDING, hold.deadline_ns)}.get(kind, (b"", 0))
            if index[1] and desk.txn.get(index[0] + pack_id(index[1]) + pack_id(message_id), db=desk.db) is None:
                yield Finding(where, f"message {message_id} is missing in the index {index[0].decode()}")
    counted = {
        "leased": (record.leased, found[LEASED]),
        "ready": (record.ready, found[READY]),
        "delayed": (record.delayed, found[DELAYED]),
        "bounded": (record.bounded, bounded),
        "taken ahead": (record.top, top),
        "settled ahead": (record.ahead, sum(1 for _ in desk.ids(AHEAD))),
        "dead": (record.dead, sum(1 for _ in desk.ids(DEAD))),
        "due": (found[DELAYED], _entries(desk, DUE)),
        "ending": (bounded, _entries(desk, ENDING)),
        "payloads": (record.dead + sum(1 for _ in desk.ids(REQUEUED)), sum(1 for _ in desk.ids(OWN_DATA))),
    }
    for name, (expected, there) in counted.items():
        if expected != there:
            yield Finding(where, f"it counts {expected} {name}, there are {there}")
    for message_id in desk.ids(AHEAD):
        if message_id < record.position:
            yield Finding(where, f"message {message_id} was settled ahead of the position, which is beyond it")


def _entries(desk: Desk, kind: bytes) -> int:
    number = 0
    cursor = desk.txn.cursor(db=desk.db)
    there = cursor.set_range(kind)
    while there and bytes(cursor.key()[:1]) == kind:
        number += 1
        there = cursor.next()
    return number


def _pending(work: Work, positions: dict[int, int], holders: dict[int, int]) -> Iterator[Finding]:
    state = work.state
    counted: dict[bytes, dict[int, int]] = {POSITIONS: {}, HOLDERS: {}}
    for key, value in work.txn.cursor(db=work.pending):
        kind, message_id = bytes(key[:1]), unpack_id(key, 1)
        if kind != HOLDERS or not is_doomed(state, message_id):
            counted.setdefault(kind, {})[message_id] = unpack_id(value)
    for kind, expected, what in ((POSITIONS, positions, "positions"), (HOLDERS, holders, "holders")):
        if counted[kind] != expected:
            differing = sorted(set(counted[kind].items()) ^ set(expected.items()))[:5]
            yield Finding("pending counts", f"the {what} differ from the subscribers' records: {differing}")
    if state.subscribers != sum(positions.values()):
        yield Finding("state", f"it counts {state.subscribers} subscribers, there are {sum(positions.values())}")
    lowest = min(positions, default=state.next_id)
    if state.low != lowest:
        yield Finding("state", f"the lowest position is {lowest}, not {state.low}")
    if work.settings.retention is Retention.CONSUMED:
        messages = Messages(work, work.data)
        there = messages.at(0)
        while there and messages.id < min(state.swept, lowest):
            if messages.id not in holders:
                yield Finding(f"message {messages.id}", "nobody needs it, but it was not deleted")
            there = messages.next()


def _gone(work: Work) -> Iterator[Finding]:
    number = 0
    last_end = 0
    for key, value in work.txn.cursor(db=work.gone):
        number += 1
        start, gone = unpack_id(key), format.decode_gone(value)
        if not last_end <= start < gone.end <= work.state.next_id:
            yield Finding("pruned ranges", f"the range from {start} to {gone.end} is out of order")
        messages = Messages(work, work.data)
        if messages.at(start) and messages.id < gone.end:
            yield Finding("pruned ranges", f"message {messages.id} was pruned, but it is there")
        last_end = gone.end
    if number != work.state.gone:
        yield Finding("state", f"it counts {work.state.gone} pruned ranges, there are {number}")
    state = work.state
    first_dense = max(state.dense, state.low)
    lost = sum(gone.end - first for first, gone in prune.gone_between(work, first_dense, state.next_id))
    stored = 0
    messages = Messages(work, work.meta)
    there = messages.at(first_dense)
    while there:
        stored += 1
        there = messages.next()
    if state.subscribers and stored + lost != state.next_id - first_dense:
        yield Finding("ids", f"from {first_dense} on, ids are missing that no limit took")


def _deduplication(work: Work) -> Iterator[Finding]:
    seen: set[bytes] = set()
    aged: set[bytes] = set()
    for key, value in work.txn.cursor(db=work.deduplication):
        entry = bytes(key)
        if entry[:1] == format.SEEN:
            seen.add(bytes(value[8:16]) + bytes(value[:8]) + entry[1:])
        else:
            aged.add(entry[1:] + bytes(value))
    if seen != aged:
        yield Finding("deduplication", f"{len(seen ^ aged)} entries stand on one side only")
