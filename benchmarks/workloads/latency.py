"""How long a message takes to a subscriber that waits for it, and what waiting costs."""

import time

from benchmarks.child import Answer, Measured
from benchmarks.streams import number_of, numbered, quantile
from benchmarks.systems.base import Can, Role, System
from benchmarks.workloads.base import Bench, Figure, Workload

#: Seconds between two messages: 500 a second.
PACE = 0.002
#: Seconds until a subscriber is idle: what follows a message, such as a sync in the background, is not waiting.
SETTLING = 1.5


def publish(process: Measured, messages: int) -> Answer:
    """Send messages that carry the time, at the pace."""
    sender = process.connection.sender()
    process.ready()
    begun = time.monotonic()
    for number in range(messages):
        time.sleep(max(0.0, begun + number * PACE - time.monotonic()))
        sender.send(numbered(time.monotonic_ns()))
    return {}


def subscribe(process: Measured, messages: int, settling: float, idle: float) -> Answer:
    """Take the messages and note how old they are; then wait in vain, of which the last ``idle`` seconds count."""
    receiver = process.connection.receiver("a")
    process.ready()
    ages: list[float] = []

    def handle(data: bytes) -> bool:
        ages.append((time.monotonic_ns() - number_of(data)) / 1e3)
        return len(ages) < messages

    receiver.take_each(handle, 30.0)
    receiver.take_each(handle, settling)
    before = time.process_time()
    receiver.take_each(handle, idle)
    return {"ages": ages, "idle": (time.process_time() - before) * 1e3}


class Latency(Workload):
    """One-way latency, and the processor time of a subscriber with nothing to do."""

    name = "latency"
    title = "One-way latency of a blocked subscriber"
    about = (
        "One process sends 500 messages a second; another is blocked until each comes. From before the send until the "
        "message is handed over, the commit included. Then the processor time of a subscriber that waits in vain, from "
        "a second and a half after its last message on."
    )
    figures = (
        Figure("latency.p50", "p50", "µs", higher=False),
        Figure("latency.p99", "p99", "µs", higher=False),
        Figure("latency.p99.9", "p99.9", "µs", higher=False),
        Figure("latency.max", "maximum", "µs", higher=False),
        Figure("latency.idle", "processor time while idle, per 2 s", "ms", higher=False),
    )
    needs = Can.PROCESSES

    def skips(self, system: System) -> str | None:
        """Leave out the floor, which polls without a pause."""
        return "wakes nobody" if system.role is Role.FLOOR else super().skips(system)

    def measure(self, bench: Bench) -> dict[str, float]:
        messages = bench.pick(2_000, 400, 20)
        idle = bench.pick(2.0, 2.0, 0.05)
        settling = bench.pick(SETTLING, SETTLING, 0.05)
        with bench.queue() as queue:
            subscriber = queue.start(subscribe, messages=messages, settling=settling, idle=idle)
            subscriber.wait_ready()
            publisher = queue.start(publish, messages=messages)
            publisher.wait_ready()
            for worker in (subscriber, publisher):
                worker.begin(0.0)
            publisher.answer()
            found = subscriber.answer()
        ages = found["ages"]
        return {
            "latency.p50": quantile(ages, 0.5),
            "latency.p99": quantile(ages, 0.99),
            "latency.p99.9": quantile(ages, 0.999),
            "latency.max": max(ages),
            "latency.idle": found["idle"] * 2.0 / idle,
        }
