"""Filling a queue before it is measured."""

import time

from benchmarks.streams import SIZE, numbered
from benchmarks.systems.base import Connection

BATCH = 1_000


def fill(connection: Connection, most: int, seconds: float = float("inf"), size: int = SIZE) -> int:
    """Send numbered messages in batches, up to ``most`` and for ``seconds``; return how many."""
    sender = connection.sender()
    deadline = time.perf_counter() + seconds
    count = 0
    while count < most and time.perf_counter() < deadline:
        batch = [numbered(number, size) for number in range(count, min(most, count + BATCH))]
        sender.send_many(batch)
        count += len(batch)
    return count
