"""Coming from persipubsub 1.0."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import persipubsub
import persipubsub.config
import persipubsub.environment
import persipubsub.queue
from persipubsub import (
    Durability,
    Environment,
    HighWaterMark,
    QueueFullError,
    Retention,
    SettingsMismatchError,
    Strategy,
    UnknownSubscriberError,
)
from tests.contract.support import FakeClock, Queue, rest
from tests.examples.support import checks
from tests.process import support
from tests.process.support import Children
from tests.unit.test_costs import calls


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
        assert child.returned()[0] == b"1"


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


@checks(
    "control.is_initialized()",
    "private: _add_sub, _remove_sub, _prune_all_messages_for",
    "private: front, pop, count_msgs",
    "clear_all_subscribers(): the next send raised",
    "sent while nobody subscribes: deleted by the next send",
)
def test_what_was_private_and_what_nobody_gets(frames: Queue) -> None:
    control = frames.control
    assert control.is_initialized()
    control.add_subscriber("new")
    assert control.remove_subscriber("new")
    frames.send(b"1", b"2")
    assert control.purge("archive") == 2
    viewer = frames.sub("viewer")
    for look in (viewer.peek, viewer.pop):
        message = look()
        assert message is not None
        assert message.data == b"1"
    assert frames.statistics().messages == 1
    control.clear_all_subscribers()
    frames.send(b"3")
    assert (frames.statistics().unrouted, frames.statistics().messages) == (1, 0)
    control.configure(retention=Retention.LOG)
    frames.send(b"4")
    assert frames.statistics().messages == 1


@checks("ages by local time: at the end of summer time everything was an hour older, and pruned")
def test_summer_time(frames: Queue, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Zurich")
    time.tzset()
    try:
        frames.limit(message_timeout=600)
        clock.wall = 1_761_440_390 * 10**9  # ten seconds before 3 o'clock becomes 2 o'clock
        frames.send(b"before")
        clock.go(20)
        frames.send(b"after")
        assert rest(frames.sub("viewer")) == [b"before", b"after"]
        clock.set_wall(-3600)
        frames.send(b"turned back")
        messages = frames.sub("archive").get_many(3, timeout=0)
        assert [message.sent for message in messages] == sorted(message.sent for message in messages)
    finally:
        monkeypatch.undo()
        time.tzset()


@checks(
    "a message pruned while it was handled: TypeError at the end of the block",
    "the mark: two publishers that met it both pruned, down to a quarter",
    "max_messages=2: the prune emptied the queue",
)
def test_pruning_exactly(frames: Queue) -> None:
    frames.limit(max_messages=100)
    frames.fill(100)
    with frames.sub("viewer").receive(timeout=0) as msg:
        assert msg == b"x"
        for _ in range(2):
            frames.join().new_publisher().send(b"y")
        assert frames.statistics().messages == 52
    assert frames.figures("viewer").lost == 50
    frames.limit(max_messages=2)
    frames.fill(3)
    assert frames.statistics().messages == 2


@checks("a full map: lmdb.MapFullError", "the file: never shrinks")
def test_the_file_grows_and_shrinks(tmp_path: Path) -> None:
    with Environment(tmp_path / "frames") as env:
        control = env.new_control({"viewer"}, map_size=1 << 20)
        env.new_publisher().send_many([b"x" * 100_000] * 40)
        control.purge("viewer")
        done = control.compact()
        assert done.after < done.before


@checks("the cost of a send: grew with each message that waited")
def test_the_cost_of_a_send(tmp_path: Path) -> None:
    with Environment(tmp_path / "frames") as env:
        env.new_control({"viewer"}, durability=Durability.PROCESS)
        publisher = env.new_publisher()
        few = calls(lambda: publisher.send(b"x"))
        publisher.send_many([b"x"] * 5000)
        assert calls(lambda: publisher.send(b"x")) < few * 2


@checks("a deployment that was killed: half a queue for ever")
def test_a_deployment_that_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*arguments: object) -> None:
        raise KeyboardInterrupt

    with Environment(tmp_path / "frames") as env:
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", cut_off)
            with pytest.raises(KeyboardInterrupt):
                env.new_control({"viewer", "archive"})
        assert not (tmp_path / "frames").exists()
        assert env.new_control({"viewer", "archive"}).subscriber_ids == {"viewer", "archive"}


@checks("errors: AssertionError, TypeError and lmdb.Error, and none under python -O")
def test_errors_without_assertions() -> None:
    code = (
        "import persipubsub\n"
        "with persipubsub.Environment('memory:') as env:\n"
        "    env.new_control({'viewer'})\n"
        "    for wrong in (lambda: env.new_publisher().send('text'), lambda: env.new_subscriber('typo')):\n"
        "        try:\n"
        "            wrong()\n"
        "        except persipubsub.PersipubsubError as error:\n"
        "            print(type(error).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["MessageTypeError", "UnknownSubscriberError"]
