"""A measured process: connects to a queue, gets ready, waits for the common start, and answers.

It is given its task as a line of JSON on stdin and answers with lines of JSON on stdout.
"""

import contextlib
import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import msgspec

from benchmarks.systems import SYSTEMS
from benchmarks.systems.base import Connection

Answer = dict[str, Any]
"""What a part answers; JSON can say it."""


class Task(msgspec.Struct):
    """What a process has to do: play ``part``, a function named ``module:function``, with a system at a place.

    With ``deploy`` it makes the queue first.
    """

    part: str
    system: str
    place: str
    arguments: dict[str, Any]
    deploy: bool = False
    subscribers: list[str] = []
    max_messages: int | None = None


class Measured:
    """What a part sees of its process."""

    def __init__(self, task: Task, requests: TextIO, answers: TextIO) -> None:
        """Play ``task``."""
        self._task = task
        self._requests = requests
        self._answers = answers
        self._connection: Connection | None = None

    @property
    def place(self) -> str:
        """Return where the queue is."""
        return self._task.place

    @property
    def address(self) -> str:
        """Return how one of our own Environments names the queue."""
        return SYSTEMS[self._task.system].url(self._task.place)

    def connect(self) -> Connection:
        """Open the queue."""
        return SYSTEMS[self._task.system].connect(self._task.place)

    @property
    def connection(self) -> Connection:
        """Return the open queue."""
        if self._connection is None:
            self._connection = self.connect()
        return self._connection

    def ready(self) -> None:
        """Say that everything is prepared, and wait for the common start."""
        self.say({"ready": True})
        begin = float(self._requests.readline())
        time.sleep(max(0.0, begin - time.monotonic()))

    def say(self, answer: Answer) -> None:
        """Write a line."""
        self._answers.write(msgspec.json.encode(answer).decode() + "\n")
        self._answers.flush()

    def play(self) -> None:
        """Play the part and give its answer."""
        task = self._task
        if task.deploy:
            SYSTEMS[task.system].deploy(task.place, task.subscribers, task.max_messages)
        module, _, name = task.part.partition(":")
        part: Callable[..., Answer] = getattr(importlib.import_module(module), name)
        answer = part(self, **task.arguments)
        if self._connection is not None:
            self._connection.close()
        self.say({"answer": answer})


def main(requests: TextIO, answers: TextIO) -> None:
    """Do the task that ``requests`` begins with; say what went wrong if something does."""
    task = msgspec.json.decode(requests.readline(), type=Task)
    measured = Measured(task, requests, answers)
    try:
        measured.play()
    except Exception as error:  # noqa: BLE001  whatever it is, the figures have to say it
        with contextlib.suppress(OSError):
            measured.say({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    # What a package prints must not end up between the answers.
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)
        main(sys.stdin, replies)
