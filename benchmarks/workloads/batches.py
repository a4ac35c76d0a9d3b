"""A thousand messages at a time."""

import time

from benchmarks.child import Answer, Measured
from benchmarks.streams import Counter, numbered
from benchmarks.systems.base import Can
from benchmarks.workloads.base import Bench, Figure, Workload

BATCH = 1_000


def both_ways(process: Measured, seconds: float) -> Answer:
    """Send batches for ``seconds``, then take batches for ``seconds``."""
    sender = process.connection.sender()
    receiver = process.connection.receiver("a")
    batch = [numbered(0)] * BATCH
    process.ready()
    count = 0
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        sender.send_many(batch)
        count += BATCH
    elapsed = time.perf_counter() - begun
    counter = Counter(seconds)
    receiver.take_batches(BATCH, counter.many, 0)
    return {"send": count / elapsed, "receive": counter.rate}


class Batches(Workload):
    """One process sends and one takes, a thousand at a time."""

    name = "batches"
    title = "Batches of 1,000 messages"
    about = (
        "One process sends 1,000 messages of 128 bytes in one call, again and again, then takes as many in one call."
    )
    figures = (
        Figure("batches.send", "sends", "messages/s"),
        Figure("batches.receive", "takes and acknowledges", "messages/s"),
    )
    needs = Can.QUEUE

    def measure(self, bench: Bench) -> dict[str, float]:
        answer = bench.alone(both_ways, seconds=bench.pick(1.5, 0.4, 0.02))
        return {"batches.send": answer["send"], "batches.receive": answer["receive"]}
