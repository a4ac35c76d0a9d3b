"""Looking at queues, and comparing them."""

import pathlib
from typing import Any

from persipubsub import Environment


def picture(path: pathlib.Path) -> dict[str, Any]:
    """Return what a queue holds and how far its subscribers are, but for counters and leases."""
    with Environment(path) as env, env.open_control() as control:
        assert control.check() == []
        statistics = control.statistics()
        return {
            "messages": [(m.id, m.data, m.headers, m.topic, m.sent) for m in env.browse()],
            "settings": control.settings,
            "subscribers": {
                s.identifier: (s.position, s.lag, s.dead, s.paused, control.subscribers[s.identifier])
                for s in statistics.subscribers
            },
            "dead": {
                name: [
                    (d.id, d.data, d.headers, d.reason, d.died, d.delivery_count) for d in control.dead_letters(name)
                ]
                for name in control.subscriber_ids
            },
        }


def deliveries(path: pathlib.Path, identifier: str) -> list[tuple[int, bytes, int, str | None]]:
    """Take everything that is due for a subscriber, and acknowledge nothing."""
    with Environment(path) as env, env.new_subscriber(identifier) as subscriber:
        found = []
        while (message := subscriber.get(timeout=0)) is not None:
            found.append((message.id, message.data, message.delivery_count, message.last_error))
        return found


def left_over(folder: pathlib.Path) -> list[str]:
    """Return what a folder holds besides the queues and backups that tests put there."""
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("."))
