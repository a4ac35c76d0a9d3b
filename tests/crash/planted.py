"""Bugs that are planted into a process of a test, to show that what looks for them finds them.

Each replaces a part of the library in this process alone, before it opens a queue.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.crash.failpoints import find, patch

if TYPE_CHECKING:
    import pytest  # the processes of a test do without

Function = Callable[..., Any]


def _instead(result: Function) -> Callable[[Function], Function]:
    """Return what replaces a function by another that takes the same arguments."""
    return lambda original: result


def _acknowledge(receiving: Any, kind: Any, error: Any, traceback: Any) -> None:
    messages, receiving._messages = receiving._messages, ()
    if messages:
        receiving._settle(messages)


def _without_token(original: Function) -> Function:
    from persipubsub.engine.local.format import LEASED, READY

    def held(desk: Any, receipt: Any) -> Any:
        for kind in (LEASED, READY):
            hold = desk.get(kind, receipt.id)
            if hold is not None:
                return kind, hold
        return None

    return held


def _without_commit(original: Function) -> Function:
    """Say of some publications that it stands although nothing of it was committed."""
    number = 0

    def write(writer: Any, operation: Any, **options: Any) -> Any:
        nonlocal number
        number += 1
        if number % 20 == 0 and options.get("payload"):
            return writer.rehearse(operation)
        return original(writer, operation, **options)

    return write


def _newest_first(original: Function) -> Function:
    def take(desk: Any, most: int, lease: Any) -> Any:
        from persipubsub.engine.local.take import take_newest

        delivery = take_newest(desk, lease)
        # Who was told that there is something looks until it comes.
        return original(desk, most, lease) if delivery is None else [delivery]

    return take


def _asleep_at_once(original: Function) -> Function:
    """Wait as it is done, but without a look between asking to be woken and sleeping."""

    def wait(room: Any, attempt: Any, new_waiter: Any, deadline: Any) -> Any:
        looked = 0

        def look() -> Any:
            nonlocal looked
            looked += 1
            # The first is that after the bell was armed.
            return attempt() if looked > 1 else []

        return original(room, look, new_waiter, deadline)

    return wait


def _settled_at_the_entrance(original: Function) -> Function:
    def enter(receiving: Any) -> Any:
        value = original(receiving)
        receiving._settle(receiving._messages)
        return value

    return enter


def _not_told(original: Function) -> Function:
    return lambda reader: reader._store.begin_reading()


def _one_by_one(original: Function) -> Function:
    return lambda engine, entries: [message_id for entry in entries for message_id in original(engine, [entry])]


def _no_floor(original: Function) -> Function:
    def look(horizon: Any, store: Any, identifier: Any) -> None:
        original(horizon, store, identifier)
        horizon.seconds *= 1000

    return look


def _unpickled(original: Function) -> Function:
    def take(desk: Any, most: int, lease: Any) -> Any:
        import pickle

        found = original(desk, most, lease)
        for delivery in found:
            try:
                pickle.loads(delivery.data)
            except Exception:  # noqa: BLE001 - it is no pickle
                continue
        return found

    return take


PLANTED: dict[str, tuple[str, Callable[[Function], Function]]] = {
    "acknowledge on exception": ("delivery.receiving:Receiving.__exit__", _instead(_acknowledge)),
    "dead owners ignored": ("engine.local.operations:take_over_from_dead", _instead(lambda desk, me: False)),
    "the living taken for dead": (
        "engine.local.owners:Owners.is_alive",
        _instead(lambda owners, owner: owners.is_mine(owner)),
    ),
    "no fencing token": ("engine.local.settle:held", _without_token),
    "acknowledgements forgotten": ("engine.local.settle:_settle_one", _instead(lambda *_: True)),
    "no commit": ("engine.local.writing:Writer.write", _without_commit),
    "acknowledged at the entrance": ("delivery.receiving:Receiving.__enter__", _settled_at_the_entrance),
    "batches torn": ("engine.local.engine:LocalEngine.put", _one_by_one),
    "newest first": ("engine.local.take:take", _newest_first),
    "no look before sleeping": ("delivery.waiting:WaitingRoom.wait", _asleep_at_once),
    "nothing deleted": ("engine.local.prune:sweep", _instead(lambda *_: 0)),
    "dead readers not swept": ("engine.local.mapped:Mapped._sweep_readers", _instead(lambda mapped: None)),
    "full for the sake of the dead": ("engine.local.store:Store.is_full", _instead(lambda store, error: False)),
    "a full table not told": ("engine.local.reading:Reader._begin", _not_told),
    "losses not counted": ("engine.local.gaps:losses_between", _instead(lambda *_: (0, 0))),
    "taken back, and carried": ("engine.local.committing:_stand", _instead(lambda jobs: True)),
    "files not inspected": ("engine.local.files:inspect", _instead(lambda folder: None)),
    "descriptors left open": ("engine.local.locks:ByteLocks.close", _instead(lambda byte_locks: None)),
    "files not looked at": ("engine.local.store:Store.check_files", _instead(lambda store: None)),
    "no look without a bell": ("engine.local.waiting:Horizon.__init__", _no_floor),
    "places of the dead kept": ("engine.local.mapped:Mapped.free_own_slots", _instead(lambda mapped: None)),
    "links followed": ("engine.local.files:_refuse_planted", _instead(lambda *_: None)),
    "modes not set": ("engine.local.files:set_modes", _instead(lambda *_: None)),
    "payloads unpickled": ("engine.local.take:take", _unpickled),
    "map not followed": ("engine.local.store:Store.follow_map", _instead(lambda store: None)),
}


def plant(name: str) -> None:
    """Plant a bug into this process."""
    where, wrap = PLANTED[name]
    patch(where, wrap)


def plant_for(monkeypatch: "pytest.MonkeyPatch", name: str) -> None:
    """Plant a bug into this process, for one test."""
    where, wrap = PLANTED[name]
    owner, attribute = find(where)
    monkeypatch.setattr(owner, attribute, wrap(getattr(owner, attribute)))
