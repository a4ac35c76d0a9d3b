"""The changes are those that were meant, and it is told which of them the tests notice."""

import json
import pathlib
import shutil

import pytest

from tests.mutants import __main__ as mutants
from tests.mutants import changes, warm

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


CORE = """LEAST = 3


def larger(one, other=LEAST):
    if other is None or one > other:
        return one
    return other


def wait(number):
    while number:
        number -= 1
    return True
"""
TESTS = """from persipubsub.engine.local import core


def test_larger():
    assert core.larger(2) == 3


def test_wait():
    assert core.wait(2)


def test_what_always_fails():
    raise ValueError(core.larger(1))
"""
FAR = """import subprocess, sys


def test_in_another_process():
    code = "from persipubsub.engine.local import core; print(core.larger(None, None))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).stdout == b"None\\n"
"""


def test_what_is_noticed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = tmp_path / "repository"
    core = repository / mutants.CORE
    core.mkdir(parents=True)
    (core / "core.py").write_text(CORE)
    shutil.copytree(mutants.REPOSITORY / "tests/mutants", repository / "tests/mutants")
    (repository / "tests/test_core.py").write_text(TESTS)
    (repository / "tests/test_far.py").write_text(FAR)
    (repository / "pyproject.toml").write_text("")
    monkeypatch.setattr(mutants, "REPOSITORY", repository)
    monkeypatch.setattr(warm, "PATIENCE", 8.0)  # a busy machine may take long to start a process
    report = tmp_path / "report.json"
    names = [f"core:{number}" for number in (0, 1, 2, 4, 6, 9)]
    given = ["--modules", "core", "--tests", "tests/test_core.py", "--far", "tests/test_far.py"]
    assert mutants.main([*given, "--only", *names, "--json", str(report)]) == 0
    fates = [(one["line"], one["fate"], one["by"]) for one in json.loads(report.read_text())["mutants"]]
    near, far = "tests/test_core.py::test_", "tests/test_far.py::test_"
    assert fates == [
        (1, "killed", near + "larger"),  # LEAST = 4, which an import has to see
        (5, "killed", near + "larger"),  # if not (...)
        (5, "killed", far + "in_another_process"),  # and
        (5, "survived", ""),  # >=
        (12, "hung", near + "wait"),  # pass
        (13, "killed", near + "wait"),  # False
    ], fates
    printed = capsys.readouterr().out
    assert "is left out: tests/test_core.py::test_what_always_fails" in printed
    assert "+    if other is None or one >= other:" in printed
    assert "5 of 6 noticed (83%), 1 of them by the bound" in printed


def test_none_is_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(RuntimeError, match="do not run on the sources as they are"):
        mutants.Copy(tmp_path / "nothing").reach(["nowhere"], tmp_path / "reach")
