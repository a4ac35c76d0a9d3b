"""Three steps, each exactly once in effect, while their workers are killed at random.

A worker stages the input of the next step with ``message.send``; it is published in the very transaction that
acknowledges its own input. So a worker killed at any instant has done both or neither.
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess as Worker
from pathlib import Path

from persipubsub import Durability, Environment, Message, SubscriberSettings

STEPS = ("parse", "score", "label")
TOPICS = ("raw", "parsed", "scored", "labelled")  # of the input of each step, and of the output of the last
WORKERS_PER_STEP = 2
INPUTS_PER_ROUND = 100


def handle(step: int, message: Message[bytes]) -> None:
    """Do a step: write down its name behind those of the steps before it."""
    message.send(message.data + b" " + STEPS[step].encode(), topic=TOPICS[step + 1])


def work(path: Path, step: int) -> None:
    """Work at a step until killed; each step takes its messages in another manner."""
    with Environment(path) as env:
        sub = env.new_subscriber(STEPS[step])
        if step == 0:  # one by one: the end of the block publishes and acknowledges
            while True:
                with sub.receive_message(timeout=None) as message:
                    if message is not None:
                        handle(step, message)
        elif step == 1:  # in a loop: asking for the next one does
            for message in sub.messages():
                handle(step, message)
        while True:  # in batches, each message by hand
            for message in sub.get_many(8, timeout=None):
                handle(step, message)
                message.ack()


def inputs(kill: int) -> list[bytes]:
    """Return what is published before a kill; no two are the same."""
    return [b"%d.%d" % (kill, number) for number in range(INPUTS_PER_ROUND)]


def deploy(env: Environment) -> None:
    """Create the queue: a subscriber for each step, and one for what comes out."""
    names = (*STEPS, "outputs")
    # A message whose worker was killed a hundred times is as good as on the first day.
    subscribers = {
        name: SubscriberSettings(topic_filter=topic, max_deliveries=None)
        for name, topic in zip(names, TOPICS, strict=True)
    }
    env.new_control(subscribers, durability=Durability.PROCESS)


def storm(env: Environment, start: Callable[[int], Worker], kills: int, seed: int) -> Counter[bytes]:
    """Publish inputs, kill a worker a moment later, start another, and so on; return what came out, counted."""
    source = random.Random(seed)
    publisher, outputs = env.new_publisher(), env.new_subscriber("outputs")
    workers = [start(number % len(STEPS)) for number in range(len(STEPS) * WORKERS_PER_STEP)]
    seen: Counter[bytes] = Counter()
    try:
        for kill in range(kills):
            publisher.send_many(inputs(kill), topic="raw")
            moment = time.monotonic() + source.uniform(0, 0.03)
            while (left := moment - time.monotonic()) > 0:
                with outputs.receive_many(100, timeout=left) as payloads:
                    seen.update(payloads)
            victim = source.randrange(len(workers))
            workers[victim].kill()
            workers[victim].join()
            workers[victim] = start(victim % len(STEPS))
        while len(seen) < kills * INPUTS_PER_ROUND and (message := outputs.get(timeout=30)) is not None:
            seen[message.data] += 1
            message.ack()
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    # Whatever is still on its way would come out a second time.
    for step in range(len(STEPS)):
        for message in env.new_subscriber(STEPS[step]).messages(timeout=0):
            handle(step, message)
    for message in outputs.messages(timeout=0):
        seen[message.data] += 1
    return seen


def main() -> int:
    """Run the storm and judge what came out; return the exit status."""
    parser = argparse.ArgumentParser(description="Run the pipeline through a storm and judge what came out.")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["persipubsub"])

    with tempfile.TemporaryDirectory() as folder, Environment(Path(folder) / "queue") as env:
        deploy(env)

        def start(step: int) -> Worker:
            worker = context.Process(target=work, args=(env.path, step))
            worker.start()
            return worker

        seen = storm(env, start, arguments.kills, arguments.seed)
        statistics = env.open_control().statistics()

    suffix = (" " + " ".join(STEPS)).encode()
    expected = {data + suffix for kill in range(arguments.kills) for data in inputs(kill)}
    lost, doubled = expected - seen.keys(), [data for data, count in seen.items() if count > 1]
    redelivered = sum(subscriber.redelivered for subscriber in statistics.subscribers)
    print(f"{len(expected)} inputs, {arguments.kills} workers killed, {redelivered} messages taken over from the dead")
    print(f"{len(lost)} lost, {len(doubled)} doubled, {len(seen.keys() - expected)} unheard of")
    return 0 if expected == seen.keys() and not doubled else 1


if __name__ == "__main__":
    sys.exit(main())
