"""No wake-up is lost, and no late settlement is accepted."""

import pathlib

import pytest

from tests.contract.support import FakeClock
from tests.crash import fencing, planted, races
from tests.process.support import BOUND, Children


def test_no_wake_up_is_lost(tmp_path: pathlib.Path, children: Children) -> None:
    found = races.race(children.new("forkserver"), tmp_path, 1, 2 * BOUND, 3000, least=501)
    assert len(found.rounds) > 500
    assert found.lost == 0


@pytest.mark.parametrize("side", ["here", "there"])
def test_race_finds(tmp_path: pathlib.Path, children: Children, monkeypatch: pytest.MonkeyPatch, side: str) -> None:
    bug = "no look before sleeping"
    if side == "here":
        planted.plant_for(monkeypatch, bug)
    bugs = [bug] if side == "there" else []
    assert races.race(children.new("forkserver"), tmp_path, 1, 3 * BOUND, 20_000, bugs, lost=5.0).lost == 1


def test_late_settlements_are_refused(tmp_path: pathlib.Path) -> None:
    assert fencing.late(tmp_path / "queue", 1, 500) == []


@pytest.mark.parametrize(
    ("bug", "finding"),
    [("no fencing token", "a late settlement was accepted"), ("wall clock", "was not followed by")],
)
def test_fencing_finds(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, bug: str, finding: str) -> None:
    if bug == "wall clock":
        monkeypatch.setattr(FakeClock, "boot_ns", FakeClock.wall_ns)
    else:
        planted.plant_for(monkeypatch, bug)
    assert finding in "\n".join(fencing.late(tmp_path / "queue", 1, 50))
