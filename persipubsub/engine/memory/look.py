"""Looking at a queue without changing it: figures, and whether all is well."""

import os
import sys
from collections.abc import Iterator
from itertools import islice

from persipubsub.engine.figures import Finding, OwnerStatistics, Statistics, SubscriberStatistics
from persipubsub.engine.memory.holds import Kind
from persipubsub.engine.memory.state import Now, State, Subscriber
from persipubsub.engine.messages import Retained


def statistics(state: State, now: Now) -> Statistics:
    """Return consistent figures."""
    messages = state.messages
    return Statistics(
        identity=state.identity,
        created_ns=state.created_ns,
        messages=len(messages),
        payload_bytes=messages.payload_bytes,
        file_bytes=0,
        first_id=messages.ids[0] if messages else None,
        last_id=messages.ids[-1] if messages else None,
        oldest_age=max(0, now.wall_ns - messages[messages.ids[0]].sent_ns) / 1e9 if messages else None,
        published=state.published,
        deduplicated=state.deduplicated,
        unrouted=state.unrouted,
        pruned_overflow=state.pruned_overflow,
        pruned_timeout=state.pruned_timeout,
        subscribers=tuple(_subscriber(state, state.subscribers[name]) for name in sorted(state.subscribers)),
    )


def browse(state: State, start: int, max_messages: int) -> list[Retained]:
    """Return retained messages from an id on."""
    return [
        Retained(
            id=message.id, data=message.data, headers=message.headers, topic=message.topic, sent_ns=message.sent_ns
        )
        for message in islice(state.messages.since(start), max_messages)
    ]


def check(state: State, owners: set[int]) -> list[Finding]:
    """Verify what must always hold; ``owners`` are the open engines."""
    found = list(_check_messages(state))
    for subscriber in state.subscribers.values():
        where = f"subscriber {subscriber.identifier!r}"
        found += [Finding(where, what) for what in _check_subscriber(state, subscriber, owners)]
    return found


def _subscriber(state: State, subscriber: Subscriber) -> SubscriberStatistics:
    held = [hold for hold in subscriber.holds if not hold.gone]
    leased = [hold for hold in held if hold.kind is Kind.LEASED]
    delayed = sum(1 for hold in held if hold.kind is Kind.DELAYED)
    passed_over = subscriber.ahead.union(hold.id for hold in held)
    waiting = len(state.messages) - state.messages.index(subscriber.position)
    waiting -= sum(1 for each in passed_over if each >= subscriber.position and each in state.messages)
    command = " ".join(sys.argv)
    return SubscriberStatistics(
        identifier=subscriber.identifier,
        position=subscriber.position,
        waiting=waiting + len(held) - len(leased) - delayed,
        leased=len(leased),
        delayed=delayed,
        dead=len(subscriber.dead),
        deliveries=subscriber.deliveries,
        settled=subscriber.settled,
        redelivered=subscriber.redelivered,
        lost=subscriber.lost,
        expired=subscriber.expired,
        paused=subscriber.paused,
        last_taken_ns=subscriber.last_taken_ns,
        last_settled_ns=subscriber.last_settled_ns,
        owners=tuple(
            OwnerStatistics(os.getpid(), command, since_ns, sum(1 for hold in leased if hold.owner == owner))
            for owner, since_ns in subscriber.owners.items()
        ),
    )


def _check_messages(state: State) -> Iterator[Finding]:
    messages = state.messages
    if messages.ids != sorted(set(messages.ids)) or any(message_id not in messages for message_id in messages.ids):
        yield Finding("messages", "the ids are not in order")
    if messages.ids and not 1 <= messages.ids[0] <= messages.ids[-1] < state.next_id:
        yield Finding("messages", f"ids {messages.ids[0]} to {messages.ids[-1]}, but the next one is {state.next_id}")
    if messages.payload_bytes != sum(len(message.data) for message in messages.since(0)):
        yield Finding("messages", f"payload_bytes is {messages.payload_bytes}, which is not the sum")
    sent = [message.sent_ns for message in messages.since(0)]
    if sent != sorted(sent) or (sent and sent[-1] > state.last_sent_ns):
        yield Finding("messages", "the times of sending go backwards")


def _check_subscriber(state: State, subscriber: Subscriber, owners: set[int]) -> Iterator[str]:
    if not 1 <= subscriber.position <= state.next_id:
        yield f"position {subscriber.position} lies beyond the next id {state.next_id}"
    if any(message_id < subscriber.position for message_id in subscriber.ahead):
        yield "something is settled ahead that is not ahead of the position"
    if any(message_id < subscriber.position or message_id in state.messages for message_id in subscriber.gaps):
        yield "a gap lies before the position or is none"
    if not subscriber.owners.keys() <= owners or subscriber.ephemeral_owner not in owners | {None}:
        yield "it belongs to an engine that is closed"
    ready = [hold.id for hold in subscriber.holds if hold.kind is Kind.READY]
    if ready != subscriber.holds.ready:
        yield "the list of ready messages is wrong"
    for hold in subscriber.holds:
        if (hold.id in state.messages) == hold.gone and not hold.own_copy:
            yield f"message {hold.id} is held, but it is {'retained though marked as gone' if hold.gone else 'missing'}"
        if hold.token > subscriber.takes or hold.count < 0:
            yield f"message {hold.id} has an impossible token {hold.token} or count {hold.count}"
        if hold.kind is Kind.LEASED and (not hold.token or hold.owner not in owners):
            yield f"message {hold.id} is leased by nobody"
