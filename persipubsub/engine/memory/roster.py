"""Subscribers, their positions and their dead letters."""

from collections.abc import Sequence

from persipubsub.engine import refusals
from persipubsub.engine.base import Start
from persipubsub.engine.memory.holds import Hold, Holds, Kind
from persipubsub.engine.memory.state import State, Subscriber
from persipubsub.engine.messages import DeadLetterRecord
from persipubsub.limits import SubscriberSettings
from persipubsub.names import encode_name


def add(state: State, identifier: str, settings: SubscriberSettings, start: Start, owner: int) -> None:
    """Add a subscriber unless it is there with the same settings."""
    encode_name(identifier, "identifier")
    known = state.subscribers.get(identifier)
    if known is not None:
        refusals.check_same(identifier, known.settings, settings)
        return
    if start == "latest":
        position = state.next_id
    elif start == "first":
        position = state.first_id
    else:
        position = check_position(state, start)
    state.subscribers[identifier] = Subscriber(
        identifier=identifier,
        settings=settings,
        position=position,
        ephemeral_owner=owner if settings.ephemeral else None,
    )


def configure(state: State, subscriber: Subscriber, settings: SubscriberSettings) -> None:
    """Store other settings; whether it is ephemeral is for good.

    :raise SettingsMismatchError: ``ephemeral`` differs
    """
    refusals.check_ephemeral(subscriber.identifier, subscriber.settings, settings)
    subscriber.settings = settings
    state.stir(subscriber)


def remove(state: State, identifier: str) -> bool:
    """Remove a subscriber with all it holds; return whether it existed."""
    subscriber = state.subscribers.pop(identifier, None)
    if subscriber is None:
        return False
    state.stir(subscriber)
    state.sweep(state.messages.ids.copy())
    return True


def clear(state: State) -> None:
    """Remove all subscribers, all messages and all deduplication ids; ids and counters go on."""
    state.seen.clear()
    state.stirred.update(state.subscribers)
    state.subscribers.clear()
    for message_id in state.messages.ids.copy():
        state.messages.remove(message_id)


def seek(state: State, subscriber: Subscriber, position: int) -> None:
    """Move a subscriber and forget what it holds; dead letters stay."""
    check_position(state, position)
    subscriber.holds = Holds()
    subscriber.ahead.clear()
    subscriber.gaps.clear()
    subscriber.missed = 0
    subscriber.position = position
    state.sweep(state.messages.ids.copy())
    state.stir(subscriber)


def check_position(state: State, position: object) -> int:
    """Return ``position`` if a subscriber can stand there.

    :raise PositionError: it cannot
    """
    return refusals.check_position(position, state.first_id, state.next_id)


def find_position(state: State, subscriber: Subscriber, back: int | None, sent_ns: int | None) -> int:
    """Return the retained id that lies so far back, or the first sent at or after a time."""
    ids = state.messages.ids
    if sent_ns is not None:
        index = state.messages.sent_since(sent_ns)
        return ids[index] if index < len(ids) else state.next_id
    before = state.messages.index(subscriber.position)
    if not back or not before:
        return max(subscriber.position, state.first_id)
    return ids[max(0, before - back)]


def dead_letters(subscriber: Subscriber, after: int, max_messages: int) -> list[DeadLetterRecord]:
    """Return dead letters with ids greater than ``after``, oldest first."""
    ids = sorted(message_id for message_id in subscriber.dead if message_id > after)[:max_messages]
    return [
        DeadLetterRecord(
            id=message_id,
            data=dead.message.data,
            headers=dead.message.headers,
            topic=dead.message.topic,
            sent_ns=dead.message.sent_ns,
            died_ns=dead.died_ns,
            delivery_count=dead.count,
            reason=dead.reason,
        )
        for message_id in ids
        for dead in [subscriber.dead[message_id]]
    ]


def requeue_dead(state: State, subscriber: Subscriber, ids: Sequence[int] | None) -> int:
    """Make dead letters ready again and return how many.

    After a seek back the same message may be under way a second time: if it is held, it stays dead;
    if it waits, its dead letter is only forgotten.
    """
    found = [message_id for message_id in _find_dead(subscriber, ids) if message_id not in subscriber.holds]
    for message_id in found:
        dead = subscriber.dead.pop(message_id)
        if message_id not in state.messages or not subscriber.is_waiting(message_id):
            subscriber.holds.set(Hold(message=dead.message, kind=Kind.READY, last_error=dead.reason, own_copy=True))
        state.stir(subscriber)
    return len(found)


def discard_dead(subscriber: Subscriber, ids: Sequence[int] | None) -> int:
    """Forget dead letters; return how many."""
    found = _find_dead(subscriber, ids)
    for message_id in found:
        del subscriber.dead[message_id]
    return len(found)


def _find_dead(subscriber: Subscriber, ids: Sequence[int] | None) -> list[int]:
    if ids is None:
        return sorted(subscriber.dead)
    return [message_id for message_id in dict.fromkeys(ids) if message_id in subscriber.dead]
