"""Giving messages out: what the consumer delivers, less what must not be handed over now."""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from persipubsub.engine.jetstream import settle
from persipubsub.engine.jetstream.behind import is_behind
from persipubsub.engine.jetstream.holds import Hold, deliver
from persipubsub.engine.jetstream.link import RETRY
from persipubsub.engine.jetstream.notes import NO_NOTE, Note
from persipubsub.engine.jetstream.pulling import MOST, ConsumerGoneError
from persipubsub.engine.jetstream.session import Session
from persipubsub.engine.jetstream.stored import Listed
from persipubsub.engine.jetstream.wire import Arrival
from persipubsub.engine.messages import Delivery
from persipubsub.errors import UnreachableError

LEASE_ENDED = "lease ended"


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """On what terms messages are given out; without ``lease_ns`` the subscriber's own lease counts."""

    lease_ns: int | None = None
    handed: bool = True


async def take(session: Session, identifier: str, max_messages: int, terms: Terms) -> list[Hold]:
    """Take up to ``max_messages`` that are due."""
    taken: list[Hold] = []
    try:
        while len(taken) < max_messages:
            arrivals, listed, asked = await pull(session, identifier, max_messages - len(taken))
            if not arrivals:
                break
            # Sure of it since it was asked for: the server cannot have begun to count earlier.
            taken += await _admit(session, identifier, listed, arrivals, terms, asked)
            if len(arrivals) < min(MOST, max_messages - len(taken)):
                break
    except BaseException:
        for hold in taken:
            session.link.start(settle.give_back_one(session, hold, undelivered=True))
        raise
    return taken


async def pull(session: Session, identifier: str, max_messages: int) -> tuple[list[Arrival], Listed, float]:
    """Ask for messages; return them with the subscriber and with when they were asked for."""
    began = time.monotonic()
    deadline = began + session.link.patience
    listed = await session.listed(identifier)
    while True:
        if listed.paused:
            return [], listed, 0.0
        asked = time.monotonic()
        oldest = session.pulls.ready.get(listed.consumer)
        if oldest:
            # How long it was under way is not known, but never for so long.
            asked = oldest[0].since - await session.ack_wait(listed.consumer) / 4
        try:
            arrivals = await session.pulls.take_now(listed.consumer, max_messages)
            if not arrivals and await is_behind(session, identifier, listed, began):
                continue
            # What was given back comes in the order in which it was; at least those that come together are sorted.
            return sorted(arrivals, key=lambda arrival: arrival.id), listed, asked
        except ConsumerGoneError as error:
            before, listed = listed, await session.listed(identifier, fresh=True)
            if listed.consumer == before.consumer:
                await session.check_alive()
                if time.monotonic() > deadline:
                    raise UnreachableError(
                        f"The consumer of the subscriber {identifier!r} of {session.where} does not answer: its "
                        "servers have no leader, or it was deleted by hand. Try again when the cluster has a "
                        "majority, or remove the subscriber and add it again."
                    ) from error
                await asyncio.sleep(RETRY)


def handed_out(holds: Sequence[Hold], now_ns: int, *, with_data: bool = True) -> list[Delivery]:
    """Show holds to the outside."""
    return [
        deliver(hold, first_received_ns=hold.note.first_received_ns or now_ns, with_data=with_data) for hold in holds
    ]


async def _admit(
    session: Session, identifier: str, listed: Listed, arrivals: Sequence[Arrival], terms: Terms, asked: float
) -> list[Hold]:
    ack_wait = await session.ack_wait(listed.consumer)
    notes = await asyncio.gather(*[_note(session, identifier, arrival) for arrival in arrivals])
    lease = terms.lease_ns / 1e9 if terms.lease_ns is not None else listed.settings.lease
    admitted: list[Hold] = []
    for arrival, note in zip(arrivals, notes, strict=True):
        hold = Hold(
            token=session.holds.new_token(),
            identifier=identifier,
            arrival=arrival,
            note=note,
            count=arrival.delivered - note.uncounted,
            ack_wait=ack_wait,
            sure_until=asked + ack_wait,
            ends=None if lease is None else time.monotonic() + lease,
            handed=terms.handed,
        )
        session.holds.add(hold)
        if await _may_go_out(session, listed, hold):
            admitted.append(hold)
    return admitted


async def _note(session: Session, identifier: str, arrival: Arrival) -> Note:
    if arrival.delivered == 1:
        return NO_NOTE
    return await session.notes.read(identifier, arrival.id)


async def _may_go_out(session: Session, listed: Listed, hold: Hold) -> bool:
    """Tell whether a message is to be handed over; settle or put off what is not."""
    arrival, now_ns = hold.arrival, session.clock.wall_ns()
    if arrival.id in listed.ahead or is_expired(arrival.sent_ns, arrival.expires_in_ns, now_ns):
        await settle.finish(session, hold)
        return False
    due_ns = max(hold.note.due_ns, arrival.sent_ns + arrival.delay_ns if arrival.delay_ns else 0)
    if due_ns > now_ns:
        await settle.give_back_one(session, hold, delay_ns=due_ns - now_ns, undelivered=True)
        return False
    limit = listed.settings.max_deliveries
    if limit is not None and hold.count > limit:
        # Its last handler never came back.
        await settle.die(session, hold, hold.note.last_error or LEASE_ENDED, count=hold.count - 1)
        return False
    if hold.note.exists:
        # For the figures: it does not wait any more.
        await session.notes.write(hold.identifier, hold.id, msgspec.structs.replace(hold.note, held=True))
    return True


def is_expired(sent_ns: int, expires_in_ns: int | None, now_ns: int) -> bool:
    """Tell whether the time of a message is up."""
    return expires_in_ns is not None and sent_ns + expires_in_ns <= now_ns
