"""Which of the stored messages are there.

What limits took in large numbers is gone at once, but its records are deleted little by little: until then their ids
lie in a range of ``State.doomed``. Whoever reads messages passes them by what is here.
"""

import pathlib

from persipubsub.engine.local import format
from persipubsub.engine.local.format import State, pack_id, unpack_id
from persipubsub.engine.local.work import Database, Work
from persipubsub.errors import QueueDamagedError


def is_doomed(state: State, message_id: int) -> bool:
    """Tell whether a message is gone, whether or not its records stand."""
    return any(start <= message_id < end for start, end in state.doomed)


def meta(work: Work, message_id: int) -> memoryview | None:
    """Return the metadata record of a message that is there."""
    record = work.txn.get(pack_id(message_id), None, work.meta)
    return None if record is None or (work.state.doomed and is_doomed(work.state, message_id)) else record


class Messages:
    """A cursor over the messages that are there, by ascending id."""

    __slots__ = ("_cursor", "_doomed", "_path")

    def __init__(self, work: Work, db: Database) -> None:
        """Read the payloads (``work.data``) or the metadata (``work.meta``); it stands nowhere yet."""
        self._cursor = work.txn.cursor(db=db)
        self._doomed = work.state.doomed
        self._path = work.store.path

    @property
    def id(self) -> int:
        """Return the id it stands at."""
        return unpack_id(self._cursor.key())

    @property
    def value(self) -> memoryview:
        """Return the record it stands at."""
        return self._cursor.value()

    def at(self, message_id: int) -> bool:
        """Go to the first message from an id on; False if there is none.

        :raise QueueDamagedError: it lies before: whoever went on from there would not come to an end
        """
        there = self._forward(self._cursor.set_range(pack_id(message_id)))
        if there and self.id < message_id:
            raise misplaced(self._path, self.id)
        return there

    def before(self, message_id: int) -> bool:
        """Go to the last message before an id; False if there is none."""
        cursor = self._cursor
        return self._backward(cursor.prev() if cursor.set_range(pack_id(message_id)) else cursor.last())

    def last(self) -> bool:
        """Go to the newest message; False if there is none."""
        return self._backward(self._cursor.last())

    def next(self) -> bool:
        """Go on; False at the end."""
        there = self._cursor.next()
        return self._forward(there) if self._doomed else there

    def prev(self) -> bool:
        """Go back; False at the beginning."""
        there = self._cursor.prev()
        return self._backward(there) if self._doomed else there

    def _forward(self, there: bool) -> bool:
        for start, end in self._doomed:
            if not there:
                break
            if start <= self.id < end:
                there = self._cursor.set_range(pack_id(end))
        return there

    def _backward(self, there: bool) -> bool:
        cursor = self._cursor
        for start, end in reversed(self._doomed):
            if not there:
                break
            if start <= self.id < end:
                there = cursor.prev() if cursor.set_range(pack_id(start)) else cursor.last()
        return there


def misplaced(path: pathlib.Path, message_id: int) -> QueueDamagedError:
    """Return the error for a message that is not found where the tree leads to for its id."""
    return QueueDamagedError(
        f"Queue {path} is damaged: message {message_id} is not where its id leads to. Restore the queue from a backup, "
        "or save the rest with `persipubsub check --repair`."
    )


def first_sent(work: Work, first: int, following: int, sent_ns: int) -> int:
    """Search the first message sent at or after a time, by halving: times do not fall along the ids.

    :return: its id; ``following`` if there is none
    """
    low, high = first, following
    cursor = work.txn.cursor(db=work.meta)
    while low < high:
        middle = (low + high) // 2
        if not cursor.set_range(pack_id(middle)) or unpack_id(cursor.key()) >= high:
            high = middle
        elif format.sent_at(cursor.value()) < sent_ns:
            low = unpack_id(cursor.key()) + 1
        else:
            high = middle
    messages = Messages(work, work.meta)
    return messages.id if messages.at(low) else following
