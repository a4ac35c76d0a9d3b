"""Deployment and administration of a queue from asyncio."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

from persipubsub import control
from persipubsub.aio.handle import Handle, on_thread
from persipubsub.aio.thread import Thread
from persipubsub.limits import Settings, SubscriberSettings
from persipubsub.retained import dead_letters
from persipubsub.retained.dead_letters import DeadLetter

_PAGE = 256


class Control(Handle[control.Control]):
    """Settings, subscribers and figures of a queue; the calls of :class:`persipubsub.Control`, with ``await``.

    What is a property there is a method here: ``await control.settings()``.

    >>> import asyncio
    >>> from persipubsub import aio
    >>> async def main():
    ...     async with aio.Environment("memory:") as env:
    ...         control = await env.new_control(subscriber_ids={"worker"})
    ...         await control.add_subscriber("archive", start="first")
    ...         return sorted(await control.subscriber_ids())
    >>> asyncio.run(main())
    ['archive', 'worker']
    """

    init = on_thread(control.Control.init)
    is_initialized = on_thread(control.Control.is_initialized)
    set_high_water_mark = on_thread(control.Control.set_high_water_mark)
    set_hwm = on_thread(control.Control.set_hwm)
    set_strategy = on_thread(control.Control.set_strategy)
    statistics = on_thread(control.Control.statistics)
    check = on_thread(control.Control.check)
    backup = on_thread(control.Control.backup)
    compact = on_thread(control.Control.compact)
    export = on_thread(control.Control.export)
    prune_dangling_messages = on_thread(control.Control.prune_dangling_messages)
    clear_all_subscribers = on_thread(control.Control.clear_all_subscribers)
    add_subscriber = on_thread(control.Control.add_subscriber)
    remove_subscriber = on_thread(control.Control.remove_subscriber)
    purge = on_thread(control.Control.purge)
    pause_subscriber = on_thread(control.Control.pause_subscriber)
    resume_subscriber = on_thread(control.Control.resume_subscriber)

    async def configure(self, **changes: Any) -> Settings:
        """Change settings by their names, such as ``retention=Retention.LOG``, and return all of them.

        :raise SettingsError: there is no such setting, or the value makes no sense; nothing was changed
        :raise QueueError: the durability cannot change while others have the queue open
        """
        return await self._thread.run(lambda: self._wrapped.configure(**changes))

    async def configure_subscriber(self, identifier: str, **changes: Any) -> SubscriberSettings:
        """Change settings of a subscriber by their names, such as ``lease=30.0``, and return all of them.

        :raise UnknownSubscriberError: there is no such subscriber
        :raise SettingsError: there is no such setting, or the value makes no sense; nothing was changed
        """
        return await self._thread.run(lambda: self._wrapped.configure_subscriber(identifier, **changes))

    async def settings(self) -> Settings:
        """Return the settings as they are stored now."""
        return await self._thread.run(lambda: self._wrapped.settings)

    async def subscriber_ids(self) -> set[str]:
        """Return the identifiers of the subscribers as they are stored now."""
        return await self._thread.run(lambda: self._wrapped.subscriber_ids)

    async def subscribers(self) -> dict[str, SubscriberSettings]:
        """Return the subscribers and their settings as they are stored now."""
        return await self._thread.run(lambda: self._wrapped.subscribers)

    async def dead_letters(self, subscriber: str) -> "DeadLetters":
        """Return the dead letters of a subscriber, to be listed, requeued or discarded.

        :raise UnknownSubscriberError: there is no such subscriber
        """
        return DeadLetters(self._thread, await self._thread.run(lambda: self._wrapped.dead_letters(subscriber)))


class DeadLetters:
    """The dead letters of one subscriber, oldest first; each ``async for`` reads anew, and holds no transaction.

    The calls are those of :class:`persipubsub.DeadLetters`, with ``await``.
    """

    def __init__(self, thread: Thread, wrapped: dead_letters.DeadLetters) -> None:
        """Read on ``thread``; ``Control.dead_letters`` makes these objects."""
        self._thread = thread
        self._wrapped = wrapped

    @property
    def subscriber(self) -> str:
        """Return the identifier of the subscriber."""
        return self._wrapped.subscriber

    async def __aiter__(self) -> AsyncIterator[DeadLetter]:
        letters = iter(self._wrapped)
        while page := await self._thread.run(lambda: list(itertools.islice(letters, _PAGE))):
            for letter in page:
                yield letter

    async def requeue(self, ids: dead_letters.Ids = None) -> int:
        """Make one, several or all deliverable again, as if they had never been delivered; return how many."""
        return await self._thread.run(lambda: self._wrapped.requeue(ids))

    async def discard(self, ids: dead_letters.Ids = None) -> int:
        """Forget one, several or all for good; return how many."""
        return await self._thread.run(lambda: self._wrapped.discard(ids))
