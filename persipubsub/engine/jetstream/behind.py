"""Whether a consumer has heard of what was stored.

A server confirms a message and tells its consumers of it a moment later. One that is asked in between says that there
is nothing; but who has just sent a message, and asks, is to get it. So what this process stored is remembered, and an
empty answer is believed only once the consumer has passed it.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from persipubsub.engine.jetstream.ahead import delivered, next_of
from persipubsub.engine.jetstream.session import Session
from persipubsub.engine.jetstream.stored import Listed

#: Seconds that a consumer gets to hear of it.
PATIENCE: Final = 1.0
_RETRY: Final = 0.001

#: The last id that this process has stored, by the identities of queues.
_stored: dict[str, int] = {}


def note_stored(session: Session, ids: Sequence[int]) -> None:
    """Remember what was confirmed."""
    if ids:
        _stored[session.identity] = max(_stored.get(session.identity, 0), *ids)


async def is_behind(session: Session, identifier: str, listed: Listed, since: float) -> bool:
    """Tell, after a short rest, whether it is worth to ask a consumer again that said there is nothing.

    It costs nothing unless this process has stored something since the last empty answer.

    :param since: when it was first asked, on the monotonic clock
    """
    stored = _stored.get(session.identity, 0)
    if session.passed.get(listed.consumer, 0) >= stored:
        return False
    start = delivered(await session.consumer_info(listed)) + 1
    for subject in session.names.filters(identifier, listed.settings.topic_filter) if start <= stored else ():
        following = await next_of(session, start, subject)
        if following is not None and following.id <= stored and time.monotonic() < since + PATIENCE:
            await asyncio.sleep(_RETRY)
            return True
    session.passed[listed.consumer] = stored
    return False
