"""The changes are those that were meant, and it is told which of them the tests notice."""

import json
import pathlib

import pytest

from tests.mutants import __main__ as mutants
from tests.mutants import changes

SOURCE = '''
def larger(one: int, other: int | None = 3) -> int | None:
    """Return the larger one: 1 or 2."""
    if other is None or one > other:
        return one
    return other
'''


def test_changes() -> None:
    told = [
        [line[1:].strip() for line in changes.difference(SOURCE, changes.change(SOURCE, number)[0]) if line[0] == "+"]
        for number in range(changes.count(SOURCE))
    ]
    assert told == [
        ["def larger(one: int, other: int | None=4) -> int | None:"],
        ["if not (other is None or one > other):"],
        ["if other is None and one > other:"],
        ["if other is not None or one > other:"],
        ["if other is None or one >= other:"],
    ]
    assert changes.change(SOURCE, 4)[1] == 4
    with pytest.raises(IndexError, match="There are 5 changes"):
        changes.change(SOURCE, 5)


def test_every_change_of_the_core_is_another_module() -> None:
    source = (mutants.REPOSITORY / mutants.CORE / "settle.py").read_text()
    changed = {changes.change(source, number)[0] for number in range(0, changes.count(source), 7)}
    assert len(changed) == len(range(0, changes.count(source), 7))
    for text in changed:
        compile(text, "settle", "exec")
        assert list(changes.difference(source, text))


def test_what_is_noticed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "persipubsub" / "engine" / "local").mkdir(parents=True)
    (tmp_path / "persipubsub" / "engine" / "local" / "core.py").write_text(SOURCE)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_core.py").write_text(
        """import importlib.util
import pathlib

path = pathlib.Path(__file__).parent.parent / "persipubsub/engine/local/core.py"
spec = importlib.util.spec_from_file_location("core", path)
core = importlib.util.module_from_spec(spec)
spec.loader.exec_module(core)


def test_core():
    assert core.larger(4) == 4
    assert core.larger(2) == 3
"""
    )
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.setattr(mutants, "REPOSITORY", tmp_path)
    report = tmp_path / "report.json"
    assert (
        mutants.main(["--modules", "core", "--tests", "tests", "--number", "2", "--seed", "0", "--json", str(report)])
        == 0
    )
    fates = [(one["line"], one["fate"]) for one in json.loads(report.read_text())["mutants"]]
    assert fates == [(4, "killed"), (4, "survived")]
    printed = capsys.readouterr().out
    assert "+    if other is None or one >= other:" in printed
    assert "1 of 2 noticed (50%), 1 survived" in printed
    (tmp_path / "tests" / "test_core.py").write_text("def test_core():\n    raise ValueError('always')\n")
    with pytest.raises(RuntimeError, match="ValueError: always"):
        mutants.main(["--modules", "core", "--tests", "tests"])
