"""Pull requests, and what arrives when nobody asks any more.

A delivered message does not tell which request it answers, only which consumer it comes from; a status tells the
request. So the messages of a consumer go to its requests in their order, which is also the order in which the server
serves them. Requests for what is there now and requests that stand until something comes have an inbox each.
"""

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
import nats.errors
from nats.aio.msg import Msg

from persipubsub.engine.jetstream.link import Link
from persipubsub.engine.jetstream.names import Names
from persipubsub.engine.jetstream.wire import Arrival, pull_request, read_arrival

logger = logging.getLogger("persipubsub")

#: Messages of one request; more are asked for by several.
MOST: Final = 256
_CONSUMER_GONE: Final = ("consumer deleted", "consumer not found")


class ConsumerGoneError(Exception):
    """The consumer was deleted, or nobody answers for it now."""


class Pull(msgspec.Struct, eq=False):
    """A request under way."""

    wanted: int
    done: "asyncio.Future[None]"
    arrivals: list[Arrival] = msgspec.field(default_factory=list)


class Ready(msgspec.Struct, frozen=True):
    """A message that arrived without being waited for; ``since`` is on the monotonic clock."""

    arrival: Arrival
    since: float


class Inbox:
    """The requests of one kind; everything here runs on the loop."""

    def __init__(self, link: Link, names: Names, keep: Callable[[Arrival], None]) -> None:
        """Ask for nothing yet; ``keep`` gets what arrives too late."""
        self._link = link
        self._names = names
        self._keep = keep
        self._numbers = itertools.count(1)
        self._subject = ""
        self._by_token: dict[str, Pull] = {}
        self._by_consumer: dict[str, list[Pull]] = {}

    async def start(self) -> None:
        """Subscribe."""
        self._subject = self._link.client.new_inbox()
        # Nothing is dropped here: no more arrives than was asked for.
        await self._link.client.subscribe(
            f"{self._subject}.*", cb=self._arrive, pending_msgs_limit=-1, pending_bytes_limit=-1
        )

    async def ask(self, consumer: str, max_messages: int, seconds: float, *, stand: bool) -> list[Arrival]:
        """Ask for messages and return what came within ``seconds``; empty if the server says that there is nothing.

        :raise ConsumerGoneError: the consumer does not answer
        :raise TimeoutError: the server does not answer
        """
        token = str(next(self._numbers))
        pull = Pull(max_messages, asyncio.get_running_loop().create_future())
        self._by_token[token] = pull
        self._by_consumer.setdefault(consumer, []).append(pull)
        try:
            await self._link.client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._names.stream}.{consumer}",
                pull_request(max_messages, seconds if stand else None),
                reply=f"{self._subject}.{token}",
            )
            async with asyncio.timeout(seconds + 1 if stand else seconds):
                await pull.done
        except TimeoutError:
            if not pull.arrivals:
                raise nats.errors.TimeoutError from None
        except BaseException:
            for arrival in pull.arrivals:
                self._keep(arrival)
            raise
        finally:
            del self._by_token[token]
            self._by_consumer[consumer].remove(pull)
        return pull.arrivals

    async def _arrive(self, message: Msg) -> None:
        if message.reply:
            arrival = read_arrival(message, self._names)
            for pull in self._by_consumer.get(arrival.consumer, ()):
                if not pull.done.done():
                    pull.arrivals.append(arrival)
                    if len(pull.arrivals) >= pull.wanted:
                        pull.done.set_result(None)
                    return
            self._keep(arrival)
            return
        waiting = self._by_token.get(message.subject.rpartition(".")[2])
        if waiting is not None and not waiting.done.done():
            headers = message.headers or {}
            _end(waiting, headers.get("Status", ""), headers.get("Description", ""))


class Pulls:
    """All requests of an engine."""

    def __init__(self, link: Link, names: Names) -> None:
        """Ask for nothing yet."""
        self._link = link
        self._now = Inbox(link, names, self.keep)
        self._standing = Inbox(link, names, self.keep)
        #: By consumers, what arrived for requests that stand or that were given up.
        self.ready: dict[str, deque[Ready]] = {}
        #: Called with the consumer when something was added to ``ready``.
        self.on_ready: Callable[[str], None] = lambda consumer: None

    async def start(self) -> None:
        """Subscribe to the inboxes."""
        await self._now.start()
        await self._standing.start()

    async def take_now(self, consumer: str, max_messages: int) -> list[Arrival]:
        """Return up to ``max_messages`` that are there now; what arrived earlier comes first.

        :raise ConsumerGoneError: the consumer does not answer
        """
        taken: list[Arrival] = []
        ready = self.ready.get(consumer)
        while ready and len(taken) < max_messages:
            taken.append(ready.popleft().arrival)
        if not taken:
            wanted = min(MOST, max_messages)
            taken = await self._link.insist(lambda seconds: self._now.ask(consumer, wanted, seconds, stand=False))
        return taken

    async def stand(self, consumer: str, seconds: float) -> bool:
        """Wait up to ``seconds`` for a message, which is then ``ready``; return whether one came.

        :raise ConsumerGoneError: the consumer does not answer
        """
        for arrival in await self._standing.ask(consumer, 1, seconds, stand=True):
            self.keep(arrival)
        return bool(self.ready.get(consumer))

    def keep(self, arrival: Arrival) -> None:
        """Let a message be ready for the next who asks."""
        self.ready.setdefault(arrival.consumer, deque()).append(Ready(arrival, time.monotonic()))
        self.on_ready(arrival.consumer)

    def stale(self, seconds: float) -> list[Arrival]:
        """Take out what has been ready for longer, because nobody came for it."""
        before = time.monotonic() - seconds
        found: list[Arrival] = []
        for ready in self.ready.values():
            while ready and ready[0].since <= before:
                found.append(ready.popleft().arrival)
        return found


def _end(pull: Pull, status: str, description: str) -> None:
    if status in ("404", "408") or (status == "409" and pull.arrivals):
        pull.done.set_result(None)
    elif status == "503" or description.lower() in _CONSUMER_GONE:
        pull.done.set_exception(ConsumerGoneError(description))
    elif status == "409":
        # The leadership moved, the server shuts down, a limit of the consumer: it is asked once more.
        pull.done.set_exception(nats.errors.TimeoutError())
    else:
        logger.debug("A pull request got the status %s: %s", status, description)
