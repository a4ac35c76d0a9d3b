"""Several processes that share the work of one subscriber."""

import time
from itertools import chain

from benchmarks.child import Answer, Measured
from benchmarks.errors import BenchmarkError
from benchmarks.processes import start
from benchmarks.streams import number_of
from benchmarks.systems.base import Can, Role
from benchmarks.workloads.base import Bench, Figure, Workload
from benchmarks.workloads.filling import fill
from benchmarks.workloads.transactions import transactions

COUNTS = (1, 2, 4, 8)
SHARING = COUNTS[2:]


def prepare(process: Measured, most: int, seconds: float) -> Answer:
    """Fill the queue."""
    process.ready()
    return {"count": fill(process.connection, most, seconds)}


def work(process: Measured, seconds: float) -> Answer:
    """Take and acknowledge one message at a time for ``seconds``."""
    receiver = process.connection.receiver("a", competing=True)
    process.ready()
    deadline = time.monotonic() + seconds
    numbers: list[int] = []

    def handle(data: bytes) -> bool:
        numbers.append(number_of(data))
        return time.monotonic() < deadline

    receiver.take_each(handle, 0)
    return {"ended": time.monotonic(), "numbers": numbers}


class Workers(Workload):
    """Competing consumers."""

    name = "workers"
    title = "Competing workers"
    about = (
        "So many processes of one subscriber empty a queue together, each taking and acknowledging one message at a "
        "time. That no message was handled twice is checked. Ours: how many takes and acknowledgements shared a "
        "transaction."
    )
    figures = (
        *(Figure(f"workers.{count}", f"{count} worker{'s' if count > 1 else ''}", "messages/s") for count in COUNTS),
        *(Figure(f"workers.shared.{count}", f"{count} workers", "operations in a transaction") for count in SHARING),
    )
    needs = Can.COMPETE

    def measure(self, bench: Bench) -> dict[str, float]:
        counts = bench.pick(COUNTS, COUNTS, COUNTS[:2])
        found = {}
        for count in counts:
            found[f"workers.{count}"], operations = self._measure(bench, count)
            if bench.system.role is Role.OURS and count in SHARING:
                found[f"workers.shared.{count}"] = operations
        return found

    def _measure(self, bench: Bench, count: int) -> tuple[float, float]:
        """Return messages a second, and how many operations a transaction carried where it is on LMDB."""
        seconds = bench.pick(1.5, 0.4, 0.02)
        with bench.queue() as queue:
            filler = queue.start(prepare, most=bench.pick(150_000, 40_000, 200), seconds=2 * seconds)
            start([filler])
            filler.answer()
            workers = [queue.start(work, seconds=seconds) for _ in range(count)]
            ours = bench.system.role is Role.OURS
            before = transactions(queue.place) if ours else 0
            begun = start(workers)
            answers = [worker.answer() for worker in workers]
            taken = transactions(queue.place) - before if ours else 1
        numbers = list(chain.from_iterable(answer["numbers"] for answer in answers))
        if len(set(numbers)) != len(numbers):
            raise BenchmarkError(
                f"{bench.system.name} gave {len(numbers) - len(set(numbers))} messages to two workers."
            )
        elapsed: float = max(answer["ended"] for answer in answers) - begun
        return len(numbers) / elapsed, 2 * len(numbers) / taken
