"""The rules of a queue, shown on the memory engine, which is the model of the persistent one."""

import contextlib
import logging
import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from persipubsub.engine.base import Engine, Waiter
from persipubsub.engine.clock import Clock
from persipubsub.engine.figures import SubscriberStatistics
from persipubsub.engine.memory import MemoryEngine, exists, open_memory
from persipubsub.engine.messages import Delivery, Entry
from persipubsub.errors import (
    ClosedError,
    IdentifierError,
    LeaseLostError,
    MessageTooLargeError,
    PositionError,
    QueueFullError,
    QueueNotFoundError,
    SettingsMismatchError,
    UnknownSubscriberError,
)
from persipubsub.limits import HighWaterMark, Retention, Settings, Strategy, SubscriberSettings
from tests.process.support import BOUND, patiently

SECOND = 10**9


class FakeClock(Clock):
    """Two clocks that stand still until somebody turns them."""

    def __init__(self) -> None:
        self.wall = 1_000_000 * SECOND
        self.boot = 5_000 * SECOND

    def wall_ns(self) -> int:
        return self.wall

    def boot_ns(self) -> int:
        return self.boot

    def go(self, seconds: float) -> None:
        """Let time pass on both."""
        self.wall += round(seconds * SECOND)
        self.boot += round(seconds * SECOND)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Opener:
    """Opens engines that are checked and closed at the end."""

    def __init__(self, clock: Clock, stack: contextlib.ExitStack) -> None:
        self._clock = clock
        self._stack = stack

    def __call__(self, *subscribers: str, name: str | None = None, **settings: Any) -> MemoryEngine:
        mark = {key: settings.pop(key) for key in ("message_timeout", "max_messages", "max_bytes") if key in settings}
        engine = open_memory(
            name, create=Settings(high_water_mark=HighWaterMark(**mark), **settings), clock=self._clock
        )
        self._stack.callback(close, engine)
        for subscriber in subscribers:
            engine.add_subscriber(subscriber, SubscriberSettings(), "latest")
        return engine


def close(engine: MemoryEngine) -> None:
    with contextlib.suppress(ClosedError):
        assert engine.check() == []
    engine.close()


@pytest.fixture
def opened(clock: FakeClock) -> Iterator[Opener]:
    with contextlib.ExitStack() as stack:
        yield Opener(clock, stack)


def put(engine: Engine, count: int = 1, **options: Any) -> list[int]:
    return engine.put([entry(**options) for _ in range(count)])


def entry(data: bytes = b"x", **options: Any) -> Entry:
    return Entry(data=data, size=len(data), **options)


def ids(deliveries: list[Delivery]) -> list[int]:
    return [delivery.id for delivery in deliveries]


def take(engine: Engine, identifier: str = "a", count: int = 1, **options: Any) -> list[Delivery]:
    return engine.take(identifier, count, options.pop("lease_ns", None), **options)


def one(engine: Engine, identifier: str = "a", **options: Any) -> Delivery:
    (delivery,) = take(engine, identifier, 1, **options)
    return delivery


def top(engine: Engine, identifier: str = "a", lease_ns: int | None = None) -> Delivery:
    delivery = engine.take_newest(identifier, lease_ns)
    assert delivery is not None
    return delivery


def figures(engine: Engine, identifier: str = "a") -> SubscriberStatistics:
    return next(each for each in engine.statistics().subscribers if each.identifier == identifier)


def lag(engine: Engine, identifier: str = "a") -> tuple[int, int, int]:
    stats = figures(engine, identifier)
    return stats.waiting, stats.leased, stats.delayed


def retained(engine: Engine) -> list[int]:
    found: list[int] = []
    while page := engine.browse(found[-1] + 1 if found else 0, 3):
        found += [each.id for each in page]
    return found


# -- opening --------------------------------------------------------------------------------------


def test_a_named_queue_lives_as_long_as_an_engine_of_it_is_open(clock: FakeClock) -> None:
    with pytest.raises(QueueNotFoundError):
        open_memory("shared")
    first = open_memory("shared", create=Settings(), clock=clock)
    first.add_subscriber("a", SubscriberSettings(), "latest")
    second = open_memory("shared")
    put(second)
    first.close()
    first.close()
    assert exists("shared")
    assert ids(take(second)) == [1]
    second.close()
    assert not exists("shared")
    with pytest.raises(QueueNotFoundError):
        open_memory("shared")


def test_private_queues_are_separate(opened: Opener) -> None:
    one_queue, other = opened("a"), opened("a")
    put(one_queue)
    assert take(other) == []
    with pytest.raises(QueueNotFoundError):
        open_memory(None)


def test_a_closed_engine_refuses(opened: Opener) -> None:
    engine = opened("a")
    delivery_waiter = engine.waiter("a")
    delivery_waiter.arm()
    engine.close()
    delivery_waiter.wait(None)
    delivery_waiter.close()
    with pytest.raises(ClosedError):
        take(engine)
    engine.release("a", [])


# -- ids, routing, deletion -----------------------------------------------------------------------


def test_unrouted_messages_use_up_ids_and_are_logged_once(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    engine = opened()
    with caplog.at_level(logging.WARNING, logger="persipubsub"):
        assert put(engine, 2) == [1, 2]
        assert put(engine) == [3]
    assert len(caplog.records) == 1
    stats = engine.statistics()
    assert (stats.unrouted, stats.published, stats.messages, engine.bounds()) == (3, 0, 0, (4, 4))


def test_times_of_sending_never_go_back(opened: Opener, clock: FakeClock) -> None:
    engine = opened("a")
    put(engine)
    clock.wall -= 3600 * SECOND
    put(engine)
    first, second = take(engine, count=2)
    assert first.sent_ns == second.sent_ns


def test_a_consumed_message_goes_when_nobody_needs_it(opened: Opener) -> None:
    engine = opened("a", "b")
    put(engine, 3)
    first = take(engine, "a", 3)
    engine.settle("a", [each.receipt for each in first])
    assert retained(engine) == [1, 2, 3]
    second = take(engine, "b", 3)
    engine.settle("b", [second[1].receipt])
    assert retained(engine) == [1, 3]
    engine.remove_subscriber("b")
    assert retained(engine) == []


def test_a_log_keeps_what_was_consumed(opened: Opener) -> None:
    engine = opened("a", retention=Retention.LOG)
    put(engine, 2)
    engine.settle("a", [each.receipt for each in take(engine, count=2)])
    assert retained(engine) == [1, 2]
    engine.seek("a", 1)
    assert ids(take(engine, count=9)) == [1, 2]


# -- taking and giving back -----------------------------------------------------------------------


def test_given_back_messages_come_before_newer_ones(opened: Opener) -> None:
    engine = opened("a")
    put(engine, 4)
    taken = take(engine, count=3)
    engine.give_back("a", [taken[2].receipt, taken[0].receipt], reason="no")
    again = take(engine, count=3)
    assert [(each.id, each.delivery_count, each.last_error) for each in again] == [
        (1, 2, "no"),
        (3, 2, "no"),
        (4, 1, None),
    ]
    assert (figures(engine).deliveries, figures(engine).redelivered) == (6, 2)


def test_an_old_token_never_settles_a_newer_take(opened: Opener) -> None:
    engine = opened("a")
    put(engine, 2)
    old, other = take(engine, count=2)
    engine.give_back("a", [old.receipt])
    with pytest.raises(LeaseLostError):
        engine.settle("a", [old.receipt])
    new = one(engine)
    with pytest.raises(LeaseLostError):
        engine.settle("a", [other.receipt, old.receipt])
    assert lag(engine) == (0, 2, 0)
    engine.settle("a", [other.receipt, new.receipt, new.receipt])
    assert figures(engine).settled == 2


def test_a_delay_of_a_nack_holds_the_message_alone(opened: Opener, clock: FakeClock) -> None:
    engine = opened("a")
    put(engine, 2)
    engine.give_back("a", [one(engine).receipt], delay_ns=10 * SECOND)
    assert lag(engine) == (1, 0, 1)
    engine.settle("a", [one(engine).receipt])
    assert retained(engine) == [1]
    assert take(engine) == []
    clock.go(10)
    assert ids(take(engine)) == [1]


def test_a_delayed_send_is_set_aside_and_due_before_newer_ones(opened: Opener, clock: FakeClock) -> None:
    engine = opened("a")
    put(engine, delay_ns=5 * SECOND)
    put(engine, 2)
    assert lag(engine) == (3, 0, 0)
    assert ids(take(engine)) == [2]
    assert lag(engine) == (1, 1, 1)
    clock.go(5)
    assert ids(take(engine, count=2)) == [1, 3]


def test_a_bounded_lease_ends_by_the_boot_clock(opened: Opener, clock: FakeClock) -> None:
    engine = opened("a")
    put(engine)
    delivery = one(engine, lease_ns=30 * SECOND)
    clock.wall += 3600 * SECOND
    assert take(engine) == []
    clock.boot += 30 * SECOND
    again = one(engine)
    assert (again.id, again.delivery_count, again.last_error) == (1, 2, "lease ended")
    assert again.first_received_ns == delivery.first_received_ns
    with pytest.raises(LeaseLostError):
        engine.settle("a", [delivery.receipt])


@pytest.mark.parametrize("noticed", [False, True])
def test_an_ended_lease_counts_until_it_is_taken_over(opened: Opener, clock: FakeClock, noticed: bool) -> None:
    engine = opened("a")
    put(engine)
    delivery = one(engine, lease_ns=SECOND)
    clock.go(2)
    if noticed:
        assert take(engine, count=0) == []
    assert lag(engine) == ((1, 0, 0) if noticed else (0, 1, 0))
    engine.extend("a", delivery.receipt, 5 * SECOND)
    clock.go(4)
    assert take(engine) == []
    clock.go(2)
    if noticed:
        take(engine, count=0)
    engine.settle("a", [delivery.receipt])
    assert retained(engine) == []


def test_without_a_lease_of_its_own_a_take_has_that_of_the_subscriber(opened: Opener, clock: FakeClock) -> None:
    engine = opened()
    engine.add_subscriber("a", SubscriberSettings(lease=5.0), "latest")
    put(engine, 2)
    assert ids(take(engine) + take(engine, lease_ns=9 * SECOND)) == [1, 2]
    clock.go(5)
    assert ids(take(engine, count=2)) == [1]


def test_extend_never_bounds_a_lease_without_end(opened: Opener, clock: FakeClock) -> None:
    engine = opened("a")
    put(engine)
    engine.extend("a", one(engine).receipt, SECOND)
    clock.go(100)
    assert take(engine) == []


def test_too_many_deliveries_end_among_the_dead_letters(opened: Opener, clock: FakeClock) -> None:
    engine = opened()
    engine.add_subscriber("a", SubscriberSettings(max_deliveries=2), "latest")
    put(engine, 4)
    for _ in range(2):
        taken = take(engine, count=2)
        engine.give_back("a", [taken[0].receipt], reason="bad")
        engine.give_back("a", [taken[1].receipt])
    assert ids(take(engine, lease_ns=SECOND)) == [3]
    clock.go(2)
    assert ids(take(engine, lease_ns=SECOND)) == [3]
    clock.go(2)
    fourth = one(engine)
    engine.reject("a", [fourth.receipt], "unreadable")
    assert [(each.id, each.reason, each.delivery_count) for each in engine.dead_letters("a")] == [
        (1, "bad", 2),
        (2, "delivered too often", 2),
        (3, "lease ended", 2),
        (4, "unreadable", 1),
    ]
    assert [each.id for each in engine.dead_letters("a", after=1, max_messages=2)] == [2, 3]
    assert retained(engine) == []
    assert figures(engine).dead == 4


def test_dead_letters_can_be_requeued_and_discarded(opened: Opener) -> None:
    engine = opened("a")
    put(engine, 4)
    taken = take(engine, count=3)
    engine.reject("a", [each.receipt for each in taken], "bad")
    assert engine.requeue_dead("a", [2, 77]) == 1
    assert lag(engine) == (2, 0, 0)
    again = one(engine)
    assert (again.id, again.data, again.delivery_count, again.last_error) == (2, b"x", 1, "bad")
    engine.settle("a", [again.receipt])
    assert engine.discard_dead("a", [1]) == 1
    assert engine.requeue_dead("a", None) == 1
    assert engine.discard_dead("a", None) == 0
    assert ids(take(engine, count=9)) == [3, 4]


def test_requeueing_never_delivers_twice_after_a_seek_back(opened: Opener) -> None:
    engine = opened("a", retention=Retention.LOG)
    put(engine, 2)
    engine.reject("a", [one(engine).receipt], "bad")
    engine.seek("a", 1)
    assert engine.requeue_dead("a", None) == 1
    assert ids(take(engine, count=9)) == [1, 2]


def test_a_delivery_counts_only_once_handed(opened: Opener) -> None:
    engine = opened()
    engine.add_subscriber("a", SubscriberSettings(max_deliveries=1), "latest")
    put(engine, 3)
    batch = take(engine, count=3, hand_over=False)
    engine.handed("a", batch[0])
    engine.release("a", [each.receipt for each in batch])
    assert [each.id for each in engine.dead_letters("a")] == [1]
    again = take(engine, count=3)
    assert [(each.id, each.delivery_count) for each in again] == [(2, 1), (3, 1)]
    assert (figures(engine).deliveries, figures(engine).redelivered) == (3, 0)


def test_undelivered_takes_leave_no_count_and_never_raise(opened: Opener) -> None:
    engine = opened("a")
    put(engine)
    delivery = one(engine)
    engine.give_back("a", [delivery.receipt], undelivered=True)
    engine.give_back("a", [delivery.receipt], undelivered=True)
    assert figures(engine).deliveries == 0
    assert one(engine).delivery_count == 1


def test_peek_leaves_no_trace(opened: Opener, clock: FakeClock) -> None:
    engine = opened("a")
    put(engine, delay_ns=SECOND)
    put(engine, 2)
    delivery = one(engine)
    engine.give_back("a", [delivery.receipt], reason="no")
    clock.go(2)
    before = engine.statistics()
    peeked = engine.peek("a", 9)
    assert [(each.id, each.delivery_count, each.last_error) for each in peeked] == [
        (1, 0, None),
        (2, 1, "no"),
        (3, 0, None),
    ]
    assert engine.statistics() == before
    assert ids(take(engine, count=9)) == ids(peeked)


def test_pop_takes_and_settles(opened: Opener) -> None:
    engine = opened("a")
    put(engine)
    popped = engine.pop("a")
    assert popped is not None
    assert popped.id == 1
    assert engine.pop("a") is None
    assert (figures(engine).deliveries, figures(engine).settled, retained(engine)) == (1, 1, [])


def test_a_paused_subscriber_gets_nothing_and_keeps_its_backlog(opened: Opener) -> None:
    engine = opened("a")
    put(engine)
    engine.pause("a", True)
    assert take(engine) == []
    assert engine.peek("a") == []
    assert engine.pop("a") is None
    assert engine.take_newest("a", None) is None
    assert figures(engine).paused
    engine.pause("a", False)
    assert ids(take(engine)) == [1]


def test_a_filter_passes_silently_what_does_not_match(opened: Opener) -> None:
    engine = opened()
    engine.add_subscriber("a", SubscriberSettings(topic_filter="camera.*"), "latest")
    engine.put([entry(topic="camera.left"), entry(), entry(topic="sonar"), entry(topic="camera.right")])
    assert figures(engine).waiting == 4
    assert ids(take(engine, count=9)) == [1, 4]
    assert retained(engine) == [1, 4]
    assert figures(engine).expired == 0


def test_a_view_shows_a_payload_that_was_not_copied(opened: Opener) -> None:
    engine = opened("a")
    put(engine, data=b"frame")
    delivery = one(engine, with_data=False)
    assert (delivery.data, delivery.size) == (b"", 5)
    with engine.view("a", delivery) as view:
        assert bytes(view) == b"frame"
        assert view.readonly
    engine.settle("a", [delivery.receipt])
    with pytest.raises(LeaseLostError), engine.view("a", delivery):
        pass


# -- settling by id, to the top, purging ----------------------------------------------------------


def test_settle_ids_works_in_every_state(opened: Opener) -> None:
    engine = opened("a")
    put(engine, 6)
    leased, ready, delayed = take(engine, count=3)
    engine.give_back("a", [ready.receipt])
    engine.give_back("a", [delayed.receipt], delay_ns=SECOND)
    assert engine.settle_ids("a", [1, 2, 3, 5, 5, 99, 0]) == 4
    assert engine.settle_ids("a", [1, 5]) == 0
    with pytest.raises(LeaseLostError):
        engine.settle("a", [leased.receipt])
    assert (figures(engine).position, figures(engine).waiting) == (4, 2)
    assert engine.settle_ids("a", [4]) == 1
    assert figures(engine).position == 6
    assert retained(engine) == [6]
    for wrong in ([leased.receipt], [ready.receipt]):
        with pytest.raises(LeaseLostError):
            engine.give_back("a", wrong)


def test_the_newest_is_taken_and_settled_with_all_before_it(opened: Opener) -> None:
    engine = opened("a")
    put(engine, 5)
    held, back, late = take(engine, count=3)
    engine.give_back("a", [back.receipt])
    engine.give_back("a", [late.receipt], delay_ns=SECOND)
    newest = top(engine)
    assert (newest.id, figures(engine).position, lag(engine)) == (5, 4, (2, 2, 1))
    put(engine)
    engine.settle_to_top("a", newest.receipt)
    assert figures(engine).settled == 4
    assert (lag(engine), retained(engine)) == ((1, 1, 0), [1, 6])
    engine.settle("a", [held.receipt])


def test_returning_the_newest_leaves_all_as_it_was(opened: Opener) -> None:
    engine = opened("a")
    put(engine, 2)
    before = figures(engine)
    newest = top(engine)
    assert newest.id == 2
    engine.return_to_top("a", newest.receipt)
    assert (figures(engine).position, figures(engine).deliveries, lag(engine)) == (1, 0, (2, 0, 0))
    assert before.lag == figures(engine).lag
    taken = take(engine, count=2)
    engine.give_back("a", [taken[1].receipt], reason="no")
    newest = top(engine)
    assert (newest.id, newest.delivery_count) == (2, 2)
    engine.return_to_top("a", newest.receipt)
    again = one(engine)
    assert (again.id, again.delivery_count, again.last_error) == (2, 2, "no")


def test_the_walk_passes_what_was_taken_as_the_newest(opened: Opener, clock: FakeClock) -> None:
    engine = opened("a")
    put(engine, 3)
    newest = top(engine, lease_ns=SECOND)
    clock.go(2)
    assert ids(take(engine, count=9)) == [1, 2, 3]
    with pytest.raises(LeaseLostError):
        engine.settle_to_top("a", newest.receipt)
    put(engine, 2)
    newest = top(engine, lease_ns=SECOND)
    assert ids(take(engine, count=9)) == [4]
    clock.go(2)
    again = one(engine)
    assert (again.id, again.delivery_count, again.last_error) == (5, 2, "lease ended")


def test_an_ended_lease_of_the_newest_counts_for_nothing(opened: Opener, clock: FakeClock) -> None:
    engine = opened()
    engine.add_subscriber("a", SubscriberSettings(max_deliveries=1, lease=1.0), "latest")
    put(engine, 2)
    top(engine)
    clock.go(1)
    assert [(each.id, each.delivery_count) for each in take(engine, count=2)] == [(1, 1), (2, 1)]
    assert (figures(engine).deliveries, figures(engine).dead) == (2, 0)


def test_a_newest_message_that_was_given_back_is_not_delivered_twice(opened: Opener) -> None:
    engine = opened("a")
    put(engine, 3)
    engine.give_back("a", [top(engine).receipt], reason="no")
    assert lag(engine) == (3, 0, 0)
    assert [(each.id, each.delivery_count) for each in take(engine, count=9)] == [(3, 2), (1, 1), (2, 1)]
    assert take(engine) == []


def test_a_settled_newest_message_is_passed_later(opened: Opener) -> None:
    engine = opened("a")
    put(engine, 3)
    engine.settle("a", [top(engine).receipt])
    second = top(engine)
    engine.reject("a", [second.receipt], "bad")
    assert ids(take(engine, count=9)) == [1]
    assert figures(engine).position == 4


def test_purge_settles_everything_but_leases(opened: Opener) -> None:
    engine = opened("a", "b")
    put(engine, 4)
    taken = take(engine, count=2)
    engine.give_back("a", [taken[1].receipt])
    assert engine.purge("a") == 3
    assert lag(engine) == (0, 1, 0)
    assert lag(engine, "b") == (4, 0, 0)
    engine.clear()
    assert (engine.subscribers(), engine.bounds()) == ({}, (5, 5))


# -- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "mark", "kept"),
    [
        (Strategy.PRUNE_FIRST, 1, [2]),
        (Strategy.PRUNE_FIRST, 2, [2, 3]),
        (Strategy.PRUNE_FIRST, 5, [4, 5, 6]),
        (Strategy.PRUNE_LAST, 2, [1, 3]),
        (Strategy.PRUNE_LAST, 5, [1, 2, 6]),
    ],
)
def test_an_overflow_prunes_to_half_of_the_mark(
    opened: Opener, strategy: Strategy, mark: int, kept: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    engine = opened("a", max_messages=mark, strategy=strategy)
    put(engine, mark)
    with caplog.at_level(logging.WARNING, logger="persipubsub"):
        put(engine)
    assert retained(engine) == kept
    assert len(caplog.records) == 1
    pruned = mark + 1 - len(kept)
    assert (engine.statistics().pruned_overflow, figures(engine).lost) == (pruned, pruned)


def test_a_batch_prunes_as_far_as_it_needs(opened: Opener) -> None:
    engine = opened("a", max_messages=4)
    put(engine, 4)
    put(engine, 4)
    assert retained(engine) == [5, 6, 7, 8]
    with pytest.raises(QueueFullError):
        put(engine, 5)
    assert retained(engine) == [5, 6, 7, 8]


def test_bytes_are_limited_too(opened: Opener) -> None:
    engine = opened("a", max_bytes=10, max_message_bytes=8)
    put(engine, 2, data=b"12345")
    put(engine, data=b"1")
    assert retained(engine) == [2, 3]
    with pytest.raises(MessageTooLargeError):
        put(engine, data=b"123456789")
    with pytest.raises(MessageTooLargeError):
        put(engine, 2, data=b"12345678")
    assert engine.statistics().payload_bytes == 6


@pytest.mark.parametrize("strategy", [Strategy.REJECT, Strategy.BLOCK])
def test_a_full_queue_refuses_and_changes_nothing(opened: Opener, clock: FakeClock, strategy: Strategy) -> None:
    engine = opened("a", max_messages=2, message_timeout=10, strategy=strategy)
    put(engine, 2)
    with pytest.raises(QueueFullError):
        put(engine, deduplication_id=b"d")
    with pytest.raises(QueueFullError):
        engine.settle("a", [one(engine).receipt], [entry(), entry()])
    assert lag(engine) == (1, 1, 0)
    clock.go(11)
    assert put(engine, deduplication_id=b"d") == [3]
    stats = engine.statistics()
    assert (stats.pruned_timeout, stats.pruned_overflow) == (2, 0)
    assert (figures(engine).expired, figures(engine).lost) == (1, 1)


def test_smaller_limits_bind_the_next_send(opened: Opener) -> None:
    engine = opened("a")
    put(engine, 8)
    engine.configure(Settings(high_water_mark=HighWaterMark(max_messages=4)))
    assert len(retained(engine)) == 8
    put(engine)
    assert retained(engine) == [7, 8, 9]


def test_a_full_log_first_drops_what_everybody_consumed(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    engine = opened("a", "b", max_messages=4, retention=Retention.LOG, strategy=Strategy.REJECT)
    put(engine, 4)
    held = one(engine, "b")
    engine.settle("b", [each.receipt for each in take(engine, "b", 2)])
    engine.settle("a", [each.receipt for each in take(engine, "a", 4)])
    with caplog.at_level(logging.WARNING, logger="persipubsub"):
        put(engine)
        assert retained(engine) == [1, 3, 4, 5]
        put(engine)
    assert retained(engine) == [1, 4, 5, 6]
    with pytest.raises(QueueFullError):
        put(engine)
    assert caplog.records == []
    assert (engine.statistics().pruned_overflow, figures(engine, "b").lost) == (2, 0)
    engine.settle("b", [held.receipt])


@pytest.mark.parametrize("end", ["give_back", "reject", "return_to_top", "settle_to_top", "release", "settle_ids"])
def test_however_a_lease_ends_whose_message_was_pruned_it_is_quiet(opened: Opener, end: str) -> None:
    engine = opened("a", max_messages=1)
    put(engine)
    receipt = one(engine).receipt
    put(engine)
    ends: dict[str, Callable[[], object]] = {
        "give_back": lambda: engine.give_back("a", [receipt]),
        "reject": lambda: engine.reject("a", [receipt], "bad"),
        "return_to_top": lambda: engine.return_to_top("a", receipt),
        "settle_to_top": lambda: engine.settle_to_top("a", receipt),
        "release": lambda: engine.release("a", [receipt]),
        "settle_ids": lambda: engine.settle_ids("a", [1]),
    }
    ends[end]()
    with pytest.raises(LeaseLostError):
        engine.settle("a", [receipt])
    stats = figures(engine)
    assert (stats.lost, stats.settled, stats.dead, ids(take(engine, count=9))) == (1, 0, 0, [2])


def test_a_log_without_subscribers_drops_the_oldest(opened: Opener) -> None:
    engine = opened(max_messages=3, retention=Retention.LOG, strategy=Strategy.PRUNE_LAST)
    for _ in range(5):
        put(engine)
    assert retained(engine) == [3, 4, 5]


def test_losses_are_shown_at_the_gap(opened: Opener) -> None:
    engine = opened("a", "b", max_messages=4, strategy=Strategy.PRUNE_LAST)
    engine.settle_ids("b", put(engine, 3)[1:])
    put(engine, 2)
    assert retained(engine) == [1, 2, 4, 5]
    put(engine)
    assert retained(engine) == [1, 2, 6]
    assert (figures(engine).lost, figures(engine, "b").lost) == (3, 2)
    assert [(each.id, each.missed) for each in take(engine, count=2)] == [(1, 0), (2, 0)]
    sixth = one(engine)
    assert (sixth.id, sixth.missed) == (6, 3)
    engine.give_back("a", [sixth.receipt])
    assert one(engine).missed == 3
    assert [(each.id, each.missed) for each in take(engine, "b", 9)] == [(1, 0), (6, 2)]


def test_gaps_from_before_a_subscriber_are_no_loss_of_its_own(opened: Opener) -> None:
    engine = opened("a", max_messages=4, strategy=Strategy.PRUNE_LAST)
    put(engine, 5 - 1)
    put(engine)
    engine.add_subscriber("late", SubscriberSettings(), "first")
    assert [(each.id, each.missed) for each in take(engine, "late", 9)] == [(1, 0), (2, 0), (5, 0)]
    engine.seek("a", 1)
    assert [(each.id, each.missed) for each in take(engine, "a", 9)] == [(1, 0), (2, 0), (5, 0)]
    assert (figures(engine).lost, figures(engine, "late").lost) == (2, 0)


def test_held_messages_are_pruned_and_settling_them_is_quiet(opened: Opener) -> None:
    engine = opened("a", max_messages=4)
    put(engine, 4)
    leased, ready, delayed, _ = take(engine, count=4)
    engine.give_back("a", [ready.receipt])
    engine.give_back("a", [delayed.receipt], delay_ns=SECOND)
    put(engine, 4)
    assert retained(engine) == [5, 6, 7, 8]
    assert (figures(engine).lost, lag(engine)) == (4, (4, 0, 0))
    with pytest.raises(LeaseLostError), engine.view("a", leased):
        pass
    engine.extend("a", leased.receipt, SECOND)
    engine.settle("a", [leased.receipt])
    assert figures(engine).settled == 0
    with pytest.raises(LeaseLostError):
        engine.settle("a", [leased.receipt])
    assert [(each.id, each.missed) for each in take(engine, count=9)] == [(5, 0), (6, 0), (7, 0), (8, 0)]
    assert figures(engine).lost == 4


# -- time -----------------------------------------------------------------------------------------


def test_an_expired_message_is_never_delivered_pruned_or_not(opened: Opener, clock: FakeClock) -> None:
    engine = opened("a", message_timeout=10)
    put(engine, expires_in_ns=2 * SECOND)
    put(engine)
    clock.go(1)
    assert ids(engine.peek("a")) == [1]
    clock.go(1)
    assert ids(take(engine)) == [2]
    put(engine)
    clock.go(10)
    clock.wall += 1
    assert take(engine) == []
    assert engine.prune_dangling() == 1
    assert (figures(engine).expired, figures(engine).lost, retained(engine)) == (2, 1, [])


def test_a_ready_message_that_expired_is_dropped(opened: Opener, clock: FakeClock) -> None:
    engine = opened("a")
    put(engine, expires_in_ns=SECOND)
    delivery = one(engine)
    clock.go(2)
    engine.give_back("a", [delivery.receipt])
    assert take(engine) == []
    assert (figures(engine).expired, retained(engine)) == (1, [])


def test_prune_dangling_takes_only_expired_ones_from_a_log(opened: Opener, clock: FakeClock) -> None:
    engine = opened("a", message_timeout=10, retention=Retention.LOG)
    put(engine)
    clock.go(8)
    put(engine, 2)
    engine.settle_ids("a", [1, 2, 3])
    clock.go(8)
    assert engine.prune_dangling() == 1
    assert (engine.statistics().pruned_timeout, figures(engine).expired) == (1, 0)
    engine.configure(Settings())
    assert retained(engine) == []  # what the log kept goes with it


def test_deduplication_holds_for_its_window_and_within_a_batch(opened: Opener, clock: FakeClock) -> None:
    engine = opened("a", deduplication_window=60)
    twice = [entry(deduplication_id=b"d"), entry(), entry(deduplication_id=b"d")]
    assert engine.put(twice) == [1, 2, 1]
    clock.go(60)
    assert put(engine, deduplication_id=b"d") == [1]
    clock.wall += 1
    assert put(engine, deduplication_id=b"d") == [3]
    assert (engine.statistics().deduplicated, engine.statistics().published) == (2, 3)
    engine.clear()
    assert put(engine, deduplication_id=b"d") == [4]


# -- positions ------------------------------------------------------------------------------------


def test_a_subscriber_starts_where_it_is_told(opened: Opener) -> None:
    engine = opened("a")
    put(engine, 3)
    engine.settle("a", [one(engine).receipt])
    starts: dict[str, tuple[str | int, int]] = {
        "first": ("first", 2),
        "latest": ("latest", 4),
        "two": (2, 2),
        "four": (4, 4),
    }
    for identifier, (start, position) in starts.items():
        engine.add_subscriber(identifier, SubscriberSettings(), start)
        assert figures(engine, identifier).position == position
    beyond: list[str | int] = [1, 5, "third", True]
    for wrong in beyond:
        with pytest.raises(PositionError):
            engine.add_subscriber("other", SubscriberSettings(), wrong)
    with pytest.raises(IdentifierError):
        engine.add_subscriber("", SubscriberSettings(), "latest")
    engine.add_subscriber("two", SubscriberSettings(), "latest")
    with pytest.raises(SettingsMismatchError, match="ephemeral"):
        engine.configure_subscriber("two", SubscriberSettings(ephemeral=True))
    with pytest.raises(SettingsMismatchError, match="max_deliveries"):
        engine.add_subscriber("two", SubscriberSettings(max_deliveries=3), 2)
    with pytest.raises(UnknownSubscriberError, match="'first', 'four'"):
        take(engine, "typo")


def test_seek_drops_what_is_held_and_finds_positions(opened: Opener, clock: FakeClock) -> None:
    engine = opened("a", retention=Retention.LOG)
    put(engine, 2)
    clock.go(10)
    put(engine, 2)
    delivery = one(engine)
    engine.settle_ids("a", [3])
    engine.seek("a", 2)
    with pytest.raises(LeaseLostError):
        engine.settle("a", [delivery.receipt])
    assert ids(take(engine, count=2)) == [2, 3]
    assert [engine.find_position("a", back=back) for back in (0, 1, 3, 9)] == [4, 3, 1, 1]
    sent = [clock.wall - 20 * SECOND, clock.wall - 9 * SECOND, clock.wall + 1]
    assert [engine.find_position("a", sent_ns=each) for each in sent] == [1, 3, 5]
    for wrong in (0, 6):
        with pytest.raises(PositionError):
            engine.seek("a", wrong)
    engine.seek("a", 5)
    assert take(engine) == []


# -- owners ---------------------------------------------------------------------------------------


def test_closing_an_engine_gives_back_its_leases_alone(opened: Opener) -> None:
    first, second = opened("a", name="owners"), opened(name="owners")
    put(first, 2)
    one(first)
    mine = one(second)
    assert [owner.leased for owner in figures(second).owners or ()] == [1, 1]
    first.close()
    assert [owner.leased for owner in figures(second).owners or ()] == [1]
    again = one(second)
    assert (again.id, again.delivery_count) == (1, 2)
    second.settle("a", [mine.receipt, again.receipt])


def test_an_ephemeral_subscriber_vanishes_with_the_engine_that_added_it(opened: Opener) -> None:
    first, second = opened("stays", name="ephemeral"), opened(name="ephemeral")
    second.add_subscriber("reply", SubscriberSettings(ephemeral=True), "latest")
    put(first)
    first.settle("stays", [one(first, "stays").receipt])
    assert retained(first) == [1]
    second.close()
    assert (list(first.subscribers()), retained(first)) == (["stays"], [])


def test_outgoing_messages_are_published_with_the_settlement(opened: Opener) -> None:
    engine = opened("a")
    put(engine)
    delivery = one(engine)
    (following,) = take(engine, settle=[delivery.receipt], outgoing=[entry(b"next")])
    assert (following.id, following.data, figures(engine).settled) == (2, b"next", 1)
    with pytest.raises(LeaseLostError):
        engine.settle("a", [delivery.receipt], [entry(b"never")])
    assert engine.bounds() == (2, 3)


# -- checking -------------------------------------------------------------------------------------


def test_check_finds_what_is_wrong() -> None:
    engine = open_memory(None, create=Settings())
    engine.add_subscriber("a", SubscriberSettings(), "latest")
    put(engine, 5)
    one(engine)
    state = engine._queue.state
    subscriber = state.subscribers["a"]

    def broken(what: str) -> None:
        assert [finding for finding in engine.check() if what in finding.what] != []

    assert engine.check() == []
    state.messages.payload_bytes += 1
    broken("payload_bytes")
    state.last_sent_ns = 0
    broken("go backwards")
    subscriber.ahead.add(1)
    broken("not ahead of the position")
    subscriber.gaps.add(3)
    broken("a gap")
    subscriber.ephemeral_owner = 0
    broken("closed")
    state.messages.remove(1)
    broken("message 1 is held, but it is missing")
    subscriber.takes = 0
    broken("impossible token")
    subscriber.holds.ready.append(4)
    broken("list of ready")
    subscriber.position = 99
    broken("beyond the next id")
    state.next_id = 3
    broken("but the next one is 3")
    state.messages.ids.reverse()
    broken("not in order")
    engine._queue.owners.clear()
    broken("leased by nobody")


# -- waiting --------------------------------------------------------------------------------------


def is_woken(waiter: Waiter, seconds: float) -> bool:
    return bool(select.select([waiter.fileno()], [], [], seconds)[0])


def test_a_waiter_is_woken_by_a_message_and_by_nothing_else(opened: Opener) -> None:
    engine = opened("a", "b")
    waiter = engine.waiter("a")
    waiter.arm()
    assert not is_woken(waiter, 0)
    put(engine)
    assert is_woken(waiter, BOUND)
    waiter.arm()
    take(engine, "b")
    take(engine, "a")
    assert not is_woken(waiter, 0)
    waiter.close()
    waiter.close()


def test_a_browser_is_woken_by_any_message(opened: Opener) -> None:
    engine = opened(retention=Retention.LOG)
    waiter = engine.waiter(None)
    waiter.arm()
    engine.add_subscriber("a", SubscriberSettings(), "first")
    assert not is_woken(waiter, 0)
    put(engine)
    assert is_woken(waiter, BOUND)
    waiter.arm()
    waiter.wake()
    assert is_woken(waiter, BOUND)
    waiter.close()


def test_a_waiting_thread_is_woken(opened: Opener) -> None:
    engine = opened("a")
    waiter = engine.waiter("a")
    waiter.arm()
    thread = threading.Thread(target=waiter.wait, args=(None,), daemon=True)
    thread.start()
    put(engine)
    thread.join(BOUND)
    assert not thread.is_alive()
    waiter.arm()
    waiter.wait(0.01)
    waiter.close()


@pytest.mark.parametrize("by_descriptor", [False, True])
def test_time_wakes_too(by_descriptor: bool) -> None:
    patiently(lambda factor: let_time_wake(by_descriptor, factor))


def let_time_wake(by_descriptor: bool, factor: float) -> None:
    """Wait for a message that becomes due, and for one whose lease ends."""
    engine = open_memory(None, create=Settings())
    engine.add_subscriber("a", SubscriberSettings(), "latest")
    waiter = engine.waiter("a")
    put(engine, delay_ns=int(SECOND * factor / 50))
    put(engine)
    assert one(engine, lease_ns=int(SECOND * factor / 25)).id == 2
    taken: list[int] = []
    started = time.monotonic()
    while len(taken) < 2:
        waiter.arm()
        taken += ids(take(engine, count=9))
        if len(taken) < 2 and by_descriptor:
            assert is_woken(waiter, BOUND)
        elif len(taken) < 2:
            waiter.wait(BOUND)
    assert sorted(taken) == [1, 2]
    assert time.monotonic() - started < BOUND
    close(engine)
    waiter.close()


def test_a_publisher_waits_for_room(opened: Opener) -> None:
    engine = opened("a", max_messages=1, strategy=Strategy.BLOCK)
    put(engine)
    waiter = engine.room_waiter()
    waiter.arm()
    delivery = one(engine)
    assert not is_woken(waiter, 0)
    engine.settle("a", [delivery.receipt])
    assert is_woken(waiter, BOUND)
    waiter.close()


def test_ten_thousand_messages_pass(opened: Opener) -> None:
    engine = opened("a")
    put(engine, 10_000)
    taken = [one(engine) for _ in range(10_000)]
    for delivery in taken:
        engine.settle("a", [delivery.receipt])
    assert (figures(engine).settled, retained(engine)) == (10_000, [])
