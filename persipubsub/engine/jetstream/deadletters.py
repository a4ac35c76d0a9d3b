"""Dead letters: messages of a stream of their own, one subject for each."""

import asyncio
from collections.abc import Sequence

from nats.js import errors as js_errors

from persipubsub.engine.jetstream import wire
from persipubsub.engine.jetstream.notes import subjects_like
from persipubsub.engine.jetstream.publish import Publisher
from persipubsub.engine.jetstream.session import Session
from persipubsub.engine.jetstream.translate import MESSAGE_NOT_FOUND, code_of, translate
from persipubsub.engine.messages import DeadLetterRecord


async def page(session: Session, identifier: str, after: int, max_messages: int) -> list[DeadLetterRecord]:
    """Return dead letters with ids greater than ``after``, oldest first."""
    await session.listed(identifier)
    ids = [each for each in await list_ids(session, identifier) if each > after][:max_messages]
    found = await asyncio.gather(*[_dead(session, identifier, each) for each in ids])
    return [
        DeadLetterRecord(
            dead.id, dead.data, dead.headers, dead.topic, dead.sent_ns, dead.died_ns, dead.delivery_count, dead.reason
        )
        for dead in found
        if dead is not None
    ]


async def requeue(session: Session, publisher: Publisher, identifier: str, ids: Sequence[int] | None) -> int:
    """Send dead letters to the subscriber once more, as new messages, and return how many.

    Each is sent, then forgotten. A process that dies in between leaves both; requeued again within the deduplication
    window, the dead letter is recognised and not sent twice.
    """
    await session.listed(identifier)
    count = 0
    for each in await list_ids(session, identifier, ids):
        dead = await _dead(session, identifier, each)
        if dead is None:
            continue
        headers = wire.again_headers(dead, session.names)
        try:
            await publisher.publish(session.names.again(identifier), dead.data, headers)
        except js_errors.APIError as error:
            raise translate(error, session.where) from error
        await _forget(session, identifier, each)
        count += 1
    return count


async def discard(session: Session, identifier: str, ids: Sequence[int] | None) -> int:
    """Forget dead letters; return how many."""
    await session.listed(identifier)
    found = await list_ids(session, identifier, ids)
    for each in found:
        await _forget(session, identifier, each)
    return len(found)


async def list_ids(session: Session, identifier: str, ids: Sequence[int] | None = None) -> list[int]:
    """Return the ids of the dead letters of a subscriber; only those of ``ids`` if they are given."""
    subjects = await subjects_like(session.link, session.names.dead, session.names.dead_letter(identifier, "*"))
    found = sorted(int(subject.rpartition(".")[2]) for subject in subjects)
    return found if ids is None else [each for each in found if each in set(ids)]


async def _dead(session: Session, identifier: str, message_id: int) -> wire.Dead | None:
    subject = session.names.dead_letter(identifier, message_id)
    try:
        return wire.read_dead(await session.link.manage(lambda js: js.get_last_msg(session.names.dead, subject)))
    except js_errors.APIError as error:
        if code_of(error) == MESSAGE_NOT_FOUND:
            return None
        raise


async def _forget(session: Session, identifier: str, message_id: int) -> None:
    subject = session.names.dead_letter(identifier, message_id)
    await session.link.manage(lambda js: js.purge_stream(session.names.dead, subject=subject))
