"""What one subscriber has taken or set aside, findable by id and by time."""

import bisect
import enum
from collections.abc import Iterator

import msgspec

from persipubsub.engine.memory.messages import Message


class Kind(enum.Enum):
    """Why a subscriber holds a message."""

    LEASED = "leased"
    """Taken and not yet settled."""
    READY = "ready"
    """Given back (or due by now): the next to be delivered."""
    DELAYED = "delayed"
    """Not due yet."""


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A message that a subscriber has taken or set aside; it never changes but is replaced."""

    message: Message
    kind: Kind
    #: Of the last take, as long as that take may still settle the message; 0 for none.
    token: int = 0
    #: Deliveries that count, the current one included.
    count: int = 0
    #: Means something only once ``count`` is above 0.
    first_received_ns: int = 0
    missed: int = 0
    last_error: str | None = None
    owner: int = 0
    #: End of a bounded lease on the boot clock.
    deadline_ns: int | None = None
    #: When a delayed one is due, on the wall clock.
    due_ns: int = 0
    #: False: taken, but not in the hands of the caller yet.
    handed: bool = True
    #: Taken ahead of the position as the newest message.
    top: bool = False
    #: Requeued from the dead letters: it does not need the message in the queue.
    own_copy: bool = False
    #: A limit removed the message from the queue; the loss is counted already.
    gone: bool = False

    @property
    def id(self) -> int:
        """Return the message id."""
        return self.message.id


class Holds:
    """The holds of one subscriber; at most one per message."""

    def __init__(self) -> None:
        """Start empty."""
        #: Ids of the ready ones, ascending.
        self.ready: list[int] = []
        self._by_id: dict[int, Hold] = {}
        self._due: list[tuple[int, int]] = []
        self._ending: list[tuple[int, int]] = []

    def copy(self) -> "Holds":
        """Return an independent copy."""
        other = Holds()
        other.ready = self.ready.copy()
        other._by_id = self._by_id.copy()
        other._due = self._due.copy()
        other._ending = self._ending.copy()
        return other

    def __contains__(self, message_id: int) -> bool:
        """Tell whether the message is held."""
        return message_id in self._by_id

    def __iter__(self) -> Iterator[Hold]:
        """Walk over the holds of this moment, by id."""
        return iter([self._by_id[message_id] for message_id in sorted(self._by_id)])

    def get(self, message_id: int) -> Hold | None:
        """Return the hold on a message."""
        return self._by_id.get(message_id)

    def set(self, hold: Hold) -> None:
        """Add or replace the hold on a message."""
        self.remove(hold.id)
        self._by_id[hold.id] = hold
        if hold.kind is Kind.READY:
            bisect.insort(self.ready, hold.id)
        elif hold.kind is Kind.DELAYED:
            bisect.insort(self._due, (hold.due_ns, hold.id))
        elif hold.deadline_ns is not None:
            bisect.insort(self._ending, (hold.deadline_ns, hold.id))

    def remove(self, message_id: int) -> None:
        """Drop the hold on a message, if there is one."""
        hold = self._by_id.pop(message_id, None)
        if hold is None:
            return
        if hold.kind is Kind.READY:
            del self.ready[bisect.bisect_left(self.ready, message_id)]
        elif hold.kind is Kind.DELAYED:
            del self._due[bisect.bisect_left(self._due, (hold.due_ns, message_id))]
        elif hold.deadline_ns is not None:
            del self._ending[bisect.bisect_left(self._ending, (hold.deadline_ns, message_id))]

    def due(self, wall_ns: int) -> list[Hold]:
        """Return the delayed ones that are due."""
        return [self._by_id[message_id] for due_ns, message_id in self._until(self._due, wall_ns)]

    def ended(self, boot_ns: int) -> list[Hold]:
        """Return the bounded leases that have ended."""
        return [self._by_id[message_id] for deadline_ns, message_id in self._until(self._ending, boot_ns)]

    @property
    def next_due_ns(self) -> int | None:
        """Return when the next delayed one is due."""
        return self._due[0][0] if self._due else None

    @property
    def next_end_ns(self) -> int | None:
        """Return when the next bounded lease ends."""
        return self._ending[0][0] if self._ending else None

    @staticmethod
    def _until(agenda: list[tuple[int, int]], time_ns: int) -> list[tuple[int, int]]:
        return agenda[: bisect.bisect_left(agenda, (time_ns + 1, 0))]
