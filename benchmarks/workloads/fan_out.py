"""What further subscribers cost a send."""

from benchmarks.child import Answer, Measured
from benchmarks.streams import Stream, numbered
from benchmarks.systems.base import Can
from benchmarks.workloads.base import Bench, Figure, Workload

COUNTS = (1, 10, 100, 1_000)


def send(process: Measured, seconds: float) -> Answer:
    """Send for ``seconds``."""
    sender = process.connection.sender()
    sender.send_each([numbered(0)] * 20)
    process.ready()
    stream = Stream(numbered(0), seconds)
    sender.send_each(stream)
    return {"each": 1e6 / stream.rate}


class FanOut(Workload):
    """A send to many subscribers, each of which gets every message."""

    name = "fan-out"
    title = "Send with many subscribers"
    about = "One process sends one message at a time to a queue with so many subscribers, each of which is to get it."
    figures = tuple(Figure(f"fan-out.{count}", f"{count:,} subscribers", "µs/send", higher=False) for count in COUNTS)
    needs = Can.FAN_OUT

    def measure(self, bench: Bench) -> dict[str, float]:
        found = {}
        for count in bench.pick(COUNTS, COUNTS, COUNTS[:2]):
            names = [f"subscriber-{number}" for number in range(count)]
            answer = bench.alone(send, subscribers=names, seconds=bench.pick(1.0, 0.2, 0.02))
            found[f"fan-out.{count}"] = answer["each"]
        return found
