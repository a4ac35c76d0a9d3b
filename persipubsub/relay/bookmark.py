"""A subscriber of the target that stands before everything whose fate the relay may not know.

A relay that dies after the target has stored a batch, and before the source knows, sends the batch again. The
deduplication window of the target recognises it only for a while. So before it sends, the relay puts a
subscriber of its own, which takes nothing, at the end of the target: from there on the target keeps all
messages, also those that its other subscribers have consumed. Whoever continues reads from the bookmark on,
and finds by their trails which messages arrived.

While messages flow the bookmark follows them once in a while, and when nothing has come for some time it is
removed: it makes the target keep messages longer than needed for as long as a batch is in doubt, no longer.
"""

import time
from typing import Final

from persipubsub.control import Control
from persipubsub.environment import Environment
from persipubsub.relay.trail import steps_of

PREFIX: Final = "relay-bookmark/"
#: Seconds between two moves.
_FOLLOW: Final = 1.0
#: Seconds without a message after which it is removed.
_REST: Final = 10.0


class Bookmark:
    """The place in the target before which everything is known to the source."""

    def __init__(self, environment: Environment, control: Control, name: str, source: str) -> None:
        """Change nothing yet.

        :param name: of the relay
        :param source: identity of the queue that messages come from
        """
        self._environment = environment
        self._control = control
        self._source = source
        self.identifier = f"{PREFIX}{name}/{source}"
        #: Whether it is there, as far as this process knows.
        self.is_set = False
        self._moved = 0.0

    def arrived(self) -> set[int]:
        """Return the ids, in the source, of the messages that stand behind the bookmark. Reads them all."""
        position = self._position()
        if position is None:
            return set()
        found = set()
        for message in self._environment.browse(position):
            steps = steps_of(message.headers)
            if steps and steps[-1].identity == self._source:
                found.add(steps[-1].id)
        return found

    def find(self) -> None:
        """Find out whether somebody left it here."""
        self._position()

    def _position(self) -> int | None:
        positions = {each.identifier: each.position for each in self._control.statistics().subscribers}
        self.is_set = self.identifier in positions
        return positions.get(self.identifier)

    def put(self) -> None:
        """Let it stand at or before the end of the target; nothing before that may be in doubt."""
        if not self.is_set:
            self._control.add_subscriber(self.identifier, "latest", max_deliveries=None)
            self.is_set = True
            self._moved = time.monotonic()
        elif time.monotonic() - self._moved >= _FOLLOW:
            self.follow()

    def follow(self) -> None:
        """Move it to the end of the target; nothing may be in doubt."""
        if self.is_set:
            with self._environment.new_subscriber(self.identifier) as subscriber:
                subscriber.seek("latest")
            self._moved = time.monotonic()

    def rest(self) -> None:
        """Remove it once nothing has come for a while; nothing may be in doubt."""
        if self.is_set and time.monotonic() - self._moved >= _REST:
            self.remove()

    def remove(self) -> None:
        """Remove it; nothing may be in doubt."""
        if self.is_set:
            self._control.remove_subscriber(self.identifier)
            self.is_set = False
