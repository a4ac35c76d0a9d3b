"""Kill and cut off servers of a cluster while messages are published and consumed; judge what came of it.

``python -m tests.jetstream.storm --kills 100 --partitions 100 --seed 1`` prints the figures. Each server is on a host
of its own (a network namespace), and a partition pulls its cable, or parts it from the other servers while clients
reach them all, or lets it stand still (SIGSTOP), so that it goes on with what it believes. Where there are no network
namespaces every partition is of the last kind; the figures tell how many of each there were.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from persipubsub import Control, Durability, Environment, LeaseLostError, QueueError
from tests.jetstream import network
from tests.jetstream.servers import Cluster, Server
from tests.process.support import eventually

ACK_WAIT = 3.0
#: Seconds that may pass without progress once the servers are at peace; what is there then is stuck.
DRAIN = 60.0
#: Messages that publishers may be ahead of consumers.
BACKLOG = 2000


class Verdict(msgspec.Struct):
    """What happened; ``lost`` and ``stuck`` must be 0."""

    seed: int
    kills: int = 0
    #: Cables pulled, servers parted from the others only, and servers that stood still.
    cut_off: int = 0
    parted: int = 0
    stopped: int = 0
    confirmed: int = 0
    unconfirmed: int = 0
    #: Why.
    refusals: dict[str, int] = {}
    handled: int = 0
    lost: int = 0
    #: Stored twice under two ids: a publication that was repeated was not recognised.
    doubled: int = 0
    #: Delivered more than once, which is allowed.
    redelivered: int = 0
    #: Delivered, but no server said that the acknowledgement arrived: it may have, and then they do not come again.
    in_doubt: int = 0
    stuck: int = 0
    seconds: float = 0.0
    #: What else went wrong; must be empty.
    errors: list[str] = []

    @property
    def failed(self) -> bool:
        """Tell whether a promise was broken."""
        return bool(self.lost or self.doubled or self.stuck or self.errors)


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
        self.refusals: Counter[str] = Counter()
        self.errors: list[str] = []
        self.delivered: set[tuple[bytes, int]] = set()
        #: Acknowledged.
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
                if len(self.confirmed) - len(self.handled) > BACKLOG:
                    self.over.wait(0.01)
                    continue
                payloads = [b"%d-%d" % (name, number + each) for each in range(1 if number % 3 else 5)]
                number += len(payloads)
                try:
                    ids = publisher.send_many(payloads)
                except QueueError as error:
                    self.unconfirmed.extend(payloads)
                    self.refusals[f"{type(error).__name__}: {str(error).replace(self.url.partition('?')[0], '')}"] += 1
                else:
                    self.confirmed.update(zip(payloads, ids, strict=True))

    def consume(self) -> None:
        """Consume until everything is drained; note what was delivered, and what was acknowledged."""
        with Environment(self.url) as environment:
            subscriber = environment.new_subscriber("a")
            while not self.drained.is_set():
                try:
                    taken = subscriber.get_many(20, timeout=0.5)
                    self.delivered.update((message.data, message.id) for message in taken)
                    for message in taken:
                        message.ack()
                        with self._lock:
                            self.handled[(message.data, message.id)] += 1
                except (QueueError, LeaseLostError):
                    continue

    def watched(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return ``work`` so that its errors are not lost with its thread."""

        def watch() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001  all are judged
                self.errors.append(f"{type(error).__name__}: {error}")

        return watch

    def disturb(self, kills: int, partitions: int, until: float, verdict: Verdict) -> None:
        """Disturb one server after the other, until the moment on the monotonic clock at the latest."""
        plan = ["kill"] * kills + ["partition"] * partitions
        self.random.shuffle(plan)
        for what in plan:
            if time.monotonic() > until:
                break
            victim = self.random.choice(self.cluster.servers)
            if what == "kill":
                victim.kill()
                time.sleep(self.random.uniform(0.05, 0.5))
                victim.start()
                verdict.kills += 1
            else:
                self.part(victim, verdict)
            self.cluster.settle()
            time.sleep(self.random.uniform(0.1, 0.5))

    def part(self, victim: Server, verdict: Verdict) -> None:
        """Make a partition, for shorter or longer than the others wait until they choose another leader."""
        how, seconds = self.random.choice(("cut off", "parted", "stopped")), self.random.uniform(0.5, 8.0)
        if victim.host is None or how == "stopped":
            victim.pause()
            time.sleep(seconds / 2)
            victim.go_on()
            verdict.stopped += 1
            return
        if how == "cut off":
            victim.host.cut_off()
            verdict.cut_off += 1
        else:
            victim.host.part_from([each.host for each in self.cluster.servers if each.host and each is not victim])
            verdict.parted += 1
        time.sleep(seconds)
        victim.host.heal()


def drain(control: Control) -> int:
    """Wait until nothing is left, as long as there is any progress; return what is left."""

    def lag() -> int:
        return control.statistics().subscribers[0].lag

    left = lag()

    def is_less() -> bool:
        return lag() < left

    while left and eventually(is_less, DRAIN):
        left = lag()
    return left


def run(
    cluster: Cluster, seed: int, kills: int, partitions: int, queue: str = "storm", seconds: float = float("inf")
) -> Verdict:
    """Run a storm, for so many seconds at most, and judge it."""
    began = time.monotonic()
    verdict = Verdict(seed)
    storm = Storm(cluster, seed, queue)
    publishers = [threading.Thread(target=storm.watched(partial(storm.publish, name))) for name in range(2)]
    consumers = [threading.Thread(target=storm.watched(storm.consume)) for _ in range(2)]
    for thread in (*publishers, *consumers):
        thread.start()
    try:
        storm.disturb(kills, partitions, began + seconds, verdict)
    finally:
        storm.over.set()
        for thread in publishers:
            thread.join()
    with Environment(storm.url) as environment:
        control = environment.open_control()
        verdict.stuck = drain(control)
        storm.drained.set()
        for thread in consumers:
            thread.join()
        storm.errors += [f"check: {found.where}: {found.what}" for found in control.check()]
    got = Counter(payload for payload, _ in storm.handled)
    verdict.confirmed, verdict.unconfirmed = len(storm.confirmed), len(storm.unconfirmed)
    verdict.handled = len(storm.handled)
    verdict.lost = sum(message not in storm.delivered for message in storm.confirmed.items())
    verdict.in_doubt = len(storm.delivered - storm.handled.keys())
    verdict.doubled = sum(count > 1 for count in got.values())
    verdict.redelivered = sum(count - 1 for count in storm.handled.values())
    verdict.seconds = round(time.monotonic() - began, 1)
    verdict.errors, verdict.refusals = storm.errors, dict(storm.refusals)
    return verdict


def in_a_network(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs the storm with these arguments, in a network of its own if there can be one."""
    lacking = network.missing()
    if lacking is not None:
        print(f"partitions are servers that stand still: {lacking}", file=sys.stderr)
    return [
        *([] if lacking else network.command_of_its_own()),
        *(sys.executable, "-m", "tests.jetstream.storm", *arguments),
        *(() if lacking else ("--hosts",)),
    ]


def main() -> int:
    """Run from the command line; the exit status is 1 if anything was lost, doubled or stuck."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--partitions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="disturb no longer than this")
    parser.add_argument("--folder", type=Path, help="where the servers keep what they store")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--hosts", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.alone:
        given_again = [*sys.argv[1:], "--seed", str(given.seed), "--alone"]
        os.execvp((command := in_a_network(given_again))[0], command)
    print(f"seed {given.seed}: {given.kills} kills, {given.partitions} partitions", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        cluster = Cluster(Path(folder), hosts=network.build(3) if given.hosts else None).start()
        try:
            verdict = run(cluster, given.seed, given.kills, given.partitions, seconds=given.seconds)
        finally:
            cluster.stop()
    print(msgspec.json.format(msgspec.json.encode(verdict)).decode())
    return int(verdict.failed)


if __name__ == "__main__":
    raise SystemExit(main())
