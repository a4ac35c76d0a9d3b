"""Coming from Redis Streams."""

from pathlib import Path

import pytest

from persipubsub import Environment, HighWaterMark, LeaseLostError, Retention
from tests.contract.support import FakeClock, Queue, ids_of, rest
from tests.examples.support import checks, page_of, rows_of
from tests.process import support
from tests.process.support import Children


@pytest.fixture
def stream(queue: Queue) -> Queue:
    """Return a queue that keeps what was read, with a group."""
    queue.deploy((), retention=Retention.LOG)
    queue.control.add_subscriber("group", start="first")
    return queue


@checks("XADD key * field value", "XLEN key")
def test_adding(stream: Queue) -> None:
    assert stream.pub.send(b"value", headers={"field": "value"}) == 1
    assert stream.take("group").headers == {"field": "value"}
    assert stream.statistics().messages == 1


@checks("XADD key MAXLEN 1000, XTRIM", "MAXLEN trims what a group has not read: the group is not told")
def test_trimming(stream: Queue) -> None:
    stream.control.set_high_water_mark(HighWaterMark(max_messages=10))
    stream.fill(11)
    message = stream.take("group")
    assert message.missed == message.id - 1 == 5
    assert stream.statistics().pruned_overflow == 5


@checks("XGROUP CREATE key group $, XGROUP CREATE key group 0", "XGROUP DESTROY key group")
def test_groups(stream: Queue) -> None:
    stream.send(b"1")
    stream.control.add_subscriber("late", start="latest")
    stream.control.add_subscriber("early", start="first")
    stream.send(b"2")
    assert rest(stream.sub("late")) == [b"2"]
    assert rest(stream.sub("early")) == [b"1", b"2"]
    assert stream.control.remove_subscriber("late")


@checks(
    "XREADGROUP GROUP group consumer COUNT 10 BLOCK 5000 STREAMS key >",
    "XACK key group id",
    "XPENDING key group, XINFO GROUPS key",
)
def test_reading_by_a_group(stream: Queue) -> None:
    stream.send(b"1", b"2", b"3")
    sub = stream.sub("group")
    messages = sub.get_many(2, timeout=60)
    figures = stream.figures("group")
    assert (figures.leased, figures.lag, [owner.leased for owner in figures.owners or ()]) == (2, 3, [2])
    messages[0].ack()
    assert sub.ack(ids_of(messages)) == 1
    with sub.receive_many(10, timeout=60) as payloads:
        assert payloads == [b"3"]
    assert stream.figures("group").lag == 0


@checks(
    "XCLAIM, XAUTOCLAIM with a least idle time",
    "a slow consumer's entries: claimed by others after the idle time",
    "an acknowledgement by a consumer that was overtaken: accepted",
)
def test_idle_consumers(stream: Queue, clock: FakeClock) -> None:
    stream.send(b"1", b"2")
    slow = stream.take("group")
    hanging = stream.take("group", lease=30)
    clock.go(100_000)
    again = stream.take("group")
    assert (again.id, again.delivery_count) == (hanging.id, 2)
    with pytest.raises(LeaseLostError):
        hanging.ack()
    stream.take_nothing("group")
    slow.ack()
    again.ack()


@checks("a dead consumer's entries: pending until somebody claims them")
def test_a_dead_consumer(tmp_path: Path, children: Children) -> None:
    with Environment(tmp_path / "stream") as env:
        env.new_control({"group"})
        env.new_publisher().send(b"1")
        child = children.new()
        child.do(support.open_subscriber, env.path, "group")
        assert child.do(support.get, 0)
        child.kill()
        message = env.new_subscriber("group").get(timeout=support.BOUND)
        assert message is not None
        assert message.delivery_count == 2
        message.ack()


@checks("XGROUP SETID key group id", "XRANGE key - +, XREAD BLOCK 0")
def test_replay(stream: Queue) -> None:
    stream.send(b"1", b"2", b"3")
    sub = stream.sub("group")
    assert rest(sub) == [b"1", b"2", b"3"]
    sub.seek(2)
    assert rest(sub) == [b"2", b"3"]
    sub.seek("first")
    assert rest(sub) == [b"1", b"2", b"3"]
    sub.seek(back=1)
    assert rest(sub) == [b"3"]
    assert [message.data for message in stream.env.browse()] == [b"1", b"2", b"3"]
    following = stream.env.browse(follow=True)
    assert [next(following).id for _ in range(3)] == [1, 2, 3]


@checks("an entry that always fails: delivered without an end")
def test_an_entry_that_fails(stream: Queue) -> None:
    stream.control.configure_subscriber("group", max_deliveries=2)
    stream.send(b"1")
    for _ in range(2):
        stream.take("group").nack(reason="bad")
    stream.take_nothing("group")
    assert [letter.reason for letter in stream.control.dead_letters("group")] == ["bad"]


@checks("several machines")
def test_the_page_says_what_is_not() -> None:
    assert dict(rows_of(page_of("from_redis_streams")))["several machines"].startswith("no: ")
