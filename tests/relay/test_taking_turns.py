"""Two live relays of one name: what one of them gives back comes before what the other one has taken meanwhile."""

from collections.abc import Callable
from typing import Any

import pytest

from persipubsub import Environment
from persipubsub.relay.endpoint import Endpoint
from persipubsub.relay.source import SomebodyElseError, Source
from tests.relay.support import NAME, numbered, relay_of


def source_of(location: str, target: str) -> Source:
    """Return the source's end of a relay, open."""
    source = Source(Endpoint(location, create=False), "earliest", 3)
    source.open(NAME, target)
    return source


def take(source: Source) -> list[bytes]:
    """Take a batch, and settle it."""
    messages = source.take(0.0, lambda: None)
    source.settle(messages)
    return [message.data for message in messages]


def meanwhile(source: Source, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen after the next take of ``source`` and before it looks whether it is alone."""
    original = source._take

    def taken(*arguments: Any) -> Any:
        messages = original(*arguments)
        monkeypatch.setattr(source, "_take", original)
        act()
        return messages

    monkeypatch.setattr(source, "_take", taken)


@pytest.mark.parametrize("began", [False, True], ids=["at its start", "later"])
def test_what_was_given_back_after_the_take_comes_first(
    source: Environment, target: Environment, monkeypatch: pytest.MonkeyPatch, began: bool
) -> None:
    relay_of(source, target).prepare()
    publisher = source.new_publisher()
    one = source_of(source.location, "another queue")
    try:
        if began:
            publisher.send_many(numbered(3))
            assert take(one) == numbered(3)
        with Environment(source.location) as environment, environment.new_subscriber(f"relay/{NAME}") as other:
            publisher.send_many(numbered(6, 3))
            held = other.get_many(3, timeout=0)
            assert [message.data for message in held] == numbered(3, 3)

            def give_back() -> None:
                for message in held:
                    message.nack()

            meanwhile(one, monkeypatch, give_back)
            assert take(one) == numbered(6, 3)
            # They may have been forwarded before they were given back.
            assert one.went_back
    finally:
        one.close()


def test_what_somebody_else_still_holds_is_waited_for(source: Environment, target: Environment) -> None:
    relay_of(source, target).prepare()
    source.new_publisher().send_many(numbered(6))
    one = source_of(source.location, "another queue")
    try:
        with Environment(source.location) as environment, environment.new_subscriber(f"relay/{NAME}") as other:
            held = other.get_many(3, timeout=0)
            with pytest.raises(SomebodyElseError):
                one.take(0.0, lambda: None)
            for message in held:
                message.ack()
            assert take(one) == numbered(3, 3)
    finally:
        one.close()
