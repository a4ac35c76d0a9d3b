"""Cuts a scenario off at every point: at each line of the library, and at each call that changes a file.

A point is one forked child, which kills itself there, and another, which judges the queue.
"""

import ctypes
import logging
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import persipubsub
from persipubsub import Durability
from persipubsub.engine.local import doubt
from tests.crash import scenarios
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


def prepare(here: Here, folder: pathlib.Path, name: str, durability: Durability) -> None:
    """Deploy the queue that each point starts with."""
    here.scenario = scenarios.SCENARIOS[name]
    here.template = folder / "template"
    logging.disable(logging.CRITICAL)
    code, _ = _in_fork(lambda _: scenarios.deploy(here.template, here.scenario, durability))
    assert code == _WHOLE


def try_point(here: Here, folder: pathlib.Path, mode: str, nth: int) -> tuple[bool, int, list[str]]:
    """Cut off at a point; return whether it was reached, how many there were (if not), and the findings."""
    home = folder / f"{mode}-{nth}"
    path = home / "queue"
    shutil.copytree(here.template, path)
    if not here.scenario.doubted:
        doubt.seal(path)

    def act(pipe: int) -> None:
        counted = _armed(mode, nth)
        scenarios.run(path, here.scenario, pipe)
        number = counted()
        sys.settrace(None)
        os.write(pipe, b"%d points\n" % number)

    code, written = _in_fork(act)
    told = written.decode().split("\n")[:-1]
    if code not in (_WHOLE, -signal.SIGKILL):
        return False, 0, [f"it ended with {code} after {told}"]
    count = int(told.pop().split()[0]) if code == _WHOLE else 0
    judged, answer = _in_fork(
        lambda pipe: os.write(pipe, pickle.dumps(scenarios.judge(path, here.scenario, set(told))))
    )
    findings = pickle.loads(answer) if judged == _WHOLE else [f"the queue cannot be judged: ended with {judged}"]
    shutil.rmtree(home)
    return code != _WHOLE, count, findings


def build_shim(folder: pathlib.Path) -> pathlib.Path:
    """Compile what is preloaded."""
    built = folder / "cut.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-U_FORTIFY_SOURCE", "-o", str(built), str(_SHIM), "-ldl"]
    subprocess.run(command, check=True)
    return built


@contextmanager
def zygote(folder: pathlib.Path, mode: str) -> Iterator[Child]:
    """Give a process that forks one child for each point."""
    children = Children()
    before = os.environ.get("LD_PRELOAD")
    if mode != LINES:
        os.environ["LD_PRELOAD"] = str(build_shim(folder))
    try:
        child = children.new("spawn")
    finally:
        if mode != LINES:
            del os.environ["LD_PRELOAD"]
            if before is not None:
                os.environ["LD_PRELOAD"] = before
    try:
        yield child
    finally:
        children.end()


def points_of(child: Child, folder: pathlib.Path, name: str, mode: str, durability: Durability) -> int:
    """Make ready for a scenario, run it whole, and return how many points it has."""
    child.do(prepare, folder, name, durability)
    counts = []
    # What is waited for takes more steps on a busy machine: the least is what comes each time.
    for _ in range(3):
        reached, count, findings = child.do(try_point, folder, mode, 0)
        assert not reached
        assert findings == []
        assert count > 0
        counts.append(int(count))
    return min(counts)
