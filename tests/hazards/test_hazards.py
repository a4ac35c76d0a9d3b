"""Short runs of what the long run tries for as long as one likes; and each finds a bug that is planted for it."""

import pathlib

import pytest

from tests.crash import failpoints, planted
from tests.hazards import readers, trials
from tests.hazards.trials import Attempt


def plant_here(monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """Plant a bug into this process for one test."""
    where, wrap = planted.PLANTED[bug]
    owner, name = failpoints.find(where)
    monkeypatch.setattr(owner, name, wrap(getattr(owner, name)))


#: What is tried, and how many trials: three have all durabilities.
TRIED: list[tuple[Attempt, int]] = [(readers.stale, 2), (readers.crowded, 2)]


@pytest.mark.parametrize(
    ("attempt", "number"), [(attempt, number) for attempt, most in TRIED for number in range(most)]
)
def test_nothing_is_found(tmp_path: pathlib.Path, attempt: Attempt, number: int) -> None:
    trial = trials.one(attempt, tmp_path / "trial", 7, number)
    assert trial.findings == []
    assert trial.tries > 0


#: Planted into the processes of a trial: the bug, and what of the findings names it.
PLANTED: list[tuple[Attempt, str, str]] = [
    (readers.crowded, "a full table not told", "ReadersFullError"),
]


@pytest.mark.parametrize(("attempt", "bug", "finding"), PLANTED)
def test_hazards_find(tmp_path: pathlib.Path, attempt: Attempt, bug: str, finding: str) -> None:
    trial = trials.one(attempt, tmp_path / "trial", 7, 1, [bug])
    assert finding in "\n".join(trial.findings)


def test_stale_readers_finds(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_here(monkeypatch, "dead readers not swept")
    assert "pages instead of" in "\n".join(trials.one(readers.stale, tmp_path / "trial", 7).findings)
