"""Keeps worker processes alive: starts them, starts others for those that die, and stops them gracefully."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec

from persipubsub.retrying import SIGNALS, Backoff
from persipubsub.stopping import stopped_by

#: Who lived so long (seconds) did not die of its start: the next one is started without much delay.
_HEALTHY = 10.0
#: A death that no descriptor tells of is noticed after so many seconds.
_GLANCE = 1.0
#: Seconds beyond the handlers' grace until a process that does not end is killed.
_PATIENCE = 5.0


class Event(msgspec.Struct, frozen=True):
    """What happened to a worker process.

    :param event: ``started``, ``died`` (and another one follows), ``killed`` (because it did not stop), ``stopped``
    :param pid: of the process
    :param status: its exit status; negative: the signal that killed it
    :param follows: seconds until another one is started in its place
    """

    event: Literal["started", "died", "killed", "stopped"]
    pid: int
    status: int | None = None
    follows: float | None = None

    def __str__(self) -> str:
        """Return a line for a person."""
        if self.event == "started":
            return f"started worker {self.pid}"
        if self.event == "killed":
            return f"worker {self.pid} did not stop; killed"
        line = f"worker {self.pid} {_describe(self.status or 0)}"
        return line if self.follows is None else f"{line}; another one follows in {self.follows:.1f} s"


class _Place:
    """One of the processes, and those that follow it."""

    def __init__(self) -> None:
        """Start nobody yet, but soon."""
        self.process: subprocess.Popen[bytes] | None = None
        self.line: socket.socket | None = None
        self.failures = 0
        self.started = 0.0
        self.due = 0.0


class Supervisor:
    """Runs a command in several processes until it is told to stop.

    Each process gets the number of a socket as its last argument. It reads its end from there when
    this process is gone, so that nobody is left behind.
    """

    def __init__(self, command: Sequence[str], count: int, grace: float, report: Callable[[Event], None]) -> None:
        """Start nothing yet.

        :param command: arguments of the Python interpreter
        :param count: number of processes
        :param grace: seconds that a process needs at most to stop
        :param report: is told whatever happens
        """
        self._command = [sys.executable, *command]
        self._places = [_Place() for _ in range(count)]
        self._grace = grace
        self._report = report
        self._backoff = Backoff(first=0.1, longest=30.0)
        self._stopping = False
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)

    def run(self) -> None:
        """Keep the processes alive until ``stop``, SIGTERM or SIGINT, then stop them; blocks."""
        with self._wake, self._waker, stopped_by(SIGNALS, self.stop):
            try:
                while not self._stopping:
                    self._wait(self._look_after())
            finally:
                self._end()

    def stop(self) -> None:
        """Let ``run`` come to its end; from any thread, or a signal handler."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"\1")

    def _look_after(self) -> float:
        """Start who is missing; return in how many seconds somebody is due."""
        pause = _GLANCE
        for place in self._places:
            if place.process is not None and place.process.poll() is not None:
                self._bury(place)
            if place.process is None:
                remaining = place.due - time.monotonic()
                if remaining > 0:
                    pause = min(pause, remaining)
                else:
                    self._start(place)
        return pause

    def _start(self, place: _Place) -> None:
        mine, theirs = socket.socketpair()
        with theirs, _without_signals():
            place.process = subprocess.Popen(
                [*self._command, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        place.line = mine
        place.started = time.monotonic()
        self._report(Event("started", place.process.pid))

    def _bury(self, place: _Place) -> None:
        process, line = place.process, place.line
        place.process = place.line = None
        if line is not None:
            line.close()
        if process is None:
            return
        now = time.monotonic()
        place.failures = 1 if now - place.started >= _HEALTHY else place.failures + 1
        delay = self._backoff.delay(place.failures)
        place.due = now + delay
        self._report(Event("died", process.pid, process.returncode, delay))

    def _wait(self, seconds: float) -> None:
        lines = [place.line for place in self._places if place.line is not None]
        readable, _, _ = select.select([self._wake, *lines], [], [], seconds)
        if set(lines) & set(readable):
            # Its end of the line is closed a moment before it can be waited for.
            for place in self._places:
                if place.line in readable and place.process is not None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        place.process.wait(_GLANCE)

    def _end(self) -> None:
        """Ask all to stop, wait for them, and kill who does not."""
        running = [place.process for place in self._places if place.process is not None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace + _PATIENCE
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._report(Event("killed", process.pid))
                process.kill()
                process.wait()
            self._report(Event("stopped", process.pid, process.returncode))
        for place in self._places:
            if place.line is not None:
                place.line.close()


@contextlib.contextmanager
def _without_signals() -> Iterator[None]:
    """Let a process start with the signals blocked that stop it: it takes them once it can stop gracefully."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _describe(status: int) -> str:
    if status < 0:
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"was killed by signal {-status}"
    return f"ended with status {status}"


def when_alone(line: int, act: Callable[[], object]) -> None:
    """Call ``act`` once the supervisor at the other end of ``line`` is gone; blocks."""
    os.set_inheritable(line, False)
    with contextlib.suppress(OSError):
        os.read(line, 1)
    act()
