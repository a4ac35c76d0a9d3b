"""Coming from litequeue."""

import threading
from pathlib import Path

import pytest

from persipubsub import (
    Environment,
    HighWaterMark,
    LeaseLostError,
    QueueFullError,
    QueueManager,
    SettingsMismatchError,
    Strategy,
)
from persipubsub.serializers import json_dumps
from tests.contract.support import FakeClock, Queue, rest
from tests.examples.support import checks
from tests.process import support
from tests.process.support import Children


@pytest.fixture
def small(queue: Queue) -> Queue:
    """Return a queue as the page has it, of three messages at most."""
    queue.deploy(("worker",), max_messages=3, strategy=Strategy.REJECT)
    return queue


@checks("LiteQueue(filename, maxsize=1000)", "another maxsize for an existing file: ignored")
def test_opening(tmp_path: Path) -> None:
    for location in (tmp_path / "queue", "memory:"):
        with Environment(location) as env:
            for _ in range(2):
                control = env.new_control({"worker"}, HighWaterMark(max_messages=1), Strategy.REJECT)
            with pytest.raises(SettingsMismatchError, match="max_messages=1"):
                env.new_control({"worker"}, HighWaterMark(max_messages=2), Strategy.REJECT)
            control.configure(high_water_mark=HighWaterMark(max_messages=2))
            assert list(env.new_publisher().send_many([b"1", b"2"])) == [1, 2]


@checks("queue_name=")
def test_names(manager: QueueManager) -> None:
    for name in ("one", "two"):
        manager.create(name, subscriber_ids={"worker"}).close()
    assert manager.names() == ["one", "two"]


@checks("queue.put(data)", "queue.pop()")
def test_putting_and_popping(small: Queue) -> None:
    assert small.pub.send(b"1") == 1
    assert small.env.new_publisher(serializer=json_dumps).send("2") == 2
    worker = small.sub("worker")
    messages = [worker.get(timeout=0) for _ in range(2)]
    assert [message and message.data for message in messages] == [b"1", b'"2"']
    later = threading.Timer(0.01, small.pub.send, [b"3"])
    later.start()
    message = worker.get(timeout=support.BOUND)
    later.join()
    assert message is not None
    assert message.data == b"3"


@checks(
    "queue.done(message_id)",
    "done messages: retry brought them back, and an unknown id was no matter",
    "queue.prune(), queue.vacuum()",
)
def test_done(small: Queue) -> None:
    small.send(b"1", b"2", b"3")
    message = small.take("worker")
    message.ack()
    message.nack()
    worker = small.sub("worker")
    assert [worker.ack(number) for number in (2, 2, 99)] == [1, 0, 0]
    assert small.control.dead_letters("worker").requeue([1, 2]) == 0
    assert small.retained() == [3]
    small.take("worker").reject("no")
    assert small.control.dead_letters("worker").discard() == 1
    assert small.statistics().messages == 0
    small.take_nothing("worker")


@checks(
    "queue.mark_failed(message_id)",
    "queue.list_failed()",
    "queue.retry(message_id) of a failed message",
    "queue.retry(message_id) of a locked message",
)
def test_failing_and_retrying(small: Queue) -> None:
    small.send(b"1", b"2")
    small.take("worker").nack()
    message = small.take("worker")
    assert (message.id, message.delivery_count) == (1, 2)
    message.reject("out of paper")
    dead = small.control.dead_letters("worker")
    assert [(letter.id, letter.reason, letter.delivery_count) for letter in dead] == [(1, "out of paper", 2)]
    assert dead.requeue(1) == 1
    assert sorted(rest(small.sub("worker"))) == [b"1", b"2"]


@checks("queue.list_locked(threshold)")
def test_locked(small: Queue, clock: FakeClock) -> None:
    small.send(b"1")
    locked = small.take("worker", lease=30)
    figures = small.figures("worker")
    assert (figures.leased, [owner.leased for owner in figures.owners or ()]) == (1, [1])
    clock.go(31)
    assert small.take("worker").id == locked.id


@checks("queue.peek(), queue.get(message_id)")
def test_looking(small: Queue) -> None:
    small.send(b"1", b"2")
    peeked = small.sub("worker").peek()
    assert peeked is not None
    assert peeked.data == b"1"
    assert [message.data for message in small.env.browse(start=2, limit=1)] == [b"2"]
    assert small.figures("worker").deliveries == 0


@checks("queue.qsize(), queue.empty()", "maxsize: counts what is ready alone, so that more are stored")
def test_size(small: Queue) -> None:
    small.send(b"1", b"2", b"3")
    held = small.take("worker")
    assert small.figures("worker").lag == 3
    with pytest.raises(QueueFullError):
        small.pub.send(b"4")
    held.ack()
    assert small.figures("worker").lag == 2


@checks("queue.full()")
def test_full(small: Queue) -> None:
    small.send(b"1", b"2", b"3")
    with pytest.raises(QueueFullError):
        small.pub.send(b"4")
    small.control.set_strategy(Strategy.BLOCK)
    with pytest.raises(QueueFullError):
        small.pub.send(b"4", timeout=0.01)
    later = threading.Timer(0.01, small.sub("worker").ack, [1])
    later.start()
    assert small.pub.send(b"4", timeout=support.BOUND) == 4
    later.join()


@checks("persistent: a message locked by a process that died stayed locked until somebody asked for it")
def test_a_dead_process(tmp_path: Path, children: Children) -> None:
    with Environment(tmp_path / "queue") as env:
        env.new_control({"worker"})
        env.new_publisher().send(b"1")
        child = children.new()
        child.do(support.open_subscriber, env.path, "worker")
        assert child.do(support.get, 0)[0] == b"1"
        child.kill()
        message = env.new_subscriber("worker").get(timeout=support.BOUND)
        assert message is not None
        assert (message.data, message.delivery_count) == (b"1", 2)


@checks("done by a consumer that is late: settled what another was working on")
def test_a_late_consumer(small: Queue, clock: FakeClock) -> None:
    small.send(b"1")
    late = small.take("worker", lease=30)
    clock.go(31)
    other = small.take("worker")
    with pytest.raises(LeaseLostError):
        late.ack()
    assert small.figures("worker").leased == 1
    other.ack()


@checks("order: by the wall clock")
def test_order(small: Queue, clock: FakeClock) -> None:
    for payload in (b"1", b"2", b"3"):
        small.send(payload)
        clock.set_wall(-3600)
    assert rest(small.sub("worker")) == [b"1", b"2", b"3"]
