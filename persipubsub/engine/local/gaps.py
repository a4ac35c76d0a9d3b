"""What lies between two ids for a subscriber: how much is stored, and what limits took on the way."""

import msgspec

from persipubsub.engine.local import living, prune
from persipubsub.engine.local.format import AHEAD, HOLDERS, LEASED, TIMEOUT, Hold
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.living import Messages
from persipubsub.engine.local.work import Work


def stored_between(work: Work, start: int, end: int) -> int:
    """Return how many messages are stored from ``start`` up to ``end`` (excluded).

    Consumed messages leave holes only below ``state.dense``; from there on ids are counted, not messages.
    """
    dense = min(max(work.state.dense, start), end)
    number = end - dense - sum(gone.end - first for first, gone in prune.gone_between(work, dense, end))
    messages = Messages(work, work.meta)
    there = start < dense and messages.at(start)
    while there and messages.id < dense:
        number += 1
        there = messages.next()
    return number


class Ahead(msgspec.Struct):
    """Messages from a position on that do not wait any more: settled or taken ahead."""

    settled: list[int]
    taken: dict[int, Hold]


def ahead_between(desk: Desk, start: int, end: int) -> Ahead:
    """Return what was settled or taken ahead of the position between two ids."""
    record = desk.record
    settled = [found for found in desk.ids(AHEAD) if start <= found < end] if record.ahead else []
    leased = desk.each(LEASED, start) if record.top else ()
    taken = {found: hold for found, hold in leased if found < end and hold.top}
    return Ahead(settled, taken)


def losses_between(desk: Desk, start: int, end: int) -> tuple[int, int]:
    """Return how many messages between two ids the subscriber lost: to overflow and to the message timeout.

    What was taken before it was added, or before it was last moved by hand, was never its own.
    """
    overflow = timeout = 0
    for first, gone in prune.gone_between(desk.work, start, end):
        if gone.epoch < desk.record.epoch:
            continue
        ahead = ahead_between(desk, first, gone.end)
        number = gone.end - first - len(ahead.settled) - len(ahead.taken)
        if gone.cause == TIMEOUT:
            timeout += number
        else:
            overflow += number
    return overflow, timeout


def waiting_between(desk: Desk, start: int, end: int) -> int:
    """Return how many messages between two ids wait for the subscriber."""
    ahead = ahead_between(desk, start, end)
    done = sum(living.meta(desk.work, found) is not None for found in (*ahead.settled, *ahead.taken))
    return stored_between(desk.work, start, end) - done


def pass_over(desk: Desk, start: int, end: int) -> None:
    """Count what was lost between two ids, and prepare what lies there for the position to pass it.

    What was settled ahead is forgotten; what was taken ahead becomes an ordinary lease, which protects
    its message from now on.
    """
    record = desk.record
    overflow, timeout = losses_between(desk, start, end)
    record.lost += overflow
    record.expired += timeout
    record.missed += overflow + timeout
    ahead = ahead_between(desk, start, end)
    for message_id in ahead.settled:
        desk.skip_ahead(message_id)
    for message_id, hold in ahead.taken.items():
        desk.unlease(message_id, hold)
        hold.top = False
        desk.lease(message_id, hold)
        if not desk.exists(message_id, hold):
            prune.add(desk.work, HOLDERS, message_id, -1)  # a limit took it: there is nothing to protect
