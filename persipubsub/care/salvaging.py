"""Making a queue of what can be read of a damaged one."""

import os

from persipubsub.engine.local import salvage_local
from persipubsub.engine.local.salvage import Salvage
from persipubsub.paths import absolute

__all__ = ["Salvage", "salvage"]


def salvage(damaged: str | os.PathLike[str], path: str | os.PathLike[str]) -> Salvage:
    """Make a queue of what can be read of a damaged one, and return what was saved and what was lost.

    The damaged queue is only read, and byte by byte: LMDB, which may end the process over a damaged page, never sees
    it. Messages are genuine: each agrees with its checksum. What cannot be known any more is decided for the message:
    one that was settled may come again, none that can be read is left out.

    :param damaged: the folder of the damaged queue
    :param path: of the new one; nothing may be there
    :raise QueueNotFoundError: there is no data file
    :raise QueueExistsError: a queue is at ``path`` already; it is left untouched
    :raise QueueBusyError: somebody has the damaged queue open
    :raise QueueDamagedError: nothing can be read any more; nothing was created
    """
    return salvage_local(absolute(damaged), absolute(path))
