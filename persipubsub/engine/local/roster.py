"""The subscribers of a queue: adding, changing and removing them, and those that vanish with their owner."""

from persipubsub.engine import refusals
from persipubsub.engine.base import Start
from persipubsub.engine.local import format, prune
from persipubsub.engine.local.format import Subscriber
from persipubsub.engine.local.living import Messages
from persipubsub.engine.local.work import Work
from persipubsub.limits import SubscriberSettings


def read(work: Work, identifier: str) -> Subscriber:
    """Return the record of a subscriber.

    :raise UnknownSubscriberError: there is none of this identifier
    """
    return find(work, identifier)[1]


def find(work: Work, identifier: str) -> tuple[bytes, Subscriber]:
    """Return the record of a subscriber, as it is stored and decoded.

    :raise UnknownSubscriberError: there is none of this identifier
    """
    found = work.known.get(identifier)
    if found is None:
        record = work.txn.get(identifier.encode(), None, work.subscribers)
        if record is None:
            raise refusals.unknown_subscriber(identifier, names(work), f"Queue {work.store.path}")
        stored = bytes(record)
        found = work.known[identifier] = stored, format.decode_subscriber(stored)
    return found


def write(work: Work, identifier: str, record: Subscriber) -> None:
    """Store the record of a subscriber."""
    store(work, identifier, identifier.encode(), format.encode(record), record)


def store(work: Work, identifier: str, key: bytes, stored: bytes, record: Subscriber) -> None:
    """Store the record of a subscriber, which is encoded already."""
    work.txn.put(key, stored, True, True, False, work.subscribers)
    work.known[identifier] = stored, record
    work.touched = True


def names(work: Work) -> list[str]:
    """Return the identifiers of all subscribers."""
    return [bytes(key).decode() for key in work.txn.cursor(db=work.subscribers).iternext(values=False)]


def settings_of(record: Subscriber) -> SubscriberSettings:
    """Return the settings of a subscriber."""
    return SubscriberSettings(
        lease=None if record.lease_ns is None else record.lease_ns / 1e9,
        max_deliveries=record.max_deliveries,
        topic_filter=record.topic_filter,
        ephemeral=record.ephemeral is not None,
    )


def bounds(work: Work) -> tuple[int, int]:
    """Return the oldest retained id (the next one if there is none) and the next id."""
    messages = Messages(work, work.data)
    return (messages.id if messages.at(0) else work.state.next_id), work.state.next_id


def check_position(work: Work, position: object) -> int:
    """Return ``position`` if a subscriber can stand there.

    :raise PositionError: it cannot
    """
    return refusals.check_position(position, *bounds(work), f"Queue {work.store.path}")


def add(work: Work, identifier: str, settings: SubscriberSettings, start: Start, owner: int | None) -> None:
    """Add a subscriber; the same one again changes nothing.

    :raise SettingsMismatchError: it exists with other settings
    :raise PositionError: ``start`` is not retained
    """
    key = identifier.encode()
    existing = work.txn.get(key, db=work.subscribers)
    if existing is not None:
        refusals.check_same(
            identifier, settings_of(format.decode_subscriber(existing)), settings, f"queue {work.store.path}"
        )
        return
    state = work.state
    first, following = bounds(work)
    if start == "first":
        position = first
    elif start == "latest":
        position = following
    else:
        position = check_position(work, start)
    state.epoch += 1
    record = Subscriber(
        state.next_number,
        position,
        work.now_ns,
        state.epoch,
        ephemeral=owner if settings.ephemeral else None,
    )
    _apply(record, settings)
    state.next_number += 1
    state.subscribers += 1
    state.ephemerals += record.ephemeral is not None
    work.txn.drop(work.handle(format.subscriber_db(key), create=True), delete=False)
    prune.move_position(work, None, position)
    write(work, identifier, record)


def _apply(record: Subscriber, settings: SubscriberSettings) -> None:
    record.lease_ns = None if settings.lease is None else int(settings.lease * 1e9)
    record.max_deliveries = settings.max_deliveries
    record.topic_filter = settings.topic_filter


def configure(work: Work, identifier: str, settings: SubscriberSettings) -> None:
    """Change the settings of a subscriber; whether it is ephemeral is for good.

    :raise SettingsMismatchError: ``ephemeral`` differs
    """
    record = read(work, identifier)
    refusals.check_ephemeral(identifier, settings_of(record), settings)
    _apply(record, settings)
    write(work, identifier, record)


def pause(work: Work, identifier: str, paused: bool) -> None:
    """Stop or resume deliveries."""
    record = read(work, identifier)
    record.paused = paused
    write(work, identifier, record)
    if not paused:
        work.ring_for_messages()
