"""Storing messages and keeping the queue within its limits."""

from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec

from persipubsub.engine import events
from persipubsub.engine.memory.messages import Message
from persipubsub.engine.memory.state import Now, State
from persipubsub.engine.messages import Entry
from persipubsub.errors import MessageTooLargeError, QueueFullError
from persipubsub.limits import Retention, Strategy


class _Room(msgspec.Struct):
    """Ids that have to leave before a batch is stored."""

    timed_out: list[int]
    consumed: list[int]
    overflow: list[int]


class _Tally:
    """How full the queue would be with a batch, while messages are thought away."""

    def __init__(self, state: State, entries: Sequence[Entry]) -> None:
        self._messages = state.messages
        self._mark = state.settings.high_water_mark
        self._new_count, self._new_bytes = len(entries), sum(entry.size for entry in entries)
        self._count, self._bytes = len(state.messages), state.messages.payload_bytes
        self._halve_count = self._halve_bytes = False

    def drop(self, message_id: int) -> None:
        """Think a message away."""
        self._count -= 1
        self._bytes -= len(self._messages[message_id].data)

    def halve(self) -> None:
        """From now on, ask for half of every mark that is exceeded now."""
        self._halve_count, self._halve_bytes = self._too_many(), self._too_large()

    def fits(self) -> bool:
        """Tell whether enough was thought away."""
        mark = self._mark
        if self._halve_count and mark.max_messages is not None and self._count > mark.max_messages // 2:
            return False
        if self._halve_bytes and mark.max_bytes is not None and self._bytes > mark.max_bytes // 2:
            return False
        return not self._too_many() and not self._too_large()

    def _too_many(self) -> bool:
        limit = self._mark.max_messages
        return limit is not None and self._count + self._new_count > limit

    def _too_large(self) -> bool:
        limit = self._mark.max_bytes
        return limit is not None and self._bytes + self._new_bytes > limit


def put(state: State, entries: Sequence[Entry], now: Now) -> list[int]:
    """Store ``entries`` and return their ids; when it raises, nothing was changed."""
    check_sizes(state, entries)
    ids, fresh = _assign_ids(state, entries, now)
    is_routed = bool(state.subscribers) or state.settings.retention is Retention.LOG
    room = _find_room(state, list(fresh.values()) if is_routed else [], now)
    # Nothing was changed up to here, and nothing raises below.
    _make_room(state, room)
    _remember(state, fresh, now)
    state.deduplicated += len(entries) - len(fresh)
    if not fresh:
        return ids
    state.next_id += len(fresh)
    if not is_routed:
        if not state.unrouted:
            state.events.append(events.unrouted())
        state.unrouted += len(fresh)
        return ids
    for message_id, entry in fresh.items():
        state.messages.append(_message(message_id, entry, now.wall_ns))
    state.published += len(fresh)
    state.last_sent_ns = now.wall_ns
    state.stirred.update(state.subscribers)
    return ids


def prune_dangling(state: State, now: Now) -> int:
    """Drop what is older than the message timeout or needed by nobody; return how many."""
    timed_out = _timed_out(state, now)
    _prune_timed_out(state, timed_out)
    return len(timed_out) + state.sweep(state.messages.ids.copy())


def check_sizes(state: State, entries: Sequence[Entry]) -> None:
    """Refuse what is too large, which depends on nothing but the settings: so before anything else.

    :raise MessageTooLargeError: one of them is
    """
    largest = state.settings.max_message_bytes
    for entry in entries:
        if entry.size > largest:
            raise MessageTooLargeError(
                f"The message has {entry.size} bytes, but the queue takes at most {largest} (max_message_bytes)."
            )


def _assign_ids(state: State, entries: Sequence[Entry], now: Now) -> tuple[list[int], dict[int, Entry]]:
    """Return an id for every entry, and the entries that are not repeats by their ids."""
    window_ns = _window_ns(state)
    in_batch: dict[bytes, int] = {}
    ids: list[int] = []
    fresh: dict[int, Entry] = {}
    for entry in entries:
        message_id = state.next_id + len(fresh)
        if entry.deduplication_id is not None and window_ns:
            seen = state.seen.get(entry.deduplication_id)
            if entry.deduplication_id in in_batch:
                message_id = in_batch[entry.deduplication_id]
            elif seen is not None and seen[1] + window_ns >= now.wall_ns:
                message_id = seen[0]
            else:
                in_batch[entry.deduplication_id] = message_id
        if message_id == state.next_id + len(fresh):
            fresh[message_id] = entry
        ids.append(message_id)
    return ids, fresh


def _window_ns(state: State) -> int:
    """Return for how long deduplication ids are remembered; 0 means that there is no deduplication."""
    return int(state.settings.deduplication_window * 1e9)


def _remember(state: State, fresh: dict[int, Entry], now: Now) -> None:
    """Note the deduplication ids of new messages and forget those whose window is over."""
    window_ns, aged = _window_ns(state), 0
    for _, seen_ns in state.seen.values():
        if seen_ns + window_ns >= now.wall_ns:
            break
        aged += 1
    for deduplication_id in list(islice(state.seen, aged)):
        del state.seen[deduplication_id]
    for message_id, entry in fresh.items():
        if entry.deduplication_id is not None:
            state.seen[entry.deduplication_id] = (message_id, now.wall_ns)


def _check_batch(state: State, entries: Sequence[Entry]) -> None:
    mark = state.settings.high_water_mark
    if mark.max_messages is not None and len(entries) > mark.max_messages:
        raise QueueFullError(
            f"A batch of {len(entries)} messages can never fit into a queue of at most {mark.max_messages} "
            f"(max_messages); send fewer at once."
        )
    size = sum(entry.size for entry in entries)
    if mark.max_bytes is not None and size > mark.max_bytes:
        raise MessageTooLargeError(
            f"{size} bytes at once can never fit into a queue of at most {mark.max_bytes} (max_bytes); send less."
        )


def _find_room(state: State, entries: Sequence[Entry], now: Now) -> _Room:
    """Decide what has to leave, without changing anything."""
    room = _Room(_timed_out(state, now), [], [])
    if not entries:
        return room
    _check_batch(state, entries)
    tally = _Tally(state, entries)
    for message_id in room.timed_out:
        tally.drop(message_id)
    if tally.fits():
        return room
    start = len(room.timed_out)
    if state.settings.retention is Retention.LOG:
        room.consumed = _consumed(state, start, tally)
        if tally.fits():
            return room
    strategy = state.settings.strategy
    if strategy in (Strategy.REJECT, Strategy.BLOCK):
        mark = state.settings.high_water_mark
        raise QueueFullError(
            f"The queue is full: {len(state.messages)} messages of {state.messages.payload_bytes} bytes, the limits "
            f"are max_messages={mark.max_messages} and max_bytes={mark.max_bytes}; nothing was stored. Let subscribers "
            f"catch up, raise the limits or choose a strategy that prunes."
        )
    tally.halve()
    consumed = set(room.consumed)
    rest = [message_id for message_id in islice(state.messages.ids, start, None) if message_id not in consumed]
    for message_id in rest if strategy is Strategy.PRUNE_FIRST else reversed(rest):
        if tally.fits():
            break
        tally.drop(message_id)
        room.overflow.append(message_id)
    return room


def _timed_out(state: State, now: Now) -> list[int]:
    timeout_ns = state.timeout_ns
    found: list[int] = []
    if timeout_ns is not None:
        for message_id in state.messages.ids:
            if state.messages[message_id].sent_ns + timeout_ns >= now.wall_ns:
                break
            found.append(message_id)
    return found


def _consumed(state: State, start: int, tally: _Tally) -> list[int]:
    """Return the oldest messages that nobody needs, as few as possible."""
    lowest = min((subscriber.position for subscriber in state.subscribers.values()), default=state.next_id)
    found: list[int] = []
    for message_id in islice(state.messages.ids, start, None):
        if message_id >= lowest or tally.fits():
            break
        if not state.is_needed(message_id):
            tally.drop(message_id)
            found.append(message_id)
    return found


def _make_room(state: State, room: _Room) -> None:
    _prune_timed_out(state, room.timed_out)
    state.pruned_overflow += len(room.consumed) + len(room.overflow)
    for ids in (room.consumed, room.overflow):
        if ids:
            before = state.messages.payload_bytes
            _remove(state, ids, is_timeout=False)
            freed = before - state.messages.payload_bytes
            if ids is room.consumed:
                state.events.append(events.pruned_consumed(len(ids), freed))
            else:
                which = "oldest" if state.settings.strategy is Strategy.PRUNE_FIRST else "newest"
                state.events.append(events.pruned_overflow(which, len(ids), freed))


def _prune_timed_out(state: State, ids: Sequence[int]) -> None:
    timeout = state.settings.high_water_mark.message_timeout
    if ids and timeout is not None:
        state.pruned_timeout += len(ids)
        needed = _remove(state, ids, is_timeout=True)
        state.events.append(events.pruned_timeout(len(ids), timeout, needed=needed))


def _remove(state: State, ids: Iterable[int], *, is_timeout: bool) -> bool:
    """Remove messages, needed or not; count the loss for those who needed them, and tell whether there were any."""
    needed = False
    for message_id in ids:
        for subscriber in state.subscribers.values():
            hold = subscriber.holds.get(message_id)
            if hold is not None and not hold.own_copy:
                subscriber.holds.set(msgspec.structs.replace(hold, gone=True))
                subscriber.lost += 1
                needed = True
            elif subscriber.is_waiting(message_id):
                needed = True
                subscriber.gaps.add(message_id)
                if is_timeout:
                    subscriber.expired += 1
                else:
                    subscriber.lost += 1
        state.messages.remove(message_id)
    return needed


def _message(message_id: int, entry: Entry, sent_ns: int) -> Message:
    return Message(
        id=message_id,
        data=bytes(entry.data),
        headers=entry.headers,
        topic=entry.topic,
        sent_ns=sent_ns,
        not_before_ns=sent_ns + entry.delay_ns if entry.delay_ns else 0,
        expires_ns=None if entry.expires_in_ns is None else sent_ns + entry.expires_in_ns,
    )
