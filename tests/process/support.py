"""Other processes under a test's command, and waiting for conditions with a bound."""

import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

from persipubsub import Environment
from persipubsub.engine.local import files, waiting
from persipubsub.engine.local.board import IDLE, SLOTS

#: Seconds within which anything happens that is awaited, also on a busy machine.
BOUND = 100.0
#: Seconds that a lost wake-up costs whoever is to be patient.
PATIENT = 600.0
#: How often is tried what has to be done in a time that a busy machine may exceed.
TRIES = 4

# Processes that are killed by the hundred begin quickly: the modules are there, and coverage, of whose figures nothing
# would be left after the kill, does not measure them.
multiprocessing.set_forkserver_preload(
    ["persipubsub.engine.local", "tests.process.support", "tests.crash.roles", "tests.relay.support"]
)
#: Where this is set, coverage measures a new process.
_MEASURED = "COVERAGE_PROCESS_CONFIG"


def measure_no_more() -> None:
    """Let coverage measure neither this fork, whose figures nobody saves, nor what it starts."""
    os.environ.pop(_MEASURED, None)
    sys.settrace(None)
    threading.settrace(None)


def _start_forkserver() -> None:
    measured = os.environ.pop(_MEASURED, None)
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        if measured is not None:
            os.environ[_MEASURED] = measured


def eventually(condition: Callable[[], object], bound: float = BOUND) -> bool:
    """Look until ``condition`` is true, for at most ``bound`` seconds; return whether it became so."""
    deadline, pause = time.monotonic() + bound, 0.001
    while True:
        # A process that was kept from running beyond the deadline looks once more.
        last = time.monotonic() >= deadline
        if condition():
            return True
        if last:
            return False
        time.sleep(pause)
        # Who waits long looks seldom: on a busy machine the others need the processor.
        pause = min(pause * 1.1, 0.02)


def wait_until(condition: Callable[[], object], what: str, bound: float = BOUND) -> None:
    """Look until ``condition`` is true; fail when it does not become so."""
    assert eventually(condition, bound), f"not within {bound:g} s: {what}"


def patiently(act: Callable[[float], None]) -> None:
    """Do what depends on short times; where it fails, with longer ones: what is wrong, is wrong with all.

    :param act: what is done; it is given what all times are to be multiplied by
    """
    for factor in (1.0, 5.0):
        try:
            return act(factor)
        except AssertionError:
            continue
    return act(25.0)


def in_time(measure: Callable[[], float], bound: float, what: str) -> None:
    """Fail unless ``measure`` returns less than ``bound`` (in seconds) in one of a few tries.

    A promise that is broken is broken each time; what else runs on the machine delays one try or another.
    """
    took: list[float] = []
    while len(took) < TRIES and (not took or took[-1] >= bound):
        took.append(measure())
    assert took[-1] < bound, f"not within {bound:g} s: {what}: {', '.join(f'{each:.2f}' for each in took)}"


# -- processes --------------------------------------------------------------------------------------


class Here(types.SimpleNamespace):
    """What a child keeps between its steps; ``tell`` sends something to the test meanwhile."""

    tell: Callable[[Any], None]


class ChildError(Exception):
    """A step raised; says what."""


Step = Callable[..., Any]


def _serve(pipe: "multiprocessing.connection.Connection[Any, Any]") -> None:
    here = Here(tell=lambda value: pipe.send(("told", value)))
    while True:
        try:
            step, arguments = pipe.recv()
        except EOFError:
            return
        try:
            result = step(here, *arguments)
        except BaseException as error:  # noqa: BLE001 - the test judges it
            pipe.send(("raised", f"{type(error).__name__}: {error}"))
        else:
            pipe.send(("returned", result))


class Child:
    """A process that does one step after another as it is told, over a pipe."""

    def __init__(self, method: str = "spawn") -> None:
        """Start the process by a method of multiprocessing."""
        if method == "forkserver":
            _start_forkserver()
        context = multiprocessing.get_context(method)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)  # type: ignore[attr-defined]
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Return the process id."""
        pid: int = self._process.pid
        return pid

    def start(self, step: Step, *arguments: Any) -> None:
        """Begin a step."""
        self._pipe.send((step, arguments))

    def _next(self, expected: str, bound: float) -> Any:
        assert self._pipe.poll(bound), f"process {self.pid} did not answer within {bound:g} s"
        try:
            kind, value = self._pipe.recv()
        except (EOFError, ConnectionResetError):  # the latter where it ended before it had read all
            self._process.join(BOUND)
            raise AssertionError(f"process {self.pid} ended with {self._process.exitcode}") from None
        if kind == "raised":
            raise ChildError(value)
        assert kind == expected, (kind, value)
        return value

    def told(self, bound: float = BOUND) -> Any:
        """Return what a step told."""
        return self._next("told", bound)

    def returned(self, bound: float = BOUND) -> Any:
        """Return what the step returned.

        :raise ChildError: it raised
        """
        return self._next("returned", bound)

    def is_busy(self) -> bool:
        """Tell whether nothing has come from the step yet."""
        return not self.answers(0)

    def answers(self, bound: float) -> bool:
        """Wait so many seconds at most until something has come from the step; return whether it has."""
        return self._pipe.poll(bound)

    def do(self, step: Step, *arguments: Any) -> Any:
        """Do a step and return what it returned."""
        self.start(step, *arguments)
        return self.returned()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """Stop the process, and be sure that it is stopped."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: state_of(self.pid) == "T", "the process is stopped")

    def kill(self) -> None:
        """Kill the process and wait for its end."""
        try:
            if self._process.is_alive():
                self.signal(signal.SIGKILL)
        except ProcessLookupError:
            pass  # it was faster
        self._process.join(BOUND)
        self._pipe.close()

    def ended(self) -> int:
        """Wait for the end of the process; return its exit code, or the number of the signal below zero."""
        self._process.join(BOUND)
        assert not self._process.is_alive(), f"process {self.pid} did not end within {BOUND:g} s"
        code: int = self._process.exitcode
        return code

    def leave(self) -> int:
        """Let the process come to its end without another step; return its exit code."""
        self._pipe.close()
        return self.ended()


class Children:
    """All processes of a test, to be ended with it."""

    def __init__(self) -> None:
        """Start with none."""
        self._all: list[Child] = []

    def new(self, method: str = "spawn") -> Child:
        """Start a process."""
        child = Child(method)
        self._all.append(child)
        return child

    def end(self) -> None:
        """Kill those that are left."""
        for child in self._all:
            child.kill()


def state_of(pid: int) -> str:
    """Return the state of a process as a letter: R runs, S sleeps, T is stopped, Z is dead."""
    return state_in(pathlib.Path(f"/proc/{pid}"))


def state_in(folder: pathlib.Path) -> str:
    """Return the state of the process or thread that a folder in /proc tells of."""
    return (folder / "stat").read_text().rpartition(") ")[2][0]


# -- steps ------------------------------------------------------------------------------------------


def be_patient(here: Here) -> None:
    """Let a wake-up that is lost cost minutes: whoever wakes up within the bounds of a test was woken."""
    waiting.LONGEST = PATIENT


def open_subscriber(here: Here, path: pathlib.Path, identifier: str = "sub") -> None:
    """Open a queue as a subscriber."""
    here.env = Environment(path)
    here.sub = here.env.new_subscriber(identifier)


def open_publisher(here: Here, path: pathlib.Path) -> None:
    """Open a queue as a publisher."""
    here.env = Environment(path)
    here.pub = here.env.new_publisher()


def send(here: Here, data: bytes, options: dict[str, Any] | None = None) -> int:
    """Publish a message."""
    message_id: int = here.pub.send(data, **(options or {}))
    return message_id


Got = tuple[bytes, int, int]
"""Payload, delivery count, and the monotonic moment at which it was there (ns)."""


def get(here: Here, timeout: float | None, lease: float | None = None) -> Got | None:
    """Take a message and keep it."""
    here.message = here.sub.get(timeout=timeout, lease=lease)
    if here.message is None:
        return None
    return here.message.data, here.message.delivery_count, time.monotonic_ns()


def ack(here: Here) -> None:
    """Acknowledge what was taken by ``get``."""
    here.message.ack()


def get_and_ack(here: Here, timeout: float | None) -> Got | None:
    """Take a message and acknowledge it."""
    got = get(here, timeout)
    if got is not None:
        ack(here)
    return got


def close(here: Here) -> None:
    """Close the queue."""
    here.env.close()


# -- queues -----------------------------------------------------------------------------------------


def armed_bells(path: pathlib.Path) -> int:
    """Return how many consumers have asked to be woken."""
    with open(path / files.BOARD, "rb") as stream:
        return SLOTS - stream.read(SLOTS).count(IDLE)


def wait_until_asleep(child: Child, path: pathlib.Path, bells: int = 1) -> None:
    """Wait until a child sleeps on its bell."""
    wait_until(lambda: armed_bells(path) >= bells, "a consumer asks to be woken")
    wait_until(lambda: state_of(child.pid) == "S", "it sleeps")
    assert child.is_busy()


def assert_sound(path: pathlib.Path) -> None:
    """Check the queue at a path."""
    with Environment(path) as env:
        assert env.open_control().check() == []


def remove(path: pathlib.Path) -> None:
    """Remove a queue whose files are of no use any more."""
    shutil.rmtree(path)
