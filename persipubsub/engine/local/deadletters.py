"""Dead letters of a subscriber: listed, made deliverable again, or forgotten."""

from collections.abc import Iterable, Sequence

from persipubsub.engine.local import format, living
from persipubsub.engine.local.format import DEAD, DELAYED, LEASED, OWN_DATA, READY, REQUEUED, Hold, pack_id, unpack_id
from persipubsub.engine.local.holds import Desk
from persipubsub.engine.local.store import Transaction
from persipubsub.engine.local.work import Database
from persipubsub.engine.messages import DeadLetterRecord


def page(txn: Transaction, db: Database, after: int, most: int) -> list[DeadLetterRecord]:
    """Return dead letters with ids greater than ``after``, oldest first."""
    found: list[DeadLetterRecord] = []
    cursor = txn.cursor(db=db)
    there = cursor.set_range(DEAD + pack_id(after + 1))
    while there and len(found) < most and bytes(cursor.key()[:1]) == DEAD:
        message_id = unpack_id(cursor.key(), 1)
        dead = format.decode_dead(cursor.value())
        try:
            meta = format.unpack_meta(dead.meta)
        except ValueError:
            meta = format.Meta(0)  # it died of just that
        data = txn.get(OWN_DATA + pack_id(message_id), db=db)
        found.append(
            DeadLetterRecord(
                message_id,
                b"" if data is None else bytes(data),
                meta.headers,
                meta.topic,
                meta.sent_ns,
                dead.died_ns,
                dead.count,
                dead.reason,
            )
        )
        there = cursor.next()
    return found


def _wanted(desk: Desk, ids: Sequence[int] | None) -> Iterable[int]:
    if ids is None:
        return list(desk.ids(DEAD))
    return [wanted for wanted in sorted(set(ids)) if 0 < wanted < desk.work.state.next_id and desk.is_dead(wanted)]


def requeue(desk: Desk, ids: Sequence[int] | None) -> int:
    """Make dead letters deliverable again, their count at zero; the queue itself may have let them go."""
    number = 0
    for message_id in _wanted(desk, ids):
        key = pack_id(message_id)
        dead = format.decode_dead(desk.txn.get(DEAD + key, db=desk.db) or b"")
        if any(desk.get(kind, message_id) is not None for kind in (READY, LEASED, DELAYED)):
            continue  # after a seek it is under way a second time: it stays dead meanwhile
        desk.txn.delete(DEAD + key, db=desk.db)
        desk.record.dead -= 1
        number += 1
        waiting = message_id >= desk.record.position and not desk.has_ahead(message_id)
        if waiting and living.meta(desk.work, message_id) is not None:
            desk.txn.delete(OWN_DATA + key, db=desk.db)  # after a seek it comes anyway
            continue
        desk.txn.put(REQUEUED + key, dead.meta, db=desk.db)
        desk.make_ready(message_id, Hold(error=dead.reason, own_copy=True))
    if number:
        desk.work.ring_for_messages()
    return number


def discard(desk: Desk, ids: Sequence[int] | None) -> int:
    """Forget dead letters."""
    number = 0
    for message_id in _wanted(desk, ids):
        desk.txn.delete(DEAD + pack_id(message_id), db=desk.db)
        desk.txn.delete(OWN_DATA + pack_id(message_id), db=desk.db)
        desk.record.dead -= 1
        number += 1
    return number
