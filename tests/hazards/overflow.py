"""Publishers that overflow a queue: every message is delivered or counted as lost, for each subscriber."""

import logging
import pathlib
import random

from persipubsub import Environment, HighWaterMark, Strategy, SubscriberSettings
from tests.hazards.trials import Trial
from tests.process.support import BOUND, Here

PUBLISHERS, MESSAGES, MOST = 2, 400, 50


def publish(here: Here, path: pathlib.Path, seed: int) -> None:
    """Publish one by one and in batches."""
    logging.disable(logging.WARNING)  # it is told of every overflow
    source, left = random.Random(seed), MESSAGES
    with Environment(path) as env:
        pub = env.new_publisher()
        while left:
            number = min(left, source.randrange(1, 20))
            pub.send_many([b"x" * source.randrange(200)] * number)
            left -= number


def consume(here: Here, path: pathlib.Path, identifier: str, seed: int) -> tuple[list[int], int]:
    """Take until it is over and nothing is left; return the ids, and how many messages were said to be missed."""
    source, ids, missed = random.Random(seed), list[int](), 0
    over = path.with_name("over")
    with Environment(path) as env:
        sub = env.new_subscriber(identifier)
        here.tell("ready")
        while True:
            is_over = over.exists()
            messages = sub.get_many(source.randrange(1, 9), timeout=0)
            for message in messages:
                ids.append(message.id)
                missed += message.missed
                message.ack()
            if is_over and not messages:
                return ids, missed


def storm(trial: Trial) -> None:
    """Publish faster than the subscribers take, where the oldest have to go; account for every message."""
    names = ("first", "second", "idle")
    with Environment(trial.path) as env:
        env.new_control(
            {name: SubscriberSettings(max_deliveries=None) for name in names},
            HighWaterMark(max_messages=MOST),
            strategy=Strategy.PRUNE_FIRST,
            durability=trial.durability,
        )
    consumers = {name: trial.child() for name in names[:-1]}
    publishers = [trial.child() for _ in range(PUBLISHERS)]
    for name, child in consumers.items():
        child.start(consume, trial.path, name, trial.source.randrange(1 << 30))
        child.told()
    for child in publishers:
        child.start(publish, trial.path, trial.source.randrange(1 << 30))
    for child in publishers:
        child.returned(2 * BOUND)
    trial.path.with_name("over").touch()
    came = {name: child.returned() for name, child in consumers.items()}
    with Environment(trial.path) as env:
        came["idle"] = ([message.id for message in env.new_subscriber("idle").messages(timeout=0)], -1)
        figures = env.open_control().statistics()
    trial.expect(figures.published == PUBLISHERS * MESSAGES, f"{figures.published} were published")
    for each in figures.subscribers:
        ids, missed = came[each.identifier]
        trial.expect(ids == sorted(set(ids)), f"{each.identifier}: out of order, or twice")
        lost = each.lost or 0
        # What is taken away while somebody holds it was delivered, and counts as lost.
        trial.expect(
            each.settled + lost == figures.published and len(ids) >= each.settled,
            f"{each.identifier}: {len(ids)} came, {lost} lost, {each.settled} settled of {figures.published}",
        )
        trial.expect(missed <= lost, f"{each.identifier}: told of {missed} missed, lost {lost}")
        trial.add("lost", lost)
        trial.add("settled", each.settled)
    trial.tries += figures.published
    trial.check()
