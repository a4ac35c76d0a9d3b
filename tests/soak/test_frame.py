"""The frame of the long run: rows plug in, time is shared, and what goes wrong is seen."""

import json
import os
import pathlib
import signal
import sys

import pytest

from tests.process.support import BOUND
from tests.soak import __main__ as soak
from tests.soak import machine, registry
from tests.soak.protocol import Outcome, Row, percentile
from tests.soak.repeating import repeat


def good(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    (folder / "queue").mkdir()
    return Outcome(300, [], {"seed": seed, "seconds": seconds})


def bad(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    return Outcome(7, ["message 5 was lost"])


def idle(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    return Outcome(0, [])


def raising(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    raise ValueError("of the row")


def killed(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(1, [])


def hanging(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    signal.pause()
    return Outcome(0, [])


ROWS = [
    Row("good", "what stands", "no finding", good, share=3, aim=300),
    Row("bad", "what does not", "no finding", bad, aim=20),
    Row("idle", "what tries nothing", "something", idle),
    Row("raising", "what raises", "no error", raising),
    Row("killed", "what dies", "no signal", killed),
    Row("hanging", "what hangs", "an end", hanging),
]


@pytest.fixture
def rows(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Let the rows be those of this file, here and in the processes of the rows."""
    package = tmp_path / "plugged"
    package.mkdir()
    (package / "soak_rows.py").write_text("from tests.soak.test_frame import ROWS\n")
    monkeypatch.setattr(registry, "_TESTS", tmp_path)
    monkeypatch.setattr(registry, "PACKAGE", "")
    monkeypatch.syspath_prepend(str(tmp_path))
    start = "import sys, pathlib, tests.soak.registry as r; r._TESTS = pathlib.Path(sys.argv.pop(1)); r.PACKAGE = ''; "
    start += "sys.path.insert(0, str(r._TESTS)); import tests.soak.one as o; o.main()"
    monkeypatch.setattr(soak, "COMMAND", [sys.executable, "-c", start, str(tmp_path)])
    return tmp_path


def test_scorecard(rows: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = rows / "out.json"
    given = ["--minutes", "0.2", "--seed", "7", "--json", str(result), "--rows", "good", "bad"]
    assert soak.main([*given, "--folder", str(rows)]) == 1
    printed = capsys.readouterr().out
    for line in (
        "seed 7, 0.2 minutes",
        "stands  good: what stands",
        "0 failures in 300: below 1.000% each, at 95 % confidence",
        "aim before a release: 300 trials; reached",
        "seed 7, seconds 9",
        "FAILED  bad: what does not",
        "1 findings in 7 trials",
        "aim before a release: 20 trials; 35% of it",
        "! message 5 was lost",
        "1 of 2 rows stand; not: bad",
        f"filesystem: {machine.filesystem(rows)}",
    ):
        assert line in printed, line
    stored = json.loads(result.read_text())
    assert stored["seed"] == 7
    assert {"persipubsub", "python", "lmdb", "filesystem"} <= stored["machine"].keys()
    assert [(row["id"], row["stands"], row["bound"], row["aim"], row["reached"]) for row in stored["rows"]] == [
        ("good", True, 0.01, 300, True),
        ("bad", False, None, 20, False),
    ]
    assert soak.main(["--minutes", "0.01", "--rows", "good"]) == 0


@pytest.mark.parametrize(
    ("name", "finding"),
    [("raising", "ValueError: of the row"), ("killed", "ended with -9"), ("hanging", "the row hung")],
)
def test_what_ends_a_row_is_a_finding(rows: pathlib.Path, name: str, finding: str) -> None:
    row = registry.rows()[name]
    outcome = soak.run_row(row, 1, 1.0, rows, grace=BOUND if name != "hanging" else 1.0)
    assert not outcome.stands
    assert finding in "\n".join(outcome.findings)


def test_what_tries_nothing_does_not_stand(rows: pathlib.Path) -> None:
    assert not soak.run_row(registry.rows()["idle"], 1, 0.1, rows).stands


def test_rows_of_the_project_are_found() -> None:
    found = registry.rows()
    assert all(row.id == name and row.meaning and row.target for name, row in found.items())


def test_trials_are_repeated_and_added_up(tmp_path: pathlib.Path) -> None:
    seeds: list[int] = []

    def trial(work: pathlib.Path, seed: int, until: float) -> Outcome:
        assert list(work.iterdir()) == []
        (work / "left").touch()
        seeds.append(seed)
        return Outcome(2, ["lost"] if seed > 6 else [], {"lives": 1, "deepest": -seed})

    run = repeat(trial, largest=["deepest"], enough=2)
    outcome = run(5, 60, tmp_path)
    assert seeds == [5, 6, 7, 8]
    assert outcome == Outcome(8, ["seed 7: lost", "seed 8: lost"], {"lives": 4, "deepest": -5})
    assert list(tmp_path.iterdir()) == []
    assert run(1, 0, tmp_path) == Outcome(0, [])


def test_percentile() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
