"""Delay, expiry, the message timeout and deduplication: what time does to messages."""

import threading

import pytest

from persipubsub import Draft, HighWaterMark, LeaseLostError, MessageError, Strategy
from tests.contract.support import Queue, ids_of, rest, run_all
from tests.process.support import BOUND

# -- delay -------------------------------------------------------------------------------------------


@pytest.mark.needs("turned_clock")
def test_a_delayed_message_comes_when_it_is_due_and_before_newer_ones(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"later", delay=10)
    queue.send(b"now", b"then")
    sub = queue.sub()
    with sub.receive(timeout=0) as data:
        assert data == b"now"
    assert queue.lag() == (1, 0, 1)
    queue.clock.go(9.9)
    seen = sub.peek()
    assert seen is not None
    assert seen.data == b"then"
    queue.clock.go(0.2)
    queue.send(b"newest")
    assert rest(sub) == [b"later", b"then", b"newest"]
    assert queue.retained() == []


@pytest.mark.needs("turned_clock")
def test_due_messages_come_by_their_ids(queue: Queue) -> None:
    queue.deploy()
    queue.pub.send_many([Draft(b"%d" % delay, delay=delay) for delay in (30, 10, 20)])
    assert queue.sub().get(timeout=0) is None
    assert queue.lag() == (0, 0, 3)
    queue.clock.go(15)
    assert rest(queue.sub()) == [b"10"]
    queue.clock.go(20)
    assert rest(queue.sub()) == [b"30", b"20"]


@pytest.mark.needs("turned_clock")
def test_a_delayed_message_keeps_itself_alone(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"next week", delay=7 * 86400)
    queue.fill(5)
    rest(queue.sub())
    assert queue.retained() == [1]
    queue.clock.go(8 * 86400)
    assert rest(queue.sub()) == [b"next week"]
    assert queue.retained() == []


@pytest.mark.needs("turned_clock")
def test_nack_with_a_delay(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"1", b"2")
    message = queue.take()
    message.nack(delay=5, reason="busy")
    assert queue.lag() == (1, 0, 1)
    with pytest.raises(LeaseLostError):
        queue.sub().peek().ack()  # type: ignore[union-attr]
    assert rest(queue.sub()) == [b"2"]
    queue.clock.go(6)
    again = queue.take()
    assert (again.id, again.delivery_count, again.last_error) == (1, 2, "busy")


@pytest.mark.needs("turned_clock")
def test_a_delay_counts_for_subscribers_that_come_later(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"later", delay=10)
    queue.control.add_subscriber("b", start="first")
    assert queue.sub("b").get(timeout=0) is None
    queue.clock.go(11)
    assert rest(queue.sub("b")) == [b"later"]


@pytest.mark.needs("turned_clock")
def test_receive_to_top_settles_what_is_delayed_before_it(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"1", delay=10)
    queue.send(b"2")
    queue.send(b"3", delay=10)
    with queue.sub().receive_to_top(timeout=0) as data:
        assert data == b"2"
    queue.clock.go(11)
    assert rest(queue.sub()) == [b"3"]


@pytest.mark.needs("turned_clock")
def test_purge_settles_what_is_delayed(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"1", delay=10)
    queue.take_nothing()
    queue.send(b"2", delay=10)
    assert queue.control.purge("a") == 2
    queue.clock.go(11)
    assert rest(queue.sub()) == []
    assert queue.retained() == []


@pytest.mark.needs("turned_clock")
def test_many_delayed_messages(queue: Queue) -> None:
    queue.deploy()
    queue.pub.send_many([Draft(b"x", delay=1 + number % 10) for number in range(3000)])
    queue.send(b"now")
    assert rest(queue.sub()) == [b"now"]
    assert queue.lag() == (0, 0, 3000)
    queue.clock.go(5.5)
    assert len(rest(queue.sub())) == 1500
    queue.clock.go(5)
    assert len(rest(queue.sub())) == 1500


@pytest.mark.needs("turned_clock")
def test_the_wall_clock_set_forward_makes_due(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"later", delay=3600)
    queue.clock.set_wall(-7200)
    assert queue.sub().get(timeout=0) is None
    queue.clock.set_wall(3 * 3600)
    assert rest(queue.sub()) == [b"later"]


@pytest.mark.parametrize("wrong", [-1, -0.001, float("nan"), float("inf"), "5", True, 2**40])
def test_a_delay_that_makes_no_sense_is_refused(queue: Queue, wrong: float) -> None:
    queue.deploy()
    with pytest.raises(MessageError, match="delay"):
        queue.pub.send(b"x", delay=wrong)
    queue.fill(1)
    message = queue.take()
    with pytest.raises(MessageError, match="delay"):
        message.nack(delay=wrong)
    assert queue.statistics().published == 1
    assert queue.lag() == (0, 1, 0)


# -- expiry ------------------------------------------------------------------------------------------


@pytest.mark.needs("turned_clock")
def test_an_expired_message_is_never_delivered_and_counted(queue: Queue) -> None:
    queue.deploy(["a", "b"])
    queue.send(b"short", expires_in=5)
    queue.send(b"long", expires_in=500)
    queue.send(b"for ever")
    assert rest(queue.sub("b")) == [b"short", b"long", b"for ever"]
    queue.clock.go(5.1)
    assert rest(queue.sub("a")) == [b"long", b"for ever"]
    assert (queue.figures("a").expired, queue.figures("a").lost, queue.figures("b").expired) == (1, 0, 0)
    assert queue.retained() == []


@pytest.mark.needs("turned_clock")
@pytest.mark.parametrize("how", ["nack", "delay", "lease"])
def test_a_message_that_expires_on_its_way_back(queue: Queue, how: str) -> None:
    queue.deploy()
    queue.send(b"short", expires_in=5)
    message = queue.take(lease=8)
    if how == "nack":
        message.nack()
    elif how == "delay":
        message.nack(delay=8)
    queue.clock.go(9)
    assert queue.sub().get(timeout=0) is None
    assert (queue.figures().expired, queue.figures().lag) == (1, 0)
    assert queue.retained() == []


@pytest.mark.needs("turned_clock")
def test_a_message_that_expires_in_the_hands_of_its_handler(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"short", expires_in=5)
    message = queue.take()
    queue.clock.go(6)
    message.ack()
    assert (queue.figures().expired, queue.figures().settled) == (0, 1)


@pytest.mark.needs("turned_clock")
def test_the_newest_that_has_not_expired(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"1")
    queue.send(b"2", expires_in=5)
    queue.clock.go(6)
    with queue.sub().receive_to_top(timeout=0) as data:
        assert data == b"1"
    assert rest(queue.sub()) == []


@pytest.mark.needs("turned_clock")
def test_a_message_may_be_delayed_and_expire(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"never", delay=10, expires_in=5)
    queue.send(b"just", delay=5, expires_in=10)
    queue.clock.go(7)
    assert rest(queue.sub()) == [b"just"]
    queue.clock.go(7)
    assert rest(queue.sub()) == []
    assert queue.figures().expired == 1


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "5", True])
def test_an_expiry_that_makes_no_sense_is_refused(queue: Queue, wrong: float) -> None:
    queue.deploy()
    with pytest.raises(MessageError, match="expires_in"):
        queue.pub.send(b"x", expires_in=wrong)
    assert queue.statistics().published == 0


# -- message timeout ---------------------------------------------------------------------------------


@pytest.mark.needs("turned_clock")
def test_the_message_timeout_binds_readers_pruned_or_not(queue: Queue) -> None:
    queue.deploy(message_timeout=10)
    queue.send(b"1")
    queue.clock.go(6)
    queue.send(b"2")
    queue.clock.go(5)
    seen = queue.sub().peek()
    assert seen is not None
    assert seen.id == 2
    with queue.sub().receive_to_top(timeout=0) as data:
        assert data == b"2"
    queue.clock.go(20)
    assert rest(queue.sub()) == []


@pytest.mark.needs("turned_clock")
def test_the_next_send_prunes_what_is_too_old(queue: Queue) -> None:
    queue.deploy(["a", "done"], message_timeout=10)
    queue.fill(3)
    rest(queue.sub("done"))
    queue.clock.go(10)
    queue.fill(1)
    assert queue.retained() == [1, 2, 3, 4]  # not older than the timeout
    queue.clock.go(1)
    queue.fill(1)
    assert queue.retained() == [4, 5]
    assert queue.statistics().pruned_timeout == 3
    assert (queue.figures("a").expired, queue.figures("a").lost, queue.figures("done").expired) == (3, 0, 0)
    message = queue.take()
    assert (message.id, message.missed) == (4, 3)


@pytest.mark.needs("turned_clock")
def test_prune_dangling_takes_what_is_too_old(queue: Queue) -> None:
    queue.deploy(message_timeout=10)
    queue.fill(3)
    held = queue.take()
    queue.clock.go(11)
    assert queue.control.prune_dangling_messages() == 3
    assert queue.control.prune_dangling_messages() == 0
    assert queue.retained() == []
    held.ack()
    assert queue.figures().lag == 0
    figures = queue.figures()
    assert sum((figures.expired or 0, figures.lost or 0)) == 3


@pytest.mark.needs("turned_clock")
def test_a_new_timeout_holds_at_once_for_what_is_there(queue: Queue) -> None:
    queue.deploy()
    queue.fill(2)
    queue.clock.go(100)
    queue.fill(1)
    queue.control.set_hwm(HighWaterMark(message_timeout=50))
    assert ids_of(queue.sub().get_many(5, timeout=0)) == [3]


@pytest.mark.needs("turned_clock")
def test_expired_messages_make_room(queue: Queue) -> None:
    queue.deploy(message_timeout=10, max_messages=2, strategy=Strategy.REJECT)
    queue.fill(2)
    queue.clock.go(11)
    assert queue.fill(2) == [3, 4]
    assert queue.retained() == [3, 4]


# -- deduplication -----------------------------------------------------------------------------------


@pytest.mark.needs("turned_clock")
def test_a_repeated_send_returns_the_first_id_and_stores_nothing(queue: Queue) -> None:
    queue.deploy(deduplication_window=60)
    pub = queue.pub
    assert pub.send(b"1", deduplication_id="order-1") == 1
    assert queue.join().new_publisher().send(b"other bytes", deduplication_id=b"order-1") == 1
    assert pub.send(b"2", deduplication_id="order-2") == 2
    queue.clock.go(60)
    assert pub.send(b"1", deduplication_id="order-1") == 1
    assert (queue.statistics().deduplicated, queue.statistics().published) == (2, 2)
    assert rest(queue.sub()) == [b"1", b"2"]
    assert pub.send(b"1", deduplication_id="order-1") == 1  # though it was consumed
    queue.clock.go(0.1)
    assert pub.send(b"1", deduplication_id="order-1") == 3
    assert pub.send(b"1", deduplication_id="order-1") == 3


@pytest.mark.needs("exact_counters")
def test_deduplication_within_a_batch_and_across(queue: Queue) -> None:
    queue.deploy()
    first = queue.pub.send_many([Draft(b"1", deduplication_id="x"), b"2", Draft(b"3", deduplication_id="x")])
    assert list(first) == [1, 2, 1]
    second = queue.pub.send_many([b"4", Draft(b"5", deduplication_id="x"), Draft(b"6", deduplication_id="y")])
    assert list(second) == [3, 1, 4]
    assert rest(queue.sub()) == [b"1", b"2", b"4", b"6"]
    assert queue.statistics().deduplicated == 2


@pytest.mark.needs("any_size")
def test_repetitions_need_no_room(queue: Queue) -> None:
    queue.deploy(max_messages=1, strategy=Strategy.REJECT)
    assert queue.pub.send(b"1", deduplication_id="x") == 1
    assert queue.pub.send(b"1", deduplication_id="x") == 1
    assert list(queue.pub.send_many([Draft(b"1", deduplication_id="x")] * 5)) == [1] * 5


def test_a_refused_send_is_not_remembered(queue: Queue) -> None:
    queue.deploy(max_messages=1, strategy=Strategy.REJECT)
    queue.fill(1)
    with pytest.raises(Exception, match="full"):
        queue.pub.send(b"x", deduplication_id="x")
    rest(queue.sub())
    assert queue.pub.send(b"x", deduplication_id="x") == 2
    assert rest(queue.sub()) == [b"x"]


@pytest.mark.needs("turned_clock")
def test_many_deduplication_ids_age_out(queue: Queue) -> None:
    queue.deploy(deduplication_window=10)
    for start in (0, 1000, 2000):
        queue.pub.send_many([Draft(b"x", deduplication_id=str(number)) for number in range(start, start + 1000)])
        queue.clock.go(6)
    repeated = queue.pub.send_many([Draft(b"x", deduplication_id=str(number)) for number in range(3000)])
    assert list(repeated[:1000]) == list(range(3001, 4001))
    assert list(repeated[2000:]) == list(range(2001, 3001))


def test_without_a_window_nothing_is_recognised(queue: Queue) -> None:
    queue.deploy(deduplication_window=0)
    assert [queue.pub.send(b"x", deduplication_id="x") for _ in range(2)] == [1, 2]


def test_publishers_that_repeat_at_once_store_one(queue: Queue) -> None:
    queue.deploy()
    ids: list[int] = []
    gate = threading.Barrier(4)

    def publish() -> None:
        pub = queue.env.new_publisher()
        for number in range(20):
            gate.wait(BOUND)
            ids.append(pub.send(b"x", deduplication_id=str(number)))

    run_all(publish, publish, publish, publish)
    assert sorted(ids) == sorted([*range(1, 21)] * 4)
    assert len(rest(queue.sub())) == 20


@pytest.mark.parametrize("wrong", ["", b"", 5, "x" * 256, "\ud800", ["x"]], ids=ascii)
def test_a_deduplication_id_that_makes_no_sense_is_refused(queue: Queue, wrong: str) -> None:
    queue.deploy()
    with pytest.raises(MessageError, match="deduplication_id"):
        queue.pub.send(b"x", deduplication_id=wrong)
    with pytest.raises(MessageError, match="deduplication_id"):
        queue.pub.send_many([b"1", b"2"], deduplication_id="one for both")
    assert queue.statistics().published == 0
