"""Memory of the processes, and the size of the file, over many messages."""

import contextlib
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.child import Answer, Measured
from benchmarks.streams import numbered
from benchmarks.systems.base import Can, Role, System
from benchmarks.workloads.base import Bench, Figure, Workload

BATCH = 500
#: How many messages wait in the queue all the time.
DEPTH = 10 * BATCH
LAST = b"last"


def own_memory() -> float:
    """Return the memory that this process has for itself, in MiB: mapped files are not counted where that is known."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (1024**2 if sys.platform == "darwin" else 1024)


def occupied(place: str) -> float:
    """Return what the files of a queue occupy on the disk, in MiB."""
    return sum(path.stat().st_blocks * 512 for path in Path(place).rglob("*") if path.is_file()) / 1024**2


def publish(process: Measured, messages: int) -> Answer:
    """Send batches; the memory after a fifth of them and at the end."""
    sender = process.connection.sender()
    batch = [numbered(0)] * BATCH
    process.ready()
    early = 0.0
    for sent in range(0, messages, BATCH):
        sender.send_many(batch)
        if sent < messages // 5:
            early = own_memory()
    late = own_memory()
    sender.send(LAST)
    return {"growth": late - early}


def subscribe(process: Measured, messages: int) -> Answer:
    """Take batches until the last message; the memory after a fifth of them and at the end."""
    receiver = process.connection.receiver("a")
    process.ready()
    count = 0
    early = 0.0

    def handle(batch: Sequence[bytes]) -> bool:
        nonlocal count, early
        count += len(batch)
        if count < messages // 5:
            early = own_memory()
        return batch[-1] != LAST

    receiver.take_batches(BATCH, handle, 30.0)
    return {"growth": own_memory() - early}


def stay_deep(process: Measured, messages: int) -> Answer:
    """Send and take in turns, so that the depth stays; the size of the file after a fifth and at the end."""
    sender, receiver = process.connection.sender(), process.connection.receiver("a")
    batch = [numbered(0)] * BATCH
    for _ in range(DEPTH // BATCH):
        sender.send_many(batch)
    process.ready()
    early = 0.0
    for sent in range(0, messages, BATCH):
        sender.send_many(batch)
        receiver.take_batches(BATCH, lambda taken: False, 1.0)
        if sent <= messages // 5:
            early = occupied(process.place)
    return {"early": early, "late": occupied(process.place)}


class Footprint(Workload):
    """Whether anything grows while messages pass."""

    name = "footprint"
    title = "Memory and file over a long run"
    about = (
        "A million messages pass, in batches of 500. Memory: what the process of the publisher and that of the "
        "subscriber grow by, mapped files aside, after the first fifth of them. File: what it grows by after the first "
        "fifth while 5,000 messages wait in the queue all the time."
    )
    figures = (
        Figure("footprint.publisher", "growth of the publisher", "MiB", higher=False),
        Figure("footprint.subscriber", "growth of the subscriber", "MiB", higher=False),
        Figure("footprint.file", "the file at the end against the first fifth", "times", higher=False),
        Figure("footprint.size", "the file at the end", "MiB", higher=False),
    )
    needs = Can.PROCESSES
    most_rounds = 1

    def skips(self, system: System) -> str | None:
        """Leave out what is not on LMDB."""
        return super().skips(system) or (None if system.role is Role.OURS else "is not ours")

    def measure(self, bench: Bench) -> dict[str, float]:
        messages = bench.pick(1_000_000, 50_000, 5_000)
        with bench.queue() as queue:
            subscriber = queue.start(subscribe, messages=messages)
            subscriber.wait_ready()
            publisher = queue.start(publish, messages=messages)
            publisher.wait_ready()
            for worker in (subscriber, publisher):
                worker.begin(time.monotonic())
            found = {
                "footprint.publisher": publisher.answer()["growth"],
                "footprint.subscriber": subscriber.answer()["growth"],
            }
        sizes = bench.alone(stay_deep, messages=messages)
        return {**found, "footprint.file": sizes["late"] / sizes["early"], "footprint.size": sizes["late"]}
