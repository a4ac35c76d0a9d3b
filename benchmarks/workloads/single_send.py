"""One message after the other."""

from benchmarks.child import Answer, Measured
from benchmarks.streams import Stream, numbered
from benchmarks.systems.base import Can
from benchmarks.workloads.base import Bench, Figure, Workload


def send(process: Measured, seconds: float) -> Answer:
    """Send for ``seconds``."""
    sender = process.connection.sender()
    sender.send_each([numbered(0)] * 20)
    process.ready()
    stream = Stream(numbered(0), seconds)
    sender.send_each(stream)
    return {"rate": stream.rate}


class SingleSend(Workload):
    """One publisher sends one message at a time."""

    name = "send"
    title = "Send one message at a time"
    about = "One process sends messages of 128 bytes, each committed before the next."
    figures = (Figure("send.rate", "sends", "messages/s"),)
    needs = Can.QUEUE

    def measure(self, bench: Bench) -> dict[str, float]:
        answer = bench.alone(send, seconds=bench.pick(1.5, 0.3, 0.02))
        return {"send.rate": answer["rate"]}
