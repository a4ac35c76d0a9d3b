"""Opens a queue; everything else is made from here."""

import os
import pathlib
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from persipubsub.arguments import check_count
from persipubsub.connection import Connection, connect
from persipubsub.control import Control
from persipubsub.deploying import SubscriberIds, check_same, check_subscribers, deploy, given, known_subscriber
from persipubsub.errors import SettingsError
from persipubsub.limits import Durability, HighWaterMark, Retention, Settings, Strategy, check_settings
from persipubsub.message import Serializer
from persipubsub.publisher import Publisher
from persipubsub.retained.browsing import RetainedMessage, browse
from persipubsub.retained.positions import Position, check_position
from persipubsub.subscriber import Deserializer, Subscriber

T = TypeVar("T")


class Environment:
    """A queue as this process sees it: one owner of leases; safe to use from any thread.

    Nothing is opened before it is needed. The same queue may be opened several times in a process, by
    whatever path. After a fork the child's objects open the queue anew at their first use and leave
    the parent's leases alone. An Environment can be pickled, by its path, into other processes.

    Opening and closing are transactions of their own, each atomic. None of its methods waits for messages;
    one waits for another process's transaction, for ``lock_timeout`` seconds of the queue at most. When its
    process dies, however it dies, what it had taken goes to other consumers at once.

    >>> with Environment("memory:") as env:
    ...     control = env.new_control(subscriber_ids={"worker"})
    ...     _ = env.new_publisher().send(b"frame")
    ...     with env.new_subscriber("worker").receive(timeout=0) as msg:
    ...         print(msg)
    b'frame'

    :param path: the directory of the queue; ``"memory:"`` for a queue in this process alone and
        ``"memory:name"`` for one that others in this process can open by that name
    :raise ClosedError: by any method but ``close``, once it was closed
    :raise OpenError: by whatever uses the queue first, if it cannot be opened; the subclass says why
    :raise QueueReplacedError: the queue was deleted or exchanged underneath; open it anew
    :raise StorageError: the disk refused a read or a write; after StorageFailedError the queue is opened anew
    :raise QueueBusyError: another process kept the write lock for too long
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Remember where the queue is.

        :raise OpenError: ``path`` is no path
        """
        self._connection = connect(path)
        self._path = pathlib.Path(path)

    @classmethod
    def from_config(cls, path: str | os.PathLike[str], name: str) -> Self:
        """Open the queue called ``name`` of a deployment file; it need not be deployed yet.

        :param path: of the file
        :param name: of the queue
        :raise ConfigError: the file is wrong, or has no such queue
        """
        from persipubsub.configfile.reading import load, queue_path

        return cls(queue_path(load(path), name))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._connection, self._path)

    @property
    def path(self) -> pathlib.Path:
        """Return the path as it was given."""
        return self._path

    @property
    def location(self) -> str:
        """Return where the queue is: an absolute path, or the name of a queue in memory."""
        return self._connection.location

    @property
    def closed(self) -> bool:
        """Tell whether it was closed."""
        return self._connection.closed

    def new_control(
        self,
        subscriber_ids: SubscriberIds | None = None,
        high_water_mark: HighWaterMark | None = None,
        strategy: Strategy | None = None,
        *,
        retention: Retention | None = None,
        durability: Durability | None = None,
        max_message_bytes: int | None = None,
        deduplication_window: float | None = None,
        lock_timeout: float | None = None,
        map_size: int | None = None,
        group_access: bool | None = None,
        high_watermark: HighWaterMark | None = None,
    ) -> Control:
        """Deploy the queue if nothing is deployed, wholly or not at all, and return its Control.

        Arguments left out are the defaults of :class:`~persipubsub.limits.Settings` for a new queue,
        and are not compared with an existing one.

        :param subscriber_ids: identifiers, or a mapping from identifiers to SubscriberSettings; they get
            what is sent from now on
        :param high_water_mark: the limits; by default 30 GiB of payload and nothing else
        :param strategy: what a send does that would exceed the limits
        :param retention: whether consumed messages are kept
        :param durability: what a returned send or acknowledgement survives
        :param max_message_bytes: bytes of the largest payload
        :param deduplication_window: seconds that a deduplication id is remembered
        :param lock_timeout: seconds that a call waits for another process's write transaction
        :param map_size: bytes of address space to start with
        :param group_access: let the group of the directory read and write the queue
        :param high_watermark: ``high_water_mark`` as the documentation of version 1 spelled it
        :raise SettingsMismatchError: the queue exists with other settings than those given; names the differences
        :raise SettingsError: a value makes no sense; nothing was created
        :raise IdentifierError: an identifier breaks the rules; nothing was created
        :raise NotAQueueError: something else is there
        """
        if high_water_mark is not None and high_watermark is not None:
            raise SettingsError("high_water_mark and high_watermark are the same; give one of them.")
        changes = given(
            high_water_mark=high_watermark if high_water_mark is None else high_water_mark,
            strategy=strategy,
            retention=retention,
            durability=durability,
            max_message_bytes=max_message_bytes,
            deduplication_window=deduplication_window,
            lock_timeout=lock_timeout,
            map_size=map_size,
            group_access=group_access,
        )
        settings = check_settings(Settings(**changes))
        subscribers = None if subscriber_ids is None else check_subscribers(subscriber_ids)
        self._connection.check_open()
        if self._connection.opener.exists() or not deploy(self._connection, settings, subscribers or {}):
            check_same(self._connection, changes, subscribers, with_settings=isinstance(subscriber_ids, Mapping))
        self._connection.engine()
        return Control(self._connection)

    def open_control(self) -> Control:
        """Return the Control of a queue that is deployed; nothing is created.

        :raise QueueNotFoundError: nothing is deployed at the path
        """
        self._connection.engine()
        return Control(self._connection)

    def new_publisher(self, autosync: bool = False, serializer: Serializer | None = None) -> Publisher:
        """Return a publisher.

        :param autosync: let ``send_many`` commit each message on its own
        :param serializer: makes bytes of what is sent, such as ``persipubsub.serializers.json_dumps``
        :raise QueueNotFoundError: nothing is deployed at the path
        """
        self._connection.engine()
        return Publisher(self._connection, autosync, serializer)

    @overload
    def new_subscriber(self, identifier: str, deserializer: None = None) -> Subscriber[bytes]: ...

    @overload
    def new_subscriber(self, identifier: str, deserializer: Deserializer[T]) -> Subscriber[T]: ...

    def new_subscriber(self, identifier: str, deserializer: Deserializer[Any] | None = None) -> Subscriber[Any]:
        """Return a subscriber.

        :param identifier: of a subscriber that the queue has
        :param deserializer: makes values of payloads, such as ``persipubsub.serializers.json_loads``. A message with
            which it fails is given back with the error as its reason, until it is a dead letter.
        :raise QueueNotFoundError: nothing is deployed at the path
        :raise UnknownSubscriberError: the queue has no such subscriber; lists those it has
        """
        known_subscriber(self._connection.engine(), identifier)
        return Subscriber(self._connection, identifier, deserializer)

    def browse(
        self, start: Position = "first", limit: int | None = None, follow: bool = False
    ) -> Iterator[RetainedMessage]:
        """Read what the queue retains, without a subscriber, a trace, or a transaction held between items.

        :param start: ``"first"``, ``"latest"``, an id, or an aware datetime
        :param limit: so many messages at most
        :param follow: wait for what is published next, instead of ending
        :raise PositionError: ``start`` means nothing
        :raise SettingsError: ``limit`` is no number of messages
        """
        check_browsing(start, limit)
        self._connection.engine()
        return browse(self._connection, start, limit, follow)

    def close(self) -> None:
        """Close everything made from here and give back what it took; closing twice has no effect."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Environment of {self.location}{', closed' if self.closed else ''}>"


def _restore(kind: type[Environment], connection: Connection, path: pathlib.Path) -> Environment:
    environment = kind.__new__(kind)
    environment._connection = connection
    environment._path = path
    return environment


def check_browsing(start: Position, limit: int | None) -> None:
    """Check the arguments of ``browse``.

    :raise PositionError: ``start`` means nothing
    :raise SettingsError: ``limit`` is no number of messages
    """
    check_position(start)
    if limit is not None:
        check_count("limit", limit, 0)


def initialize(path: str | os.PathLike[str]) -> Environment:
    """Return an Environment, as in version 1."""
    return Environment(path)


def new_environment(path: str | os.PathLike[str]) -> Environment:
    """Return an Environment, as the documentation of version 1 spelled it."""
    return Environment(path)
