"""Subscribers that other processes add and remove."""

import itertools
import pathlib

import pytest

from persipubsub import Environment, UnknownSubscriberError
from tests.process import support
from tests.process.support import Children, Here


def remove(here: Here, path: pathlib.Path, identifier: str) -> None:
    with Environment(path) as env:
        assert env.open_control().remove_subscriber(identifier)


def come_and_go(here: Here, path: pathlib.Path) -> None:
    with Environment(path) as env:
        control = env.open_control()
        for number in itertools.count():
            control.add_subscriber(f"guest {number}")
            control.remove_subscriber(f"guest {number - 3}")


def test_what_another_process_removed_can_be_added_again(
    path: pathlib.Path, env: Environment, children: Children
) -> None:
    control, pub = env.open_control(), env.new_publisher()
    control.add_subscriber("guest")
    sub = env.new_subscriber("guest")
    for number in range(3):
        pub.send(b"%d" % number)
        assert sub.pop(timeout=0) is not None
        children.new().do(remove, path, "guest")
        with pytest.raises(UnknownSubscriberError, match="guest"):
            sub.get(timeout=0)
        assert control.check() == []
        control.add_subscriber("guest")
        assert sub.get(timeout=0) is None


def test_looking_while_subscribers_come_and_go(path: pathlib.Path, env: Environment, children: Children) -> None:
    control = env.open_control()
    child = children.new()
    child.start(come_and_go, path)
    seen: set[str] = set()

    def look() -> bool:
        assert control.check() == []
        figures = control.statistics().subscribers
        assert "sub" in {subscriber.identifier for subscriber in figures}
        seen.update(subscriber.identifier for subscriber in figures)
        return len(seen) > 30

    support.wait_until(look, "many guests were seen")
    assert child.is_busy()
    child.kill()
