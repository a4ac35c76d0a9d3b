"""Short runs of what the long run tries for as long as one likes; and each finds a bug that is planted for it."""

import functools
import math
import pathlib

import pytest

from tests.contract.support import FakeClock
from tests.crash import planted
from tests.hazards import (
    bells,
    clocks,
    doors,
    exits,
    forks,
    fullmap,
    longlife,
    namespaces,
    overflow,
    readers,
    replaced,
    security,
    stuck,
    trials,
)
from tests.hazards.trials import Attempt, Trial
from tests.process.support import TRIES, patiently

#: What is tried, and how many trials: three have all durabilities.
TRIED: list[tuple[Attempt, int]] = [
    (readers.stale, 1),
    (readers.crowded, 2),
    (forks.forked, 2),
    (forks.preloaded, 1),
    (doors.double_open, 1),
    (doors.churn, 2),
    (stuck.stuck, len(stuck.WHERE)),
    (replaced.replaced, len(replaced.WAYS)),
    (fullmap.full, 3),
    (fullmap.growing, 2),
    (clocks.jumping, 2),
    (exits.exits, 1),
    (overflow.storm, 2),
    (bells.taken_away, 1),
    (namespaces.contained, 1),
    (security.secured, 1),
]


@pytest.mark.parametrize(
    ("attempt", "number"), [(attempt, number) for attempt, most in TRIED for number in range(most)]
)
def test_nothing_is_found(tmp_path: pathlib.Path, attempt: Attempt, number: int) -> None:
    trial = trials.one(attempt, tmp_path / "trial", 7, number)
    assert trial.findings == []
    assert trial.tries > 0


#: How many trials may go by until one meets the bug: on a busy machine not every one comes by its place.
MOST = 16
#: By this many trials later the same way is tried in the same durability again.
AGAIN = math.lcm(len(trials.DURABILITIES), len(stuck.WHERE), len(replaced.WAYS))
#: Planted by the processes that fork.
PID_CHECK = "pid check removed"
#: Planted into the processes of a trial: the number of the trial, the bug, and what of the findings names it.
PLANTED: list[tuple[Attempt, int, str, str]] = [
    (readers.crowded, 1, "a full table not told", "ReadersFullError"),
    (forks.forked, 0, PID_CHECK, "silently uses the environment of its parent"),
    (forks.preloaded, 0, PID_CHECK, "silently uses the environment of its parent"),
    (doors.double_open, 1, "files not inspected", "a hard link was not noticed"),
    (doors.churn, 1, "descriptors left open", "descriptors are left over"),
    (replaced.replaced, 1, "files not looked at", "an operation succeeded that began"),
    (fullmap.full, 0, "full for the sake of the dead", "acknowledged: StorageFullError"),
    (fullmap.growing, 0, "map not followed", "another process keeps growing the map"),
    (exits.exits, 0, "acknowledge on exception", "in_a_block, exception, 0: wrongly settled"),
    (overflow.storm, 0, "losses not counted", "settled of 800"),
    # Others have to wait for an answer at the moment of the stop, and to get an error rather than an interrupt.
    (stuck.stuck, stuck.WHERE.index("engine.local.sharing:Sharing.asked"), "taken back, and carried", "refused, and s"),
    (bells.taken_away, 0, "no look without a bell", "FIFO deleted: it sleeps on"),
    (namespaces.contained, 1, "places of the dead kept", "an id is given again"),
    (security.secured, 0, "modes not set", "has mode 0600, group_access=True"),
    (security.secured, 0, "links followed", "another file was overwritten"),
    (security.secured, 0, "payloads unpickled", "pickle.find_class"),
]


@pytest.mark.parametrize(("attempt", "number", "bug", "finding"), PLANTED)
def test_hazards_find(tmp_path: pathlib.Path, attempt: Attempt, number: int, bug: str, finding: str) -> None:
    findings = ""
    for later in range(MOST):
        trial = trials.one(attempt, tmp_path / str(later), 7, number + later * AGAIN, [bug])
        findings += "\n".join(trial.findings)
        if finding in findings:
            break
    assert finding in findings


@pytest.mark.parametrize("times", [TRIES - 1, TRIES])
def test_what_is_late_each_time_is_found(tmp_path: pathlib.Path, times: int) -> None:
    left = iter(range(times))

    def attempt(trial: Trial) -> None:
        trial.folder.joinpath("used").mkdir()
        trial.expect_soon(2.0 if next(left, None) is not None else 1.0, 1.0, "it came late")

    found = trials.one(attempt, tmp_path / "trial", 7).findings
    assert found == (["it came late"] if times == TRIES else [])


def test_jumping_clock_finds(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeClock, "boot_ns", FakeClock.wall_ns)
    assert "is held by two" in "\n".join(trials.one(clocks.jumping, tmp_path / "trial", 7).findings)


def test_stale_readers_finds(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted.plant_for(monkeypatch, "dead readers not swept")
    assert "pages instead of" in "\n".join(trials.one(readers.stale, tmp_path / "trial", 7).findings)


def test_nothing_grows(tmp_path: pathlib.Path) -> None:
    def live(factor: float) -> None:
        # What is used once, and comes late on a busy machine, does not count in a longer life; what grows, does.
        outcome = longlife.run(7, 2.0 * factor, tmp_path / f"{factor:g}")
        assert outcome.findings == []
        assert outcome.trials > 100

    patiently(live)


def test_what_grows_is_found(tmp_path: pathlib.Path) -> None:
    # Few visits: where a process may have a thousand descriptors open, it must not come to that.
    roles: longlife.Roles = {**longlife.ROLES, "visitor": functools.partial(longlife.come_and_go, visits=0)}

    def live(factor: float) -> None:
        def attempt(trial: Trial) -> None:
            longlife.judge(trial, longlife.live(trial, 0.2 * factor, roles))

        trial = trials.one(attempt, tmp_path / f"{factor:g}", 7, 0, ["descriptors left open"])
        assert "descriptors more at the end" in "\n".join(trial.findings)

    patiently(live)
