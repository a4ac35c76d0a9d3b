"""What a process says of its own doings, outside of the queue: a line per event, on disk before it goes on.

Nothing of what is tested is imported here, nor by the checker that reads these journals.
"""

import json
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

SUFFIX = ".journal"


class Journal:
    """The journal of one process; every event carries the monotonic moment at which it was written (ns)."""

    def __init__(self, folder: pathlib.Path, process: str) -> None:
        """Write into ``folder`` under the name of the process."""
        self.process = process
        self._descriptor = os.open(folder / f"{process}{SUFFIX}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event: str, **facts: Any) -> None:
        """Append an event in one piece, and sync; its moment is now, unless ``facts`` say which."""
        line = {"moment": time.monotonic_ns(), **facts, "event": event}
        os.write(self._descriptor, (json.dumps(line) + "\n").encode())
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Return the events of a journal; a last line that death cut short is none."""
    with open(path, "rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield json.loads(line)
