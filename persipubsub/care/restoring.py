"""Making a queue of a backup."""

import os
import pathlib

from persipubsub.engine.local import copying, restore_local
from persipubsub.paths import absolute


def restore(
    backup: str | os.PathLike[str], path: str | os.PathLike[str], *, keep_identity: bool = False
) -> pathlib.Path:
    """Make a queue of a backup and return its path. The backup is verified first, and left as it is.

    What somebody held when the backup was made comes back, to be delivered next: its owners do not exist in the
    restored queue. A subscriber gets again what it has acknowledged since the backup.

    A restored queue gives ids again that the original has given since the backup, to other messages. So it gets an
    identity of its own, and nobody who recognises messages by identity and id takes the new ones for old ones.

    :param backup: the folder that ``Control.backup`` wrote
    :param path: of the new queue; nothing may be there
    :param keep_identity: it is the very same queue: for moving one that nothing was sent to since the backup
    :raise QueueExistsError: a queue is at ``path`` already; it is left untouched
    :raise NotAQueueError: something else is there, or ``backup`` is no backup
    :raise QueueNotFoundError: there is no backup
    :raise QueueBusyError: somebody uses the backup as a queue
    :raise QueueDamagedError: the backup is damaged; nothing was created
    """
    target = absolute(path)
    if not restore_local(absolute(backup), target, keep_identity=keep_identity):
        raise copying.exists(target)
    return target
