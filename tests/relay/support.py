"""Pairs of queues, relays that run beside the test, and what arrived."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from persipubsub import Environment, Message
from persipubsub.relay import Relay
from persipubsub.retrying import Backoff
from tests.process.support import BOUND, wait_until

NAME = "uplink"
QUICK = Backoff(first=0.01, longest=0.1)


def relay_of(source: Environment | str | Path, target: Environment | str | Path, **options: Any) -> Relay:
    """Return a relay that does not wait for long."""
    return Relay(source, target, **{"name": NAME, "backoff": QUICK, **options})


def forward(source: Environment | str | Path, target: Environment | str | Path, **options: Any) -> Relay:
    """Forward all that waits, and return the relay."""
    relay = relay_of(source, target, **options)
    relay.run(drain=True)
    return relay


@contextlib.contextmanager
def running(relay: Relay) -> Iterator[Relay]:
    """Let a relay run in a thread of its own; in the end it is stopped, and did not fail."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            relay.run()
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield relay
    finally:
        relay.stop()
        thread.join(BOUND)
    assert not thread.is_alive()
    assert failures == []


def received(environment: Environment, identifier: str = "reader") -> list[Message[bytes]]:
    """Return everything that waits for a subscriber, and settle it."""
    with environment.new_subscriber(identifier) as subscriber, subscriber.messages(timeout=0) as messages:
        return list(messages)


def payloads(environment: Environment, identifier: str = "reader") -> list[bytes]:
    """Return the payloads of everything that waits for a subscriber, and settle it."""
    return [message.data for message in received(environment, identifier)]


def numbered(count: int, start: int = 0) -> list[bytes]:
    """Return payloads that tell their order."""
    return [b"%d" % number for number in range(start, start + count)]


def wait_for(environment: Environment, count: int, identifier: str = "reader") -> list[bytes]:
    """Wait until so many messages came, and return their payloads."""
    found: list[bytes] = []

    def came() -> bool:
        found.extend(payloads(environment, identifier))
        return len(found) >= count

    wait_until(came, f"{count} messages arrive")
    return found


def wait_for_ids(environment: Environment, count: int, identifier: str = "reader") -> list[bytes]:
    """Wait until so many messages came, and return their payloads by ids: a server may deliver some again."""
    found: dict[int, bytes] = {}

    def came() -> bool:
        found.update({message.id: message.data for message in received(environment, identifier)})
        return len(found) >= count

    wait_until(came, f"{count} messages arrive")
    return [found[message_id] for message_id in sorted(found)]


def subscribers(environment: Environment) -> Sequence[str]:
    """Return the identifiers of the subscribers, sorted."""
    return sorted(environment.open_control().subscriber_ids)
