"""Sends that are made at the same time in one process."""

from benchmarks.child import Answer, Measured
from benchmarks.streams import Stream, numbered
from benchmarks.systems.base import Can, System
from benchmarks.workloads.base import Bench, Figure, Workload

COUNTS = (1, 4, 16)


def send(process: Measured, count: int, seconds: float) -> Answer:
    """Send from ``count`` threads or tasks for ``seconds``."""
    connection = process.connection
    connection.sender().send(numbered(0))
    process.ready()
    streams = [Stream(numbered(0), seconds) for _ in range(count)]
    connection.send_at_once(streams)
    sent = sum(stream.count for stream in streams)
    elapsed = max(stream.ended for stream in streams) - min(stream.begun for stream in streams)
    return {"rate": sent / elapsed}


class GroupCommit(Workload):
    """Threads, or tasks of asyncio, that share commits."""

    name = "group-commit"
    title = "Concurrent sends of one process"
    about = (
        "So many threads of one process, or tasks of one event loop where the client is asynchronous, send one message "
        "at a time, each waiting until its own is safe."
    )
    figures = tuple(
        Figure(
            f"group-commit.{count}",
            f"{count} thread{'s' if count > 1 else ''} or task{'s' if count > 1 else ''}",
            "messages/s",
        )
        for count in COUNTS
    )
    needs = Can.QUEUE

    def skips(self, system: System) -> str | None:
        """Leave out what can send from one place only."""
        return None if system.can & (Can.THREADS | Can.TASKS) else "sends from one thread only"

    def measure(self, bench: Bench) -> dict[str, float]:
        return {
            f"group-commit.{count}": bench.alone(send, count=count, seconds=bench.pick(1.5, 0.4, 0.05))["rate"]
            for count in COUNTS
        }
