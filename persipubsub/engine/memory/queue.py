"""A queue that several engines share: its lock, its waiters, and its name in the process."""

import itertools
import threading
import uuid

from persipubsub.engine.clock import Clock
from persipubsub.engine.memory.state import Now, State
from persipubsub.engine.memory.waiting import Interest, MemoryWaiter
from persipubsub.errors import QueueNotFoundError
from persipubsub.limits import Settings


class Queue:
    """A queue with everybody who has it open; ``condition`` protects all of it."""

    def __init__(self, name: str | None, settings: Settings, clock: Clock) -> None:
        """Start empty."""
        self.name = name
        self.clock = clock
        self.condition = threading.Condition()
        self.state = State(settings, str(uuid.uuid4()), clock.wall_ns())
        #: Numbers of the engines that are open.
        self.owners: set[int] = set()
        self.waiters: set[MemoryWaiter] = set()

    def now(self) -> Now:
        """Look at the clocks."""
        return Now(max(self.clock.wall_ns(), self.state.last_sent_ns), self.clock.boot_ns())

    def ring(self, *, has_room: bool = False, has_messages: bool = False) -> None:
        """Wake whom the last operation concerns; whoever watches the time looks at it anew."""
        stirred, self.state.stirred = self.state.stirred, set()
        for waiter in list(self.waiters):
            if (
                waiter.interest in stirred
                or (has_room and waiter.interest is Interest.ROOM)
                or (has_messages and waiter.interest is Interest.MESSAGES)
            ):
                waiter.wake()
        if self.waiters:
            self.condition.notify_all()

    def next_event_ns(self, interest: str | Interest) -> int | None:
        """Return in how many nanoseconds time alone makes a message deliverable, or room."""
        now, events = self.now(), []
        if interest is Interest.ROOM:
            messages, timeout_ns = self.state.messages, self.state.timeout_ns
            if messages and timeout_ns is not None:
                events.append(messages[messages.ids[0]].sent_ns + timeout_ns + 1 - now.wall_ns)
        elif isinstance(interest, str):
            subscriber = self.state.subscribers.get(interest)
            if subscriber is not None and not subscriber.paused:
                if subscriber.holds.next_due_ns is not None:
                    events.append(subscriber.holds.next_due_ns - now.wall_ns)
                if subscriber.holds.next_end_ns is not None:
                    events.append(subscriber.holds.next_end_ns - now.boot_ns)
        return min(events, default=None)

    def new_waiter(self, interest: str | Interest) -> MemoryWaiter:
        """Return a waiter for the messages of a subscriber, or for something else."""
        with self.condition:
            waiter = MemoryWaiter(self.condition, interest, lambda: self.next_event_ns(interest), self.waiters.discard)
            self.waiters.add(waiter)
            return waiter


#: Protects the names; taken before the condition of a queue, never after it.
REGISTRY_LOCK = threading.RLock()
_QUEUES: dict[str, Queue] = {}
_OWNERS = itertools.count(1)


def join(name: str | None, create: Settings | None, clock: Clock | None) -> tuple[Queue, int]:
    """Open or create a queue; return it with the number of its new owner.

    :raise QueueNotFoundError: it does not exist and ``create`` is ``None``
    """
    with REGISTRY_LOCK:
        queue = None if name is None else _QUEUES.get(name)
        if queue is None:
            if create is None:
                raise QueueNotFoundError(
                    f"There is no queue 'memory:{name or ''}' in this process; create it with Environment.new_control."
                )
            queue = Queue(name, create, clock or Clock())
            if name is not None:
                _QUEUES[name] = queue
        with queue.condition:
            owner = next(_OWNERS)
            queue.owners.add(owner)
            return queue, owner


def leave(queue: Queue, owner: int) -> None:
    """Let go of a queue; the last one takes its name along. Called with both locks held."""
    queue.owners.discard(owner)
    if not queue.owners and queue.name is not None:
        del _QUEUES[queue.name]


def exists(name: str) -> bool:
    """Tell whether a queue of this name is open in this process."""
    with REGISTRY_LOCK:
        return name in _QUEUES
