"""The blocks in which messages are handled: ``with subscriber.receive() as msg``.

They are classes and not generators, because a generator that is closed or collected runs its
``finally`` as if its block had ended well. Here nothing but a clean exit acknowledges.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

from persipubsub.delivery.settling import Settler
from persipubsub.errors import LeaseLostError, SubscriberError
from persipubsub.message import HELD, Received

V = TypeVar("V")

Take = Callable[[], Sequence[Received[Any]]]


class Receiving(Generic[V]):
    """Takes when the block is entered, acknowledges when it is left cleanly, gives back when it raises."""

    __slots__ = ("__weakref__", "_holder", "_take", "_value", "_messages")

    def __init__(self, holder: Settler, take: Take, value: Callable[[Sequence[Any]], V]) -> None:
        """Remember how to take, and what of it to give to the block."""
        self._holder = holder
        self._take = take
        self._value = value
        self._messages: Sequence[Received[Any]] = ()

    def __enter__(self) -> V:
        if self._messages:
            raise SubscriberError("This block is entered already; call receive() for each block.")
        self._messages = self._take()
        return self._value(self._messages)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        messages = self._messages
        # What a forked child leaves here belongs to its parent, which leaves the block itself.
        if messages and not self._holder.is_inherited(messages):
            if error is None and kind is None:
                self._settle_or_give_back(messages)
            else:
                self._give_back(messages, error)
        self._messages = ()

    def _settle_or_give_back(self, messages: Sequence[Received[Any]]) -> None:
        try:
            self._settle(messages)
        except LeaseLostError:
            self._messages = ()
            raise
        except BaseException as error:
            self._give_back(messages, error)
            self._messages = ()
            raise

    def _settle(self, messages: Sequence[Received[Any]]) -> None:
        self._holder.settle(messages)

    def _give_back(self, messages: Sequence[Received[Any]], error: BaseException | None) -> None:
        self._holder.give_back_quietly(messages, error)

    @property
    def is_holding(self) -> bool:
        """Tell whether something was taken at the entrance."""
        return bool(self._messages)

    def retreat(self) -> None:
        """Give back what was taken at the entrance, because the block never saw it; without raising."""
        messages, self._messages = self._messages, ()
        self._holder.return_undelivered([message._delivery for message in messages if message._state == HELD])

    @staticmethod
    def _undo(holder: Settler, messages: Sequence[Received[Any]]) -> None:
        holder.release([message._delivery for message in messages if message._state == HELD])

    def __del__(self) -> None:
        # Entered and never left: an interrupt came just before the block, or the object was dropped.
        messages = getattr(self, "_messages", None)
        if messages and not self._holder.is_inherited(messages):
            holder, undo = self._holder, self._undo
            holder.connection.later(lambda engine: undo(holder, messages))


class ReceivingToTop(Receiving[V]):
    """Takes the newest; a clean exit settles it and all before it, an exception leaves all as it was."""

    __slots__ = ()

    def _settle(self, messages: Sequence[Received[Any]]) -> None:
        self._holder.settle_to_top(messages[0])

    def _give_back(self, messages: Sequence[Received[Any]], error: BaseException | None) -> None:
        self._holder.return_to_top_quietly(messages[0])

    def retreat(self) -> None:
        """Undo the take at the entrance; without raising."""
        messages, self._messages = self._messages, ()
        for message in messages:
            self._holder.return_to_top_quietly(message)

    @staticmethod
    def _undo(holder: Settler, messages: Sequence[Received[Any]]) -> None:
        holder.return_to_top_quietly(messages[0])


class ReceivingView(Receiving[memoryview | None]):
    """Gives the stored bytes themselves, valid inside the block."""

    __slots__ = ("_view",)

    def __init__(self, holder: Settler, take: Take) -> None:
        """Remember how to take, without the payload."""
        super().__init__(holder, take, lambda messages: None)
        self._view: AbstractContextManager[memoryview] | None = None

    def __enter__(self) -> memoryview | None:
        super().__enter__()
        if not self._messages:
            return None
        try:
            self._view = self._holder.engine().view(self._holder.identifier, self._messages[0]._delivery)
            return self._view.__enter__()
        except BaseException as error:
            self._view = None
            self._give_back(self._messages, error)
            self._messages = ()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        view, self._view = self._view, None
        try:
            if view is not None:
                view.__exit__(None, None, None)
        except BaseException as failure:
            super().__exit__(type(failure), failure, None)
            raise
        super().__exit__(kind, error, traceback)

    def retreat(self) -> None:
        """Give back what was taken at the entrance, because the block never saw it."""
        view, self._view = self._view, None
        if view is not None:
            view.__exit__(None, None, None)
        super().retreat()


def payload_of(messages: Sequence[Received[Any]]) -> Any:
    """Return the payload of a single message, ``None`` if there is none."""
    return messages[0].data if messages else None


def message_of(messages: Sequence[Received[Any]]) -> Any:
    """Return a single message, ``None`` if there is none."""
    return messages[0] if messages else None


def payloads_of(messages: Sequence[Received[Any]]) -> list[Any]:
    """Return the payloads of messages."""
    return [message.data for message in messages]
