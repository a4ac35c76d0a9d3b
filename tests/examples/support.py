"""Pages and programs of the examples, and the ties between the rows of their tables and the tests."""

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

#: Rows that tests check, by the names of their modules.
CHECKED: dict[str, list[str]] = {}

Test = TypeVar("Test", bound=Callable[..., Any])


def checks(*rows: str) -> Callable[[Test], Test]:
    """Tell which rows of a page's tables a test checks, by their first cells without the marks of literals."""

    def register(test: Test) -> Test:
        CHECKED.setdefault(test.__module__, []).extend(rows)
        return test

    return register


def page_of(example: str) -> str:
    return (EXAMPLES / example / "README.rst").read_text(encoding="utf-8")


def rows_of(page: str) -> list[tuple[str, str]]:
    """Return the rows of all tables but their headings."""
    tables: list[list[list[str]]] = []
    for line in page.splitlines():
        if line.startswith(".. list-table::"):
            tables.append([])
        elif line.startswith("   * - "):
            tables[-1].append([line[7:]])
        elif line.startswith("     - "):
            tables[-1][-1].append(line[7:])
        elif line.startswith("       ") and tables:
            tables[-1][-1][-1] += " " + line.strip()
    return [(first, second) for _, *rows in tables for first, second in rows]


def shown_output(page: str) -> tuple[str, str]:
    """Return the command that a page shows, and what it says that the command prints."""
    found = re.search(r"^\.\. code-block:: text\n\n((?:    .*\n|\n)+)", page, re.MULTILINE)
    assert found is not None
    command, _, output = textwrap.dedent(found[1]).strip().partition("\n")
    return command.removeprefix("$ "), output


def run(*arguments: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """Run a program of the examples from the root of the checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )
