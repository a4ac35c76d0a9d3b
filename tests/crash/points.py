"""Cuts a scenario off at every point: at each line of the library, and at each call that changes a file.

A point is a forked child, which kills itself there; a process that lives on judges the queue.
"""

import ctypes
import gc
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from typing import Any

import persipubsub
from persipubsub import Durability
from persipubsub.engine.local import doubt
from tests.crash import scenarios
from tests.faults.crew import Hand
from tests.process.support import Child, Children, Here

LINES, CALLS, TORN = "lines", "calls", "torn"
_OURS = os.path.dirname(str(persipubsub.__file__))
_SHIM = pathlib.Path(__file__).parent / "cut.c"
#: How a child ends that came to the end of its scenario.
_WHOLE = 77


class Counter:
    """Kills the process at the nth line of the library, or counts them."""

    def __init__(self, nth: int) -> None:
        """Kill at ``nth``; 0: never."""
        self.count = 0
        self._nth = nth

    def trace(self, frame: types.FrameType, event: str, _: Any) -> Any:
        """Be told of a frame, and of its lines if it is one of ours."""
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        if event == "line":
            self.count += 1
            if self.count == self._nth:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.trace


def _armed(mode: str, nth: int) -> Callable[[], int]:
    """Arm this process; returns what tells how many points there were so far."""
    if mode == LINES:
        counter = Counter(nth)
        sys.settrace(counter.trace)
        return lambda: counter.count
    shim = ctypes.CDLL(None)
    shim.cut_count.restype = ctypes.c_long
    shim.cut_arm(ctypes.c_long(nth), ctypes.c_int(mode == TORN))
    return lambda: int(shim.cut_count())


def _in_fork(work: Callable[[int], object]) -> tuple[int, bytes]:
    """Run ``work`` in a forked child with a pipe; return how it ended and what it wrote."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(read)
            work(write)
            os._exit(_WHOLE)
        except BaseException as error:  # noqa: BLE001 - the parent judges it
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    os.close(write)
    written = b""
    while piece := os.read(read, 65536):
        written += piece
    os.close(read)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), written


def build_shim(folder: pathlib.Path) -> pathlib.Path:
    """Compile what is preloaded."""
    built = folder / "cut.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-U_FORTIFY_SOURCE", "-o", str(built), str(_SHIM), "-ldl"]
    subprocess.run(command, check=True)
    return built


def prepare(here: Here, template: pathlib.Path, name: str, durability: Durability) -> None:
    """Deploy the queue that each point starts with, and go through the scenario once: what is loaded late is there."""
    logging.disable(logging.CRITICAL)
    scenario = scenarios.SCENARIOS[name]
    scenarios.deploy(template, scenario, durability)
    with tempfile.TemporaryDirectory(dir=template.parent) as folder, open(os.devnull, "wb") as nobody:
        path = pathlib.Path(folder) / "queue"
        shutil.copytree(template, path)
        scenarios.run(path, scenario, nobody.fileno())
    gc.collect()
    gc.freeze()


def cut_off(here: Here, path: pathlib.Path, name: str, mode: str, nth: int) -> tuple[int, list[str]]:
    """Run the scenario in a child until it kills itself at a point; return how it ended and what it told."""

    def act(pipe: int) -> None:
        counted = _armed(mode, nth)
        scenarios.run(path, scenarios.SCENARIOS[name], pipe)
        number = counted()
        sys.settrace(None)
        os.write(pipe, b"%d points\n" % number)

    code, written = _in_fork(act)
    return code, written.decode().split("\n")[:-1]


def quietly() -> None:
    """Log nothing."""
    logging.disable(logging.CRITICAL)


class Bench:
    """Tries points: one process forks a child for each of them, another judges what it left."""

    def __init__(self, folder: pathlib.Path, *, calls: bool) -> None:
        """Start the processes.

        :param folder: is there, and empty
        :param calls: try calls, wholly or torn, and not lines
        """
        self.child: Child
        self._folder = folder
        self._children = Children()
        self._judge = Hand(quietly)
        before = os.environ.get("LD_PRELOAD")
        if calls:
            os.environ["LD_PRELOAD"] = str(build_shim(folder))
        try:
            self.child = self._children.new("spawn")
        finally:
            if calls:
                del os.environ["LD_PRELOAD"]
                if before is not None:
                    os.environ["LD_PRELOAD"] = before

    def __enter__(self) -> "Bench":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        self._children.end()
        self._judge.end()

    def prepare(self, name: str, durability: Durability, mode: str) -> int:
        """Make ready for a scenario, run it whole, and return how many points it has."""
        self._name = name
        self._template = self._folder / f"{name} {durability.value}"
        if not self._template.exists():
            self.child.do(prepare, self._template, name, durability)
        _, count, findings = self._run(mode, 0)
        assert findings == []
        assert count > 0
        return count

    def try_point(self, mode: str, nth: int) -> tuple[bool, list[str]]:
        """Cut the scenario off at a point; return whether it was reached, and the findings."""
        reached, _, findings = self._run(mode, nth)
        return reached, findings

    def _run(self, mode: str, nth: int) -> tuple[bool, int, list[str]]:
        """Return whether a point was reached, how many there were (if not), and the findings."""
        path = self._folder / f"{mode}-{nth}"
        shutil.copytree(self._template, path)
        if not scenarios.SCENARIOS[self._name].doubted:
            doubt.seal(path)
        code, told = self.child.do(cut_off, path, self._name, mode, nth)
        if code not in (_WHOLE, -signal.SIGKILL):
            return False, 0, [f"it ended with {code} after {told}"]
        count = int(told.pop().split()[0]) if code == _WHOLE else 0
        try:
            findings = self._judge.do(scenarios.judge, path, scenarios.SCENARIOS[self._name], set(told))
        except Exception as error:  # noqa: BLE001 - whatever it is, the queue should not have raised it
            findings = [f"the queue cannot be judged: {type(error).__name__}: {error}"]
        shutil.rmtree(path)
        return code != _WHOLE, count, findings
