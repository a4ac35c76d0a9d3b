"""Coming from persipubsub 1.0."""

import json
import os
from pathlib import Path

import pytest

import persipubsub
import persipubsub.config
import persipubsub.environment
import persipubsub.queue
from persipubsub import (
    Environment,
    HighWaterMark,
    QueueFullError,
    SettingsMismatchError,
    Strategy,
    UnknownSubscriberError,
)
from tests.contract.support import FakeClock, Queue, rest
from tests.examples.support import checks
from tests.process import support
from tests.process.support import Children


@pytest.fixture
def frames(queue: Queue) -> Queue:
    """Return a queue with two subscribers."""
    queue.deploy(("viewer", "archive"))
    return queue


@checks("persipubsub.environment.initialize(path)", "env.new_control(subscriber_ids, high_water_mark, strategy)")
def test_deploying(tmp_path: Path) -> None:
    hwm = persipubsub.queue.HighWaterMark(message_timeout=500, max_messages=1000)
    for path in (tmp_path / "one", str(tmp_path / "two")):
        with persipubsub.environment.initialize(path) as env:
            env.new_control({"viewer"}, hwm, persipubsub.queue.Strategy.PRUNE_LAST)
        with Environment(path) as env:
            settings = env.open_control().settings
            assert (settings.high_water_mark, settings.strategy) == (hwm, Strategy.PRUNE_LAST)


@checks("HighWaterMark(hwm_db_size=…)", "control.set_hwm(hwm), control.set_strategy(strategy)")
def test_changing(frames: Queue) -> None:
    assert HighWaterMark(hwm_db_size=10) == HighWaterMark(max_bytes=10)
    publisher = frames.join().new_publisher()
    publisher.send(b"12345")
    frames.control.set_hwm(HighWaterMark(hwm_db_size=10))
    frames.control.set_strategy(Strategy.REJECT)
    with pytest.raises(QueueFullError):
        publisher.send(b"123456")
    frames.control.configure(high_water_mark=HighWaterMark(), strategy=Strategy.PRUNE_FIRST)
    publisher.send(b"123456")


@checks("control.prune_dangling_messages()", "control.clear_all_subscribers()")
def test_pruning(frames: Queue, clock: FakeClock) -> None:
    frames.limit(message_timeout=500)
    frames.fill(3)
    clock.go(501)
    assert frames.control.prune_dangling_messages() == 3
    frames.fill(2)
    assert frames.control.purge("viewer") == 2
    assert (frames.figures("viewer").lag, frames.figures("archive").lag) == (0, 2)
    frames.control.clear_all_subscribers()
    assert frames.control.subscriber_ids == set()
    assert frames.statistics().messages == 0
    frames.send(b"1")


@checks("pub.send(msg)", "pub.send_many(msgs), autosync=True")
def test_sending(frames: Queue) -> None:
    assert frames.pub.send(msg=b"1") == 1
    assert frames.pub.send_many(msgs=[b"2", b"3"]) == range(2, 4)
    assert frames.env.new_publisher(autosync=True).send_many(msgs=[b"4", b"5"]) == range(4, 6)
    assert rest(frames.sub("viewer")) == [b"1", b"2", b"3", b"4", b"5"]


@checks("with sub.receive(timeout=2, retries=10) as msg", "with sub.receive_to_top() as msg")
def test_receiving(frames: Queue) -> None:
    frames.send(b"1", b"2", b"3")
    viewer = frames.sub("viewer")
    with viewer.receive(timeout=2, retries=10) as msg:
        assert msg == b"1"
    with viewer.receive_to_top() as msg:
        assert msg == b"3"
    for timeout in (0, 0.05):
        with viewer.receive(timeout=timeout) as msg:
            assert msg is None
    assert frames.figures("archive").lag == 3


@checks("easy deployment from a JSON file: no code read any")
def test_json(tmp_path: Path) -> None:
    file = tmp_path / "queues.json"
    file.write_text(json.dumps({"queues": {"frames": {"subscribers": ["viewer"]}}}), encoding="utf-8")
    persipubsub.config.deploy(persipubsub.config.load(file))
    with Environment.from_config(file, "frames") as env:
        assert env.open_control().subscriber_ids == {"viewer"}


@checks("unread messages are kept: any send deleted them after 500 seconds")
def test_unread_messages(frames: Queue, clock: FakeClock) -> None:
    frames.send(b"1")
    clock.go(365 * 86400)
    frames.send(b"2", b"3")
    assert rest(frames.sub("viewer")) == [b"1", b"2", b"3"]
    frames.limit(max_messages=2)
    frames.send(b"4")
    assert frames.figures("archive").lost == frames.statistics().pruned_overflow
    assert frames.figures("archive").lost


@checks("messages in order: 24 of a batch of 2,000 changed places")
def test_order(frames: Queue) -> None:
    payloads = [b"%d" % number for number in range(2000)]
    frames.pub.send_many(payloads)
    assert rest(frames.sub("viewer")) == payloads


@checks(
    "several processes may share a queue: two with the same subscriber got the same message, and a third lost its own"
)
def test_sharing(tmp_path: Path, children: Children) -> None:
    with Environment(tmp_path / "frames") as env:
        env.new_control({"viewer", "archive"})
        env.new_publisher().send_many([b"1", b"2"])
        consumers = [children.new() for _ in range(2)]
        for consumer in consumers:
            consumer.do(support.open_subscriber, env.path, "viewer")
        assert [consumer.do(support.get, 0)[0] for consumer in consumers] == [b"1", b"2"]
        for consumer in consumers:
            consumer.do(support.ack)
        assert rest(env.new_subscriber("archive")) == [b"1", b"2"]


@checks("limits: a batch of 25 went into a queue of 10")
def test_limits(frames: Queue) -> None:
    frames.limit(max_messages=10)
    with pytest.raises(QueueFullError):
        frames.pub.send_many([b""] * 25)
    for _ in range(25):
        frames.send(b"")
        assert frames.statistics().messages <= 10


@checks("subscribers come and go: running publishers missed the new and raised for the removed")
def test_subscribers_come_and_go(frames: Queue) -> None:
    publisher = frames.pub
    publisher.send(b"1")
    frames.control.add_subscriber("new")
    frames.control.remove_subscriber("archive")
    publisher.send(b"2")
    assert rest(frames.sub("new")) == [b"2"]
    assert rest(frames.sub("viewer")) == [b"1", b"2"]


@checks("settings of new_control: ignored without a word on an existing queue")
def test_other_settings(frames: Queue) -> None:
    with pytest.raises(SettingsMismatchError, match="strategy is 'prune_first', not 'reject'"):
        frames.env.new_control(strategy=Strategy.REJECT)


@checks("receive(timeout=…): woken up to six seconds late, at whole seconds")
def test_waking(tmp_path: Path, children: Children) -> None:
    with Environment(tmp_path / "frames") as env:
        env.new_control({"viewer"})
        child = children.new()
        child.do(support.open_subscriber, env.path, "viewer")
        child.start(support.get, support.BOUND)
        support.wait_until_asleep(child, env.path)
        env.new_publisher().send(b"1")
        assert child.returned(5)[0] == b"1"


@checks("one environment per process and queue, and no fork")
def test_environments_and_fork(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    with Environment(path) as one, Environment(path) as other:
        one.new_control({"viewer"})
        publisher = other.new_publisher()
        publisher.send(b"1")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                publisher.send(b"2")
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0) == (pid, 0)
        assert rest(one.new_subscriber("viewer")) == [b"1", b"2"]


@checks("a message whose handler always fails blocks its subscriber")
def test_a_poisonous_message(frames: Queue) -> None:
    frames.send(b"1", b"2")
    viewer = frames.sub("viewer")

    def handle() -> None:
        with viewer.receive(timeout=0) as msg:
            assert msg == b"1"
            raise OSError("too dark")

    for _ in range(20):
        with pytest.raises(OSError, match="too dark"):
            handle()
    assert rest(viewer) == [b"2"]
    (letter,) = frames.control.dead_letters("viewer")
    assert letter.delivery_count == 20
    assert "too dark" in letter.reason


@checks('new_subscriber("typo") succeeded; a subscriber called data_db got empty messages')
def test_names(frames: Queue) -> None:
    with pytest.raises(UnknownSubscriberError, match="'archive', 'viewer'"):
        frames.env.new_subscriber("typo")
    frames.control.add_subscriber("data_db")
    frames.send(b"1")
    assert rest(frames.sub("data_db")) == [b"1"]
