"""What engines log: each event is one record, with fields besides its text, emitted after the commit.

``docs/logging.rst`` lists the events, their levels and their fields.
"""

import logging
from typing import Any, NamedTuple

logger = logging.getLogger("persipubsub")

_LONGEST_REASON = 200


class Event(NamedTuple):
    """A record that is still to be emitted; nothing is formatted before."""

    level: int
    text: str
    arguments: tuple[object, ...]
    fields: dict[str, Any]

    def log(self, queue: object) -> None:
        """Emit it as a line about ``queue``."""
        extra = {"queue": str(queue), **self.fields}
        logger.log(self.level, self.text, queue, *self.arguments, extra=extra)


def pruned_overflow(which: str, messages: int, payload_bytes: int) -> Event:
    """Tell that messages which somebody had yet to settle made room for others."""
    return Event(
        logging.WARNING,
        "Queue %s: the high-water mark is reached, pruned the %s %d messages (%d bytes).",
        (which, messages, payload_bytes),
        {"event": "prune", "cause": "overflow", "messages": messages, "payload_bytes": payload_bytes},
    )


def pruned_consumed(messages: int, payload_bytes: int) -> Event:
    """Tell that a log made room by messages which everybody had consumed."""
    return Event(
        logging.DEBUG,
        "Queue %s: the high-water mark is reached, pruned %d messages that all have consumed (%d bytes).",
        (messages, payload_bytes),
        {"event": "prune", "cause": "consumed", "messages": messages, "payload_bytes": payload_bytes},
    )


def pruned_timeout(messages: int, timeout: float, *, needed: bool) -> Event:
    """Tell that messages grew too old; only if somebody had yet to settle one of them it is news."""
    return Event(
        logging.INFO if needed else logging.DEBUG,
        "Queue %s: pruned %d messages older than %g s.",
        (messages, timeout),
        {"event": "prune", "cause": "timeout", "messages": messages, "message_timeout": timeout},
    )


def took_over(subscriber: str, pid: int, command: str, messages: int) -> Event:
    """Tell that a process died which held messages, and that they are delivered again."""
    return Event(
        logging.INFO,
        "Queue %s: subscriber %r took over %d messages of process %d (%s), which died.",
        (subscriber, messages, pid, command),
        {
            "event": "takeover",
            "subscriber": subscriber,
            "messages": messages,
            "owner_pid": pid,
            "owner_command": command,
        },
    )


def dead_letter(subscriber: str, message_id: int, deliveries: int, reason: str) -> Event:
    """Tell that a subscriber gave a message up."""
    reason = reason[:_LONGEST_REASON]
    return Event(
        logging.WARNING,
        "Queue %s: message %d of subscriber %r is a dead letter after %d deliveries: %s.",
        (message_id, subscriber, deliveries, reason),
        {
            "event": "dead_letter",
            "subscriber": subscriber,
            "message_id": message_id,
            "deliveries": deliveries,
            "reason": reason,
        },
    )


def grew(before: int, after: int) -> Event:
    """Tell that the map got more address space."""
    return Event(
        logging.INFO,
        "Queue %s: the map was full and has grown from %d to %d bytes.",
        (before, after),
        {"event": "growth", "map_bytes_before": before, "map_bytes": after},
    )


def unrouted() -> Event:
    """Tell, once in the life of a queue, that a message came and nobody was there to want it."""
    return Event(
        logging.WARNING,
        "Queue %s: a message was sent, but there are no subscribers; such messages are counted and not kept.",
        (),
        {"event": "unrouted"},
    )
