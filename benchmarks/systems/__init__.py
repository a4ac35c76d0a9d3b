"""The systems that are measured."""

from collections.abc import Iterable

from benchmarks.errors import BenchmarkError
from benchmarks.systems.base import Role, System
from benchmarks.systems.floor import FLAGS, Floor
from benchmarks.systems.honker import Honker
from benchmarks.systems.jetstream import JetStream
from benchmarks.systems.litequeue import LiteQueue
from benchmarks.systems.mp_queue import MultiprocessingQueue
from benchmarks.systems.os_pipe import OsPipe
from benchmarks.systems.ours import Ours
from benchmarks.systems.ours_aio import OursAio
from benchmarks.systems.ours_nats import OursNats
from benchmarks.systems.persistqueue import PersistQueue
from benchmarks.systems.redis_streams import Redis
from benchmarks.systems.simplebroker import SimpleBroker
from benchmarks.systems.zeromq import ZeroMQ

DURABILITIES = ("process", "commit", "full")

_ALL: tuple[System, ...] = (
    *(Ours(durability) for durability in DURABILITIES),
    *(OursAio(durability) for durability in DURABILITIES),
    OursNats(always=False),
    OursNats(always=True),
    *(Floor(name) for name in FLAGS),
    PersistQueue("file"),
    PersistQueue("sqlite"),
    LiteQueue(),
    Honker(),
    SimpleBroker("NORMAL"),
    SimpleBroker("FULL"),
    Redis("everysec"),
    Redis("always"),
    JetStream(always=False),
    JetStream(always=True),
    ZeroMQ(),
    MultiprocessingQueue(),
    OsPipe(),
)

SYSTEMS: dict[str, System] = {system.name: system for system in _ALL}

#: A quick look: two of ours, their floors, and the best peers.
QUICK = (
    *("ours-process", "ours-full", "floor-process", "floor-process-nomap", "floor-full", "litequeue"),
    *("redis-everysec", "redis-always", "jetstream", "jetstream-always", "os-pipe"),
)


def choose(words: Iterable[str]) -> list[System]:
    """Return the systems that ``words`` name: a system, the beginning of its name, or a role in the plural.

    :raise BenchmarkError: a word names none
    """
    chosen: set[str] = set()
    for word in words:
        found = {
            name
            for name, system in SYSTEMS.items()
            if word in ("all", name, system.role.value, f"{system.role.value}s")
        } or {name for name in SYSTEMS if name.startswith(word)}
        if not found:
            raise BenchmarkError(
                f"There is no system {word!r}; choose from {', '.join(SYSTEMS)}, or a role such as peers."
            )
        chosen |= found
    return [system for name, system in SYSTEMS.items() if name in chosen]


__all__ = ["DURABILITIES", "QUICK", "SYSTEMS", "Role", "System", "choose"]
