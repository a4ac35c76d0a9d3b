"""The tables of what a send and a receive spend their time on."""

import pathlib
import re

import pytest

from benchmarks import steps


def test_steps_add_up_and_pauses_are_shown(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, number in (("_ROUNDS", 2), ("_CALLS", 20), ("_PAUSES", (0.0, 0.001)), ("_PAUSED_CALLS", 3)):
        monkeypatch.setattr(steps, name, number)
    steps.main(["--folder", str(tmp_path)])
    printed = capsys.readouterr().out
    send, receive, pauses = re.split(r"^(?=receive|after)", printed, flags=re.MULTILINE)
    for table, whole in ((send, "a send"), (receive, "a receive with its acknowledgement")):
        rows = {text: float(number) for number, text in re.findall(r"^ +(-?\d+\.\d\d)  (.+)$", table, re.MULTILINE)}
        assert rows.pop("py-lmdb alone: the floor") > 0
        total = rows.pop(whole)
        assert total > 0
        assert sum(rows.values()) == pytest.approx(total, abs=0.005 * len(rows) + 0.005)
    found = [[float(number) for number in line.split()] for line in pauses.splitlines()[2:]]
    assert [row[0] for row in found] == [0.0, 1.0]
    assert all(number > 0 for row in found for number in row[1:])
    assert list(tmp_path.iterdir()) == []
