"""The figures: every field of the queue and of its subscribers."""

import os

import pytest

from persipubsub import Retention, Strategy
from tests.contract.support import SECOND, Queue, rest


@pytest.mark.needs("turned_clock")
def test_the_figures_of_an_empty_queue(queue: Queue) -> None:
    queue.deploy()
    found = queue.statistics()
    assert len(found.identity) == 36
    assert found.created_ns == queue.clock.wall
    assert (found.messages, found.payload_bytes, found.published, found.deduplicated, found.unrouted) == (0, 0, 0, 0, 0)
    assert (found.first_id, found.last_id, found.oldest_age) == (None, None, None)
    assert (found.pruned_overflow, found.pruned_timeout) == (0, 0)
    (figures,) = found.subscribers
    assert (figures.identifier, figures.position, figures.lag, figures.paused) == ("a", 1, 0, False)
    assert (figures.last_taken_ns, figures.last_settled_ns, figures.owners) == (None, None, ())


@pytest.mark.needs("turned_clock")
def test_the_figures_of_the_queue(queue: Queue) -> None:
    queue.deploy(["a"], retention=Retention.LOG, max_messages=10, message_timeout=1000)
    identity = queue.statistics().identity
    queue.send(b"12345", b"123")
    queue.clock.go(30)
    queue.pub.send(b"", deduplication_id="x")
    queue.pub.send(b"", deduplication_id="x")
    found = queue.statistics()
    assert (found.messages, found.payload_bytes, found.published, found.deduplicated) == (3, 8, 3, 1)
    assert (found.first_id, found.last_id, found.oldest_age) == (1, 3, 30.0)
    queue.fill(8)
    assert queue.statistics().pruned_overflow == 5
    queue.clock.go(1001)
    queue.fill(1)
    found = queue.statistics()
    assert (found.pruned_timeout, found.messages, found.first_id, found.last_id) == (6, 1, 12, 12)
    assert (found.identity, found.oldest_age) == (identity, 0.0)
    assert (queue.figures().lost, queue.figures().expired) == (5, 6)


@pytest.mark.needs("turned_clock")
def test_the_figures_of_subscribers_are_exact(queue: Queue) -> None:
    queue.deploy(["a", "idle"])
    queue.fill(10)
    sub = queue.sub()
    one, two, three, four, five = sub.get_many(5, timeout=0)
    queue.clock.go(1)
    one.ack()
    settled_at = queue.clock.wall
    queue.clock.go(1)
    two.nack()
    three.nack(delay=60)
    four.reject("no")
    sub.ack(8)
    figures = queue.figures()
    assert (figures.position, figures.waiting, figures.leased, figures.delayed, figures.dead) == (6, 5, 1, 1, 1)
    assert figures.lag == 7
    assert (figures.deliveries, figures.redelivered, figures.settled) == (5, 0, 2)
    assert figures.last_taken_ns == settled_at - SECOND
    assert figures.last_settled_ns == queue.clock.wall
    again = sub.get(timeout=0)
    assert again is not None
    assert (again.id, queue.figures().redelivered, queue.figures().deliveries) == (2, 1, 6)
    assert (queue.figures("idle").waiting, queue.figures("idle").deliveries) == (10, 0)
    assert five.id == 5


@pytest.mark.needs("turned_clock")
def test_the_owners_are_shown(queue: Queue) -> None:
    queue.deploy()
    queue.fill(3)
    taken = queue.sub().get_many(2, timeout=0)
    other = queue.join()
    held = other.new_subscriber("a").get(timeout=0)
    assert held is not None
    owners = queue.figures().owners or ()
    assert {owner.pid for owner in owners} == {os.getpid()}
    assert sorted(owner.leased for owner in owners) == [1, 2]
    assert all(owner.command and owner.since_ns == queue.clock.wall for owner in owners)
    other.close()
    assert [owner.leased for owner in queue.figures().owners or ()] == [2]
    for message in taken:
        message.ack()
    assert [owner.leased for owner in queue.figures().owners or ()] == [0]


@pytest.mark.needs("halving", "turned_clock")
def test_an_owner_holds_nothing_that_a_limit_took(queue: Queue) -> None:
    queue.deploy(max_messages=4)
    queue.fill(4)
    held = queue.sub().get_many(4, timeout=0)
    assert len(held) == 4
    queue.fill(1)
    figures = queue.figures()
    assert (figures.leased, figures.lost) == (2, 2)
    assert [owner.leased for owner in figures.owners or ()] == [2]


@pytest.mark.needs("exact_counters")
def test_an_idle_subscriber_shows_its_losses_before_it_looks(queue: Queue) -> None:
    queue.deploy(max_messages=4, strategy=Strategy.PRUNE_LAST)
    queue.fill(9)
    figures = queue.figures()
    assert (figures.waiting + (figures.lost or 0), figures.lost) == (9, queue.statistics().pruned_overflow)
    before = figures.lost
    assert len(rest(queue.sub())) == figures.waiting
    assert queue.figures().lost == before


def test_a_queue_that_is_used_up_starts_from_nothing_again(queue: Queue) -> None:
    queue.deploy()
    for _ in range(5):
        queue.fill(20)
        rest(queue.sub())
    found = queue.statistics()
    assert (found.messages, found.payload_bytes, found.first_id, found.published) == (0, 0, None, 100)
    assert queue.figures().position == 101


@pytest.mark.needs("halving")
def test_what_a_limit_took_before_a_subscriber_came_is_no_loss_of_it(queue: Queue) -> None:
    queue.deploy(max_messages=4, strategy=Strategy.PRUNE_LAST)
    queue.fill(5)
    assert queue.retained() == [1, 2, 5]
    queue.control.add_subscriber("late", start="first")
    assert (queue.figures("a").lost, queue.figures("late").lost) == (2, 0)
    assert rest(queue.sub("late")) == [b"x"] * 3
    assert queue.figures("late").lost == 0


@pytest.mark.needs("turned_clock", "halving")
def test_a_purge_settles_nothing_that_is_gone_already(queue: Queue) -> None:
    queue.deploy(message_timeout=10)
    queue.fill(2)
    queue.clock.go(11)
    assert queue.control.prune_dangling_messages() == 2
    assert queue.control.purge("a") == 0
    figures = queue.figures()
    assert (figures.position, figures.settled, figures.expired, figures.last_settled_ns) == (3, 0, 2, None)
