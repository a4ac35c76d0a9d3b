"""Cuts a scenario off at every point: at each line of the library, and at each call that changes a file.

A point is a forked child, which kills itself there; its parent, which lives on, judges the queue.
"""

import ctypes
import dataclasses
import gc
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import persipubsub
from persipubsub import Durability
from persipubsub.engine.local import doubt
from tests.crash import scenarios
from tests.faults.powercut import write_with_holes
from tests.process.support import Children, Here

LINES, CALLS, TORN = "lines", "calls", "torn"
_OURS = os.path.dirname(str(persipubsub.__file__))
_SHIM = pathlib.Path(__file__).parent / "cut.c"
#: How a child ends that came to the end of its scenario.
_WHOLE = 77
#: Points that are tried before it is told what came of them, and the seconds after which no further one is begun.
_MOST, _AT_ONCE = 50, 10.0


@dataclasses.dataclass
class Tried:
    """What came of a point."""

    nth: int
    #: Whether the scenario came by it.
    reached: bool
    #: How many points there were, if it did not.
    count: int = 0
    findings: list[str] = dataclasses.field(default_factory=list)


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


def prepare(here: Here, folder: pathlib.Path, name: str, durability: Durability) -> None:
    """Deploy the queue that each point starts with, and go through the scenario once: what is loaded late is there."""
    logging.disable(logging.CRITICAL)
    here.folder, here.scenario = folder, scenarios.SCENARIOS[name]
    with tempfile.TemporaryDirectory(dir=folder) as made, open(os.devnull, "wb") as nobody:
        path = pathlib.Path(made) / "queue"
        scenarios.deploy(path, here.scenario, durability)
        #: What is in the queue's files; None for folders.
        here.template = {
            found.relative_to(path): None if found.is_dir() else found.read_bytes() for found in sorted(path.rglob("*"))
        }
        scenarios.run(path, here.scenario, nobody.fileno())
    gc.collect()
    gc.freeze()


def try_points(here: Here, mode: str, numbers: list[int], until: float) -> list[Tried]:
    """Cut the scenario off at one point after another, until a moment of the monotonic clock; at one at least."""
    tried: list[Tried] = []
    for nth in numbers:
        tried.append(_try_point(here, mode, nth))
        if time.monotonic() > until:
            break
    return tried


def _try_point(here: Here, mode: str, nth: int) -> Tried:
    home = here.folder / f"{mode}-{nth}"
    path = home / "queue"
    home.mkdir()
    path.mkdir(mode=0o700)
    for name, content in here.template.items():
        if content is None:
            (path / name).mkdir(mode=0o700)
        else:
            write_with_holes(path / name, content)
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
        return Tried(nth, False, findings=[f"it ended with {code} after {told}"])
    count = int(told.pop().split()[0]) if code == _WHOLE else 0
    try:
        findings = scenarios.judge(path, here.scenario, set(told))
    except Exception as error:  # noqa: BLE001 - whatever it is, the queue should not have raised it
        findings = [f"the queue cannot be judged: {type(error).__name__}: {error}"]
    shutil.rmtree(home)
    return Tried(nth, code != _WHOLE, count, findings)


class Bench:
    """Tries points: a process forks a child for each of them, which kills itself, and judges what it left."""

    def __init__(self, folder: pathlib.Path, *, calls: bool) -> None:
        """Start the process.

        :param folder: is there, and empty
        :param calls: try calls, wholly or torn, and not lines
        """
        self._folder = folder
        self._children = Children()
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
        """End the process."""
        self._children.end()

    def prepare(self, name: str, durability: Durability, mode: str) -> int:
        """Make ready for a scenario, run it whole, and return how many points it has."""
        self.child.do(prepare, self._folder, name, durability)
        # What is waited for takes more steps on a busy machine: the least is what comes each time.
        whole = list(self.try_points(mode, [0, 0, 0]))
        assert [found.findings for found in whole] == [[], [], []]
        assert all(found.count > 0 for found in whole)
        return min(found.count for found in whole)

    def try_points(self, mode: str, numbers: list[int], until: float = float("inf")) -> Iterator[Tried]:
        """Cut the scenario off at one point after another, until a moment of the monotonic clock."""
        while numbers and time.monotonic() < until:
            some = numbers[:_MOST]
            try:
                tried = self.child.do(try_points, mode, some, min(until, time.monotonic() + _AT_ONCE))
            except AssertionError as error:
                # What was left killed who judged it, or made it hang; nobody is left to go on.
                yield Tried(some[0], False, findings=[f"this point, or one of the {len(some)} from there on: {error}"])
                return
            yield from tried
            numbers = numbers[len(tried) :]
