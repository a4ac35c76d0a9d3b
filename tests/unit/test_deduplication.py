"""Deduplication ids are known for as long as the window is, and forgotten a few at a time."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest

from persipubsub.engine.clock import Clock
from persipubsub.engine.local import create_local, format, open_local, opening
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.publish import _AGEING
from persipubsub.engine.messages import Entry
from persipubsub.limits import Durability, Retention, Settings

SECOND = 1_000_000_000


class Hands(Clock):
    """A wall clock that the test turns."""

    wall = 1_700_000_000 * SECOND

    def wall_ns(self) -> int:
        return self.wall


class Sender(NamedTuple):
    """An engine that remembers for five seconds."""

    engine: LocalEngine
    clock: Hands

    def send(self, *known: int) -> Sequence[int]:
        return self.engine.put([Entry(b"x", 1, deduplication_id=bytes([number])) for number in known])

    def records(self) -> int:
        env = self.engine._store.env
        with env.begin(db=env.open_db(format.DEDUPLICATION_DB, create=False)) as txn:
            number: int = txn.stat()["entries"]
        return number


@pytest.fixture
def sender(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sender]:
    clock = Hands()
    monkeypatch.setattr(opening, "clock", clock)
    path = tmp_path / "queue"
    create_local(path, Settings(durability=Durability.PROCESS, retention=Retention.LOG, deduplication_window=5.0), {})
    engine = open_local(path)
    yield Sender(engine, clock)
    assert engine.check() == []
    engine.close()


def test_an_id_is_known_to_the_end_of_the_window(sender: Sender) -> None:
    assert sender.send(1) == [1]
    sender.clock.wall += 5 * SECOND
    assert sender.send(1) == [1]
    sender.clock.wall += 1
    assert sender.send(1) == [2]
    assert sender.engine.statistics().deduplicated == 1


def test_what_has_aged_is_forgotten_a_few_at_a_time(sender: Sender) -> None:
    sender.send(*range(3 * _AGEING))
    sender.clock.wall += 6 * SECOND
    for sent in range(1, 5):
        sender.send(100 + sent)
        # Each id has two records.
        assert sender.records() == 2 * (sent + max(0, 3 - sent) * _AGEING)


def test_an_id_that_came_again_is_known_from_then_on(sender: Sender) -> None:
    sender.send(*range(3 * _AGEING))
    sender.clock.wall += 6 * SECOND
    last = 3 * _AGEING - 1
    (again,) = sender.send(last)  # it is old, and not forgotten yet
    assert again == 3 * _AGEING + 1
    sender.send(*range(100, 110))  # which forgets all that is old
    assert sender.send(last) == [again]
