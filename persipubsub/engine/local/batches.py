"""How far batches were handed over: on the board, where it survives this process."""

import threading

from persipubsub.engine.local.store import Store


class Batches:
    """Progress of the batches of one owner: one at a time for each subscriber and thread."""

    def __init__(self, store: Store) -> None:
        """Use slots of the board of ``store``."""
        self._store = store
        self._guard = threading.Lock()
        self._slots: dict[tuple[str, int], int] = {}
        #: By subscriber and token: slot, and how many were handed over.
        self._progress: dict[tuple[str, int], list[int]] = {}
        self._current: dict[int, tuple[str, int]] = {}

    def slot(self, identifier: str) -> int:
        """Return the slot of this thread; -1 if there are no more: then all of a batch counts as handed over."""
        key = (identifier, threading.get_ident())
        slot = self._slots.get(key)
        if slot is None:
            with self._guard:
                claimed = self._store.progress_slots.claim()
                slot = self._slots[key] = -1 if claimed is None else claimed
        return slot

    def start(self, identifier: str, slot: int, owner: int, token: int) -> None:
        """Note a batch that was just taken; the one before in its slot is over."""
        if slot >= 0:
            self._store.board.begin_batch(slot, owner, token)
        with self._guard:
            before = self._current.pop(slot, None)
            if before is not None:
                self._progress.pop(before, None)
            self._current[slot] = (identifier, token)
            self._progress[identifier, token] = [slot, 0]

    def handed(self, identifier: str, token: int) -> None:
        """Note that one more message of a batch has reached the caller."""
        progress = self._progress.get((identifier, token))
        if progress is not None and progress[0] >= 0:
            progress[1] += 1
            self._store.board.hand_over(*progress)

    def close(self) -> None:
        """Give the slots back."""
        for slot in self._slots.values():
            if slot >= 0:
                self._store.progress_slots.give_up(slot)
        self._slots.clear()
