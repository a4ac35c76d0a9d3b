"""A queue with something of everything in it."""

import pathlib
from collections.abc import Iterator

import pytest

from persipubsub import Environment, HighWaterMark, SubscriberSettings
from tests.process.conftest import children

__all__ = ["children"]

PAYLOADS = [b"", b"text", b"\xff\x00 bytes", b"x" * 5000, bytes(range(256)) * 400]


def fill(path: pathlib.Path) -> None:
    """Deploy a queue, and leave messages in every state a subscriber knows."""
    with Environment(path) as env:
        subscribers = {
            "a": SubscriberSettings(lease=1000.0),
            "b": SubscriberSettings(max_deliveries=3),
            "c": SubscriberSettings(),
        }
        control = env.new_control(subscribers, HighWaterMark(max_messages=10_000))
        pub = env.new_publisher()
        for number in range(8):
            pub.send(b"consumed %d" % number)
        for identifier in ("a", "b", "c"):
            control.purge(identifier)
        for number, payload in enumerate(PAYLOADS * 2):
            pub.send(payload, headers={"number": str(number), "raw": b"\xfe"}, topic="x.y" if number % 2 else None)
        pub.send(b"delayed", delay=1000)
        pub.send(b"expiring", expires_in=100_000)
        b = env.new_subscriber("b")
        for message in b.get_many(3, timeout=0):
            message.reject("broken")
        control.dead_letters("b").requeue([9])
        held = b.get_many(3, timeout=0)
        held[0].nack(reason="not now", delay=1000)
        held[1].ack()
        control.pause_subscriber("c")
        with env.new_subscriber("a") as a:
            a.ack([12, 13])


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a queue that tests copy, and leave as it is."""
    path = tmp_path_factory.mktemp("pattern") / "queue"
    fill(path)
    return path


@pytest.fixture
def queue(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a queue of one's own, which is sound to the end."""
    path = tmp_path / "queue"
    fill(path)
    yield path
    with Environment(path) as env:
        assert env.open_control().check() == []
