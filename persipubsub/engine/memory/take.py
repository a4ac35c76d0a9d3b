"""Giving messages out."""

from collections.abc import Iterator

import msgspec

from persipubsub.engine.memory import settle
from persipubsub.engine.memory.holds import Hold, Kind
from persipubsub.engine.memory.messages import Message
from persipubsub.engine.memory.state import Now, State, Subscriber
from persipubsub.engine.messages import Delivery
from persipubsub.names import matches


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """On what terms messages are given out; without ``duration_ns`` the subscriber's own lease counts."""

    owner: int
    duration_ns: int | None = None
    handed: bool = True


def take(state: State, subscriber: Subscriber, max_messages: int, lease: Lease, now: Now) -> list[Hold]:
    """Lease up to ``max_messages``: first the ready ones by id, then what waits, walking from the position."""
    taken: list[Hold] = []
    if subscriber.paused:
        return taken
    _wake_holds(state, subscriber, now)
    token = subscriber.takes + 1
    while len(taken) < max_messages and subscriber.holds.ready:
        hold = _ready(subscriber, subscriber.holds.ready[0])
        if _drop_if_dead(state, subscriber, hold, now):
            continue
        taken.append(_lease(subscriber, hold, token, lease, now))
    start = subscriber.position
    while len(taken) < max_messages and subscriber.position < state.next_id:
        message = state.messages.get(subscriber.position)
        is_waiting = subscriber.is_waiting(subscriber.position)
        subscriber.step()
        if message is None or not is_waiting or not _matches(subscriber, message):
            continue
        if message.is_expired(state.timeout_ns, now.wall_ns):
            subscriber.expired += 1
        elif message.not_before_ns > now.wall_ns:
            subscriber.holds.set(Hold(message=message, kind=Kind.DELAYED, due_ns=message.not_before_ns))
        else:
            hold = Hold(message=message, kind=Kind.LEASED, missed=subscriber.missed)
            taken.append(_lease(subscriber, hold, token, lease, now))
            subscriber.missed = 0
    state.sweep(range(start, subscriber.position))
    return taken


def take_newest(state: State, subscriber: Subscriber, lease: Lease, now: Now) -> Hold | None:
    """Lease the newest message that is waiting or ready; the position stays."""
    if subscriber.paused:
        return None
    _wake_holds(state, subscriber, now)
    newest: Hold | None = None
    for message in _from_newest(state, subscriber.position):
        if (
            subscriber.is_waiting(message.id)
            and _matches(subscriber, message)
            and message.not_before_ns <= now.wall_ns
            and not message.is_expired(state.timeout_ns, now.wall_ns)
        ):
            newest = Hold(message=message, kind=Kind.LEASED, top=True)
            break
    for message_id in reversed(subscriber.holds.ready.copy()):
        hold = _ready(subscriber, message_id)
        if newest is not None and newest.id > message_id:
            break
        if not _drop_if_dead(state, subscriber, hold, now):
            newest = hold
            break
    return None if newest is None else _lease(subscriber, newest, subscriber.takes + 1, lease, now)


def deliver(hold: Hold, *, with_data: bool = True) -> Delivery:
    """Show a hold to the outside."""
    message = hold.message
    return Delivery(
        id=message.id,
        token=hold.token,
        data=message.data if with_data else b"",
        size=len(message.data),
        headers=message.headers,
        topic=message.topic,
        sent_ns=message.sent_ns,
        first_received_ns=hold.first_received_ns if hold.count else 0,
        delivery_count=hold.count,
        last_error=hold.last_error,
        missed=hold.missed,
        expires_ns=message.expires_ns or 0,
    )


def peek(state: State, identifier: str, max_messages: int, now: Now) -> list[Delivery]:
    """Return what ``take`` would give: it takes from a copy of the queue."""
    trial = state.copy()
    taken = take(trial, trial.subscriber(identifier), max_messages, Lease(owner=0), now)
    return [deliver(msgspec.structs.replace(hold, token=0, count=hold.count - 1)) for hold in taken]


def _wake_holds(state: State, subscriber: Subscriber, now: Now) -> None:
    """Make ready what is due or whose lease has ended."""
    for hold in subscriber.holds.ended(now.boot_ns):
        settle.end_lease(state, subscriber, hold, settle.LEASE_ENDED, now, keep_token=True)
    for hold in subscriber.holds.due(now.wall_ns):
        subscriber.holds.set(msgspec.structs.replace(hold, kind=Kind.READY))
        state.stir(subscriber)


def _drop_if_dead(state: State, subscriber: Subscriber, hold: Hold, now: Now) -> bool:
    """Drop a ready message that expired or that a limit took; tell whether that was so."""
    if not hold.gone:
        if not hold.message.is_expired(state.timeout_ns, now.wall_ns):
            return False
        subscriber.expired += 1
    state.finish(subscriber, hold)
    return True


def _lease(subscriber: Subscriber, hold: Hold, token: int, lease: Lease, now: Now) -> Hold:
    duration_ns = lease.duration_ns
    if duration_ns is None and subscriber.settings.lease is not None:
        duration_ns = int(subscriber.settings.lease * 1e9)
    subscriber.takes = token
    subscriber.deliveries += 1
    subscriber.redelivered += 1 if hold.count else 0
    subscriber.last_taken_ns = now.wall_ns
    subscriber.owners.setdefault(lease.owner, now.wall_ns)
    leased = msgspec.structs.replace(
        hold,
        kind=Kind.LEASED,
        token=token,
        count=hold.count + 1,
        first_received_ns=hold.first_received_ns if hold.count else now.wall_ns,
        owner=lease.owner,
        deadline_ns=None if duration_ns is None else now.boot_ns + duration_ns,
        handed=lease.handed,
    )
    subscriber.holds.set(leased)
    return leased


def _ready(subscriber: Subscriber, message_id: int) -> Hold:
    hold = subscriber.holds.get(message_id)
    if hold is None:
        raise RuntimeError(f"Message {message_id} is listed as ready but not held: the engine is broken.")
    return hold


def _matches(subscriber: Subscriber, message: Message) -> bool:
    topic_filter = subscriber.settings.topic_filter
    return topic_filter is None or (message.topic is not None and matches(topic_filter, message.topic))


def _from_newest(state: State, position: int) -> Iterator[Message]:
    ids = state.messages.ids
    for index in range(len(ids) - 1, state.messages.index(position) - 1, -1):
        yield state.messages[ids[index]]
