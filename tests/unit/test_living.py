"""Whoever reads messages passes by those that are gone, whichever way he goes."""

import itertools
import pathlib
import random
from collections.abc import Iterator
from functools import partial

import pytest

from persipubsub.engine.local import blocks, create_local, doom, open_local
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.living import Messages, first_sent, is_doomed, meta
from persipubsub.engine.local.work import Work
from persipubsub.engine.messages import Entry
from persipubsub.limits import Durability, Settings, SubscriberSettings

LAST = 40


@pytest.fixture
def engine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEngine]:
    """Give a queue with the messages 1 to 40, in which the records of messages that are gone stay."""
    monkeypatch.setattr(blocks, "SIZE", 8)
    create_local(tmp_path / "queue", Settings(durability=Durability.PROCESS), {"a": SubscriberSettings()})
    engine = open_local(tmp_path / "queue")
    engine.put([Entry(b"%2d" % number, 2) for number in range(1, LAST + 1)])
    monkeypatch.setattr(doom, "SLICE", 0)
    yield engine
    engine.close()


def walk(work: Work, alive: list[int]) -> None:
    """Compare each way of reading with a list of what is there."""
    for db, size in ((work.data, 2), (work.meta, 17)):
        messages = Messages(work, db)
        forth, back = [], []
        there = messages.at(0)
        while there:
            assert len(messages.value) == size
            forth.append(messages.id)
            there = messages.next()
        there = messages.last()
        while there:
            back.append(messages.id)
            there = messages.prev()
        assert forth == alive == back[::-1]
        for message_id in range(LAST + 3):
            following = [each for each in alive if each >= message_id]
            assert (messages.id if messages.at(message_id) else None) == (following[0] if following else None)
            before = [each for each in alive if each < message_id]
            assert (messages.id if messages.before(message_id) else None) == (before[-1] if before else None)
    assert [number for number in range(LAST + 3) if meta(work, number) is not None] == alive


@pytest.mark.parametrize("seed", range(8))
def test_what_is_gone_is_passed_by(engine: LocalEngine, seed: int) -> None:
    rng = random.Random(seed)
    alive = set(range(1, LAST + 1))
    for _ in range(6):
        start = rng.randrange(1, LAST + 1)
        end = rng.choice((LAST + 1, min(LAST + 1, start + rng.randrange(1, 12))))
        gone = alive & set(range(start, end))
        engine._store.write(partial(doom.doom, start=start, end=end, messages=len(gone), size=2 * len(gone)))
        alive -= gone
        with engine._store.read() as txn:
            work = Work(engine._store, txn)
            ranges = work.state.doomed
            assert sorted(ranges) == list(ranges)
            assert all(one[1] < other[0] for one, other in itertools.pairwise(ranges))
            assert {number for number in range(1, LAST + 1) if not is_doomed(work.state, number)} == alive
            walk(work, sorted(alive))
            assert (work.state.messages, work.state.payload_bytes) == (len(alive), 2 * len(alive))
    doom.reclaim_all(engine._store)
    with engine._store.read() as txn:
        work = Work(engine._store, txn)
        assert work.state.doomed == ()
        assert txn.stat(work.data)["entries"] == len(alive)
        walk(work, sorted(alive))


def test_a_time_leads_to_the_first_message_that_was_sent_then(engine: LocalEngine) -> None:
    engine._store.write(lambda work: doom.doom(work, 5, 9, 4, 8))
    with engine._store.read() as txn:
        work = Work(engine._store, txn)
        messages = Messages(work, work.meta)
        there = messages.at(0)
        assert there
        sent = int.from_bytes(messages.value[:8], "big")
        assert first_sent(work, 1, LAST + 1, sent) == 1
        assert first_sent(work, 1, LAST + 1, 0) == 1
        assert first_sent(work, 5, LAST + 1, 0) == 9
        assert first_sent(work, 1, LAST + 1, sent + 10**18) == LAST + 1
