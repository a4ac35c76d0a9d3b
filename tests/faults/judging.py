"""A queue after a fault: what is in it, whether it is sound, and whether it goes on."""

import dataclasses
import pathlib
import zlib
from typing import Any

from persipubsub import Environment, PersipubsubError
from persipubsub.engine.local import doubt

Snapshot = tuple[Any, ...]
"""Everything that can be said of a queue: counters, messages with their checksums, subscribers."""


@dataclasses.dataclass
class Found:
    """What a queue turned out to be."""

    #: The error with which it was refused.
    refusal: str = ""
    snapshot: Snapshot = ()
    #: What ``check`` said.
    findings: list[str] = dataclasses.field(default_factory=list)
    #: What was wrong when it was used.
    trouble: str = ""


def snapshot(env: Environment) -> Snapshot:
    """Return what is in a queue; nothing is changed."""
    figures = env.open_control().statistics()
    subscribers = tuple(
        (
            one.identifier,
            one.position,
            one.waiting,
            one.leased,
            one.delayed,
            one.dead,
            one.deliveries,
            one.settled,
            one.redelivered,
        )
        for one in sorted(figures.subscribers, key=lambda one: one.identifier)
    )
    messages = tuple((message.id, zlib.crc32(message.data)) for message in env.browse())
    return figures.published, figures.messages, figures.payload_bytes, messages, subscribers


def another_boot() -> None:
    """Let this process believe that the machine was started anew, and that the rebuilt files are the old ones."""
    doubt._is_sealed = lambda path: True
    doubt._boot_id = lambda: "the boot after the power cut"


def look(path: pathlib.Path) -> Found:
    """Open a queue, look at everything, use it, and check it again."""
    found = Found()
    try:
        with Environment(path) as env:
            control = env.open_control()
            found.findings = [f"{finding.where}: {finding.what}" for finding in control.check()]
            found.snapshot = snapshot(env)
            found.trouble = _use(env, found.snapshot)
            found.trouble = found.trouble or "; ".join(map(str, control.check()))
    except PersipubsubError as error:
        found.refusal = f"{type(error).__name__}: {error}"
    return found


def _use(env: Environment, before: Snapshot) -> str:
    """Send one more and take all; return what is wrong with that."""
    data = b"after the power cut"
    sent = env.new_publisher().send(data)
    for identifier, _, waiting, leased, delayed, dead, *_ in before[4]:
        subscriber = env.new_subscriber(identifier)
        taken = subscriber.get_many(waiting + leased + delayed + 1, timeout=0)
        # What its dead owner had for the last time is a dead letter now.
        died = {one.identifier: one.dead for one in env.open_control().statistics().subscribers}[identifier] - dead
        if len(taken) + died < waiting + leased + 1 or taken[-1].id != sent or taken[-1].data != data:
            return f"subscriber {identifier} takes {len(taken)} of {waiting + leased + 1}, after {delayed} delayed"
        if subscriber.ack([message.id for message in taken]) != len(taken):
            return f"subscriber {identifier} cannot settle what it took"
    return ""
