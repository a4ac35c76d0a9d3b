"""Records what threads and processes do with one subscriber, by random schedules."""

import pathlib
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from persipubsub import Durability, Environment, LeaseLostError, Message
from tests.crash import linear, planted
from tests.crash.linear import Operation
from tests.process.support import BOUND, Child, Here

THREADS = 2


class Client:
    """One thread, which notes every call."""

    def __init__(self, env: Environment, name: str, seed: int) -> None:
        self.history: list[Operation] = []
        self._pub = env.new_publisher()
        self._sub = env.new_subscriber("sub")
        self._name = name
        self._source = random.Random(seed)
        self._held: list[Message[bytes]] = []
        self._known = 1

    def act(self, number: int) -> None:
        """Do so many random things."""
        for _ in range(number):
            dice = self._source.random()
            if dice < 0.35:
                self._send(1 if self._source.random() < 0.7 else self._source.randrange(2, 5))
            elif dice < 0.65:
                self._take(1 if self._source.random() < 0.7 else self._source.randrange(2, 5))
            elif dice < 0.72:
                self._settle(max(1, self._known - self._source.randrange(20)))
            elif self._held:
                message = self._held.pop(self._source.randrange(len(self._held)))
                self._end(message, linear.ACK if self._source.random() < 0.6 else linear.NACK)

    def _note(self, began: int, kind: str, asked: Any, given: Any) -> None:
        self.history.append(Operation(began, time.monotonic_ns(), kind, asked, given, self._name))

    def _send(self, number: int) -> None:
        began = time.monotonic_ns()
        ids = list(self._pub.send_many([b"x"] * number)) if number > 1 else [self._pub.send(b"x")]
        self._note(began, linear.SEND, number, ids)
        self._known = ids[-1]

    def _take(self, most: int) -> None:
        began = time.monotonic_ns()
        messages = self._sub.get_many(most, timeout=0)
        self._note(began, linear.TAKE, most, [(message.id, message.delivery_count) for message in messages])
        self._held += messages

    def _settle(self, message_id: int) -> None:
        began = time.monotonic_ns()
        self._note(began, linear.SETTLE, message_id, self._sub.ack(message_id))

    def _end(self, message: Message[bytes], kind: str) -> None:
        began = time.monotonic_ns()
        try:
            if kind == linear.ACK:
                message.ack()
            else:
                message.nack()
            given = linear.OK
        except LeaseLostError:
            given = linear.LOST
        self._note(began, kind, (message.id, message.delivery_count), given)


def open_queue(here: Here, path: pathlib.Path, bugs: Sequence[str]) -> None:
    """Open the queue."""
    for bug in bugs:
        planted.plant(bug)
    here.env = Environment(path)
    here.env.new_subscriber("sub").close()


def act(here: Here, seed: int, number: int) -> list[Operation]:
    """Let threads act side by side, and return what they did."""
    clients = [Client(here.env, f"{seed}.{index}", seed * THREADS + index) for index in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        for acting in [pool.submit(client.act, number) for client in clients]:
            acting.result(BOUND)
    here.clients = clients  # what they hold is not given back before the history is over
    return [operation for client in clients for operation in client.history]


def deploy(path: pathlib.Path, durability: Durability) -> None:
    """Deploy a queue for one history."""
    with Environment(path) as env:
        env.new_control({"sub"}, durability=durability).configure_subscriber("sub", max_deliveries=None)


def record(
    children: Sequence[Child], path: pathlib.Path, seed: int, number: int, bugs: Sequence[str] = ()
) -> list[Operation]:
    """Record a history on a new queue: ``number`` operations of each thread."""
    for child in children:
        child.do(open_queue, path, list(bugs))
    for index, child in enumerate(children):
        child.start(act, seed * len(children) + index, number)
    return [operation for child in children for operation in child.returned(2 * BOUND)]


def close(here: Here) -> None:
    """Close the queue."""
    here.env.close()
