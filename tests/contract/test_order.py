"""Order, fan-out, competing consumers, and what may be sent."""

import logging
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from persipubsub import Draft, MessageTypeError
from tests.contract.support import Queue, ids_of, rest, run_all
from tests.process.support import BOUND


def test_what_is_sent_comes_in_order_with_its_id(queue: Queue) -> None:
    queue.deploy()
    pub = queue.pub
    ids = [pub.send(b"0"), *pub.send_many([b"1", b"2", b"3"]), pub.send(b"4")]
    assert ids == list(range(ids[0], ids[0] + 5))
    messages = queue.sub().get_many(10, timeout=0)
    assert ids_of(messages) == ids
    assert [message.data for message in messages] == [b"0", b"1", b"2", b"3", b"4"]


def test_send_many_returns_a_range(queue: Queue) -> None:
    queue.deploy()
    assert queue.pub.send_many([b"1", b"2"]) == range(1, 3)
    assert list(queue.pub.send_many([])) == []
    assert list(queue.pub.send_many(iter([b"3"]))) == [3]


@pytest.mark.needs("any_size")
def test_ten_thousand_in_one_batch_keep_their_order(queue: Queue) -> None:
    queue.deploy()
    queue.pub.send_many([b"%d" % number for number in range(10_000)])
    assert rest(queue.sub()) == [b"%d" % number for number in range(10_000)]
    assert queue.retained() == []


@pytest.mark.needs("any_size")
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        b"\xff\xfe",
        bytes(range(256)),
        bytearray(b"array"),
        memoryview(b"view"),
        b"x" * 65_537,
        b"y" * 3_000_000,
    ],
    ids=lambda payload: f"{type(payload).__name__}-{len(payload)}",
)
def test_any_bytes_come_back_as_they_were(queue: Queue, payload: bytes) -> None:
    queue.deploy(["a", "b"])
    queue.send(payload)
    with queue.sub("a").receive(timeout=0) as data:
        assert type(data) is bytes
        assert data == bytes(payload)
    popped = queue.sub("b").pop(timeout=0)
    assert popped is not None
    assert popped.data == bytes(payload)
    assert rest(queue.sub("a")) == rest(queue.sub("b")) == []
    assert queue.retained() == []


def test_a_buffer_that_changes_after_the_send_changes_nothing(queue: Queue) -> None:
    queue.deploy()
    buffer = bytearray(b"before")
    queue.pub.send(buffer)
    buffer[:] = b"after!"
    assert rest(queue.sub()) == [b"before"]


def test_a_batch_is_stored_wholly_or_not_at_all(queue: Queue) -> None:
    queue.deploy()
    with pytest.raises(MessageTypeError):
        queue.pub.send_many([b"good", "text", b"good"])  # the second is no bytes

    def drafts() -> Iterator[Draft]:
        yield Draft(b"good")
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        queue.pub.send_many(drafts())
    assert queue.statistics().published == 0
    assert queue.send(b"next") == [1]


def test_autosync_commits_each_by_itself(queue: Queue) -> None:
    queue.deploy(max_messages=10, max_message_bytes=2)
    with pytest.raises(ValueError, match="3 bytes"):
        queue.env.new_publisher(autosync=True).send_many([b"1", b"2", b"333", b"4"])
    assert rest(queue.sub()) == [b"1", b"2"]
    with pytest.raises(ValueError, match="3 bytes"):
        queue.pub.send_many([b"1", b"2", b"333", b"4"])
    assert rest(queue.sub()) == []


def test_every_subscriber_gets_everything(queue: Queue) -> None:
    queue.deploy(["a", "b", "c"])
    queue.send(b"1", b"2", b"3")
    for identifier in ("a", "b", "c"):
        assert queue.retained() == [1, 2, 3]
        assert rest(queue.sub(identifier)) == [b"1", b"2", b"3"]
    assert queue.retained() == []


def test_the_slowest_subscriber_keeps_messages(queue: Queue) -> None:
    queue.deploy(["fast", "slow"])
    queue.send(b"1", b"2", b"3")
    rest(queue.sub("fast"))
    queue.take("slow").ack()
    assert queue.retained() == [2, 3]
    assert queue.lag("fast") == (0, 0, 0)
    assert queue.lag("slow") == (2, 0, 0)


def test_what_is_held_keeps_itself_alone(queue: Queue) -> None:
    queue.deploy()
    ids = queue.fill(5)
    first, *others = queue.sub().get_many(5, timeout=0)
    for message in others:
        message.ack()
    assert queue.retained() == ids[:1]
    first.ack()
    assert queue.retained() == []


def test_a_message_given_back_is_the_next_one(queue: Queue) -> None:
    queue.deploy()
    queue.send(b"1", b"2", b"3")
    queue.take().nack()
    assert queue.take().id == 1


@pytest.mark.needs("ordered_returns")
def test_several_given_back_come_oldest_first_before_newer_ones(queue: Queue) -> None:
    queue.deploy()
    queue.fill(5)
    first, second, third = queue.sub().get_many(3, timeout=0)
    third.nack()
    first.nack()
    second.nack()
    assert ids_of(queue.sub().get_many(10, timeout=0)) == [1, 2, 3, 4, 5]


def test_publishers_in_threads_keep_their_order(queue: Queue) -> None:
    queue.deploy()
    each = 60

    def publish(name: int) -> None:
        pub = queue.env.new_publisher()
        for number in range(each):
            if number % 3:
                pub.send(b"%d %d" % (name, number))
            else:
                pub.send_many([b"%d %d" % (name, number)])

    run_all(*[partial(publish, name) for name in range(4)])
    messages = queue.sub().get_many(1000, timeout=0)
    assert ids_of(messages) == list(range(1, 4 * each + 1))
    for name in range(4):
        mine = [message.data for message in messages if message.data.startswith(b"%d " % name)]
        assert mine == [b"%d %d" % (name, number) for number in range(each)]


@pytest.mark.needs("exact_counters")
@pytest.mark.parametrize("owners", [1, 4])
def test_competing_consumers_share_and_never_meet(queue: Queue, owners: int) -> None:
    queue.deploy(["group", "single"])
    count = 200
    environments = [queue.env] if owners == 1 else [queue.join() for _ in range(4)]
    guard = threading.Lock()
    holding: set[int] = set()
    handled: list[int] = []

    def consume(number: int) -> None:
        sub = environments[number % len(environments)].new_subscriber("group")
        while len(handled) < count:
            message = sub.get(timeout=0.2)
            if message is None:
                continue
            with guard:
                assert message.id not in holding
                holding.add(message.id)
            repeat = message.delivery_count == 1 and message.id % 7 == 0
            with guard:
                holding.discard(message.id)
                if not repeat:
                    handled.append(message.id)
            if repeat:
                message.nack()
            else:
                message.ack()

    def publish() -> None:
        pub = queue.env.new_publisher()
        for _ in range(count):
            pub.send(b"x")

    run_all(publish, *[partial(consume, number) for number in range(4)])
    assert sorted(handled) == list(range(1, count + 1))
    assert len(rest(queue.sub("single"))) == count
    assert queue.figures("group").redelivered == count // 7


def test_a_consumer_is_woken_by_a_send(queue: Queue) -> None:
    queue.deploy()
    received: list[bytes | None] = []

    def consume() -> None:
        with queue.sub().receive(timeout=BOUND) as data:
            received.append(data)

    run_all(consume, lambda: queue.send(b"1"))
    assert received == [b"1"]


@pytest.mark.needs("exact_counters")
def test_without_subscribers_messages_are_counted_and_logged_once(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.deploy([])
    with caplog.at_level(logging.WARNING, "persipubsub"):
        ids = queue.fill(3)
    assert ids == [1, 2, 3]
    assert len([record for record in caplog.records if "subscribers" in record.getMessage()]) == 1
    assert (queue.statistics().unrouted, queue.statistics().published) == (3, 0)
    assert queue.retained() == []
    queue.control.add_subscriber("late", start="first")
    assert queue.fill(1) == [4]
    assert queue.take("late").id == 4


def test_a_thousand_messages_settled_ahead_are_passed(queue: Queue) -> None:
    queue.deploy()
    queue.fill(1_200)
    assert queue.sub().ack(range(2, 1_201)) == 1_199
    assert queue.sub().ack(1) == 1
    queue.take_nothing()
    assert queue.lag() == (0, 0, 0)
    assert queue.retained() == []
    assert queue.control.check() == []
