"""What has to happen by itself: messages kept in progress, bounded leases ended, strays given back."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from typing import Final

import nats.errors
from nats.js import errors as js_errors

from persipubsub.engine.jetstream import roster, settle
from persipubsub.engine.jetstream.holds import Hold
from persipubsub.engine.jetstream.notes import NO_NOTE
from persipubsub.engine.jetstream.session import Session
from persipubsub.engine.jetstream.take import LEASE_ENDED
from persipubsub.engine.jetstream.wire import Arrival
from persipubsub.errors import PersipubsubError

logger = logging.getLogger("persipubsub")

#: Seconds after which a message is given back that came for a request that nobody waits for any more.
_STALE: Final = 0.5
_SHORTEST: Final = 0.01
_LONGEST: Final = 20.0


class Keeper:
    """A task on the loop of one engine; it sleeps until something is due."""

    def __init__(self, session: Session) -> None:
        """Do nothing yet."""
        self._session = session
        self._stirred = asyncio.Event()
        self._next_beat = 0.0
        self._keeping: set[asyncio.Task[object]] = set()

    def stir(self) -> None:
        """Look anew at what is due; on the loop."""
        self._stirred.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._stirred.clear()
            try:
                await self._round(time.monotonic())
            except (PersipubsubError, nats.errors.Error, js_errors.APIError, OSError) as error:
                logger.debug("Keeping messages of %s in progress failed: %s", self._session.where, error)
            seconds = min(_LONGEST, max(_SHORTEST, self._next(time.monotonic())))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stirred.wait()

    async def _round(self, now: float) -> None:
        session = self._session
        due: list[Hold] = []
        for hold in session.holds.all():
            if hold.ends is not None and now >= hold.ends:
                # The handler hangs, or took too long: somebody else shall have it. It cannot settle it any more.
                session.holds.remove(hold)
                if now < hold.sure_until:
                    self._start(settle.release_one(session, hold, LEASE_ENDED))
            elif now >= hold.sure_until:
                session.holds.remove(hold)
            elif not hold.top and now >= _keep_at(hold):
                due.append(hold)
        for hold in due:
            self._start(settle.keep(session, hold))
            # Not again in the next round, which comes before the answer.
            hold.asked = now
        for arrival in session.pulls.stale(_STALE):
            await self.give_back(arrival)
        if now >= self._next_beat:
            self._next_beat = now + roster.BEAT / 3
            for identifier in list(session.ephemeral):
                await roster.beat(session, identifier)
            await roster.sweep(session)

    def _next(self, now: float) -> float:
        """Return in how many seconds something is due."""
        times = [self._next_beat]
        for hold in self._session.holds.all():
            if not hold.top:
                times.append(_keep_at(hold))
            if hold.ends is not None:
                times.append(hold.ends)
        times += [ready[0].since + _STALE for ready in self._session.pulls.ready.values() if ready]
        return min(times) - now

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def give_back(self, arrival: Arrival) -> None:
        """Give back a message that nobody came for."""
        session = self._session
        for identifier, listed in (await session.roster()).subscribers.items():
            if listed.consumer == arrival.consumer:
                note = NO_NOTE if arrival.delivered == 1 else await session.notes.read(identifier, arrival.id)
                hold = Hold(session.holds.new_token(), identifier, arrival, note, 1, 0, 0)
                await settle.give_back_one(session, hold, undelivered=True)


def _keep_at(hold: Hold) -> float:
    """Return when the server is to be told that a message is in progress: three times in an ack wait."""
    return max(hold.sure_until - hold.ack_wait * 2 / 3, hold.asked + hold.ack_wait / 6)
