"""What a long queue costs a send and a take."""

import time

from benchmarks.child import Answer, Measured
from benchmarks.streams import Counter, Stream, numbered
from benchmarks.systems.base import Can, Role, System
from benchmarks.workloads.base import Bench, Figure, Workload
from benchmarks.workloads.filling import fill

COUNTS = {4: "10⁴", 5: "10⁵", 6: "10⁶", 7: "10⁷"}
#: What is left to do at a backlog, over and over, so that its length hardly changes.
TURNS = 5


def send_and_take(process: Measured, backlog: int, seconds: float) -> Answer:
    """Fill the queue, then send and take in turns; µs for each."""
    connection = process.connection
    fill(connection, backlog)
    sender, receiver = connection.sender(), connection.receiver("a")
    receiver.take_each(Counter(most=10), 0)
    process.ready()
    sent = taken = 0
    sending = taking = 0.0
    for _ in range(TURNS):
        stream = Stream(numbered(0), seconds / TURNS)
        sender.send_each(stream)
        sent += stream.count
        sending += stream.ended - stream.begun
        counter = Counter(seconds / TURNS, most=stream.count)
        receiver.take_each(counter, 0)
        taking += time.perf_counter() - counter.begun
        taken += counter.count
    return {"send": sending / sent * 1e6, "take": taking / taken * 1e6}


class Backlog(Workload):
    """One send, and one take with its acknowledgement, at a backlog of ten thousand to ten million."""

    name = "backlog"
    title = "Cost at a backlog"
    about = (
        "A queue is filled with so many messages; then one process sends, and takes and acknowledges, one message at a "
        "time in turns."
    )
    figures = tuple(
        Figure(f"backlog.{way}.{power}", f"{way} at {label}", f"µs/{way}", higher=False)
        for way in ("send", "take")
        for power, label in COUNTS.items()
    )
    needs = Can.QUEUE
    most_rounds = 2

    def skips(self, system: System) -> str | None:
        """Leave out peers: most would take hours to fill."""
        if system.role not in (Role.OURS, Role.FLOOR) or Can.TASKS in system.can:
            return "takes too long to fill"
        return super().skips(system)

    def measure(self, bench: Bench) -> dict[str, float]:
        found = {}
        for power in bench.pick((4, 5, 6, 7), (4, 5), (4,)):
            answer = bench.alone(send_and_take, backlog=10**power, seconds=bench.pick(1.0, 0.3, 0.02))
            found[f"backlog.send.{power}"] = answer["send"]
            found[f"backlog.take.{power}"] = answer["take"]
        return found
