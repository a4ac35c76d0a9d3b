"""Leases: how long they last, and that nobody settles what somebody else has."""

import datetime
from collections.abc import Callable

import pytest

from persipubsub import LeaseLostError, SettingsError, SubscriberSettings
from tests.contract.support import Queue, ids_of, rest


@pytest.mark.needs("turned_clock")
def test_without_seconds_a_lease_never_ends_while_its_owner_lives(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    message = queue.take()
    queue.clock.go(10 * 365 * 86400)
    assert queue.join().new_subscriber("a").get(timeout=0) is None
    assert queue.lag() == (0, 1, 0)
    message.ack()
    assert queue.figures().redelivered == 0


@pytest.mark.needs("turned_clock")
def test_a_bounded_lease_ends(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"1", b"2")
    message = queue.take(lease=5)
    other = queue.join().new_subscriber("a")
    second = other.get(timeout=0)
    assert second is not None
    assert second.id == 2
    queue.clock.go(4.9)
    assert other.get(timeout=0) is None
    queue.clock.go(0.2)
    again = other.get(timeout=0)
    assert again is not None
    assert (again.id, again.delivery_count, again.last_error) == (1, 2, "lease ended")
    for settle in (message.ack, message.nack, lambda: message.reject("no"), lambda: message.extend(1)):
        with pytest.raises(LeaseLostError, match="1"):
            settle()
    assert queue.lag() == (0, 2, 0)
    again.ack()
    assert queue.figures().settled == 1


@pytest.mark.needs("turned_clock")
@pytest.mark.parametrize("end", ["ack", "nack", "reject", "extend"])
def test_an_ended_lease_that_nobody_took_over_still_holds(queue: Queue, end: str) -> None:
    queue.deploy()
    queue.fill(1)
    message = queue.take(lease=1)
    queue.clock.go(2)
    assert queue.figures().lag == 1
    if end == "ack":
        message.ack()
        assert queue.figures().settled == 1
    elif end == "nack":
        message.nack(reason="late")
        assert queue.take().last_error == "late"
    elif end == "reject":
        message.reject("late")
        assert [letter.reason for letter in queue.control.dead_letters("a")] == ["late"]
    else:
        message.extend(10)
        queue.clock.go(9)
        assert queue.sub().get(timeout=0) is None
        message.ack()


@pytest.mark.needs("turned_clock")
def test_an_ended_lease_still_holds_after_others_have_looked(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"1", b"2")
    first = queue.sub()
    message = first.get(timeout=0, lease=1)
    assert message is not None
    queue.clock.go(2)
    seen = queue.sub().peek()
    assert seen is not None
    assert seen.id == 1
    message.ack()
    assert rest(queue.sub()) == [b"2"]


@pytest.mark.needs("turned_clock")
def test_extend_prolongs_a_bounded_lease(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    message = queue.take(lease=5)
    for _ in range(4):
        queue.clock.go(4)
        message.extend(5)
    assert queue.sub().get(timeout=0) is None
    queue.clock.go(6)
    assert queue.take().delivery_count == 2


@pytest.mark.needs("turned_clock")
def test_extend_may_shorten(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    message = queue.take(lease=500)
    message.extend(1)
    queue.clock.go(2)
    assert queue.take().id == message.id


@pytest.mark.needs("turned_clock")
def test_extend_leaves_a_lease_without_end_as_it_is(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    message = queue.take()
    message.extend(1)
    queue.clock.go(100)
    assert queue.sub().get(timeout=0) is None
    message.ack()


@pytest.mark.needs("turned_clock")
def test_the_lease_of_the_subscriber_counts_when_none_is_given(queue: Queue) -> None:
    queue.deploy({"a": SubscriberSettings(lease=10)})
    queue.fill(2)
    short, long = queue.take(lease=1), queue.take()
    queue.clock.go(2)
    again = queue.take()
    assert again.id == short.id
    queue.clock.go(9)
    assert queue.take().id == long.id
    assert queue.control.configure_subscriber("a", lease=None).lease is None


@pytest.mark.needs("turned_clock")
def test_setting_the_wall_clock_touches_no_lease(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    message = queue.take(lease=5)
    queue.clock.set_wall(7 * 86400)
    assert queue.sub().get(timeout=0) is None
    queue.clock.set_wall(-30 * 86400)
    assert queue.sub().get(timeout=0) is None
    queue.clock.go(6)
    assert queue.take().id == message.id


@pytest.mark.needs("turned_clock")
def test_a_wall_clock_that_jumps_keeps_the_order_and_loses_nothing(queue: Queue) -> None:
    queue.deploy(message_timeout=86400)
    for jump in (0, -7200, 3600, -86400, 10, -1, 0):
        queue.clock.set_wall(jump)
        queue.fill(1)
    messages = queue.sub().get_many(10, timeout=0)
    assert ids_of(messages) == [1, 2, 3, 4, 5, 6, 7]
    times = [message.sent for message in messages]
    assert times == sorted(times)
    assert all(isinstance(moment, datetime.datetime) for moment in times)
    assert queue.statistics().pruned_timeout == 0


@pytest.mark.needs("turned_clock")
def test_each_take_is_fenced_off_from_the_one_before(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    old = []
    for _ in range(5):
        old.append(queue.take(lease=1))
        queue.clock.go(2)
    last = queue.take()
    for message in old:
        with pytest.raises(LeaseLostError):
            message.ack()
    assert queue.lag() == (0, 1, 0)
    last.ack()
    assert (queue.figures().settled, queue.figures().redelivered) == (1, 5)


@pytest.mark.needs("turned_clock")
def test_a_block_whose_lease_was_lost_says_so(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    with pytest.raises(LeaseLostError, match="1"), queue.sub().receive(timeout=0, lease=1):  # noqa: PT012
        queue.clock.go(2)
        other = queue.take()
    assert queue.lag() == (0, 1, 0)
    other.ack()


@pytest.mark.needs("turned_clock")
def test_an_exception_is_not_hidden_by_a_lost_lease(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1)
    with pytest.raises(ValueError, match="mine"), queue.sub().receive(timeout=0, lease=1):  # noqa: PT012
        queue.clock.go(2)
        other = queue.take()
        raise ValueError("mine")
    assert queue.lag() == (0, 1, 0)
    other.ack()


def test_the_others_of_a_batch_are_settled_when_one_was_lost(queue: Queue) -> None:
    queue.deploy()
    queue.fill(3)
    with pytest.raises(LeaseLostError, match="2"), queue.sub().receive_many(3, timeout=0):
        queue.sub().ack(2)
    assert queue.figures().settled == 3
    assert queue.retained() == []


def test_in_a_loop_lost_leases_are_told_and_the_loop_goes_on(queue: Queue) -> None:
    queue.deploy()
    queue.fill(4)
    loop = queue.sub().messages(batch=1, timeout=0)
    first = next(loop)
    queue.sub().ack(first.id)
    with pytest.raises(LeaseLostError, match="1"):
        next(loop)
    assert [message.id for message in loop] == [2, 3, 4]
    assert queue.figures().settled == 4


@pytest.mark.needs("turned_clock")
def test_in_a_loop_a_lease_that_ends_before_its_turn_was_no_delivery(queue: Queue) -> None:
    queue.deploy()
    queue.fill(3)
    loop = queue.sub().messages(batch=3, timeout=0, lease=10)
    assert next(loop).id == 1
    queue.clock.go(11)
    others = queue.sub().get_many(5, timeout=0)
    assert [(message.id, message.delivery_count) for message in others] == [(1, 2), (2, 1), (3, 1)]
    for message in others:
        message.ack()
    with pytest.raises(LeaseLostError):
        list(loop)
    loop.close()
    assert queue.figures().settled == 3


def test_a_seek_ends_all_leases(queue: Queue) -> None:
    queue.deploy()
    queue.fill(3)
    held = queue.take()
    queue.sub().seek("latest")
    with pytest.raises(LeaseLostError):
        held.ack()
    assert queue.lag() == (0, 0, 0)
    assert queue.retained() == []


def test_removing_the_subscriber_ends_its_leases(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    queue.fill(1)
    held = queue.take("a")
    queue.control.remove_subscriber("a")
    with pytest.raises(LookupError):
        held.ack()
    queue.control.add_subscriber("a", start="first")
    with pytest.raises(LeaseLostError):
        held.ack()
    assert queue.lag("a") == (1, 0, 0)


@pytest.mark.needs("exact_counters")
@pytest.mark.parametrize("end", ["ack", "nack", "reject", "extend", "block", "exception", "loop"])
def test_a_held_message_that_a_limit_took_ends_quietly_and_counts_as_lost(queue: Queue, end: str) -> None:
    queue.deploy(max_messages=1)
    queue.fill(1)
    if end == "block":
        with queue.sub().receive(timeout=0):
            queue.fill(1)
    elif end == "exception":
        with pytest.raises(ValueError), queue.sub().receive(timeout=0):  # noqa: PT012
            queue.fill(1)
            raise ValueError
    elif end == "loop":
        with queue.sub().messages(timeout=0) as loop:
            next(loop)
            queue.fill(1)
            next(loop)
    else:
        message = queue.take(lease=60)
        queue.fill(1)
        assert queue.figures().lost == 1
        ends: dict[str, Callable[[], None]] = {
            "ack": message.ack,
            "nack": message.nack,
            "reject": lambda: message.reject("no"),
            "extend": lambda: message.extend(1),
        }
        ends[end]()
        message.ack()
    figures = queue.figures()
    assert (figures.lost, figures.settled, figures.dead) == (1, 0, 0)
    assert figures.lag == 1


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "5", True])
def test_a_lease_that_makes_no_sense_is_refused(queue: Queue, wrong: float) -> None:
    queue.deploy()
    queue.fill(1)
    with pytest.raises(SettingsError, match="lease"):
        queue.sub().get(timeout=0, lease=wrong)
    with pytest.raises(SettingsError, match="lease"):
        queue.sub().receive(timeout=0, lease=wrong)
    with pytest.raises(SettingsError, match="lease"):
        queue.sub().messages(timeout=0, lease=wrong)
    message = queue.take()
    with pytest.raises(SettingsError, match="lease"):
        message.extend(wrong)
    assert queue.lag() == (0, 1, 0)
