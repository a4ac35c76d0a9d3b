"""What becomes of messages that were taken."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

import msgspec
import nats.errors
from nats.js import errors as js_errors

from persipubsub.engine import events
from persipubsub.engine.jetstream import wire
from persipubsub.engine.jetstream.ahead import by_ids
from persipubsub.engine.jetstream.holds import Hold
from persipubsub.engine.jetstream.session import Session
from persipubsub.engine.messages import Receipt
from persipubsub.errors import LeaseLostError, PersipubsubError

logger = logging.getLogger("persipubsub")

#: The reason of a dead letter that was given back without one.
NO_REASON: Final = "delivered too often"
_LONGEST_REASON: Final = 4096
_ACK: Final = b"+ACK"
_TERM: Final = b"+TERM"
_IN_PROGRESS: Final = b"+WPI"


async def claim(session: Session, identifier: str, receipts: Sequence[Receipt]) -> list[Hold]:
    """Return the hold of each receipt, once.

    :raise LeaseLostError: one of them is not held any more
    :raise UnknownSubscriberError: because the subscriber was removed
    """
    try:
        return session.holds.claim(identifier, receipts)
    except LeaseLostError:
        await session.listed(identifier, fresh=True)
        raise


async def settle(session: Session, identifier: str, receipts: Sequence[Receipt]) -> None:
    """Acknowledge takes, each by itself: a process that dies meanwhile leaves some of them acknowledged.

    :raise LeaseLostError: one of them is not held any more, and nothing was changed; or the server does not know of it
        any more, and the others were acknowledged
    """
    holds = await claim(session, identifier, receipts)
    outcomes = await asyncio.gather(*[finish(session, hold) for hold in holds], return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    gone = [str(hold.id) for hold, outcome in zip(holds, outcomes, strict=True) if not outcome]
    if gone:
        raise LeaseLostError(
            f"The messages {', '.join(gone)} are not known as taken any more: the subscriber {identifier!r} "
            "was moved or removed since, or the server was killed and forgot; they may be delivered again."
        )


async def finish(session: Session, hold: Hold) -> bool:
    """Acknowledge a hold; return False if its consumer is gone."""
    found = await _answer(session, hold, _ACK)
    session.holds.remove(hold)
    if hold.note.exists:
        await session.notes.forget(hold.identifier, [hold.id])
    return found


async def give_back(
    session: Session,
    identifier: str,
    receipts: Sequence[Receipt],
    *,
    delay_ns: int,
    reason: str | None,
    undelivered: bool,
) -> None:
    """Let takes come back now or after a delay, or die when they came back too often."""
    if undelivered:
        holds = [hold for hold in (session.holds.find(identifier, receipt) for receipt in receipts) if hold is not None]
    else:
        holds = await claim(session, identifier, receipts)
    # One after the other: so they come back in their order.
    for hold in sorted(holds, key=lambda hold: hold.id):
        await give_back_one(session, hold, delay_ns=delay_ns, reason=reason, undelivered=undelivered)


async def give_back_one(
    session: Session, hold: Hold, *, delay_ns: int = 0, reason: str | None = None, undelivered: bool = False
) -> None:
    """Let one take come back, or die."""
    undelivered = undelivered or not hold.handed
    if hold.top and undelivered:
        session.holds.remove(hold)
        return
    if not undelivered and await _is_exhausted(session, hold):
        await die(session, hold, reason or NO_REASON)
        return
    now_ns = session.clock.wall_ns()
    note = msgspec.structs.replace(
        hold.note,
        # The consumer does not know of a take of the newest message.
        uncounted=hold.note.uncounted + undelivered - hold.top,
        last_error=hold.note.last_error if undelivered else _shorten(reason),
        first_received_ns=hold.note.first_received_ns or (0 if undelivered else now_ns),
        due_ns=now_ns + delay_ns if delay_ns else 0,
        held=False,
    )
    if hold.arrival.last_error is not None and undelivered and not hold.note.exists:
        note = msgspec.structs.replace(note, last_error=hold.arrival.last_error)
    await session.notes.write(hold.identifier, hold.id, note)
    if not hold.top:
        await session.answer(hold, b'-NAK {"delay": %d}' % delay_ns if delay_ns else b"-NAK")
    session.holds.remove(hold)


async def reject(session: Session, identifier: str, receipts: Sequence[Receipt], reason: str) -> None:
    """Move takes to the dead letters."""
    for hold in await claim(session, identifier, receipts):
        await die(session, hold, reason)


async def die(session: Session, hold: Hold, reason: str, *, count: int | None = None) -> None:
    """Move a message to the dead letters.

    It is stored there first: if this process dies in between, the message comes again and replaces its dead letter.
    """
    headers = wire.dead_headers(
        hold.arrival, session.clock.wall_ns(), hold.count if count is None else count, reason[:_LONGEST_REASON]
    )
    subject = session.names.dead_letter(hold.identifier, hold.id)
    await session.link.manage(
        lambda js: js.publish(subject, hold.arrival.data, stream=session.names.dead, headers=headers)
    )
    await _answer(session, hold, _TERM)
    session.holds.remove(hold)
    if hold.note.exists:
        await session.notes.forget(hold.identifier, [hold.id])
    deliveries = hold.count if count is None else count
    event = events.dead_letter(hold.identifier, hold.id, deliveries, reason)
    await session.link.tell(lambda: event.log(session.where))


async def extend(session: Session, identifier: str, receipt: Receipt, lease_ns: int) -> None:
    """Let a bounded lease end ``lease_ns`` from now; one that has no end keeps having none."""
    (hold,) = await claim(session, identifier, [receipt])
    if hold.ends is not None:
        hold.ends = time.monotonic() + lease_ns / 1e9


async def release(session: Session, identifier: str, receipts: Sequence[Receipt]) -> None:
    """Give back what is still held; never complain."""
    for receipt in sorted(receipts, key=lambda receipt: receipt.id):
        hold = session.holds.find(identifier, receipt)
        if hold is not None:
            await release_one(session, hold)


async def release_one(session: Session, hold: Hold, reason: str | None = None) -> None:
    """Give one take back; never complain: at worst it comes back when the ack wait is over."""
    try:
        await give_back_one(session, hold, reason=reason)
    except (PersipubsubError, nats.errors.Error, js_errors.APIError, OSError) as error:
        logger.debug("Giving message %d back failed: %s", hold.id, error)
    finally:
        session.holds.remove(hold)


async def keep(session: Session, hold: Hold) -> None:
    """Tell the server that a message is still being worked on."""
    asked = time.monotonic()
    try:
        await session.link.client.request(hold.arrival.reply, _IN_PROGRESS, timeout=hold.ack_wait / 2)
    except (TimeoutError, nats.errors.Error, OSError):
        # The next round tries again; if none succeeds the lease is lost, and the hold knows.
        return
    hold.sure_until = asked + hold.ack_wait


async def _answer(session: Session, hold: Hold, what: bytes) -> bool:
    if not hold.top:
        return await session.answer(hold, what)
    await by_ids(session, hold.identifier, [hold.id])
    return True


async def _is_exhausted(session: Session, hold: Hold) -> bool:
    roster = await session.roster()
    listed = roster.subscribers.get(hold.identifier)
    limit = None if listed is None else listed.settings.max_deliveries
    return limit is not None and hold.count >= limit


def _shorten(reason: str | None) -> str | None:
    return None if reason is None else reason[:_LONGEST_REASON]
