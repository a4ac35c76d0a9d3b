"""Named points at which a process of a test kills itself.

The production code knows nothing of them: the process wraps the named function in itself, before it
opens a queue.
"""

import dataclasses
import functools
import importlib
import os
import random
import signal
from collections.abc import Callable
from typing import Any

#: Longer than any commit that is not disturbed, in seconds.
_COMMIT = 0.002

BEFORE, AFTER, INSIDE = "before", "after", "inside"


@dataclasses.dataclass(frozen=True)
class Failpoint:
    """A moment next to a function of the library."""

    #: Module below ``persipubsub``, a colon, and the function.
    where: str
    #: Before it is called, after it returned, or within the next two milliseconds after it returned.
    when: str
    #: Who comes by: publisher, consumer, admin, grower (a publisher whose map is full), any.
    who: str = "any"


_STORE = "engine.local.store:Store."

FAILPOINTS: dict[str, Failpoint] = {
    "with the lock": Failpoint("engine.local.writelock:WriteLock.acquire", AFTER),
    "waiting for the lock": Failpoint("engine.local.writelock:WriteLock._acquire_slowly", BEFORE),
    "before the transaction": Failpoint(_STORE + "begin_writing", BEFORE),
    "in the transaction": Failpoint(_STORE + "begin_writing", AFTER),
    "before the commit": Failpoint("engine.local.work:Work.finish", AFTER),
    "inside the commit": Failpoint("engine.local.work:Work.finish", INSIDE),
    "after the commit, with the lock": Failpoint("engine.local.writelock:WriteLock.release", BEFORE),
    "between commit and wake-up": Failpoint("engine.local.bells:Bells.ring", BEFORE),
    "after the wake-up": Failpoint("engine.local.bells:Bells.ring", AFTER),
    "a message half written": Failpoint("engine.local.format:pack_meta", BEFORE, "publisher"),
    "between take and hand-over": Failpoint("engine.local.batches:Batches.start", BEFORE, "consumer"),
    "with the message in hand": Failpoint("delivery.holding:Holder.decode", AFTER, "consumer"),
    "in the middle of a batch": Failpoint("engine.local.batches:Batches.handed", AFTER, "loop"),
    "inside a take": Failpoint("engine.local.take:_deliver", AFTER, "consumer"),
    "before settling": Failpoint("engine.local.settle:settle", BEFORE, "consumer"),
    "inside settling": Failpoint("engine.local.settle:_settle_one", AFTER, "consumer"),
    "after settling": Failpoint("delivery.settling:Settler.mark_settled", BEFORE, "consumer"),
    "inside giving back": Failpoint("engine.local.returning:_set_aside", AFTER, "consumer"),
    "taking over from the dead": Failpoint("engine.local.returning:take_over", AFTER, "consumer"),
    "before pruning": Failpoint("engine.local.prune:sweep", BEFORE, "consumer"),
    "inside pruning": Failpoint("engine.local.prune:delete", AFTER, "consumer"),
    "about to sleep": Failpoint("engine.local.waiting:LocalWaiter.wait", BEFORE, "consumer"),
    "while a bell is made": Failpoint("engine.local.bells:Bells._open", AFTER, "consumer"),
    "while the map grows": Failpoint(_STORE + "grow_map", BEFORE, "grower"),
    "the file longer than the map": Failpoint("engine.local.space:Space.lengthen", AFTER, "grower"),
    "the map just grown": Failpoint(_STORE + "grow_map", AFTER, "grower"),
    "while a subscriber is added": Failpoint("engine.local.roster:add", AFTER, "admin"),
    "while a subscriber is removed": Failpoint("engine.local.removal:remove", AFTER, "admin"),
    "after a subscriber was removed": Failpoint("engine.local.prune:sweep_all", BEFORE, "admin"),
    "while the queue is opened": Failpoint(_STORE + "identify", BEFORE),
}


def find(where: str) -> tuple[Any, str]:
    """Return what a function belongs to, and its name there."""
    module_name, _, path = where.partition(":")
    owner: Any = importlib.import_module(f"persipubsub.{module_name}")
    *middle, name = path.split(".")
    for part in middle:
        owner = getattr(owner, part)
    getattr(owner, name)
    return owner, name


def patch(where: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a function of the library in this process by what ``wrap`` makes of it."""
    owner, name = find(where)
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(wrap(original)))


def arm(name: str, nth: int, seed: int, dying: Callable[[], object]) -> None:
    """Kill this process when it comes by a point for the nth time; ``dying`` is called just before."""
    point = FAILPOINTS[name]
    left = nth

    def die() -> None:
        dying()
        if point.when != INSIDE:
            os.kill(os.getpid(), signal.SIGKILL)
        # Nobody handles the alarm, so it ends the process wherever it is, in the middle of a system call, too.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, random.Random(seed).uniform(1e-6, _COMMIT))

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if point.when == BEFORE and not left:
                die()
            result = original(*arguments, **options)
            if point.when != BEFORE and not left:
                die()
            return result

        return wrapped

    patch(point.where, wrap)
