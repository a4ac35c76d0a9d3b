"""Between queues of this machine and NATS servers that are killed and started again."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from persipubsub import Durability, Environment
from persipubsub.errors import StorageError
from persipubsub.relay import RelayState
from persipubsub.relay.source import Source
from tests.jetstream.conftest import ACK_WAIT
from tests.jetstream.servers import Server
from tests.jetstream.servers import running as serving
from tests.process.support import wait_until
from tests.relay.storm import LEAST, Storm, deploy
from tests.relay.support import forward, numbered, payloads, received, relay_of, running, subscribers, wait_for_ids

_NUMBERS = itertools.count()
#: Seconds for which the engine waits for a server before it tells.
PATIENCE = 1.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that tests may kill and start again."""
    with serving(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    """Return the URL of a queue that is not deployed yet."""
    return f"{server.url}/relay-{next(_NUMBERS)}?ack_wait={ACK_WAIT}"


@pytest.fixture(params=["to nats", "from nats"])
def pair(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> tuple[str, str]:
    """Return the locations of a source and a target, not deployed."""
    local = str(tmp_path / "queue")
    return (local, url) if request.param == "to nats" else (url, local)


@pytest.fixture
def queues(pair: tuple[str, str]) -> Iterator[tuple[Environment, Environment]]:
    """Return the queues, deployed."""
    with Environment(pair[0]) as source, Environment(pair[1]) as target:
        source.new_control(durability=Durability.PROCESS)
        target.new_control({"reader"}, durability=Durability.PROCESS)
        relay_of(source, target).prepare()
        yield source, target
        assert source.open_control().check() == target.open_control().check() == []


def test_all_arrives_in_order(queues: tuple[Environment, Environment], pair: tuple[str, str]) -> None:
    source, target = queues
    source.new_publisher().send_many(numbered(700))
    source.new_publisher().send(b"last", topic="a.b", headers={"key": b"\xff"}, expires_in=100)
    relay = forward(*pair, batch=200)
    messages = received(target)
    assert [message.data for message in messages] == [*numbered(700), b"last"]
    last = messages[-1]
    assert (last.topic, last.headers["key"]) == ("a.b", b"\xff")
    assert last.expires is not None
    assert 80 < (last.expires - last.sent).total_seconds() <= 100
    status = relay.status()
    # A busy server may answer too late: what it stored all the same is found, and not sent again.
    assert status.forwarded + status.repeated >= 701
    assert status.forwarded == 701 or status.failures
    assert subscribers(target) == ["reader"]


def test_queues_on_servers_are_created_if_wanted(url: str, tmp_path: Path) -> None:
    relay_of(str(tmp_path / "queue"), url, create=True).prepare()
    with Environment(url) as environment:
        assert environment.open_control().settings.durability is Durability.PROCESS


def test_what_arrived_is_found(
    queues: tuple[Environment, Environment], pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = queues
    source.new_publisher().send_many(numbered(20))
    settle, failures = Source.settle, iter(range(2))

    def failing(self: Source, messages: list[object]) -> None:
        if next(failures, None) is not None:
            raise StorageError("on purpose")
        settle(self, messages)  # type: ignore[arg-type]

    monkeypatch.setattr(Source, "settle", failing)
    relay = forward(*pair, batch=5)
    assert relay.status().repeated >= 5
    assert payloads(target) == numbered(20)


def test_no_ping_pong(queues: tuple[Environment, Environment]) -> None:
    one, other = queues
    one.open_control().add_subscriber("reader")
    there, back = relay_of(one, other), relay_of(other, one, name="back")
    back.prepare()
    one.new_publisher().send(b"one")
    other.new_publisher().send(b"other")
    for _ in range(2):
        there.run(drain=True)
        back.run(drain=True)
    assert sorted(payloads(one)) == sorted(payloads(other)) == [b"one", b"other"]


def test_a_server_that_is_away(server: Server, queues: tuple[Environment, Environment], pair: tuple[str, str]) -> None:
    source, target = queues
    for queue in queues:
        queue.open_control().configure(lock_timeout=PATIENCE)
    relay = relay_of(*pair)
    with running(relay):
        source.new_publisher().send_many(numbered(10))
        wait_until(lambda: relay.status().forwarded == 10, "the first are forwarded")
        server.kill()
        more = numbered(10, 10)
        if "nats" not in source.location:
            source.new_publisher().send_many(more)
        wait_until(lambda: relay.status().state is RelayState.RETRYING, "it tries again")
        server.start()
        if "nats" in source.location:
            source.new_publisher().send_many(more)
        assert wait_for_ids(target, 20) == numbered(20)
        wait_until(lambda: relay.status().failing == 0, "all is well again")
    assert "UnreachableError" in str(relay.status().last_error)


def restarting(server: Server) -> Callable[[random.Random], None]:
    """Return what kills the server now and then."""

    def disturb(dice: random.Random) -> None:
        if dice.random() < 0.4:
            server.kill()
            time.sleep(dice.uniform(0.0, 0.1))
            server.start()
            time.sleep(dice.uniform(0.0, 0.3))

    return disturb


@pytest.mark.parametrize("seed", [3])
def test_a_storm(seed: int, server: Server, pair: tuple[str, str]) -> None:
    deploy(*pair, window=120.0)
    verdict = Storm(*pair, seed=seed).run(kills=5, disturb=restarting(server))
    assert verdict.published > LEAST
    assert (verdict.lost, verdict.doubled, verdict.ordered) == (0, 0, True), verdict
    assert threading.active_count() < 50
