"""Messages that come back: to be delivered again, or to the dead letters when that was too often."""

from collections.abc import Collection

from persipubsub.engine import events
from persipubsub.engine.local import format
from persipubsub.engine.local.format import DEAD, LEASED, OWN_DATA, REQUEUED, DeadRecord, Hold, pack_id
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.messages import OWNER_DIED

LEASE_ENDED = "lease ended"
DAMAGED = "damaged: the message does not agree with its checksum"
_LONGEST_REASON = 4096


def come_back(
    desk: Desk, message_id: int, hold: Hold, reason: str | None, *, delay_ns: int = 0, keep_token: bool = False
) -> None:
    """Give a leased message back after a delivery: ready, delayed, or dead if it was delivered too often.

    ``keep_token``: its holder may still settle it, as long as nobody has taken it over.
    """
    if not desk.exists(message_id, hold):
        _lose(desk, message_id, hold)
        return
    most = desk.record.max_deliveries
    if most is not None and hold.count >= most:
        bury(desk, message_id, hold, reason or "delivered too often")
        return
    desk.unlease(message_id, hold, keep=True)
    hold.error = None if reason is None else reason[:_LONGEST_REASON]
    _set_aside(desk, message_id, hold, delay_ns, keep_token=keep_token)


def never_handed(desk: Desk, message_id: int, hold: Hold, *, delay_ns: int = 0) -> None:
    """Give a leased message back as if it had not been delivered: no caller has seen it, or its take is undone."""
    if not desk.exists(message_id, hold):
        _lose(desk, message_id, hold)
        return
    desk.record.deliveries -= 1
    if hold.count > 1:
        desk.record.redelivered -= 1
    desk.unlease(message_id, hold, keep=True)
    if hold.top and not delay_ns:
        desk.work.ring_for_messages()
        return  # it waits again, as before
    hold.count -= 1
    if not hold.count:
        hold.first_received_ns = 0
    _set_aside(desk, message_id, hold, delay_ns)


def _lose(desk: Desk, message_id: int, hold: Hold) -> None:
    desk.unlease(message_id, hold)
    desk.record.lost += 1
    if hold.top:
        desk.settle_ahead(message_id)  # else the position would count it once more


def _set_aside(desk: Desk, message_id: int, hold: Hold, delay_ns: int, *, keep_token: bool = False) -> None:
    ahead = hold.top
    hold.owner, hold.slot, hold.ordinal, hold.top = 0, -1, 0, False
    if not keep_token:
        hold.token = hold.deadline_ns = 0
    if delay_ns:
        hold.due_ns = desk.work.now_ns + delay_ns
        desk.delay(message_id, hold)
    else:
        hold.due_ns = 0
        desk.make_ready(message_id, hold)
    if ahead:
        desk.settle_ahead(message_id)
    desk.work.ring_for_messages()


def bury(desk: Desk, message_id: int, hold: Hold, reason: str) -> None:
    """Move a leased message to the subscriber's dead letters; it keeps its payload there."""
    key = pack_id(message_id)
    message = desk.message(message_id, hold)
    if message is None:
        _lose(desk, message_id, hold)
        return
    dead = DeadRecord(bytes(message[0]), desk.work.now_ns, hold.count, reason[:_LONGEST_REASON])
    if not hold.own_copy:
        desk.txn.put(OWN_DATA + key, bytes(message[1]), db=desk.db)
    if not desk.is_dead(message_id):  # it may have died before, and been sought again
        desk.record.dead += 1
    desk.txn.put(DEAD + key, format.encode(dead), db=desk.db)
    if hold.own_copy:
        desk.unlease(message_id, hold, keep=True)
        desk.txn.delete(REQUEUED + key, db=desk.db)
    else:
        desk.unlease(message_id, hold)
        if hold.top:
            desk.settle_ahead(message_id)
    desk.work.events.append(events.dead_letter(desk.identifier, message_id, hold.count, reason))


def was_handed(desk: Desk, hold: Hold) -> bool:
    """Tell whether a leased message has reached a caller; what cannot be known any more counts as handed over."""
    handed = desk.work.store.board.handed_over(hold.slot, hold.owner, hold.token)
    return handed is None or hold.ordinal < handed


def lapse(desk: Desk, message_id: int, hold: Hold, reason: str | None) -> None:
    """Give a lease back that its holder will not settle any more."""
    if hold.top or not was_handed(desk, hold):
        never_handed(desk, message_id, hold)
    else:
        come_back(desk, message_id, hold, reason, keep_token=reason == LEASE_ENDED)


def take_over(desk: Desk, owners: Collection[int], reason: str | None = OWNER_DIED) -> dict[int, int]:
    """Give back what owners held that are gone, and forget them; return how many messages each held, if any."""
    held: dict[int, int] = {}
    for message_id, hold in list(desk.each(LEASED)):
        owner = hold.owner
        if owner in owners:
            lapse(desk, message_id, hold, reason)
            held[owner] = held.get(owner, 0) + 1
    for owner in owners:
        desk.forget_owner(owner)
    desk.work.touched = True
    return held
