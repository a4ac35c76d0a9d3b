"""The newest message, taken ahead of all older ones; and settling all that waits up to a message."""

import math
from collections.abc import Sequence

from nats.js import api
from nats.js import errors as js_errors

from persipubsub.engine.jetstream import roster, settle, take, wire
from persipubsub.engine.jetstream.ahead import delivered, settle_delayed
from persipubsub.engine.jetstream.holds import Hold
from persipubsub.engine.jetstream.pulling import MOST
from persipubsub.engine.jetstream.session import Session
from persipubsub.engine.jetstream.stored import Listed
from persipubsub.engine.jetstream.translate import MESSAGE_NOT_FOUND, code_of
from persipubsub.engine.messages import Receipt
from persipubsub.names import matches

#: So many messages at the end of the queue are looked at: those that are not due, or expired, are passed over.
_FURTHEST = 1000
#: With more than that behind it, the consumer is moved instead of being emptied.
_MANY = 10_000


async def take_newest(session: Session, identifier: str, terms: take.Terms) -> Hold | None:
    """Take the newest message that nobody holds.

    Nothing on the server says that it is held: another process of the subscriber may get it as well.
    """
    listed = await session.listed(identifier)
    if listed.paused:
        return None
    while True:
        info = await session.consumer_info(listed)
        hold = await _newest_waiting(session, identifier, listed, delivered(info)) if info.num_pending else None
        if hold is None:
            return await _newest_returned(session, identifier, terms)
        limit = listed.settings.max_deliveries
        if limit is None or hold.count <= limit:
            session.holds.add(hold)
            return hold
        await settle.die(session, hold, hold.note.last_error or take.LEASE_ENDED, count=hold.count - 1)
        listed = await session.listed(identifier, fresh=True)


async def settle_to_top(session: Session, identifier: str, receipt: Receipt) -> None:
    """Settle a take and everything up to it that nobody holds.

    :raise LeaseLostError: it is not held any more
    """
    (hold,) = await settle.claim(session, identifier, [receipt])
    session.holds.remove(hold)
    if not hold.top:
        await settle.finish(session, hold)
    await settle_waiting(session, identifier, hold.id)
    if hold.note.exists:
        await session.notes.forget(identifier, [hold.id])


async def settle_waiting(session: Session, identifier: str, up_to: int | None = None) -> int:
    """Settle what waits, was given back or is delayed, up to a message; return how many."""
    listed = await session.listed(identifier)
    info = await session.consumer_info(listed)
    pending = info.num_pending or 0
    if pending > _MANY and not info.num_ack_pending:
        last = up_to
        if last is None:
            last = (await session.link.manage(lambda js: js.stream_info(session.names.stream))).state.last_seq
        await roster.move(session, identifier, last + 1)
        return pending
    count = await settle_delayed(session, identifier, up_to) if info.num_ack_pending else 0
    while True:
        arrivals, listed, _ = await take.pull(session, identifier, MOST)
        beyond: Sequence[wire.Arrival] = [each for each in arrivals if up_to is not None and each.id > up_to]
        for arrival in arrivals:
            if arrival not in beyond:
                await session.answer_to(identifier, listed.consumer, arrival.reply)
                count += arrival.id not in listed.ahead
        passed = [arrival.id for arrival in arrivals if arrival not in beyond and arrival.delivered > 1]
        await session.notes.forget(identifier, passed)
        for arrival in beyond:
            session.pulls.keep(arrival)
        if beyond or not arrivals:
            return count


async def _newest_waiting(session: Session, identifier: str, listed: Listed, after: int) -> Hold | None:
    names, now_ns = session.names, session.clock.wall_ns()
    sequence = (await session.link.manage(lambda js: js.stream_info(names.stream))).state.last_seq
    for _ in range(_FURTHEST):
        if sequence <= after:
            return None
        found = await _get(session, sequence)
        sequence -= 1
        if found is None:
            continue
        arrival = wire.read_raw(found, names, listed.consumer)
        if found.subject != names.again(identifier) and not _passes(
            listed, arrival, names.messages, found.subject or ""
        ):
            continue
        note = await session.notes.read(identifier, arrival.id)
        due_ns = max(note.due_ns, arrival.sent_ns + arrival.delay_ns if arrival.delay_ns else 0)
        if due_ns > now_ns or take.is_expired(arrival.sent_ns, arrival.expires_in_ns, now_ns):
            continue
        return Hold(
            token=session.holds.new_token(),
            identifier=identifier,
            arrival=arrival,
            note=note,
            count=1 - note.uncounted,
            ack_wait=math.inf,
            sure_until=math.inf,
            top=True,
        )
    return None


async def _get(session: Session, sequence: int) -> api.RawStreamMsg | None:
    try:
        return await session.link.manage(lambda js: js.get_msg(session.names.stream, sequence))
    except js_errors.APIError as error:
        if code_of(error) == MESSAGE_NOT_FOUND:
            return None
        raise


async def _newest_returned(session: Session, identifier: str, terms: take.Terms) -> Hold | None:
    taken = await take.take(session, identifier, _FURTHEST, terms)
    newest = max(taken, key=lambda hold: hold.id, default=None)
    for hold in sorted(taken, key=lambda hold: hold.id):
        if hold is not newest:
            await settle.give_back_one(session, hold, undelivered=True)
    return newest


def _passes(listed: Listed, arrival: wire.Arrival, pattern: str, subject: str) -> bool:
    """Tell whether a message is one for the subscriber that is not settled ahead."""
    if arrival.id in listed.ahead or not subject.startswith(pattern.removesuffix(">")):
        return False
    wanted = listed.settings.topic_filter
    return wanted is None or (arrival.topic is not None and matches(wanted, arrival.topic))
