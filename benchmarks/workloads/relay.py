"""Moving what waits in a local queue to another queue."""

import tempfile
import time
from pathlib import Path

import persipubsub
from benchmarks.child import Answer, Measured
from benchmarks.streams import numbered
from benchmarks.systems.base import Can
from benchmarks.workloads.base import Bench, Figure, Workload

BATCH = 500


def relay(process: Measured, messages: int) -> Answer:
    """Fill a local queue, then relay all of it to the queue that is measured."""
    from persipubsub.relay import Relay

    with (
        tempfile.TemporaryDirectory(prefix="persipubsub-relay-") as folder,
        persipubsub.Environment(Path(folder) / "source") as source,
        persipubsub.Environment(process.address) as target,
    ):
        source.new_control(durability=persipubsub.Durability.PROCESS)
        mover = Relay(source, target, name="benchmark", batch=BATCH)
        mover.prepare()
        publisher = source.new_publisher()
        for _ in range(messages // BATCH):
            publisher.send_many([numbered(0)] * BATCH)
        process.ready()
        begun = time.perf_counter()
        moved = mover.run(drain=True)
        rate = moved / (time.perf_counter() - begun)
    if moved != messages:
        raise RuntimeError(f"{moved} messages of {messages} arrived")
    return {"rate": rate}


class Relaying(Workload):
    """A relay drains a local queue."""

    name = "relay"
    title = "Relay from a local queue"
    about = (
        "A relay moves messages of 128 bytes from a local queue of the durability process to the queue that is "
        "measured, each once, in batches of 500."
    )
    figures = (Figure("relay.rate", "messages that arrive", "messages/s"),)
    needs = Can.RELAY

    def measure(self, bench: Bench) -> dict[str, float]:
        answer = bench.alone(relay, messages=bench.pick(100_000, 20_000, 500))
        return {"relay.rate": answer["rate"]}
