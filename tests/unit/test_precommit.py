"""The gate really fails, and really mends."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BADLY_FORMATTED = 'x = {  "a":1 }\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project with the gate and one badly formatted module."""
    for name in ("precommit.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    package = tmp_path / "persipubsub"
    package.mkdir()
    (package / "bad.py").write_text(f'"""A module."""\n\n{BADLY_FORMATTED}')
    return tmp_path


def gate(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(project / "precommit.py"), *arguments]
    return subprocess.run(command, cwd=project.parent, capture_output=True, text=True, check=False)


def test_a_badly_formatted_file_fails(project: Path) -> None:
    before = (project / "persipubsub" / "bad.py").read_bytes()
    outcome = gate(project, "--only", "format")
    assert outcome.returncode == 1
    assert "bad.py" in outcome.stdout
    assert re.search(r"^format +FAILED +\d+\.\d s$", outcome.stdout, re.MULTILINE)
    assert (project / "persipubsub" / "bad.py").read_bytes() == before


def test_overwrite_mends_it(project: Path) -> None:
    assert gate(project, "--only", "format", "--overwrite").returncode == 0
    assert (project / "persipubsub" / "bad.py").read_text() == '"""A module."""\n\nx = {"a": 1}\n'
    outcome = gate(project, "--only", "format", "lint")
    assert outcome.returncode == 0, outcome.stdout
    assert re.search(r"^format +ok +\d+\.\d s$", outcome.stdout, re.MULTILINE)


def test_the_linter_sees_a_missing_docstring(project: Path) -> None:
    (project / "persipubsub" / "bad.py").write_text("x = 1\n")
    outcome = gate(project, "--only", "format", "lint")
    assert outcome.returncode == 1
    assert "D100" in outcome.stdout
    assert re.search(r"^format +ok", outcome.stdout, re.MULTILINE)
    assert re.search(r"^lint +FAILED", outcome.stdout, re.MULTILINE)


def write_tests(project: Path, body: str) -> None:
    """Write a package with a part of the core, and a test that imports both."""
    (project / "persipubsub" / "__init__.py").write_text('"""A package."""\n')
    (project / "persipubsub" / "delivery").mkdir()
    (project / "persipubsub" / "delivery" / "__init__.py").write_text('"""A part of the core."""\n')
    (project / "tests").mkdir()
    (project / "tests" / "test_it.py").write_text(f"import persipubsub.delivery\n\n\ndef test_it():\n    {body}\n")


def test_the_summary_of_pytest_is_the_last_line(project: Path) -> None:
    (project / "persipubsub" / "bad.py").unlink()
    write_tests(project, "assert persipubsub.__doc__")
    outcome = gate(project, "--only", "tests")
    assert outcome.returncode == 0, outcome.stdout
    assert re.fullmatch(r"=+ 1 passed in \d+\.\d+s =+", outcome.stdout.splitlines()[-1])


def test_a_failing_test_fails_the_gate(project: Path) -> None:
    (project / "persipubsub" / "bad.py").unlink()
    write_tests(project, "assert not persipubsub.__doc__")
    outcome = gate(project, "--only", "tests")
    assert outcome.returncode == 1
    assert re.fullmatch(r"=+ 1 failed in \d+\.\d+s =+", outcome.stdout.splitlines()[-1])


def test_too_little_coverage_fails_the_gate(project: Path) -> None:
    (project / "persipubsub" / "bad.py").write_text("def never(x):\n    if x:\n        return 1\n    return 2\n" * 9)
    write_tests(project, "assert persipubsub.__doc__")
    outcome = gate(project, "--only", "tests")
    assert outcome.returncode == 1, outcome.stdout
    assert re.search(r"^tests +FAILED", outcome.stdout, re.MULTILINE)
    assert "1 passed" in outcome.stdout.splitlines()[-1]


def test_a_line_of_the_core_that_no_test_runs_fails_the_gate(project: Path) -> None:
    write_tests(project, "assert persipubsub.__doc__")
    (project / "persipubsub" / "bad.py").write_text("x = 1\n" * 99)
    (project / "tests" / "test_bad.py").write_text("import persipubsub.bad\n\n\ndef test_bad():\n    pass\n")
    core = project / "persipubsub" / "delivery" / "__init__.py"
    core.write_text("def never():\n    return 1\n" + "x = 1\n" * 20)
    outcome = gate(project, "--only", "tests")
    assert outcome.returncode == 1, outcome.stdout
    assert "total of 95 is less than fail-under=99" in outcome.stdout
    core.write_text("x = 1\n" * 20)
    assert gate(project, "--only", "tests").returncode == 0


def test_an_unknown_step_is_refused(project: Path) -> None:
    outcome = gate(project, "--only", "nonsense")
    assert outcome.returncode == 2
    assert "nonsense" in outcome.stderr
