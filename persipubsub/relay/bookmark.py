"""A subscriber of the target that stands before everything whose fate the relay may not know.

A relay that dies after the target has stored a batch, and before the source knows, sends the batch again. The
deduplication window of the target recognises it only for a while. So before it sends, the relay puts a
subscriber of its own, which takes nothing, at the end of the target: from there on the target keeps all
messages, also those that its other subscribers have consumed. Whoever continues reads from the bookmark on,
and finds by their trails which messages arrived.

While messages flow the bookmark follows them, some seconds behind: a server that is killed may forget the last
acknowledgements that it has confirmed, and the source then delivers what was settled. When nothing has come for
some time the bookmark is removed. So it makes the target keep messages for some seconds longer, and for as long as
a batch is in doubt.
"""

import time
from typing import Final

from persipubsub.control import Control
from persipubsub.environment import Environment
from persipubsub.errors import PositionError
from persipubsub.relay.trail import steps_of
from persipubsub.retained.positions import Position

PREFIX: Final = "relay-bookmark/"
#: Seconds between two moves.
_FOLLOW: Final = 2.0
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
        #: Whether another relay of this name may have removed it: nothing was in doubt for a while.
        self._unsure = False
        #: Where it may be moved to the next time, and the time after.
        self._behind: int | None = None
        self._end: int | None = None

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
        self._unsure = False
        return positions.get(self.identifier)

    def put(self) -> None:
        """Let it stand some seconds before the end of the target; nothing that was sent may be in doubt."""
        now = time.monotonic()
        if self._unsure:
            self.find()
        if not self.is_set:
            self._control.add_subscriber(self.identifier, "latest", max_deliveries=None)
            self.is_set = True
            self._moved = now
        elif now - self._moved >= _FOLLOW:
            if self._behind is not None:
                self._seek(self._behind)
            self._moved, self._behind = now, self._end

    def sent(self, last_id: int) -> None:
        """Note the id, in the target, of the last message sent."""
        self._end = max(self._end or 0, last_id + 1)

    def follow(self) -> None:
        """Move it to the end of the target, to make room there; nothing may be in doubt."""
        if self.is_set:
            self._seek("latest")
            self._moved, self._behind = time.monotonic(), None

    def _seek(self, position: Position) -> None:
        with self._environment.new_subscriber(self.identifier) as subscriber:
            try:
                subscriber.seek(position)
            except PositionError:
                # A limit has taken what stood there.
                subscriber.seek("latest")

    def rest(self) -> None:
        """Remove it once nothing has come for a while; nothing may be in doubt, for others of this name, either."""
        self._unsure = True
        if self.is_set and time.monotonic() - self._moved >= _REST:
            self.remove()

    def remove(self) -> None:
        """Remove it; nothing may be in doubt."""
        if self.is_set:
            self._control.remove_subscriber(self.identifier)
            self.is_set = False
            self._behind = self._end = None
