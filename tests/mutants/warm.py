"""A pytest that has collected all tests, and tries each mutant in a fork of itself.

It is a plugin: once the tests are collected it takes orders from the pipe ``--orders``, instead of running them. An
order is a :class:`Order`; in a fork of the process the functions of the module are given their changed code, and the
tests are run until one fails. Nothing is imported and nothing is collected again.
"""

import ast
import dataclasses
import multiprocessing.connection as connections
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.mutants import patching

#: A test hangs that takes longer than this, or than so many times as long as with the original.
PATIENCE, TIMES = 15.0, 20
KILLED, SURVIVED, HUNG = "killed", "survived", "hung"
#: Seconds within which all tests are collected.
_COLLECTING = 300.0
_LAST = 30


@dataclasses.dataclass
class Order:
    """What is to be tried: a module before and after, and the tests, with what each may take."""

    path: str
    before: str
    after: ast.Module | None
    tests: list[tuple[str, float]]


@dataclasses.dataclass
class Answer:
    """What became of it."""

    fate: str
    #: The test that noticed it, and how; whether the change is one of functions, else nothing was tried.
    by: str = ""
    why: str = ""
    patched: bool = True


# -- inside of pytest -------------------------------------------------------------------------------------


class Server:
    """Carries out orders in forks."""

    def __init__(self, pipe: "connections.Connection[Answer, Order]") -> None:
        """Take orders from a pipe."""
        self._pipe = pipe
        self._why = ""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Serve instead of running tests."""
        items = {item.nodeid: item for item in session.items}
        temporary = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        known = list(patching.functions(pathlib.Path.cwd()))
        sys.dont_write_bytecode = True
        self._pipe.send(Answer(SURVIVED, why=f"{len(items)} tests are collected"))
        while True:
            try:
                order = self._pipe.recv()
            except EOFError:
                return True
            path = pathlib.Path(order.path)
            differing = [] if order.after is None else patching.pairs(order.before, order.after, path)
            if differing is None:
                self._pipe.send(Answer(SURVIVED, patched=False))
                continue
            self._pipe.send(self._fork(known, path, differing, [(items[name], most) for name, most in order.tests]))
            for left in temporary.iterdir():
                shutil.rmtree(left, ignore_errors=True)

    def _fork(
        self,
        known: list[types.FunctionType],
        path: pathlib.Path,
        differing: patching.Pairs,
        items: Sequence[tuple[pytest.Item, float]],
    ) -> Answer:
        mine, theirs = connections.Pipe()
        child = os.fork()
        if not child:
            os.setsid()
            code = 1
            try:
                if differing and not patching.patch(known, path, differing):
                    raise LookupError(f"No function of {path} has the code that was changed.")
                self._run([item for item, _ in items], theirs)
                code = 0
            finally:
                os._exit(code)
        theirs.close()
        most = {item.nodeid: bound for item, bound in items}
        now, why, fate = "", "", HUNG
        try:
            while mine.poll(most.get(now, PATIENCE)):
                now, why = mine.recv()
                if why:
                    fate = KILLED
                    break
            else:
                why = "it hangs"
        except EOFError:
            fate, why = KILLED, "the process of the tests ended"
        finally:
            try:
                os.killpg(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.waitpid(child, 0)
            mine.close()
        return Answer(SURVIVED) if now == "" and why == _WELL else Answer(fate, now, why)

    def _run(self, items: Sequence[pytest.Item], pipe: "connections.Connection[tuple[str, str], object]") -> None:
        self._why = ""
        for item, following in zip(items, [*items[1:], None], strict=True):
            pipe.send((item.nodeid, ""))
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._why:
                pipe.send((item.nodeid, self._why))
                return
        pipe.send(("", _WELL))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure, of a fixture, too."""
        if report.failed:
            self._why = self._why or report.longreprtext.strip().rpartition("\n")[2] or "it fails"


_WELL = "nothing fails"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say where orders come from."""
    parser.addoption("--orders", type=int)


def pytest_configure(config: pytest.Config) -> None:
    """Serve; a failure is a failure, and nobody reads the shortest way to it."""
    config.pluginmanager.register(Server(connections.Connection(config.getoption("--orders"))))
    settings.register_profile(
        "mutants",
        phases=[Phase.explicit, Phase.generate],
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")


# -- outside ----------------------------------------------------------------------------------------------


class Warm:
    """Such a pytest, and how it is asked."""

    def __init__(self, folder: pathlib.Path, environment: dict[str, str], arguments: Sequence[str]) -> None:
        """Start it in a folder of sources and wait until the tests are collected.

        :raise RuntimeError: it does not come so far
        """
        self._pipe, theirs = connections.Pipe()
        self._transcript = folder.parent / "warm"
        command = [sys.executable, "-m", "pytest", "-p", "tests.mutants.warm", "--orders", str(theirs.fileno())]
        with open(self._transcript, "wb") as log:
            self._process = subprocess.Popen(
                [*command, *arguments],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        theirs.close()
        self._answer(_COLLECTING)

    def _answer(self, bound: float) -> Answer:
        try:
            if self._pipe.poll(bound):
                answer: Answer = self._pipe.recv()
                return answer
        except EOFError:
            pass
        self.end()
        last = self._transcript.read_text(errors="replace").splitlines()[-_LAST:]
        raise RuntimeError("\n".join(["The tests are not collected, or none answers:", *last]))

    def ask(self, path: pathlib.Path, before: str, after: ast.Module | None, tests: Mapping[str, float]) -> Answer:
        """Try a change of the module at a path, or none, by tests, of which each takes so many seconds."""
        patience = [(name, max(PATIENCE, TIMES * seconds)) for name, seconds in tests.items()]
        self._pipe.send(Order(str(path), before, after, patience))
        return self._answer(2 * PATIENCE + sum(bound for _, bound in patience))

    def end(self) -> None:
        """End it, and what it left."""
        self._pipe.close()
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
