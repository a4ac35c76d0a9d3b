"""One file of lines for each process of the demo: what it did, written after it did it.

The journals stand outside the queue, so that they witness for or against it. A line is one
``write`` to a file opened for appending; a process that is killed leaves whole lines, or at worst a
cut last one, which is not counted.
"""

import json
import os
import pathlib
import time
from typing import Any, Literal

import msgspec

Event = Literal["ready", "sent", "received", "holding", "failed", "finished"]


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that a process did.

    :param event: what it was
    :param at: when, seconds on the monotonic clock, which all processes share
    :param id: of the message
    :param path: of the file in the message
    :param sha256: of the payload
    :param declared: SHA-256 that the message's header declares
    :param size: bytes of payload
    :param redelivered: whether the message had been delivered before
    :param error: why the process failed
    """

    event: Event
    at: float
    id: int = 0
    path: str = ""
    sha256: str = ""
    declared: str = ""
    size: int = 0
    redelivered: bool = False
    error: str = ""


class Journal:
    """The end that writes."""

    def __init__(self, file: pathlib.Path) -> None:
        """Open ``file`` for appending."""
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, event: Event, **details: Any) -> None:
        """Append a line; it is in the kernel's hands, hence safe from kill -9, when this returns."""
        line = {name: value for name, value in details.items() if value}
        os.write(self._descriptor, json.dumps({"event": event, "at": time.monotonic(), **line}).encode("ascii") + b"\n")


class JournalReader:
    """The end that reads, while the other end still writes."""

    def __init__(self, file: pathlib.Path) -> None:
        """Remember ``file``, which need not exist yet."""
        self._file = file
        self._offset = 0

    def read(self) -> list[Line]:
        """Return the lines that were added since the last call."""
        try:
            with open(self._file, "rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [Line(**json.loads(line)) for line in whole.splitlines()]
