"""Wherever an operation is cut off by SIGKILL, what returned stands, and nothing is half done."""

import pathlib
import random

import pytest

from persipubsub import Durability
from tests.crash import planted, points, scenarios
from tests.crash.points import CALLS, LINES, TORN
from tests.process.support import Child, Here

#: So many points of each scenario are tried here; the long run tries as many as it has time for.
_SAMPLE = 8


def try_some(child: Child, folder: pathlib.Path, name: str, count: int, modes: tuple[str, str]) -> None:
    """Cut off at some points, in both modes by turns."""
    were_reached = 0
    for nth in random.Random(name).sample(range(1, count + 1), _SAMPLE):
        reached, _, findings = child.do(points.try_point, folder, modes[nth % 2], nth)
        assert (nth, findings) == (nth, [])
        were_reached += reached
    # What is waited for takes more or fewer steps from one time to the next: the last points may not come.
    assert were_reached > _SAMPLE // 2


@pytest.mark.parametrize("name", scenarios.SCENARIOS)
def test_lines(tmp_path: pathlib.Path, name: str) -> None:
    with points.zygote(tmp_path, LINES) as child:
        count = points.points_of(child, tmp_path, name, LINES, Durability.PROCESS)
        assert count > 500
        try_some(child, tmp_path, name, count, (LINES, LINES))


@pytest.mark.parametrize("name", scenarios.SCENARIOS)
def test_calls(tmp_path: pathlib.Path, name: str) -> None:
    with points.zygote(tmp_path, CALLS) as child:
        count = points.points_of(child, tmp_path, name, CALLS, Durability.FULL)
        assert count > 10
        # Every other one in the middle of what it writes.
        try_some(child, tmp_path, name, count, (CALLS, TORN))


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
    with points.zygote(tmp_path, CALLS) as child:
        child.do(plant, bug)
        count = points.points_of(child, tmp_path, name, CALLS, Durability.FULL)
        for nth in range(count, 0, -1):
            if finding in "\n".join(child.do(points.try_point, tmp_path, CALLS, nth)[2]):
                return
    pytest.fail(f"nothing was found at {count} points")
