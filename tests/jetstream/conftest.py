"""Servers and queues for tests of the JetStream engine."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from persipubsub import Durability, Environment
from tests.jetstream.servers import Server, running

_NUMBERS = itertools.count()
#: Seconds until a message of a dead process comes again: short, for the tests; but a busy machine must not let a living
#: one be taken for dead.
ACK_WAIT = 3.0

Opened = Callable[..., Environment]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that no test stops."""
    with running(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    """Return the URL of a queue that is not deployed yet."""
    return f"{server.url}/test-{next(_NUMBERS)}?ack_wait={ACK_WAIT}"


@pytest.fixture
def env(url: str) -> Iterator[Environment]:
    """Return a deployed queue with the subscriber ``a``."""
    with Environment(url) as environment:
        environment.new_control({"a"}, durability=Durability.PROCESS)
        yield environment
