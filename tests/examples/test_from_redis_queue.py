"""Coming from redis-queue."""

from pathlib import Path

import pytest

from persipubsub import Environment, LeaseLostError, SubscriberSettings
from tests.contract.support import FakeClock, Queue, rest
from tests.examples.support import EXAMPLES, checks
from tests.process import support
from tests.process.support import Children


@pytest.fixture
def tasks(queue: Queue) -> Queue:
    """Return a queue as the page has it."""
    queue.deploy({"worker": SubscriberSettings(lease=30)})
    return queue


@checks(
    "RedisQueue(redis, poptimeout=30, tasktimeout=30, exptime=86400)",
    "a task that is late is handed out again",
    "a task in time is not handed out twice",
)
def test_lateness(tasks: Queue, clock: FakeClock) -> None:
    tasks.send(b"1")
    late = tasks.take("worker")
    clock.go(29)
    tasks.take_nothing("worker")
    clock.go(2)
    again = tasks.take("worker")
    assert (late.delivery_count, again.delivery_count, again.id) == (1, 2, late.id)


@checks("push_msg(queue, data)", "an expired task: discarded with a warning")
def test_expiry(tasks: Queue, clock: FakeClock) -> None:
    assert tasks.pub.send(b"old", expires_in=86400) == 1
    clock.go(86401)
    assert tasks.pub.send(b"new", expires_in=86400) == 2
    assert rest(tasks.sub("worker")) == [b"new"]
    assert tasks.figures("worker").expired == 1


@checks("safe_pop(queue), safe_pop_msg(queue)", "mark_done(queue, id)")
def test_safe_pop_and_mark_done(tasks: Queue, clock: FakeClock) -> None:
    tasks.send(b"1", b"2")
    worker = tasks.sub("worker")
    first, second = worker.get(timeout=30), worker.get(timeout=30)
    assert first is not None
    assert second is not None
    assert (first.id, first.data) == (1, b"1")
    first.ack()
    assert worker.ack(second.id) == 1
    assert worker.ack(99) == 0
    clock.go(31)
    assert worker.get(timeout=0) is None
    assert tasks.statistics().messages == 0


@checks("reliable pop: a crash in the middle lost the task")
def test_a_crash(tmp_path: Path, children: Children) -> None:
    with Environment(tmp_path / "tasks") as env:
        env.new_control({"worker": SubscriberSettings(lease=3600)})
        env.new_publisher().send(b"1")
        child = children.new()
        child.do(support.open_subscriber, env.path, "worker")
        assert child.do(support.get, 0)[0] == b"1"
        child.kill()
        message = env.new_subscriber("worker").get(timeout=support.BOUND)
        assert message is not None
        assert (message.data, message.delivery_count) == (b"1", 2)
        message.ack()


@checks("the next task: a task in progress made everybody sleep 30 seconds though others waited")
def test_a_task_in_progress(tasks: Queue) -> None:
    tasks.send(b"1", b"2", b"3")
    in_progress = tasks.take("worker")
    assert rest(tasks.sub("worker")) == [b"2", b"3"]
    in_progress.ack()


@checks("many done tasks in a row: RecursionError")
def test_many_done_tasks(tasks: Queue) -> None:
    ids = tasks.pub.send_many([b""] * 5000)
    tasks.send(b"the last")
    worker = tasks.sub("worker")
    assert worker.ack(ids) == 5000
    message = worker.get(timeout=0)
    assert message is not None
    assert message.data == b"the last"


@checks("a worker that is late after all: both finish the task")
def test_a_late_worker(tasks: Queue, clock: FakeClock) -> None:
    tasks.send(b"1", b"2")
    late, careful = tasks.take("worker"), tasks.take("worker")
    careful.extend(60)
    clock.go(31)
    other = tasks.take("worker")
    assert other.id == late.id
    with pytest.raises(LeaseLostError):
        late.ack()
    assert tasks.figures("worker").settled == 0
    other.ack()
    careful.ack()
    assert tasks.figures("worker").settled == 2


@checks("any data: an id with | broke the queue, and an empty task passed as expired")
def test_any_data(tasks: Queue) -> None:
    payloads = [b"", b"a|b", b"\xff\0"]
    tasks.send(*payloads)
    assert rest(tasks.sub("worker")) == payloads


@checks("lateness: by the wall clocks of the clients")
def test_the_wall_clock(tasks: Queue, clock: FakeClock) -> None:
    tasks.send(b"1")
    message = tasks.take("worker")
    clock.set_wall(86400)
    tasks.take_nothing("worker")
    clock.set_wall(-2 * 86400)
    tasks.take_nothing("worker")
    message.ack()


@checks("workers in Clojure", "an id that comes again: dropped, if it had ever been done")
def test_ids_are_never_used_again(tasks: Queue) -> None:
    (first,) = tasks.send(b"1")
    assert tasks.sub("worker").ack(first) == 1
    assert tasks.retained() == []
    (second,) = tasks.send(b"1")
    assert second == first + 1
    assert tasks.take("worker").id == second
    assert (EXAMPLES / "reader_in_c" / "reader.c").exists()
