"""Short runs of what the long run tries for as long as one likes; and each finds a bug that is planted for it."""

import pathlib

import pytest

from tests.crash import failpoints, planted
from tests.hazards import doors, forks, readers, replaced, stuck, trials
from tests.hazards.trials import Attempt


def plant_here(monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """Plant a bug into this process for one test."""
    where, wrap = planted.PLANTED[bug]
    owner, name = failpoints.find(where)
    monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))


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
]


@pytest.mark.parametrize(
    ("attempt", "number"), [(attempt, number) for attempt, most in TRIED for number in range(most)]
)
def test_nothing_is_found(tmp_path: pathlib.Path, attempt: Attempt, number: int) -> None:
    trial = trials.one(attempt, tmp_path / "trial", 7, number)
    assert trial.findings == []
    assert trial.tries > 0


#: Planted by the processes that fork.
PID_CHECK = "pid check removed"
#: Planted into the processes of a trial: the number of the trial, the bug, and what of the findings names it.
PLANTED: list[tuple[Attempt, int, str, str]] = [
    (readers.crowded, 1, "a full table not told", "ReadersFullError"),
    (forks.forked, 0, PID_CHECK, "silently uses the environment of its parent"),
    (forks.preloaded, 0, PID_CHECK, "silently uses the environment of its parent"),
    (doors.double_open, 1, "files not inspected", "a hard link was not noticed"),
    (doors.churn, 1, "descriptors left open", "descriptors are left over"),
    (stuck.stuck, 11, "taken back, and carried", "refused, and stored"),
    (replaced.replaced, 1, "files not looked at", "an operation succeeded that began"),
]


@pytest.mark.parametrize(("attempt", "number", "bug", "finding"), PLANTED)
def test_hazards_find(tmp_path: pathlib.Path, attempt: Attempt, number: int, bug: str, finding: str) -> None:
    trial = trials.one(attempt, tmp_path / "trial", 7, number, [bug])
    assert finding in "\n".join(trial.findings)


def test_stale_readers_finds(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_here(monkeypatch, "dead readers not swept")
    assert "pages instead of" in "\n".join(trials.one(readers.stale, tmp_path / "trial", 7).findings)
