"""What the processes of a storm do, for ever, and write into their journals."""

import itertools
import pathlib
import random
import time
from collections.abc import Callable, Sequence

from persipubsub import Environment, Message, Subscriber
from tests.crash import failpoints, planted
from tests.crash.journal import Journal
from tests.process.support import Here

#: What a queue of a storm is called, and the folder of the journals beside it.
QUEUE, JOURNALS = "queue", "journals"
#: Larger messages are read outside the transaction that takes them.
_LARGE = 70_000

Fault = tuple[str, int] | None
"""The name of a failpoint, and which time it is reached."""


def payload_of(name: str) -> bytes:
    """Return what a message is to contain; the name ends with its size."""
    return f"{name} ".encode() + random.Random(name).randbytes(int(name.rpartition(".")[2]))


def enter(folder: pathlib.Path, process: str, seed: int, fault: Fault, bugs: Sequence[str]) -> Journal:
    """Begin a journal, and make ready what is to go wrong."""
    journal = Journal(folder / JOURNALS, process)
    for bug in bugs:
        planted.plant(bug)
    if fault is not None:
        name, nth = fault
        failpoints.arm(name, nth, seed, lambda: journal.write("dying", at=name))
    return journal


# -- publishing -----------------------------------------------------------------------------------------


def publisher(
    here: Here,
    folder: pathlib.Path,
    process: str,
    seed: int,
    fault: Fault,
    bugs: Sequence[str],
    most: int,
    batch: int,
    batches: float,
) -> None:
    """Send for ever; ``most``: bytes of most messages; in ``batches`` of all sends there are fewer than ``batch``."""
    journal, source = enter(folder, process, seed, fault, bugs), random.Random(seed)
    with Environment(folder / QUEUE) as env:
        pub = env.new_publisher()
        for number in itertools.count():
            many = source.randrange(1, batch) if source.random() < batches else 1
            sizes = [_LARGE if source.random() < 0.02 else source.randrange(most) for _ in range(many)]
            names = [f"{process}.{number}.{index}.{size}" for index, size in enumerate(sizes)]
            journal.write("trying", names=names)
            if many == 1:
                ids: Sequence[int] = [pub.send(payload_of(names[0]))]
            else:
                ids = pub.send_many([payload_of(name) for name in names])
            journal.write("sent", messages=list(zip(names, ids, strict=True)))


# -- consuming ------------------------------------------------------------------------------------------

Taking = Callable[["Consumer", Subscriber[bytes]], None]


class Consumer:
    """Notes what a consumer does."""

    def __init__(self, journal: Journal, source: random.Random) -> None:
        self._journal = journal
        self.source = source

    def took(self, since: int, messages: Sequence[Message[bytes]]) -> list[int]:
        """Note what a take gave; returns the ids."""
        facts = []
        for message in messages:
            name = message.data.partition(b" ")[0].decode()
            facts.append([name, message.id, message.delivery_count])
            if message.data != payload_of(name):
                self._journal.write("damaged", id=message.id)
        if facts:
            self._journal.write("took", since=since, messages=facts)
        return [message.id for message in messages]

    def ending(self, how: str, ids: Sequence[int]) -> None:
        """Note that takes are about to be settled or given back."""
        if ids:
            self._journal.write("ending", how=how, ids=list(ids))

    def ended(self, how: str, ids: Sequence[int]) -> None:
        """Note that this has returned."""
        if ids:
            self._journal.write("ended", how=how, ids=list(ids))


class GivenBackError(Exception):
    """Leaves a block, so that the message is given back."""


def one_by_one(consumer: Consumer, sub: Subscriber[bytes]) -> None:
    """Take single messages, in a block or by hand; give some back."""
    source, since = consumer.source, time.monotonic_ns()
    how = "nack" if source.random() < 0.2 else "ack"
    if source.random() < 0.5:
        ids: list[int] = []
        try:
            with sub.receive_message(timeout=1) as message:
                ids = consumer.took(since, [message] if message else [])
                consumer.ending(how, ids)
                if how == "nack":
                    raise GivenBackError
        except GivenBackError:
            pass
        consumer.ended(how, ids)
        return
    message = sub.get(timeout=1)
    if message is not None:
        ids = consumer.took(since, [message])
        consumer.ending(how, ids)
        if how == "ack":
            message.ack()
        else:
            message.nack(reason="not now")
        consumer.ended(how, ids)


def many_at_once(consumer: Consumer, sub: Subscriber[bytes]) -> None:
    """Take several messages at once, and settle them one by one."""
    since = time.monotonic_ns()
    messages = sub.get_many(consumer.source.randrange(1, 30), timeout=1)
    ids = consumer.took(since, messages)
    for message_id, message in zip(ids, messages, strict=True):
        consumer.ending("ack", [message_id])
        message.ack()
        consumer.ended("ack", [message_id])


def in_a_loop(consumer: Consumer, sub: Subscriber[bytes]) -> None:
    """Take batches, and be handed one message after another; leave the loop somewhere."""
    since, handled = time.monotonic_ns(), []
    with sub.messages(batch=consumer.source.randrange(1, 30), timeout=1) as loop:
        for message in itertools.islice(loop, consumer.source.randrange(1, 60)):
            ids = consumer.took(since, [message])
            consumer.ending("ack", ids)
            handled += ids
            since = time.monotonic_ns()
    # Leaving the loop gave the last one back.
    consumer.ended("ack", handled[:-1])


#: Subscriber, how its consumers take, and whether every first delivery has to come in order: what was
#: taken for a loop and never handed over comes "for the first time" once more.
SUBSCRIBERS: dict[str, tuple[Taking, bool]] = {
    "one": (one_by_one, True),
    "many": (many_at_once, True),
    "loop": (in_a_loop, False),
}


def consumer(
    here: Here, folder: pathlib.Path, process: str, seed: int, fault: Fault, bugs: Sequence[str], identifier: str
) -> None:
    """Consume for ever."""
    journal, source = enter(folder, process, seed, fault, bugs), random.Random(seed)
    taking, order = SUBSCRIBERS[identifier]
    journal.write("consuming", subscriber=identifier, order=order)
    noting = Consumer(journal, source)
    with Environment(folder / QUEUE) as env:
        sub = env.new_subscriber(identifier)
        while True:
            taking(noting, sub)


# -- changing the queue ---------------------------------------------------------------------------------


def remove_guests(env: Environment) -> None:
    """Remove every subscriber that is not one of ours."""
    control = env.open_control()
    for identifier in sorted(control.subscriber_ids - SUBSCRIBERS.keys()):
        control.remove_subscriber(identifier)


def admin(here: Here, folder: pathlib.Path, process: str, seed: int, fault: Fault, bugs: Sequence[str]) -> None:
    """Add and remove subscribers, prune and look, for ever."""
    enter(folder, process, seed, fault, bugs)
    source = random.Random(seed)
    with Environment(folder / QUEUE) as env:
        remove_guests(env)
        control = env.open_control()
        for number in itertools.count():
            identifier = f"guest-{process}-{number}"
            control.add_subscriber(identifier, start=source.choice(["first", "latest"]))
            with env.new_subscriber(identifier) as sub:
                for _ in range(source.randrange(5)):
                    with sub.receive(timeout=0.01):
                        pass
            control.statistics()
            control.prune_dangling_messages()
            control.remove_subscriber(identifier)


#: What each role does.
STEPS: dict[str, Callable[..., None]] = {
    "publisher": publisher,
    "grower": publisher,
    "consumer": consumer,
    "admin": admin,
}
