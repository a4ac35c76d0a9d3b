"""Reading what a queue retains, without a subscriber and without a trace."""

from collections.abc import Iterator

from persipubsub.connection import Connection
from persipubsub.delivery.waiting import WaitingRoom
from persipubsub.engine.messages import Retained
from persipubsub.retained.positions import Position, resolve
from persipubsub.retained.stored import StoredMessage

_PAGE = 64


class RetainedMessage(StoredMessage[Retained]):
    """A message as it stands in the queue, taken by nobody."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<RetainedMessage {self.id}, {len(self.data)} bytes>"


def browse(connection: Connection, start: Position, limit: int | None, follow: bool) -> Iterator[RetainedMessage]:
    """Walk over what is retained from ``start`` on; no transaction is held between the items.

    With ``follow`` wait for what is published next, until ``limit`` or for ever.
    """
    pages = Pages(connection, resolve(connection.engine(), start), limit)
    room = WaitingRoom()
    while not pages.ended:
        found = room.until(pages.next, lambda: connection.engine().waiter(None), None if follow else 0.0)
        if not found:
            return
        yield from found


class Pages:
    """Where somebody is who walks over what is retained."""

    def __init__(self, connection: Connection, position: int, limit: int | None) -> None:
        """Start at ``position``; end after ``limit`` messages."""
        self._connection = connection
        self._position = position
        self._left = limit

    @property
    def ended(self) -> bool:
        """Tell whether the limit is reached."""
        return self._left is not None and self._left <= 0

    def next(self) -> list[RetainedMessage]:
        """Return the next messages, some at a time; an empty list if there are none yet."""
        found = self._connection.engine().browse(
            self._position, _PAGE if self._left is None else min(_PAGE, self._left)
        )
        if found:
            self._position = found[-1].id + 1
            if self._left is not None:
                self._left -= len(found)
        return [RetainedMessage(record) for record in found]
