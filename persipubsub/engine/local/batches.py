"""How far batches were handed over: on the board, where it survives this process."""

import threading
from collections.abc import Iterable

import msgspec

from persipubsub.engine.local.store import Store
from persipubsub.engine.messages import Delivery, Receipt

#: Batches of one owner that are under way at once; of an older one, everything counts as handed over.
_MOST = 256


class Batch(msgspec.Struct):
    """Messages of one take that are handed over one by one."""

    slot: int
    handed: int
    left: set[int]


class Batches:
    """Progress of the batches of one owner; each has a slot of the board until all its messages are settled."""

    def __init__(self, store: Store) -> None:
        """Use slots of the board of ``store``."""
        self._store = store
        self._guard = threading.Lock()
        self._free: list[int] = []
        #: By subscriber and token, oldest first.
        self._batches: dict[tuple[str, int], Batch] = {}

    def slot(self) -> int:
        """Return a slot for a batch that is about to be taken; -1 if there is none: then all of it counts as handed."""
        with self._guard:
            if len(self._batches) >= _MOST:
                self._end(next(iter(self._batches)))
            if self._free:
                return self._free.pop()
            claimed = self._store.progress_slots.claim()
            return -1 if claimed is None else claimed

    def start(self, identifier: str, slot: int, owner: int, taken: list[Delivery]) -> None:
        """Note what was taken with a slot; nothing of it was handed over yet."""
        if slot < 0:
            return
        with self._guard:
            if taken:
                self._store.board.begin_batch(slot, owner, taken[0].token)
                self._batches[identifier, taken[0].token] = Batch(slot, 0, {delivery.id for delivery in taken})
            else:
                self._free.append(slot)

    def handed(self, identifier: str, token: int) -> None:
        """Note that one more message of a batch has reached the caller."""
        batch = self._batches.get((identifier, token))
        if batch is not None:
            batch.handed += 1
            self._store.board.hand_over(batch.slot, batch.handed)

    def done(self, identifier: str, receipts: Iterable[Receipt]) -> None:
        """Note that messages were settled, given back or lost; a batch of which none is left is over."""
        if not self._batches:
            return
        with self._guard:
            for receipt in receipts:
                batch = self._batches.get((identifier, receipt.token))
                if batch is not None:
                    batch.left.discard(receipt.id)
                    if not batch.left:
                        self._end((identifier, receipt.token))

    def _end(self, key: tuple[str, int]) -> None:
        self._free.append(self._batches.pop(key).slot)

    def close(self) -> None:
        """Give the slots back."""
        with self._guard:
            for slot in [*self._free, *(batch.slot for batch in self._batches.values())]:
                self._store.progress_slots.give_up(slot)
            self._free.clear()
            self._batches.clear()
