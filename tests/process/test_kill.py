"""Processes killed at random moments: what was sent arrives, and nothing has two owners at once."""

import collections
import itertools
import os
import pathlib
import random
import time
from collections.abc import Callable, Iterator

import pytest
from lmdb import verify

from persipubsub import Control, Durability, Environment, HighWaterMark, Strategy
from tests.process import support
from tests.process.support import BOUND, Child, Children, Here

SUBSCRIBERS = ("left", "right")
#: Publishers wait when so many messages are stored: consumers keep up, and publishers die waiting, too.
MOST = 300


def _open_log(path: pathlib.Path) -> Callable[[str], None]:
    """Return what appends a line at once, in one piece."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(line: str) -> None:
        os.write(descriptor, (line + "\n").encode())

    return write


# -- what the processes do ------------------------------------------------------------------------------


def publish(here: Here, path: pathlib.Path, log_path: pathlib.Path, seed: int) -> None:
    log, source = _open_log(log_path), random.Random(seed)
    with Environment(path) as env:
        pub = env.new_publisher()
        for number in itertools.count():
            if source.random() < 0.8:
                name = f"{seed}.{number}"
                # Some are read outside the transaction that takes them.
                padding = 70_000 if source.random() < 0.02 else source.randrange(200)
                pub.send(f"{name} ".encode() + bytes(padding))
                log(f"sent {name}")
            else:
                names = [f"{seed}.{number}.{index}" for index in range(source.randrange(1, 20))]
                pub.send_many([f"{name} ".encode() for name in names])
                log("\n".join(f"sent {name}" for name in names))


def consume(here: Here, path: pathlib.Path, identifier: str, log_path: pathlib.Path, seed: int) -> None:
    """Consume in every manner; the log tells from when to when a message was surely held."""
    log, source = _open_log(log_path), random.Random(seed)

    def took(data: bytes) -> str:
        name = data.partition(b" ")[0].decode()
        log(f"took {name} {time.monotonic_ns()} {seed}")
        return name

    def ends(name: str) -> None:
        log(f"ends {name} {time.monotonic_ns()} {seed}")

    with Environment(path) as env:
        sub = env.new_subscriber(identifier)
        while True:
            manner = source.randrange(5)
            if manner == 0:
                with sub.receive(timeout=1) as data:
                    if data is not None:
                        name = took(data)
                        ends(name)
                if data is not None:
                    log(f"done {name} {time.monotonic_ns()} {seed}")
            elif manner == 1:
                message = sub.get(timeout=1)
                if message is not None:
                    name = took(message.data)
                    ends(name)
                    message.nack(reason="not now")
            elif manner == 2:
                messages = sub.get_many(source.randrange(1, 30), timeout=1)
                names = [took(message.data) for message in messages]
                for name, message in zip(names, messages, strict=True):
                    ends(name)
                    message.ack()
                    log(f"done {name} {time.monotonic_ns()} {seed}")
            else:
                with sub.messages(batch=source.randrange(1, 30), timeout=1) as loop:
                    for message in itertools.islice(loop, source.randrange(1, 60)):
                        ends(took(message.data))


# -- what must have been so -------------------------------------------------------------------------------


def lines(path: pathlib.Path) -> Iterator[list[str]]:
    if path.exists():
        with open(path, encoding="utf-8") as stream:
            for line in stream:
                yield line.split()


def judge(sent: set[str], log_path: pathlib.Path, killed_ns: dict[str, int]) -> None:
    """Look through the log of one subscriber."""
    spans: dict[str, list[tuple[int, int, str]]] = collections.defaultdict(list)
    open_spans: dict[tuple[str, str], int] = {}
    done: dict[str, int] = {}
    for kind, name, moment, owner in lines(log_path):
        if kind == "took":
            open_spans[owner, name] = int(moment)
        elif kind == "ends":
            spans[name].append((open_spans.pop((owner, name)), int(moment), owner))
        else:
            done[name] = int(moment)
    for (owner, name), began in open_spans.items():
        # Its owner lived, and held it, until it was killed.
        spans[name].append((began, max(began, killed_ns[owner]), owner))
    assert sent <= spans.keys(), f"never delivered: {sorted(sent - spans.keys())[:10]}"
    for name, held in spans.items():
        held.sort()
        for before, after in itertools.pairwise(held):
            assert before[1] <= after[0], f"{name} had two owners at once: {before} {after}"
        if name in done:
            assert held[-1][0] <= done[name], f"{name} was delivered after its acknowledgement: {held} {done[name]}"


class Storm:
    """Publishers and consumers, and someone who kills them."""

    def __init__(self, children: Children, path: pathlib.Path, folder: pathlib.Path, seed: int) -> None:
        self._children = children
        self._path = path
        self._folder = folder
        self._source = random.Random(seed)
        self._seeds = itertools.count()
        self._roles = [("publish", "")] * 3 + [("consume", identifier) for identifier in SUBSCRIBERS * 2]
        self._now: list[tuple[Child, str]] = [self._begin(role) for role in self._roles]
        self.killed_ns: dict[str, int] = {}

    def log_of(self, identifier: str) -> pathlib.Path:
        return self._folder / f"log.{identifier}"

    def _begin(self, role: tuple[str, str]) -> tuple[Child, str]:
        seed = next(self._seeds)
        child = self._children.new("forkserver")
        if role[0] == "publish":
            child.start(publish, self._path, self.log_of(""), seed)
        else:
            child.start(consume, self._path, role[1], self.log_of(role[1]), seed)
        return child, str(seed)

    def _progress(self) -> int:
        logs = (self.log_of(identifier) for identifier in ("", *SUBSCRIBERS))
        return sum(log.stat().st_size for log in logs if log.exists())

    def kill_one(self) -> None:
        # It may have only begun, or be in the middle of anything.
        goal = self._progress() + self._source.choice((0, 100, 1000, 4000, 10_000)) * self._source.random()
        support.wait_until(lambda: self._progress() >= goal, "the storm gets on")
        index = self._source.randrange(len(self._roles))
        self._kill(index)
        self._now[index] = self._begin(self._roles[index])

    def _kill(self, index: int) -> None:
        child, seed = self._now[index]
        assert child.is_busy(), f"a process came to an end: {child.returned()}"
        self.killed_ns[seed] = time.monotonic_ns()
        child.kill()

    def kill_role(self, role: str) -> None:
        for index, (what, _) in enumerate(self._roles):
            if what == role:
                self._kill(index)


def drained(control: Control) -> bool:
    return all(subscriber.lag == 0 for subscriber in control.statistics().subscribers)


@pytest.mark.parametrize(
    ("durability", "kills"), [(Durability.PROCESS, 150), (Durability.COMMIT, 40), (Durability.FULL, 40)]
)
def test_kill_storm(tmp_path: pathlib.Path, children: Children, durability: Durability, kills: int) -> None:
    path = tmp_path / "queue"
    with Environment(path) as env:
        control = env.new_control(
            SUBSCRIBERS,
            HighWaterMark(max_messages=MOST),
            Strategy.BLOCK,
            durability=durability,
        )
        # What is killed again and again in the same hands shall not die here.
        for identifier in SUBSCRIBERS:
            control.configure_subscriber(identifier, max_deliveries=None)
        storm = Storm(children, path, tmp_path, seed=kills)
        for number in range(1, kills + 1):
            storm.kill_one()
            if number % 10 == 0:
                assert control.check() == []
        storm.kill_role("publish")
        support.wait_until(lambda: drained(control), "the consumers are done", 2 * BOUND)
        storm.kill_role("consume")

        sent = {name for _, name in lines(storm.log_of(""))}
        assert len(sent) > kills
        for identifier in SUBSCRIBERS:
            judge(sent, storm.log_of(identifier), storm.killed_ns)
        assert control.check() == []
        figures = control.statistics()
        assert figures.published >= len(sent)
        assert (figures.messages, figures.payload_bytes, figures.pruned_overflow) == (0, 0, 0)
        for subscriber in figures.subscribers:
            assert (subscriber.settled, subscriber.lost, subscriber.dead) == (figures.published, 0, 0)
            assert subscriber.deliveries - subscriber.redelivered == subscriber.settled
        # Nothing stays behind of those who died.
        env.new_publisher().send(b"last")
        for identifier in SUBSCRIBERS:
            message = env.new_subscriber(identifier).get(timeout=0)
            assert message is not None
            assert (message.data, message.delivery_count) == (b"last", 1)
            message.ack()
    assert verify.verify(str(path)) == []  # type: ignore[no-untyped-call]
    support.assert_sound(path)
