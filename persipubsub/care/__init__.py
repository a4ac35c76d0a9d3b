"""Looking after queues: backups that are restored, exports and imports, salvage of damaged queues, a doctor.

``Control.backup``, ``Control.compact`` and ``Control.export`` are about an open queue; what is here makes a queue of
something else, or looks at a queue from outside.

Each function blocks until it is done, which for all but ``examine`` takes longer the larger the queue is; any thread
may call them. They keep nothing open. What makes a queue makes all of it or, when it raises or its process is killed,
nothing.

``restoring``  a queue of a backup
``transfer``   a queue, or messages for one, of an export
``salvaging``  a queue of what can be read of a damaged one
``checking``   ``Control.check`` in a process of its own, which a damaged page may take with it
``doctor``     what on this machine needs care; ``surroundings`` and ``measuring`` are what it looks at
"""

from persipubsub.care.checking import check_apart
from persipubsub.care.doctor import Symptom, examine
from persipubsub.care.restoring import restore
from persipubsub.care.salvaging import Salvage, salvage
from persipubsub.care.transfer import Imported, import_messages, import_queue

__all__ = [
    "Imported",
    "Salvage",
    "Symptom",
    "check_apart",
    "examine",
    "import_messages",
    "import_queue",
    "restore",
    "salvage",
]
