"""A storm over a relay: it is killed at random, again and again, while messages flow through it.

One thread publishes to the source; another one consumes what arrives in the target, so that nothing stays there to
be looked at. What was consumed must be what the source had: all of it, each once, in order.

``python -m tests.relay.storm --kills 300 --seed 1`` prints the figures for two queues on this machine.
"""

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from persipubsub import Durability, Environment, PersipubsubError
from persipubsub.relay.trail import steps_of
from tests.process.support import BOUND, Child, Here, wait_until
from tests.relay.support import NAME, relay_of

#: Seconds within which everything arrives once the storm is over.
DRAIN = 2 * BOUND
#: A storm through which so few messages flow tells nothing; on a busy machine the kills are over sooner than that.
LEAST = 50


class Verdict(msgspec.Struct):
    """What came of it; ``lost`` and ``doubled`` must be 0, ``ordered`` true."""

    seed: int
    kills: int
    published: int = 0
    arrived: int = 0
    #: Stored twice in the source: a server that is killed forgets the ids of messages that are consumed already, and so
    #: does not recognise what the publisher repeats because it was not confirmed. Not the relay's doing.
    repeated: int = 0
    lost: int = 0
    doubled: int = 0
    ordered: bool = True
    seconds: float = 0.0


def run_relay(here: Here, source: str, target: str, batch: int) -> None:
    """Forward until the end of the process."""
    here.relay = relay_of(source, target, batch=batch, signals=())
    here.tell("runs")
    here.relay.run()


class Storm:
    """One run between two deployed queues; the target has the subscriber ``reader``."""

    def __init__(self, source: str, target: str, seed: int) -> None:
        """Start nothing yet."""
        self.source = source
        self.target = target
        self.seed = seed
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.done = threading.Event()
        self.published = 0
        #: Payload and id in the source of what was consumed, by its id in the target.
        self.arrived: dict[int, tuple[int, int]] = {}

    def publish(self) -> None:
        """Publish numbers until it is over; what was not confirmed is sent again, and stored once."""
        with Environment(self.source) as environment:
            publisher = environment.new_publisher()
            dice = random.Random(self.seed)
            while not self.over.is_set():
                count = dice.randint(1, 40)
                numbers = range(self.published, self.published + count)
                while True:
                    try:
                        for number in numbers:
                            publisher.send(b"%d" % number, deduplication_id=f"storm/{number}")
                            self.published = number + 1
                        break
                    except PersipubsubError:
                        numbers = range(self.published, numbers.stop)
                        self.done.wait(0.05)
                self.over.wait(dice.uniform(0.0, 0.01))

    def consume(self) -> None:
        """Consume until everything is there."""
        with Environment(self.target) as environment:
            subscriber = environment.new_subscriber("reader")
            while not self.done.is_set():
                try:
                    message = subscriber.get(timeout=0.1)
                    if message is not None:
                        self.arrived[message.id] = (int(message.data), steps_of(message.headers)[-1].id)
                        message.ack()
                except PersipubsubError:
                    self.done.wait(0.05)

    def run(self, kills: int, disturb: Callable[[random.Random], None] | None = None, *, least: int = LEAST) -> Verdict:
        """Kill relays, and publish more than ``least``; before each kill ``disturb`` may do something else."""
        began = time.monotonic()
        relay_of(self.source, self.target).prepare()
        threads = [threading.Thread(target=self.publish), threading.Thread(target=self.consume)]
        for thread in threads:
            thread.start()
        child: Child | None = None
        try:
            for _ in range(kills):
                child = self._start()
                time.sleep(self.random.uniform(0.0, 0.15))
                if disturb is not None:
                    disturb(self.random)
                child.kill()
            wait_until(lambda: self.published > least, "messages flow", DRAIN)
            self.over.set()
            threads[0].join()
            child = self._start()
            wait_until(self._all_arrived, "everything arrives", DRAIN)
        finally:
            self.over.set()
            self.done.set()
            for thread in threads:
                thread.join()
            if child is not None:
                child.kill()
        numbers = {number for number, _ in self.arrived.values()}
        ids = [self.arrived[message_id][1] for message_id in sorted(self.arrived)]
        return Verdict(
            seed=self.seed,
            kills=kills,
            published=self.published,
            arrived=len(ids),
            repeated=len(set(ids)) - self.published,
            lost=self.published - len(numbers),
            doubled=len(ids) - len(set(ids)),
            ordered=ids == sorted(ids),
            seconds=round(time.monotonic() - began, 1),
        )

    def _all_arrived(self) -> bool:
        return len({number for number, _ in list(self.arrived.values())}) >= self.published

    def _start(self) -> Child:
        child = Child("forkserver")
        child.start(run_relay, self.source, self.target, self.random.choice([1, 7, 50, 500]))
        child.told()
        return child


def deploy(source: str, target: str, window: float = 0.0) -> None:
    """Deploy two queues; without a ``window`` the target recognises no repetition by itself."""
    with Environment(source) as environment:
        environment.new_control({f"relay/{NAME}"}, durability=Durability.PROCESS).configure_subscriber(
            f"relay/{NAME}", max_deliveries=None
        )
    with Environment(target) as environment:
        environment.new_control({"reader"}, durability=Durability.PROCESS, deduplication_window=window)


def main() -> int:
    """Run from the command line; the exit status is 1 if anything was lost, doubled or out of order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = str(Path(folder) / "source"), str(Path(folder) / "target")
        deploy(source, target)
        verdict = Storm(source, target, given.seed).run(given.kills)
    print(msgspec.json.format(msgspec.json.encode(verdict)).decode())
    return 1 if verdict.lost or verdict.doubled or not verdict.ordered else 0


if __name__ == "__main__":
    raise SystemExit(main())
