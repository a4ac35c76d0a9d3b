"""How long a program takes until it can use a queue."""

import subprocess
import sys
import time

from benchmarks.child import Answer, Measured
from benchmarks.streams import numbered, quantile
from benchmarks.systems.base import Can, Role
from benchmarks.workloads.base import Bench, Figure, Workload

IMPORT = "import time; t = time.perf_counter(); import persipubsub; print(time.perf_counter() - t)"


def open_again(process: Measured, times: int) -> Answer:
    """Open a queue that holds a message, get a receiver, close; ms for each."""
    connection = process.connect()
    connection.sender().send(numbered(0))
    connection.close()
    process.ready()
    taken: list[float] = []
    for _ in range(times):
        begun = time.perf_counter()
        connection = process.connect()
        connection.receiver("a")
        taken.append((time.perf_counter() - begun) * 1e3)
        connection.close()
    return {"open": quantile(taken, 0.5)}


def import_package(process: Measured, times: int) -> Answer:
    """Import the package in new interpreters; ms for each."""
    process.ready()
    taken = [
        float(subprocess.run([sys.executable, "-P", "-c", IMPORT], capture_output=True, check=True).stdout) * 1e3
        for _ in range(times)
    ]
    return {"import": quantile(taken, 0.5)}


class Opening(Workload):
    """Importing the package, and opening a queue."""

    name = "opening"
    title = "Opening"
    about = (
        "One process opens a queue that exists and gets a receiver of it, again and again. And the import of the "
        "package in a new interpreter."
    )
    figures = (
        Figure("opening.open", "open a queue", "ms", higher=False),
        Figure("opening.import", "import persipubsub", "ms", higher=False),
    )
    needs = Can.QUEUE

    def measure(self, bench: Bench) -> dict[str, float]:
        found = {"opening.open": bench.alone(open_again, times=bench.pick(50, 10, 2))["open"]}
        if bench.system.role is Role.OURS and Can.THREADS in bench.system.can:
            found["opening.import"] = bench.alone(import_package, times=bench.pick(9, 3, 1))["import"]
        return found
