"""Dead letters: messages that a subscriber gave up on."""

import datetime
from collections.abc import Callable, Iterable, Iterator

from persipubsub.arguments import optional_ids
from persipubsub.engine.base import Engine
from persipubsub.engine.messages import DeadLetterRecord
from persipubsub.message import moment
from persipubsub.retained.stored import StoredMessage

_PAGE = 256
Ids = int | Iterable[int] | None
"""One id, several, or all."""


class DeadLetter(StoredMessage[DeadLetterRecord]):
    """A message that was delivered too often, rejected, or found damaged; it has the id that it had."""

    __slots__ = ()

    @property
    def died(self) -> datetime.datetime:
        """Return when the subscriber gave it up, in UTC."""
        return moment(self._record.died_ns)

    @property
    def delivery_count(self) -> int:
        """Return how often it was delivered."""
        return self._record.delivery_count

    @property
    def reason(self) -> str:
        """Return why it died: the last error, or what ``reject`` said."""
        return self._record.reason

    def __repr__(self) -> str:
        return f"<DeadLetter {self.id}, {len(self.data)} bytes, {self.reason!r}>"


class DeadLetters:
    """The dead letters of one subscriber, oldest first; each iteration reads anew, and holds no transaction.

    Safe to use from any thread. ``requeue`` and ``discard`` are one transaction each, and wait for nothing
    but another process's one.

    >>> import persipubsub
    >>> with persipubsub.Environment("memory:") as env:
    ...     control = env.new_control(subscriber_ids={"worker"})
    ...     _ = env.new_publisher().send(b"frame")
    ...     env.new_subscriber("worker").get(timeout=0).reject("too dark")
    ...     dead = control.dead_letters("worker")
    ...     print([letter.reason for letter in dead], dead.requeue())
    ['too dark'] 1
    """

    def __init__(self, identifier: str, engine: Callable[[], Engine]) -> None:
        """Read the dead letters of ``identifier``; ``Control.dead_letters`` makes these objects."""
        self._identifier = identifier
        self._engine = engine

    @property
    def subscriber(self) -> str:
        """Return the identifier of the subscriber."""
        return self._identifier

    def __iter__(self) -> Iterator[DeadLetter]:
        after = 0
        while True:
            page = self._engine().dead_letters(self._identifier, after, _PAGE)
            for record in page:
                yield DeadLetter(record)
            if len(page) < _PAGE:
                return
            after = page[-1].id

    def requeue(self, ids: Ids = None) -> int:
        """Make one, several or all deliverable again, as if they had never been delivered.

        :param ids: ``None`` means all
        :return: how many; unknown ids are no error
        :raise MessageError: something in it is no id
        """
        return self._engine().requeue_dead(self._identifier, optional_ids(ids))

    def discard(self, ids: Ids = None) -> int:
        """Forget one, several or all for good.

        :param ids: ``None`` means all
        :return: how many; unknown ids are no error
        :raise MessageError: something in it is no id
        """
        return self._engine().discard_dead(self._identifier, optional_ids(ids))
