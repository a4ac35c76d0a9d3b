"""What this process has just sent is there for it, though the server tells its consumers a moment later."""

import pytest

from persipubsub import Environment
from persipubsub.engine.jetstream import behind
from persipubsub.engine.jetstream.pulling import Pulls
from persipubsub.engine.jetstream.wire import Arrival


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the first answers be those of a server that has not told its consumers yet; return how many were wanted."""
    asked: list[int] = []
    take_now = Pulls.take_now

    async def late(self: Pulls, consumer: str, max_messages: int) -> list[Arrival]:
        asked.append(max_messages)
        return [] if len(asked) <= 3 else await take_now(self, consumer, max_messages)

    monkeypatch.setattr(Pulls, "take_now", late)
    return asked


def test_what_was_just_sent_is_there(env: Environment, asked: list[int]) -> None:
    env.new_publisher().send(b"x")
    assert env.new_subscriber("a").pop(timeout=0) is not None
    assert len(asked) == 4


def test_another_connection_of_the_process_sees_it_as_well(env: Environment, url: str, asked: list[int]) -> None:
    with Environment(url) as other:
        other.new_publisher().send_many([b"x", b"y"])
    assert env.new_subscriber("a").get_many(2, timeout=0) != []


def test_it_is_looked_up_once(env: Environment, asked: list[int]) -> None:
    subscriber = env.new_subscriber("a")
    assert subscriber.pop(timeout=0) is None
    assert len(asked) == 1
    asked.extend([0] * 3)
    env.new_publisher().send(b"x")
    assert subscriber.pop(timeout=0) is not None
    before = len(asked)
    for _ in range(3):
        assert subscriber.pop(timeout=0) is None
    assert len(asked) == before + 3


def test_a_consumer_that_never_hears_of_it_ends_the_patience(
    env: Environment, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "PATIENCE", 0.0)
    env.new_publisher().send(b"x")
    assert env.new_subscriber("a").pop(timeout=0) is None
    assert len(asked) == 1
