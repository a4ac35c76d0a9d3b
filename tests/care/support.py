"""Looking at queues, and comparing them."""

import os
import pathlib
import signal
import sys
import types
from collections.abc import Callable
from typing import Any

from persipubsub import Control, Environment

#: The modules whose lines are counted by ``killed_at``.
_COUNTED = ("copying", "creating", "files", "store", "opening")


def picture(path: pathlib.Path) -> dict[str, Any]:
    """Return what a queue holds and how far its subscribers are, but for counters and leases."""
    with Environment(path) as env, env.open_control() as control:
        assert control.check() == []
        statistics = control.statistics()
        return {
            "messages": [(m.id, m.data, m.headers, m.topic, m.sent) for m in env.browse()],
            "settings": control.settings,
            "subscribers": {
                s.identifier: (s.position, s.lag, s.dead, s.paused, control.subscribers[s.identifier])
                for s in statistics.subscribers
            },
            "dead": {
                name: [
                    (d.id, d.data, d.headers, d.reason, d.died, d.delivery_count) for d in control.dead_letters(name)
                ]
                for name in control.subscriber_ids
            },
        }


def deliveries(path: pathlib.Path, identifier: str) -> list[tuple[int, bytes, int, str | None]]:
    """Take everything that is due for a subscriber, and acknowledge nothing."""
    with Environment(path) as env, env.new_subscriber(identifier) as subscriber:
        found = []
        while (message := subscriber.get(timeout=0)) is not None:
            found.append((message.id, message.data, message.delivery_count, message.last_error))
        return found


def left_over(folder: pathlib.Path) -> list[str]:
    """Return what a folder holds besides the queues and backups that tests put there."""
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("."))


def killed_at(line: int, path: pathlib.Path, action: Callable[[Control], object]) -> int:
    """Do something with a queue in a forked child that is killed before a line of it; 0: return how many there are."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        number = 0

        def trace(frame: types.FrameType, event: str, argument: object) -> Any:
            nonlocal number
            if frame.f_globals.get("__name__", "").rpartition(".")[2] not in _COUNTED:
                return None
            if event == "line":
                number += 1
                if number == line:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        status = 1
        try:
            with Environment(path) as env, env.open_control() as control:
                sys.settrace(trace)
                action(control)
                sys.settrace(None)
            os.write(writing, str(number).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    answer = os.read(reading, 100)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL)
    return int(answer or b"0")
