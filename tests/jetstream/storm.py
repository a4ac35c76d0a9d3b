"""Kill and cut off servers of a cluster while messages are published and consumed; judge what came of it.

``python -m tests.jetstream.storm --kills 100 --partitions 100 --seed 1`` prints the figures. A partition is a server
that stands still (SIGSTOP) for longer than the others wait for it, and then goes on with what it believes.
"""

import argparse
import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec

from persipubsub import Durability, Environment, LeaseLostError, QueueError
from tests.jetstream.servers import Cluster

ACK_WAIT = 3.0
#: Seconds within which everything must be drained once the servers are at peace.
DRAIN = 90.0


class Verdict(msgspec.Struct):
    """What happened; ``lost`` and ``stuck`` must be 0."""

    seed: int
    kills: int
    partitions: int
    confirmed: int = 0
    unconfirmed: int = 0
    handled: int = 0
    lost: int = 0
    #: Stored twice under two ids: a publication that was repeated was not recognised.
    doubled: int = 0
    #: Delivered more than once, which is allowed.
    redelivered: int = 0
    stuck: int = 0
    seconds: float = 0.0


class Storm:
    """One run."""

    def __init__(self, cluster: Cluster, seed: int, queue: str) -> None:
        """Deploy a queue on the cluster."""
        self.cluster = cluster
        self.random = random.Random(seed)
        self.url = f"{cluster.url}/{queue}?replicas=3&ack_wait={ACK_WAIT}"
        self.over = threading.Event()
        self.drained = threading.Event()
        self.confirmed: dict[bytes, int] = {}
        self.unconfirmed: list[bytes] = []
        self.handled: Counter[tuple[bytes, int]] = Counter()
        self._lock = threading.Lock()
        with Environment(self.url) as environment:
            environment.new_control({"a"}, durability=Durability.PROCESS)

    def publish(self, name: int) -> None:
        """Publish until it is over; note what was confirmed."""
        with Environment(self.url) as environment:
            publisher = environment.new_publisher()
            number = 0
            while not self.over.is_set():
                payloads = [b"%d-%d" % (name, number + each) for each in range(1 if number % 3 else 5)]
                number += len(payloads)
                try:
                    ids = publisher.send_many(payloads)
                except QueueError:
                    self.unconfirmed.extend(payloads)
                else:
                    self.confirmed.update(zip(payloads, ids, strict=True))

    def consume(self) -> None:
        """Consume until everything is drained; note what was acknowledged."""
        with Environment(self.url) as environment:
            subscriber = environment.new_subscriber("a")
            while not self.drained.is_set():
                try:
                    taken = subscriber.get_many(20, timeout=0.5)
                    for message in taken:
                        message.ack()
                        with self._lock:
                            self.handled[(message.data, message.id)] += 1
                except (QueueError, LeaseLostError):
                    continue

    def disturb(self, kills: int, partitions: int) -> None:
        """Kill or stop one server after the other."""
        plan = ["kill"] * kills + ["stop"] * partitions
        self.random.shuffle(plan)
        for what in plan:
            victim = self.random.choice(self.cluster.servers)
            if what == "kill":
                victim.kill()
                time.sleep(self.random.uniform(0.05, 0.5))
                victim.start()
            else:
                victim.pause()
                time.sleep(self.random.uniform(0.5, 3.0))
                victim.go_on()
            self.cluster.settle()
            time.sleep(self.random.uniform(0.1, 0.5))


def run(cluster: Cluster, seed: int, kills: int, partitions: int, queue: str = "storm") -> Verdict:
    """Run a storm and judge it."""
    began = time.monotonic()
    verdict = Verdict(seed, kills, partitions)
    storm = Storm(cluster, seed, queue)
    publishers = [threading.Thread(target=storm.publish, args=(name,)) for name in range(2)]
    consumers = [threading.Thread(target=storm.consume) for _ in range(2)]
    for thread in (*publishers, *consumers):
        thread.start()
    try:
        storm.disturb(kills, partitions)
    finally:
        storm.over.set()
        for thread in publishers:
            thread.join()
    with Environment(storm.url) as environment:
        control = environment.open_control()
        deadline = time.monotonic() + DRAIN
        while time.monotonic() < deadline and (lag := control.statistics().subscribers[0].lag):
            verdict.stuck = lag
            time.sleep(0.1)
        else:
            verdict.stuck = control.statistics().subscribers[0].lag
        storm.drained.set()
        for thread in consumers:
            thread.join()
        assert control.check() == []
    got = Counter(payload for payload, _ in storm.handled)
    verdict.confirmed, verdict.unconfirmed = len(storm.confirmed), len(storm.unconfirmed)
    verdict.handled = len(storm.handled)
    verdict.lost = sum((payload, message_id) not in storm.handled for payload, message_id in storm.confirmed.items())
    verdict.doubled = sum(count > 1 for count in got.values())
    verdict.redelivered = sum(count - 1 for count in storm.handled.values())
    verdict.seconds = round(time.monotonic() - began, 1)
    return verdict


def main() -> int:
    """Run from the command line; the exit status is 1 if anything was lost, doubled or stuck."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--partitions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    print(f"seed {given.seed}: {given.kills} kills, {given.partitions} partitions")
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder)).start()
        try:
            verdict = run(cluster, given.seed, given.kills, given.partitions)
        finally:
            cluster.stop()
    print(msgspec.json.format(msgspec.json.encode(verdict)).decode())
    return 1 if verdict.lost or verdict.doubled or verdict.stuck else 0


if __name__ == "__main__":
    raise SystemExit(main())
