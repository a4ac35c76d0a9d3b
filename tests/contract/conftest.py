"""The queue that each test gets, once for each engine."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from persipubsub import Durability
from persipubsub.engine.jetstream.engine import CAPABILITIES
from persipubsub.engine.local import opening
from persipubsub.engine.memory import queue as memory_queue
from tests.contract.support import FakeClock, Queue
from tests.jetstream.servers import Server, running

_NUMBERS = itertools.count()

#: What JetStream declares that it does not do, and that the test cannot turn the clock of its server. Tests that need
#: one of these do not run over it; tests/jetstream/test_differences.py has what holds there instead.
JETSTREAM_LACKS = {name for name, has in msgspec.structs.asdict(CAPABILITIES).items() if has is False} | {
    "turned_clock"
}


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "needs(*capabilities): run over the engines that have these")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let every test that asks for a queue run over every engine that has what the test needs."""
    if "queue" in metafunc.fixturenames:
        needed = {name for mark in metafunc.definition.iter_markers("needs") for name in mark.args}
        known = {"turned_clock", *CAPABILITIES.__struct_fields__}
        assert needed <= known, f"{metafunc.definition.nodeid} needs what no engine declares: {needed - known}"
        engines = ["memory", "local", *([] if needed & JETSTREAM_LACKS else ["jetstream"])]
        metafunc.parametrize("queue", engines, indirect=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Return the clock of every queue that the test creates, but on JetStream."""
    clock = FakeClock()
    monkeypatch.setattr(opening, "clock", clock)
    monkeypatch.setattr(memory_queue, "Clock", lambda: clock)
    return clock


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a nats-server for all the tests that need one."""
    with running(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def queue(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Iterator[Queue]:
    """Return a queue that is not deployed yet; at the end it is checked and closed."""
    locations = {
        "memory": lambda: f"memory:contract-{next(_NUMBERS)}",
        "local": lambda: str(tmp_path / "queue"),
        "jetstream": lambda: f"{request.getfixturevalue('server').url}/contract-{next(_NUMBERS)}",
    }
    found = Queue(request.param, locations[request.param](), clock, Durability.PROCESS)
    yield found
    found.close()


@pytest.fixture(params=[Durability.FULL, Durability.COMMIT, Durability.PROCESS])
def durable(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Iterator[Queue]:
    """Return a queue on disk for each durability."""
    found = Queue("local", str(tmp_path / "queue"), clock, request.param)
    yield found
    found.close()
