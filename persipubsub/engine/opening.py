"""Finds the engine of a queue from where the queue is; engines are imported when they are first needed.

========================  =======================================================================
location                  engine
========================  =======================================================================
a path                    ``local``: a directory, shared by all processes of the machine
``"memory:"``             ``memory``: in this process, for one Environment alone
``"memory:name"``         ``memory``: in this process, shared by all who open the same name
``"nats://host/queue"``   ``jetstream``: on NATS servers, shared by all who can reach them
========================  =======================================================================
"""

import importlib.util
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Protocol

from persipubsub.engine.base import Engine
from persipubsub.engine.refusals import not_found
from persipubsub.errors import OpenError, UnsupportedByEngineError
from persipubsub.limits import Settings, SubscriberSettings
from persipubsub.paths import absolute

MEMORY = "memory:"
JETSTREAM = ("nats://", "tls://")
_URL_AS_PATH = re.compile(r"^(nats|tls):/+")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Opener(Protocol):
    """What can be done with a location before a queue is open."""

    @property
    def location(self) -> str:
        """Return where the queue is, such that it can be found again from any working directory."""

    @property
    def address(self) -> str:
        """Return the location with all that is needed to open it again, secrets too; never shown."""

    @property
    def portable(self) -> bool:
        """Tell whether the location means something outside of this object."""

    def exists(self) -> bool:
        """Tell whether a queue is deployed there."""

    def check(self, settings: Settings) -> None:
        """Check, changing nothing, that a queue there could have these settings.

        :raise UnsupportedByEngineError: the engine does not have what they ask for
        """

    def create(self, settings: Settings, subscribers: Mapping[str, SubscriberSettings]) -> bool:
        """Deploy a queue, wholly or not at all; return False, changing nothing, if one is there already."""

    def open(self) -> Engine:
        """Open the queue for a new owner.

        :raise QueueNotFoundError: nothing is deployed there
        :raise OpenError: it cannot be opened
        """


class LocalOpener:
    """A directory."""

    portable = True

    def __init__(self, path: pathlib.Path) -> None:
        """Remember the absolute path: neither chdir nor a spawned child must change what it means."""
        self._path = absolute(path)

    @property
    def location(self) -> str:
        """Return the absolute path."""
        return str(self._path)

    @property
    def address(self) -> str:
        """Return the absolute path."""
        return self.location

    def exists(self) -> bool:
        """Tell whether a queue is deployed there."""
        from persipubsub.engine.local import exists_local

        return exists_local(self._path)

    def check(self, settings: Settings) -> None:
        """Find nothing: all settings are made for this engine."""

    def create(self, settings: Settings, subscribers: Mapping[str, SubscriberSettings]) -> bool:
        """Deploy a queue, wholly or not at all; return False, changing nothing, if one is there already."""
        from persipubsub.engine.local import create_local

        return create_local(self._path, settings, subscribers)

    def open(self) -> Engine:
        """Open the queue for a new owner."""
        from persipubsub.engine.local import open_local

        return open_local(self._path)

    def delete(self, force: bool) -> bool:
        """Delete the queue; return whether there was one.

        :raise QueueBusyError: somebody has it open, and it is not forced
        :raise NotAQueueError: something else is there; it is left alone
        """
        from persipubsub.engine.local import delete_local

        return delete_local(self._path, force=force)


class MemoryOpener:
    """A name in this process, or no name at all."""

    def __init__(self, name: str) -> None:
        """Remember the name; empty for a queue of one's own."""
        self._name = name or None
        self._pid = os.getpid()
        # A private queue is nowhere but in its engine; any queue starts with the engine that created it.
        self._created: Engine | None = None

    @property
    def location(self) -> str:
        """Return the location as it was given."""
        return MEMORY + (self._name or "")

    @property
    def address(self) -> str:
        """Return the location as it was given."""
        return self.location

    @property
    def portable(self) -> bool:
        """Tell whether others can find the queue: by its name."""
        return self._name is not None

    def exists(self) -> bool:
        """Tell whether the queue was created in this process."""
        from persipubsub.engine import memory

        return self._created is not None or (self._name is not None and memory.exists(self._name))

    def check(self, settings: Settings) -> None:
        """Find nothing: what memory does not have, such as durability, does no harm."""

    def create(self, settings: Settings, subscribers: Mapping[str, SubscriberSettings]) -> bool:
        """Create the queue, unless it exists."""
        from persipubsub.engine import memory

        self._check_process()
        if self.exists():
            return False
        engine = memory.open_memory(self._name, create=settings)
        for identifier, subscriber in subscribers.items():
            engine.add_subscriber(identifier, subscriber, "first")
        self._created = engine
        return True

    def open(self) -> Engine:
        """Open the queue for a new owner."""
        from persipubsub.engine import memory

        self._check_process()
        engine = self._created
        if engine is not None:
            if self.portable:
                self._created = None
            return engine
        if not self.exists():
            raise not_found(self.location)
        return memory.open_memory(self._name, create=None)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise UnsupportedByEngineError(
                f"The queue {self.location} lives in the memory of the process {self._pid} alone; "
                "use a directory to share a queue with forked children."
            )


class JetStreamOpener:
    """A queue on NATS servers."""

    portable = True

    def __init__(self, url: str) -> None:
        """Take the URL apart; nobody is asked yet.

        :raise OpenError: it is malformed
        """
        from persipubsub.engine.jetstream.location import parse

        self._url = url
        self._location = parse(url)

    @property
    def location(self) -> str:
        """Return the URL without secrets."""
        return self._location.shown

    @property
    def address(self) -> str:
        """Return the URL as it was given."""
        return self._url

    def exists(self) -> bool:
        """Tell whether a queue is deployed there."""
        _check_nats()
        from persipubsub.engine.jetstream.opening import exists_jetstream

        return exists_jetstream(self._location)

    def check(self, settings: Settings) -> None:
        """Check that the server has what the settings ask for.

        :raise UnsupportedByEngineError: it does not; says what to do
        """
        _check_nats()
        from persipubsub.engine.jetstream.opening import check_jetstream

        check_jetstream(self._location, settings)

    def create(self, settings: Settings, subscribers: Mapping[str, SubscriberSettings]) -> bool:
        """Deploy a queue, wholly or not at all; return False, changing nothing, if one is there already."""
        _check_nats()
        from persipubsub.engine.jetstream.opening import create_jetstream

        return create_jetstream(self._location, settings, subscribers)

    def open(self) -> Engine:
        """Open the queue for a new owner."""
        _check_nats()
        from persipubsub.engine.jetstream.opening import open_jetstream

        return open_jetstream(self._location)

    def delete(self, force: bool) -> bool:
        """Delete the queue; return whether there was one.

        :raise UnsupportedByEngineError: it is not forced, and who has it open cannot be told
        """
        if not force:
            raise UnsupportedByEngineError(
                f"Queue {self.location} is not deleted: a server does not tell who has it open. When nobody needs it "
                "any more, force the deletion."
            )
        _check_nats()
        from persipubsub.engine.jetstream.opening import delete_jetstream

        return delete_jetstream(self._location)


def _check_nats() -> None:
    if importlib.util.find_spec("nats") is None:
        raise OpenError("Queues on NATS need another package: pip install 'persipubsub[nats]'")


def opener_for(location: str | os.PathLike[str]) -> Opener:
    """Return how to open what is at ``location``; nothing is looked at yet.

    >>> opener_for("memory:orders").location
    'memory:orders'

    :raise OpenError: it is neither a path nor a location that an engine knows
    """
    try:
        text: object = os.fspath(location)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise OpenError(f"A queue is opened by its path, a str or a pathlib.Path, not by {location!r}.")
    if not text or "\0" in text:
        raise OpenError(f"{text!r} is no path; name the directory of the queue.")
    # A pathlib.Path takes two slashes for one; here they are put back.
    url = _URL_AS_PATH.sub(r"\1://", text)
    if url.startswith(JETSTREAM):
        return JetStreamOpener(url)
    if isinstance(location, str):
        if location.startswith(MEMORY):
            return MemoryOpener(location.removeprefix(MEMORY))
        if _URL.match(location):
            raise UnsupportedByEngineError(
                f"There is no engine for {location}; use a directory, 'memory:name' or 'nats://host/queue'."
            )
    return LocalOpener(pathlib.Path(text))
