"""What a publisher waits for while the queue is pruned."""

from typing import TYPE_CHECKING

from benchmarks.child import Answer, Measured
from benchmarks.errors import BenchmarkError
from benchmarks.streams import TimedStream, numbered, quantile
from benchmarks.systems.base import Can
from benchmarks.workloads.base import Bench, Figure, Workload
from benchmarks.workloads.filling import fill

if TYPE_CHECKING:
    from persipubsub import Statistics


def overflow(process: Measured, mark: int, seconds: float) -> Answer:
    """Fill the queue to its mark, then go on sending."""
    connection = process.connection
    # A subscriber that reads nothing: what is pruned is unread.
    fill(connection, mark)
    before = statistics(process.place)
    process.ready()
    stream = TimedStream(numbered(0), seconds)
    connection.sender().send_each(stream)
    after = statistics(process.place)
    return {
        "taken": [nanoseconds / 1e3 for nanoseconds in stream.taken],
        "pruned": (after.pruned_overflow or 0) - (before.pruned_overflow or 0),
        "above": max(0, max(before.messages, after.messages) - mark),
    }


def statistics(place: str) -> "Statistics":
    """Return the figures of the queue."""
    import persipubsub

    with persipubsub.Environment(place) as environment:
        return environment.open_control().statistics()


class Pruning(Workload):
    """Sends to a queue that is at its high-water mark and loses its oldest half."""

    name = "pruning"
    title = "Sending while the queue is pruned"
    about = (
        "A queue is filled to its mark of 2 million messages that nobody has read; the next send prunes a million of "
        "them, and one process goes on sending one message at a time. That the mark is never exceeded is checked."
    )
    figures = (
        Figure("pruning.max", "longest send", "ms", higher=False),
        Figure("pruning.p99", "p99 of a send", "µs", higher=False),
        Figure("pruning.p50", "p50 of a send", "µs", higher=False),
    )
    needs = Can.LIMITS
    most_rounds = 3

    def measure(self, bench: Bench) -> dict[str, float]:
        mark = bench.pick(2_000_000, 100_000, 1_000)
        with bench.queue(max_messages=mark) as queue:
            worker = queue.start(overflow, mark=mark, seconds=bench.pick(3.0, 0.5, 0.05))
            worker.wait_ready()
            worker.begin(0.0)
            answer = worker.answer()
        if answer["above"] or not answer["pruned"]:
            raise BenchmarkError(
                f"{bench.system.name} pruned {answer['pruned']} messages and was {answer['above']} above the mark."
            )
        taken = answer["taken"]
        return {
            "pruning.max": max(taken) / 1e3,
            "pruning.p99": quantile(taken, 0.99),
            "pruning.p50": quantile(taken, 0.5),
        }
