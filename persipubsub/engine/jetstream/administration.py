"""The operations of a queue on JetStream that change and show the queue itself and its subscribers."""

import pathlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from nats.js import errors as js_errors

from persipubsub.engine.base import Start
from persipubsub.engine.clock import Clock
from persipubsub.engine.figures import Compaction, Finding, Statistics
from persipubsub.engine.jetstream import deadletters, deploying, look, newest, roster
from persipubsub.engine.jetstream.link import Link
from persipubsub.engine.jetstream.names import Names
from persipubsub.engine.jetstream.publish import Publisher
from persipubsub.engine.jetstream.session import Session
from persipubsub.engine.jetstream.translate import translate
from persipubsub.engine.messages import DeadLetterRecord, Retained
from persipubsub.engine.records import Record
from persipubsub.errors import ClosedError, UnsupportedByEngineError
from persipubsub.limits import Settings, SubscriberSettings

T = TypeVar("T")


class Administration:
    """Settings, subscribers, figures, what is retained, dead letters."""

    def __init__(self, link: Link, names: Names, clock: Clock) -> None:
        """Use the queue of these names over a link."""
        self._link = link
        self._session = Session(link, names, clock)
        self._publisher = Publisher(self._session)
        self._closed = False

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            work.close()
            raise ClosedError("The queue was closed by this program; open it again.")
        try:
            return self._link.run(work)
        except js_errors.APIError as error:
            raise translate(error, self._link.where) from error

    # -- the queue ----------------------------------------------------------------------------

    def settings(self) -> Settings:
        """Return the settings as they are stored now."""
        return self._run(self._session.fetch()).settings

    def configure(self, settings: Settings) -> None:
        """Store other settings; they hold from the next operation of every process.

        :raise UnsupportedByEngineError: JetStream does not have them
        """
        deploying.check(self._link, settings)
        self._run(deploying.configure(self._session, settings))

    def statistics(self) -> Statistics:
        """Return figures of the queue and all its subscribers."""
        return self._run(look.statistics(self._session))

    def check(self) -> list[Finding]:
        """Verify what is stored; an empty list means that all is well."""
        return self._run(look.check(self._session))

    def clear(self) -> None:
        """Drop all subscribers and all messages."""
        self._run(roster.clear(self._session))

    def prune_dangling(self) -> int:
        """Return 0: the servers drop by themselves what is too old or needed by nobody."""
        self._run(self._session.fetch())
        return 0

    def backup(self, target: pathlib.Path) -> int:
        """Refuse: the servers have tools of their own.

        :raise UnsupportedByEngineError: always
        """
        raise _not_here("backed up", "use `nats stream backup`, or replicas")

    def compact(self) -> Compaction:
        """Refuse: the servers do so by themselves.

        :raise UnsupportedByEngineError: always
        """
        raise _not_here("compacted", "the servers give space back by themselves")

    def export(self, start: int, max_messages: int, sink: Callable[[Record], None]) -> int | None:
        """Refuse.

        :raise UnsupportedByEngineError: always
        """
        raise _not_here("exported", "read it with browse()")

    # -- subscribers --------------------------------------------------------------------------

    def subscribers(self) -> dict[str, SubscriberSettings]:
        """Return the subscribers and their settings."""
        found = self._run(self._session.roster(fresh=True)).subscribers
        return {name: found[name].settings for name in sorted(found)}

    def add_subscriber(self, identifier: str, settings: SubscriberSettings, start: Start) -> None:
        """Add a subscriber; the same one with the same settings again changes nothing.

        :raise SettingsMismatchError: it exists with other settings
        :raise PositionError: ``start`` is not retained
        """
        self._run(roster.add(self._session, identifier, settings, start))

    def configure_subscriber(self, identifier: str, settings: SubscriberSettings) -> None:
        """Store other settings of a subscriber."""
        self._run(roster.configure(self._session, identifier, settings))

    def pause(self, identifier: str, paused: bool) -> None:
        """Stop or resume deliveries to a subscriber; its backlog stays."""
        self._run(roster.pause(self._session, identifier, paused))

    def remove_subscriber(self, identifier: str) -> bool:
        """Remove a subscriber with its leases and dead letters; return whether it existed."""
        return self._run(roster.remove(self._session, identifier))

    def purge(self, identifier: str) -> int:
        """Settle everything that waits for a subscriber and nobody holds; return how many."""
        return self._run(newest.settle_waiting(self._session, identifier))

    def seek(self, identifier: str, position: int) -> None:
        """Move a subscriber to a message id; its leases and delays are dropped, dead letters stay.

        :raise PositionError: the id lies before what is retained or beyond the next id
        """
        self._run(roster.seek(self._session, identifier, position))

    def find_position(self, identifier: str, *, back: int | None = None, sent_ns: int | None = None) -> int:
        """Return the id that lies ``back`` messages before the position, or the first sent at or after a time."""
        return self._run(look.find_position(self._session, identifier, back, sent_ns))

    def bounds(self) -> tuple[int, int]:
        """Return the oldest retained id and the id that the next message will get."""
        return self._run(roster.bounds(self._session))

    # -- looking ------------------------------------------------------------------------------

    def browse(self, start: int, max_messages: int) -> list[Retained]:
        """Return retained messages from an id on, without any trace."""
        return self._run(look.browse(self._session, start, max_messages))

    def dead_letters(self, identifier: str, after: int = 0, max_messages: int = 1000) -> list[DeadLetterRecord]:
        """Return dead letters with ids greater than ``after``, oldest first."""
        return self._run(deadletters.page(self._session, identifier, after, max_messages))

    def requeue_dead(self, identifier: str, ids: Sequence[int] | None) -> int:
        """Send dead letters to the subscriber once more, as new messages; ``None`` means all."""
        return self._run(deadletters.requeue(self._session, self._publisher, identifier, ids))

    def discard_dead(self, identifier: str, ids: Sequence[int] | None) -> int:
        """Forget dead letters; ``None`` means all; return how many."""
        return self._run(deadletters.discard(self._session, identifier, ids))


def _not_here(done: str, instead: str) -> UnsupportedByEngineError:
    return UnsupportedByEngineError(f"A queue on NATS cannot be {done}: {instead}.")
