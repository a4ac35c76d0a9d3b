"""The memory engine: the same queue in the memory of one process, in plain Python.

For users' unit tests, and the model that the persistent engine is compared with; it is written to
be obviously right rather than fast.

``messages``        what is retained, by id
``holds``           what a subscriber has taken or set aside
``state``           a queue and its subscribers: all that the modules below read and change
``publish``         storing and pruning
``take``            giving messages out
``settle``          what becomes of a message that was given out
``roster``          subscribers, their positions and dead letters
``look``            statistics and the consistency check
``waiting``         waking
``queue``           one queue for several engines, by name
``steps``           one operation: atomic, and others are woken
``administration``  the operations on the queue itself and its subscribers
``engine``          all of it behind the interface of an engine
"""

from persipubsub.engine.memory.engine import MemoryEngine, open_memory
from persipubsub.engine.memory.queue import exists

__all__ = ["MemoryEngine", "exists", "open_memory"]
