"""A publisher and a subscriber at the same time."""

import time

from benchmarks.child import Answer, Measured
from benchmarks.errors import BenchmarkError
from benchmarks.streams import Stream, numbered
from benchmarks.systems.base import Can
from benchmarks.workloads.base import Bench, Figure, Workload

LAST = b"last"


def publish(process: Measured, seconds: float) -> Answer:
    """Send for ``seconds``, then the last message."""
    sender = process.connection.sender()
    process.ready()
    begun = time.monotonic()
    stream = Stream(numbered(0), seconds)
    sender.send_each(stream)
    sender.send(LAST)
    return {"begun": begun, "count": stream.count + 1}


def subscribe(process: Measured, timeout: float) -> Answer:
    """Take until the last message."""
    receiver = process.connection.receiver("a")
    process.ready()
    count = 0

    def handle(data: bytes) -> bool:
        nonlocal count
        count += 1
        return data != LAST

    receiver.take_each(handle, timeout)
    return {"ended": time.monotonic(), "count": count}


class AtOnce(Workload):
    """A publisher and a subscriber, each in a process of its own."""

    name = "at-once"
    title = "Publisher and subscriber at once"
    about = (
        "One process sends one message at a time while another takes and acknowledges one at a time; counted from the "
        "first send until the last message is acknowledged."
    )
    figures = (Figure("at-once.rate", "through", "messages/s"),)
    needs = Can.PROCESSES

    def measure(self, bench: Bench) -> dict[str, float]:
        with bench.queue() as queue:
            # The receiver first: a socket has to be bound before somebody sends to it.
            subscriber = queue.start(subscribe, timeout=30.0)
            subscriber.wait_ready()
            publisher = queue.start(publish, seconds=bench.pick(1.5, 0.4, 0.02))
            publisher.wait_ready()
            for worker in (subscriber, publisher):
                worker.begin(0.0)
            sent = publisher.answer()
            taken = subscriber.answer()
        if sent["count"] != taken["count"]:
            raise BenchmarkError(f"{bench.system.name} was sent {sent['count']} messages and gave {taken['count']}.")
        return {"at-once.rate": taken["count"] / (taken["ended"] - sent["begun"])}
