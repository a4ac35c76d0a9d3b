"""One open queue: the connection and everything that is known about the queue; all of it lives on the loop."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

import nats.errors
from nats.aio.msg import Msg
from nats.js import api
from nats.js import errors as js_errors

from persipubsub.engine.clock import Clock
from persipubsub.engine.jetstream import stored, wire
from persipubsub.engine.jetstream.holds import Hold, Holds
from persipubsub.engine.jetstream.link import ATTEMPT, RETRY, Link
from persipubsub.engine.jetstream.names import Names
from persipubsub.engine.jetstream.notes import Notes
from persipubsub.engine.jetstream.pulling import Pulls
from persipubsub.engine.jetstream.stored import Listed, Roster, Stored
from persipubsub.engine.jetstream.translate import (
    CONSUMER_NOT_FOUND,
    MESSAGE_NOT_FOUND,
    WRONG_LAST_SEQUENCE,
    code_of,
    translate,
)
from persipubsub.engine.refusals import not_found, unknown_subscriber
from persipubsub.errors import QueueReplacedError, UnreachableError

T = TypeVar("T")
Edit = Callable[[dict[str, Listed]], T]

_ACK: Final = b"+ACK"


class Session:
    """What the modules of this engine share."""

    def __init__(self, link: Link, names: Names, clock: Clock) -> None:
        """Know nothing yet; ``open`` reads the queue."""
        self.link = link
        self.names = names
        self.clock = clock
        self.holds = Holds()
        self.notes = Notes(link, names)
        self.pulls = Pulls(link, names)
        #: Called on the loop when something about the subscribers changed.
        self.on_change: Callable[[], None] = lambda: None
        self.identity = ""
        self._stored: Stored | None = None
        self._roster: Roster | None = None
        self._ack_waits: dict[str, float] = {}
        #: By consumers, the last id that was stored here and that they are known to have passed.
        self.passed: dict[str, int] = {}
        #: Consumers of ephemeral subscribers that this engine added.
        self.ephemeral: set[str] = set()

    @property
    def where(self) -> str:
        """Return the URL without secrets."""
        return self.link.where

    async def open(self) -> None:
        """Read the queue and listen for changes.

        :raise QueueNotFoundError: nothing is deployed there
        """
        try:
            found = await self.fetch()
        except QueueReplacedError:
            raise not_found(self.where) from None
        if not found.deployed:
            raise not_found(self.where)
        self.identity = found.identity
        await self.pulls.start()
        await self.link.client.subscribe(self.names.live, cb=self._hear)
        self.link.on_return = self.forget_all
        await self.roster(fresh=True)

    # -- settings -----------------------------------------------------------------------------

    async def fetch(self) -> Stored:
        """Read the settings from the stream.

        :raise QueueReplacedError: the stream was deleted, or another one has its name
        """
        try:
            info = await self.link.manage(lambda js: js.stream_info(self.names.stream))
        except js_errors.APIError as error:
            raise translate(error, self.where) from error
        found = stored.read_metadata(info.config.metadata, self.where)
        if self.identity and found.identity != self.identity:
            raise QueueReplacedError(
                f"The queue {self.where} was deleted and deployed anew while it was open; open it again."
            )
        self._stored = found
        return found

    async def stored(self) -> Stored:
        """Return the settings, as they were when they last changed."""
        return self._stored if self._stored is not None else await self.fetch()

    # -- subscribers --------------------------------------------------------------------------

    async def roster(self, *, fresh: bool = False) -> Roster:
        """Return the subscribers; ``fresh`` reads them from the servers."""
        if fresh or self._roster is None:
            try:
                found = await self.link.manage(lambda js: js.get_last_msg(self.names.state, self.names.roster))
            except js_errors.APIError as error:
                if code_of(error) != MESSAGE_NOT_FOUND:
                    raise translate(error, self.where) from error
                self._roster = Roster({})
            else:
                self._roster = stored.decode_roster(found.data or b"{}", found.seq or 0)
        return self._roster

    async def listed(self, identifier: str, *, fresh: bool = False) -> Listed:
        """Return a subscriber.

        :raise UnknownSubscriberError: there is no such subscriber
        """
        roster = await self.roster(fresh=fresh)
        found = roster.subscribers.get(identifier)
        if found is None and not fresh:
            return await self.listed(identifier, fresh=True)
        if found is None:
            await self.fetch()
            raise unknown_subscriber(identifier, roster.subscribers)
        return found

    async def edit_roster(self, edit: Edit[T]) -> T:
        """Change the roster in one step; ``edit`` gets a copy and is called again when somebody else came first."""
        while True:
            roster = await self.roster(fresh=True)
            subscribers = dict(roster.subscribers)
            result = edit(subscribers)
            if subscribers == roster.subscribers:
                return result
            try:
                await self._store(Roster(subscribers, roster.sequence))
            except js_errors.APIError as error:
                if code_of(error) not in WRONG_LAST_SEQUENCE:
                    raise translate(error, self.where) from error
                continue
            self._roster = None
            return result

    async def _store(self, roster: Roster) -> None:
        headers = {wire.EXPECTED_LAST: str(roster.sequence), wire.EXPECTED_STREAM: self.names.state}
        data = stored.encode_roster(roster)
        await self.link.manage(lambda js: js.publish(self.names.roster, data, headers=headers))

    async def consumer_info(self, listed: Listed) -> api.ConsumerInfo:
        """Return what the server knows about the consumer of a subscriber.

        :raise APIError: it is gone
        """
        return await self.link.manage(lambda js: js.consumer_info(self.names.stream, listed.consumer))

    async def ack_wait(self, consumer: str) -> float:
        """Return after how many seconds the server gives a message of a silent process away."""
        if consumer not in self._ack_waits:
            try:
                info = await self.link.manage(lambda js: js.consumer_info(self.names.stream, consumer))
            except js_errors.APIError as error:
                if code_of(error) == CONSUMER_NOT_FOUND:
                    return self.link.location.ack_wait
                raise translate(error, self.where) from error
            self._ack_waits[consumer] = float(info.config.ack_wait or self.link.location.ack_wait)
        return self._ack_waits[consumer]

    # -- acknowledgements ---------------------------------------------------------------------

    async def answer(self, hold: Hold, what: bytes = _ACK) -> bool:
        """Tell the server about a hold until it confirms; return False if the consumer is gone."""
        return await self.answer_to(hold.identifier, hold.arrival.consumer, hold.arrival.reply, what)

    async def answer_to(self, identifier: str, consumer: str, reply: str, what: bytes = _ACK) -> bool:
        """Tell the server about a delivery until it confirms; return False if it does not know of it any more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.link.patience
        while True:
            try:
                await self.link.request(reply, what, deadline=min(deadline, loop.time() + ATTEMPT))
                return True
            except nats.errors.NoRespondersError as error:
                # The consumer was deleted, or its leader is just being elected.
                found = (await self.roster(fresh=True)).subscribers.get(identifier)
                if found is None or found.consumer != consumer:
                    return False
                if loop.time() > deadline:
                    raise translate(error, self.where) from error
                await self.check_alive()
                await asyncio.sleep(RETRY)
            except UnreachableError:
                # A killed server may come back without knowing of its last deliveries, and does not answer about them.
                if loop.time() > deadline:
                    raise
                if await self._has_forgotten(consumer, reply):
                    return False

    async def _has_forgotten(self, consumer: str, reply: str) -> bool:
        try:
            info = await self.link.manage(lambda js: js.consumer_info(self.names.stream, consumer))
        except js_errors.APIError as error:
            if code_of(error) == CONSUMER_NOT_FOUND:
                return True
            raise translate(error, self.where) from error
        return (info.delivered.stream_seq if info.delivered else 0) < wire.sequence_of(reply)

    async def check_alive(self) -> None:
        """Raise if the stream was deleted or exchanged.

        :raise QueueReplacedError: it was
        """
        await self.fetch()

    # -- what others change -------------------------------------------------------------------

    async def _hear(self, message: Msg) -> None:
        if message.subject == self.names.settings:
            self._stored = None
        self._roster = None
        self.on_change()

    def forget_all(self) -> None:
        """Read everything anew: changes may have been missed."""
        self._stored = None
        self._roster = None
        self.on_change()
