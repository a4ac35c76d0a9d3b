"""Which tests run which lines of the core, and how long each takes; as a plugin of pytest it finds out.

``python -m pytest -p tests.mutants.reach --reach FILE ...`` writes the file.
"""

import ast
import dataclasses
import itertools
import json
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import coverage
import pytest


@dataclasses.dataclass
class Reach:
    """What each test runs."""

    #: Seconds of each test that passes, by its name.
    seconds: dict[str, float]
    #: By module (its name in the folder of the core) and line, the tests that run it.
    lines: dict[str, dict[int, list[str]]]
    failed: list[str]

    @classmethod
    def read(cls, path: pathlib.Path) -> "Reach":
        """Read what was written."""
        stored = json.loads(path.read_text())
        names = list(stored["seconds"])
        lines = {
            module: {int(line): [names[number] for number in numbers] for line, numbers in found.items()}
            for module, found in stored["lines"].items()
        }
        return cls(stored["seconds"], lines, stored["failed"])

    def write(self, path: pathlib.Path) -> None:
        """Write it, each name once."""
        numbers = {name: number for number, name in enumerate(self.seconds)}
        lines = {
            module: {line: sorted(numbers[name] for name in names) for line, names in found.items()}
            for module, found in self.lines.items()
        }
        path.write_text(json.dumps({"seconds": self.seconds, "lines": lines, "failed": self.failed}))

    def tests(self, module: str, lines: Sequence[int]) -> list[str]:
        """Return the tests that run one of these lines of a module, the quickest first."""
        known = self.lines.get(module, {})
        found = {name for line in lines for name in known.get(line, ())}
        return sorted(found, key=self._order)

    def all(self) -> list[str]:
        """Return all tests, the quickest first."""
        return sorted(self.seconds, key=self._order)

    def _order(self, name: str) -> tuple[float, str]:
        return self.seconds[name], name

    def first(self, tests: Sequence[str], bound: float) -> dict[str, float]:
        """Return the first of them that take ``bound`` seconds together, with the seconds of each."""
        totals = itertools.accumulate(self.seconds[name] for name in tests)
        return {name: self.seconds[name] for name, total in zip(tests, totals, strict=True) if total <= bound}


def lines_of(source: str, line: int) -> list[int]:
    """Return the lines of which one is run if the change of ``line`` may show.

    Inside of a function these are the lines of the statement up to this one; for what is run when the module is
    imported (a constant, a default of a parameter) all lines of functions to which it belongs.
    """
    around = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    inner = max(around, key=lambda node: node.lineno, default=None)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(inner, kinds):
        return list(range(inner.body[0].lineno, (inner.end_lineno or inner.lineno) + 1))
    if inner is not None and any(isinstance(node, kinds) for node in around):
        return list(range(inner.lineno, line + 1))
    return [
        number
        for node in ast.walk(ast.parse(source))
        if isinstance(node, kinds)
        for number in range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)
    ]


# -- the plugin -------------------------------------------------------------------------------------------


class Recorder:
    """Measures each test on its own."""

    def __init__(self, path: pathlib.Path, folder: pathlib.Path) -> None:
        """Remember where it is written, and which folder is measured."""
        self._path, self._folder = path, folder
        self._coverage: Any = coverage.Coverage(data_file=None, include=[f"{folder}/*"], config_file=False)
        self._seconds: dict[str, float] = {}
        self._failed: list[str] = []
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note what a test runs, and for how long."""
        self._coverage.switch_context(item.nodeid)
        began = time.perf_counter()
        try:
            return (yield)
        finally:
            self._seconds[item.nodeid] = round(time.perf_counter() - began, 4)
            self._coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what fails: it notices nothing."""
        if report.failed and report.nodeid not in self._failed:
            self._failed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write it all."""
        self._coverage.stop()
        data = self._coverage.get_data()
        lines: dict[str, dict[int, list[str]]] = {}
        for name in data.measured_files():
            found = data.contexts_by_lineno(name)
            module = pathlib.Path(name).relative_to(self._folder).with_suffix("").as_posix()
            lines[module] = {
                line: [test for test in tests if test and test not in self._failed] for line, tests in found.items()
            }
        for test in self._failed:
            del self._seconds[test]
        Reach(self._seconds, lines, self._failed).write(self._path)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say where it is written."""
    parser.addoption("--reach", type=pathlib.Path)
    parser.addoption("--reach-of", type=pathlib.Path)


def pytest_configure(config: pytest.Config) -> None:
    """Measure."""
    config.pluginmanager.register(Recorder(config.getoption("--reach"), config.getoption("--reach-of")))
