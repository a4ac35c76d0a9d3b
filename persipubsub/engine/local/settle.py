"""Settling takes: acknowledged, given back, rejected, extended. Everything is checked before anything changes."""

from collections.abc import Iterable, Sequence

from persipubsub.engine.local import gaps, living, prune, returning, roster
from persipubsub.engine.local.format import DELAYED, LEASED, READY, Hold
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.messages import Receipt
from persipubsub.errors import LeaseLostError


def held(desk: Desk, receipt: Receipt) -> tuple[bytes, Hold] | None:
    """Return where a take stands, if nobody settled it or took it over.

    A lease that has ended, and that nobody has taken over, still holds.
    """
    for kind in (LEASED, READY):
        hold = desk.get(kind, receipt.id)
        if hold is not None:
            return (kind, hold) if hold.token == receipt.token and receipt.token else None
    return None


def check(desk: Desk, receipts: Iterable[Receipt]) -> dict[int, tuple[bytes, Hold]]:
    """Return where takes stand, by message id.

    :raise LeaseLostError: one of them is not held any more
    """
    found: dict[int, tuple[bytes, Hold]] = {}
    for receipt in receipts:
        where = held(desk, receipt)
        if where is None:
            raise LeaseLostError(
                f"Message {receipt.id} of subscriber {desk.identifier!r} is not held by this take any more: it was "
                "settled by id, its lease ended and another consumer took it, or the subscriber was moved. "
                "Nothing was changed; it may be handled twice."
            )
        found[receipt.id] = where
    return found


def settle(desk: Desk, receipts: Sequence[Receipt]) -> None:
    """Acknowledge takes.

    :raise LeaseLostError: one of them is not held any more
    """
    for message_id, (kind, hold) in check(desk, receipts).items():
        _settle_one(desk, message_id, kind, hold)


def _settle_one(desk: Desk, message_id: int, kind: bytes, hold: Hold) -> bool:
    """Settle what is held in whatever way; tell whether it was still there."""
    record = desk.record
    ahead = hold.top
    if kind == LEASED:
        there = desk.unlease(message_id, hold)
    elif kind == READY:
        there = desk.unready(message_id, hold)
    else:
        there = desk.undelay(message_id, hold)
    if there:
        record.settled += 1
        record.last_settled_ns = desk.work.now_ns
    else:
        record.lost += 1
    if ahead:
        desk.settle_ahead(message_id)
    return there


def settle_ids(desk: Desk, ids: Iterable[int]) -> int:
    """Acknowledge messages whatever their state; return how many were not settled before."""
    number = 0
    for message_id in sorted(found for found in set(ids) if 0 < found < desk.work.state.next_id):
        number += _settle_id(desk, message_id)
    return number


def _settle_id(desk: Desk, message_id: int) -> bool:
    for kind in (LEASED, READY, DELAYED):
        hold = desk.get(kind, message_id)
        if hold is not None:
            return _settle_one(desk, message_id, kind, hold)
    if message_id < desk.record.position or desk.has_ahead(message_id):
        return False
    if living.meta(desk.work, message_id) is None:
        return False
    desk.record.settled += 1
    desk.record.last_settled_ns = desk.work.now_ns
    desk.settle_ahead(message_id)
    return True


def settle_to_top(desk: Desk, receipt: Receipt) -> None:
    """Settle a take of the newest message and everything before it that nobody else holds.

    :raise LeaseLostError: it is not held any more
    """
    kind, hold = check(desk, [receipt])[receipt.id]
    _settle_one(desk, receipt.id, kind, hold)
    _settle_before(desk, receipt.id + 1)


def return_to_top(desk: Desk, receipt: Receipt) -> None:
    """Undo a take of the newest message.

    :raise LeaseLostError: it is not held any more
    """
    check(desk, [receipt])
    give_back(desk, [receipt], delay_ns=0, reason=None, undelivered=True)


def purge(desk: Desk) -> int:
    """Settle everything that waits for the subscriber and nobody holds; return how many."""
    return _settle_before(desk, desk.work.state.next_id)


def _settle_before(desk: Desk, end: int) -> int:
    """Settle what is waiting, ready or delayed before an id."""
    record, work = desk.record, desk.work
    number = 0
    for kind in (READY, DELAYED):
        for message_id, hold in list(desk.each(kind)):
            if message_id < end:
                number += _settle_one(desk, message_id, kind, hold)
    if record.position < end:
        waiting = gaps.waiting_between(desk, record.position, end)
        gaps.pass_over(desk, record.position, end)
        record.settled += waiting
        record.missed = 0
        number += waiting
        if waiting:
            record.last_settled_ns = work.now_ns
        desk.move_to(end)
        prune.sweep(work)
    return number


def seek(desk: Desk, position: int) -> None:
    """Move a subscriber; leases and delays are dropped, dead letters stay.

    :raise PositionError: the position is not retained
    """
    roster.check_position(desk.work, position)
    record, state = desk.record, desk.work.state
    overflow, timeout = gaps.losses_between(desk, record.position, state.next_id)
    record.lost += overflow
    record.expired += timeout
    record.missed = 0
    state.epoch += 1
    record.epoch = state.epoch
    desk.move_to(position)  # first: what is dropped from here on waits again, and must not go
    desk.drop_all()
    prune.sweep(desk.work)
    desk.work.ring_for_messages()


def give_back(desk: Desk, receipts: Sequence[Receipt], *, delay_ns: int, reason: str | None, undelivered: bool) -> None:
    """Give takes back.

    :raise LeaseLostError: one of them is not held any more (``undelivered`` ones are left alone instead)
    """
    found = {}
    for receipt in receipts:
        where = held(desk, receipt)
        if where is not None:
            found[receipt.id] = where
        elif not undelivered:
            check(desk, [receipt])
    for message_id, (kind, hold) in found.items():
        if kind == READY:
            desk.unready(message_id, hold, keep=True)
            desk.lease(message_id, hold)  # it had ended on its own: only now it is judged
        if undelivered or not returning.was_handed(desk, hold):
            returning.never_handed(desk, message_id, hold, delay_ns=delay_ns)
        else:
            returning.come_back(desk, message_id, hold, reason, delay_ns=delay_ns)


def reject(desk: Desk, receipts: Sequence[Receipt], reason: str) -> None:
    """Move takes to the dead letters.

    :raise LeaseLostError: one of them is not held any more
    """
    for message_id, (kind, hold) in check(desk, receipts).items():
        if kind == READY:
            desk.unready(message_id, hold, keep=True)
            desk.lease(message_id, hold)
        returning.bury(desk, message_id, hold, reason)


def extend(desk: Desk, receipt: Receipt, lease_ns: int, owner: int) -> None:
    """Let a bounded lease end later; one that lasts as long as its owner is left as it is.

    One that has ended, and that nobody has taken over, is the owner's again.

    :raise LeaseLostError: it is not held any more
    """
    kind, hold = check(desk, [receipt])[receipt.id]
    if not desk.exists(receipt.id, hold):
        return
    if kind == READY:
        desk.unready(receipt.id, hold, keep=True)
    elif hold.deadline_ns:
        desk.unlease(receipt.id, hold, keep=True)
    else:
        return
    hold.owner, hold.deadline_ns = owner, desk.work.boot_ns + lease_ns
    desk.lease(receipt.id, hold)
