"""SIGKILL: of a relay at every step of its work, and at random, over and over."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from persipubsub import Environment
from persipubsub.relay.bookmark import Bookmark
from persipubsub.relay.source import Source
from persipubsub.relay.target import Target
from tests.process.support import Children, Here, assert_sound
from tests.relay.storm import Storm, deploy
from tests.relay.support import forward, numbered, payloads, relay_of

OWNERS = {"Source": Source, "Target": Target, "Bookmark": Bookmark}
STEPS = [
    "Target.open",
    "Source.open",
    "Source.take",
    "Bookmark.arrived",
    "Bookmark.put",
    "Bookmark._seek",
    "Target.send",
    "Source.settle",
    "Target.confirmed",
    "Bookmark.remove",
]


@pytest.fixture
def children() -> Iterator[Children]:
    """Give a source of processes; all of them end with the test."""
    source = Children()
    yield source
    source.end()


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Return two deployed queues, the second without deduplication; they are sound to the end."""
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    deploy(source, target)
    yield source, target
    assert_sound(Path(source))
    assert_sound(Path(target))


def die_at(here: Here, step: str, when: str, times: int, source: str, target: str) -> None:
    """Forward, and be killed before or after a step, when it comes for the n-th time."""
    owner, _, name = step.partition(".")
    original = getattr(OWNERS[owner], name)
    left = iter(range(times - 1))

    def replaced(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options) if when == "after" else None
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options) if when == "before" else result

    setattr(OWNERS[owner], name, replaced)
    if step == "Bookmark._seek":
        from persipubsub.relay import bookmark

        bookmark._FOLLOW = 0.0  # type: ignore[misc]
    relay_of(source, target, batch=5, signals=()).run(drain=True)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_step(step: str, when: str, paths: tuple[str, str], children: Children) -> None:
    with Environment(paths[0]) as source, Environment(paths[1]) as target:
        source.new_publisher().send_many(numbered(60))
        once = step in ("Target.open", "Source.open", "Bookmark.arrived", "Bookmark.remove")
        for times in (1,) if once else (1, 2):
            child = children.new("forkserver")
            child.start(die_at, step, when, times, *paths)
            assert child.ended() == -signal.SIGKILL
        arrived = payloads(target)
        forward(source, target, batch=5)
        arrived += payloads(target)
        assert arrived == numbered(60)
        assert target.open_control().subscriber_ids == {"reader"}
        assert target.open_control().statistics().messages == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_of_kills(seed: int, paths: tuple[str, str]) -> None:
    verdict = Storm(*paths, seed).run(kills=20, least=500)
    assert verdict.published > 500
    assert (verdict.lost, verdict.doubled, verdict.ordered) == (0, 0, True), verdict
