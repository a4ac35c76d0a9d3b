"""Taking messages: what was given back and what has become due first, then onward from the position."""

from collections.abc import Callable

import msgspec

from persipubsub.engine.local import format, gaps, prune, returning
from persipubsub.engine.local.format import LEASED, READY, Hold, Meta, pack_id
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.living import Messages, is_doomed, misplaced
from persipubsub.engine.messages import Delivery
from persipubsub.names import matches

#: Messages that one take passes at most without delivering them (filtered, delayed, expired).
PASSED = 1000
#: Payloads larger than this are read after the transaction, so that nobody waits for the copy.
LARGE = 64 * 1024


Step = Callable[[Desk], list[Delivery]]
"""A way to take."""


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """How messages are taken: by whom, for how long, and where the board tells what was handed over."""

    owner: int
    lease_ns: int | None
    slot: int = -1
    with_data: bool = True


def revive(desk: Desk) -> None:
    """Make ready what has become due and what was leased for too long."""
    record = desk.record
    if record.delayed:
        for message_id in desk.due():
            hold = desk.get(format.DELAYED, message_id)
            if hold is not None and not desk.exists(message_id, hold):
                desk.undelay(message_id, hold)  # a limit took it: there is nothing to hold any more
                record.lost += 1
            elif hold is not None:
                desk.undelay(message_id, hold, keep=True)
                hold.due_ns = 0
                desk.make_ready(message_id, hold)
    if record.bounded:
        for message_id in desk.ended():
            hold = desk.get(LEASED, message_id)
            if hold is not None:
                returning.lapse(desk, message_id, hold, returning.LEASE_ENDED)


def take(desk: Desk, most: int, lease: Lease) -> list[Delivery]:
    """Take up to ``most`` messages."""
    record = desk.record
    if record.paused:
        return []
    if record.delayed or record.bounded:
        revive(desk)
    hand = Hand(desk, lease)
    if record.ready:
        for message_id, hold in desk.each(READY):
            if _take_ready(hand, message_id, hold) and len(hand.taken) >= most:
                break
    if len(hand.taken) < most and record.position < desk.work.state.next_id:
        _walk(hand, most)
    return hand.close()


def complete(desk: Desk, delivery: Delivery) -> bool:
    """Read what is left out of a take for its size, within the same transaction; False if it is damaged."""
    if len(delivery.data) == delivery.size:
        return True
    message = desk.message(delivery.id, desk.get(LEASED, delivery.id))
    if message is None or not format.is_intact(delivery.id, *message):
        return False
    delivery.data = bytes(message[1])
    return True


class Hand:
    """What one take has taken so far; it is leased all at once, before anything looks for what nobody holds."""

    __slots__ = ("_holds", "deadline", "desk", "lease", "taken")

    def __init__(self, desk: Desk, lease: Lease) -> None:
        """Take nothing yet, under the next token."""
        self.desk = desk
        self.lease = lease
        duration = lease.lease_ns if lease.lease_ns is not None else desk.record.lease_ns
        self.deadline = 0 if duration is None else desk.work.boot_ns + duration
        self.taken: list[Delivery] = []
        self._holds: list[tuple[int, Hold]] = []
        desk.record.takes += 1

    def add(self, hold: Hold, delivery: Delivery) -> None:
        """Take one message more."""
        self._holds.append((delivery.id, hold))
        self.taken.append(delivery)

    def hold(self) -> None:
        """Lease what was taken."""
        if self._holds:
            self.desk.lease_all(self._holds)
            self._holds = []

    def close(self) -> list[Delivery]:
        """Lease what was taken, and return it."""
        record = self.desk.record
        if self.taken:
            self.hold()
            record.last_taken_ns = self.desk.work.now_ns
        else:
            record.takes -= 1  # no token was used
        return self.taken


def is_expired(desk: Desk, meta: Meta) -> bool:
    """Tell whether a message may not be delivered any more."""
    now = desk.work.now_ns
    if meta.expires_ns and now >= meta.expires_ns:
        return True
    timeout = desk.work.settings.high_water_mark.message_timeout
    return timeout is not None and meta.sent_ns + int(timeout * 1e9) < now


def _read_meta(stored: memoryview) -> Meta | None:
    """Return the metadata of a message, ``None`` if it is damaged."""
    try:
        return format.unpack_meta(stored)
    except ValueError:
        return None


def _take_ready(hand: Hand, message_id: int, hold: Hold) -> bool:
    """Take a message that was given back, unless it is not to be delivered any more."""
    desk = hand.desk
    message = desk.message(message_id, hold)
    if message is None:
        desk.unready(message_id, hold)
        desk.record.lost += 1
        return False
    meta = _read_meta(message[0])
    if meta is not None and is_expired(desk, meta):
        desk.unready(message_id, hold)
        desk.record.expired += 1
        return False
    desk.unready(message_id, hold, keep=True)
    return _deliver(hand, message_id, hold, meta, message)


def _deliver(
    hand: Hand, message_id: int, hold: Hold, meta: Meta | None, message: tuple[memoryview, memoryview]
) -> bool:
    """Take a message; a damaged one goes to the dead letters instead."""
    desk, lease = hand.desk, hand.lease
    record = desk.record
    stored = message[1]
    size = len(stored)
    data = bytes(stored) if lease.with_data and size <= LARGE else b""
    if meta is None or (len(data) == size and not format.agrees(message_id, meta, message[0], data)):
        desk.lease(message_id, hold)
        returning.bury(desk, message_id, hold, returning.DAMAGED)
        return False
    hold.token = record.takes
    hold.count += 1
    if not hold.first_received_ns:
        hold.first_received_ns = desk.work.now_ns
    hold.owner, hold.deadline_ns, hold.slot, hold.ordinal = lease.owner, hand.deadline, lease.slot, len(hand.taken)
    record.deliveries += 1
    if hold.count > 1:
        record.redelivered += 1
    hand.add(
        hold,
        Delivery(
            message_id,
            hold.token,
            data,
            size,
            meta.headers,
            meta.topic,
            meta.sent_ns,
            hold.first_received_ns,
            hold.count,
            hold.error,
            hold.missed,
            meta.expires_ns,
        ),
    )
    return True


def _walk(hand: Hand, most: int) -> None:
    """Go on from the position, setting aside what is not due and passing what is not wanted."""
    desk = hand.desk
    work, record = desk.work, desk.record
    get, topic_filter, meta_db, data_db = desk.txn.get, record.topic_filter, work.meta, work.data
    position, end = record.position, work.state.next_id
    passed, number = 0, len(hand.taken)
    ready = number
    exceptions = record.ahead or record.top
    expiring = work.settings.high_water_mark.message_timeout is not None
    doomed = bool(work.state.doomed)
    while position < end and number < most and passed < PASSED:
        key = pack_id(position)
        stored = get(key, None, meta_db)
        if stored is None or (doomed and is_doomed(work.state, position)):
            position = _over_gap(desk, position)
            continue
        if exceptions and _is_exception(desk, position):
            gaps.pass_over(desk, position, position + 1)
            position += 1
            passed += 1
            continue
        meta = _read_meta(stored) or Meta(0)
        if topic_filter is not None and (meta.topic is None or not matches(topic_filter, meta.topic)):
            position += 1
            passed += 1
            continue
        if (expiring or meta.expires_ns) and meta.sent_ns and is_expired(desk, meta):
            record.expired += 1
            position += 1
            passed += 1
            continue
        if meta.not_before_ns > work.now_ns:
            desk.delay(position, Hold(due_ns=meta.not_before_ns))
            position += 1
            passed += 1
            continue
        message = (stored, get(key, None, data_db) or memoryview(b""))
        hold = Hold(missed=record.missed)
        if _deliver(hand, position, hold, meta if meta.sent_ns else None, message):
            number += 1
            record.missed = 0
        else:
            passed += 1
        position += 1
    hand.hold()
    old = record.position
    desk.move_to(position)
    state = work.state
    if state.swept == old and state.low == position and number - ready == position - old:
        state.swept = position  # all that was passed is held: nothing to look at
        if state.gone:
            prune.forget_gone(work)
    elif state.swept < state.low:
        prune.sweep(work)


def _is_exception(desk: Desk, message_id: int) -> bool:
    """Tell whether a message ahead of the position is settled or taken already."""
    if desk.has_ahead(message_id):
        return True
    hold = desk.get(LEASED, message_id) if desk.record.top else None
    return hold is not None and hold.top


def _over_gap(desk: Desk, position: int) -> int:
    """Return the next id that is there, counting what limits took in between."""
    messages = Messages(desk.work, desk.work.meta)
    following = messages.id if messages.at(position) else desk.work.state.next_id
    if following == position:
        # It was looked for by its id, and not found: nothing would ever lead past it.
        raise misplaced(desk.work.store.path, position)
    gaps.pass_over(desk, position, following)
    return following


def take_newest(desk: Desk, lease: Lease) -> Delivery | None:
    """Take the newest message that is deliverable and nobody holds, ahead of all older ones."""
    if desk.record.paused:
        return None
    revive(desk)
    hand = Hand(desk, lease)
    _take_newest(hand)
    taken = hand.close()
    return taken[0] if taken else None


def _take_newest(hand: Hand) -> bool:
    """Take one message if there is one."""
    desk = hand.desk
    record, work = desk.record, desk.work
    ready = sorted((message_id for message_id, _ in desk.each(READY)), reverse=True) if record.ready else []
    messages = Messages(work, work.meta)
    there = messages.last()
    while there:
        message_id = messages.id
        if message_id < record.position or (ready and message_id < ready[0]):
            break
        meta = _read_meta(messages.value)
        if meta is not None and _is_deliverable(desk, message_id, meta):
            message = (messages.value, desk.txn.get(pack_id(message_id), db=work.data) or memoryview(b""))
            if _deliver(hand, message_id, Hold(top=True), meta, message):
                return True
        there = messages.prev()
    for message_id in ready:
        hold = desk.get(READY, message_id)
        if hold is not None and _take_ready(hand, message_id, hold):
            return True
    return False


def _is_deliverable(desk: Desk, message_id: int, meta: Meta) -> bool:
    topic_filter = desk.record.topic_filter
    if topic_filter is not None and (meta.topic is None or not matches(topic_filter, meta.topic)):
        return False
    if meta.not_before_ns > desk.work.now_ns or is_expired(desk, meta) or desk.has_ahead(message_id):
        return False
    return not (desk.record.top and desk.get(LEASED, message_id) is not None)
