"""Settling messages by their ids, whoever holds them, also ahead of what the consumer has delivered."""

from collections.abc import Iterable, Sequence

import msgspec
from nats.js import api
from nats.js import errors as js_errors

from persipubsub.engine.jetstream import wire
from persipubsub.engine.jetstream.session import Session
from persipubsub.engine.jetstream.stored import Listed
from persipubsub.engine.jetstream.translate import CONSUMER_NOT_FOUND, MESSAGE_NOT_FOUND, code_of, translate
from persipubsub.names import matches


def delivered(info: api.ConsumerInfo) -> int:
    """Return the last message that the consumer has delivered."""
    return info.delivered.stream_seq if info.delivered else 0


async def by_ids(session: Session, identifier: str, ids: Iterable[int]) -> int:
    """Acknowledge messages whatever their state; return how many were not settled before."""
    listed = await session.listed(identifier, fresh=True)
    before = await session.consumer_info(listed)
    floor = before.ack_floor.stream_seq if before.ack_floor else 0
    wanted = sorted({each for each in ids if each > floor and each not in listed.ahead})
    passed = [each for each in wanted if each <= delivered(before)]
    coming = [each for each in wanted if each > delivered(before) and await _waits(session, listed, each)]
    for each in passed:
        await session.answer_to(identifier, listed.consumer, _reply(session, listed, each))
    if wanted:
        session.holds.drop(identifier, wanted)
        ready = session.pulls.ready.get(listed.consumer)
        for kept in list(ready or ()):
            if ready and kept.arrival.id in wanted:
                ready.remove(kept)
    count = len(coming)
    if coming:
        await session.edit_roster(lambda subscribers: _note(subscribers, identifier, coming, floor))
        await _advance(session, identifier)
    if passed:
        after = await session.consumer_info(listed)
        count += max(0, (before.num_ack_pending or 0) - (after.num_ack_pending or 0))
        await session.notes.forget(identifier, passed)
    return count


async def settle_delayed(session: Session, identifier: str, up_to: int | None = None) -> int:
    """Acknowledge what was given back with a delay that is not over; return how many."""
    now_ns, ids = session.clock.wall_ns(), []
    for subject in await session.notes.subjects(identifier):
        each = int(subject.rpartition(".")[2])
        if (up_to is None or each <= up_to) and (await session.notes.read(identifier, each)).due_ns > now_ns:
            ids.append(each)
    return await by_ids(session, identifier, ids) if ids else 0


async def next_of(session: Session, start: int, subject: str) -> wire.Arrival | None:
    """Return the first retained message of a subject from an id on."""
    try:
        found = await session.link.manage(
            lambda js: js.get_msg(session.names.stream, start, subject=subject, next=True)
        )
    except js_errors.APIError as error:
        if code_of(error) == MESSAGE_NOT_FOUND:
            return None
        raise translate(error, session.where) from error
    return wire.read_raw(found, session.names, "")


async def _advance(session: Session, identifier: str) -> None:
    """Let the consumer pass what is settled right ahead of it, so that it is not kept any longer."""
    while True:
        listed = await session.listed(identifier)
        start = delivered(await session.consumer_info(listed)) + 1
        filters = session.names.filters(identifier, listed.settings.topic_filter)
        following = [each for each in [await next_of(session, start, one) for one in filters] if each is not None]
        if not following or min(each.id for each in following) not in listed.ahead:
            return
        arrivals = await session.pulls.take_now(listed.consumer, 1)
        for arrival in arrivals:
            if arrival.id not in listed.ahead:
                session.pulls.keep(arrival)
                return
            await session.answer_to(identifier, listed.consumer, arrival.reply)
        if not arrivals:
            return


async def _waits(session: Session, listed: Listed, message_id: int) -> bool:
    """Tell whether the consumer will deliver a message."""
    try:
        found = await session.link.manage(lambda js: js.get_msg(session.names.stream, message_id))
    except js_errors.APIError as error:
        if code_of(error) in (MESSAGE_NOT_FOUND, CONSUMER_NOT_FOUND):
            return False
        raise translate(error, session.where) from error
    wanted = listed.settings.topic_filter
    topic = session.names.topic_of(found.subject or "")
    return wanted is None or (topic is not None and matches(wanted, topic))


def _reply(session: Session, listed: Listed, message_id: int) -> str:
    """Return where a delivery is acknowledged that somebody else may have got."""
    return f"$JS.ACK.{session.names.stream}.{listed.consumer}.1.{message_id}.{message_id}.0.0"


def _note(subscribers: dict[str, Listed], identifier: str, ids: Sequence[int], floor: int) -> None:
    listed = subscribers.get(identifier)
    if listed is not None:
        kept = sorted({*(each for each in listed.ahead if each > floor), *ids})
        subscribers[identifier] = msgspec.structs.replace(listed, ahead=tuple(kept))
