"""Messages that are published by the very acknowledgement of another."""

import pytest

from persipubsub import (
    Draft,
    LeaseLostError,
    MessageError,
    MessageTypeError,
    QueueFullError,
    Strategy,
    SubscriberSettings,
)
from tests.contract.support import Queue, rest


def pipeline(queue: Queue, **settings: object) -> None:
    queue.deploy(
        {"work": SubscriberSettings(topic_filter="in"), "next": SubscriberSettings(topic_filter="out")}, **settings
    )


def test_what_is_staged_is_published_with_the_acknowledgement(queue: Queue) -> None:
    pipeline(queue)
    queue.send(b"1", topic="in")
    message = queue.take("work")
    message.send(b"one", topic="out", headers={"h": "v"})
    message.send(b"two", topic="out")
    assert queue.statistics().published == 1
    message.ack()
    message.ack()
    assert queue.statistics().published == 3
    first = queue.take("next")
    assert (first.id, first.data, first.topic, dict(first.headers)) == (2, b"one", "out", {"h": "v"})
    assert queue.take("next").data == b"two"
    with pytest.raises(MessageError, match="settled"):
        message.send(b"late")


@pytest.mark.needs("turned_clock")
@pytest.mark.parametrize("how", ["nack", "reject", "exception", "lost", "id", "close"])
def test_what_is_staged_is_dropped_otherwise(queue: Queue, how: str) -> None:
    pipeline(queue)
    queue.send(b"1", topic="in")
    if how == "exception":
        with pytest.raises(ValueError), queue.sub("work").receive_message(timeout=0) as taken:  # noqa: PT012
            assert taken is not None
            taken.send(b"one", topic="out")
            raise ValueError
    else:
        sub = queue.sub("work")
        message = sub.get(timeout=0, lease=5)
        assert message is not None
        message.send(b"one", topic="out")
        if how == "nack":
            message.nack()
            message.ack()
        elif how == "reject":
            message.reject("no")
        elif how == "close":
            sub.close()
        else:
            if how == "lost":
                queue.clock.go(6)
                other = queue.take("work")
            else:
                queue.sub("work").ack(1)
            with pytest.raises(LeaseLostError):
                message.ack()
            if how == "lost":
                other.ack()
    assert queue.statistics().published == 1
    assert rest(queue.sub("next")) == []


def test_blocks_batches_and_loops_publish_what_was_staged(queue: Queue) -> None:
    pipeline(queue)
    queue.pub.send_many([Draft(b"%d" % number, topic="in") for number in range(9)])
    with queue.sub("work").receive_message(timeout=0) as message:
        assert message is not None
        message.send(b"block " + message.data, topic="out")
    messages = queue.sub("work").get_many(3, timeout=0)
    for message in messages:
        message.send(b"many " + message.data, topic="out")
        message.ack()
    with queue.sub("work").messages(batch=2, timeout=0) as loop:
        for message in loop:
            message.send(Draft(b"loop " + message.data, topic="out"))
    assert rest(queue.sub("next")) == [
        b"block 0",
        b"many 1",
        b"many 2",
        b"many 3",
        *[b"loop %d" % number for number in range(4, 9)],
    ]
    assert rest(queue.sub("work")) == []
    assert queue.retained() == []


def test_a_loop_that_is_left_drops_what_the_current_message_staged(queue: Queue) -> None:
    pipeline(queue)
    queue.send(b"1", b"2", topic="in")
    with queue.sub("work").messages(timeout=0) as loop:
        for message in loop:
            message.send(b"out of " + message.data, topic="out")
            if message.id == 2:
                break
    assert rest(queue.sub("next")) == [b"out of 1"]
    assert queue.take("work").id == 2


@pytest.mark.parametrize("strategy", [Strategy.REJECT, Strategy.BLOCK])
def test_without_room_nothing_is_acknowledged(queue: Queue, strategy: Strategy) -> None:
    pipeline(queue, max_messages=2, strategy=strategy)
    queue.send(b"1", topic="in")
    message = queue.take("work")
    message.send(b"one", topic="out")
    message.send(b"two", topic="out")
    message.send(b"three", topic="out")
    with pytest.raises(QueueFullError):
        message.ack()
    assert queue.lag("work") == (0, 1, 0)
    assert queue.statistics().published == 1
    message.nack()
    again = queue.take("work")
    again.send(b"one", topic="out")
    again.ack()
    assert rest(queue.sub("next")) == [b"one"]


def test_a_block_without_room_gives_the_message_back(queue: Queue) -> None:
    pipeline(queue, max_messages=1, strategy=Strategy.REJECT)
    queue.send(b"1", topic="in")
    with pytest.raises(QueueFullError), queue.sub("work").receive_message(timeout=0) as message:  # noqa: PT012
        assert message is not None
        message.send(b"one", topic="out")
        message.send(b"two", topic="out")
    assert queue.lag("work") == (1, 0, 0)
    assert queue.take("work").delivery_count == 2


def test_what_is_staged_wrongly_is_refused_at_once(queue: Queue) -> None:
    pipeline(queue)
    queue.send(b"1", topic="in")
    message = queue.take("work")
    with pytest.raises(MessageTypeError):
        message.send("text")
    with pytest.raises(ValueError, match="topic"):
        message.send(b"x", topic="a..b")
    with pytest.raises(MessageError, match="delay"):
        message.send(b"x", delay=-1)
    message.ack()
    assert queue.statistics().published == 1


def test_a_buffer_that_changes_after_staging_changes_nothing(queue: Queue) -> None:
    pipeline(queue)
    queue.send(b"1", topic="in")
    message = queue.take("work")
    buffer = bytearray(b"before")
    message.send(buffer, topic="out")
    buffer[:] = b"after!"
    message.ack()
    assert rest(queue.sub("next")) == [b"before"]


@pytest.mark.needs("turned_clock")
def test_delay_expiry_and_deduplication_of_what_is_staged(queue: Queue) -> None:
    pipeline(queue)
    queue.send(b"1", b"2", topic="in")
    for _ in range(2):
        message = queue.take("work")
        message.send(b"late", topic="out", delay=10)
        message.send(b"short", topic="out", expires_in=5)
        message.send(b"once", topic="out", deduplication_id="once")
        message.ack()
    queue.clock.go(6)
    assert rest(queue.sub("next")) == [b"once"]
    queue.clock.go(6)
    assert rest(queue.sub("next")) == [b"late", b"late"]
    assert queue.statistics().deduplicated == 1
