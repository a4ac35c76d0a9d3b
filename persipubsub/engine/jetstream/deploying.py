"""Making the streams of a queue, wholly or not at all."""

import asyncio
import contextlib
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Final

from nats.js import JetStreamContext, api
from nats.js import errors as js_errors

from persipubsub.engine.jetstream import roster, stored
from persipubsub.engine.jetstream.durability import check_durability
from persipubsub.engine.jetstream.link import Link
from persipubsub.engine.jetstream.names import Names
from persipubsub.engine.jetstream.session import Session
from persipubsub.engine.jetstream.stored import Stored
from persipubsub.engine.jetstream.translate import NAME_IN_USE, STREAM_NOT_FOUND, code_of, translate
from persipubsub.limits import Settings, SubscriberSettings

#: Seconds that another deployment of the same queue may take; then it is taken to be dead, and completed.
_OTHER: Final = 10.0
_PLACING: Final = 4.0
_POLL: Final = 0.05


def check(link: Link, settings: Settings) -> None:
    """Refuse what JetStream, or this server, does not have; this blocks while endpoints are asked.

    :raise UnsupportedByEngineError: names the setting and what to do
    """
    stored.check_supported(settings, link.client.max_payload)
    check_durability(settings.durability, link.location, link.server_id)


async def find(link: Link, names: Names) -> Stored | None:
    """Return what is deployed, wholly or not; ``None`` if nothing is.

    :raise NotAQueueError: something else has the name
    """
    try:
        info = await link.manage(lambda js: js.stream_info(names.stream))
    except js_errors.APIError as error:
        if code_of(error) == STREAM_NOT_FOUND:
            return None
        raise translate(error, link.where) from error
    return stored.read_metadata(info.config.metadata, link.where)


async def create(session: Session, settings: Settings, subscribers: Mapping[str, SubscriberSettings]) -> bool:
    """Make the streams and subscribers; return False, changing nothing, if they are there already.

    The metadata of the stream says when all of it is done; a deployment that was killed is completed by the next.
    """
    link, names = session.link, session.names
    begun = Stored(identity=str(uuid.uuid4()), settings=settings, deployed=False)
    found = await find(link, names)
    if found is None:
        try:
            # A cluster that is just starting may find room for the replicas in a moment, but hardly later.
            deadline = asyncio.get_running_loop().time() + _PLACING
            config = stored.stream_config(names, begun, link.location.replicas)
            await link.manage(lambda js: js.add_stream(config), deadline)
        except js_errors.APIError as error:
            if code_of(error) not in NAME_IN_USE:
                raise translate(error, link.where) from error
            found = await find(link, names)
    if found is not None:
        if found.deployed or await _completed_by_another(link, names):
            return False
        begun = Stored(identity=found.identity, settings=settings, deployed=False)
    try:
        await _complete(session, begun, subscribers)
    except BaseException:
        with contextlib.suppress(js_errors.APIError):
            await link.manage(lambda js: js.delete_stream(names.stream))
        raise
    return True


async def configure(session: Session, settings: Settings) -> None:
    """Store other settings and tell everybody."""
    names, link = session.names, session.link
    info = await link.manage(lambda js: js.stream_info(names.stream))
    there = stored.read_metadata(info.config.metadata, session.where)
    changed = Stored(identity=there.identity, settings=settings, deployed=True)
    await _update(link, stored.stream_config(names, changed, info.config.num_replicas or 1))
    await link.manage(lambda js: js.publish(names.settings, b"", stream=names.state))
    link.patience = settings.lock_timeout
    session.forget_all()


async def delete(link: Link, names: Names) -> bool:
    """Delete the streams; return whether there was a queue."""
    found = await find(link, names)
    for stream in (names.stream, names.dead, names.state):
        try:
            await link.manage(partial(_delete, stream))
        except js_errors.APIError as error:
            if code_of(error) != STREAM_NOT_FOUND:
                raise translate(error, link.where) from error
    return found is not None


async def _complete(session: Session, begun: Stored, subscribers: Mapping[str, SubscriberSettings]) -> None:
    link, names, replicas = session.link, session.names, session.link.location.replicas
    for name, subjects, what in (
        (names.dead, names.dead_subjects, "Dead letters of a persipubsub queue"),
        (names.state, names.state_subjects, "Subscribers of a persipubsub queue"),
    ):
        await _add_or_update(link, stored.side_config(name, subjects, what, replicas))
        # Left over from a queue of this name that was deleted by hand.
        await link.manage(partial(_purge, name))
    for identifier, settings in subscribers.items():
        await roster.add(session, identifier, settings, "first")
    done = Stored(identity=begun.identity, settings=begun.settings, deployed=True)
    await _update(link, stored.stream_config(names, done, replicas))


async def _delete(stream: str, js: JetStreamContext) -> bool:
    return await js.delete_stream(stream)


async def _purge(stream: str, js: JetStreamContext) -> bool:
    return await js.purge_stream(stream)


async def _add_or_update(link: Link, config: api.StreamConfig) -> None:
    try:
        await link.manage(lambda js: js.add_stream(config))
    except js_errors.APIError as error:
        if code_of(error) not in NAME_IN_USE:
            raise translate(error, link.where) from error
        await _update(link, config)


async def _update(link: Link, config: api.StreamConfig) -> None:
    try:
        await link.manage(lambda js: js.update_stream(config))
    except js_errors.APIError as error:
        raise translate(error, link.where) from error


async def _completed_by_another(link: Link, names: Names) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _OTHER
    while loop.time() < deadline:
        found = await find(link, names)
        if found is not None and found.deployed:
            return True
        await asyncio.sleep(_POLL)
    return False
