"""Many named queues under one directory."""

import os
import pathlib
from typing import Any

from persipubsub.engine.opening import LocalOpener
from persipubsub.engine.refusals import not_found
from persipubsub.environment import Environment
from persipubsub.errors import IdentifierError
from persipubsub.names import encode_name
from persipubsub.paths import absolute


class QueueManager:
    """The queues directly under a directory, by their names; safe to use from any thread.

    Creating and deleting are atomic: a killed process leaves a whole queue or none. No method waits for
    messages.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     manager = QueueManager(root)
    ...     with manager.create("frames", subscriber_ids={"worker"}) as env:
    ...         _ = env.new_publisher().send(b"frame")
    ...     manager.names(), manager.exists("orders")
    (['frames'], False)
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Remember the directory; it is created with the first queue."""
        self._root = absolute(root)

    @property
    def root(self) -> pathlib.Path:
        """Return the absolute path of the directory."""
        return self._root

    def names(self) -> list[str]:
        """Return the names of the queues, sorted; other things in the directory are passed over."""
        try:
            entries = sorted(os.listdir(self._root))
        except FileNotFoundError:
            return []
        return [name for name in entries if _is_name(name) and LocalOpener(self._root / name).exists()]

    def exists(self, name: str) -> bool:
        """Tell whether there is a queue of this name.

        :raise IdentifierError: ``name`` is no name of a queue
        """
        return LocalOpener(self._path(name)).exists()

    def create(self, name: str, **settings: Any) -> Environment:
        """Deploy a queue with the arguments of ``Environment.new_control``, and open it.

        :param name: of the queue: a name of a directory, of 1 to 255 bytes
        :param settings: such as ``subscriber_ids={"worker"}``
        :raise IdentifierError: ``name`` is no name of a queue
        :raise SettingsError: a value makes no sense; nothing was created
        :raise SettingsMismatchError: it exists with other settings than those given
        """
        path = self._path(name)
        environment = Environment(path)
        environment.new_control(**settings).close()
        return environment

    def open(self, name: str) -> Environment:
        """Open a queue.

        :raise QueueNotFoundError: there is none of this name
        :raise IdentifierError: ``name`` is no name of a queue
        """
        if not self.exists(name):
            raise not_found(str(self._path(name)))
        return Environment(self._path(name))

    def delete(self, name: str, *, force: bool = False) -> bool:
        """Delete a queue with all its messages; return whether it existed.

        :param force: delete it even if somebody has it open; whoever has gets QueueReplacedError from then on
        :raise QueueBusyError: somebody has it open, and it is not forced
        :raise NotAQueueError: something else has this name; it is left alone
        :raise IdentifierError: ``name`` is no name of a queue
        """
        return LocalOpener(self._path(name)).delete(force)

    def _path(self, name: str) -> pathlib.Path:
        if not _is_name(name):
            encode_name(name, "queue name")
            raise IdentifierError(f"The queue name {name!r} is no name of a directory; leave out '/' and a first '.'.")
        return self._root / name


def _is_name(name: object) -> bool:
    try:
        encode_name(name, "queue name")
    except IdentifierError:
        return False
    return isinstance(name, str) and "/" not in name and os.sep not in name and not name.startswith(".")
