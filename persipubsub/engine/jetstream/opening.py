"""Finding, deploying and opening a queue on NATS."""

import contextlib
from collections.abc import Mapping

from persipubsub.engine.clock import Clock
from persipubsub.engine.jetstream import deploying
from persipubsub.engine.jetstream.engine import JetStreamEngine
from persipubsub.engine.jetstream.link import Link
from persipubsub.engine.jetstream.location import Location
from persipubsub.engine.jetstream.names import Names
from persipubsub.engine.jetstream.session import Session
from persipubsub.limits import Settings, SubscriberSettings

clock = Clock()


def exists_jetstream(location: Location) -> bool:
    """Tell whether a queue is deployed there.

    :raise UnreachableError: the server does not answer
    """
    with contextlib.closing(Link(location)) as link:
        found = link.run(deploying.find(link, Names(location.queue)))
        return found is not None and found.deployed


def check_jetstream(location: Location, settings: Settings) -> None:
    """Check that a queue there could have these settings.

    :raise UnsupportedByEngineError: JetStream, or this server, does not have what they ask for
    """
    with contextlib.closing(Link(location)) as link:
        deploying.check(link, settings)


def create_jetstream(location: Location, settings: Settings, subscribers: Mapping[str, SubscriberSettings]) -> bool:
    """Deploy a queue, wholly or not at all; return False, changing nothing, if one is there already.

    :raise UnsupportedByEngineError: JetStream does not have what the settings ask for
    """
    with contextlib.closing(Link(location)) as link:
        deploying.check(link, settings)
        session = Session(link, Names(location.queue), clock)
        return link.run(deploying.create(session, settings, subscribers))


def open_jetstream(location: Location) -> JetStreamEngine:
    """Open a queue for a new owner.

    :raise QueueNotFoundError: nothing is deployed there
    :raise UnreachableError: the server does not answer
    """
    link = Link(location)
    try:
        return JetStreamEngine(link, Names(location.queue), clock)
    except BaseException:
        link.close()
        raise


def delete_jetstream(location: Location) -> bool:
    """Delete a queue with all its messages; return whether there was one."""
    with contextlib.closing(Link(location)) as link:
        return link.run(deploying.delete(link, Names(location.queue)))
