"""Subscribers that go: removed, cleared, or vanished with their owner."""

from persipubsub.engine.local import blocks, format, prune, roster
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.work import Work


def remove(work: Work, identifier: str, alone: bool) -> bool:
    """Remove a subscriber with its holds and dead letters; tell whether it existed.

    Its sub-database is deleted if no other transaction of this process is alive, else only emptied:
    LMDB closes the handle of a deleted one, which others might be using.
    """
    key = identifier.encode()
    if work.txn.get(key, db=work.subscribers) is None:
        return False
    desk = Desk(work, identifier)
    desk.drop_all()
    record = desk.record
    work.txn.delete(key, db=work.subscribers)
    work.known.pop(identifier, None)
    work.state.subscribers -= 1
    work.state.ephemerals -= record.ephemeral is not None
    prune.move_position(work, record.position, None)
    name = format.subscriber_db(key)
    work.txn.drop(desk.db, delete=alone)
    if alone:
        work.store.handles.forget([name])
    work.touched = True
    if not work.state.subscribers:
        prune.forget_gone(work)
    prune.sweep(work)
    return True


def reap(work: Work) -> None:
    """Remove ephemeral subscribers whose owners are gone; looks at most once a second."""
    if not work.store.once_a_second():
        return
    for identifier in roster.names(work):
        owner = roster.read(work, identifier).ephemeral
        if owner is not None and not work.store.is_alive(owner):
            remove(work, identifier, alone=False)


def remove_of_owner(work: Work, owner: int, alone: bool) -> None:
    """Remove the ephemeral subscribers of an owner that goes."""
    delete_leftovers(work, alone)
    for identifier in roster.names(work):
        if roster.read(work, identifier).ephemeral == owner:
            remove(work, identifier, alone)


def delete_leftovers(work: Work, alone: bool) -> None:
    """Delete the sub-databases that ``remove`` could only empty, if no other transaction of this process is alive now.

    Whether there are any, two numbers tell: nothing is searched where there are none.
    """
    if not alone or work.store.env.stat()["entries"] <= len(format.FIXED_DBS) + work.state.subscribers:
        return
    known = {format.subscriber_db(identifier.encode()) for identifier in roster.names(work)}
    for name in list(map(bytes, work.txn.cursor().iternext(values=False))):
        if name.startswith(format.SUBSCRIBER_PREFIX) and name not in known:
            work.txn.drop(work.handle(name), delete=True)
            work.store.handles.forget([name])
            work.touched = True


def clear(work: Work) -> None:
    """Drop all subscribers and all messages; ids go on."""
    for identifier in roster.names(work):
        remove(work, identifier, alone=False)
    for db in (work.data, work.meta, work.pending, work.gone, work.deduplication):
        work.txn.drop(db, delete=False)
    state = work.state
    state.messages = state.payload_bytes = state.gone = 0
    state.doomed = ()
    blocks.clear(work)
    state.low = state.swept = state.next_id
    work.touched = True
    work.ring_for_room()
