"""Starts the processes that are measured, gives them their common start, and collects their answers."""

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import msgspec

from benchmarks import child
from benchmarks.child import Answer, Task
from benchmarks.errors import BenchmarkError

ROOT = Path(__file__).resolve().parents[1]

#: Seconds from the order to begin until processes begin, so that all have heard it.
LEAD = 0.02


class Running(Protocol):
    """A process, however it was started."""

    @property
    def pid(self) -> int:
        """Return its process id."""

    def kill(self) -> None:
        """End it at once."""

    def wait(self) -> int:
        """Wait for its end and return its status."""


class Forked:
    """A process that was forked from this one, for a queue that can only be inherited."""

    def __init__(self, requests: IO[str], answers: IO[str]) -> None:
        """Fork; the child does the task that ``requests`` begins with."""
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                child.main(requests, answers)  # type: ignore[arg-type]
                status = 0
            finally:
                os._exit(status)

    def kill(self) -> None:
        """End it at once."""
        os.kill(self.pid, 9)

    def wait(self) -> int:
        """Wait for its end and return its status."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Worker:
    """A measured process, seen from the one that runs the benchmarks.

    :param task: what it does
    :param limit: seconds that any of its answers may take
    :param source: the folder with the package under comparison; ``None`` for the one at hand
    :param inherited: whether it has to be forked from here
    """

    def __init__(self, task: Task, limit: float, source: Path | None = None, inherited: bool = False) -> None:
        """Start it."""
        self._task = task
        self._limit = limit
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
        self._requests, requests = _pipe()
        answers, self._answers = _pipe()
        self._process: Running
        if inherited:
            self._process = Forked(requests, answers)
        else:
            path = os.pathsep.join(str(folder) for folder in (source, ROOT) if folder is not None)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "benchmarks.child"],
                stdin=requests,
                stdout=answers,
                stderr=self._errors,
                # Its own Python has to be found again; contracts on hot paths are no part of a measurement.
                env={**{k: v for k, v in os.environ.items() if k != "ICONTRACT_SLOW"}, "PYTHONPATH": path},
            )
        requests.close()
        answers.close()
        self._say(msgspec.json.encode(task).decode())

    def wait_ready(self) -> None:
        """Wait until it is ready to begin."""
        self._next("ready")

    def begin(self, moment: float) -> None:
        """Let it begin at ``moment`` of the monotonic clock."""
        self._say(repr(moment))

    def answer(self) -> Answer:
        """Wait for what it found out."""
        answer: Answer = self._next("answer")
        return answer

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def _say(self, line: str) -> None:
        try:
            self._requests.write(line + "\n")
            self._requests.flush()
        except BrokenPipeError:
            pass  # it has ended; the next answer tells why

    def _next(self, key: str) -> Any:
        if not select.select([self._answers], [], [], self._limit)[0]:
            raise BenchmarkError(f"{self._name} gave no answer within {self._limit:g} seconds.")
        line = self._answers.readline()
        if not line:
            self._errors.seek(0)
            raise BenchmarkError(f"{self._name} ended without an answer: {self._errors.read()[-1500:]}")
        said = msgspec.json.decode(line)
        if "error" in said:
            raise BenchmarkError(f"{self._name} failed: {said['error']}")
        return said[key]

    @property
    def _name(self) -> str:
        return f"{self._task.system} as {self._task.part.rpartition('.')[2]}"

    def close(self, at_once: bool) -> None:
        """Wait for its end, or end it."""
        if at_once:
            self._process.kill()
        self._requests.close()
        self._process.wait()
        self._answers.close()
        self._errors.close()


class Crew:
    """The processes of one measurement; those that are left at the end of the block are ended."""

    def __init__(self) -> None:
        """Have none yet."""
        self._workers: list[Worker] = []

    def add(self, worker: Worker) -> Worker:
        """Take a process in."""
        self._workers.append(worker)
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.close(at_once=error is not None)


def start(workers: Sequence[Worker]) -> float:
    """Let all begin at the same moment, once all are ready; return the moment, of the monotonic clock."""
    for worker in workers:
        worker.wait_ready()
    moment = time.monotonic() + LEAD
    for worker in workers:
        worker.begin(moment)
    return moment


def _pipe() -> tuple[IO[str], IO[str]]:
    """Return a pipe, the end to write to first."""
    reading, writing = os.pipe()
    return os.fdopen(writing, "w"), os.fdopen(reading)
