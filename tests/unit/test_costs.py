"""What an operation costs does not grow with what it has nothing to do with.

Not seconds are compared but the calls that an operation makes: they are the same in every run.
"""

import pathlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import pytest

from persipubsub.engine.base import Engine
from persipubsub.engine.clock import Clock
from persipubsub.engine.local import blocks, create_local, format, open_local, opening, take
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.messages import Delivery, Entry
from persipubsub.limits import Durability, HighWaterMark, Retention, Settings, Strategy, SubscriberSettings

DAY = 86_400 * 1_000_000_000
#: Calls to count the messages of two blocks.
ONE_BY_ONE = 2 * blocks.SIZE * 13


class Hands(Clock):
    """A wall clock that the test turns."""

    wall = 1_700_000_000 * 1_000_000_000

    def wall_ns(self) -> int:
        return self.wall


def entry(data: bytes = b"data", delay_ns: int = 0) -> Entry:
    return Entry(data, len(data), delay_ns=delay_ns)


def calls(operation: Callable[[], object]) -> int:
    """Return how many calls ``operation`` makes in this thread, after it was made a few times to warm up."""
    for _ in range(3):
        operation()
    return counted(operation)


def counted(operation: Callable[[], object]) -> int:
    """Return how many calls ``operation`` makes in this thread."""
    number = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        operation()
    finally:
        sys.setprofile(before)
    return number


@pytest.fixture(autouse=True)
def no_glances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what an operation does now and then, by the clock."""
    monkeypatch.setattr("persipubsub.engine.local.store.GLANCE", 1e9)
    monkeypatch.setattr("persipubsub.engine.local.naming._TICK_NS", -1)
    monkeypatch.setattr("persipubsub.engine.local.space._STEP", 64 << 20)


@contextmanager
def opened(path: pathlib.Path, subscribers: int = 1, **settings: Any) -> Iterator[Engine]:
    names = {f"s{number:04}": SubscriberSettings() for number in range(subscribers)}
    create_local(path, Settings(durability=Durability.PROCESS, **settings), names)
    engine = open_local(path)
    try:
        yield engine
        assert engine.check() == []
    finally:
        engine.close()


def test_a_send_costs_the_same_with_a_thousand_subscribers(tmp_path: pathlib.Path) -> None:
    with opened(tmp_path / "one") as one, opened(tmp_path / "many", subscribers=1000) as many:
        assert calls(lambda: many.put([entry()])) == calls(lambda: one.put([entry()]))


@pytest.mark.parametrize("retention", Retention)
def test_send_take_and_settle_cost_the_same_at_any_backlog(tmp_path: pathlib.Path, retention: Retention) -> None:
    def cycle(engine: Engine) -> None:
        engine.put([entry()])
        (taken,) = engine.take("s0000", 1, None)
        engine.settle("s0000", [taken.receipt])

    found = []
    for backlog in (10, 20_000):
        with opened(tmp_path / str(backlog), 2, retention=retention) as engine:
            engine.put([entry()] * backlog)
            found.append(calls(partial(cycle, engine)))
    assert found[0] == found[1]


def test_delayed_messages_cost_no_scan(tmp_path: pathlib.Path) -> None:
    found = []
    for delayed in (10, 20_000):
        with opened(tmp_path / str(delayed)) as engine:
            engine.put([entry(delay_ns=DAY)] * delayed)
            assert engine.take("s0000", 1, None) == []  # sets them aside
            engine.put([entry()])
            (taken,) = engine.take("s0000", 1, None)
            engine.settle("s0000", [taken.receipt])
            found.append(calls(partial(engine.take, "s0000", 1, None)))
    assert found[0] == found[1]


def test_expiry_looks_only_at_what_it_deletes(tmp_path: pathlib.Path) -> None:
    found = []
    for backlog in (10, 20_000):
        with opened(tmp_path / str(backlog), high_water_mark=HighWaterMark(message_timeout=3600)) as engine:
            engine.put([entry()] * backlog)
            found.append(calls(partial(engine.put, [entry()])))
    assert found[0] == found[1]


@pytest.mark.parametrize("strategy", [Strategy.PRUNE_FIRST, Strategy.PRUNE_LAST])
def test_an_overflow_prune_of_many_costs_hardly_more_than_one_of_few(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, strategy: Strategy
) -> None:
    monkeypatch.setattr("persipubsub.engine.local.prune.AT_ONCE", 0)
    found = []
    for subscribers, most in ((1, 200), (300, 20_000), (1, 200_000)):
        mark = HighWaterMark(max_messages=most)
        with opened(tmp_path / str(most), subscribers, high_water_mark=mark, strategy=strategy) as engine:
            engine.put([entry()] * most)
            found.append(counted(partial(engine.put, [entry()])))
            statistics = engine.statistics()
            assert (statistics.messages, statistics.pruned_overflow) == (most // 2 + 1, most // 2)
    # One block of messages is counted one by one at each end, at most, and what lies between block by block.
    few, many, most_of_all = found
    assert many - few < ONE_BY_ONE
    assert most_of_all - few < ONE_BY_ONE + 100_000 / blocks.SIZE * 20


@pytest.mark.parametrize("strategy", [Strategy.PRUNE_FIRST, Strategy.PRUNE_LAST])
def test_a_send_after_a_prune_deletes_a_slice(tmp_path: pathlib.Path, strategy: Strategy) -> None:
    found = []
    for most in (2_000, 20_000):
        mark = HighWaterMark(max_messages=most)
        with opened(tmp_path / str(most), high_water_mark=mark, strategy=strategy) as engine:
            engine.put([entry()] * most)
            engine.put([entry()])
            found.append(calls(partial(engine.put, [entry()])))
    assert found[0] == pytest.approx(found[1], rel=0.01)


def test_expiry_of_many_costs_hardly_more_than_of_few(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persipubsub.engine.local.prune.AT_ONCE", 0)
    found = []
    for backlog in (200, 20_000):
        clock = Hands()
        with monkeypatch.context() as patch:
            patch.setattr(opening, "clock", clock)
            with opened(tmp_path / str(backlog), high_water_mark=HighWaterMark(message_timeout=3600)) as engine:
                engine.put([entry()] * backlog)
                clock.wall += DAY
                found.append(counted(partial(engine.put, [entry()])))
                statistics = engine.statistics()
                assert (statistics.messages, statistics.pruned_timeout) == (1, backlog)
    assert found[1] - found[0] < ONE_BY_ONE


@pytest.mark.parametrize("kind", ["filtered", "settled", "expired", "delayed", "damaged"])
def test_a_transaction_passes_a_bounded_number(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    positions = []
    original = take.take

    def noting(desk: Desk, most: int, lease: take.Lease) -> list[Delivery]:
        taken = original(desk, most, lease)
        positions.append(desk.record.position)
        return taken

    clock = Hands()
    monkeypatch.setattr(opening, "clock", clock)
    monkeypatch.setattr(take, "PASSED", 2)
    monkeypatch.setattr(take, "take", noting)
    # A log keeps what is settled, so there is something to pass.
    with opened(tmp_path / "queue", retention=Retention.LOG) as engine:
        if kind == "filtered":
            engine.configure_subscriber("s0000", SubscriberSettings(topic_filter="wanted"))
        passed = Entry(b"x", 1, delay_ns=DAY * (kind == "delayed"), expires_in_ns=1 if kind == "expired" else None)
        engine.put([passed] * 5)
        if kind == "settled":
            assert engine.settle_ids("s0000", range(2, 6)) == 4
            assert len(engine.take("s0000", 1, None)) == 1
        if kind == "damaged":
            monkeypatch.setattr(format, "agrees", lambda *message: False)
        clock.wall += 2
        assert engine.take("s0000", 5, None) == []
    assert positions[-3:] == ([2, 4, 6] if kind == "settled" else [3, 5, 6])


@pytest.mark.parametrize("strategy", [None, Strategy.PRUNE_FIRST, Strategy.PRUNE_LAST])
def test_whole_blocks_go_and_no_more(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, strategy: Strategy | None
) -> None:
    monkeypatch.setattr(blocks, "SIZE", 4)
    for backlog in (3, 7, 8, 20) if strategy is None else (8, 20):
        clock = Hands()
        monkeypatch.setattr(opening, "clock", clock)
        mark = HighWaterMark(message_timeout=3600) if strategy is None else HighWaterMark(max_messages=backlog)
        with opened(tmp_path / str(backlog), high_water_mark=mark, strategy=strategy or Strategy.REJECT) as engine:
            engine.put([entry()] * backlog)
            if strategy is None:
                clock.wall += DAY
            assert engine.check() == []
            engine.put([entry()])
            assert engine.check() == []
            statistics = engine.statistics()
            gone = backlog if strategy is None else backlog // 2
            assert statistics.messages == len(engine.browse(0, 100)) == backlog + 1 - gone
            assert (statistics.pruned_timeout if strategy is None else statistics.pruned_overflow) == gone


def test_no_record_of_a_block_is_left_behind(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SIZE", 4)
    with opened(tmp_path / "queue") as engine:
        for _ in range(20):
            engine.put([entry()] * 4)
        for _ in range(80):
            engine.settle("s0000", [taken.receipt for taken in engine.take("s0000", 1, None)])
        engine.put([entry()])
        env = engine._store.env  # type: ignore[attr-defined]
        with env.begin(db=env.open_db(format.BLOCK_DB, create=False)) as txn:
            assert txn.stat()["entries"] <= 2


def test_what_a_log_has_consumed_goes_in_one_step(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persipubsub.engine.local.prune.AT_ONCE", 0)
    found = []
    for backlog in (200, 20_000):
        mark = HighWaterMark(max_bytes=backlog)
        with opened(tmp_path / str(backlog), high_water_mark=mark, retention=Retention.LOG) as engine:
            engine.put([entry(b"x")] * backlog)
            assert engine.purge("s0000") == backlog
            found.append(counted(partial(engine.put, [entry(b"x" * (backlog - 50))])))
            statistics = engine.statistics()
            assert (statistics.messages, statistics.pruned_overflow) == (51, backlog - 50)
    assert found[1] - found[0] < ONE_BY_ONE


def test_nobody_who_waits_costs_a_publisher_nothing(tmp_path: pathlib.Path) -> None:
    with opened(tmp_path / "queue") as engine:
        alone = calls(lambda: engine.put([entry()]))
        waiter = engine.waiter("s0000")
        waiter.arm()
        engine.put([entry()])  # rings once: the bell is not armed again
        assert calls(lambda: engine.put([entry()])) == alone
        waiter.close()
