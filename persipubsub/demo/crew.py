"""The processes of the demo: started, watched, killed where the plot wants it, and never left behind."""

import contextlib
import multiprocessing
import multiprocessing.connection
import pathlib
import signal
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from typing import Any

from persipubsub.demo.journal import JournalReader, Line
from persipubsub.demo.processes import Task

_CONTEXT = multiprocessing.get_context("spawn")


def new_event() -> Event:
    """Return a flag that processes share."""
    return _CONTEXT.Event()


class Member:
    """One process and its journal."""

    def __init__(self, name: str, process: SpawnProcess, reader: JournalReader) -> None:
        """Remember what belongs together."""
        self.name = name
        self.process = process
        self.events: set[str] = set()
        self.sent: list[Line] = []
        self.received: list[Line] = []
        #: The different files among ``received``.
        self.paths: set[str] = set()
        self.redelivered = 0
        self.error: str | None = None
        self.killed = False
        self._reader = reader

    def update(self) -> int:
        """Read what was added to the journal; return how many lines."""
        added = self._reader.read()
        for line in added:
            self.events.add(line.event)
            if line.event == "sent":
                self.sent.append(line)
            elif line.event == "received":
                self.received.append(line)
                self.paths.add(line.path)
                self.redelivered += line.redelivered
            elif line.event == "failed":
                self.error = line.error
        return len(added)

    def kill(self) -> None:
        """End the process by SIGKILL, and wait until it is gone."""
        self.killed = True
        self.process.kill()
        self.process.join()

    def failure(self) -> str | None:
        """Return why the process ended badly; ``None`` if it runs, ended well, or was killed on purpose."""
        if self.process.exitcode in (None, 0) or self.killed:
            return None
        self.update()
        return f"the process {self.name} failed: {self.error or f'exit status {self.process.exitcode}'}"


class Crew:
    """All processes of one run; a context manager at whose end none of them is alive."""

    def __init__(self, config: pathlib.Path, queue: str, journals: pathlib.Path) -> None:
        """Start nobody yet."""
        self.members: dict[str, Member] = {}
        self._config = config
        self._queue = queue
        self._journals = journals

    def __enter__(self) -> "Crew":
        """Return the crew."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill whoever is still there."""
        for member in self.members.values():
            if member.process.exitcode is None:
                member.kill()

    def start(self, name: str, job: Callable[..., None], *arguments: Any) -> Member:
        """Start a process that does ``job(task, *arguments)``."""
        journal = self._journals / f"{name}.jsonl"
        task = Task(self._config, self._queue, journal)
        process = _CONTEXT.Process(target=job, args=(task, *arguments), name=name, daemon=True)
        with _without_ctrl_c():
            process.start()
        member = Member(name, process, JournalReader(journal))
        self.members[name] = member
        return member

    def update(self) -> int:
        """Read all journals; return how many lines were added."""
        return sum(member.update() for member in self.members.values())

    def failures(self) -> list[str]:
        """Return why processes ended badly."""
        return [failure for member in self.members.values() if (failure := member.failure()) is not None]

    def pause(self, seconds: float) -> None:
        """Wait, but only until a process ends."""
        running = [member.process.sentinel for member in self.members.values() if member.process.exitcode is None]
        multiprocessing.connection.wait(running, timeout=seconds)

    def join(self, seconds: float) -> list[str]:
        """Wait for all to end, each for at most ``seconds``; return who did not end well."""
        for member in self.members.values():
            member.process.join(seconds)
        late = [f"the process {m.name} did not end" for m in self.members.values() if m.process.exitcode is None]
        return late + self.failures()


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Let processes start with SIGINT blocked: Ctrl-C reaches the parent alone, which ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
