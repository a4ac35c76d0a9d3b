"""What limits take while the newest messages are in hand is counted once, and nothing is left of it."""

import pathlib
from collections.abc import Iterator

import pytest

from persipubsub.engine.local import create_local, open_local
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.messages import Entry
from persipubsub.limits import Durability, HighWaterMark, Settings, SubscriberSettings


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[LocalEngine]:
    settings = Settings(durability=Durability.PROCESS, high_water_mark=HighWaterMark(max_messages=4))
    create_local(tmp_path / "queue", settings, {"a": SubscriberSettings()})
    engine = open_local(tmp_path / "queue")
    yield engine
    assert engine.check() == []
    engine.close()


def send(engine: LocalEngine, count: int) -> None:
    for _ in range(count):
        engine.put([Entry(b"x", 1)])


@pytest.mark.parametrize("how", ["settle", "return", "purge", "close"])
def test_a_limit_takes_what_was_taken_ahead(engine: LocalEngine, how: str) -> None:
    send(engine, 4)
    newest = engine.take_newest("a", None)
    assert newest is not None
    assert newest.id == 4
    assert engine.settle_ids("a", [2]) == 1
    send(engine, 4)
    first, following = engine.bounds()
    assert (first, following) == (5, 9)
    assert engine.statistics().subscribers[0].waiting == 4
    (taken,) = engine.take("a", 1, None)
    assert taken.id == 5, "the position has passed what is gone"
    (figures,) = engine.statistics().subscribers
    assert (figures.lost, figures.settled) == (3, 1), "of 1 to 4, the one in hand among the lost"
    assert (figures.leased, figures.waiting) == (1, 3)
    assert engine.check() == []
    if how == "settle":
        engine.settle("a", [newest.receipt, taken.receipt])
        (figures,) = engine.statistics().subscribers
        assert (figures.settled, figures.leased, figures.lost) == (2, 0, 3)
    elif how == "return":
        engine.give_back("a", [newest.receipt])
        assert [delivery.id for delivery in engine.take("a", 9, None)] == [6, 7, 8]
    elif how == "purge":
        engine.purge("a")
        assert [message.id for message in engine.browse(0, 9)] == [5], "it is in hand"


def test_what_was_taken_ahead_and_is_there_is_protected_once_the_position_has_passed_it(engine: LocalEngine) -> None:
    send(engine, 3)
    newest = engine.take_newest("a", None)
    assert newest is not None
    taken = engine.take("a", 2, None)
    send(engine, 1)
    (last,) = engine.take("a", 9, None)
    assert [newest.id, *(delivery.id for delivery in taken), last.id] == [3, 1, 2, 4]
    engine.settle("a", [delivery.receipt for delivery in (*taken, last)])
    assert [message.id for message in engine.browse(0, 9)] == [3]
    engine.give_back("a", [newest.receipt])
    assert [delivery.id for delivery in engine.take("a", 9, None)] == [3]
