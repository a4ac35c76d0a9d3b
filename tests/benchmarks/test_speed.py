"""Short measurements for pytest-benchmark; nothing here asserts a speed.

``pytest tests/benchmarks/test_speed.py --benchmark-autosave`` keeps the figures, and ``--benchmark-compare`` shows
them beside the last ones.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.streams import Counter, numbered
from benchmarks.systems import SYSTEMS
from benchmarks.systems.base import Connection
from benchmarks.workloads.filling import fill

ROUNDS = 5
#: Messages of a round: enough to measure, few enough for a normal run of the tests.
SINGLE = 20
BATCH = 1_000


@pytest.fixture(params=["ours-process", "ours-full", "floor-process", "floor-full"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    system = SYSTEMS[request.param]
    place = system.place(str(tmp_path), 0)
    system.deploy(place, ["a"])
    opened = system.connect(place)
    yield opened
    opened.close()


def measure(benchmark: BenchmarkFixture, function: Callable[[], object]) -> None:
    pedantic: Any = benchmark.pedantic  # it has no types
    pedantic(function, rounds=ROUNDS, warmup_rounds=1)


def test_send(benchmark: BenchmarkFixture, connection: Connection) -> None:
    sender = connection.sender()
    data = [numbered(0)] * SINGLE
    measure(benchmark, lambda: sender.send_each(data))


def test_send_many(benchmark: BenchmarkFixture, connection: Connection) -> None:
    sender = connection.sender()
    batch = [numbered(0)] * BATCH
    measure(benchmark, lambda: sender.send_many(batch))


def test_receive(benchmark: BenchmarkFixture, connection: Connection) -> None:
    filled = fill(connection, SINGLE * (ROUNDS + 1))
    receiver = connection.receiver("a")
    taken = []

    def take() -> None:
        counter = Counter(most=SINGLE)
        receiver.take_each(counter, 0)
        taken.append(counter.count)

    measure(benchmark, take)
    assert set(taken) == {SINGLE}
    assert sum(taken) <= filled


def test_receive_many(benchmark: BenchmarkFixture, connection: Connection) -> None:
    fill(connection, BATCH * (ROUNDS + 1))
    receiver = connection.receiver("a")
    taken = []

    def take() -> None:
        counter = Counter(most=BATCH)
        receiver.take_batches(BATCH, counter.many, 0)
        taken.append(counter.count)

    measure(benchmark, take)
    assert set(taken) == {BATCH}
