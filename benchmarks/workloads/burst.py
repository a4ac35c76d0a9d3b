"""A thousand sends at once on one event loop."""

from benchmarks.child import Answer, Measured
from benchmarks.streams import Stream, numbered
from benchmarks.systems.base import Can, Role, System
from benchmarks.workloads.base import Bench, Figure, Workload
from benchmarks.workloads.transactions import transactions

TASKS = 1_000


def burst(process: Measured, tasks: int) -> Answer:
    """Begin so many sends at once and wait for all, between two starts at which transactions are counted."""
    process.connection.sender().send(numbered(0))
    process.ready()
    streams = [Stream(numbered(0), most=1) for _ in range(tasks)]
    process.connection.send_at_once(streams)
    elapsed = max(stream.ended for stream in streams) - min(stream.begun for stream in streams)
    process.ready()
    return {"rate": tasks / elapsed}


class Burst(Workload):
    """Sends made at the same time share commits."""

    name = "burst"
    title = "1,000 concurrent sends of asyncio"
    about = "1,000 tasks of one event loop send a message each; counted are the LMDB transactions that this takes."
    figures = (
        Figure("burst.transactions", "transactions for 1,000 sends", "transactions", higher=False),
        Figure("burst.rate", "sends", "messages/s"),
    )
    needs = Can.TASKS

    def skips(self, system: System) -> str | None:
        """Leave out what has no LMDB transactions."""
        return super().skips(system) or (None if system.role is Role.OURS else "has no LMDB transactions")

    def measure(self, bench: Bench) -> dict[str, float]:
        with bench.queue() as queue:
            worker = queue.start(burst, tasks=TASKS)
            worker.wait_ready()
            before = transactions(queue.place)
            worker.begin(0.0)
            worker.wait_ready()
            count = transactions(queue.place) - before
            worker.begin(0.0)
            return {"burst.transactions": count, "burst.rate": worker.answer()["rate"]}
