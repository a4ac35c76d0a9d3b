"""What a subscriber holds at this moment: the bookkeeping of its takes."""

from collections.abc import Callable, Iterable

from persipubsub.engine.messages import Delivery, Receipt


class Receipts:
    """Receipts by message id.

    Each operation is a few single operations on a dict, which are atomic; so no lock is needed, and none
    can be left locked by a fork.
    """

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        """Hold nothing."""
        self._tokens: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, taken: Iterable[Delivery]) -> None:
        """Hold what was taken; a newer take of the same message replaces the older."""
        for delivery in taken:
            self._tokens[delivery.id] = delivery.token

    def forget(self, delivery: Delivery) -> None:
        """Hold this take no longer; a newer one of the same message stays."""
        if self._tokens.get(delivery.id) == delivery.token:
            self._tokens.pop(delivery.id, None)

    def forget_id(self, message_id: int) -> None:
        """Hold no take of this message any longer."""
        self._tokens.pop(message_id, None)

    def forgetting(self) -> Callable[[], None]:
        """Return what forgets all that is held at this moment, and nothing that is taken later."""
        before = dict(self._tokens)

        def forget() -> None:
            for message_id, token in before.items():
                if self._tokens.get(message_id) == token:
                    self._tokens.pop(message_id, None)

        return forget

    def drain(self) -> list[Receipt]:
        """Return all that is held, and hold nothing any more."""
        receipts: list[Receipt] = []
        while self._tokens:
            try:
                receipts.append(Receipt(*self._tokens.popitem()))
            except KeyError:
                break  # another thread was faster
        return receipts
