"""Coming from Celery."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persipubsub import Backoff, Environment, Message, Worker
from persipubsub.serializers import json_dumps, json_loads
from tests.contract.support import FakeClock, Queue, rest
from tests.examples.support import checks, page_of, rows_of, run
from tests.process import support
from tests.process.support import BOUND, Children, wait_until


@pytest.fixture
def tasks(queue: Queue) -> Queue:
    """Return a queue with the subscriber "worker"."""
    queue.deploy(("worker",))
    return queue


def work(queue: Queue, handler: Callable[[Message[Any]], object], until: Callable[[], bool], **options: Any) -> None:
    """Run a worker until a condition holds."""
    worker = Worker(handler, queue.sub("worker"), **options)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        wait_until(until, "the worker has done its work")
    finally:
        worker.stop()
        thread.join(BOUND)
    assert not thread.is_alive()


@checks("add.delay(2, 3)", "tasks in pickle")
def test_sending(tasks: Queue) -> None:
    tasks.env.new_publisher(serializer=json_dumps).send({"task": "add", "args": [2, 3]})
    message = tasks.env.new_subscriber("worker", json_loads).get(timeout=0)
    assert message is not None
    assert message.data == {"task": "add", "args": [2, 3]}
    assert tasks.env.open_control().statistics().payload_bytes == len(b'{"task":"add","args":[2,3]}')


@checks(
    "add.apply_async(args, countdown=60, expires=3600)",
    "a long countdown on Redis: beyond the visibility timeout it runs several times",
)
def test_later(tasks: Queue, clock: FakeClock) -> None:
    tasks.send(b"long", delay=7 * 24 * 3600)
    tasks.send(b"expiring", delay=60, expires_in=3600)
    tasks.take_nothing("worker")
    clock.go(3601)
    assert rest(tasks.sub("worker")) == []
    clock.go(7 * 24 * 3600)
    message = tasks.take("worker")
    assert message.data == b"long"
    tasks.take_nothing("worker")
    message.ack()


@checks("autoretry_for, retry_backoff, retry_jitter", "max_retries=3", "self.request.retries")
def test_retries(tasks: Queue) -> None:
    tasks.control.configure_subscriber("worker", max_deliveries=4)
    tasks.send(b"1")
    counts: list[int] = []

    def fail(message: Message[Any]) -> None:
        counts.append(message.delivery_count)
        raise ConnectionError("no route")

    work(tasks, fail, lambda: tasks.figures("worker").dead == 1, backoff=Backoff(first=0, factor=2, longest=600))
    assert counts == [1, 2, 3, 4]
    assert [letter.reason for letter in tasks.control.dead_letters("worker")] == ["ConnectionError: no route"]


@checks("raise self.retry(countdown=10)", "raise Reject(requeue=False)")
def test_deciding_in_the_handler(tasks: Queue, clock: FakeClock) -> None:
    tasks.send(b"later", b"never")

    def decide(message: Message[Any]) -> None:
        if message.data == b"later":
            message.nack(delay=10)
        else:
            message.reject("no such customer")

    work(tasks, decide, lambda: tasks.figures("worker").dead == 1)
    tasks.take_nothing("worker")
    clock.go(10)
    assert rest(tasks.sub("worker")) == [b"later"]


@checks("celery worker --concurrency 4", "a warm shutdown by SIGTERM")
def test_workers(tasks: Queue) -> None:
    tasks.fill(4)
    together = threading.Barrier(4, timeout=BOUND)
    work(tasks, lambda message: together.wait(), lambda: tasks.lag("worker") == (0, 0, 0), concurrency=4)
    tasks.send(b"long")
    started, finish = threading.Event(), threading.Event()

    def handle(message: Message[Any]) -> None:
        started.set()
        finish.wait(BOUND)

    worker = Worker(handle, tasks.sub("worker"), grace=0)
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert started.wait(BOUND)
    worker.stop()
    thread.join(BOUND)
    finish.set()
    assert rest(tasks.sub("worker")) == [b"long"]
    assert "--processes" in run("-m", "persipubsub.cli", "work", "--help").stdout


@checks("queues and routing")
def test_routing(tasks: Queue) -> None:
    tasks.control.add_subscriber("mail", topic_filter="mail.>")
    tasks.send(b"1", topic="mail.urgent")
    tasks.send(b"2", topic="video.long")
    assert rest(tasks.sub("mail")) == [b"1"]


@checks("chain(a.s(), b.s())")
def test_chains(tasks: Queue) -> None:
    tasks.send(b"first")
    seen: list[bytes] = []

    def handle(message: Message[Any]) -> None:
        seen.append(message.data)
        if message.data == b"first":
            message.send(b"second")

    work(tasks, handle, lambda: tasks.lag("worker") == (0, 0, 0) and len(seen) == 2)
    assert seen == [b"first", b"second"]


@checks(
    "a worker that is killed: loses its task unless acks_late and task_reject_on_worker_lost are set",
    "a long task on Redis: delivered again after the visibility timeout",
)
def test_killed_and_slow_workers(tmp_path: Path, children: Children, tasks: Queue, clock: FakeClock) -> None:
    tasks.send(b"slow")
    slow = tasks.take("worker")
    clock.go(7200)
    tasks.take_nothing("worker")
    slow.ack()
    with Environment(tmp_path / "tasks") as env:
        env.new_control({"worker"})
        env.new_publisher().send(b"1")
        child = children.new()
        child.do(support.open_subscriber, env.path, "worker")
        assert child.do(support.get, 0)
        child.kill()
        message = env.new_subscriber("worker").get(timeout=support.BOUND)
        assert message is not None
        message.ack()


@checks("results, periodic tasks, chords")
def test_the_page_says_what_is_not() -> None:
    assert dict(rows_of(page_of("from_celery")))["results, periodic tasks, chords"].startswith("none: ")
