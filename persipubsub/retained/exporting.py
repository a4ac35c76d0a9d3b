"""Writing a queue as JSON Lines: a line for each record."""

from collections.abc import Callable
from typing import BinaryIO

import msgspec

from persipubsub.engine.base import Engine
from persipubsub.engine.records import MessageRecord, Record

_PAGE = 500


def export(engine: Engine, stream: BinaryIO, progress: Callable[[int], None] | None = None) -> int:
    """Write the queue to ``stream`` and return the number of messages."""
    encode = msgspec.json.Encoder().encode
    number = 0

    def write(record: Record) -> None:
        nonlocal number
        stream.write(encode(record) + b"\n")
        number += isinstance(record, MessageRecord)

    at: int | None = 0
    while at is not None:
        at = engine.export(at, _PAGE, write)
        if progress is not None:
            progress(number)
    stream.flush()
    return number
