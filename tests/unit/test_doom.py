"""What a limit takes in large numbers is gone at once, though its records are deleted little by little."""

import pathlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from persipubsub import care
from persipubsub.engine.base import Engine
from persipubsub.engine.local import create_local, doom, open_local, prune
from persipubsub.engine.local.engine import LocalEngine
from persipubsub.engine.local.format import HOLDERS, State
from persipubsub.engine.local.work import Work
from persipubsub.engine.messages import Entry
from persipubsub.errors import PositionError
from persipubsub.limits import Durability, HighWaterMark, Retention, Settings, Strategy, SubscriberSettings

BOTH = pytest.mark.parametrize("strategy", [Strategy.PRUNE_FIRST, Strategy.PRUNE_LAST])
MARK = 2000


@contextmanager
def opened(path: pathlib.Path, *subscribers: str, mark: int | None = MARK, **settings: Any) -> Iterator[LocalEngine]:
    limits = HighWaterMark(max_messages=mark, max_bytes=settings.pop("max_bytes", None))
    chosen = Settings(durability=Durability.PROCESS, high_water_mark=limits, **settings)
    create_local(path, chosen, {name: SubscriberSettings() for name in subscribers or ("a",)})
    engine = open_local(path)
    try:
        yield engine
        assert engine.check() == []
    finally:
        engine.close()


def send(engine: Engine, count: int, size: int = 4) -> list[int]:
    return engine.put([Entry(b"x" * size, size)] * count)


def look(engine: LocalEngine) -> tuple[State, int, int]:
    """Return the state, and how many payloads and records of holders stand in the file."""
    with engine._store.read() as txn:
        work = Work(engine._store, txn)
        holders = sum(1 for key, _ in txn.cursor(db=work.pending) if bytes(key[:1]) == HOLDERS)
        return work.state, txn.stat(work.data)["entries"], holders


@BOTH
def test_the_send_that_prunes_deletes_a_slice_only(tmp_path: pathlib.Path, strategy: Strategy) -> None:
    with opened(tmp_path / "queue", strategy=strategy) as engine:
        send(engine, MARK)
        send(engine, 1)
        state, stored, _ = look(engine)
        assert (state.messages, state.pruned_overflow) == (MARK // 2 + 1, MARK // 2)
        assert MARK + 1 - stored == doom.SLICE + 2
        ids = [message.id for message in engine.browse(0, MARK)]
        kept = range(MARK // 2 + 1, MARK + 1) if strategy is Strategy.PRUNE_FIRST else range(1, MARK // 2 + 1)
        assert ids == [*kept, MARK + 1]
        assert engine.bounds() == (ids[0], MARK + 2)
        statistics = engine.statistics()
        assert (statistics.first_id, statistics.last_id) == (ids[0], ids[-1])
        assert statistics.subscribers[0].waiting == MARK // 2 + 1
        assert statistics.subscribers[0].lost == MARK // 2


def test_nobody_sees_what_is_gone(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doom, "SLICE", 0)
    with opened(tmp_path / "queue", "a", "b") as engine:
        send(engine, MARK)
        held = engine.take("a", 3, None)
        delayed = engine.take("b", 1, None)
        engine.give_back("b", [delayed[0].receipt], delay_ns=10**12)
        send(engine, 1)
        first = MARK // 2 + 1
        assert engine.browse(1, 1)[0].id == first
        assert engine.settle_ids("b", [5]) == 0
        with pytest.raises(PositionError):
            engine.seek("b", first - 1)
        with pytest.raises(PositionError):
            engine.add_subscriber("c", SubscriberSettings(), first - 1)
        assert engine.find_position("b", sent_ns=0) == first
        assert engine.peek("b")[0].missed == first - 1 - 1
        (taken,) = engine.take("b", 1, None)
        assert (taken.id, taken.missed) == (first, first - 1 - 1)
        engine.settle("a", [delivery.receipt for delivery in held])
        a, b = engine.statistics().subscribers
        assert (a.settled, a.lost, a.leased) == (0, MARK // 2, 0)
        assert (b.lost, b.delayed, b.leased) == (MARK // 2, 0, 1)
        assert (engine.take_newest("a", None) or taken).id == MARK + 1
        assert engine.check() == []
        records: list[Any] = []
        assert engine.export(0, 10 * MARK, records.append) is None
        assert sum(type(record).__name__ == "MessageRecord" for record in records) == MARK // 2 + 1
        assert look(engine)[0].doomed
    again = open_local(tmp_path / "queue")
    assert again.bounds()[0] == first
    again.close()
    saved = care.salvage(tmp_path / "queue", tmp_path / "saved")
    assert (saved.messages, saved.lost) == (MARK // 2 + 1, 0)


@BOTH
def test_deleting_keeps_up(tmp_path: pathlib.Path, strategy: Strategy) -> None:
    rng = random.Random(1)
    with opened(tmp_path / "queue", strategy=strategy) as engine:
        for _ in range(200):
            send(engine, rng.choice((1, 1, 7, 300)))
            state, stored, _ = look(engine)
            assert state.messages <= MARK
            assert stored <= MARK * 3 // 2 + 300
            assert len(state.doomed) <= 1
        assert engine.check() == []


@BOTH
def test_a_pruned_message_takes_its_holders_with_it(tmp_path: pathlib.Path, strategy: Strategy) -> None:
    with opened(tmp_path / "queue", strategy=strategy) as engine:
        send(engine, MARK)
        held = engine.take("a", MARK, None)
        send(engine, 1)
        engine.prune_dangling()
        state, stored, holders = look(engine)
        assert (state.doomed, stored, holders) == ((), MARK // 2 + 1, MARK // 2)
        assert engine.check() == []
        engine.settle("a", [delivery.receipt for delivery in held])
        (figures,) = engine.statistics().subscribers
        assert (figures.settled, figures.lost) == (MARK // 2, MARK // 2)
        assert look(engine)[1:] == (1, 0)


def test_many_ranges_do_not_pile_up(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest go while the oldest are consumed: each prune begins a range of its own."""
    monkeypatch.setattr(doom, "SLICE", 0)
    monkeypatch.setattr(doom, "MOST_RANGES", 3)
    monkeypatch.setattr(prune, "AT_ONCE", 0)
    idle = SimpleNamespace(SLICE_BYTES=0, reclaim=lambda *_: None)
    monkeypatch.setattr("persipubsub.engine.local.publish.doom", idle)
    most = 0
    with opened(tmp_path / "queue", mark=100, strategy=Strategy.PRUNE_LAST) as engine:
        for _ in range(10):
            pruned = engine.statistics().pruned_overflow
            while engine.statistics().pruned_overflow == pruned:
                send(engine, 1)
            taken = engine.take("a", 45, None)
            engine.settle("a", [delivery.receipt for delivery in taken])
            state, _, _ = look(engine)
            most = max(most, len(state.doomed))
            assert engine.check() == []
    assert most == 3


def test_a_log_lets_go_of_what_lies_around_those_held(tmp_path: pathlib.Path) -> None:
    with opened(tmp_path / "queue", mark=None, max_bytes=2000, retention=Retention.LOG) as engine:
        send(engine, 2000, size=1)
        taken = engine.take("a", 2000, None)
        kept = {1, 700, 701, 1500}
        engine.settle("a", [delivery.receipt for delivery in taken if delivery.id not in kept])
        send(engine, 1, size=1800)
        assert engine.statistics().pruned_overflow == 1800
        assert [message.id for message in engine.browse(0, 5)] == [1, 700, 701, 1500, 1805]
        assert engine.check() == []
        engine.settle("a", [delivery.receipt for delivery in taken if delivery.id in kept])
        engine.prune_dangling()
        assert look(engine)[1] == engine.statistics().messages == 201


def test_compacting_deletes_what_is_gone(tmp_path: pathlib.Path) -> None:
    with opened(tmp_path / "queue") as engine:
        send(engine, MARK)
        send(engine, 1)
        engine.compact()
        state, stored, _ = look(engine)
        assert (state.doomed, stored) == ((), MARK // 2 + 1)


def test_clearing_forgets_what_was_gone(tmp_path: pathlib.Path) -> None:
    with opened(tmp_path / "queue") as engine:
        send(engine, MARK)
        send(engine, 1)
        engine.clear()
        state, stored, _ = look(engine)
        assert (state.doomed, state.messages, stored) == ((), 0, 0)
        engine.add_subscriber("b", SubscriberSettings(), "first")
        send(engine, MARK)
        assert engine.statistics().messages == MARK


def test_block_counts_hold_whatever_is_consumed(tmp_path: pathlib.Path) -> None:
    """In order, out of order, and across several blocks of a thousand ids."""
    rng = random.Random(1)
    with opened(tmp_path / "queue", "a", mark=None, max_bytes=60_000) as engine:
        for _ in range(12):
            engine.put([Entry(b"x" * size, size) for size in rng.choices(range(40), k=900)])
            taken = engine.take("a", rng.choice((0, 100, 1500)) or 1, None)
            rng.shuffle(taken)
            engine.settle("a", [delivery.receipt for delivery in taken[: rng.randrange(len(taken) + 1)]])
            assert engine.check() == []
        assert engine.statistics().pruned_overflow
        assert engine.statistics().payload_bytes <= 60_000


@pytest.mark.parametrize("counted", [7, None])
def test_a_block_that_is_counted_wrong_is_found(tmp_path: pathlib.Path, counted: int | None) -> None:
    with opened(tmp_path / "queue", mark=None) as engine:
        send(engine, 5000)
        key = (2).to_bytes(8, "big")

        def count(work: Work, messages: int | None) -> None:
            if messages is None:
                work.txn.delete(key, db=work.blocks)
            else:
                work.txn.put(key, messages.to_bytes(8, "big") + (4096).to_bytes(8, "big"), db=work.blocks)
            work.touched = True

        engine._store.write(lambda work: count(work, counted))
        (finding,) = engine.check()
        assert (finding.where, finding.what) == ("block 2", "its messages are not counted right")
        engine._store.write(lambda work: count(work, 1024))
