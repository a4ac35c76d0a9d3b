"""Processes in namespaces of their own, as containers have them, which do what the test asks over a pipe."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from persipubsub import Environment, PersipubsubError
from persipubsub.engine.local import waiting
from tests.crash import planted
from tests.process.support import BOUND

ROOT = Path(__file__).parents[2]

#: A pid namespace of its own, whose first process is the one that is started, or a shell that starts it.
FIRST: tuple[str, ...] = ()
BEHIND_INIT = ("sh", "-c", '"$@"; exit', "sh")


class Contained:
    """A process that was started by ``unshare``; without a mother it is killed."""

    def __init__(self, path: Path, *namespaces: str, init: tuple[str, ...] = FIRST, bugs: Sequence[str] = ()) -> None:
        """Start it; as root, or as anybody who may make user namespaces; ``bugs`` are planted into it."""
        as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        command = [*init, sys.executable, "-m", __name__, str(path), *bugs]
        self._process = subprocess.Popen(
            ["unshare", *as_root, *namespaces, "--fork", "--kill-child", *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, step: str, *arguments: Any) -> None:
        """Begin a step."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([step, *arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Return what the step returned, or the name and the text of what it raised."""
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], BOUND)[0], "no answer in time"
        return json.loads(self._process.stdout.readline())

    def do(self, step: str, *arguments: Any) -> Any:
        """Do a step and return its answer."""
        self.start(step, *arguments)
        return self.answer()

    def kill(self) -> None:
        """Kill all that is in its namespaces, at once."""
        self._process.kill()
        # Before the pipe ends: what sees its end comes to its own by itself, and gives back what it holds.
        self._process.wait()
        self._process.communicate()


class Steps:
    """What it can be asked for."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._env = Environment(path)

    def open(self) -> int:
        """Open the queue; return the pid that it knows itself by."""
        self._sub = self._env.new_subscriber("sub")
        self._pub = self._env.new_publisher()
        return os.getpid()

    def send(self, data: str) -> int:
        return self._pub.send(data.encode())

    def take(self, timeout: float) -> Any:
        """Take a message and keep it."""
        self._message = self._sub.get(timeout=timeout)
        return None if self._message is None else [self._message.data.decode(), self._message.delivery_count]

    def ack(self) -> None:
        assert self._message is not None
        self._message.ack()

    def be_patient(self) -> None:
        """Let a wake-up that is lost cost minutes."""
        waiting.LONGEST = 600.0

    def die_while_reading(self) -> int:
        """Let a child die in the middle of a read; return its pid."""
        pid = os.fork()
        if not pid:
            with Environment(self._path).new_subscriber("sub").receive_view(timeout=0):
                os.kill(os.getpid(), 9)
        os.waitpid(pid, 0)
        return pid

    def reopen_as(self, pid: int) -> list[int]:
        """Let a child with a given pid open the queue; return its pid and the number of slots it has for reading."""
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        read, write = os.pipe()
        child = os.fork()
        if not child:
            env = Environment(self._path)
            engine: Any = env.new_publisher()._engine()
            slots = engine._store.env.readers().count(f" {os.getpid()} ")
            os.write(write, json.dumps([os.getpid(), slots]).encode())
            os._exit(0)
        os.close(write)
        with open(read, encoding="utf-8") as answer:
            found: list[int] = json.load(answer)
        os.waitpid(child, 0)
        return found


def main() -> None:
    """Do steps until the pipe ends."""
    steps = Steps(sys.argv[1])
    for bug in sys.argv[2:]:
        planted.plant(bug)
    for line in sys.stdin:
        step, *arguments = json.loads(line)
        try:
            result = getattr(steps, step)(*arguments)
        except PersipubsubError as error:
            result = [type(error).__name__, str(error)]
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
