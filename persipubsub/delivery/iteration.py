"""The loop over messages: taken in batches, each acknowledged by asking for the next."""

import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from persipubsub.arguments import deadline_of
from persipubsub.delivery.holding import Holder
from persipubsub.engine import forking
from persipubsub.engine.base import Engine
from persipubsub.engine.messages import Delivery
from persipubsub.errors import ClosedError, LeaseLostError, PersipubsubError
from persipubsub.message import HELD, Message, Received, staged_by

M = TypeVar("M", bound=Received[Any])
T = TypeVar("T")

#: Handled messages are acknowledged with the next batch, but never later than this many seconds.
_FLUSH_AFTER = 1.0


class Loop(Generic[M]):
    """The state of one loop: what was taken, what is being handled, what is to be acknowledged."""

    def __init__(self, holder: Holder[M], batch: int, timeout: float | None, lease_ns: int | None) -> None:
        """Take nothing yet."""
        deadline_of(timeout)
        self._holder = holder
        self._batch = batch
        self._timeout = timeout
        self._lease_ns = lease_ns
        self._generation = forking.generation
        self._ready: deque[Delivery] = deque()
        self._current: M | None = None
        self._finished: list[M] = []
        self._finished_since = 0.0
        self._closed = False

    def _advance(self) -> M | None:
        """Acknowledge the last message and return the next; ``None`` if none came in time."""
        self._check_open()
        self._note_finished()
        if self._flush_is_due():
            self._flush()
        while True:
            if not self._ready:
                self._take_batch()
                if not self._ready:
                    return None
            message = self._hand_over()
            if message is not None:
                return message

    def _advance_within_batch(self) -> M | None:
        """Advance if that needs neither a transaction nor the user's deserializer; else change nothing."""
        self._check_open()
        if self._holder.deserializer is None and not self._holder.connection.has_jobs and not self._flush_is_due():
            while self._ready:
                self._note_finished()
                message = self._hand_over()
                if message is not None:
                    return message
        return None

    def _retreat(self) -> None:
        """Give back what ``_advance`` returned, because it never reached the caller; without raising."""
        if self._current is not None:
            self._holder.return_undelivered([self._current._delivery])
            self._current = None

    def _rest(self) -> None:
        """Acknowledge what was handled and give back what is ready, because nobody asks for the next message now."""
        if self._closed or self._generation != forking.generation:
            return
        self._note_finished()
        try:
            if self._finished:
                self._flush()
        finally:
            self._return_ready()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"The loop over the messages of {self._holder.identifier!r} was closed; start a new one.")
        if self._generation != forking.generation:
            # A forked child goes on with messages of its own.
            self._forget_all()
            self._generation = forking.generation

    def _forget_all(self) -> None:
        self._ready = deque()
        self._current = None
        self._finished = []

    def _note_finished(self) -> None:
        if self._current is not None and not self._finished:
            self._finished_since = time.monotonic()
        # An interrupt comes when a call has returned: there is none while the message is in neither place.
        message, self._current = self._current, None
        if message is not None and message._state == HELD:
            self._finished.append(message)

    def _flush_is_due(self) -> bool:
        return bool(self._finished) and time.monotonic() - self._finished_since > _FLUSH_AFTER

    def _flush(self) -> None:
        finished, self._finished = self._finished, []
        try:
            self._holder.settle(finished)
        except BaseException as error:
            self._holder.give_back_quietly(finished, error)
            raise

    def _take_batch(self) -> None:
        self._ready.extend(self._holder.wait(self._take, deadline_of(self._timeout)))
        if self._closed:
            # Closed by another thread, in the middle of the wait.
            self._give_up(None)
            self._check_open()

    def _take(self, engine: Engine) -> list[Delivery]:
        finished, self._finished = self._finished, []
        try:
            taken = engine.take(
                self._holder.identifier,
                self._batch,
                self._lease_ns,
                settle=[message._delivery.receipt for message in finished],
                outgoing=staged_by(finished),
                hand_over=False,
            )
        except LeaseLostError:
            # Nothing was changed: settle those that are still held, and tell of the others.
            self._finished = finished
            self._flush()
            raise
        except BaseException:
            self._finished = finished
            raise
        try:
            self._holder.mark_settled(finished)
        except BaseException:
            self._holder.release(taken)
            raise
        return taken

    def _hand_over(self) -> M | None:
        """Give the next one of the batch to the caller, unless it was lost or cannot be decoded."""
        delivery = self._ready[0]
        try:
            self._holder.engine().handed(self._holder.identifier, delivery)
        except LeaseLostError:
            # Its lease ended before its turn came; whoever has it now handles it.
            self._ready.popleft()
            return None
        messages = self._holder.decode([delivery])
        self._current = messages[0] if messages else None
        self._ready.popleft()
        return self._current

    def close(self) -> None:
        """Acknowledge what was handled, give back the rest; closing twice has no effect."""
        self._close(None)

    def _close(self, error: BaseException | None) -> None:
        if self._closed:
            return
        self._closed = True
        if self._generation != forking.generation:
            self._forget_all()
            return
        try:
            if self._finished:
                self._flush()
        finally:
            self._give_up(error)

    def _give_up(self, error: BaseException | None) -> None:
        """Give back what is being handled, as delivered, and what waits for its turn, as undelivered.

        Each is forgotten when that is done, so that ``__del__`` does it after an interrupt.
        """
        if self._current is not None:
            self._holder.give_back_quietly((self._current,), error)
            self._current = None
        self._return_ready()

    def _return_ready(self) -> None:
        if self._ready:
            self._holder.return_undelivered(list(self._ready))
            self._ready = deque()

    def _leave(self, error: BaseException | None) -> None:
        """Close because a block ended, and tell ``error`` as the reason; it is not hidden by another."""
        try:
            self._close(error)
        except PersipubsubError:
            if error is None:
                raise

    def __del__(self) -> None:
        if not hasattr(self, "_closed") or self._generation != forking.generation:
            return
        # Finalizers run anywhere, so the engine is used later; see Connection.later.
        finished = [message for message in self._finished if message._state == HELD]
        current = [self._current] if self._current is not None and self._current._state == HELD else []
        ready = list(self._ready)
        if finished or current or ready:
            holder = self._holder

            def give_up(engine: Engine) -> None:
                try:
                    # The program asked for the next one, so these are handled.
                    holder.settle(finished)
                finally:
                    holder.give_back_quietly(current, None)
                    holder.return_undelivered(ready)

            holder.connection.later(give_up)


class Messages(Loop[Message[T]]):
    """An iterator of messages, closable and a context manager; one thread at a time may use it.

    >>> import persipubsub
    >>> with persipubsub.Environment("memory:") as env:
    ...     control = env.new_control(subscriber_ids={"worker"})
    ...     _ = env.new_publisher().send_many([b"one", b"two"])
    ...     with env.new_subscriber("worker").messages(timeout=0) as messages:
    ...         for message in messages:
    ...             print(message.data)
    b'one'
    b'two'

    Asking for the next message acknowledges the last, together with what it staged. The
    acknowledgements are written in the transaction that takes the next batch, before a wait, after a
    second at the latest, and when the loop is closed. Asking for the next one waits as long as the
    ``timeout`` of :meth:`Subscriber.messages` says.

    Leaving the loop, also by ``break``, gives back the message that is being handled and those that
    were taken with it. Python does not tell an iterator that its loop was left: the end of a ``with``
    block or ``close()`` does, or else the moment when the iterator is lost (in CPython, right at the
    end of the loop). What a loop in the body raised becomes the reason only with a ``with`` block.
    """

    def __iter__(self) -> Iterator[Message[T]]:
        return self

    def __next__(self) -> Message[T]:
        message = self._advance()
        if message is None:
            raise StopIteration
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave(error)
