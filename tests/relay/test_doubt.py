"""A relay that does not know what arrived: it finds out, also when the target has long forgotten the ids."""

from collections.abc import Callable
from typing import Any

import pytest

from persipubsub import Environment, Message, Publisher
from persipubsub.errors import LeaseLostError, StorageError
from persipubsub.relay import RelayState
from persipubsub.relay.bookmark import Bookmark
from persipubsub.relay.source import Source
from persipubsub.relay.target import Target
from tests.process.support import wait_until
from tests.relay.support import NAME, forward, numbered, payloads, relay_of, running, subscribers, wait_for


class DiedError(BaseException):
    """Ends a relay where it stands, as its death would."""


@pytest.fixture
def forgetful(target: Environment) -> Environment:
    """Return a target without any deduplication: only the bookmark can tell what arrived."""
    target.open_control().configure(deduplication_window=0)
    return target


def failing(original: Callable[..., Any], error: type[BaseException], times: int = 1) -> Callable[..., Any]:
    """Return a function that raises instead of ``original``, so many times."""
    left = iter(range(times))

    def replaced(*arguments: Any, **options: Any) -> Any:
        if next(left, None) is not None:
            raise error("on purpose")
        return original(*arguments, **options)

    return replaced


@pytest.fixture
def waiting(source: Environment, target: Environment) -> None:
    """Let 20 messages wait for the relay."""
    relay_of(source, target).prepare()
    source.new_publisher().send_many(numbered(20))


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("error", [StorageError, LeaseLostError, OSError, DiedError])
def test_what_arrived_is_not_sent_again(
    source: Environment, forgetful: Environment, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    monkeypatch.setattr(Source, "settle", failing(Source.settle, error))
    early: list[bytes] = []
    if error is DiedError:
        with pytest.raises(DiedError):
            forward(source, forgetful, batch=5)
        assert len(subscribers(forgetful)) == 2
        early = payloads(forgetful)
        assert early == numbered(5)
    relay = forward(source, forgetful, batch=5)
    assert early + payloads(forgetful) == numbered(20)
    assert (relay.status().forwarded, relay.status().repeated) == (20 - len(early), 5)
    assert subscribers(forgetful) == ["reader"]


@pytest.mark.usefixtures("waiting")
def test_without_the_bookmark_it_would_be_doubled(
    source: Environment, forgetful: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above can fail: without what they test, messages are doubled."""
    monkeypatch.setattr(Source, "settle", failing(Source.settle, StorageError))
    monkeypatch.setattr(Bookmark, "arrived", lambda self: set())
    forward(source, forgetful, batch=5)
    assert payloads(forgetful) == numbered(5) + numbered(20)


@pytest.mark.usefixtures("waiting")
def test_a_target_that_stored_and_then_failed(
    source: Environment, forgetful: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_many, left = Publisher.send_many, iter(range(3))

    def stored_and_failed(self: Publisher, *arguments: Any, **options: Any) -> Any:
        result = send_many(self, *arguments, **options)
        if next(left, None) is not None:
            raise StorageError("stored, but nobody was told")
        return result

    relay = relay_of(source, forgetful, batch=5)
    monkeypatch.setattr(Publisher, "send_many", stored_and_failed)
    relay.run(drain=True)
    assert payloads(forgetful) == numbered(20)
    assert (relay.status().failures, relay.status().repeated) == (3, 15)


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize(
    ("side", "method"),
    [(Target, "open"), (Target, "prepare"), (Target, "send"), (Source, "open"), (Source, "take"), (Source, "settle")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_it_overcomes_failures(
    source: Environment, forgetful: Environment, monkeypatch: pytest.MonkeyPatch, side: type[Any], method: str
) -> None:
    monkeypatch.setattr(side, method, failing(getattr(side, method), StorageError, 4))
    relay = forward(source, forgetful, batch=5)
    assert payloads(forgetful) == numbered(20)
    assert (relay.status().failures, relay.status().failing) == (4, 0)
    assert "on purpose" in str(relay.status().last_error)


@pytest.mark.usefixtures("waiting")
def test_others_may_publish_meanwhile(
    source: Environment, forgetful: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Source, "settle", failing(Source.settle, DiedError))
    with pytest.raises(DiedError):
        forward(source, forgetful, batch=5)
    forgetful.new_publisher().send_many([b"other"] * 300)
    assert payloads(forgetful) == numbered(5) + [b"other"] * 300
    forward(source, forgetful, batch=3)
    assert payloads(forgetful) == numbered(15, 5)


def test_two_sources_have_bookmarks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with Environment("memory:") as one, Environment("memory:") as other, Environment("memory:") as centre:
        centre.new_control({"reader"}, deduplication_window=0.0)
        for number, edge in enumerate((one, other)):
            edge.new_control()
            relay_of(edge, centre).prepare()
            edge.new_publisher().send(b"edge %d" % number)
        monkeypatch.setattr(Source, "settle", failing(Source.settle, DiedError, 2))
        for edge in (one, other):
            with pytest.raises(DiedError):
                forward(edge, centre)
        assert len(subscribers(centre)) == 3
        forward(one, centre)
        forward(other, centre)
        assert sorted(payloads(centre)) == [b"edge 0", b"edge 1"]
        assert subscribers(centre) == ["reader"]


def test_while_messages_flow_the_bookmark_follows_and_then_goes(
    source: Environment, target: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persipubsub.relay.bookmark._FOLLOW", 0.0)
    monkeypatch.setattr("persipubsub.relay.bookmark._REST", 0.0)
    monkeypatch.setattr("persipubsub.relay.forwarder._GLANCE", 0.01)
    relay = relay_of(source, target, batch=1)
    relay.prepare()
    source.new_publisher().send_many(numbered(20))
    with running(relay):
        assert wait_for(target, 20) == numbered(20)
        wait_until(lambda: subscribers(target) == ["reader"], "the bookmark goes")
        wait_until(lambda: target.open_control().statistics().messages == 0, "nothing is kept")
        source.new_publisher().send(b"one more")
        assert wait_for(target, 1) == [b"one more"]


@pytest.mark.usefixtures("waiting")
def test_a_bookmark_that_was_left_is_removed_when_nothing_waits(
    source: Environment, target: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Target, "confirmed", failing(Target.confirmed, DiedError))
    with pytest.raises(DiedError):
        forward(source, target)
    assert len(subscribers(target)) == 2
    with source.new_subscriber(f"relay/{NAME}") as subscriber:
        for message in subscriber.messages(timeout=0):
            message.ack()
    payloads(target)
    forward(source, target)
    assert subscribers(target) == ["reader"]
    assert target.open_control().statistics().messages == 0


# -- two of a name ----------------------------------------------------------------------------------


def test_a_second_relay_stands_by(source: Environment, target: Environment) -> None:
    relay = relay_of(source, target)
    relay.prepare()
    source.new_publisher().send_many(numbered(30))
    with Environment(source.location) as other, other.new_subscriber(f"relay/{NAME}") as first:
        held = first.get_many(10, timeout=0)
        with running(relay):
            wait_until(lambda: relay.status().state is RelayState.STANDBY, "it stands by")
            assert payloads(target) == []
            for message in held:
                message.nack()
            assert wait_for(target, 30) == numbered(30)


def test_two_relays_of_a_name_keep_the_order(source: Environment, target: Environment) -> None:
    relays = [relay_of(source.location, target.location, batch=3) for _ in range(2)]
    relays[0].prepare()
    publisher = source.new_publisher()
    with running(relays[0]), running(relays[1]):
        for number in numbered(60):
            publisher.send(number)
        assert wait_for(target, 60) == numbered(60)


def test_the_bookmark_stays_while_another_relay_of_the_name_is_in_doubt(
    source: Environment, target: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persipubsub.relay.forwarder._GLANCE", 0.01)
    monkeypatch.setattr("persipubsub.relay.forwarder._LONG_GLANCE", 0.01)
    bookmark = f"relay-bookmark/{NAME}/{source.open_control().statistics().identity}"
    looks = 0

    def take_nothing(*arguments: object) -> list[Message[bytes]]:
        nonlocal looks
        looks += 1
        return []

    relay_of(source, target).prepare()
    with Environment(source.location) as other, other.new_subscriber(f"relay/{NAME}") as first:
        with running(relay_of(source, target)) as relay:
            source.new_publisher().send(b"0")
            assert wait_for(target, 1) == [b"0"]
            wait_until(lambda: relay.status().state is RelayState.IDLE, "it waits for messages")
            # The other one is always faster.
            monkeypatch.setattr(Source, "_take", take_nothing)
            wait_until(lambda: looks > 0, "it takes nothing any more")
            source.new_publisher().send(b"1")
            assert first.get(timeout=0) is not None
            before = looks
            wait_until(lambda: looks > before + 2, "it has seen that somebody holds a message")
            monkeypatch.setattr("persipubsub.relay.bookmark._REST", 0.0)
            before = looks
            wait_until(lambda: looks > before + 5, "it looks again and again")
            assert bookmark in subscribers(target)
        assert bookmark in subscribers(target)


def test_a_bookmark_that_another_relay_removed_is_set_again(
    source: Environment, target: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay_of(source, target).prepare()
    publisher = source.new_publisher()
    monkeypatch.setattr("persipubsub.relay.forwarder._GLANCE", 0.01)
    with running(relay_of(source, target)) as relay:
        publisher.send(b"0")
        assert wait_for(target, 1) == [b"0"]
        wait_until(lambda: relay.status().state is RelayState.IDLE, "it has nothing to do")
        (bookmark,) = set(subscribers(target)) - {"reader"}
        target.open_control().remove_subscriber(bookmark)
        publisher.send(b"1")
        assert wait_for(target, 1) == [b"1"]
        assert bookmark in subscribers(target)
