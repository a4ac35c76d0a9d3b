"""One queue that is watched: how it is read, and how its dead letters are settled. Every call may block."""

import contextlib
import itertools
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from persipubsub.control import Control
from persipubsub.engine.figures import Statistics
from persipubsub.engine.opening import LocalOpener, opener_for
from persipubsub.environment import Environment
from persipubsub.errors import QueueError, QueueNotFoundError
from persipubsub.retained.stored import StoredMessage

Location = str | os.PathLike[str]

#: At most so many bytes of payloads are read to show the last messages.
_MOST_BYTES = 4 << 20


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A message, or a dead letter of ``subscriber``, to be looked at; times are ISO 8601 in UTC."""

    id: int
    sent: str
    topic: str | None
    headers: dict[str, str | bytes]
    data: bytes
    size: int
    subscriber: str | None = None
    died: str | None = None
    delivery_count: int | None = None
    reason: str | None = None


def _shown(message: StoredMessage[Any]) -> Shown:
    return Shown(
        id=message.id,
        sent=message.sent.isoformat(timespec="milliseconds"),
        topic=message.topic,
        headers=dict(message.headers),
        data=message.data,
        size=len(message.data),
    )


class Source:
    """A queue, by its name and where it is.

    A directory is opened for each look and closed again, which takes a millisecond: whoever watches
    does not stand in the way of deleting a queue or changing its durability. Elsewhere opening may
    cost a connection, and the queue stays open.
    """

    def __init__(self, name: str, location: Location) -> None:
        """Open nothing yet."""
        self.name = name
        opener = opener_for(location)
        self.location = opener.location
        self._where = location
        self._lasting = not isinstance(opener, LocalOpener)
        self._environment: Environment | None = None
        self._lock = threading.Lock()

    def read(self) -> Statistics:
        """Return the figures of now.

        :raise PersipubsubError: they cannot be had
        """
        with self._control() as (_, control):
            return control.statistics()

    def free_bytes(self) -> int | None:
        """Return the room on the disk of the queue; None where there is no disk."""
        try:
            return shutil.disk_usage(self.location).free
        except OSError:
            return None

    def last_messages(self, most: int = 20) -> list[Shown]:
        """Return the newest messages, the newest first; fewer if they are large.

        :raise PersipubsubError: they cannot be had
        """
        with self._control() as (environment, control):
            figures = control.statistics()
            if figures.last_id is None or figures.first_id is None:
                return []
            average = figures.payload_bytes // max(figures.messages, 1)
            number = max(1, min(most, _MOST_BYTES // max(average, 1)))
            start = max(figures.first_id, figures.last_id - number + 1)
            found = [_shown(message) for message in environment.browse(start, limit=number)]
        return found[::-1]

    def dead_letters(self, subscribers: Sequence[str] | None = None, most: int = 100) -> list[Shown]:
        """Return the oldest dead letters of each of the subscribers (``None``: of all that have some).

        :raise PersipubsubError: they cannot be had
        """
        found: list[Shown] = []
        with self._control() as (_, control):
            if subscribers is None:
                subscribers = [one.identifier for one in control.statistics().subscribers if one.dead]
            for subscriber in subscribers:
                for letter in itertools.islice(control.dead_letters(subscriber), most):
                    found.append(
                        msgspec.structs.replace(
                            _shown(letter),
                            subscriber=subscriber,
                            died=letter.died.isoformat(timespec="milliseconds"),
                            delivery_count=letter.delivery_count,
                            reason=letter.reason,
                        )
                    )
        return found

    def requeue(self, subscriber: str, ids: Sequence[int] | None) -> int:
        """Make dead letters (``None``: all) deliverable again; return how many.

        :raise PersipubsubError: nothing was changed
        """
        with self._control() as (_, control):
            return control.dead_letters(subscriber).requeue(ids)

    def discard(self, subscriber: str, ids: Sequence[int] | None) -> int:
        """Forget dead letters (``None``: all) for good; return how many.

        :raise PersipubsubError: nothing was changed
        """
        with self._control() as (_, control):
            return control.dead_letters(subscriber).discard(ids)

    def close(self) -> None:
        """Let go of the queue; it is opened anew when it is needed again."""
        with self._lock:
            environment, self._environment = self._environment, None
        if environment is not None:
            environment.close()

    @contextlib.contextmanager
    def _control(self) -> Iterator[tuple[Environment, Control]]:
        if not self._lasting:
            with Environment(self._where) as environment, environment.open_control() as control:
                yield environment, control
            return
        with self._lock:
            kept = self._environment
            if kept is None:
                kept = self._environment = Environment(self._where)
        try:
            with kept.open_control() as control:
                yield kept, control
        except (QueueNotFoundError, QueueError):
            # It may have been replaced, or the connection may be lost.
            self.close()
            raise
