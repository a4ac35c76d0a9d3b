"""Deployment and administration of a queue."""

import os
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import msgspec
from msgspec import UNSET, UnsetType

from persipubsub.connection import Connection, Handle
from persipubsub.deploying import (
    SubscriberIds,
    add_missing,
    check_same_subscriber,
    check_subscribers,
    deploy,
    given,
    known_subscriber,
)
from persipubsub.engine.figures import Compaction, Finding, Statistics
from persipubsub.errors import SettingsError
from persipubsub.limits import (
    HighWaterMark,
    Settings,
    Strategy,
    SubscriberSettings,
    check_settings,
    check_subscriber_settings,
)
from persipubsub.names import encode_name
from persipubsub.paths import absolute
from persipubsub.retained.dead_letters import DeadLetters
from persipubsub.retained.exporting import export
from persipubsub.retained.positions import Position, check_position, resolve


class Control(Handle):
    """Settings, subscribers and figures of a queue; safe to use from any thread.

    Whatever is changed holds from the next operation of every process on. Each method is one transaction:
    it happens wholly or, when it raises, not at all. It waits for another process's transaction, for
    ``lock_timeout`` seconds of the queue at most, and for nothing else. What it has changed when it returns survives a
    crash as the queue's durability says.

    >>> import persipubsub
    >>> with persipubsub.Environment("memory:") as env:
    ...     control = env.new_control(subscriber_ids={"worker"})
    ...     control.add_subscriber("archive", max_deliveries=None)
    ...     control.set_strategy(persipubsub.Strategy.REJECT)
    ...     print(sorted(control.subscriber_ids), control.settings.strategy.value)
    ['archive', 'worker'] reject

    :raise ClosedError: by any method, once it was closed or its Environment was
    :raise QueueBusyError: another process kept the write lock for too long
    :raise QueueReplacedError: the queue was deleted or exchanged underneath; open it anew
    :raise StorageError: the disk refused a read or a write; after StorageFailedError the queue is opened anew
    """

    def __init__(self, connection: Connection) -> None:
        """Control the queue of ``connection``; ``Environment.new_control`` makes controls."""
        super().__init__(connection)

    def __reduce__(self) -> tuple[Any, ...]:
        return Control, (self._connection,)

    # -- the queue ----------------------------------------------------------------------------

    def init(
        self,
        subscriber_ids: SubscriberIds | None = None,
        high_water_mark: HighWaterMark | None = None,
        strategy: Strategy | None = None,
    ) -> None:
        """Set the limits and add the subscribers that are missing; what is left out stays as it is.

        :param subscriber_ids: identifiers, or a mapping from identifiers to SubscriberSettings
        :param high_water_mark: the limits
        :param strategy: what a send does that would exceed them
        :raise IdentifierError: an identifier breaks the rules; nothing was changed
        :raise SettingsError: a limit makes no sense; nothing was changed
        """
        subscribers = check_subscribers(subscriber_ids or ())
        changes = given(high_water_mark=high_water_mark, strategy=strategy)
        if not self._connection.opener.exists():
            deploy(self._connection, check_settings(Settings(**changes)), subscribers)
            return
        if changes:
            self.configure(**changes)
        add_missing(self._engine(), subscribers)

    def is_initialized(self) -> bool:
        """Tell whether the queue is deployed."""
        return not self.closed and self._connection.opener.exists()

    @property
    def settings(self) -> Settings:
        """Return the settings as they are stored now."""
        return self._engine().settings()

    def configure(self, **changes: Any) -> Settings:
        """Change settings by their names, such as ``retention=Retention.LOG``, and return all of them.

        :param changes: settings of :class:`~persipubsub.Settings`
        :raise SettingsError: there is no such setting, or the value makes no sense; nothing was changed
        :raise QueueError: the durability cannot change while others have the queue open
        """
        _check_names(changes, Settings)
        engine = self._engine()
        settings = engine.settings().changed(**changes)
        engine.configure(settings)
        return settings

    def set_high_water_mark(self, high_water_mark: HighWaterMark) -> None:
        """Change the limits.

        A queue that is above the new ones is pruned by the next send.

        :param high_water_mark: the limits; those left out are the defaults
        :raise SettingsError: a limit makes no sense; nothing was changed
        """
        self.configure(high_water_mark=high_water_mark)

    def set_hwm(self, hwm: HighWaterMark) -> None:
        """Change the limits; the name in version 1.

        :param hwm: the limits; those left out are the defaults
        :raise SettingsError: a limit makes no sense; nothing was changed
        """
        self.configure(high_water_mark=hwm)

    def set_strategy(self, strategy: Strategy) -> None:
        """Change what a send does that would exceed the limits.

        :param strategy: what it does from now on
        :raise SettingsError: it is no Strategy; nothing was changed
        """
        self.configure(strategy=strategy)

    def statistics(self) -> Statistics:
        """Return figures of the queue and all its subscribers, taken at one moment."""
        return self._engine().statistics()

    def check(self) -> list[Finding]:
        """Verify everything that is stored; an empty list means that all is well.

        Reads the whole queue, in a read transaction: others go on meanwhile, but the space of what they
        delete is not used again before its end.
        """
        return self._engine().check()

    def backup(self, path: str | os.PathLike[str]) -> int:
        """Write a copy of the queue into a new folder, and return its size in bytes; others use the queue meanwhile.

        It is what one moment of the queue was. It is synced, verified as ``check`` does, and then appears under its
        name all at once: whatever happens on the way, nothing is left. While it is written the map cannot grow in
        this process, and the free space inside the file is not used again by anybody.

        :raise QueueExistsError: a queue is at ``path`` already; it is left untouched
        :raise NotAQueueError: something else is there
        :raise QueueDamagedError: the copy has faults, for the queue has them
        :raise StorageFullError: the disk is full
        :raise UnsupportedByEngineError: the queue is not on a disk
        """
        return self._engine().backup(absolute(path))

    def compact(self) -> Compaction:
        """Write the data file anew without its free pages; return what it took before and what it takes after.

        Only while no other process has the queue open. Calls of this process wait until it is done. The new file
        is synced and verified before it takes the place of the old one, in one step: a crash leaves one of the two.

        :raise QueueBusyError: another process has the queue open, or a view is being read; nothing was changed
        :raise StorageFullError: the disk has no room for the new file beside the old one; nothing was changed
        :raise UnsupportedByEngineError: the queue is not on a disk
        """
        return self._engine().compact()

    def export(self, stream: BinaryIO, progress: Callable[[int], None] | None = None) -> int:
        """Write the queue as JSON Lines, and return the number of messages; others use the queue meanwhile.

        Everything that a subscriber still needs is in it: messages with headers, topics and times, and how far each
        subscriber is, what it holds, and its dead letters. ``persipubsub.care`` reads it again.

        :param stream: a file open for writing bytes
        :param progress: is told the number of messages so far
        :raise QueueDamagedError: a message does not agree with its checksum
        :raise UnsupportedByEngineError: the queue is not on a disk
        """
        return export(self._engine(), stream, progress)

    def prune_dangling_messages(self) -> int:
        """Drop what no subscriber needs or what is older than the message timeout; return how many.

        In a log only what is older than the message timeout is dropped.
        """
        return self._engine().prune_dangling()

    def clear_all_subscribers(self) -> None:
        """Drop all subscribers and all messages."""
        self._engine().clear()

    # -- subscribers --------------------------------------------------------------------------

    @property
    def subscriber_ids(self) -> set[str]:
        """Return the identifiers of the subscribers as they are stored now."""
        return set(self._engine().subscribers())

    @property
    def subscribers(self) -> dict[str, SubscriberSettings]:
        """Return the subscribers and their settings as they are stored now."""
        return self._engine().subscribers()

    def add_subscriber(
        self,
        identifier: str,
        start: Position = "latest",
        *,
        lease: float | UnsetType | None = UNSET,
        max_deliveries: int | UnsetType | None = UNSET,
        topic_filter: str | UnsetType | None = UNSET,
        ephemeral: bool | UnsetType = UNSET,
    ) -> None:
        """Add a subscriber; if it exists with the same settings nothing changes, and it stays where it is.

        :param identifier: 1 to 255 bytes of UTF-8, no control characters
        :param start: ``"latest"``: only what comes next, ``"first"``: all that is retained, an id, or an aware datetime
        :param lease: seconds a taken message may be held; ``None``, the default: as long as its owner lives
        :param max_deliveries: deliveries after which a message is dead, by default 20; ``None``: never
        :param topic_filter: deliver only messages whose topic matches; ``*`` is one token, ``>`` at the end the rest
        :param ephemeral: let it vanish with the Environment that this Control belongs to
        :raise IdentifierError: the identifier or the filter breaks the rules
        :raise SettingsError: another value makes no sense
        :raise SettingsMismatchError: it exists with other settings; see ``configure_subscriber``
        :raise PositionError: ``start`` is not retained
        """
        encode_name(identifier, "identifier")
        start = check_position(start)
        asked = {
            name: value
            for name, value in (
                ("lease", lease),
                ("max_deliveries", max_deliveries),
                ("topic_filter", topic_filter),
                ("ephemeral", ephemeral),
            )
            if value is not UNSET
        }
        engine = self._engine()
        stored = engine.subscribers().get(identifier)
        settings = msgspec.structs.replace(SubscriberSettings() if stored is None else stored, **asked)
        check_subscriber_settings(settings)
        if stored is not None:
            check_same_subscriber(self._connection.location, identifier, settings, stored)
        engine.add_subscriber(identifier, settings, start if isinstance(start, (str, int)) else resolve(engine, start))

    def configure_subscriber(self, identifier: str, **changes: Any) -> SubscriberSettings:
        """Change settings of a subscriber by their names, such as ``lease=30.0``, and return all of them.

        Leases that run keep their end.

        :param identifier: of the subscriber
        :param changes: settings of :class:`~persipubsub.SubscriberSettings`
        :raise UnknownSubscriberError: there is no such subscriber
        :raise SettingsError: there is no such setting, or the value makes no sense; nothing was changed
        """
        _check_names(changes, SubscriberSettings)
        engine = self._engine()
        settings = msgspec.structs.replace(known_subscriber(engine, identifier), **changes)
        engine.configure_subscriber(identifier, check_subscriber_settings(settings))
        return settings

    def remove_subscriber(self, identifier: str) -> bool:
        """Remove a subscriber with its leases and dead letters; return whether it existed.

        :param identifier: of the subscriber
        :raise IdentifierError: there cannot be one of that name
        """
        encode_name(identifier, "identifier")
        return self._engine().remove_subscriber(identifier)

    def purge(self, subscriber: str) -> int:
        """Settle everything that waits for a subscriber and that nobody holds; return how many.

        :param subscriber: its identifier
        :raise UnknownSubscriberError: there is no such subscriber
        """
        return self._engine().purge(self._known(subscriber))

    def pause_subscriber(self, identifier: str) -> None:
        """Deliver nothing to a subscriber until it is resumed; its backlog stays and grows.

        :param identifier: of the subscriber
        :raise UnknownSubscriberError: there is no such subscriber
        """
        self._engine().pause(self._known(identifier), True)

    def resume_subscriber(self, identifier: str) -> None:
        """Deliver to a paused subscriber again.

        :param identifier: of the subscriber
        :raise UnknownSubscriberError: there is no such subscriber
        """
        self._engine().pause(self._known(identifier), False)

    def dead_letters(self, subscriber: str) -> DeadLetters:
        """Return the dead letters of a subscriber, to be listed, requeued or discarded.

        :param subscriber: its identifier
        :raise UnknownSubscriberError: there is no such subscriber
        """
        return DeadLetters(self._known(subscriber), self._engine)

    def _known(self, identifier: str) -> str:
        known_subscriber(self._engine(), identifier)
        return identifier


def _check_names(changes: Mapping[str, Any], shape: type[Settings | SubscriberSettings]) -> None:
    for name in changes:
        if name not in shape.__struct_fields__:
            raise SettingsError(f"There is no setting {name!r}; there are: {', '.join(shape.__struct_fields__)}.")
