"""Queues to be watched, and what stands in for them."""

import threading
from pathlib import Path
from typing import Any

from persipubsub import Durability, Environment
from persipubsub.engine.figures import OwnerStatistics, Statistics, SubscriberStatistics
from persipubsub.watch.source import Source


def subscriber(identifier: str = "a", **figures: Any) -> SubscriberStatistics:
    """Return figures of a subscriber that has nothing to do, but for those given."""
    nothing: dict[str, Any] = {
        "position": 1, "waiting": 0, "leased": 0, "delayed": 0, "dead": 0, "deliveries": 0, "settled": 0,
        "redelivered": 0, "lost": 0, "expired": 0, "paused": False, "last_taken_ns": None, "last_settled_ns": None,
    }  # fmt: skip
    return SubscriberStatistics(identifier=identifier, **{**nothing, **figures})


def statistics(*subscribers: SubscriberStatistics, **figures: Any) -> Statistics:
    """Return figures of an empty queue, but for those given."""
    nothing: dict[str, Any] = {
        "identity": "one", "created_ns": 0, "messages": 0, "payload_bytes": 0, "file_bytes": 4096, "first_id": None,
        "last_id": None, "oldest_age": None, "published": 0, "deduplicated": 0, "unrouted": 0, "pruned_overflow": 0,
        "pruned_timeout": 0,
    }  # fmt: skip
    return Statistics(subscribers=subscribers, **{**nothing, **figures})


class Stuck(Source):
    """A queue that gives no answer until it is let go."""

    def __init__(self, name: str = "stuck") -> None:
        super().__init__(name, Path("/nowhere"))
        self.go_on = threading.Event()

    def read(self) -> Statistics:
        self.go_on.wait(60)
        return statistics()


class Elsewhere(Source):
    """A queue whose only consumer runs in another container."""

    def __init__(self, name: str = "remote") -> None:
        super().__init__(name, Path("/nowhere"))

    def read(self) -> Statistics:
        owner = OwnerStatistics(pid=1, command="python worker.py", since_ns=0, leased=1, elsewhere=True)
        return statistics(subscriber("worker", leased=1, owners=(owner,)))


def fill(path: Path) -> None:
    """Deploy a queue: 5 messages, of which ``worker`` has one dead and one leased away, and ``idle`` has all."""
    with Environment(path) as environment:
        environment.new_control(subscriber_ids={"worker", "idle"}, durability=Durability.PROCESS)
        publisher = environment.new_publisher()
        publisher.send(b'{"order": 1}', topic="shop.orders", headers={"trace": "abc"})
        publisher.send(b"plain text")
        publisher.send(bytes(range(64)))
        publisher.send(b"<img src=x onerror=alert(1)>")
        publisher.send(b"last")
        worker = environment.new_subscriber("worker")
        for reason in ("card declined", "<b>bold</b>"):
            message = worker.get(timeout=0)
            assert message is not None
            message.reject(reason)
        message = worker.get(timeout=0)
        assert message is not None
        message.ack()
