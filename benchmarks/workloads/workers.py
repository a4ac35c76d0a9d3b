"""Several processes that share the work of one subscriber."""

import time
from itertools import chain

from benchmarks.child import Answer, Measured
from benchmarks.errors import BenchmarkError
from benchmarks.processes import start
from benchmarks.streams import number_of
from benchmarks.systems.base import Can
from benchmarks.workloads.base import Bench, Figure, Workload
from benchmarks.workloads.filling import fill

COUNTS = (1, 2, 4, 8)


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
        "time. That no message was handled twice is checked."
    )
    figures = tuple(
        Figure(f"workers.{count}", f"{count} worker{'s' if count > 1 else ''}", "messages/s") for count in COUNTS
    )
    needs = Can.COMPETE

    def measure(self, bench: Bench) -> dict[str, float]:
        counts = bench.pick(COUNTS, COUNTS, COUNTS[:2])
        return {f"workers.{count}": self._measure(bench, count) for count in counts}

    def _measure(self, bench: Bench, count: int) -> float:
        seconds = bench.pick(1.5, 0.4, 0.02)
        with bench.queue() as queue:
            filler = queue.start(prepare, most=bench.pick(150_000, 40_000, 200), seconds=2 * seconds)
            start([filler])
            filler.answer()
            workers = [queue.start(work, seconds=seconds) for _ in range(count)]
            begun = start(workers)
            answers = [worker.answer() for worker in workers]
        numbers = list(chain.from_iterable(answer["numbers"] for answer in answers))
        if len(set(numbers)) != len(numbers):
            raise BenchmarkError(
                f"{bench.system.name} gave {len(numbers) - len(set(numbers))} messages to two workers."
            )
        elapsed: float = max(answer["ended"] for answer in answers) - begun
        return len(numbers) / elapsed
