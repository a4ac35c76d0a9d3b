"""The end of a relay that stores messages, each once."""

import time
from collections.abc import Sequence
from typing import Final

from persipubsub.control import Control
from persipubsub.errors import QueueError
from persipubsub.limits import Retention
from persipubsub.message import Draft, Message
from persipubsub.publisher import Publisher
from persipubsub.relay import bookmark
from persipubsub.relay.bookmark import Bookmark
from persipubsub.relay.endpoint import Endpoint
from persipubsub.relay.outgoing import Outgoing

#: Seconds between two looks whether somebody reads the target.
_LOOK_EVERY: Final = 1.0


class Target:
    """A publisher, and what tells which messages have arrived."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Open nothing yet."""
        self.endpoint = endpoint
        self.identity = ""
        self._control: Control | None = None
        self._publisher: Publisher | None = None
        self._bookmark: Bookmark | None = None
        #: Ids of messages that arrived, though the source may not know.
        self._arrived: set[int] = set()
        #: Whether something was sent of which the source does not know yet.
        self._in_doubt = True
        self._looked = 0.0

    @property
    def is_open(self) -> bool:
        """Tell whether messages can be sent."""
        return self._publisher is not None

    @property
    def is_marked(self) -> bool:
        """Tell whether there is a bookmark to look after."""
        return self._bookmark is not None and self._bookmark.is_set

    def open(self) -> None:
        """Open the queue."""
        environment, self._control = self.endpoint.open()
        self.identity = self._control.statistics().identity
        self._publisher = environment.new_publisher()
        self._in_doubt = True
        self._looked = 0.0
        self._environment = environment

    def expect(self, name: str, source: str) -> None:
        """Get ready for the messages of a source: those of a relay of this name."""
        if self._control is not None:
            self._bookmark = Bookmark(self._environment, self._control, name, source)
            self._in_doubt = True

    def close(self) -> None:
        """Let go of the queue."""
        self._publisher = self._control = self._bookmark = None
        self.endpoint.close()

    def prepare(self) -> None:
        """Find out what has arrived, if that is in doubt, and set the bookmark; before messages are sent.

        :raise QueueError: nobody would keep what is sent
        """
        if self._in_doubt:
            self._arrived = self._mark().arrived()
            self._in_doubt = False
        if not self._arrived:
            self._mark().put()
        if time.monotonic() - self._looked >= _LOOK_EVERY:
            self._check_readers()
            self._looked = time.monotonic()

    def recheck(self) -> None:
        """Look once more what has arrived, before the next messages are sent."""
        self._in_doubt = True

    def outgoing(self, messages: Sequence[Message[bytes]], source: str) -> Outgoing:
        """Return what is to be sent of messages."""
        return Outgoing(messages, source, self.identity, self._arrived)

    def send(self, drafts: Sequence[Draft], timeout: float) -> None:
        """Store messages in one transaction.

        :raise MessageError: one of them cannot be taken; nothing was stored
        :raise QueueFullError: there is no room; nothing was stored
        """
        if self._publisher is not None and drafts:
            self._in_doubt = True
            self._mark().sent(max(self._publisher.send_many(drafts, timeout=timeout)))

    def refused(self) -> None:
        """Note that nothing of what was sent last has been stored."""
        self._in_doubt = False

    def confirmed(self, last: bool) -> None:
        """Note that the source knows of all that was sent.

        :param last: whether this was the last part of all that may have been in doubt
        """
        self._in_doubt = False
        if last:
            self._arrived.clear()

    def make_room(self) -> None:
        """Let the target drop what only the bookmark kept."""
        if not self._arrived and not self._in_doubt:
            self._mark().follow()

    def rest(self) -> None:
        """Leave the target alone after a while without messages; nobody holds anything that may be in doubt."""
        if self._in_doubt:
            self._mark().find()
            self._in_doubt = False
        self._arrived.clear()
        self._mark().rest()

    def leave(self) -> None:
        """Leave nothing behind in the target, at the end."""
        if self._bookmark is not None and not self._arrived and not self._in_doubt:
            self._bookmark.remove()

    def _mark(self) -> Bookmark:
        if self._bookmark is None:
            raise RuntimeError("The target is not open.")
        return self._bookmark

    def _check_readers(self) -> None:
        """Send nothing into a queue that drops it at once."""
        control = self._control
        if control is None or control.settings.retention is Retention.LOG:
            return
        if all(each.startswith(bookmark.PREFIX) for each in control.subscriber_ids):
            raise QueueError(
                f"The queue at {self.endpoint.location} has no subscriber and is no log: it would drop what is relayed "
                "to it. Add a subscriber (`persipubsub subscribers add`); the relay waits for one."
            )
