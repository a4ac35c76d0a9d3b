"""The operations of a queue in memory that change and show the queue itself and its subscribers."""

import pathlib
from collections.abc import Callable, Sequence

from persipubsub.engine.base import Start
from persipubsub.engine.figures import Compaction, Finding, Statistics
from persipubsub.engine.memory import look, publish, roster, settle
from persipubsub.engine.memory.steps import Steps
from persipubsub.engine.messages import DeadLetterRecord, Retained
from persipubsub.engine.records import Record
from persipubsub.errors import UnsupportedByEngineError
from persipubsub.limits import Settings, SubscriberSettings


def _only_on_a_disk(done: str) -> UnsupportedByEngineError:
    return UnsupportedByEngineError(f"A queue in memory cannot be {done}; use a directory.")


class Administration(Steps):
    """Settings, subscribers, figures, what is retained, dead letters."""

    # -- the queue ----------------------------------------------------------------------------

    def settings(self) -> Settings:
        """Return the settings as they are stored now."""
        with self._step() as (state, _):
            return state.settings

    def configure(self, settings: Settings) -> None:
        """Store other settings; they hold from the next operation on."""
        with self._step() as (state, _):
            state.settings = settings
            state.sweep(state.messages.ids.copy())  # what a log kept, if it is none any more
            state.stirred.update(state.subscribers)
            self._queue.ring(has_room=True)

    def statistics(self) -> Statistics:
        """Return consistent figures of the queue and all its subscribers."""
        with self._step() as (state, now):
            return look.statistics(state, now)

    def check(self) -> list[Finding]:
        """Verify what must always hold; an empty list means that all is well."""
        with self._step() as (state, _):
            return look.check(state, self._queue.owners)

    def backup(self, target: pathlib.Path) -> int:
        """Refuse: nothing is on a disk.

        :raise UnsupportedByEngineError: always
        """
        raise _only_on_a_disk("backed up")

    def compact(self) -> Compaction:
        """Refuse: nothing is on a disk.

        :raise UnsupportedByEngineError: always
        """
        raise _only_on_a_disk("compacted")

    def export(self, start: int, max_messages: int, sink: Callable[[Record], None]) -> int | None:
        """Refuse: what is in memory is for tests, and gone with the process.

        :raise UnsupportedByEngineError: always
        """
        raise _only_on_a_disk("exported")

    def clear(self) -> None:
        """Drop all subscribers and all messages."""
        with self._step() as (state, _):
            roster.clear(state)

    def prune_dangling(self) -> int:
        """Drop what is older than the message timeout or needed by no subscriber; return how many."""
        with self._step() as (state, now):
            return publish.prune_dangling(state, now)

    # -- subscribers --------------------------------------------------------------------------

    def subscribers(self) -> dict[str, SubscriberSettings]:
        """Return the subscribers and their settings."""
        with self._step() as (state, _):
            return {name: state.subscribers[name].settings for name in sorted(state.subscribers)}

    def add_subscriber(self, identifier: str, settings: SubscriberSettings, start: Start) -> None:
        """Add a subscriber; the same one with the same settings again changes nothing.

        :raise SettingsMismatchError: it exists with other settings
        :raise PositionError: ``start`` is not retained
        """
        with self._step() as (state, _):
            roster.add(state, identifier, settings, start, self._owner)

    def configure_subscriber(self, identifier: str, settings: SubscriberSettings) -> None:
        """Store other settings of a subscriber.

        :raise SettingsMismatchError: ``ephemeral`` differs, which cannot be changed
        """
        with self._step() as (state, _):
            roster.configure(state, state.subscriber(identifier), settings)

    def pause(self, identifier: str, paused: bool) -> None:
        """Stop or resume deliveries to a subscriber; its backlog stays."""
        with self._step() as (state, _):
            subscriber = state.subscriber(identifier)
            subscriber.paused = paused
            state.stir(subscriber)

    def remove_subscriber(self, identifier: str) -> bool:
        """Remove a subscriber with its leases and dead letters; return whether it existed."""
        with self._step() as (state, _):
            return roster.remove(state, identifier)

    def purge(self, identifier: str) -> int:
        """Settle everything that waits for a subscriber and nobody holds; return how many."""
        with self._step() as (state, now):
            return settle.purge(state, state.subscriber(identifier), now)

    def seek(self, identifier: str, position: int) -> None:
        """Move a subscriber to a message id; its leases and delays are dropped, dead letters stay.

        :raise PositionError: the id lies before what is retained or beyond the next id
        """
        with self._step() as (state, _):
            roster.seek(state, state.subscriber(identifier), position)

    def find_position(self, identifier: str, *, back: int | None = None, sent_ns: int | None = None) -> int:
        """Return the id that lies ``back`` messages before the position, or the first sent at or after a time."""
        with self._step() as (state, _):
            return roster.find_position(state, state.subscriber(identifier), back, sent_ns)

    def bounds(self) -> tuple[int, int]:
        """Return the oldest retained id and the id that the next message will get."""
        with self._step() as (state, _):
            return state.first_id, state.next_id

    # -- looking ------------------------------------------------------------------------------

    def browse(self, start: int, max_messages: int) -> list[Retained]:
        """Return retained messages from an id on, without any trace."""
        with self._step() as (state, _):
            return look.browse(state, start, max_messages)

    def dead_letters(self, identifier: str, after: int = 0, max_messages: int = 1000) -> list[DeadLetterRecord]:
        """Return dead letters with ids greater than ``after``, oldest first."""
        with self._step() as (state, _):
            return roster.dead_letters(state.subscriber(identifier), after, max_messages)

    def requeue_dead(self, identifier: str, ids: Sequence[int] | None) -> int:
        """Make dead letters deliverable again, their count at zero; ``None`` means all."""
        with self._step() as (state, _):
            return roster.requeue_dead(state, state.subscriber(identifier), ids)

    def discard_dead(self, identifier: str, ids: Sequence[int] | None) -> int:
        """Forget dead letters; ``None`` means all; return how many."""
        with self._step() as (state, _):
            return roster.discard_dead(state.subscriber(identifier), ids)
