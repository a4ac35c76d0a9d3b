"""Subscribers: the consumers that stand for them, and their positions."""

import datetime
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec
from nats.js import JetStreamContext, api
from nats.js import errors as js_errors

from persipubsub.engine import refusals
from persipubsub.engine.base import Start
from persipubsub.engine.jetstream import stored
from persipubsub.engine.jetstream.session import Session
from persipubsub.engine.jetstream.stored import Listed
from persipubsub.engine.jetstream.translate import CONSUMER_NOT_FOUND, MESSAGE_NOT_FOUND, code_of, translate
from persipubsub.limits import SubscriberSettings
from persipubsub.names import encode_name

#: A consumer that no roster names is somebody's half-made subscriber, unless it is older than these seconds.
_ORPHAN: Final = 60
#: Seconds after which an ephemeral subscriber vanishes whose owner gives no sign of life.
BEAT: Final = 60.0


async def add(session: Session, identifier: str, settings: SubscriberSettings, start: Start) -> None:
    """Add a subscriber unless it is there with the same settings.

    :raise SettingsMismatchError: it exists with other settings
    :raise PositionError: ``start`` is not retained
    """
    encode_name(identifier, "identifier")
    known = (await session.roster(fresh=True)).subscribers.get(identifier)
    if known is not None:
        refusals.check_same(identifier, known.settings, settings)
        return
    if start == "latest":
        where: dict[str, Any] = {"deliver_policy": api.DeliverPolicy.NEW}
    elif start == "first":
        where = {"deliver_policy": api.DeliverPolicy.ALL}
    else:
        where = _from(await check_position(session, start))
    await _sweep_orphans(session)
    if settings.ephemeral:
        await beat(session, identifier)
    listed = Listed(session.names.new_consumer(identifier), settings)
    await _create(session, identifier, listed, where)

    def insert(subscribers: dict[str, Listed]) -> Listed:
        return subscribers.setdefault(identifier, listed)

    winner = await session.edit_roster(insert)
    if winner.consumer != listed.consumer:
        await _delete(session, listed.consumer)
        refusals.check_same(identifier, winner.settings, settings)
    elif settings.ephemeral:
        session.ephemeral.add(identifier)


async def configure(session: Session, identifier: str, settings: SubscriberSettings) -> None:
    """Store other settings; whether it is ephemeral is for good.

    :raise SettingsMismatchError: ``ephemeral`` differs
    """
    listed = await session.listed(identifier, fresh=True)
    refusals.check_ephemeral(identifier, listed.settings, settings)
    if settings.topic_filter != listed.settings.topic_filter:
        info = await session.link.manage(lambda js: js.consumer_info(session.names.stream, listed.consumer))
        wanted = session.names.filters(identifier, settings.topic_filter)
        changed = info.config.evolve(filter_subjects=wanted)
        await session.link.manage(lambda js: js.add_consumer(session.names.stream, changed))
    await _replace(session, identifier, settings=settings)


async def pause(session: Session, identifier: str, paused: bool) -> None:
    """Stop or resume deliveries."""
    listed = await session.listed(identifier, fresh=True)
    until = stored.FOR_EVER if paused else stored.LONG_AGO
    await session.link.manage(lambda js: js.pause_consumer(session.names.stream, listed.consumer, until))
    await _replace(session, identifier, paused=paused)


async def remove(session: Session, identifier: str) -> bool:
    """Remove a subscriber with all it holds; return whether it existed."""
    found = await session.edit_roster(lambda subscribers: subscribers.pop(identifier, None))
    session.holds.drop(identifier)
    session.ephemeral.discard(identifier)
    if found is None:
        return False
    await _delete(session, found.consumer)
    await _forget(session, identifier)
    return True


async def clear(session: Session) -> None:
    """Remove all subscribers and all messages."""

    def empty(subscribers: dict[str, Listed]) -> dict[str, Listed]:
        before = dict(subscribers)
        subscribers.clear()
        return before

    for identifier, listed in (await session.edit_roster(empty)).items():
        session.holds.drop(identifier)
        await _delete(session, listed.consumer)
    names = session.names
    for stream, subject in ((names.stream, None), (names.dead, None), (names.state, names.all_notes)):
        await session.link.manage(partial(_purge, stream, subject))


async def seek(session: Session, identifier: str, position: int) -> None:
    """Move a subscriber; what it holds is forgotten, dead letters stay.

    :raise PositionError: the id is not retained
    """
    await session.listed(identifier, fresh=True)
    await move(session, identifier, await check_position(session, position))


async def move(session: Session, identifier: str, position: int) -> None:
    """Let another consumer, which begins at ``position``, stand for a subscriber.

    The new one is there before the old one goes, so no message is dropped in between for want of interest.
    """
    listed = await session.listed(identifier, fresh=True)
    successor = msgspec.structs.replace(listed, consumer=session.names.new_consumer(identifier), ahead=())
    await _create(session, identifier, successor, _from(position))

    def exchange(subscribers: dict[str, Listed]) -> Listed | None:
        before = subscribers.get(identifier)
        if before is not None:
            subscribers[identifier] = msgspec.structs.replace(before, consumer=successor.consumer, ahead=())
        return before

    before = await session.edit_roster(exchange)
    if before is None:
        await _delete(session, successor.consumer)
        raise refusals.unknown_subscriber(identifier, (await session.roster()).subscribers)
    session.holds.drop(identifier)
    session.pulls.ready.pop(before.consumer, None)
    await _delete(session, before.consumer)
    await session.notes.forget(identifier, ["*"])


async def check_position(session: Session, position: object) -> int:
    """Return ``position`` if a subscriber can stand there.

    :raise PositionError: it cannot
    """
    return refusals.check_position(position, *await bounds(session))


async def bounds(session: Session) -> tuple[int, int]:
    """Return the oldest retained id and the id that the next message will get."""
    try:
        state = (await session.link.manage(lambda js: js.stream_info(session.names.stream))).state
    except js_errors.APIError as error:
        raise translate(error, session.where) from error
    following = state.last_seq + 1
    return (state.first_seq if state.messages else following), following


# -- ephemeral subscribers ------------------------------------------------------------------------


async def beat(session: Session, identifier: str) -> None:
    """Give a sign of life for an ephemeral subscriber."""
    headers = {"Nats-TTL": f"{int(BEAT)}s"}
    subject = session.names.beat(identifier)
    await session.link.manage(lambda js: js.publish(subject, b"", stream=session.names.state, headers=headers))


async def sweep(session: Session) -> None:
    """Remove the ephemeral subscribers whose owners are gone."""
    for identifier, listed in (await session.roster(fresh=True)).subscribers.items():
        if not listed.settings.ephemeral or identifier in session.ephemeral:
            continue
        if not await _lives(session, identifier):
            await remove(session, identifier)


async def _lives(session: Session, identifier: str) -> bool:
    subject = session.names.beat(identifier)
    try:
        await session.link.manage(lambda js: js.get_last_msg(session.names.state, subject))
    except js_errors.APIError as error:
        if code_of(error) == MESSAGE_NOT_FOUND:
            return False
        raise
    return True


async def _purge(stream: str, subject: str | None, js: JetStreamContext) -> bool:
    return await js.purge_stream(stream, subject=subject)


# -- consumers ------------------------------------------------------------------------------------


def _from(position: int) -> dict[str, Any]:
    return {"deliver_policy": api.DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": position}


async def _create(session: Session, identifier: str, listed: Listed, start: Mapping[str, Any]) -> None:
    config = stored.consumer_config(session.names, identifier, listed, ack_wait=session.link.location.ack_wait, **start)
    try:
        await session.link.manage(lambda js: js.add_consumer(session.names.stream, config))
    except js_errors.APIError as error:
        raise translate(error, session.where) from error


async def _delete(session: Session, consumer: str) -> None:
    try:
        await session.link.manage(lambda js: js.delete_consumer(session.names.stream, consumer))
    except js_errors.APIError as error:
        if code_of(error) != CONSUMER_NOT_FOUND:
            raise translate(error, session.where) from error


async def _replace(session: Session, identifier: str, **changes: Any) -> None:
    def change(subscribers: dict[str, Listed]) -> bool:
        if identifier not in subscribers:
            return False
        subscribers[identifier] = msgspec.structs.replace(subscribers[identifier], **changes)
        return True

    if not await session.edit_roster(change):
        raise refusals.unknown_subscriber(identifier, (await session.roster()).subscribers)


async def _forget(session: Session, identifier: str) -> None:
    """Drop dead letters and notes of a subscriber."""
    names = session.names
    dead = names.dead_letter(identifier, "*")
    await session.link.manage(lambda js: js.purge_stream(names.dead, subject=dead))
    await session.notes.forget(identifier, ["*"])


async def _sweep_orphans(session: Session) -> None:
    """Delete consumers that a killed process left between making them and listing them: they would hold messages."""
    known = {listed.consumer for listed in (await session.roster(fresh=True)).subscribers.values()}
    for info in await session.link.manage(lambda js: js.consumers_info(session.names.stream)):
        age = datetime.datetime.now(datetime.UTC) - info.created
        if info.name not in known and age.total_seconds() > _ORPHAN:
            await _delete(session, info.name)
