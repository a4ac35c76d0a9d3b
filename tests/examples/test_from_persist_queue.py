"""Coming from persist-queue."""

from pathlib import Path

import pytest

from persipubsub import Environment, MessageTypeError, Retention
from persipubsub.serializers import json_dumps, json_loads
from tests.contract.support import FakeClock, Queue, rest
from tests.examples.support import checks
from tests.process import support
from tests.process.support import Children


@pytest.fixture
def tasks(queue: Queue) -> Queue:
    """Return a queue with the subscriber "worker"."""
    queue.deploy(("worker",))
    return queue


@checks("SQLiteAckQueue(path)", "queue.put(item)", "queue.get(block=False), Empty")
def test_putting_and_getting(tasks: Queue) -> None:
    assert tasks.env.new_publisher(serializer=json_dumps).send({"task": 1}) == 1
    worker = tasks.env.new_subscriber("worker", json_loads)
    message = worker.get(timeout=0)
    assert message is not None
    assert message.data == {"task": 1}
    assert worker.get(timeout=0) is None


@checks(
    "queue.get(timeout=5), queue.get()",
    "get() blocks until a put: one by another process was seen up to ten seconds later",
)
def test_blocking(tmp_path: Path, children: Children) -> None:
    with Environment(tmp_path / "tasks") as env:
        env.new_control({"worker"})
        for timeout in (support.BOUND, None):
            child = children.new()
            child.do(support.open_subscriber, env.path, "worker")
            child.start(support.get_and_ack, timeout)
            support.wait_until_asleep(child, env.path)
            env.new_publisher().send(b"1")
            assert child.returned()[0] == b"1"


@checks(
    "queue.ack(item), queue.ack(id=…)",
    "ack(item): found by identity; an equal copy was not acknowledged",
    "ack and nack by id: an unknown id passed as acknowledged, a task that was done came again",
)
def test_acknowledging(tasks: Queue) -> None:
    tasks.send(b"same", b"same", b"same")
    first, second = tasks.take("worker"), tasks.take("worker")
    second.ack()
    second.nack()  # it is settled, and stays so
    assert [tasks.sub("worker").ack(number) for number in (first.id, first.id, 99)] == [1, 0, 0]
    assert tasks.lag("worker") == (1, 0, 0)
    assert tasks.take("worker").id == 3


@checks("queue.nack(item)")
def test_giving_back(tasks: Queue, clock: FakeClock) -> None:
    tasks.send(b"1", b"2")
    tasks.take("worker").nack()
    again = tasks.take("worker")
    assert (again.data, again.delivery_count) == (b"1", 2)
    again.nack(delay=5)
    assert rest(tasks.sub("worker")) == [b"2"]
    clock.go(5)
    assert rest(tasks.sub("worker")) == [b"1"]


@checks("queue.ack_failed(item)", "clear_acked_data(clear_ack_failed=True)")
def test_failing(tasks: Queue) -> None:
    tasks.send(b"1", b"2")
    for reason in ("no such file", "no such disk"):
        tasks.take("worker").reject(reason)
    dead = tasks.control.dead_letters("worker")
    assert [(letter.data, letter.reason) for letter in dead] == [(b"1", "no such file"), (b"2", "no such disk")]
    assert dead.requeue(1) == 1
    assert dead.discard() == 1
    assert rest(tasks.sub("worker")) == [b"1"]


@checks(
    "queue.resume_unack_tasks(), auto_resume=True",
    "unacked tasks are resumed: opening the file in a second process handed out what the first was working on",
)
def test_resuming(tmp_path: Path, children: Children) -> None:
    with Environment(tmp_path / "tasks") as env:
        env.new_control({"worker"})
        env.new_publisher().send(b"1")
        child = children.new()
        child.do(support.open_subscriber, env.path, "worker")
        assert child.do(support.get, 0)[0] == b"1"
        assert env.new_subscriber("worker").get(timeout=0) is None
        child.kill()
        message = env.new_subscriber("worker").get(timeout=support.BOUND)
        assert message is not None
        message.ack()


@checks("queue.clear_acked_data(keep_latest=1000)")
def test_clearing(tasks: Queue) -> None:
    tasks.send(b"1", b"2")
    rest(tasks.sub("worker"))
    assert tasks.statistics().messages == 0
    tasks.control.configure(retention=Retention.LOG)
    tasks.limit(max_messages=1000)
    for _ in range(3):
        tasks.pub.send_many([b""] * 500)
        rest(tasks.sub("worker"))
    assert 500 <= tasks.statistics().messages <= 1000


@checks("qsize(), unack_count(), acked_count(), ack_failed_count()", "qsize(): of what this object has seen")
def test_figures(tasks: Queue) -> None:
    tasks.join().new_publisher().send_many([b"1", b"2", b"3", b"4"])
    tasks.take("worker").ack()
    tasks.take("worker").reject("no")
    held = tasks.take("worker")
    figures = tasks.figures("worker")
    assert (figures.waiting, figures.leased, figures.settled, figures.dead) == (1, 1, 1, 1)
    held.ack()


@checks("queue.queue()")
def test_browsing(tasks: Queue) -> None:
    tasks.send(b"1", b"2")
    assert [message.data for message in tasks.env.browse()] == [b"1", b"2"]
    assert tasks.figures("worker").deliveries == 0


@checks("UniqueAckQ")
def test_unique(tasks: Queue, clock: FakeClock) -> None:
    tasks.control.configure(deduplication_window=60)
    assert [tasks.pub.send(b"1", deduplication_id=b"1") for _ in range(2)] == [1, 1]
    clock.go(61)
    assert tasks.pub.send(b"1", deduplication_id=b"1") == 2
    assert rest(tasks.sub("worker")) == [b"1", b"1"]


@checks("pickle by default")
def test_no_pickle(tasks: Queue) -> None:
    with pytest.raises(MessageTypeError):
        tasks.pub.send({"task": 1})
    tasks.send(b"cos\nsystem\n(S'false'\ntR.")
    assert tasks.take("worker").data.startswith(b"cos")
