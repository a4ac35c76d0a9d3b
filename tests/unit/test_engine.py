"""What the engine over LMDB does besides the contract of all engines."""

import pathlib
from collections.abc import Iterator

import pytest

from persipubsub import ClosedError
from persipubsub.engine.local import create_local, format, open_local, take
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.messages import Entry
from persipubsub.limits import Durability, Settings, SubscriberSettings

LARGE = take.LARGE + 1


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[LocalEngine]:
    settings = Settings(durability=Durability.PROCESS, map_size=1 << 22)
    create_local(tmp_path / "queue", settings, {"a": SubscriberSettings(), "b": SubscriberSettings()})
    engine = open_local(tmp_path / "queue")
    yield engine
    engine.close()


def send(engine: LocalEngine, *payloads: bytes) -> None:
    for data in payloads:
        engine.put([Entry(data, len(data))])


def test_nothing_damaged_is_shown_of_what_waits(engine: LocalEngine) -> None:
    """It goes to the dead letters when it is taken, however large it is."""
    payloads = [b"1" * LARGE, b"2" * LARGE, b"3", b"4" * LARGE, b"5"]
    send(engine, *payloads)
    for message_id in (1, 2, 3):
        with engine._store.env.begin(write=True) as txn:
            data = engine._store.handles[format.DATA_DB]
            txn.put(format.pack_id(message_id), b"x" * len(payloads[message_id - 1]), db=data)
    shown = engine.peek("a", 1)
    assert [(delivery.id, delivery.data == payloads[3], delivery.delivery_count) for delivery in shown] == [
        (4, True, 0)
    ]
    shown = engine.peek("a", 5)
    assert [(delivery.id, delivery.data) for delivery in shown] == [(4, payloads[3]), (5, b"5")]
    assert engine.dead_letters("a") == []
    taken = engine.take("a", 5, None)
    assert [delivery.id for delivery in taken] == [4, 5]
    assert engine.peek("a", 5) == []
    assert [letter.id for letter in engine.dead_letters("a")] == [1, 2, 3]
    assert [(finding.where) for finding in engine.check()] == ["message 1", "message 2", "message 3"]


def test_an_engine_that_is_closed_twice_leaves_the_others_open(engine: LocalEngine) -> None:
    second = open_local(engine._store.path)
    second.close()
    second.close()
    send(engine, b"1")
    assert [delivery.data for delivery in engine.take("a", 1, None)] == [b"1"]
    third = open_local(engine._store.path)
    engine.close()
    assert [delivery.data for delivery in third.peek("a", 1)] == [b"1"]
    third.close()
    with pytest.raises(ClosedError):
        third.peek("a", 1)
