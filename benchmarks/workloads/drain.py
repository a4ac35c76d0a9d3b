"""Emptying a queue one message at a time."""

from benchmarks.child import Answer, Measured
from benchmarks.streams import Counter
from benchmarks.systems.base import Can
from benchmarks.workloads.base import Bench, Figure, Workload
from benchmarks.workloads.filling import fill


def take(process: Measured, most: int, seconds: float, loop: bool) -> Answer:
    """Fill a queue, then take one message at a time for ``seconds``."""
    fill(process.connection, most, 2 * seconds)
    receiver = process.connection.receiver("a")
    receiver.take_each(Counter(most=10), 0)
    process.ready()
    counter = Counter(seconds)
    (receiver.loop_each if loop else receiver.take_each)(counter, 0)
    return {"rate": counter.rate}


class Drain(Workload):
    """One subscriber takes one message at a time."""

    name = "drain"
    title = "Receive and acknowledge one message at a time"
    about = (
        "One process empties a queue: takes a message, hands it over, acknowledges it. In a loop, where a system "
        "has one, the acknowledgement goes with the next take; the caller still gets one message at a time."
    )
    figures = (
        Figure("drain.one", "take, hand over, acknowledge", "messages/s"),
        Figure("drain.loop", "loop over messages", "messages/s"),
    )
    needs = Can.QUEUE

    def measure(self, bench: Bench) -> dict[str, float]:
        seconds = bench.pick(1.5, 0.3, 0.02)
        most = bench.pick(150_000, 30_000, 200)
        found = {"drain.one": bench.alone(take, most=most, seconds=seconds, loop=False)["rate"]}
        if Can.LOOP in bench.system.can:
            most = bench.pick(400_000, 100_000, 200)
            found["drain.loop"] = bench.alone(take, most=most, seconds=seconds, loop=True)["rate"]
        return found
