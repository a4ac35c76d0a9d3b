"""Messages of megabytes."""

import time

from benchmarks.child import Answer, Measured
from benchmarks.streams import Counter, Stream, quantile
from benchmarks.systems.base import Can
from benchmarks.workloads.base import Bench, Figure, Workload

MIB = 1024**2
SIZES = {"1": MIB, "10": 10 * MIB}


def send_and_take(process: Measured, size: int, count: int) -> Answer:
    """Send ``count`` messages, then take them; megabytes a second."""
    sender = process.connection.sender()
    receiver = process.connection.receiver("a")
    # Bytes that are no zeros: nobody is to win by compressing them or by leaving holes in a file.
    data = bytes(range(256)) * (size // 256)
    sender.send(data)
    receiver.take_each(Counter(most=1), 0)
    process.ready()
    stream = Stream(data, most=count)
    sender.send_each(stream)
    counter = Counter(most=count)
    receiver.take_each(counter, 1.0)
    rate = counter.rate
    return {"send": stream.rate * size / 1e6, "receive": rate * size / 1e6, "count": counter.count}


def view(process: Measured, size: int, count: int) -> Answer:
    """Take ``count`` messages without copying them; the time until each is handed over, in µs."""
    sender = process.connection.sender()
    sender.send_many([bytes(range(256)) * (size // 256)] * count)
    receiver = process.connection.receiver("a")
    process.ready()
    taken: list[float] = []
    last = time.perf_counter_ns()

    def handle(data: memoryview) -> bool:
        nonlocal last
        taken.append((time.perf_counter_ns() - last) / 1e3)
        return False

    for _ in range(count):
        last = time.perf_counter_ns()
        receiver.view_each(handle, 0)
    return {"each": quantile(taken, 0.5)}


class Large(Workload):
    """1 MiB and 10 MiB."""

    name = "large"
    title = "Large messages"
    about = (
        "One process sends messages of 1 or 10 MiB one at a time, then takes them. Where a system hands over without "
        "copying, also the time until it has handed over, which holds the check of the checksum."
    )
    figures = (
        *(Figure(f"large.{way}.{name}", f"{way} {name} MiB", "MB/s") for name in SIZES for way in ("send", "receive")),
        *(Figure(f"large.view.{name}", f"hand over {name} MiB uncopied", "µs", higher=False) for name in SIZES),
        Figure("large.view.speed", "what each further byte of a view costs, which is its checksum", "GB/s"),
    )
    needs = Can.LARGE

    def measure(self, bench: Bench) -> dict[str, float]:
        found = {}
        for name, size in SIZES.items():
            count = bench.pick(320, 64, 4) * MIB // size or 2
            answer = bench.alone(send_and_take, size=size, count=count)
            found[f"large.send.{name}"] = answer["send"]
            found[f"large.receive.{name}"] = answer["receive"]
            if Can.VIEW in bench.system.can:
                answer = bench.alone(view, size=size, count=bench.pick(20, 10, 2))
                found[f"large.view.{name}"] = answer["each"]
        if Can.VIEW in bench.system.can:
            # Noise may make the larger one the quicker one; then size costs nothing that could be seen.
            further = max(1e-3, found["large.view.10"] - found["large.view.1"])
            found["large.view.speed"] = (SIZES["10"] - SIZES["1"]) / further / 1e3
        return found
