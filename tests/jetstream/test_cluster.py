"""Three servers: what is confirmed survives the death of any one of them."""

import threading
from collections.abc import Iterator

import pytest

from persipubsub import Durability, Environment, UnsupportedByEngineError
from tests.jetstream import storm
from tests.jetstream.servers import Cluster
from tests.process.support import BOUND, wait_until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster whose servers are all there at the start of a test."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster")).start()
    yield cluster
    cluster.stop()


def test_a_server_dies_while_messages_are_published_and_consumed(cluster: Cluster) -> None:
    url = f"{cluster.url}/killed?replicas=3&ack_wait=3"
    published: list[int] = []
    got: set[int] = set()
    over = threading.Event()

    def publish() -> None:
        with Environment(url) as environment:
            publisher = environment.new_publisher()
            while not over.is_set():
                published.append(publisher.send(b"x"))

    def consume() -> None:
        with Environment(url) as environment:
            subscriber = environment.new_subscriber("a")
            while not (over.is_set() and len(got) >= len(published)):
                with subscriber.receive_message(timeout=1) as message:
                    if message is not None:
                        got.add(message.id)

    with Environment(url) as environment:
        control = environment.new_control({"a"}, durability=Durability.PROCESS)
        threads = [threading.Thread(target=work) for work in (publish, consume)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(published) > 20, "it sends")
        victim = next(server for server in cluster.servers if server.name == leader_of(cluster, "killed"))
        victim.kill()
        before = len(published)
        wait_until(lambda: len(published) > before + 20, "it sends on")
        victim.start()
        cluster.settle()
        before = len(published)
        wait_until(lambda: len(published) > before + 20, "it sends on")
        over.set()
        for thread in threads:
            thread.join(2 * BOUND)
            assert not thread.is_alive()
        assert set(published) == got
        assert len(set(published)) == len(published)
        assert control.statistics().subscribers[0].lag == 0
        assert control.check() == []


def leader_of(cluster: Cluster, queue: str) -> str:
    """Return the name of the server that leads the stream of a queue."""
    for account in cluster.servers[0].varz("jsz?streams=true&accounts=true")["account_details"]:
        for stream in account["stream_detail"]:
            if stream["name"] == f"persipubsub-{queue}":
                return str(stream["cluster"]["leader"])
    raise AssertionError("the server knows no such stream")


def test_a_short_storm(cluster: Cluster) -> None:
    confirmed = 0
    for seed in range(20, 24):
        verdict = storm.run(cluster, seed=seed, kills=2, partitions=1)
        assert (verdict.lost, verdict.doubled, verdict.stuck) == (0, 0, 0), verdict
        confirmed += verdict.confirmed
        if confirmed:
            return
    pytest.fail("nothing was confirmed in four storms")  # one may be over before a busy cluster has a leader


def test_more_replicas_than_servers_are_refused(cluster: Cluster) -> None:
    with (
        Environment(f"{cluster.url}/many?replicas=5") as environment,
        pytest.raises(UnsupportedByEngineError, match="replicas"),
    ):
        environment.new_control({"a"}, durability=Durability.PROCESS)
