"""Wherever an operation is cut off by SIGKILL, what returned stands, and nothing is half done."""

import pathlib
import random
from collections.abc import Iterator

import pytest

from persipubsub import Durability
from tests.crash import planted, scenarios
from tests.crash.points import CALLS, LINES, TORN, Bench
from tests.process.support import Here

#: So many points of each scenario are tried here; the long run tries as many as it has time for.
_SAMPLE = 8


def try_some(bench: Bench, name: str, count: int, mode: str, number: int = _SAMPLE) -> None:
    """Cut off at some points."""
    tried = list(bench.try_points(mode, random.Random(name + mode).sample(range(1, count + 1), number)))
    assert [(point.nth, point.findings) for point in tried if point.findings] == []
    # What is waited for takes more or fewer steps from one time to the next: the last points may not come.
    assert sum(point.reached for point in tried) > number // 2


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("lines"), calls=False) as bench:
        yield bench


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("calls"), calls=True) as bench:
        yield bench


@pytest.mark.parametrize("name", scenarios.SCENARIOS)
def test_lines(lines: Bench, name: str) -> None:
    count = lines.prepare(name, Durability.PROCESS, LINES)
    assert count > 500
    try_some(lines, name, count, LINES)


@pytest.mark.parametrize("name", scenarios.SCENARIOS)
def test_calls(calls: Bench, name: str) -> None:
    count = calls.prepare(name, Durability.FULL, CALLS)
    assert count > 10
    for mode in (CALLS, TORN):
        try_some(calls, name, count, mode, _SAMPLE // 2)


def plant(here: Here, bug: str) -> None:
    planted.plant(bug)


@pytest.mark.parametrize(
    ("bug", "name", "finding"),
    [
        ("acknowledged at the entrance", "receive", "acknowledged without a body"),
        ("batches torn", "publish", "got a part of a batch"),
    ],
)
def test_points_find(tmp_path: pathlib.Path, bug: str, name: str, finding: str) -> None:
    with Bench(tmp_path, calls=True) as bench:
        bench.child.do(plant, bug)
        count = bench.prepare(name, Durability.FULL, CALLS)
        for point in bench.try_points(CALLS, list(range(count, 0, -1))):
            if finding in "\n".join(point.findings):
                return
    pytest.fail(f"nothing was found at {count} points")
