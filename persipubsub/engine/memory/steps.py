"""One operation on the shared queue: atomic, and those whom it concerns are woken at its end."""

import contextlib
from collections.abc import Iterator

from persipubsub.engine.memory.queue import Queue
from persipubsub.engine.memory.state import Now, State
from persipubsub.errors import ClosedError


class Steps:
    """One owner's use of a queue in memory."""

    def __init__(self, queue: Queue, owner: int) -> None:
        """Use ``queue`` as ``owner``; ``open_memory`` makes its engine."""
        self._queue = queue
        self._owner = owner
        self._closed = False

    @contextlib.contextmanager
    def _step(self, *, may_fail_halfway: bool = False) -> Iterator[tuple[State, Now]]:
        """Carry out one atomic operation: alone, undone when it fails half-way, others woken at its end."""
        queue = self._queue
        with queue.condition:
            if self._closed:
                raise ClosedError("The queue was closed by this program; open it again.")
            before = queue.state.copy() if may_fail_halfway else None
            removed, published = queue.state.messages.removed, queue.state.published
            try:
                yield queue.state, queue.now()
            except BaseException:
                if before is not None:
                    queue.state = before
                raise
            finally:
                state = queue.state
                queue.ring(has_room=state.messages.removed != removed, has_messages=state.published != published)
                happened, state.events = state.events, []
        for event in happened:
            event.log(f"memory:{queue.name or ''}")
