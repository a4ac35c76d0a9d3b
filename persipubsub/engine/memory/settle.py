"""What becomes of messages that were given out."""

from collections.abc import Sequence

import msgspec

from persipubsub.engine import events
from persipubsub.engine.memory.holds import Hold, Kind
from persipubsub.engine.memory.state import DeadLetter, Now, State, Subscriber
from persipubsub.engine.messages import Receipt
from persipubsub.errors import LeaseLostError

LEASE_ENDED = "lease ended"
#: The reason of a dead letter that was given back without one.
NO_REASON = "delivered too often"
_LONGEST_REASON = 4096


def claim(subscriber: Subscriber, receipts: Sequence[Receipt]) -> list[Hold]:
    """Return the hold of each receipt, once.

    A lease that has ended still counts until somebody takes the message over.

    :raise LeaseLostError: one of them is not held any more
    """
    holds: dict[int, Hold] = {}
    for receipt in receipts:
        hold = find(subscriber, receipt)
        if hold is None:
            raise LeaseLostError(
                f"Subscriber {subscriber.identifier!r} does not hold message {receipt.id} by this take any more: it "
                f"was settled, given back or taken over. Nothing was changed; discard what the handler did."
            )
        holds[hold.id] = hold
    return list(holds.values())


def find(subscriber: Subscriber, receipt: Receipt) -> Hold | None:
    """Return the hold of a receipt, unless it was lost."""
    hold = subscriber.holds.get(receipt.id)
    return hold if hold is not None and receipt.token and hold.token == receipt.token else None


def hand_over(subscriber: Subscriber, receipt: Receipt) -> None:
    """Note that a take has reached the caller; one that was lost meanwhile is no error."""
    hold = find(subscriber, receipt)
    if hold is not None:
        subscriber.holds.set(msgspec.structs.replace(hold, handed=True))


def settle(state: State, subscriber: Subscriber, receipts: Sequence[Receipt], now: Now) -> None:
    """Acknowledge takes; what a limit took meanwhile is just let go."""
    for hold in claim(subscriber, receipts):
        _count_settled(subscriber, 0 if hold.gone else 1, now)
        state.finish(subscriber, hold)


def settle_ids(state: State, subscriber: Subscriber, ids: Sequence[int], now: Now) -> int:
    """Acknowledge messages whatever their state; return how many were not settled before."""
    count = 0
    for message_id in dict.fromkeys(ids):
        hold = subscriber.holds.get(message_id)
        if hold is not None:
            state.finish(subscriber, hold)
            count += 0 if hold.gone else 1
        elif message_id in state.messages and subscriber.is_waiting(message_id):
            subscriber.ahead.add(message_id)
            count += 1
            state.pass_settled(subscriber)
    _count_settled(subscriber, count, now)
    return count


def give_back(
    state: State,
    subscriber: Subscriber,
    receipts: Sequence[Receipt],
    now: Now,
    *,
    delay_ns: int,
    reason: str | None,
    undelivered: bool,
) -> None:
    """Let takes come back now or after a delay, or die when they came back too often."""
    if undelivered:
        receipts = [receipt for receipt in receipts if find(subscriber, receipt) is not None]
    for hold in claim(subscriber, receipts):
        if hold.gone:
            state.finish(subscriber, hold)
        elif undelivered or not hold.handed:
            _take_back(state, subscriber, hold, now.wall_ns + delay_ns if delay_ns else None)
        elif _is_exhausted(subscriber, hold):
            _die(state, subscriber, hold, reason or NO_REASON, now)
        else:
            kept = msgspec.structs.replace(hold, token=0, last_error=_shorten(reason))
            _set_aside(state, subscriber, kept, now.wall_ns + delay_ns if delay_ns else None)


def end_lease(
    state: State, subscriber: Subscriber, hold: Hold, reason: str | None, now: Now, *, keep_token: bool
) -> None:
    """Let a leased message come back because its time is over or its holder left."""
    if hold.gone:
        state.finish(subscriber, hold)
    elif not hold.handed or _can_be_untaken(subscriber, hold):
        _take_back(state, subscriber, hold, None)
    elif _is_exhausted(subscriber, hold):
        _die(state, subscriber, hold, reason or NO_REASON, now)
    else:
        kept = msgspec.structs.replace(hold, token=hold.token if keep_token else 0, last_error=reason)
        _set_aside(state, subscriber, kept, None)


def release(state: State, subscriber: Subscriber, receipts: Sequence[Receipt], now: Now) -> None:
    """Give back what is still leased; never complain."""
    for receipt in receipts:
        hold = find(subscriber, receipt)
        if hold is not None and hold.kind is Kind.LEASED:
            end_lease(state, subscriber, hold, None, now, keep_token=False)


def reject(state: State, subscriber: Subscriber, receipts: Sequence[Receipt], reason: str, now: Now) -> None:
    """Move takes to the dead letters."""
    for hold in claim(subscriber, receipts):
        if hold.gone:
            state.finish(subscriber, hold)
        else:
            _die(state, subscriber, hold, reason, now)


def extend(subscriber: Subscriber, receipt: Receipt, lease_ns: int, owner: int, now: Now) -> None:
    """Let a bounded lease end ``lease_ns`` from now; one that has no end keeps having none."""
    (hold,) = claim(subscriber, [receipt])
    if hold.deadline_ns is None or hold.gone:
        return
    if hold.kind is not Kind.LEASED:
        subscriber.owners.setdefault(owner, now.wall_ns)
        hold = msgspec.structs.replace(hold, kind=Kind.LEASED, owner=owner)
    subscriber.holds.set(msgspec.structs.replace(hold, deadline_ns=now.boot_ns + lease_ns))


def settle_to_top(state: State, subscriber: Subscriber, receipt: Receipt, now: Now) -> None:
    """Settle a take and everything up to it that nobody else holds."""
    (top,) = claim(subscriber, [receipt])
    count = 0 if top.gone else 1
    state.finish(subscriber, top)
    _count_settled(subscriber, count + _settle_up_to(state, subscriber, top.id), now)


def return_to_top(state: State, subscriber: Subscriber, receipt: Receipt) -> None:
    """Undo the take of the newest message."""
    (hold,) = claim(subscriber, [receipt])
    if hold.gone:
        state.finish(subscriber, hold)
    else:
        _take_back(state, subscriber, hold, None)


def purge(state: State, subscriber: Subscriber, now: Now) -> int:
    """Settle everything that waits, is ready or delayed; return how many."""
    count = _settle_up_to(state, subscriber, state.next_id - 1)
    _count_settled(subscriber, count, now)
    return count


def _settle_up_to(state: State, subscriber: Subscriber, last_id: int) -> int:
    """Settle what waits, is ready or delayed up to ``last_id``; leases stay; return how many."""
    start, count = subscriber.position, 0
    while subscriber.position <= last_id:
        if subscriber.position in state.messages and subscriber.is_waiting(subscriber.position):
            count += 1
        subscriber.step()
        subscriber.missed = 0
    state.sweep(range(start, subscriber.position))
    for hold in subscriber.holds:
        if hold.kind is not Kind.LEASED and hold.id <= last_id:
            count += 0 if hold.gone else 1
            state.finish(subscriber, hold)
    return count


def _count_settled(subscriber: Subscriber, count: int, now: Now) -> None:
    if count:
        subscriber.settled += count
        subscriber.last_settled_ns = now.wall_ns


def _shorten(reason: str | None) -> str | None:
    return None if reason is None else reason[:_LONGEST_REASON]


def _is_exhausted(subscriber: Subscriber, hold: Hold) -> bool:
    limit = subscriber.settings.max_deliveries
    return limit is not None and hold.count >= limit


def _can_be_untaken(subscriber: Subscriber, hold: Hold) -> bool:
    """Tell whether dropping the hold leaves the message waiting, as it was before ``take_newest``."""
    return hold.top and hold.id >= subscriber.position


def _take_back(state: State, subscriber: Subscriber, hold: Hold, due_ns: int | None) -> None:
    """Undo a take: its delivery did not happen."""
    subscriber.deliveries -= 1
    subscriber.redelivered -= 1 if hold.count > 1 else 0
    if _can_be_untaken(subscriber, hold) and due_ns is None:
        subscriber.holds.remove(hold.id)
        state.stir(subscriber)
    else:
        _set_aside(state, subscriber, msgspec.structs.replace(hold, token=0, count=hold.count - 1), due_ns)


def _set_aside(state: State, subscriber: Subscriber, hold: Hold, due_ns: int | None) -> None:
    """Make a message ready, or delayed until ``due_ns``."""
    if due_ns is None:
        subscriber.holds.set(msgspec.structs.replace(hold, kind=Kind.READY, top=False))
    else:
        subscriber.holds.set(msgspec.structs.replace(hold, kind=Kind.DELAYED, due_ns=due_ns, top=False))
    if _can_be_untaken(subscriber, hold):
        # It does not wait any more, so the position is to pass it.
        subscriber.ahead.add(hold.id)
        state.pass_settled(subscriber)
    state.stir(subscriber)


def _die(state: State, subscriber: Subscriber, hold: Hold, reason: str, now: Now) -> None:
    """Move a message to the dead letters; an earlier one of the same id gives way."""
    subscriber.dead[hold.id] = DeadLetter(hold.message, now.wall_ns, hold.count, reason[:_LONGEST_REASON])
    state.events.append(events.dead_letter(subscriber.identifier, hold.id, hold.count, reason))
    state.finish(subscriber, hold)
